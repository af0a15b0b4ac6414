//! Usage, hints and metrics on the pages.

use std::time::Duration;

use gatekey::{ManualClock, Options, Quota};
use gatekey_admin::Operator;

use super::*;
use crate::Console;

fn operator(house: &House) -> Router {
    let root = Operator::with_all_rights("root");
    Console::new(house.engine.clone())
        .router()
        .layer(Extension(root))
}

/// How often each part of a chart stands on a page.
fn bars(seen: &Seen) -> (usize, usize) {
    let count = |class: &str| seen.body.matches(&format!("class=\"{class}\"")).count();
    (count("bar-granted"), count("bar-striped"))
}

/// A house whose key was used on three days, and denied on one.
fn used() -> (House, ManualClock, Issued) {
    let clock = ManualClock::at("2026-10-01T09:20:00Z".parse().unwrap());
    let engine = Options::new()
        .clock(clock.clone())
        .open_in_memory()
        .unwrap();
    let house = House::over(engine);
    let key = house.key("acme/etl", &["read"]);
    for day in 0..3_u64 {
        for _ in 0..=day {
            let verdict = house.engine.verify(key.token.expose()).unwrap();
            assert!(verdict.is_granted());
        }
        house.engine.flush().unwrap();
        clock.set(clock_after(&clock, DAY));
    }
    house.engine.disable(key.key.id).unwrap();
    assert!(
        !house
            .engine
            .verify(key.token.expose())
            .unwrap()
            .is_granted()
    );
    house.engine.enable(key.key.id).unwrap();
    house.engine.flush().unwrap();
    (house, clock, key)
}

fn clock_after(clock: &ManualClock, time: Duration) -> gatekey::Timestamp {
    use gatekey::Clock as _;
    clock.now().saturating_add(time)
}

#[test]
fn the_use_of_a_key_is_a_chart_with_a_table() {
    let (house, _, key) = used();
    let member = house.pages("acme", House::ceiling());
    let desk = operator(&house);
    let id = key.key.id;
    for (pages, at) in [
        (&member, format!("/settings/keys/keys/{id}")),
        (
            &member,
            "/settings/keys/usage?keyspace=acme_live".to_owned(),
        ),
        (&desk, format!("/keys/{id}")),
        (&desk, "/owners/one?owner=acme".to_owned()),
        (&desk, "/keyspaces/acme_live".to_owned()),
    ] {
        let seen = get(pages, &at);
        assert_eq!(seen.status, 200, "{at}");
        assert_eq!(bars(&seen), (3, 1), "{at}: {}", seen.body);
        assert!(
            seen.body.contains("6 granted") && seen.body.contains("1 denied"),
            "{at}"
        );
        assert!(seen.body.contains("Disabled: 1"), "{at}");
        assert!(
            seen.body.contains("datetime=\"2026-10-03T00:00:00Z\""),
            "{at}"
        );
        // Nothing that the policy refuses.
        assert!(
            !seen.body.contains(" style=") && !seen.body.contains("<style"),
            "{at}"
        );
    }
}

/// What a member is shown of usage is of the keys within reach, and of no others.
#[test]
fn usage_is_of_the_keys_within_reach_alone() {
    let (house, _, _) = used();
    // Of an admin sibling, of another owner, of another keyspace.
    for key in [
        house.key("acme", &["read", "admin"]),
        house.key("umbrella", &["read"]),
        house
            .engine
            .issue(NewKey::new("secret_ks", "acme").unwrap())
            .unwrap(),
    ] {
        for _ in 0..1_000 {
            let _ = house.engine.verify(key.token.expose()).unwrap();
        }
    }
    let pages = house.pages("acme", House::ceiling());
    let seen = get(&pages, "/settings/keys/usage?keyspace=acme_live");
    assert!(seen.body.contains("6 granted"), "{}", seen.body);
    assert!(!seen.body.contains("1,00"), "{}", seen.body);
    assert_eq!(
        get(&pages, "/settings/keys/usage?keyspace=secret_ks").status,
        404
    );
    assert_eq!(
        get(&pages, "/settings/keys/usage?keyspace=nothing").status,
        404
    );
}

#[test]
fn usage_is_told_by_plan_and_what_is_left_for_all_keys() {
    let house = House::new();
    let quota = gatekey::OwnerUpdate::new().quota(Quota::new(500));
    house
        .engine
        .update_owner("acme_live", "acme", quota)
        .unwrap();
    for (plan, uses) in [("free", 2), ("enterprise", 3)] {
        let new = NewKey::new("acme_live", "acme").unwrap();
        let key = house.engine.issue(new.plan(plan).name(plan)).unwrap();
        for _ in 0..uses {
            let _ = house.engine.verify(key.token.expose()).unwrap();
        }
    }
    let pages = house.pages("acme", House::ceiling());
    let seen = get(&pages, "/settings/keys/usage?keyspace=acme_live");
    assert!(seen.body.contains("495 of 500 left"), "{}", seen.body);
    let at = seen.body.find("By plan").unwrap();
    let table = seen.body[at..].split("</table>").next().unwrap();
    let row = |plan: &str| {
        let at = table.find(&format!(">{plan}<")).unwrap();
        table[at..].split("</tr>").next().unwrap().to_owned()
    };
    assert!(
        row("free").contains(">2<") && row("enterprise").contains(">3<"),
        "{table}"
    );
}

#[test]
fn hints_are_shown_of_a_key_and_of_all() {
    let house = House::new();
    let key = house.key("acme", &["read"]);
    let quiet = house.key("acme", &["read"]);
    let desk = operator(&house);
    assert!(get(&desk, "/hints").body.contains("There is no hint."));
    house
        .engine
        .revoke(key.key.id, gatekey::Reason::KeyCompromise)
        .unwrap();
    let _ = house.engine.verify(key.token.expose()).unwrap();
    let seen = get(&desk, "/hints");
    assert!(
        seen.body.contains("Tries today and yesterday: 1"),
        "{}",
        seen.body
    );
    assert!(!seen.body.contains(&quiet.key.id.to_string()));
    let seen = get(&desk, &format!("/keys/{}", key.key.id));
    assert!(seen.body.contains("Look at this key") && seen.body.contains("still tried"));
    let seen = get(&desk, &format!("/keys/{}", quiet.key.id));
    assert!(!seen.body.contains("Look at this key"));
    assert_eq!(get(&desk, "/hints?after=x").status, 400);
    // Each rule has a sentence.
    for rule in gatekey::HintRule::ALL {
        let name = format!("hint.{}", rule.code());
        assert_ne!(crate::Texts::english().get(&name), name);
    }
    for outcome in gatekey::Outcome::ALL.into_iter().skip(1) {
        let name = format!("outcome.{}", outcome.code());
        assert_ne!(crate::Texts::english().get(&name), name);
    }
}

/// The minute of a use began before the key was made, most often.
#[test]
fn a_key_that_was_used_just_now_says_so() {
    let at = "2026-11-26T13:40:59.250Z".parse().unwrap();
    let options = Options::new().clock(ManualClock::at(at));
    let house = House::over(options.open_in_memory().unwrap());
    let key = house.key("acme", &["read"]);
    let _ = house.engine.verify(key.token.expose()).unwrap();
    let pages = house.pages("acme", House::ceiling());
    let page = get(&pages, &format!("/settings/keys/keys/{}", key.key.id)).body;
    // Of its making, of its use, and in its history.
    assert_eq!(page.matches("just now").count(), 3, "{page}");
}

/// In the order in which a person should look.
#[test]
fn the_hints_that_matter_most_come_first() {
    let house = House::new();
    let used = |key: &Issued, times: usize| {
        for _ in 0..times {
            let _ = house.engine.verify(key.token.expose()).unwrap();
        }
    };
    let [old, once, thrice] = std::array::from_fn(|_| house.key("acme", &["read"]));
    let rotation = gatekey::Rotation::with_grace(DAY);
    house.engine.rotate(old.key.id, rotation).unwrap();
    used(&old, 9);
    for (key, times) in [(&once, 1), (&thrice, 3)] {
        let leaked = gatekey::Reason::KeyCompromise;
        house.engine.revoke(key.key.id, leaked).unwrap();
        used(key, times);
    }
    let seen = get(&operator(&house), "/hints").body;
    let at = |key: &Issued| seen.find(&format!("/keys/{}\"", key.key.id));
    let order = [&thrice, &once, &old].map(at);
    assert!(
        order.iter().all(Option::is_some) && order.is_sorted(),
        "{seen}"
    );
}

/// Keys that nobody uses may be many: they are a list of their own.
#[test]
fn hints_that_wait_for_no_one_stand_apart() {
    let clock = ManualClock::at("2026-01-01T12:00:00Z".parse().unwrap());
    let house = House::over(
        Options::new()
            .clock(clock.clone())
            .open_in_memory()
            .unwrap(),
    );
    let unused: Vec<Issued> = (0..120).map(|_| house.key("acme", &["read"])).collect();
    clock.advance(91 * DAY);
    let tried = house.key("acme", &["read"]);
    house
        .engine
        .revoke(tried.key.id, gatekey::Reason::KeyCompromise)
        .unwrap();
    let _ = house.engine.verify(tried.token.expose()).unwrap();
    let desk = operator(&house);
    let of = |id: gatekey::KeyId| format!("/keys/{id}\"");
    // All pages of a list, one behind the other.
    let all = |first: &str| {
        let (mut all, mut at) = (String::new(), first.to_owned());
        loop {
            let page = get(&desk, &at).body;
            let next = page.split("rel=\"next\" href=\"").nth(1);
            let next = next.map(|next| next.split('"').next().unwrap().replace("&#38;", "&"));
            all.push_str(&page);
            match next {
                Some(next) => at = next,
                None => return all,
            }
        }
    };
    let (hints, apart) = (all("/hints"), all("/hints?of=unused"));
    assert!(hints.contains(&of(tried.key.id)) && !apart.contains(&of(tried.key.id)));
    for key in &unused {
        assert!(apart.contains(&of(key.key.id)) && !hints.contains(&of(key.key.id)));
    }
    assert!(hints.contains("href=\"/hints?of=unused\""), "{hints}");
}

/// The order is that of a page: where there are more, it says so.
#[test]
fn a_page_of_hints_says_that_it_is_not_of_all_keys() {
    let house = House::new();
    let keys: Vec<Issued> = (0..60).map(|_| house.key("acme", &["read"])).collect();
    for key in [&keys[0], &keys[59]] {
        house
            .engine
            .revoke(key.key.id, gatekey::Reason::KeyCompromise)
            .unwrap();
        let _ = house.engine.verify(key.token.expose()).unwrap();
    }
    let desk = operator(&house);
    let part = "Not all keys were looked at";
    let first = get(&desk, "/hints").body;
    assert!(
        first.contains(part) && first.contains("about 50 keys at most"),
        "{first}"
    );
    let next = first.split("rel=\"next\" href=\"").nth(1).unwrap();
    let second = get(&desk, next.split('"').next().unwrap()).body;
    assert!(
        second.contains(part) && !second.contains("rel=\"next\""),
        "{second}"
    );
    let few = House::new();
    assert!(!get(&operator(&few), "/hints").body.contains(part));
}

#[test]
fn a_hint_of_a_new_network_names_it() {
    let clock = ManualClock::at("2026-01-01T12:00:00Z".parse().unwrap());
    let options = Options::new().note_networks(true);
    let engine = options.clock(clock.clone()).open_in_memory().unwrap();
    let house = House::over(engine);
    let key = house.key("acme", &["read"]);
    for address in ["192.0.2.1", "198.51.100.7"] {
        let from = gatekey::Requirements::new().source(address.parse().unwrap());
        let verdict = house.engine.verify_with(key.token.expose(), &from).unwrap();
        assert!(verdict.is_granted());
        if address == "192.0.2.1" {
            clock.advance(8 * DAY);
        }
    }
    let desk = operator(&house);
    for path in ["/hints".to_owned(), format!("/keys/{}", key.key.id)] {
        let seen = get(&desk, &path).body;
        assert!(seen.contains("the network 198.51.100.0/24"), "{seen}");
        assert!(!seen.contains("192.0.2.0/24"), "{seen}");
    }
}

#[test]
fn metrics_are_charts_by_keyspace_and_bars_of_times() {
    let house = House::new();
    let key = house.key("acme", &["read"]);
    for _ in 0..3 {
        let _ = house.engine.verify(key.token.expose()).unwrap();
    }
    let _ = house.engine.verify("not a token").unwrap();
    let seen = get(&operator(&house), "/metrics");
    assert_eq!(seen.status, 200);
    assert_eq!(bars(&seen), (1, 1), "{}", seen.body);
    assert!(seen.body.contains("acme_live: the last 48 hours"));
    assert!(seen.body.contains("No token: 1"));
    assert!(seen.body.contains("up to "), "no time was shown");
    // No id stands twice: the charts have patterns of their own.
    let ids: Vec<&str> = seen
        .body
        .split(" id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let unique: std::collections::BTreeSet<&&str> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
}
