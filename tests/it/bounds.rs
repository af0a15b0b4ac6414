//! More keys than any one part of a change looks at at a time: of an owner, 4,096 are
//! looked up together; an audit entry names 1,000, and a purge removes as many a
//! transaction; a flush writes 4,096 uses and 1,000 digests a transaction; counts follow
//! 4,096 ends a step; a closing puts 1,000 slices back at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use gatekey::{
    AuditEntry, AuditEvent, Engine, Issued, KeyFilter, KeyId, KeyState, ManualClock, NewKey,
    NewKeyspace, Options, Pepper, Quota, Reason,
};

use crate::common::at;

/// More than are looked up together.
const KEYS: usize = 4_200;
/// What an audit entry names.
const NAMED: usize = 1_000;

fn options(clock: &ManualClock) -> Options {
    Options::new()
        .clock(clock.clone())
        .resident_bytes(1 << 16)
        // The flushes of the test are the only ones.
        .usage_interval(Duration::from_secs(86_400))
}

fn issue(engine: &Engine, key: &NewKey, count: usize) -> Vec<Issued> {
    engine.issue_batch(vec![key.clone(); count]).unwrap()
}

fn count(engine: &Engine, state: KeyState) -> usize {
    let keys = engine.keys(KeyFilter::new());
    keys.filter(|key| key.as_ref().unwrap().state == state)
        .count()
}

fn last(engine: &Engine) -> AuditEntry {
    let end = engine.stats().unwrap().audit_entries;
    engine.audit(end).next().unwrap().unwrap()
}

/// The entries from after a position on, all with as many keys as they can name but the
/// last, and the keys that they name.
fn named(engine: &Engine, after: u64) -> BTreeSet<KeyId> {
    let entries = engine.audit(after + 1);
    let named: Vec<_> = entries.map(|entry| entry.unwrap().event.keys()).collect();
    let (_, whole) = named.split_last().unwrap();
    assert!(whole.iter().all(|keys| keys.len() == NAMED));
    named.into_iter().flatten().collect()
}

#[test]
fn what_is_done_to_an_owner_is_done_to_more_keys_than_one_part_of_it_takes() {
    let clock = ManualClock::at(at(0));
    let engine = options(&clock).open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(keyspace).unwrap();
    // Keys of two owners one below the other, and one of neither.
    let mut all = BTreeSet::new();
    for (owner, count) in [("acme", KEYS / 2), ("acme/eu", KEYS / 2), ("acm", 1)] {
        let new = NewKey::new("acme_live", owner).unwrap();
        all.extend(issue(&engine, &new, count).iter().map(|new| new.key.id));
    }

    engine.suspend("acme", None).unwrap();
    assert_eq!(count(&engine, KeyState::Suspended), KEYS);
    engine.flush().unwrap();
    assert_eq!(count(&engine, KeyState::Suspended), KEYS);
    let suspended = last(&engine).event;
    let is_all = |told: u64| told == AuditEvent::KEYS_COUNTED_MAX + 1;
    assert!(matches!(suspended, AuditEvent::OwnerSuspended { keys, .. } if is_all(keys)));
    engine.resume("acme").unwrap();
    engine.flush().unwrap();
    assert_eq!(count(&engine, KeyState::Active), KEYS + 1);
    let resumed = last(&engine).event;
    assert!(matches!(resumed, AuditEvent::OwnerResumed { keys, .. } if is_all(keys)));

    let before = last(&engine).seq;
    let revoked = engine.revoke_owner("acme", Reason::Cessation).unwrap();
    assert!(is_all(revoked.keys) && is_all(revoked.newly));
    assert_eq!(count(&engine, KeyState::Revoked), KEYS);
    engine.flush().unwrap();
    assert_eq!(count(&engine, KeyState::Revoked), KEYS);
    assert_eq!(named(&engine, before + 1).len(), KEYS);
    let before = last(&engine).seq;
    let again = engine.revoke_keyspace("acme_live", Reason::Cessation);
    assert!(is_all(again.unwrap().keys));
    engine.flush().unwrap();
    assert_eq!(named(&engine, before + 1).len(), 1);

    let before = last(&engine).seq;
    clock.advance(Duration::from_millis(1));
    let purged = engine.purge(Duration::ZERO).unwrap();
    assert_eq!(purged.keys, KEYS as u64 + 1);
    assert_eq!(named(&engine, before), all);
    assert_eq!(engine.keys(KeyFilter::new()).count(), 0);
    assert!(engine.check().unwrap().is_sound());
}

#[test]
fn a_flush_writes_uses_digests_and_counts_of_more_keys_than_one_part_of_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let clock = ManualClock::at(at(0));
    let pepper = |id| Pepper::new(id, [id; 32]).unwrap();
    let engine = options(&clock).pepper(pepper(1)).create(&path).unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(keyspace).unwrap();
    let new = NewKey::new("acme_live", "acme").unwrap();
    let issued = issue(&engine, &new.expires_at(at(60_000)), KEYS);
    engine.close().unwrap();

    let options = options(&clock).pepper(pepper(1)).pepper(pepper(2));
    let engine = options.open(&path).unwrap();
    let before = last(&engine).seq;
    for issued in &issued {
        assert!(engine.verify(issued.token.expose()).unwrap().is_granted());
    }
    engine.flush().unwrap();
    let uses = engine.keys(KeyFilter::new());
    assert!(uses.map(|key| key.unwrap().usage.count).eq(vec![1; KEYS]));
    let ids: BTreeSet<_> = issued.iter().map(|issued| issued.key.id).collect();
    assert_eq!(named(&engine, before), ids);
    let peppers = engine.peppers().unwrap();
    let needed = peppers.iter().filter(|told| told.keys > 0);
    let needed: Vec<_> = needed.map(|told| (told.pepper, told.keys)).collect();
    assert_eq!(needed, [(2, KEYS as u64)]);

    // All of them end at one instant.
    clock.set(at(60_000));
    let counts = || engine.stats().unwrap().keyspaces[&"acme_live".parse().unwrap()];
    assert_eq!((counts().active, counts().expired), (0, KEYS as u64));
    engine.flush().unwrap();
    assert_eq!((counts().active, counts().expired), (0, KEYS as u64));
    assert!(engine.check().unwrap().is_sound());
    engine.close().unwrap();
}

#[test]
fn a_closing_puts_back_slices_of_more_quotas_than_one_part_of_it_takes() {
    const QUOTAS: usize = 1_100;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let clock = ManualClock::at(at(0));
    let engine = options(&clock).create(&path).unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(keyspace).unwrap();
    let new = NewKey::new("acme_live", "acme")
        .unwrap()
        .quota(Quota::new(30));
    let issued = issue(&engine, &new, QUOTAS);
    // Several at a time: each waits for a commit.
    std::thread::scope(|scope| {
        for issued in issued.chunks(QUOTAS.div_ceil(16)) {
            let engine = &engine;
            scope.spawn(move || {
                for issued in issued {
                    assert!(engine.verify(issued.token.expose()).unwrap().is_granted());
                }
            });
        }
    });
    let left = |engine: &Engine| -> BTreeSet<u64> {
        let keys = engine.keys(KeyFilter::new());
        keys.map(|key| key.unwrap().quota.unwrap().remaining)
            .collect()
    };
    assert_eq!(
        left(&engine),
        BTreeSet::from([20]),
        "a slice is out of each"
    );
    engine.close().unwrap();
    let engine = options(&clock).open(&path).unwrap();
    assert_eq!(left(&engine), BTreeSet::from([29]));
    engine.close().unwrap();
}
