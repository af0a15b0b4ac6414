//! Rotations, as customers follow them, and pages about one key at a time.

use super::*;

/// Rotates a key by its form, and gives the new token.
fn rotate(pages: &Router, key: &gatekey::Key, grace: &str) -> String {
    let at = format!("/settings/keys/keys/{}", key.id);
    let form = get(pages, &format!("{at}/rotate"));
    let (seen, number) = (form.hidden("seen"), form.hidden("number"));
    let pairs = [("seen", &*seen), ("number", &number), ("grace", grace)];
    post(pages, &format!("{at}/rotate"), &pairs).token()
}

/// The new key leaked while it was put in place, say.
#[test]
fn the_steps_of_a_rotation_say_that_the_new_key_has_ended() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let old = house.key("acme", &["read"]);
    let at = format!("/settings/keys/keys/{}", old.key.id);
    let token = rotate(&pages, &old.key, "86400");
    let new = house.engine.find_by_token(&token).unwrap().unwrap();
    assert!(get(&pages, &at).body.contains("Follow the steps"));
    assert_eq!(get(&pages, &format!("{at}/used")).body, "no");
    // Disabled, it may come back.
    house.engine.disable(new.id).unwrap();
    let steps = get(&pages, &format!("{at}/steps")).body;
    assert!(steps.contains("does not work now") && steps.contains("Disabled"));
    house.engine.enable(new.id).unwrap();
    house
        .engine
        .revoke(new.id, gatekey::Reason::KeyCompromise)
        .unwrap();
    // The script looks again, and finds it.
    assert_eq!(get(&pages, &format!("{at}/used")).body, "yes");
    let steps = get(&pages, &format!("{at}/steps")).body;
    assert!(steps.contains("The new key has ended"), "{steps}");
    assert!(steps.contains("The old key works until"), "{steps}");
    assert!(!steps.contains("Test the new key"), "{steps}");
    let create = "href=\"/settings/keys/new?keyspace=acme_live\"";
    assert!(steps.contains(create), "{steps}");
    let page = get(&pages, &at).body;
    assert!(page.contains("has ended too") && !page.contains("Follow the steps"));
    assert!(page.contains(create) && !page.contains("/steps"), "{page}");
    // Then the old one ends as well.
    house
        .engine
        .revoke(old.key.id, gatekey::Reason::Superseded)
        .unwrap();
    let steps = get(&pages, &format!("{at}/steps")).body;
    assert!(steps.contains("the old key has ended too"), "{steps}");
}

/// What matters is the key that works in the end.
#[test]
fn the_steps_follow_a_key_that_was_rotated_twice() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let old = house.key("acme", &["read"]);
    let second = rotate(&pages, &old.key, "86400");
    let second = house.engine.find_by_token(&second).unwrap().unwrap();
    let third = rotate(&pages, &second, "0");
    let at = format!("/settings/keys/keys/{}/steps", old.key.id);
    let steps = get(&pages, &at).body;
    assert!(!steps.contains("The new key has ended"), "{steps}");
    let id = house.engine.find_by_token(&third).unwrap().unwrap().id;
    assert!(steps.contains(&format!("The new key is {id}")), "{steps}");
    assert!(house.engine.verify(&third).unwrap().is_granted());
    assert!(get(&pages, &at).body.contains("The new key works"));
}

#[test]
fn one_key_at_a_time_is_regenerated_at_once_unless_a_grace_is_chosen() {
    let house = House::new();
    let new = NewKeyspace::new("single").unwrap().single_active();
    house.engine.create_keyspace(new).unwrap();
    let pages = house.pages("acme", Ceiling::new("single".parse().unwrap()));
    let form = get(&pages, "/settings/keys/new?keyspace=single");
    assert!(form.body.contains("Request the key"), "{}", form.body);
    let number = form.hidden("number");
    let wish = [("keyspace", "single"), ("number", &*number), ("name", "n")];
    let first = post(&pages, "/settings/keys/new", &wish).token();
    let key = house.engine.find_by_token(&first).unwrap().unwrap();
    let at = format!("/settings/keys/keys/{}", key.id);
    let form = get(&pages, &format!("{at}/rotate")).body;
    let at_once = form.find("name=\"grace\" value=\"0\" checked");
    assert!(at_once.is_some() && form.contains("works for another 1 day"));
    // One word for it, on every page.
    for page in ["/settings/keys", &*at, &format!("{at}/rotate")] {
        let body = get(&pages, page).body;
        assert!(body.contains("Regenerate the key"), "{page}: {body}");
        assert!(
            !body.contains("Rotate") && !body.contains("rotate it"),
            "{page}"
        );
    }
    // With a grace, the old one has a card of its own, with a way to end it now.
    let second = rotate(&pages, &key, "86400");
    assert!(house.engine.verify(&first).unwrap().is_granted());
    let cards = get(&pages, "/settings/keys").body;
    let revoke = format!("href=\"{at}/revoke\">End it now");
    assert!(cards.contains(&revoke), "{cards}");
    assert!(get(&pages, &at).body.contains(&revoke));
    let form = get(&pages, &format!("{at}/revoke")).body;
    assert!(form.contains("value=\"superseded\" checked"), "{form}");
    let gone = post(&pages, &format!("{at}/revoke"), &[("reason", "superseded")]);
    assert_eq!(gone.status, 303);
    assert!(!house.engine.verify(&first).unwrap().is_granted());
    assert!(house.engine.verify(&second).unwrap().is_granted());
    // Where there are many keys, a grace is what is usual.
    let pages = house.pages("acme", House::ceiling());
    let id = house.key("acme", &["read"]).key.id;
    let form = get(&pages, &format!("/settings/keys/keys/{id}/rotate")).body;
    assert!(form.contains("name=\"grace\" value=\"86400\" checked"));
    assert!(form.contains("Rotate the key"));
}
