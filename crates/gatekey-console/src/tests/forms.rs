//! Forms for new keys: what they offer, what they ask again, and the page that follows.

use super::operators::Desk;
use super::*;

/// Whether a page says at a field what is wrong with it.
fn is_told_at(seen: &Seen, field: &str, text: &str) -> bool {
    seen.body.contains(&format!("id=\"e-{field}\">{text}"))
}

#[test]
fn without_a_keyspace_a_page_is_about_the_only_one_or_asks() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    for page in ["/new", "/usage"] {
        let seen = get(&pages, &format!("/settings/keys{page}"));
        assert_eq!(seen.status, 200, "{page}: {}", seen.body);
    }
    let form = get(&pages, "/settings/keys/new");
    assert_eq!(form.hidden("keyspace"), "acme_live");
    // Several: a link to each.
    let member = Member::new("acme".parse().unwrap(), "alice")
        .may(House::ceiling().title("Live"))
        .may(Ceiling::new("secret_ks".parse().unwrap()).title("Secret"));
    let several = SelfService::new(house.engine.clone()).router();
    let several = several.layer(Extension(member));
    for page in ["/new", "/usage"] {
        let seen = get(&several, page);
        assert_eq!(seen.status, 200, "{page}");
        for (prefix, title) in [("acme_live", "Live"), ("secret_ks", "Secret")] {
            let link = format!("href=\"{page}?keyspace={prefix}\">{title}");
            assert!(seen.body.contains(&link), "{}", seen.body);
        }
    }
    // None at all.
    let nobody = Member::new("acme".parse().unwrap(), "alice");
    let none = SelfService::new(house.engine.clone()).router();
    let none = none.layer(Extension(nobody));
    assert!(get(&none, "/new").body.contains("No keys to manage"));
    // One that is not the member's stays unknown.
    let seen = get(&pages, "/settings/keys/usage?keyspace=secret_ks");
    assert_eq!(seen.status, 404);
}

#[test]
fn a_key_without_any_permission_is_asked_about_first() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let number = get(&pages, "/settings/keys/new").hidden("number");
    let mut wish = House::wish(&number);
    wish.retain(|(name, _)| *name != "permission");
    let before = house.changes();
    let back = post(&pages, "/settings/keys/new", &wish);
    assert_eq!(back.status, 400);
    assert!(
        is_told_at(&back, "permission", "Choose at least one"),
        "{}",
        back.body
    );
    assert_eq!(house.changes(), before);
    assert!(back.body.contains("name=\"bare\""));
    wish.push(("bare", "yes"));
    assert!(post(&pages, "/settings/keys/new", &wish).shows_a_token());
    // Where there are no permissions, there is nothing to ask.
    let ceiling = Ceiling::new("acme_live".parse().unwrap());
    let pages = house.pages("umbrella", ceiling);
    let form = get(&pages, "/settings/keys/new");
    assert!(!form.body.contains("name=\"bare\""));
    let number = form.hidden("number");
    let wish = [
        ("keyspace", "acme_live"),
        ("number", &*number),
        ("name", "n"),
    ];
    assert!(post(&pages, "/settings/keys/new", &wish).shows_a_token());
}

#[test]
fn operators_are_asked_about_a_key_without_any_permission_too() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let form = desk.get(&cookie, "/keys/new?keyspace=acme_live");
    let number = form.hidden("number");
    let mut pairs = vec![
        ("keyspace", "acme_live"),
        ("number", &*number),
        ("owner", "acme"),
        ("life", "default"),
    ];
    let before = desk.changes();
    let back = desk.post(&cookie, "/keys/new", &pairs);
    assert_eq!(back.status, 400);
    assert!(is_told_at(&back, "permission", "Choose at least one"));
    // It is a question: nothing went wrong.
    assert!(back.body.contains("Nothing was done yet"));
    assert!(!back.body.contains("did not work"), "{}", back.body);
    pairs[2].1 = "acme ingest";
    let back = desk.post(&cookie, "/keys/new", &pairs);
    assert!(is_told_at(&back, "owner", ""), "{}", back.body);
    assert!(back.body.contains("a segment has a space"));
    assert_eq!(desk.changes(), before);
    pairs[2].1 = " acme ";
    pairs.push(("bare", "yes"));
    assert!(desk.post(&cookie, "/keys/new", &pairs).shows_a_token());
}

#[test]
fn names_of_levels_are_suggested_and_a_blank_is_told_at_its_field() {
    let house = House::new();
    let ceiling = House::ceiling().levels(["Project", "Service account"]);
    for owner in ["acme/atlas/etl-bot", "acme/survey/etl-bot", "umbrella/x/y"] {
        house.key(owner, &["read"]);
    }
    let pages = house.pages("acme", ceiling);
    let form = get(&pages, "/settings/keys/new");
    let list = |level: usize| {
        let marker = format!("<datalist id=\"l-level{level}\">");
        let rest = form.body.split(&marker).nth(1).expect("no list");
        rest.split("</datalist>").next().unwrap().to_owned()
    };
    let option = |name: &str| format!("<option value=\"{name}\"></option>");
    assert_eq!(list(0), option("atlas") + &option("survey"));
    assert_eq!(list(1), option("etl-bot"));
    let number = form.hidden("number");
    let mut wish = House::wish(&number);
    wish.extend([("level0", "atlas"), ("level1", "my bot")]);
    let back = post(&pages, "/settings/keys/new", &wish);
    assert_eq!(back.status, 400);
    assert!(
        is_told_at(&back, "level1", "Write it without spaces"),
        "{}",
        back.body
    );
    assert!(back.body.contains("value=\"my bot\" dir=\"auto\" autocomplete=\"off\" required maxlength=\"64\" aria-invalid=\"true\" aria-describedby=\"h-level1 e-level1\""));
    assert!(!back.body.contains("id=\"e-level0\""));
    let last = wish.len() - 1;
    wish[last].1 = " my-bot ";
    let token = post(&pages, "/settings/keys/new", &wish).token();
    let key = house.engine.find_by_token(&token).unwrap().unwrap();
    assert_eq!(key.owner.as_str(), "acme/atlas/my-bot");
}

#[test]
fn plans_say_what_they_give() {
    let house = House::new();
    let limit = gatekey::Limit::per_hour(1_000).fixed();
    let mut pro = gatekey::Plan::new("pro").limit(limit);
    pro.shared_by_owner = true;
    let keyspace = NewKeyspace::new("tiered").unwrap();
    let keyspace = keyspace.plan(gatekey::Plan::new("free")).plan(pro);
    house.engine.create_keyspace(keyspace).unwrap();
    let ceiling = Ceiling::new("tiered".parse().unwrap()).plans(["free", "pro"]);
    let form = get(&house.pages("acme", ceiling), "/settings/keys/new").body;
    let pro = "1,000 in 1 hour, fixed window (shared by the keys of an owner)";
    assert!(form.contains(pro) && form.contains("No limit"), "{form}");
    // To operators as well: of a key, of an owner, of a level.
    let desk = Desk::of(house);
    let (_, cookie) = desk.all();
    for page in [
        "/keys/new?keyspace=tiered",
        "/owners/settings?owner=acme&keyspace=tiered",
        "/keyspaces/tiered/level?depth=1",
    ] {
        let body = desk.get(&cookie, page).body;
        assert!(body.contains(&format!("pro: {pro}")), "{page}: {body}");
    }
}

/// Whoever has the token before them reads what it is good for.
#[test]
fn the_page_with_a_token_says_what_was_made() {
    let house = House::new();
    let pages = house.pages("acme", House::ceiling());
    let number = get(&pages, "/settings/keys/new").hidden("number");
    let made = post(&pages, "/settings/keys/new", &House::wish(&number));
    let says = |made: &Seen, texts: &[&str]| {
        for text in texts {
            assert!(made.body.contains(text), "{text}: {}", made.body);
        }
    };
    let id = house
        .engine
        .find_by_token(made.token())
        .unwrap()
        .unwrap()
        .id;
    says(
        &made,
        &[
            "<bdi>robot</bdi>",
            &id.to_string(),
            "<li><bdi>read</bdi></li>",
            "in 30 days",
            "the only time that it is shown",
            "<label for=\"token\">API key</label>",
        ],
    );
    let desk = Desk::of(house);
    let (_, cookie) = desk.all();
    let number = desk.get(&cookie, "/keys/new?keyspace=acme_live");
    let number = number.hidden("number");
    let pairs = [
        ("keyspace", "acme_live"),
        ("number", &*number),
        ("owner", "umbrella/x"),
        ("permission", "write"),
        ("name", "of hand"),
        ("life", "7"),
    ];
    let made = desk.post(&cookie, "/keys/new", &pairs);
    says(
        &made,
        &[
            "<bdi>of hand</bdi>",
            "umbrella/x",
            "<li><bdi>write</bdi></li>",
            "in 7 days",
            "Keep it secret",
        ],
    );
}

/// What cannot be chosen is told, and sent.
#[test]
fn where_there_is_one_choice_nothing_is_to_be_chosen() {
    let house = House::new();
    let of = |ceiling: Ceiling| house.pages("acme", ceiling.permission("read", "Read"));
    let ceiling = || Ceiling::new("acme_live".parse().unwrap());
    let never = of(ceiling().may_never_expire());
    let form = get(&never, "/settings/keys/new");
    let sent = "<input type=\"hidden\" name=\"life\" value=\"never\">";
    assert!(form.body.contains(sent), "{}", form.body);
    assert!(!form.body.contains("<select"), "{}", form.body);
    assert!(!form.body.contains("Ends after") && form.body.contains("Never expires"));
    // Nor is it offered twice in a rotation.
    let id = house.key("acme", &["read"]).key.id;
    let form = get(&never, &format!("/settings/keys/keys/{id}/rotate")).body;
    assert!(form.contains("never expires, as the old one") && !form.contains("Never expires"));
    let one = of(ceiling().lifetimes([30 * DAY]).plans(["free"]));
    let form = get(&one, "/settings/keys/new");
    let number = form.hidden("number");
    for (name, value) in [("life", "2592000"), ("plan", "free")] {
        assert_eq!(form.hidden(name), value);
    }
    let mut wish = House::wish(&number);
    wish.retain(|(name, _)| *name != "description");
    assert!(post(&one, "/settings/keys/new", &wish).shows_a_token());
}
