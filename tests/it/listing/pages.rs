//! Pages and cursors.

use std::time::Duration;

use gatekey::{Cursor, Error, Invalid, KeyFilter, KeyUpdate, NewKey, NotFound, Reason, bounds};

use super::{named, walk};
use crate::common::{DAY, Store, everywhere};

#[test]
fn pages_neither_repeat_nor_skip_a_key_while_keys_change() {
    everywhere(|store| {
        store.keyspace("acme");
        let filters = [
            KeyFilter::new().has_label("stays"),
            KeyFilter::new()
                .keyspace("acme".parse().unwrap())
                .has_label("stays"),
            KeyFilter::new()
                .owner("u/1".parse().unwrap())
                .has_label("stays"),
            KeyFilter::new()
                .owner_and_below("u".parse().unwrap())
                .has_label("stays"),
            KeyFilter::new().expires_within(DAY * 9).has_label("stays"),
        ];
        let new = |at: u32| {
            NewKey::new("acme", if at % 3 == 2 { "u/2" } else { "u/1" })
                .unwrap()
                .expires_in(DAY * (1 + at % 5))
        };
        for filter in &filters {
            let before = |store: &Store| walk(store, filter, 1000, || {});
            store
                .engine
                .revoke_keyspace("acme", Reason::Cessation)
                .unwrap();
            store.clock.advance(Duration::from_millis(1));
            store.engine.purge(Duration::ZERO).unwrap();
            assert_eq!(before(store), []);

            let batch = (0..30).flat_map(|at| [new(at).label("stays", ""), new(at)]);
            let issued = store.engine.issue_batch(batch.collect()).unwrap();
            let mut passing: Vec<_> = issued
                .iter()
                .skip(1)
                .step_by(2)
                .map(|issued| issued.key.id)
                .collect();
            let staying: Vec<_> = before(store).into_iter().map(|key| key.id).collect();
            assert!(staying.len() >= 20, "{filter:?}");
            let mut turn = 0;
            let walked = walk(store, filter, 4, || {
                turn += 1;
                store.clock.advance(Duration::from_millis(1));
                // Keys come and go on both sides of the cursor, and those that
                // stay change.
                store.issue("acme", "u/1");
                let last = passing.pop().unwrap();
                store.engine.revoke(last, Reason::Cessation).unwrap();
                store
                    .engine
                    .revoke(passing.remove(0), Reason::Cessation)
                    .unwrap();
                store.engine.purge(Duration::ZERO).unwrap();
                let changed = staying[turn * 7 % staying.len()];
                let name = format!("turn {turn}");
                store
                    .engine
                    .update(changed, KeyUpdate::new().name(name.as_str()))
                    .unwrap();
                store.engine.disable(staying[turn]).unwrap();
            });
            let walked: Vec<_> = walked.into_iter().map(|key| key.id).collect();
            assert_eq!(walked, staying, "{filter:?}");
            assert!(turn >= 4, "{filter:?}");
        }
    });
}

#[test]
fn a_cursor_is_good_after_a_reopen_and_where_its_key_is_gone() {
    everywhere(|store| {
        store.keyspace("acme");
        let ids: Vec<_> = ["1", "2", "3", "4", "5"]
            .map(|name| named(store, "acme", "acme", name).key.id)
            .into();
        let filter = KeyFilter::new().owner("acme".parse().unwrap());
        let page = store.engine.keys_page(&filter, None, 3).unwrap();
        let cursor = page.next.unwrap().to_string();
        store.engine.revoke(ids[2], Reason::Cessation).unwrap();
        store.clock.advance(DAY);
        assert_eq!(store.engine.purge(Duration::ZERO).unwrap().keys, 1);
        store.reopen();
        let cursor = cursor.parse().unwrap();
        let rest = store.engine.keys_page(&filter, Some(&cursor), 3).unwrap();
        assert!(rest.keys.iter().map(|key| key.id).eq(ids[3..].to_vec()));
        assert_eq!(rest.next, None);
    });
}

#[test]
fn a_cursor_of_another_listing_is_refused() {
    everywhere(|store| {
        store.keyspace("acme");
        let new = || NewKey::new("acme", "acme").unwrap().expires_in(DAY);
        for _ in 0..3 {
            store.engine.issue(new()).unwrap();
        }
        let filters = [
            KeyFilter::new(),
            KeyFilter::new().keyspace("acme".parse().unwrap()),
            KeyFilter::new().owner("acme".parse().unwrap()),
            KeyFilter::new().expires_within(DAY),
        ];
        let cursors = filters.each_ref().map(|filter| {
            let page = store.engine.keys_page(filter, None, 1).unwrap();
            page.next.unwrap()
        });
        for (at, filter) in filters.iter().enumerate() {
            for (of, cursor) in cursors.iter().enumerate() {
                let page = store.engine.keys_page(filter, Some(cursor), 1);
                match page {
                    Ok(page) => assert_eq!((at, page.keys.len()), (of, 1)),
                    Err(Error::Invalid(Invalid::Malformed(gatekey::ParseError {
                        what: "cursor",
                        ..
                    }))) => {
                        assert_ne!(at, of);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        let elsewhere = KeyFilter::new().owner("acme2".parse().unwrap());
        let refused = store.engine.keys_page(&elsewhere, Some(&cursors[2]), 1);
        assert!(matches!(
            refused,
            Err(Error::Invalid(Invalid::Malformed(gatekey::ParseError {
                what: "cursor",
                ..
            })))
        ));
        for short in ["i", "i00", "k00", "e0000000000000000"] {
            let cursor: Cursor = short.parse().unwrap();
            let filter = &filters["ik.e".find(&short[..1]).unwrap()];
            let refused = store.engine.keys_page(filter, Some(&cursor), 1);
            assert!(
                matches!(
                    refused,
                    Err(Error::Invalid(Invalid::Malformed(gatekey::ParseError {
                        what: "cursor",
                        ..
                    })))
                ),
                "{short}"
            );
        }
    });
}

#[test]
fn a_page_holds_1_to_1000_keys_and_a_keyspace_must_exist() {
    let store = Store::new(0, false);
    let list = |filter: &KeyFilter, limit| store.engine.keys_page(filter, None, limit);
    let all = KeyFilter::new();
    assert!(matches!(
        list(&all, 0),
        Err(Error::Invalid(Invalid::Malformed(gatekey::ParseError {
            what: "limit",
            ..
        })))
    ));
    assert!(matches!(
        list(&all, bounds::PAGE_MAX + 1),
        Err(Error::Invalid(Invalid::TooMany {
            count: 1001,
            max: 1000,
            ..
        }))
    ));
    let empty = list(&all, bounds::PAGE_MAX).unwrap();
    assert_eq!((empty.keys.len(), empty.next), (0, None));
    let nowhere = all.keyspace("acme".parse().unwrap());
    assert!(matches!(
        list(&nowhere, 1),
        Err(Error::NotFound(NotFound::Keyspace(_)))
    ));
}

#[test]
fn a_filter_by_a_keyspace_that_does_not_exist_fails_in_every_order() {
    let store = Store::new(0, false);
    store.keyspace("acme");
    store.issue("acme", "acme");
    let nowhere = || KeyFilter::new().keyspace("none".parse().unwrap());
    for filter in [
        nowhere(),
        nowhere().owner("acme".parse().unwrap()),
        nowhere().expires_within(DAY),
    ] {
        let page = store.engine.keys_page(&filter, None, 1);
        assert!(
            matches!(page, Err(Error::NotFound(NotFound::Keyspace(_)))),
            "{filter:?}: {page:?}"
        );
    }
}

#[test]
fn an_iterator_gives_every_key_of_many_pages() {
    let store = Store::new(4096, true);
    store.keyspace("acme");
    let batch = (0..2_000).map(|at| NewKey::new("acme", format!("u/{}", at % 3)).unwrap());
    let issued = store.engine.issue_batch(batch.collect()).unwrap();
    let mut ids: Vec<_> = issued.iter().map(|issued| issued.key.id).collect();
    ids.sort_unstable();
    let given = |filter| -> Vec<_> {
        store
            .engine
            .keys(filter)
            .map(|key| key.unwrap().id)
            .collect()
    };
    assert_eq!(given(KeyFilter::new()), ids);
    assert_eq!(
        given(KeyFilter::new().owner("u/1".parse().unwrap())).len(),
        667
    );
    let nowhere = KeyFilter::new().keyspace("none".parse().unwrap());
    let mut failed = store.engine.keys(nowhere);
    assert!(matches!(failed.next(), Some(Err(Error::NotFound(_)))));
    assert!(failed.next().is_none());
}

/// A page that may look at so many keys alone leads on from where it looked last: pages
/// together have what one page has, in its order, and none is empty for ever.
#[test]
fn pages_that_look_at_few_keys_lead_to_all_of_them() {
    everywhere(|store| {
        store.keyspace("acme");
        let new = |at: u32| {
            let owner = if at % 3 == 2 { "u/2" } else { "u/1" };
            let new = NewKey::new("acme", owner).unwrap();
            let new = new.expires_in(DAY * (1 + at % 5));
            if at % 7 == 3 {
                new.label("rare", "")
            } else {
                new
            }
        };
        let issued = store.engine.issue_batch((0..40).map(new).collect());
        assert_eq!(issued.unwrap().len(), 40);
        for filter in [
            KeyFilter::new(),
            KeyFilter::new().keyspace("acme".parse().unwrap()),
            KeyFilter::new().owner_and_below("u".parse().unwrap()),
            KeyFilter::new().expires_within(DAY * 9),
        ] {
            let filter = filter.has_label("rare");
            let all = walk(store, &filter, 1_000, || {});
            assert_eq!(all.len(), 6, "{filter:?}");
            for (looked_at, pages) in [(1, 41), (13, 4), (39, 2), (41, 1)] {
                let filter = filter.clone().looking_at_most(looked_at);
                let mut turns = 1;
                assert_eq!(walk(store, &filter, 1_000, || turns += 1), all);
                assert_eq!(turns, pages, "{filter:?}");
            }
            // None at all would lead nowhere: one is looked at.
            let filter = filter.looking_at_most(0);
            assert_eq!(walk(store, &filter, 1_000, || {}), all);
            // From the end on: the same, the other way around.
            let filter = filter.newest_first();
            let turned: Vec<_> = all.iter().rev().cloned().collect();
            for limit in [1, 1_000] {
                assert_eq!(walk(store, &filter, limit, || {}), turned, "{filter:?}");
            }
        }
    });
}
