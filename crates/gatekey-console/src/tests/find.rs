//! How operators find keys: by anything, and by filters over many keys.

use super::operators::Desk;
use super::*;

#[test]
fn a_key_is_found_by_its_id_owner_label_and_token() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let new = NewKey::new("acme_live", "acme/etl").unwrap();
    let issued = desk.house.engine.issue(new.label("team", "core")).unwrap();
    let at = format!("/console/keys/{}", issued.key.id);
    let find = |asked: &str| desk.post(&cookie, "/find", &[("q", asked)]);
    for (asked, wanted) in [
        (issued.key.id.to_string(), at.clone()),
        (issued.token.expose().to_owned(), at + "?done=by_token"),
        ("acme".to_owned(), "/console/keys?owner=acme".to_owned()),
        ("team".to_owned(), "/console/keys?label=team".to_owned()),
        (
            "team=core".to_owned(),
            "/console/keys?label=team%3Dcore".to_owned(),
        ),
    ] {
        assert_eq!(find(&asked).location(), wanted);
    }
    let list = desk.get(&cookie, "/keys?label=team%3Dcore").body;
    assert!(list.contains(&issued.key.id.to_string()), "{list}");
    for asked in ["umbrella", "team=other", "", "acme_live_0000", "0000000000"] {
        let seen = find(asked);
        assert!(matches!(seen.status.as_u16(), 400 | 404), "{asked}");
    }
}

/// A page of a filter that few keys match looks at some of them, says so, and leads on to
/// the rest: none is left out, and none stands twice.
#[test]
fn a_page_that_has_not_looked_at_all_keys_says_so_and_goes_on() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let issue = || desk.house.key("acme", &["read"]).key.id;
    let keys: Vec<_> = (0..150).map(|_| issue()).collect();
    let mut disabled: Vec<String> = [3, 80, 149]
        .iter()
        .map(|index| desk.house.engine.disable(keys[*index]).unwrap())
        .map(|key| key.id.to_string())
        .collect();
    let mut found = Vec::new();
    let mut at = "/keys?state=disabled".to_owned();
    let mut pages = 0;
    loop {
        let seen = desk.get(&cookie, &at);
        assert_eq!(seen.status, 200);
        pages += 1;
        let links = seen.body.matches("name=\"pick\" value=\"").count();
        let ids = seen.body.split("name=\"pick\" value=\"").skip(1);
        found.extend(ids.map(|rest| rest.split('"').next().unwrap().to_owned()));
        let next = seen.body.split("rel=\"next\" href=\"").nth(1);
        assert_eq!(
            seen.body.contains("Not all keys were looked at"),
            next.is_some(),
            "{links} keys: {}",
            seen.body
        );
        let Some(next) = next else { break };
        assert!(seen.body.contains("Look at the next 60 keys"));
        let next = next.split('"').next().unwrap().replace("&#38;", "&");
        at = next.strip_prefix("/console").unwrap().to_owned();
    }
    // 151 keys with the admin's, 60 at once.
    assert_eq!(pages, 3);
    found.sort();
    disabled.sort();
    assert_eq!(found, disabled);
    // What no key matches is told so at the end alone.
    let first = desk.get(&cookie, "/keys?label=none").body;
    assert!(first.contains("None of the keys that were looked at"));
    // A full page leads on as ever, and the search leads to a list that looks further.
    let full = desk.get(&cookie, "/keys").body;
    assert!(full.contains("Next page") && !full.contains("Not all keys"));
    let found = desk.post(&cookie, "/find", &[("q", "label=far")]);
    assert_eq!(found.location(), "/console/keys?label=label%3Dfar");
    // A file has them all.
    let csv = desk.get(&cookie, "/keys.csv?state=disabled").body;
    assert_eq!(csv.lines().count(), 4);
}

#[test]
fn a_pasted_token_finds_its_key_and_is_in_no_address() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let key = desk.house.key("acme/etl", &["read"]);
    let token = key.token.expose();
    let found = desk.post(&cookie, "/find", &[("q", &format!(" {token} "))]);
    assert_eq!(
        found.location(),
        format!("/console/keys/{}?done=by_token", key.key.id)
    );
    // Of another store: nothing is found, and nothing is shown again.
    let other = format!("acme_live_0000000000_{}", "aB3dE6gH9j".repeat(5));
    let seen = desk.post(&cookie, "/find", &[("q", &other)]);
    assert_eq!(seen.status, 404);
    assert!(!seen.body.contains("aB3dE6gH9j"), "{}", seen.body);
    // Also where a name would be looked for on further pages.
    for _ in 0..70 {
        desk.house.key("umbrella", &["read"]);
    }
    let encoded = basic(&format!("someone:{other}"));
    let seen = desk.post(&cookie, "/find", &[("q", &encoded)]);
    assert_eq!(seen.status, 404);
    assert!(!seen.body.contains(&encoded[20..40]), "{}", seen.body);
    for (asked, to) in [
        (
            key.key.id.to_string(),
            format!("/console/keys/{}", key.key.id),
        ),
        ("acme".to_owned(), "/console/keys?owner=acme".to_owned()),
        (
            "acme/etl".to_owned(),
            "/console/keys?owner=acme%2Fetl".to_owned(),
        ),
    ] {
        assert_eq!(desk.post(&cookie, "/find", &[("q", &asked)]).location(), to);
    }
    // In the place of an owner, by mistake: it is not handed on to links.
    let page = desk.get(&cookie, &format!("/keys?owner={token}"));
    assert!(!page.body.contains(token));
}

#[test]
fn filters_stand_in_the_address_and_find_what_they_say() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let active = desk.house.key("acme", &["read"]).key;
    let disabled = desk.house.key("umbrella/x", &["read"]).key;
    desk.house.engine.disable(disabled.id).unwrap();
    let page = desk.get(&cookie, "/keys?state=disabled");
    assert!(page.body.contains(&disabled.id.to_string()));
    assert!(!page.body.contains(&active.id.to_string()));
    let page = desk.get(&cookie, "/keys?owner=umbrella&keyspace=acme_live");
    assert!(page.body.contains(&disabled.id.to_string()));
    assert!(
        page.body.contains("value=\"umbrella\""),
        "the filter is not shown"
    );
    assert_eq!(desk.get(&cookie, "/keys?owner=a//b").status, 400);
    assert_eq!(
        desk.get(&cookie, "/keys?state=none&keyspace=acme_live")
            .status,
        400
    );
    let csv = desk.get(&cookie, "/keys.csv?owner=umbrella");
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(csv.body.lines().count(), 2);
}

/// As people find it: in a header, in a log, in a file, in Markdown.
#[test]
fn a_token_is_found_in_the_text_that_it_stood_in() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let key = desk.house.key("acme/etl", &["read"]);
    let token = key.token.expose();
    let wanted = format!("/console/keys/{}?done=by_token", key.key.id);
    for text in [
        format!("Bearer {token}"),
        format!("Authorization: Bearer {token}\r\nHost: x"),
        format!("'{token}'"),
        format!("\"{token}\","),
        format!("api_key={token}"),
        format!("https://x/?api_key={token}&page=2"),
        format!("{token}\n"),
        format!("x{token}"),
        format!("API_KEY_{token}"),
        token.replace('_', "%5F"),
        token.replace('_', "%255f"),
        token.replace('_', "\\_"),
        format!("Bearer {token}Host: x"),
        // Its beginning is lost.
        token.strip_prefix("acme_").unwrap().to_owned(),
        token.strip_prefix("acme_live_").unwrap().to_owned(),
        format!("{} {token}", "word ".repeat(20)),
        // Credentials of Basic, and what has them in it.
        basic(&format!("{token}:")),
        basic(&format!("someone:{token}")),
        format!(
            "Authorization: {}\r\nHost: x",
            basic(&format!("someone:{token}"))
        ),
        basic(&format!("someone~?>:{token}")).replace(['+', '/'], "-"),
        format!("{{\"auth\":\"{}\"}}", base64(&format!("{token}:"))),
        format!("/login/{}", base64(token)),
        basic(&format!("someone:{token}:")).replace('=', "%3D"),
        // As the program base64 breaks it into lines.
        format!("{}\n{}", &base64(token)[..76], &base64(token)[76..]),
    ] {
        let found = desk.post(&cookie, "/find", &[("q", &text)]);
        assert_eq!(found.status, 303, "{text}: {}", found.body);
        assert_eq!(found.location(), wanted, "{text}");
    }
    // One that another system made.
    let engine = &desk.house.engine;
    let import = gatekey::NewImport::new("other", gatekey::ForeignHash::Plain);
    engine.begin_import(import).unwrap();
    let foreign = gatekey::Credential::token("12|sk:of.another-system");
    let new = NewKey::new("acme_live", "umbrella").unwrap();
    let key = gatekey::ForeignKey::new(new, foreign).id("1");
    let told = engine.import_keys("other", vec![key]).unwrap();
    let gatekey::ImportedKey::Imported(id) = told[0] else {
        panic!("{told:?}");
    };
    let found = desk.post(
        &cookie,
        "/find",
        &[("q", "Bearer '12|sk:of.another-system'")],
    );
    let wanted = format!("/console/keys/{id}?done=by_token");
    assert_eq!(found.location(), wanted);
    let found = desk.post(
        &cookie,
        "/find",
        &[("q", &basic("x:12|sk:of.another-system"))],
    );
    assert_eq!(found.location(), wanted);
    let found = desk.post(
        &cookie,
        "/find",
        &[("q", &basic("12|sk:of.another-system"))],
    );
    assert_eq!(found.location(), wanted);
}

fn base64(text: &str) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(text)
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", base64(credentials))
}

/// A token that was cut off or mistyped: its id is told, as what it is.
#[test]
fn of_a_token_that_is_not_whole_the_id_is_told() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let key = desk.house.key("acme/etl", &["read"]);
    let token = key.token.expose();
    let secret = &token[token.len() - 49..];
    let forged = format!("{}0123456789", &token[..token.len() - 10]);
    for text in [
        &token[..token.len() - 3],
        &token[..token.len() - 40],
        &format!("Bearer {}", &token[..token.len() - 1]),
        &format!("api_key={forged}"),
        &basic(&format!("someone:{forged}")),
    ] {
        let seen = desk.post(&cookie, "/find", &[("q", text)]);
        assert_eq!(seen.status, 200, "{text}");
        let at = format!("href=\"/console/keys/{}\"", key.key.id);
        assert!(seen.body.contains(&at), "{}", seen.body);
        assert!(seen.body.contains("it proves nothing"));
        // Nothing of the secret is shown again.
        for shown in [&secret[..8], "0123456789"] {
            assert!(!seen.body.contains(shown), "{}", seen.body);
        }
    }
    // An id among words is a search for it.
    let to = format!("/console/keys/{}", key.key.id);
    for text in [
        format!("acme_live_{}", key.key.id),
        format!("what is {}?", key.key.id),
    ] {
        let seen = desk.post(&cookie, "/find", &[("q", &text)]);
        assert_eq!(seen.location(), to, "{text}");
    }
    // Two of them: both.
    let other = desk.house.key("umbrella", &["read"]).key.id;
    let text = format!("{} or {other}", key.key.id);
    let seen = desk.post(&cookie, "/find", &[("q", &text)]);
    assert!(seen.body.contains(&format!("{to}\"")));
    assert!(seen.body.contains(&format!("/console/keys/{other}\"")));
}

/// There is no index of names: the search looks at some keys, and the list goes on.
#[test]
fn a_key_is_found_by_a_part_of_its_name() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let named = |name: &str| {
        let new = NewKey::new("acme_live", "acme").unwrap().name(name);
        desk.house.engine.issue(new).unwrap().key.id
    };
    let robot = named("Deploy robot");
    let near = named("nightly report");
    let found = desk.post(&cookie, "/find", &[("q", "deploy ROB")]);
    assert_eq!(found.location(), "/console/keys?name=deploy+ROB");
    let list = desk.get(&cookie, "/keys?name=deploy+ROB").body;
    assert!(list.contains(&robot.to_string()), "{list}");
    assert!(!list.contains(&near.to_string()), "{list}");
    assert!(list.contains("value=\"deploy ROB\""), "the filter is lost");
    let none = desk.post(&cookie, "/find", &[("q", "no such name")]);
    assert_eq!(none.status, 404);
    // The newest are looked at first.
    let far = named("far away");
    for _ in 0..80 {
        named("x");
    }
    let fresh = named("just made");
    let found = desk.post(&cookie, "/find", &[("q", "just made")]);
    assert_eq!(found.location(), "/console/keys?name=just+made");
    let first = desk.get(&cookie, "/keys?name=just+made").body;
    assert!(first.contains(&fresh.to_string()), "{first}");
    // Behind more keys than one page looks at.
    let found = desk.post(&cookie, "/find", &[("q", "far away")]);
    assert_eq!(found.location(), "/console/keys?name=far+away");
    let first = desk.get(&cookie, "/keys?name=far+away").body;
    assert!(first.contains("Not all keys were looked at"), "{first}");
    let next = first.split("rel=\"next\" href=\"/console").nth(1).unwrap();
    let next = next.split('"').next().unwrap().replace("&#38;", "&");
    assert!(desk.get(&cookie, &next).body.contains(&far.to_string()));
}
