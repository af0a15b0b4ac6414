//! Every route of the pages, asked for by whom it is for and by whom it is not.

use gatekey_admin::Operator;

use super::operators::{Desk, borrowed, concrete, form};
use super::*;
use crate::Console;

/// A customer is no operator, and an operator no customer.
#[test]
fn a_member_is_no_operator_and_an_operator_no_member() {
    let house = House::new();
    let key = house.key("acme", &["read"]);
    let form = form(&key);
    let before = house.changes();
    let member = Member::new("acme".parse().unwrap(), "alice").may(House::ceiling());
    let console = Console::new(house.engine.clone())
        .router()
        .layer(Extension(member));
    for (method, path) in crate::operator::paths() {
        let at = concrete(path, &key);
        let seen = match method.as_str() {
            "POST" => post(&console, &at, &borrowed(&form)),
            _ => get(&console, &at),
        };
        assert_eq!(seen.status, 401, "{method} {path}");
    }
    let operator = Operator::with_all_rights("root");
    let pages = SelfService::new(house.engine.clone())
        .router()
        .layer(Extension(operator));
    for (method, path) in crate::self_service::paths() {
        let at = concrete(path, &key);
        let seen = match method.as_str() {
            "POST" => post(&pages, &at, &borrowed(&form)),
            _ => get(&pages, &at),
        };
        assert_eq!(seen.status, 401, "{method} {path}");
    }
    assert_eq!(house.changes(), before);
}

#[test]
fn who_may_only_read_changes_nothing_on_any_page() {
    let desk = Desk::new();
    let key = desk.house.key("acme", &["read"]);
    let form = form(&key);
    let admin = desk.admin_key(&["read"]);
    let cookie = desk.log_in(&admin);
    let before = desk.changes();
    for (method, path) in crate::operator::paths() {
        if matches!(path, "/login" | "/logout" | "/find") || method != "POST" {
            continue;
        }
        let seen = desk.post(&cookie, &concrete(path, &key), &borrowed(&form));
        assert_eq!(seen.status, 403, "{path}: {}", seen.body);
    }
    assert_eq!(desk.changes(), before);
    // Nor is offered to.
    let page = desk.get(&cookie, &format!("/keys/{}", key.key.id));
    assert_eq!(page.status, 200);
    for word in ["Rotate", "Revoke<", "Disable"] {
        assert!(!page.body.contains(word), "{word}");
    }
    // Who may not even read gets no page.
    let nothing = desk.admin_key(&["issue"]);
    let cookie = desk.log_in(&nothing);
    assert_eq!(desk.get(&cookie, "/keys").status, 403);
}

#[test]
fn a_form_from_elsewhere_changes_nothing_in_the_console() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let key = desk.house.key("acme", &["read"]);
    let form = form(&key);
    let before = desk.changes();
    for (method, path) in crate::operator::paths() {
        if method != "POST" {
            continue;
        }
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://evil.example"),
            ("x-none", ""),
        ] {
            let request = Request::post(format!("/console{}", concrete(path, &key)))
                .header("cookie", &cookie)
                .header("host", "keys.example.com")
                .header(name, value)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Body::from(encoded(&borrowed(&form))));
            let seen = send(&desk.pages, request.unwrap());
            assert_eq!(seen.status, 403, "{path} {name}");
            assert!(!seen.headers.contains_key("set-cookie"));
        }
    }
    assert_eq!(desk.changes(), before);
}

#[test]
fn every_page_of_the_console_has_its_headers_and_shows_text_as_text() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let evil = "<script>alert(1)</script>\"'><img src=x>";
    let owner = "<img/src=x>";
    let new = NewKey::new("acme_live", owner).unwrap();
    let new = new.name(evil).description(evil).label("team", evil);
    let by = desk.house.engine.acting_as("<b>").unwrap();
    let key = by.issue(new).unwrap();
    by.suspend("<img", "<script>alert(2)</script>").unwrap();
    let form = form(&key);
    for (method, path) in crate::operator::paths() {
        if path == "/logout" || path == "/store/backup" {
            continue;
        }
        let at = concrete(path, &key);
        let seen = match method.as_str() {
            "POST" => desk.post(&cookie, &at, &borrowed(&form)),
            _ => {
                let query = encoded(&[("owner", owner), ("keyspace", "acme_live")]);
                desk.get(&cookie, &format!("{}?{query}", at.trim_end_matches('/')))
            }
        };
        assert_ne!(seen.status, 500, "{method} {path}");
        assert_eq!(seen.headers["cache-control"], "no-store", "{path}");
        assert!(
            seen.headers.contains_key("content-security-policy"),
            "{path}"
        );
        if seen
            .headers
            .get("content-type")
            .is_some_and(|kind| kind == "text/html; charset=utf-8")
        {
            assert!(
                !seen.body.contains("<img") && !seen.body.contains("<script>"),
                "{path}"
            );
        }
    }
}

/// Every route, asked for by the member whose key it is, by another member, by an operator
/// and by nobody.
#[test]
fn every_route_is_for_whom_it_is_for_alone() {
    use axum::middleware::{Next, from_fn};
    let desk = Desk::new();
    let key = desk.house.key("acme", &["read"]);
    let (_, cookie) = desk.all();
    // The host's log-in: who has a header is that customer.
    let named = from_fn(|mut request: Request<Body>, next: Next| async move {
        let owner = request.headers().get("x-customer").cloned();
        if let Some(owner) = owner {
            let owner = owner.to_str().unwrap();
            let member = Member::new(owner.parse().unwrap(), owner).may(House::ceiling());
            request.extensions_mut().insert(member);
        }
        next.run(request).await
    });
    let pages = SelfService::new(desk.house.engine.clone())
        .short_lived(|_| Ok(crate::ShortLived::new("jwt", gatekey::Timestamp::MAX)));
    let app = Router::new()
        .nest("/settings/keys", pages.router())
        .layer(named)
        .nest("/console", desk.console.router());
    let pairs = form(&key);
    let ask = |who: (&'static str, &str), method: &str, path: &str| {
        let query = "owner=acme&keyspace=acme_live&depth=1";
        let path = path.trim_end_matches('/');
        let request = match method {
            "POST" => Request::post(path)
                .header("sec-fetch-site", "same-origin")
                .header("content-type", "application/x-www-form-urlencoded"),
            _ => Request::get(format!("{path}?{query}")),
        };
        let body = match method {
            "POST" => {
                let mut pairs = borrowed(&pairs);
                // What either form calls the lifetime that is there.
                if path.starts_with("/settings") {
                    pairs.retain(|(name, _)| *name != "life");
                }
                Body::from(encoded(&pairs))
            }
            _ => Body::empty(),
        };
        send(&app, request.header(who.0, who.1).body(body).unwrap())
    };
    let (acme, umbrella) = (("x-customer", "acme"), ("x-customer", "umbrella"));
    let operator = ("cookie", cookie.as_str());
    let nobody = ("x-nobody", "");
    let before = desk.changes();
    let customers = crate::self_service::paths();
    let operators = crate::operator::paths();
    assert!(
        customers.len() >= 15 && operators.len() >= 51,
        "routes are missing"
    );
    // Those whom a route is not for, first: nothing changes, and nothing is told.
    for (method, path) in &customers {
        let at = format!("/settings/keys{}", concrete(path, &key));
        for who in [operator, nobody] {
            assert_eq!(ask(who, method, &at).status, 401, "{method} {path}");
        }
        if path.contains("{id}") {
            let seen = ask(umbrella, method, &at);
            let missing = at.replace(&key.key.id.to_string(), "0000000000");
            assert_eq!(seen.status, 404, "{method} {path}");
            assert_eq!(
                seen.body,
                ask(umbrella, method, &missing).body,
                "{method} {path}"
            );
        }
    }
    for (method, path) in &operators {
        let at = format!("/console{}", concrete(path, &key));
        if *path == "/login" {
            continue;
        }
        for who in [acme, umbrella, nobody] {
            let seen = ask(who, method, &at);
            assert_eq!(seen.status, 303, "{method} {path}");
            assert!(seen.location().starts_with("/console/login"));
            assert!(seen.body.is_empty());
        }
    }
    assert_eq!(desk.changes(), before);
    // Then those whom it is for. A form that does not fit is told so, and no more.
    let is_for = |seen: &Seen, place: &str| {
        let status = seen.status.as_u16();
        assert!(
            matches!(status, 200 | 303 | 400 | 409),
            "{place}: {status}: {}",
            seen.body
        );
    };
    for (method, path) in customers {
        // Those are about a rotation, of which there is none.
        if path.ends_with("/steps") || path.ends_with("/used") {
            continue;
        }
        let at = format!("/settings/keys{}", concrete(path, &key));
        is_for(&ask(acme, &method, &at), &format!("{method} {path}"));
    }
    for (method, path) in operators {
        // The log-in asks for a key, and the last of all ends the session.
        if matches!(path, "/login" | "/logout") {
            continue;
        }
        let at = format!("/console{}", concrete(path, &key));
        is_for(&ask(operator, &method, &at), &format!("{method} {path}"));
    }
}
