//! What customers do on their pages.

use super::*;

#[test]
fn a_key_is_issued_and_its_token_shown_once() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let form = get(&pages, "/settings/keys/new?keyspace=acme_live");
    assert_eq!(form.status, 200);
    let number = form.hidden("number");
    let made = post(&pages, "/settings/keys/new", &House::wish(&number));
    assert_eq!(made.status, 200, "{}", made.body);
    let token = made.token();
    let key = house.engine.find_by_token(&token).unwrap().unwrap();
    assert_eq!(key.owner.as_str(), "acme");
    assert_eq!(key.plan.as_deref(), Some("free"));
    assert!(key.expires_at.is_some());
    assert_eq!(key.created_by.as_deref(), Some("user of acme"));
    let before = house.changes();
    // A reload, or a second press: no second key, and the token is not shown again. The
    // engine would replace a key whose token nobody has used yet.
    let again = post(&pages, "/settings/keys/new", &House::wish(&number));
    assert_eq!(again.status, 409);
    assert!(!again.shows_a_token() && !again.body.contains(&token));
    assert!(again.body.contains(&key.id.to_string()));
    assert_eq!(house.changes(), before);
    assert!(house.engine.verify(&token).unwrap().is_granted());
    for page in [
        "",
        &format!("/keys/{}", key.id),
        &format!("/keys/{}/edit", key.id),
    ] {
        let page = get(&pages, &format!("/settings/keys{page}"));
        assert_eq!(page.status, 200);
        assert!(!page.body.contains(&token));
    }
}

/// After a restart nothing remembers the form; the engine does.
#[test]
fn a_form_that_is_sent_again_after_a_restart_leaves_one_key() {
    let house = House::new();
    let pages = || house.pages("acme", House::ceiling());
    let number = get(&pages(), "/settings/keys/new?keyspace=acme_live").hidden("number");
    post(&pages(), "/settings/keys/new", &House::wish(&number));
    post(&pages(), "/settings/keys/new", &House::wish(&number));
    let keys = house
        .engine
        .keys(gatekey::KeyFilter::new())
        .map(Result::unwrap);
    assert_eq!(
        keys.filter(|key| key.state == gatekey::KeyState::Active)
            .count(),
        1
    );
}

#[test]
fn a_rotation_goes_through_its_four_steps() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let old = house.key("acme", &["read"]);
    let at = format!("/settings/keys/keys/{}", old.key.id);
    let form = get(&pages, &format!("{at}/rotate"));
    let (seen, number) = (form.hidden("seen"), form.hidden("number"));
    let pairs = [
        ("seen", &*seen),
        ("number", &*number),
        ("grace", "86400"),
        ("life", "2592000"),
    ];
    let made = post(&pages, &format!("{at}/rotate"), &pairs);
    assert_eq!(made.status, 200, "{}", made.body);
    let token = made.token();
    assert!(made.body.contains(&format!("{at}/steps")));
    // Both work, and the third step waits.
    assert!(
        house
            .engine
            .verify(old.token.expose())
            .unwrap()
            .is_granted()
    );
    let steps = get(&pages, &format!("{at}/steps"));
    assert!(steps.body.contains("data-poll"), "{}", steps.body);
    assert_eq!(get(&pages, &format!("{at}/used")).body, "no");
    assert!(house.engine.verify(&token).unwrap().is_granted());
    assert_eq!(get(&pages, &format!("{at}/used")).body, "yes");
    let steps = get(&pages, &format!("{at}/steps"));
    assert!(!steps.body.contains("data-poll"));
    let confirm = get(&pages, &format!("{at}/revoke")).body;
    assert!(confirm.contains("Delete the old key?"), "{confirm}");
    assert!(!confirm.contains("never been used"), "{confirm}");
    let gone = post(&pages, &format!("{at}/revoke"), &[("reason", "superseded")]);
    assert_eq!(gone.status, 303);
    // The person goes on with the key that works.
    let new = house.engine.find_by_token(&token).unwrap().unwrap().id;
    let landed = format!("/settings/keys/keys/{new}?done=old_deleted");
    assert_eq!(gone.location(), landed);
    assert!(
        get(&pages, &landed)
            .body
            .contains("The old key is deleted.")
    );
    assert!(
        !house
            .engine
            .verify(old.token.expose())
            .unwrap()
            .is_granted()
    );
    assert!(house.engine.verify(&token).unwrap().is_granted());
    let steps = get(&pages, &format!("{at}/steps"));
    assert!(steps.body.contains("The rotation is done"));
}

#[test]
fn a_form_filled_in_before_anothers_change_overwrites_nothing() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let key = house.key("acme", &["read"]).key;
    let at = format!("/settings/keys/keys/{}", key.id);
    let (mine, theirs) = (
        get(&pages, &format!("{at}/edit")),
        get(&pages, &format!("{at}/edit")),
    );
    let theirs = theirs.hidden("seen");
    let saved = post(
        &pages,
        &format!("{at}/edit"),
        &[("seen", &theirs), ("name", "theirs")],
    );
    assert_eq!(saved.location(), format!("{at}?done=saved"));
    let mine = mine.hidden("seen");
    let refused = post(
        &pages,
        &format!("{at}/edit"),
        &[("seen", &mine), ("name", "mine")],
    );
    assert_eq!(refused.status, 409);
    assert_eq!(
        house.engine.key(key.id).unwrap().name.as_deref(),
        Some("theirs")
    );
    // Use is no change.
    let form = get(&pages, &format!("{at}/edit"));
    house.engine.flush().unwrap();
    let seen = form.hidden("seen");
    let pairs = [("seen", &*seen), ("name", "again"), ("label.team", "data")];
    assert_eq!(post(&pages, &format!("{at}/edit"), &pairs).status, 303);
    let key = house.engine.key(key.id).unwrap();
    assert_eq!(key.labels.get("team").map(String::as_str), Some("data"));
}

#[test]
fn what_the_engine_refuses_comes_back_in_the_form() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let number = get(&pages, "/settings/keys/new?keyspace=acme_live").hidden("number");
    let mut wish = House::wish(&number);
    wish[2].1 = "a\u{202e}b";
    let back = post(&pages, "/settings/keys/new", &wish);
    assert_eq!(back.status, 400);
    assert!(back.body.contains("role=\"alert\""));
    assert!(back.body.contains("checked"), "what was chosen is lost");
    // The same form, mended, is taken.
    wish[2].1 = "ab";
    assert!(post(&pages, "/settings/keys/new", &wish).shows_a_token());
}

#[test]
fn one_key_at_a_time_is_requested_and_regenerated() {
    let house = House::new();
    let new = NewKeyspace::new("single")
        .unwrap()
        .permissions(["read"])
        .single_active();
    house.engine.create_keyspace(new).unwrap();
    let ceiling = Ceiling::new("single".parse().unwrap()).permission("read", "Read");
    let pages = house.pages("acme", ceiling);
    let empty = get(&pages, "/settings/keys");
    assert!(empty.body.contains("Request an API key"));
    let number = get(&pages, "/settings/keys/new?keyspace=single").hidden("number");
    let wish = [
        ("keyspace", "single"),
        ("number", &*number),
        ("name", "n"),
        ("permission", "read"),
    ];
    let first = post(&pages, "/settings/keys/new", &wish).token();
    let page = get(&pages, "/settings/keys");
    assert!(page.body.contains("Regenerate"));
    let number = get(&pages, "/settings/keys/new?keyspace=single").hidden("number");
    let wish = [
        ("keyspace", "single"),
        ("number", &*number),
        ("name", "n"),
        ("permission", "read"),
    ];
    let second = post(&pages, "/settings/keys/new", &wish).token();
    assert!(!house.engine.verify(&first).unwrap().is_granted());
    assert!(house.engine.verify(&second).unwrap().is_granted());
}

/// Whoever's keys were all revoked is not told that there never were any.
#[test]
fn whoever_has_only_keys_that_ended_is_told_so() {
    let house = House::new();
    let single = NewKeyspace::new("single").unwrap().single_active();
    house.engine.create_keyspace(single).unwrap();
    for (keyspace, title) in [
        ("single", "Your API key has ended"),
        ("acme_live", "None of your keys works any more"),
    ] {
        let pages = house.pages("acme", Ceiling::new(keyspace.parse().unwrap()));
        assert!(!get(&pages, "/settings/keys").body.contains(title));
        let issued = house.engine.issue(NewKey::new(keyspace, "acme").unwrap());
        let key = issued.unwrap().key.id;
        assert!(!get(&pages, "/settings/keys").body.contains(title));
        house
            .engine
            .revoke(key, gatekey::Reason::KeyCompromise)
            .unwrap();
        let page = get(&pages, "/settings/keys").body;
        assert!(
            page.contains(title) && !page.contains("No keys here yet"),
            "{page}"
        );
        // From there, the key that ended is one step away.
        let all = get(&pages, "/settings/keys?show=all").body;
        assert!(all.contains(&format!("/keys/{key}")), "{all}");
    }
}

#[test]
fn keys_of_service_accounts_are_issued_below_the_member() {
    let house = House::new();
    let ceiling = House::ceiling().levels(["Project", "Service account"]);
    let pages = house.pages("acme", ceiling);
    let number = get(&pages, "/settings/keys/new?keyspace=acme_live").hidden("number");
    let mut wish = House::wish(&number);
    wish.extend([("level0", "atlas"), ("level1", "etl-bot")]);
    let token = post(&pages, "/settings/keys/new", &wish).token();
    let key = house.engine.find_by_token(&token).unwrap().unwrap();
    assert_eq!(key.owner.as_str(), "acme/atlas/etl-bot");
    let list = get(&pages, "/settings/keys");
    assert!(list.body.contains("atlas / etl-bot"));
}

#[test]
fn a_purpose_brings_its_permissions_and_no_others() {
    let house = House::new();
    let ceiling = House::ceiling()
        .purpose("Read-only", "For dashboards.", ["read"])
        .purpose("Root", "All.", ["read", "admin"]);
    let pages = house.pages("acme", ceiling);
    let number = get(&pages, "/settings/keys/new?keyspace=acme_live").hidden("number");
    let mut wish = House::wish(&number);
    wish.retain(|(name, _)| *name != "permission");
    wish.push(("purpose", "Root"));
    let token = post(&pages, "/settings/keys/new", &wish).token();
    let key = house.engine.find_by_token(&token).unwrap().unwrap();
    let keyspace = house.engine.keyspace("acme_live").unwrap();
    assert_eq!(keyspace.names(key.permissions), ["read"]);
    assert_eq!(key.labels.get("purpose").map(String::as_str), Some("Root"));
}

#[test]
fn a_short_lived_token_stands_for_what_the_member_may_give() {
    let house = House::new();
    let key = house.key("acme", &["read", "write"]).key;
    let ceiling = House::ceiling();
    let member = Member::new("acme".parse().unwrap(), "alice").may(ceiling);
    let pages = SelfService::new(house.engine.clone()).short_lived(|grant| {
        let text = format!(
            "jwt of {} with {}",
            grant.key_id(),
            grant.permissions().bits()
        );
        Ok(crate::ShortLived::new(text, gatekey::Timestamp::MAX))
    });
    let pages = pages.router().layer(Extension(member));
    let made = post(&pages, &format!("/keys/{}/short-lived", key.id), &[]);
    assert_eq!(made.token(), format!("jwt of {} with 3", key.id));
    // It is called what it is, with the key that it stands for.
    let label = "<label for=\"token\">Short-lived token</label>";
    assert!(made.body.contains(label), "{}", made.body);
    assert!(made.body.contains(&format!("<bdi>{}</bdi>", key.id)));
    house.engine.disable(key.id).unwrap();
    let denied = post(&pages, &format!("/keys/{}/short-lived", key.id), &[]);
    assert!(!denied.shows_a_token() && denied.status == 409);
    // Without a function of the host's there is no such page.
    let pages = house.pages("acme", House::ceiling());
    let at = format!("/settings/keys/keys/{}/short-lived", key.id);
    assert_eq!(post(&pages, &at, &[]).status, 404);
}

#[test]
fn a_closed_store_gives_a_page_that_says_so() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let number = get(&pages, "/settings/keys/new?keyspace=acme_live").hidden("number");
    house.engine.clone().close().unwrap();
    for seen in [
        get(&pages, "/settings/keys"),
        post(&pages, "/settings/keys/new", &House::wish(&number)),
    ] {
        assert_eq!(seen.status, 503);
        assert!(seen.body.contains("cannot be reached now"), "{}", seen.body);
    }
}

#[test]
fn a_host_wraps_the_pages_in_its_own_layout() {
    let house = House::new();
    let look = crate::Look::new().layout(|page| {
        format!(
            "<!doctype html><title>{}</title>{}<main>{}</main>",
            page.title, page.head, page.main
        )
    });
    let member =
        Member::new("acme".parse().unwrap(), "alice").may(House::ceiling().title("<Keys>"));
    let pages = SelfService::new(house.engine.clone()).look(look).router();
    let page = get(&pages.layer(Extension(member)), "/");
    assert!(
        page.body
            .starts_with("<!doctype html><title>&#60;Keys&#62;</title>"),
        "{}",
        page.body
    );
    assert!(page.headers.contains_key("content-security-policy"));
}

/// One that was replaced stands in the list, and does not count.
#[test]
fn the_list_says_which_keys_count() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let old = house.key("acme", &["read"]).key.id;
    house.key("acme", &["read"]);
    let list = || get(&pages, "/settings/keys").body;
    assert!(
        list().contains("Keys in use: 2 of at most 5.</p>"),
        "{}",
        list()
    );
    let rotation = gatekey::Rotation::with_grace(DAY);
    let new = house.engine.rotate(old, rotation).unwrap().key.id;
    let text =
        "Keys in use: 2 of at most 5. Besides, replaced ones that work until their grace ends: 1.";
    assert!(list().contains(text), "{}", list());
    // How a key began is told as what it was for this key.
    let history = |id| get(&pages, &format!("/settings/keys/keys/{id}")).body;
    let made = format!("Created by the rotation of {old}");
    assert!(history(new).contains(&made), "{}", history(new));
    assert!(history(old).contains("<bdi>Rotated</bdi>") && !history(old).contains(&made));
    // When it ends is said to the minute, however near that is.
    let until = house.engine.key(old).unwrap().retiring_until.unwrap();
    let until = until.to_string();
    let (day, minute) = (&until[..10], &until[11..16]);
    for page in [list(), history(old)] {
        assert!(
            page.contains(&format!(">{day} {minute} UTC</time>")),
            "{page}"
        );
        assert!(page.contains("in 1 day</span>"), "{page}");
    }
}

/// In a keyspace of one key at a time, the end of a key is the issue of another.
#[test]
fn a_key_that_a_newer_one_ended_says_so() {
    let house = House::new();
    let single = NewKeyspace::new("single").unwrap().single_active();
    house.engine.create_keyspace(single).unwrap();
    let pages = house.pages("acme", Ceiling::new("single".parse().unwrap()));
    let issue = || {
        house
            .engine
            .issue(NewKey::new("single", "acme").unwrap())
            .unwrap()
    };
    let old = issue().key.id;
    issue();
    let page = get(&pages, &format!("/settings/keys/keys/{old}")).body;
    assert!(page.contains("Ended by a newer key"), "{page}");
    assert_eq!(page.matches("<bdi>Created</bdi>").count(), 1, "{page}");
}

/// Whose requests fail hears why, also where nothing can be done about it here.
#[test]
fn a_key_that_is_halted_says_so() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let key = house.key("acme", &["read"]).key.id;
    let page = || get(&pages, &format!("/settings/keys/keys/{key}")).body;
    let note = "This key does not work now";
    assert!(!page().contains(note));
    house.engine.suspend("acme", None).unwrap();
    assert!(page().contains(note) && page().contains("Its state: Suspended."));
    house.engine.resume("acme").unwrap();
    house.engine.disable(key).unwrap();
    assert!(page().contains(note) && page().contains("Its state: Disabled."));
    house
        .engine
        .revoke(key, gatekey::Reason::Cessation)
        .unwrap();
    assert!(!page().contains(note), "{}", page());
}
