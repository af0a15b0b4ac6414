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

/// A key in its grace, and the token and the id of the new one.
fn rotated(house: &House, pages: &Router) -> (Issued, String, gatekey::KeyId) {
    let old = house.key("acme", &["read"]);
    let token = rotate(pages, &old.key, "86400");
    let new = house.engine.find_by_token(&token).unwrap().unwrap();
    (old, token, new.id)
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
    assert!(at_once.is_some() && form.contains("works for 1 day more"));
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
    let revoke = format!("href=\"{at}/revoke\">Delete the old key");
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

/// Whoever is in a hurry is warned, and is not left with steps that never end.
#[test]
fn an_old_key_is_deleted_before_the_new_one_was_used() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let (old, token, new) = rotated(&house, &pages);
    let at = format!("/settings/keys/keys/{}", old.key.id);
    let confirm = get(&pages, &format!("{at}/revoke")).body;
    assert!(
        confirm.contains("The new key has never been used"),
        "{confirm}"
    );
    assert!(
        confirm.contains(&format!("href=\"{at}/steps\"")),
        "{confirm}"
    );
    // Nor should it go while the new one is good for nothing.
    house.engine.disable(new).unwrap();
    let confirm = get(&pages, &format!("{at}/revoke")).body;
    assert!(
        confirm.contains("The new key does not work now"),
        "{confirm}"
    );
    house.engine.enable(new).unwrap();
    let confirm = get(&pages, &format!("{at}/revoke")).body;
    assert!(confirm.contains(&new.to_string()), "{confirm}");
    let sent = [("reason", "superseded"), ("instead", &new.to_string())];
    let gone = post(&pages, &format!("{at}/revoke"), &sent);
    let landed = format!("/settings/keys/keys/{new}?done=old_deleted");
    assert_eq!(gone.location(), landed);
    let page = get(&pages, &landed).body;
    assert!(!page.contains("Go on with the rotation"), "{page}");
    let steps = get(&pages, &format!("{at}/steps")).body;
    assert!(steps.contains("the new one was never used"), "{steps}");
    for open in [
        "data-poll",
        "aria-current=\"step\"",
        "Look again",
        "waits for",
        "gk-button danger",
    ] {
        assert!(!steps.contains(open), "{open}: {steps}");
    }
    assert_eq!(steps.matches("Not done: ").count(), 2, "{steps}");
    assert!(house.engine.verify(&token).unwrap().is_granted());
    let steps = get(&pages, &format!("{at}/steps")).body;
    assert!(steps.contains("The rotation is done"), "{steps}");
}

#[test]
fn the_page_of_the_new_key_leads_to_the_steps() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let old = house.key("acme", &["read"]);
    let at = |id| format!("/settings/keys/keys/{id}");
    let steps = format!("href=\"{}/steps\"", at(old.key.id));
    let token = rotate(&pages, &old.key, "86400");
    let key = house.engine.find_by_token(&token).unwrap().unwrap();
    let page = get(&pages, &at(key.id)).body;
    assert!(page.contains(&steps), "{page}");
    assert!(page.contains("The old key works until"), "{page}");
    house
        .engine
        .revoke(old.key.id, gatekey::Reason::Superseded)
        .unwrap();
    let page = get(&pages, &at(key.id)).body;
    assert!(!page.contains("/steps"), "{page}");
}

/// No page tells a person to do what it does not offer.
#[test]
fn a_key_that_cannot_be_rotated_is_not_told_to_be() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let page = |id| get(&pages, &format!("/settings/keys/keys/{id}")).body;
    let is_told = |page: &str| page.contains("Rotate it") || page.contains("/rotate\"");
    let old = house.key("acme", &["read"]).key;
    assert!(page(old.id).contains("Rotate it") && page(old.id).contains("/rotate\""));
    house.engine.disable(old.id).unwrap();
    assert!(!is_told(&page(old.id)), "{}", page(old.id));
    house.engine.enable(old.id).unwrap();
    let number = get(&pages, &format!("/settings/keys/keys/{}/rotate", old.id)).hidden("number");
    let key = house.engine.key(old.id).unwrap();
    let seen = crate::desk::mark(&key);
    let pairs = [("seen", &*seen), ("number", &*number), ("grace", "86400")];
    let at = format!("/settings/keys/keys/{}/rotate", old.id);
    let token = post(&pages, &at, &pairs).token();
    assert!(!is_told(&page(old.id)), "{}", page(old.id));
    // A form that is sent again says the same of the key that it made.
    let new = house.engine.find_by_token(&token).unwrap().unwrap().id;
    let again = || post(&pages, &at, &pairs).body;
    assert!(again().contains("rotate it"), "{}", again());
    house
        .engine
        .revoke(new, gatekey::Reason::Cessation)
        .unwrap();
    assert!(
        !again().contains("rotate it") && !again().contains("/rotate\""),
        "{}",
        again()
    );
}

#[test]
fn an_old_key_is_kept_where_the_one_that_has_its_place_was_revoked_meanwhile() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let (old, _, new) = rotated(&house, &pages);
    let at = format!("/settings/keys/keys/{}", old.key.id);
    let confirm = get(&pages, &format!("{at}/revoke")).body;
    assert!(
        confirm.contains(&format!("name=\"instead\" value=\"{new}\"")),
        "{confirm}"
    );
    house
        .engine
        .revoke(new, gatekey::Reason::KeyCompromise)
        .unwrap();
    let sent = [("reason", "superseded"), ("instead", &new.to_string())];
    let refused = post(&pages, &format!("{at}/revoke"), &sent);
    assert_eq!(refused.status, 409);
    assert!(
        house
            .engine
            .verify(old.token.expose())
            .unwrap()
            .is_granted()
    );
}
