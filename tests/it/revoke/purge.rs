//! Removing keys that have long been over.

use std::time::Duration;

use gatekey::{AuditEvent, Error, KeyFilter, NewKey, NotFound, Reason, Rotation};

use super::{MS, mortal, verdicts};
use crate::audit::{assert_unwritten, last_event, trail};
use crate::common::{DAY, Store, everywhere};

#[test]
fn thousands_of_keys_are_revoked_and_purged() {
    const COUNT: usize = 5_000;
    let mut store = Store::on_file();
    store.keyspace("acme");
    let batch = (0..COUNT)
        .map(|at| NewKey::new("acme", format!("u/{}", at % 7)).unwrap())
        .collect();
    let issued = store.engine.issue_batch(batch).unwrap();
    let spared = store.issue("acme", "uu");
    let many = store.engine.revoke_owner("u", Reason::Cessation).unwrap();
    assert_eq!(AuditEvent::keys_counted(many.keys), None);
    assert!(
        verdicts(&store, issued.iter().step_by(41))
            .iter()
            .all(|code| *code == "revoked")
    );
    store.assert_sound();

    store.engine.flush().unwrap();
    store.clock.advance(DAY);
    let before = store.engine.stats().unwrap().audit_entries;
    assert_eq!(
        store.engine.purge(Duration::ZERO).unwrap().keys,
        COUNT as u64
    );
    // In several transactions, none of which is large.
    let mut purged = Vec::new();
    for entry in store.engine.audit_page(before + 1, 100).unwrap().entries {
        let keys = entry.event.keys();
        assert!(matches!(entry.event, AuditEvent::KeysPurged { .. }));
        assert!(keys.len() <= 1000, "{}", keys.len());
        purged.extend(keys);
    }
    purged.sort_unstable();
    let mut ids: Vec<_> = issued.iter().map(|issued| issued.key.id).collect();
    ids.sort_unstable();
    assert_eq!(purged, ids);
    store.reopen();
    assert!(
        verdicts(&store, issued.iter().step_by(41))
            .iter()
            .all(|code| *code == "unknown")
    );
    assert_eq!(store.verdict(spared.token.expose()), "granted");
    store.assert_sound();
}

#[test]
fn a_purge_removes_what_has_been_over_for_longer_than_the_age() {
    everywhere(|store| {
        store.keyspace("acme");
        let engine = store.engine.clone();
        let good = store.issue("acme", "acme");
        let disabled = store.issue("acme", "acme");
        engine.disable(disabled.key.id).unwrap();
        let expired = mortal(store, DAY);
        let old = store.issue("acme", "acme");
        let rotated = engine
            .rotate(old.key.id, Rotation::with_grace(DAY))
            .unwrap();
        let later = mortal(store, DAY + MS);
        store.clock.advance(DAY);
        let revoked = store.issue("acme", "acme");
        engine.revoke(revoked.key.id, Reason::Cessation).unwrap();

        // All three are over since one day; that is not longer than a day ago.
        store.clock.advance(DAY);
        let none = assert_unwritten(&engine, || engine.purge(DAY).unwrap());
        assert_eq!(none.keys, 0);
        assert_eq!(engine.purge(Duration::MAX).unwrap().keys, 0);
        store.clock.advance(MS);
        assert_eq!(engine.purge(DAY).unwrap().keys, 3);

        let gone = [&expired, &old, &revoked];
        assert_eq!(
            {
                let mut keys = last_event(&engine).keys();
                keys.sort_unstable();
                keys
            },
            {
                let mut keys = gone.map(|issued| issued.key.id);
                keys.sort_unstable();
                keys
            }
        );
        for reopened in [false, true] {
            if reopened && !store.reopen() {
                break;
            }
            assert_eq!(verdicts(store, gone), ["unknown"; 3]);
            let left = [&good, &disabled, &later];
            assert_eq!(verdicts(store, left), ["granted", "disabled", "expired"]);
            assert_eq!(store.verdict(rotated.token.expose()), "granted");
            for issued in gone {
                let id = issued.key.id;
                assert!(matches!(
                    store.engine.key(id),
                    Err(Error::NotFound(NotFound::Key(named))) if named == id
                ));
                let token = store
                    .engine
                    .revoke_token(issued.token.expose(), Reason::Cessation);
                assert!(matches!(token, Err(Error::NotFound(NotFound::Token))));
            }
            let page = store
                .engine
                .keys_page(&KeyFilter::new(), None, 100)
                .unwrap();
            assert_eq!(page.keys.len(), 4);
        }
        // What was done with them is still told.
        let told = trail(&store.engine)
            .iter()
            .filter(|entry| entry.event.keys().contains(&revoked.key.id))
            .count();
        assert_eq!(told, 3);
    });
}

#[test]
fn a_purge_takes_a_suspended_or_disabled_key_only_once_it_is_over() {
    everywhere(|store| {
        store.keyspace("acme");
        let forever = store.issue("acme", "acme");
        let passing = mortal(store, DAY);
        store.engine.disable(forever.key.id).unwrap();
        store.engine.suspend("acme", None).unwrap();
        assert_eq!(store.engine.purge(Duration::ZERO).unwrap().keys, 0);
        store.clock.advance(DAY * 2);
        assert_eq!(store.engine.purge(Duration::ZERO).unwrap().keys, 1);
        assert_eq!(
            verdicts(store, [&forever, &passing]),
            ["suspended", "unknown"]
        );
    });
}
