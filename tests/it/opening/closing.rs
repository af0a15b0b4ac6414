//! Closing, and copying to another file while open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gatekey::{
    Conflict, Error, KeyFilter, KeyUpdate, KeyspaceUpdate, Limit, NewKey, NewKeyspace, OpenError,
    Options, Pepper, Reason, Requirements, Rotation,
};

use super::{closed_store, contents, refused, small};
use crate::common::{Store, code, everywhere};

const NONE: Requirements<'_> = Requirements::new();

/// A token of which a digit, and so the check, is wrong.
fn flipped(token: &str) -> String {
    let (head, last) = token.split_at(token.len() - 1);
    format!("{head}{}", if last == "0" { "1" } else { "0" })
}

/// A failed attempt is none of a closed engine's, nor does it hold one back.
#[test]
fn a_closed_engine_counts_no_attempts_and_refuses_none() {
    let limit = Limit::new(1, Duration::from_secs(3600)).unwrap();
    let engine = small().failed_attempts(limit).open_in_memory().unwrap();
    let requirements = Requirements::new().source("192.0.2.7".parse().unwrap());
    for code in ["malformed", "too_many_attempts"] {
        let verdict = engine.verify_with("?", &requirements).unwrap();
        assert_eq!(verdict.denial().unwrap().code(), code);
    }
    engine.clone().close().unwrap();
    let one = engine.verify_with("?", &requirements).map(drop);
    let many = engine.verify_many(&["?"; 40], &requirements);
    assert_eq!(many.len(), 40);
    for result in many.into_iter().map(|result| result.map(drop)).chain([one]) {
        assert!(matches!(result, Err(Error::Closed)), "{result:?}");
    }
}

/// The one result of a batch of one.
fn first_of(mut results: Vec<gatekey::Result<gatekey::Verdict>>) -> gatekey::Result<()> {
    assert_eq!(results.len(), 1);
    results.remove(0).map(drop)
}

#[test]
fn every_call_on_a_closed_engine_says_that_it_is_closed() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = store.issue("acme_live", "acme");
        let (key, token) = (issued.key.id, issued.token.expose());
        assert_eq!(store.verdict(token), "granted");
        let engine = store.engine.clone();
        let by = engine.acting_as("alice").unwrap();
        store.engine.clone().close().unwrap();

        let new = || NewKey::new("acme_live", "acme").unwrap();
        let keyspace = NewKeyspace::new("other").unwrap();
        let change = KeyspaceUpdate::new().description("x");
        let results = [
            ("verify", engine.verify(token).map(drop)),
            ("verify what is malformed", engine.verify("?").map(drop)),
            (
                "verify a wrong check",
                engine.verify(flipped(token)).map(drop),
            ),
            ("verify_many", first_of(engine.verify_many(&[token], &NONE))),
            (
                "verify_many malformed",
                first_of(engine.verify_many(&["?"], &NONE)),
            ),
            ("find_by_token", engine.find_by_token(token).map(drop)),
            (
                "find_by_token malformed",
                engine.find_by_token("?").map(drop),
            ),
            (
                "revoke_token malformed",
                engine.revoke_token("?", Reason::Cessation).map(drop),
            ),
            ("issue_batch of none", engine.issue_batch(vec![]).map(drop)),
            (
                "create_keyspace",
                engine.create_keyspace(keyspace).map(drop),
            ),
            ("keyspace", engine.keyspace("acme_live").map(drop)),
            ("keyspaces", engine.keyspaces().map(drop)),
            (
                "update_keyspace",
                engine.update_keyspace("acme_live", change).map(drop),
            ),
            ("issue", engine.issue(new()).map(drop)),
            ("issue by", by.issue(new()).map(drop)),
            ("issue_batch", engine.issue_batch(vec![new()]).map(drop)),
            (
                "update",
                engine.update(key, KeyUpdate::new().name("x")).map(drop),
            ),
            ("rotate", engine.rotate(key, Rotation::at_once()).map(drop)),
            ("disable", engine.disable(key).map(drop)),
            ("enable", engine.enable(key).map(drop)),
            ("revoke", engine.revoke(key, Reason::Cessation).map(drop)),
            (
                "revoke_token",
                engine.revoke_token(token, Reason::Cessation).map(drop),
            ),
            (
                "revoke_owner",
                engine.revoke_owner("acme", Reason::Cessation).map(drop),
            ),
            (
                "revoke_keyspace",
                engine
                    .revoke_keyspace("acme_live", Reason::Cessation)
                    .map(drop),
            ),
            ("purge", engine.purge(Duration::ZERO).map(drop)),
            ("suspend", engine.suspend("acme", None).map(drop)),
            ("resume", engine.resume("acme").map(drop)),
            ("owner", engine.owner("acme").map(drop)),
            ("key", engine.key(key).map(drop)),
            (
                "list",
                engine.keys_page(&KeyFilter::new(), None, 10).map(drop),
            ),
            (
                "keys",
                engine
                    .keys(KeyFilter::new())
                    .collect::<Result<Vec<_>, _>>()
                    .map(drop),
            ),
            ("audit", engine.audit_page(1, 10).map(drop)),
            ("stats", engine.stats().map(drop)),
            ("check", engine.check().map(drop)),
            ("flush", engine.flush()),
            ("close", engine.close()),
        ];
        for (call, result) in results {
            assert!(matches!(result, Err(Error::Closed)), "{call}: {result:?}");
        }
        // What `everywhere` checks in the end is a store that is open.
        *store = Store::new(0, false);
    });
}

#[test]
fn a_store_can_be_opened_again_as_soon_as_the_last_handle_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let token = closed_store(small(), &path);
    for round in 0..20 {
        let engine = small().open(&path).unwrap();
        assert_eq!(code(&engine.verify(&token).unwrap()), "granted", "{round}");
        let other = engine.acting_as("alice").unwrap();
        drop(engine);
        assert!(matches!(refused(Options::new(), &path), OpenError::InUse));
        drop(other);
    }
    // Closed by hand, while handles are left, it is free at once too.
    let first = small().open(&path).unwrap();
    first.clone().close().unwrap();
    let second = small().open(&path).unwrap();
    assert!(matches!(first.verify(&token), Err(Error::Closed)));
    assert_eq!(code(&second.verify(&token).unwrap()), "granted");
    drop(first);
    assert_eq!(code(&second.verify(&token).unwrap()), "granted");
}

#[test]
fn closing_while_others_read_and_write_loses_nothing_and_frees_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let token = &closed_store(small(), &path);
    let mut acknowledged = 0;
    for _ in 0..20 {
        let engine = small().open(&path).unwrap();
        let started = AtomicBool::new(false);
        let closed = AtomicBool::new(false);
        let issued = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                loop {
                    let was_closed = closed.load(Ordering::SeqCst);
                    match engine.verify(token) {
                        Ok(verdict) => {
                            assert!(!was_closed, "{verdict:?} after the engine was closed");
                            assert_eq!(code(&verdict), "granted");
                        }
                        Err(error) => break assert!(matches!(error, Error::Closed), "{error:?}"),
                    }
                }
            });
            let writer = scope.spawn(|| {
                let mut issued = Vec::new();
                // Batches, so that one is as a rule under way at the closing.
                let batch = || vec![NewKey::new("acme_live", "acme/bot").unwrap(); 30];
                loop {
                    match engine.issue_batch(batch()) {
                        Ok(keys) => issued.extend(keys),
                        Err(error) => {
                            assert!(matches!(error, Error::Closed), "{error:?}");
                            break issued;
                        }
                    }
                    started.store(true, Ordering::SeqCst);
                }
            });
            while !started.load(Ordering::SeqCst) && !reader.is_finished() {
                std::thread::yield_now();
            }
            engine.clone().close().unwrap();
            closed.store(true, Ordering::SeqCst);
            reader.join().unwrap();
            writer.join().unwrap()
        });
        let again = small().open(&path).unwrap();
        acknowledged += issued.len();
        for issued in &issued {
            let token = issued.token.expose();
            assert!(again.verify(token).unwrap().is_granted());
        }
        // One more is the first, and one batch may be there that nobody heard of.
        let held = again.keys(KeyFilter::new()).count() - 1;
        assert!(held == acknowledged || held == acknowledged + 30);
        acknowledged = held;
    }
    assert!(small().open(&path).unwrap().check().unwrap().is_sound());
}

#[test]
fn an_engine_closed_in_the_middle_of_a_change_stays_closed() {
    for delay_ms in 0..20 {
        // Without usage, closing has nothing to write and does not wait in line.
        let dir = tempfile::tempdir().unwrap();
        let options = small().usage_interval(None);
        let engine = options.create(dir.path().join("keys.redb")).unwrap();
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        engine.create_keyspace(keyspace).unwrap();
        let new = || NewKey::new("acme_live", "acme").unwrap();
        let issued = engine.issue(new()).unwrap();
        let token = issued.token.expose();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let change = scope.spawn(|| engine.issue_batch(vec![new(); 500]));
            // It would put the key back into memory, if it still could.
            let reader = scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let _ = engine.verify(token);
                }
            });
            // So that one of the rounds closes while the change commits.
            std::thread::sleep(Duration::from_millis(delay_ms));
            let closed = engine.clone().close();
            let changed = change.join().unwrap();
            done.store(true, Ordering::SeqCst);
            reader.join().unwrap();
            closed.unwrap();
            assert!(matches!(changed, Ok(_) | Err(Error::Closed)), "{changed:?}");
        });
        for _ in 0..2 {
            let verdict = engine.verify(token);
            assert!(matches!(verdict, Err(Error::Closed)), "{verdict:?}");
        }
        assert!(matches!(engine.key(issued.key.id), Err(Error::Closed)));
    }
}

#[test]
fn a_backup_opens_and_holds_what_the_store_held_at_the_call() {
    let pepper = || Pepper::new(1, [9; 32]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("keys.redb"), dir.path().join("copy.redb"));
    let token = closed_store(small().pepper(pepper()), &path);
    let engine = small().pepper(pepper()).open(&path).unwrap();
    let revoked = engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    engine
        .revoke(revoked.key.id, Reason::KeyCompromise)
        .unwrap();
    engine.suspend("suspended", Some("a note")).unwrap();

    engine.backup(&copy).unwrap();
    let later = engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    let held = contents(dir.path());
    for target in [&copy, &path] {
        assert!(matches!(
            engine.backup(target),
            Err(Error::Conflict(Conflict::TargetExists(named))) if named == *target
        ));
    }
    assert!(
        contents(dir.path()) == held,
        "a refused backup touches nothing"
    );
    assert!(matches!(
        engine.backup(dir.path().join("missing/copy.redb")),
        Err(Error::Store(_))
    ));

    // What another backup has left or still writes, and a link to nothing, are left.
    let target = dir.path().join("next.redb");
    let partial = dir.path().join("next.redb.backup");
    std::fs::write(&partial, "half of one").unwrap();
    assert!(matches!(
        engine.backup(&target),
        Err(Error::Conflict(Conflict::BackupUnderWay(named))) if named == partial
    ));
    assert_eq!(std::fs::read(&partial).unwrap(), b"half of one");
    std::fs::remove_file(&partial).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/nonexistent/x", &target).unwrap();
        assert!(matches!(
            engine.backup(&target),
            Err(Error::Conflict(Conflict::TargetExists(named))) if named == target
        ));
        assert!(!partial.exists());
        std::fs::remove_file(&target).unwrap();
    }

    // Whoever has the copy needs the pepper, as for the store.
    assert!(matches!(
        refused(Options::new(), &copy),
        OpenError::PepperRequired { .. }
    ));
    let restored = small().pepper(pepper()).open(&copy).unwrap();
    assert!(restored.check().unwrap().is_sound());
    let verdict = |token: &str| code(&restored.verify(token).unwrap());
    assert_eq!(verdict(&token), "granted");
    assert_eq!(verdict(revoked.token.expose()), "revoked");
    assert_eq!(verdict(later.token.expose()), "unknown");
    let owner = restored.owner("suspended").unwrap();
    assert_eq!(owner, engine.owner("suspended").unwrap());
    let len = restored.stats().unwrap().audit_entries;
    assert_eq!(
        restored.audit_page(1, 100).unwrap().entries.len() as u64,
        len
    );
    assert_eq!(
        engine.audit_page(1, 100).unwrap().entries.len() as u64,
        len + 1
    );
    // And it is a store like any other.
    restored
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    assert!(restored.check().unwrap().is_sound());
}

#[test]
fn a_backup_made_while_others_write_is_whole() {
    let store = Store::new(1 << 20, true);
    store.keyspace("acme_live");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..300 {
                let key = store.issue("acme_live", "acme/bot").key.id;
                store.engine.rotate(key, Rotation::at_once()).unwrap();
                if stop.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        for at in 0..5 {
            let copy = store.dir().join(format!("copy{at}.redb"));
            store.engine.backup(&copy).unwrap();
            let restored = small().open(&copy).unwrap();
            let report = restored.check().unwrap();
            assert!(report.is_sound(), "{report:#?}");
        }
        stop.store(true, Ordering::SeqCst);
        writer.join().unwrap();
    });
}

#[test]
fn a_store_in_memory_can_be_backed_up_to_a_file() {
    let store = Store::new(1 << 20, false);
    store.keyspace("acme_live");
    let issued = store.issue("acme_live", "acme");
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.redb");
    store.engine.backup(&copy).unwrap();
    let restored = small().open(&copy).unwrap();
    assert_eq!(
        code(&restored.verify(issued.token.expose()).unwrap()),
        "granted"
    );
}
