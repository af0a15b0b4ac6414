//! Peppers: which open a store, which do not, and how one takes over from
//! another.

use std::fs;
use std::path::{Path, PathBuf};

use gatekey::{AuditEvent, Engine, Error, NewKey, NewKeyspace, OpenError, Options, Pepper, Reason};

use super::{closed_store, refused, small};
use crate::common::code;

fn pepper(id: u8) -> Pepper {
    let text = format!("pepper number {id}, from a secret manager");
    Pepper::new(id, text).unwrap()
}

fn peppered(ids: &[u8]) -> Options {
    ids.iter()
        .fold(small(), |options, id| options.pepper(pepper(*id)))
}

fn verdict(engine: &Engine, token: &str) -> &'static str {
    code(&engine.verify(token).unwrap())
}

fn store_with(ids: &[u8]) -> (tempfile::TempDir, PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let token = closed_store(peppered(ids), &path);
    (dir, path, token)
}

#[test]
fn the_wrong_peppers_are_each_refused_by_name() {
    let (_dir, path, token) = store_with(&[1, 2]);
    let wrong = |id| Options::new().pepper(Pepper::new(id, [0x77; 32]).unwrap());

    assert!(matches!(
        refused(wrong(1), &path),
        OpenError::WrongPepper { id: 1 }
    ));
    assert!(matches!(
        refused(wrong(2), &path),
        OpenError::WrongPepper { id: 2 }
    ));
    // A right one beside it does not excuse a wrong one.
    assert!(matches!(
        refused(wrong(1).pepper(pepper(2)), &path),
        OpenError::WrongPepper { id: 1 }
    ));
    assert!(matches!(
        refused(peppered(&[7, 9]), &path),
        OpenError::UnknownPepper { given, known } if given == [9, 7] && known == [2, 1]
    ));
    assert!(matches!(
        refused(peppered(&[]), &path),
        OpenError::PepperRequired { known } if known == [2, 1]
    ));
    assert!(matches!(
        refused(peppered(&[1]), &path),
        OpenError::MissingPepper { id: 2, keys: 1 }
    ));
    assert!(matches!(
        refused(peppered(&[1, 2]).pepper(pepper(2)), &path),
        OpenError::Options(_)
    ));
    // After all of that it opens as before.
    let engine = peppered(&[2, 1]).open(&path).unwrap();
    assert_eq!(verdict(&engine, &token), "granted");
}

#[test]
fn a_store_without_a_pepper_takes_none_later() {
    let (_dir, path, token) = store_with(&[]);
    assert!(matches!(
        refused(peppered(&[1]), &path),
        OpenError::PepperNotExpected
    ));
    let engine = small().open(&path).unwrap();
    assert_eq!(verdict(&engine, &token), "granted");
}

#[test]
fn two_peppers_with_the_same_id_are_refused_in_memory_too() {
    let twice = peppered(&[3, 1, 3]).open_in_memory();
    assert!(matches!(
        twice,
        Err(Error::Open { reason: OpenError::Options(why), .. }) if why.contains('3')
    ));
}

#[test]
fn no_refusal_shows_a_pepper() {
    let (_dir, path, _) = store_with(&[1]);
    let wrong = |id| Pepper::new(id, b"a wrong pepper, which is secret").unwrap();
    for options in [
        Options::new().pepper(wrong(1)),
        Options::new().pepper(wrong(2)),
        peppered(&[1]).pepper(wrong(1)),
    ] {
        let shown = format!("{options:?}");
        let reason = refused(options, &path);
        let cloned = format!("{:?}", peppered(&[1]).clone());
        for text in [shown, cloned, reason.to_string(), format!("{reason:?}")] {
            assert!(!text.contains("wrong pepper"), "{text}");
            assert!(!text.contains("pepper number"), "{text}");
        }
    }
}

/// The digests renewed, as the audit trail has them.
fn renewed(engine: &Engine) -> Vec<(u8, usize)> {
    let mut entries = Vec::new();
    loop {
        let page = engine
            .audit_page(entries.len() as u64 + 1, 1000)
            .unwrap()
            .entries;
        if page.is_empty() {
            break;
        }
        entries.extend(page);
    }
    let renewal = |event: &AuditEvent| match event {
        AuditEvent::DigestsRenewed { pepper, keys } => Some((*pepper, keys.len())),
        _ => None,
    };
    entries
        .iter()
        .filter_map(|entry| renewal(&entry.event))
        .collect()
}

#[test]
fn the_newest_pepper_signs_and_takes_the_older_keys_over() {
    for resident_bytes in [0, 1 << 20] {
        let (_dir, path, old) = store_with(&[1]);
        let open = |ids| {
            peppered(ids)
                .resident_bytes(resident_bytes)
                .open(&path)
                .unwrap()
        };

        let engine = open(&[1, 2]);
        let issued = engine.issue(NewKey::new("acme_live", "acme").unwrap());
        let new = issued.unwrap().token.expose().to_owned();
        for _ in 0..3 {
            assert_eq!(verdict(&engine, &old), "granted");
            assert_eq!(verdict(&engine, &new), "granted");
        }
        engine.flush().unwrap();
        assert_eq!(renewed(&engine), [(2, 1)]);
        assert_eq!(verdict(&engine, &old), "granted");
        engine.flush().unwrap();
        assert_eq!(renewed(&engine), [(2, 1)], "it is renewed once");
        assert!(engine.check().unwrap().is_sound());
        engine.close().unwrap();

        let engine = open(&[2]);
        assert_eq!(verdict(&engine, &old), "granted");
        assert_eq!(verdict(&engine, &new), "granted");
        assert!(engine.check().unwrap().is_sound());
        engine.close().unwrap();
        // It is gone for good: the store does not know it any more.
        let reason = refused(peppered(&[1]), &path);
        assert!(
            matches!(&reason, OpenError::UnknownPepper { known, .. } if known == &[2]),
            "{reason:?}"
        );
    }
}

#[test]
fn an_old_pepper_is_needed_until_its_last_key_is_renewed_or_revoked() {
    let (_dir, path, used) = store_with(&[1]);
    let engine = peppered(&[1]).open(&path).unwrap();
    let unused = engine
        .issue(NewKey::new("acme_live", "other").unwrap())
        .unwrap();
    engine.close().unwrap();

    let engine = peppered(&[1, 2]).open(&path).unwrap();
    assert_eq!(verdict(&engine, &used), "granted");
    // Closing writes what was noted, as a flush does.
    engine.close().unwrap();
    assert!(matches!(
        refused(peppered(&[2]), &path),
        OpenError::MissingPepper { id: 1, keys: 1 }
    ));

    let engine = peppered(&[1, 2]).open(&path).unwrap();
    engine.revoke(unused.key.id, Reason::Cessation).unwrap();
    engine.close().unwrap();
    let engine = peppered(&[2]).open(&path).unwrap();
    assert_eq!(verdict(&engine, &used), "granted");
    // Its digest cannot be checked any more; that it exists is not told.
    assert_eq!(verdict(&engine, unused.token.expose()), "unknown");
    assert!(engine.check().unwrap().is_sound());
}

#[test]
fn a_denied_token_does_not_have_its_digest_renewed() {
    let (_dir, path, token) = store_with(&[1]);
    let engine = peppered(&[1, 2]).open(&path).unwrap();
    engine.suspend("acme", None).unwrap();
    assert_eq!(verdict(&engine, &token), "suspended");
    engine.flush().unwrap();
    assert_eq!(renewed(&engine), []);
}

#[test]
fn digests_are_renewed_though_no_usage_is_kept() {
    let (_dir, path, token) = store_with(&[1]);
    let engine = peppered(&[1, 2]).usage_interval(None).open(&path).unwrap();
    assert_eq!(verdict(&engine, &token), "granted");
    assert_eq!(renewed(&engine), [], "a verification writes nothing itself");
    engine.close().unwrap();
    let engine = peppered(&[2]).open(&path).unwrap();
    assert_eq!(renewed(&engine), [(2, 1)]);
    assert_eq!(verdict(&engine, &token), "granted");
}

#[test]
fn keys_under_an_old_pepper_are_counted_and_listed_before_an_opening_fails() {
    let told = |engine: &Engine| -> Vec<_> {
        let peppers = engine.peppers().unwrap();
        peppers
            .iter()
            .map(|of| (of.pepper, of.keys, of.is_signing))
            .collect()
    };
    let listed = |engine: &Engine, pepper| {
        let keys = engine.keys(gatekey::KeyFilter::new().pepper(pepper));
        keys.map(|key| key.unwrap().id).collect::<Vec<_>>()
    };
    let (_dir, path, used) = store_with(&[1]);
    let engine = peppered(&[1, 2]).open(&path).unwrap();
    assert_eq!(told(&engine), [(2, 0, true), (1, 1, false)]);
    let new = engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap()
        .key
        .id;
    assert_eq!(told(&engine), [(2, 1, true), (1, 1, false)]);
    let old = listed(&engine, 1);
    assert_eq!((old.len(), listed(&engine, 2)), (1, vec![new]));
    assert!(used.contains(&old[0].to_string()));
    assert_eq!(verdict(&engine, &used), "granted");
    engine.flush().unwrap();
    assert_eq!(told(&engine), [(2, 2, true)]);
    assert_eq!((listed(&engine, 1).len(), listed(&engine, 2).len()), (0, 2));
    // What is revoked needs none.
    engine.revoke(new, Reason::Cessation).unwrap();
    assert_eq!(told(&engine), [(2, 1, true)]);
    assert_eq!(listed(&engine, 2), old);
    engine.close().unwrap();
    assert!(peppered(&[2]).open(&path).is_ok());

    let engine = small().open_in_memory().unwrap();
    assert_eq!(told(&engine), []);
}

/// Nobody flushes in between, and no key is used again.
#[test]
fn all_digests_that_were_seen_are_renewed_by_one_flush() {
    const KEYS: usize = 3000;
    let (_dir, path, token) = store_with(&[1]);
    let engine = peppered(&[1]).open(&path).unwrap();
    let new = vec![NewKey::new("acme_live", "acme").unwrap(); KEYS];
    let issued = engine.issue_batch(new).unwrap();
    engine.close().unwrap();
    let engine = peppered(&[1, 2]).usage_interval(None).open(&path).unwrap();
    assert_eq!(verdict(&engine, &token), "granted");
    for issued in &issued {
        assert_eq!(verdict(&engine, issued.token.expose()), "granted");
    }
    engine.flush().unwrap();
    let renewed = renewed(&engine);
    let keys: usize = renewed.iter().map(|(_, keys)| keys).sum();
    assert_eq!(keys, KEYS + 1, "{renewed:?}");
    assert!(renewed.iter().all(|(_, keys)| *keys <= 1000), "{renewed:?}");
    engine.close().unwrap();
    let engine = peppered(&[2]).open(&path).unwrap();
    assert!(engine.check().unwrap().is_sound());
}

/// What a crash leaves: the bytes of a store that is open.
fn crashed(engine: &Engine, path: &Path) -> PathBuf {
    let copy = path.with_extension("crashed");
    // The last commit must be all that is under way.
    engine.stats().unwrap();
    fs::copy(path, &copy).unwrap();
    copy
}

#[test]
fn a_store_that_was_not_closed_is_refused_as_it_is_too() {
    let (_dir, path, token) = store_with(&[1]);
    let engine = peppered(&[1]).open(&path).unwrap();
    let more = NewKeyspace::new("acme_test").unwrap();
    engine.create_keyspace(more).unwrap();
    let crashed = crashed(&engine, &path);
    engine.close().unwrap();
    assert!(matches!(
        refused(peppered(&[]), &crashed),
        OpenError::PepperRequired { .. }
    ));
    assert!(matches!(
        refused(peppered(&[2]), &crashed),
        OpenError::UnknownPepper { .. }
    ));
    let engine = peppered(&[1]).open(&crashed).unwrap();
    assert_eq!(verdict(&engine, &token), "granted");
}

#[test]
fn a_key_that_is_asked_for_again_or_rotated_is_of_the_newest_pepper() {
    let (_dir, path, _) = store_with(&[1]);
    let ask = |engine: &Engine| {
        let new = NewKey::new("acme_live", "other").unwrap();
        let issued = engine.idempotent("one").unwrap().issue(new);
        issued.unwrap().token.expose().to_owned()
    };
    let engine = peppered(&[1]).open(&path).unwrap();
    let first = ask(&engine);
    engine.close().unwrap();
    let engine = peppered(&[1, 2]).open(&path).unwrap();
    let second = ask(&engine);
    assert_eq!(verdict(&engine, &first), "revoked");
    assert_eq!(verdict(&engine, &second), "granted");
    let active = gatekey::KeyFilter::new().state(gatekey::KeyState::Active);
    let old = engine.keys_page(&active, None, 1).unwrap().keys[0].id;
    let rotated = engine.rotate(old, gatekey::Rotation::at_once()).unwrap();
    assert_eq!(verdict(&engine, rotated.token.expose()), "granted");
    assert!(engine.check().unwrap().is_sound());
}
