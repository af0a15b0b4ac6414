//! Attacks on the pages of customers.

use super::*;

/// All pages of self-service that are about a key.
fn about_a_key() -> Vec<(String, &'static str)> {
    let all = crate::self_service::paths();
    let of_a_key = all.into_iter().filter(|(_, path)| path.contains("{id}"));
    of_a_key.collect()
}

/// What would be taken, for every form that there is.
const FORM: [(&str, &str); 6] = [
    ("seen", "0"),
    ("number", "0123456789abcdef"),
    ("grace", "0"),
    ("reason", "cessation"),
    ("name", "taken"),
    ("life", "2592000"),
];

fn ask(pages: &Router, method: &str, path: &str) -> Seen {
    match method {
        "POST" => post(pages, path, &FORM),
        _ => get(pages, path),
    }
}

#[test]
fn no_route_shows_or_changes_anothers_key() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let theirs = house.key("umbrella", &["read"]);
    // A path that begins with the same letters is not below.
    let near = house.key("acme-two", &["read"]);
    let other = NewKey::new("secret_ks", "acme").unwrap();
    let other = house.engine.issue(other).unwrap();
    let before = house.changes();
    let routes = about_a_key();
    assert!(routes.len() >= 11, "{routes:?}");
    for (method, path) in routes {
        let at = |id: &str| format!("/settings/keys{}", path.replace("{id}", id));
        let missing = ask(&pages, &method, &at("0000000000"));
        for foreign in [&theirs, &near, &other] {
            let seen = ask(&pages, &method, &at(&foreign.key.id.to_string()));
            assert_eq!(seen.status, 404, "{method} {path}");
            assert_eq!(seen.body, missing.body, "{method} {path} tells them apart");
        }
        assert_eq!(house.changes(), before, "{method} {path} changed something");
    }
    let new = post(
        &pages,
        "/settings/keys/new",
        &[("keyspace", "secret_ks"), ("number", "1")],
    );
    assert_eq!(new.status, 404);
    assert_eq!(get(&pages, "/settings/keys?keyspace=secret_ks").status, 404);
    let list = get(&pages, "/settings/keys?show=all");
    assert!(!list.body.contains(&theirs.key.id.to_string()));
}

/// The rule of docs/SELF_SERVICE.md: a reader must not get its admin sibling's token.
#[test]
fn a_key_with_more_permissions_than_the_ceiling_is_out_of_reach() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let admin = house.key("acme", &["read", "admin"]);
    let before = house.changes();
    for (method, path) in about_a_key() {
        let path = path.replace("{id}", &admin.key.id.to_string());
        let seen = ask(&pages, &method, &format!("/settings/keys{path}"));
        assert_eq!(seen.status, 404, "{method} {path}");
    }
    assert_eq!(house.changes(), before);
    assert!(
        !get(&pages, "/settings/keys")
            .body
            .contains(&admin.key.id.to_string())
    );
}

#[test]
fn a_form_that_was_tampered_with_gets_nothing_over_the_ceiling() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let levels = house.pages("acme", House::ceiling().levels(["Project"]));
    let before = house.changes();
    let attempts: &[(&str, &str, &str)] = &[
        ("permission", "permission", "admin"),
        ("life", "life", "9999999999"),
        ("life", "life", "never"),
        ("life", "life", "-1"),
        ("life", "life", ""),
        ("plan", "plan", "enterprise"),
        ("plan", "plan", ""),
        ("plan", "purpose", "Root"),
        ("keyspace", "keyspace", "secret_ks"),
    ];
    for (instead_of, name, value) in attempts {
        let number = get(&pages, "/settings/keys/new?keyspace=acme_live").hidden("number");
        let mut wish = House::wish(&number);
        wish.retain(|(of, _)| of != instead_of);
        wish.push((name, value));
        let seen = post(&pages, "/settings/keys/new", &wish);
        assert!(
            matches!(seen.status.as_u16(), 400 | 404),
            "{name}={value}: {}",
            seen.status
        );
        assert!(!seen.shows_a_token());
    }
    // A field twice, of which one part could read the first and another the last.
    let mut wish = House::wish("0123456789abcdef");
    wish.push(("plan", "enterprise"));
    assert_eq!(post(&pages, "/settings/keys/new", &wish).status, 400);
    for level in ["a/b", "..", "", "a b", "../umbrella"] {
        let mut wish = House::wish("0123456789abcdef");
        wish.push(("level0", level));
        let seen = post(&levels, "/settings/keys/new", &wish);
        assert_eq!(seen.status, 400, "{level:?}");
    }
    // A label that the host keeps for itself is passed over.
    let mut wish = House::wish("0123456789abcdef");
    wish.extend([("label.billing", "free of charge"), ("level0", "x")]);
    assert_eq!(house.changes(), before);
    let token = post(&pages, "/settings/keys/new", &wish).token();
    let key = house.engine.find_by_token(&token).unwrap().unwrap();
    assert!(key.labels.is_empty());
    assert_eq!(key.owner.as_str(), "acme");
    // A rotation: a grace that was not offered, a lifetime that was not.
    let at = format!("/settings/keys/keys/{}/rotate", key.id);
    let form = get(&pages, &at);
    let (seen, number) = (form.hidden("seen"), form.hidden("number"));
    let before = house.changes();
    for (grace, life) in [
        ("86401", "2592000"),
        ("0", "2592001"),
        ("0", "never"),
        ("-1", ""),
    ] {
        let pairs = [
            ("seen", &*seen),
            ("number", &*number),
            ("grace", grace),
            ("life", life),
        ];
        assert_eq!(post(&pages, &at, &pairs).status, 400, "{grace} {life}");
    }
    assert_eq!(house.changes(), before);
}

/// A rotation does not make a key last: not one that never expires, nor a long one.
#[test]
fn a_rotation_lasts_no_longer_than_the_ceiling_allows() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let key = house.key("acme", &["read"]).key;
    assert_eq!(key.expires_at, None);
    let at = format!("/settings/keys/keys/{}/rotate", key.id);
    let form = get(&pages, &at);
    let (seen, number) = (form.hidden("seen"), form.hidden("number"));
    let pairs = [
        ("seen", &*seen),
        ("number", &*number),
        ("grace", "0"),
        ("life", "same"),
    ];
    let token = post(&pages, &at, &pairs).token();
    let new = house.engine.find_by_token(&token).unwrap().unwrap();
    let longest = house.engine.now().saturating_add(90 * DAY);
    assert!(new.expires_at.is_some_and(|at| at <= longest));
}

#[test]
fn the_most_keys_hold_against_many_forms_at_once() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling().keys_max(3));
    std::thread::scope(|scope| {
        for index in 0..8 {
            let pages = &pages;
            scope.spawn(move || {
                post(
                    pages,
                    "/settings/keys/new",
                    &House::wish(&format!("number-{index}")),
                )
            });
        }
    });
    let keys = house.engine.keys(gatekey::KeyFilter::new());
    assert_eq!(keys.count(), 3);
    let full = post(&pages, "/settings/keys/new", &House::wish("number-9"));
    assert_eq!(full.status, 409);
    assert!(full.body.contains("as many keys as you may have (3)"));
}

#[test]
fn a_form_from_elsewhere_changes_nothing() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let key = house.key("acme", &["read"]).key;
    let before = house.changes();
    let foreign: &[&[(&str, &str)]] = &[
        &[],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
    ];
    for (method, path) in crate::self_service::paths() {
        if method != "POST" {
            continue;
        }
        for headers in foreign {
            let path = format!(
                "/settings/keys{}",
                path.replace("{id}", &key.id.to_string())
            );
            let mut request = Request::post(&path)
                .header("host", "keys.example.com")
                .header("content-type", "application/x-www-form-urlencoded");
            for (name, value) in *headers {
                request = request.header(*name, *value);
            }
            let mut pairs = House::wish("0123456789abcdef");
            pairs.extend(FORM);
            let seen = send(&pages, request.body(Body::from(encoded(&pairs))).unwrap());
            assert_eq!(seen.status, 403, "{path} {headers:?}");
        }
    }
    assert_eq!(house.changes(), before);
    // No other form of a body than that of forms, and no change by GET.
    let request = Request::post("/settings/keys/new")
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "text/plain")
        .body(Body::from("keyspace=acme_live"));
    assert_eq!(send(&pages, request.unwrap()).status, 415);
    let revoke = format!("/settings/keys/keys/{}/revoke?reason=cessation", key.id);
    assert_eq!(get(&pages, &revoke).status, 200);
    assert_eq!(house.changes(), before);
}

#[test]
fn every_answer_has_its_headers() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let key = house.key("acme", &["read"]).key;
    let mut seen = vec![
        get(&pages, "/settings/keys/nothing"),
        get(&pages, "/settings/keys/assets/console-0000000000000000.css"),
        send(
            &pages,
            Request::put("/settings/keys/new")
                .body(Body::empty())
                .unwrap(),
        ),
    ];
    for (method, path) in crate::self_service::paths() {
        let path = path.replace("{id}", &key.id.to_string());
        let path = path.trim_end_matches('/');
        seen.push(ask(&pages, &method, &format!("/settings/keys{path}")));
    }
    for seen in &seen {
        let header = |name: &str| {
            seen.headers
                .get(name)
                .unwrap_or_else(|| panic!("{name}: {seen:?}"))
        };
        assert_eq!(header("cache-control"), "no-store");
        let policy = header("content-security-policy").to_str().unwrap();
        assert!(policy.starts_with("default-src 'none';"));
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"));
        assert!(!policy.contains("unsafe") && !policy.contains('*'));
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "same-origin");
        // Nothing that the policy would refuse.
        for inline in [
            " style=",
            "<style",
            "onclick",
            "onload",
            "javascript:",
            "<script>",
        ] {
            assert!(!seen.body.contains(inline), "{inline}");
        }
    }
}

#[test]
fn what_people_write_stays_text() {
    let house = House::new();
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{191*211}}";
    let owner = "<img/src=x-onerror=alert(1)>";
    let pages = house.pages("<img", House::ceiling().title(evil));
    let new = NewKey::new("acme_live", owner)
        .unwrap()
        .name(evil)
        .description(evil)
        .label("team", evil)
        .permissions(["read"]);
    let key = house.engine.issue(new).unwrap().key;
    for path in ["", "/new?keyspace=acme_live"] {
        let seen = get(&pages, &format!("/settings/keys{path}"));
        assert_eq!(seen.status, 200);
        assert!(
            !seen.body.contains("<img") && !seen.body.contains("<script>"),
            "{}",
            seen.body
        );
    }
    for page in ["", "/edit", "/rotate", "/revoke"] {
        let seen = get(&pages, &format!("/settings/keys/keys/{}{page}", key.id));
        assert_eq!(seen.status, 200);
        assert!(
            !seen.body.contains("<img") && !seen.body.contains("<script>"),
            "{}",
            seen.body
        );
        assert!(!seen.body.contains("40301"), "a template was run");
    }
    // What a query or a form says is text, too.
    let seen = get(
        &pages,
        "/settings/keys?done=%3Cscript%3E&keyspace=acme_live",
    );
    assert!(!seen.body.contains("<script>"));
    let mut wish = House::wish("0123456789abcdef");
    wish[2].1 = "\u{202e}<script>";
    wish.push(("description", "</textarea><script>alert(1)</script>"));
    let seen = post(&pages, "/settings/keys/new", &wish);
    assert_eq!(seen.status, 400);
    assert!(!seen.body.contains("<script>"));
}

#[test]
fn nothing_that_a_caller_sends_becomes_a_header() {
    let house = House::new();
    let key = house.key("acme", &["read"]).key;
    let member = Member::new("acme".parse().unwrap(), "alice").may(House::ceiling());
    let router = SelfService::new(house.engine.clone())
        .router()
        .layer(Extension(member));
    // Under a path with a part that the caller chooses.
    let pages = Router::new().nest("/t/{tenant}/keys", router.clone());
    for tenant in ["a%0d%0aset-cookie:x=1", "%2f%2fevil.example", "a%22b"] {
        let at = format!("/t/{tenant}/keys/keys/{}", key.id);
        let seen = post(&pages, &format!("{at}/revoke"), &[("reason", "cessation")]);
        assert_eq!(seen.status, 303);
        assert!(seen.location().starts_with("/t/"), "{}", seen.location());
        assert!(!seen.location().starts_with("//"));
        assert!(!seen.headers.contains_key("set-cookie"));
    }
    // At the root, a path that looks like another host.
    let seen = get(&router, "//evil.example/");
    assert!(!seen.body.contains("href=\"//evil"), "{}", seen.body);
}

#[test]
fn whoever_is_not_named_sees_nothing() {
    let house = House::new();
    let key = house.key("acme", &["read"]).key;
    let pages = SelfService::new(house.engine.clone()).router();
    let before = house.changes();
    for (method, path) in crate::self_service::paths() {
        let seen = ask(&pages, &method, &path.replace("{id}", &key.id.to_string()));
        assert_eq!(seen.status, 401, "{method} {path}");
        assert!(!seen.body.contains(&key.id.to_string()));
    }
    assert_eq!(house.changes(), before);
}

/// A body of every size and form: a page answers, and nothing breaks.
#[test]
fn giant_and_strange_forms_are_refused() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let giant = "a=".to_owned() + &"x".repeat(65 << 10);
    for (body, status) in [
        (giant.as_str(), 413),
        ("%ff%fe=%00", 400),
        ("keyspace", 400),
        ("=&=&&&", 400),
        ("number=1&keyspace=acme_live&keyspace=acme_live", 400),
    ] {
        let request = Request::post("/settings/keys/new")
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body.to_owned()));
        let seen = send(&pages, request.unwrap());
        assert_eq!(
            seen.status.as_u16(),
            status,
            "{}",
            body.get(..30).unwrap_or(body)
        );
    }
}
