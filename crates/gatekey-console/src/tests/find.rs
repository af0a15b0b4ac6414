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
