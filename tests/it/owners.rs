//! Suspending owners: at once, all below, and nobody beside.

use std::sync::atomic::{AtomicBool, Ordering};

use gatekey::{
    AuditEvent, Denial, Error, Invalid, Issued, KeyState, KeysPerOwner, NewKey, OwnerPath, Reason,
    bounds,
};

use crate::audit::{assert_unwritten, last_event};
use crate::common::{DAY, Store, at, everywhere};
use crate::issue::{DAY_MS, limited, unused};

fn path(text: &str) -> OwnerPath {
    text.parse().unwrap()
}

/// The path that a key's denial says is suspended; `None` where it is granted.
fn suspended_with(store: &Store, issued: &Issued) -> Option<String> {
    match store.verdict(issued.token.expose()) {
        "granted" => None,
        _ => match store.denial(issued.token.expose()) {
            Denial::Suspended { key, owner } => {
                assert_eq!(key, issued.key.id);
                Some(owner.to_string())
            }
            denial => panic!("{denial}"),
        },
    }
}

#[test]
fn a_suspension_reaches_all_below_segment_by_segment_and_nobody_else() {
    everywhere(|store| {
        store.keyspace("acme");
        limited(store, "single", KeysPerOwner::SingleSuperseding);
        let below: Vec<_> = ["john", "john/laptop", "john/laptop/a/b/c/d/e/f", "john/!"]
            .into_iter()
            .flat_map(|owner| ["acme", "single"].map(|prefix| store.issue(prefix, owner)))
            .collect();
        let beside: Vec<_> = [
            "johnny",
            "johnny/john",
            "joh",
            "john.doe",
            "john-x/a",
            "John",
            "a/john",
        ]
        .map(|owner| store.issue("acme", owner))
        .into();
        let told = |store: &Store| -> Vec<_> {
            below
                .iter()
                .map(|issued| suspended_with(store, issued))
                .collect()
        };
        assert_eq!(told(store), vec![None; 8]);
        let state = store.engine.suspend("john", None).unwrap();
        assert!(state.is_suspended());
        for reopened in [false, true] {
            if reopened && !store.reopen() {
                break;
            }
            assert_eq!(told(store), vec![Some("john".to_owned()); 8]);
            for issued in &below {
                let key = store.engine.key(issued.key.id).unwrap();
                assert_eq!(key.state, KeyState::Suspended);
            }
            for issued in &beside {
                assert_eq!(store.verdict(issued.token.expose()), "granted");
                assert!(
                    !store
                        .engine
                        .owner(&issued.key.owner)
                        .unwrap()
                        .is_suspended()
                );
            }
        }
        store.engine.resume("john").unwrap();
        assert_eq!(told(store), vec![None; 8]);
        store.reopen();
        assert_eq!(told(store), vec![None; 8]);
        for issued in &below {
            assert_eq!(unused(store.engine.key(issued.key.id).unwrap()), issued.key);
        }
    });
}

#[test]
fn an_owners_state_says_since_when_by_whom_and_why() {
    everywhere(|store| {
        // An owner need not have keys.
        let free = store.engine.owner("acme/ingest").unwrap();
        assert_eq!(free.owner, path("acme/ingest"));
        assert_eq!((&free.suspended, &free.suspended_above), (&None, &None));
        assert!(!free.is_suspended());

        store.clock.advance(DAY);
        let ops = store.engine.acting_as("ops").unwrap();
        let state = ops.suspend("acme/ingest", Some("unpaid")).unwrap();
        let suspension = state.suspended.clone().unwrap();
        assert_eq!(suspension.at, at(DAY_MS));
        assert_eq!(suspension.by.as_deref(), Some("ops"));
        assert_eq!(suspension.note.as_deref(), Some("unpaid"));
        assert_eq!(state.suspended_above, None);
        drop(ops);
        store.reopen();
        assert_eq!(store.engine.owner("acme/ingest").unwrap(), state);

        store.engine.suspend("acme", None).unwrap();
        let both = store.engine.owner("acme/ingest").unwrap();
        assert_eq!(both.suspended, Some(suspension));
        assert_eq!(both.suspended_above, Some(path("acme")));
        let below = store.engine.owner("acme/ingest/bot/x").unwrap();
        assert!(below.is_suspended() && below.suspended.is_none());
        assert_eq!(below.suspended_above, Some(path("acme")));
        assert!(!store.engine.owner("acm").unwrap().is_suspended());
        assert!(!store.engine.owner("acme2").unwrap().is_suspended());
    });
}

#[test]
fn suspending_or_resuming_again_changes_and_writes_nothing() {
    everywhere(|store| {
        store.keyspace("acme");
        let issued = store.issue("acme", "acme/bot");
        let engine = &store.engine;
        let free = assert_unwritten(engine, || engine.resume("acme").unwrap());
        assert!(!free.is_suspended());
        let first = engine.suspend("acme", Some("first")).unwrap();
        store.clock.advance(DAY);
        let again = assert_unwritten(engine, || engine.suspend("acme", Some("second")).unwrap());
        assert_eq!(again, first);
        // Not suspended by itself, so that there is nothing to lift.
        let below = assert_unwritten(engine, || engine.resume("acme/bot").unwrap());
        assert_eq!(below.suspended_above, Some(path("acme")));
        assert_eq!(suspended_with(store, &issued).as_deref(), Some("acme"));
    });
}

#[test]
fn suspensions_at_several_heights_are_lifted_one_by_one() {
    everywhere(|store| {
        store.keyspace("acme");
        let deepest = "a/b/c/d/e/f/g/h";
        let issued = store.issue("acme", deepest);
        let heights: Vec<_> = deepest
            .match_indices('/')
            .map(|(at, _)| &deepest[..at])
            .chain([deepest])
            .collect();
        assert_eq!(heights.len(), OwnerPath::DEPTH_MAX);
        for height in heights.iter().rev() {
            store.engine.suspend(*height, None).unwrap();
            assert_eq!(suspended_with(store, &issued).as_deref(), Some(*height));
        }
        // What is suspended by itself stays so when what is above is resumed.
        for (at, height) in heights.iter().enumerate() {
            assert_eq!(suspended_with(store, &issued).as_deref(), Some(*height));
            store.engine.resume(*height).unwrap();
            let left = heights.get(at + 1).copied();
            assert_eq!(suspended_with(store, &issued).as_deref(), left);
        }
        assert_eq!(unused(store.engine.key(issued.key.id).unwrap()), issued.key);
    });
}

#[test]
fn keys_issued_below_a_suspended_owner_are_suspended_until_it_is_resumed() {
    everywhere(|store| {
        store.keyspace("acme");
        store.engine.suspend("acme/ingest", None).unwrap();
        store.reopen();
        let inside = store.issue("acme", "acme/ingest/bot");
        let exact = store.issue("acme", "acme/ingest");
        let beside = store.issue("acme", "acme/ing");
        assert_eq!(inside.key.state, KeyState::Suspended);
        assert_eq!(beside.key.state, KeyState::Active);
        let batch = [
            "acme/ingest/bot",
            "acme",
            "acme/ingest/x",
            "acme/ingest/bot",
        ]
        .map(|owner| NewKey::new("acme", owner).unwrap());
        let batch = store.engine.issue_batch(batch.into()).unwrap();
        let all = |store: &Store| -> Vec<_> {
            [&inside, &exact, &beside]
                .into_iter()
                .chain(&batch)
                .map(|issued| store.verdict(issued.token.expose()) == "suspended")
                .collect()
        };
        assert_eq!(all(store), [true, true, false, true, false, true, true]);
        store.engine.resume("acme/ingest").unwrap();
        assert_eq!(all(store), [false; 7]);
    });
}

#[test]
fn a_suspension_hides_no_revocation_and_outlives_disabling() {
    everywhere(|store| {
        store.keyspace("acme");
        let engine = &store.engine;
        let keys = [0, 1, 2, 3].map(|_| store.issue("acme", "acme"));
        let [before, meanwhile, disabled, good] = &keys;
        engine.revoke(before.key.id, Reason::Cessation).unwrap();
        engine.disable(disabled.key.id).unwrap();
        engine.suspend("acme", None).unwrap();
        engine.revoke(meanwhile.key.id, Reason::Cessation).unwrap();
        let verdicts = || keys.each_ref().map(|key| store.verdict(key.token.expose()));
        assert_eq!(verdicts(), ["revoked", "revoked", "suspended", "suspended"]);
        assert_eq!(
            engine.enable(good.key.id).unwrap().state,
            KeyState::Suspended
        );
        engine.resume("acme").unwrap();
        assert_eq!(verdicts(), ["revoked", "revoked", "disabled", "granted"]);
    });
}

#[test]
fn a_suspension_that_is_not_acceptable_is_refused() {
    everywhere(|store| {
        let long = "x".repeat(bounds::NOTE_LEN_MAX + 1);
        for note in [long.as_str(), "two\nlines"] {
            assert!(matches!(
                store.engine.suspend("acme", Some(note)),
                Err(Error::Invalid(Invalid::Malformed(gatekey::ParseError {
                    what: "note",
                    ..
                })))
            ));
        }
        for owner in ["", "acme/", "acme//bot", "acme/..", "a/b/c/d/e/f/g/h/i"] {
            let refused = [
                store.engine.suspend(owner, None),
                store.engine.resume(owner),
                store.engine.owner(owner),
            ];
            for refused in refused {
                assert!(
                    matches!(
                        refused,
                        Err(Error::Invalid(Invalid::Malformed(gatekey::ParseError {
                            what: "owner",
                            ..
                        })))
                    ),
                    "{owner:?}"
                );
            }
        }
        assert!(!store.engine.owner("acme").unwrap().is_suspended());
    });
}

#[test]
fn the_owners_that_are_suspended_themselves_are_listed_page_by_page() {
    let store = Store::new(64, false);
    store.keyspace("acme");
    // Also an owner without a key; none that is suspended with another.
    store.issue("acme", "umbrella/ingest");
    for owner in ["umbrella", "acme/a", "acme", "globex"] {
        store.engine.suspend(owner, owner).unwrap();
    }
    store.engine.resume("globex").unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store
            .engine
            .suspended_owners_page(after.as_ref(), 2)
            .unwrap();
        for state in page.owners {
            let note = state.suspended.unwrap().note.unwrap();
            seen.push((state.owner.to_string(), note, state.suspended_above));
        }
        match page.next {
            Some(next) => after = Some(next.to_string().parse().unwrap()),
            None => break,
        }
    }
    let row = |owner: &str, above: Option<&str>| {
        let above = above.map(|above| above.parse().unwrap());
        (owner.to_owned(), owner.to_owned(), above)
    };
    let wanted = [
        row("acme", None),
        row("acme/a", Some("acme")),
        row("umbrella", None),
    ];
    assert_eq!(seen, wanted);
    // A cursor of another listing, and a page without room.
    let filter = gatekey::KeyFilter::new();
    store.issue("acme", "other");
    let keys = store.engine.keys_page(&filter, None, 1).unwrap();
    for (after, limit) in [(keys.next.as_ref(), 2), (None, 0), (None, 1001)] {
        assert!(matches!(
            store.engine.suspended_owners_page(after, limit),
            Err(Error::Invalid(_))
        ));
    }
}

#[test]
fn a_hundred_thousand_keys_are_suspended_all_at_one_instant() {
    const BATCHES: usize = 10;
    const COUNT: u64 = 100_000;
    let store = Store::new(4096, false);
    store.keyspace("acme");
    let mut sample = Vec::new();
    for batch in 0..BATCHES {
        let owner = |at: usize| format!("big/p{batch}/bot{}", at % 100);
        let keys = (0..bounds::BATCH_MAX).map(|at| NewKey::new("acme", owner(at)).unwrap());
        let issued = store.engine.issue_batch(keys.collect()).unwrap();
        sample.extend(issued.into_iter().step_by(499));
    }
    let beside = store.issue("acme", "bigger/p0");

    // Every answer of the counting walk comes from one snapshot: none may see a
    // part of the keys suspended.
    let suspended = || {
        let stats = store.engine.stats().unwrap();
        let counts = stats.keyspaces[&"acme".parse().unwrap()];
        assert_eq!(counts.active + counts.suspended, COUNT + 1);
        counts.suspended
    };
    let done = AtomicBool::new(false);
    let (told, seen) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = Vec::new();
            while !done.load(Ordering::SeqCst) {
                seen.push(suspended());
            }
            seen
        });
        let told = store.engine.suspend("big", None);
        // While the records follow, too.
        let followed = store.engine.flush();
        done.store(true, Ordering::SeqCst);
        followed.unwrap();
        (told, watcher.join().unwrap())
    });
    assert!(told.unwrap().is_suspended());
    assert_eq!(suspended(), COUNT);
    assert!(
        seen.iter().all(|count| [0, COUNT].contains(count)),
        "{seen:?}"
    );
    assert_eq!(
        last_event(&store.engine),
        AuditEvent::OwnerSuspended {
            owner: path("big"),
            keys: AuditEvent::KEYS_COUNTED_MAX + 1,
            note: None,
        }
    );
    for issued in &sample {
        assert_eq!(store.verdict(issued.token.expose()), "suspended");
    }
    assert_eq!(store.verdict(beside.token.expose()), "granted");
}
