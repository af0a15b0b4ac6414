//! Inspecting and listing keys.

mod pages;

use std::collections::BTreeMap;
use std::time::Duration;

use gatekey::{
    Cursor, Error, Expiry, Issued, Key, KeyFilter, KeyId, KeyState, KeyUpdate, NewKey, NotFound,
    Reason, Rotation,
};

use crate::common::{DAY, Store, at, everywhere};
use crate::issue::DAY_MS;

const STATES: [KeyState; 7] = [
    KeyState::Revoked,
    KeyState::Suspended,
    KeyState::Disabled,
    KeyState::NotYetValid,
    KeyState::Expired,
    KeyState::Retiring,
    KeyState::Active,
];

/// All keys that a filter asks for, page by page, with what happens between.
fn walk(store: &Store, filter: &KeyFilter, limit: usize, mut between: impl FnMut()) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let page = store
            .engine
            .keys_page(filter, cursor.as_ref(), limit)
            .unwrap();
        assert!(page.keys.len() <= limit);
        keys.extend(page.keys);
        match page.next {
            // As text, as a client would hold it.
            Some(next) => cursor = Some(next.to_string().parse().unwrap()),
            None => return keys,
        }
        between();
    }
}

fn names(store: &Store, filter: &KeyFilter) -> Vec<String> {
    let keys = walk(store, filter, 2, || {});
    keys.into_iter()
        .map(|key| key.name.unwrap_or_default())
        .collect()
}

fn named(store: &Store, prefix: &str, owner: &str, name: &str) -> Issued {
    // A millisecond each, so that their age is their order.
    store.clock.advance(Duration::from_millis(1));
    let new = NewKey::new(prefix, owner).unwrap().name(name);
    store.engine.issue(new).unwrap()
}

#[test]
fn a_filter_asks_for_a_keyspace_an_owner_or_all_below_it() {
    everywhere(|store| {
        store.keyspace("live");
        store.keyspace("test");
        for (prefix, owner, name) in [
            ("live", "acme/in", "1"),
            ("test", "acme", "2"),
            ("live", "acme", "3"),
            ("live", "acme/ingest", "4"),
            ("live", "acme/in/bot", "5"),
            ("test", "acme/in", "6"),
            ("live", "acme-corp", "7"),
            ("live", "acm", "8"),
            ("live", "acme", "9"),
        ] {
            named(store, prefix, owner, name);
        }
        store.reopen();
        let all = KeyFilter::new();
        let live = all.clone().keyspace("live".parse().unwrap());
        let owner = |path: &str| KeyFilter::new().owner(path.parse().unwrap());
        let below = |path: &str| KeyFilter::new().owner_and_below(path.parse().unwrap());
        assert_eq!(
            names(store, &all),
            ["1", "2", "3", "4", "5", "6", "7", "8", "9"]
        );
        assert_eq!(names(store, &live), ["1", "3", "4", "5", "7", "8", "9"]);
        assert_eq!(names(store, &owner("acme")), ["3", "9", "2"]);
        assert_eq!(names(store, &owner("acme/in")), ["1", "6"]);
        assert_eq!(names(store, &owner("acme/i")), [""; 0]);
        let mut reached = names(store, &below("acme"));
        reached.sort_unstable();
        assert_eq!(reached, ["1", "2", "3", "4", "5", "6", "9"]);
        assert_eq!(names(store, &below("acme/in")), ["1", "6", "5"]);
        let test = below("acme").keyspace("test".parse().unwrap());
        assert_eq!(names(store, &test), ["2", "6"]);
    });
}

/// A key in each state, under its state's name.
fn one_of_each(store: &Store) -> BTreeMap<String, Issued> {
    let engine = &store.engine;
    store.keyspace("acme");
    let key = |state: KeyState, life: fn(NewKey) -> NewKey| {
        let name = state.to_string();
        let owner = format!("acme/{}", name.replace(' ', "-"));
        let new = NewKey::new("acme", owner).unwrap().name(&name);
        (name, engine.issue(life(new)).unwrap())
    };
    let same = |new: NewKey| new;
    let keys = [
        key(KeyState::Revoked, same),
        key(KeyState::Suspended, same),
        key(KeyState::Disabled, same),
        key(KeyState::NotYetValid, |new| new.not_before(at(50 * DAY_MS))),
        key(KeyState::Expired, |new| new.expires_in(DAY)),
        key(KeyState::Retiring, same),
        key(KeyState::Active, same),
    ];
    engine.revoke(keys[0].1.key.id, Reason::Cessation).unwrap();
    engine.suspend("acme/suspended", None).unwrap();
    engine.disable(keys[2].1.key.id).unwrap();
    let rotation = Rotation::with_grace(DAY * 30).changing(KeyUpdate::new().name("active"));
    engine.rotate(keys[5].1.key.id, rotation).unwrap();
    store.clock.advance(DAY);
    keys.into()
}

#[test]
fn a_filter_asks_for_a_state_at_the_instant_of_the_answer() {
    everywhere(|store| {
        let keys = one_of_each(store);
        assert_eq!(keys.len(), STATES.len());
        let found = |state| names(store, &KeyFilter::new().state(state));
        for state in STATES {
            let count = if state == KeyState::Active { 2 } else { 1 };
            assert_eq!(found(state), vec![state.to_string(); count], "{state}");
        }
        let counts = store.engine.stats().unwrap().keyspaces[&"acme".parse().unwrap()];
        assert_eq!((counts.active, counts.total()), (2, 8));
        for count in [
            counts.revoked,
            counts.suspended,
            counts.disabled,
            counts.not_yet_valid,
            counts.expired,
            counts.retiring,
        ] {
            assert_eq!(count, 1, "{counts:?}");
        }

        // Time alone moves them on.
        store.clock.advance(DAY * 29);
        assert_eq!(found(KeyState::Retiring), [""; 0]);
        let mut revoked = found(KeyState::Revoked);
        revoked.sort_unstable();
        assert_eq!(revoked, ["retiring", "revoked"]);
        store.clock.advance(DAY * 20);
        assert_eq!(found(KeyState::NotYetValid), [""; 0]);
        assert_eq!(found(KeyState::Active).len(), 3);
    });
}

/// A key is in one state, and what else is true of it is asked for beside: everything
/// falls in one of two lists.
#[test]
fn what_is_over_by_expiry_is_found_whatever_else_it_is() {
    everywhere(|store| {
        let engine = &store.engine;
        store.keyspace("acme");
        let issue = |name: &str, days: u32| {
            let owner = format!("acme/{name}");
            let new = NewKey::new("acme", owner).unwrap().name(name);
            engine.issue(new.expires_in(DAY * days)).unwrap().key.id
        };
        let ids = ["plain", "disabled", "suspended", "both", "revoked"].map(|name| issue(name, 1));
        let good = ["late", "late-disabled", "late-suspended"].map(|name| issue(name, 9));
        for id in [ids[1], ids[3], good[1]] {
            engine.disable(id).unwrap();
        }
        for owner in ["acme/suspended", "acme/both", "acme/late-suspended"] {
            engine.suspend(owner, None).unwrap();
        }
        engine.revoke(ids[4], Reason::Cessation).unwrap();
        let found = |filter: KeyFilter| {
            let mut names = names(store, &filter);
            names.sort_unstable();
            names
        };
        assert_eq!(found(KeyFilter::new().expired(true)), [""; 0]);
        store.clock.advance(DAY);

        let over = ["both", "disabled", "plain", "suspended"];
        let not_over = ["late", "late-disabled", "late-suspended", "revoked"];
        assert_eq!(found(KeyFilter::new().expired(true)), over);
        assert_eq!(found(KeyFilter::new().expired(false)), not_over);
        assert_eq!(found(KeyFilter::new().state(KeyState::Expired)), ["plain"]);
        let disabled = ["both", "disabled", "late-disabled"];
        assert_eq!(found(KeyFilter::new().disabled(true)), disabled);
        let suspended = ["both", "late-suspended", "suspended"];
        assert_eq!(found(KeyFilter::new().suspended(true)), suspended);
        let both = KeyFilter::new().disabled(true).expired(false);
        assert_eq!(found(both), ["late-disabled"]);
        let all = KeyFilter::new;
        for pair in [
            [all().disabled(true), all().disabled(false)],
            [all().suspended(true), all().suspended(false)],
            [all().expired(true), all().expired(false)],
        ] {
            assert_eq!(
                pair.map(|filter| found(filter).len()).iter().sum::<usize>(),
                8
            );
        }
        let by_state: usize = STATES
            .map(|state| found(all().state(state)).len())
            .iter()
            .sum();
        assert_eq!(by_state, 8);

        let both = engine.key(ids[3]).unwrap();
        assert_eq!(both.state, KeyState::Suspended);
        assert!(both.suspended && both.disabled && both.expired);
        let revoked = engine.key(ids[4]).unwrap();
        assert!(!revoked.suspended && !revoked.disabled && !revoked.expired);

        let counts = engine.stats().unwrap().keyspaces[&"acme".parse().unwrap()];
        assert_eq!((counts.expired, counts.over_by_expiry), (1, 4));
        assert_eq!((counts.revoked, counts.total()), (1, 8));
        // Purge takes what is over, whatever else it is.
        store.clock.advance(Duration::from_millis(1));
        assert_eq!(
            engine.purge(Duration::ZERO).unwrap().keys,
            counts.over_by_expiry + counts.revoked
        );
    });
}

#[test]
fn a_key_is_inspected_in_every_state_and_never_shows_its_digest_or_secret() {
    everywhere(|store| {
        for (name, issued) in one_of_each(store) {
            let key = store.engine.key(issued.key.id).unwrap();
            assert_eq!(key.state.to_string(), name);
            assert_eq!(key.name, Some(name));
            let token = issued.token.expose();
            assert!(!format!("{key:?}").contains(&token[token.len() - 49..][..12]));
        }
        let unknown: KeyId = "zzzzzzzzz0".parse().unwrap();
        assert!(matches!(
            store.engine.key(unknown),
            Err(Error::NotFound(NotFound::Key(id))) if id == unknown
        ));
    });
}

#[test]
fn a_filter_asks_for_labels_with_or_without_their_value() {
    everywhere(|store| {
        store.keyspace("acme");
        let label = |name: &str, labels: &[(&str, &str)]| {
            let id = named(store, "acme", "acme", name).key.id;
            let change = labels.iter().fold(KeyUpdate::new(), |all, (name, value)| {
                all.label(*name, *value)
            });
            store.engine.update(id, change).unwrap();
            id
        };
        let first = label("1", &[("env", "prod")]);
        label("2", &[("env", "test"), ("team", "etl")]);
        label("3", &[("env", "prod"), ("team", "web")]);
        label("4", &[("team", "")]);
        label("5", &[]);
        let all = KeyFilter::new;
        assert_eq!(names(store, &all().has_label("env")), ["1", "2", "3"]);
        assert_eq!(names(store, &all().label("env", "prod")), ["1", "3"]);
        let both = all().label("env", "prod").has_label("team");
        assert_eq!(names(store, &both), ["3"]);
        assert_eq!(names(store, &all().label("team", "")), ["4"]);
        assert_eq!(names(store, &all().has_label("tea")), [""; 0]);
        let never = all().label("env", "prod").label("env", "test");
        assert_eq!(names(store, &never), [""; 0]);
        store
            .engine
            .update(first, KeyUpdate::new().remove_label("env"))
            .unwrap();
        assert_eq!(names(store, &all().label("env", "prod")), ["3"]);
    });
}

#[test]
fn a_filter_asks_for_what_ends_within_a_time() {
    everywhere(|store| {
        store.keyspace("acme");
        store.keyspace("other");
        let ends = |prefix: &str, owner: &str, name: &str, expiry| {
            let new = NewKey::new(prefix, owner).unwrap().name(name);
            store.engine.issue(new.expiry(expiry)).unwrap().key.id
        };
        let day = |days: u64| Expiry::At(at(days * DAY_MS));
        ends("acme", "a", "9 days", day(9));
        ends("acme", "a", "3 days", day(3));
        ends("other", "b", "5 days", day(5));
        ends("acme", "a", "never", Expiry::Never);
        let over = ends("acme", "a", "revoked", day(4));
        store.engine.revoke(over, Reason::Cessation).unwrap();
        let off = ends("acme", "a", "disabled", day(6));
        store.engine.disable(off).unwrap();
        // Its grace ends before it expires.
        let old = ends("acme", "a", "retiring", day(8));
        let grace = Rotation::with_grace(DAY * 2)
            .changing(KeyUpdate::new().name("new").expiry(Expiry::Never));
        store.engine.rotate(old, grace).unwrap();

        let within = |days: u32| KeyFilter::new().expires_within(DAY * days);
        let early = ["retiring", "3 days", "5 days", "disabled"];
        assert_eq!(names(store, &within(1)), [""; 0]);
        assert_eq!(names(store, &within(2)), early[..1]);
        assert_eq!(names(store, &within(7)), early);
        let all = [&early[..], &["9 days"]].concat();
        assert_eq!(names(store, &within(9)), all);
        assert_eq!(
            names(store, &KeyFilter::new().expires_within(Duration::MAX)),
            all
        );
        let other = within(7).keyspace("other".parse().unwrap());
        assert_eq!(names(store, &other), ["5 days"]);
        let owned = within(7).owner("b".parse().unwrap());
        assert_eq!(names(store, &owned), ["5 days"]);
        let active = within(9).state(KeyState::Active);
        assert_eq!(names(store, &active), ["3 days", "5 days", "9 days"]);

        store.clock.set(at(3 * DAY_MS));
        assert_eq!(names(store, &within(2)), ["5 days"]);
        assert_eq!(names(store, &within(9)), ["5 days", "disabled", "9 days"]);
    });
}
