//! Trimming the trail, and exports that verify without the store.

use std::ops::Range;

use gatekey::{
    AuditEntry, AuditEvent, AuditKey, AuditSpan, Engine, Error, Invalid, KeyFilter, KeyUpdate,
    Link, NewKey, NotFound, Reason, Revocation, Rotation, verify_audit_export,
};

use crate::common::{DAY, Store, everywhere};
use crate::opening::small;

fn by(engine: &Engine, who: &str) -> Engine {
    engine.acting_as(who).unwrap()
}

fn leaked() -> Revocation {
    Revocation::new(Reason::KeyCompromise).note("seen in public")
}

/// What an export holds, verified.
fn verified(export: &[u8], key: &AuditKey) -> Result<(AuditSpan, Vec<AuditEntry>), Error> {
    let mut entries = Vec::new();
    let span = verify_audit_export(export, key, |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok((span, entries))
}

fn export(engine: &Engine, from: u64) -> (AuditSpan, Vec<u8>) {
    let mut out = Vec::new();
    (engine.export_audit(from, &mut out).unwrap(), out)
}

/// Keys revoked in each of the ways that there are, and one of each other kind.
fn revoked_in_every_way(store: &Store) {
    let engine = by(&store.engine, "alice");
    for prefix in ["acme", "gone", "one"] {
        store.keyspace(prefix);
    }
    let issue = |prefix: &str, owner: &str| store.issue(prefix, owner).key.id;
    issue("acme", "good");
    engine.disable(issue("acme", "disabled")).unwrap();
    engine.revoke(issue("acme", "leaked"), leaked()).unwrap();
    let left = Revocation::new(Reason::AffiliationChanged).note("left");
    for _ in 0..3 {
        issue("acme", "team/bot");
    }
    engine.revoke_owner("team", left).unwrap();
    issue("gone", "team");
    engine.revoke_keyspace("gone", Reason::Cessation).unwrap();
    let old = issue("acme", "rotated");
    let next = engine.rotate(old, Rotation::with_grace(DAY)).unwrap();
    engine.rotate(next.key.id, Rotation::at_once()).unwrap();
    let retiring = issue("acme", "retiring");
    engine.rotate(retiring, Rotation::with_grace(DAY)).unwrap();
    issue("acme", "halted/bot");
    engine.suspend("halted", Some("unpaid")).unwrap();
}

#[test]
fn what_is_told_of_a_key_is_the_same_after_the_trail_is_trimmed() {
    everywhere(|store| {
        revoked_in_every_way(store);
        let engine = by(&store.engine, "auditor");
        let keys = || {
            let keys = store.engine.keys(KeyFilter::new());
            keys.map(Result::unwrap).collect::<Vec<_>>()
        };
        let before = keys();
        let revoked = before.iter().filter(|key| key.revoked.is_some()).count();
        assert_eq!(revoked, 7);
        let last = engine.audit_span().unwrap().last;
        let trimmed = engine.trim_audit(last.seq).unwrap();
        assert_eq!((trimmed.removed, trimmed.through), (last.seq, last));
        // One for the key, the owner and the keyspace, and one for the last rotation.
        assert_eq!(trimmed.kept, 4);
        assert!(keys() == before, "{:#?}", keys());
        store.assert_sound();

        let left = engine.audit_page(0, 10).unwrap().entries;
        let AuditEvent::AuditTrimmed {
            through,
            kept,
            dropped,
        } = &left[0].event
        else {
            panic!("{left:?}");
        };
        assert_eq!((*through, *kept, *dropped), (last, 4, 0));
        assert_eq!(left.len(), 1);
        assert_eq!(
            (left[0].seq, left[0].actor.as_deref()),
            (last.seq + 1, Some("auditor"))
        );
        assert_eq!(engine.stats().unwrap().audit_entries, 1);

        // Revoking again tells what it told, and changes nothing.
        let key = before
            .iter()
            .find(|key| key.owner.as_str() == "leaked")
            .unwrap();
        let again = engine.revoke(key.id, Reason::Cessation).unwrap();
        assert_eq!(Some(&again), key.revoked.as_ref());
        assert_eq!(
            (again.note.as_deref(), again.by.as_deref()),
            (Some("seen in public"), Some("alice"))
        );

        // Trimming less far than before changes nothing, and loses nothing that was kept.
        for through in [0, 1, last.seq / 2, last.seq - 1, last.seq] {
            let trimmed = engine.trim_audit(through).unwrap();
            assert_eq!((trimmed.removed, trimmed.through), (0, last), "{through}");
            assert!(keys() == before, "{through}: {:#?}", keys());
            store.assert_sound();
        }
        assert_eq!(engine.stats().unwrap().audit_entries, 1);

        // What was kept goes after its key.
        store.clock.advance(2 * DAY);
        assert_eq!(engine.purge(DAY).unwrap().keys, revoked as u64);
        store.assert_sound();
        let trimmed = engine.trim_audit(0).unwrap();
        assert_eq!((trimmed.removed, trimmed.kept), (0, 0));
        let entries = engine.audit_page(0, 10).unwrap().entries;
        assert!(
            matches!(
                entries.last().unwrap().event,
                AuditEvent::AuditTrimmed { dropped: 4, .. }
            ),
            "{entries:?}"
        );
        let len = engine.audit_span().unwrap().last.seq;
        engine.trim_audit(0).unwrap();
        assert_eq!(
            engine.audit_span().unwrap().last.seq,
            len,
            "nothing is left to do"
        );
        store.assert_sound();
    });
}

#[test]
fn a_position_that_was_trimmed_away_is_an_error_that_tells_where_the_trail_begins() {
    everywhere(|store| {
        store.keyspace("acme");
        for _ in 0..9 {
            store.issue("acme", "acme");
        }
        let all = store.engine.audit_page(0, 100).unwrap().entries;
        assert_eq!(store.engine.trim_audit(6).unwrap().removed, 6);
        for reopened in [false, true] {
            if reopened && !store.reopen() {
                continue;
            }
            let engine = &store.engine;
            for seq in 1..=6 {
                let gone = |result: Result<(), Error>| {
                    let error = result.unwrap_err();
                    assert!(error.to_string().contains("begins with entry 7"), "{error}");
                    assert!(matches!(
                        error,
                        Error::NotFound(NotFound::AuditEntry { seq: asked, first: 7 }) if asked == seq
                    ));
                };
                gone(engine.audit_page(seq, 10).map(drop));
                gone(engine.export_audit(seq, &mut Vec::new()).map(drop));
            }
            assert_eq!(engine.audit_page(7, 4).unwrap().entries, all[6..]);
            assert_eq!(engine.audit_page(0, 4).unwrap().entries, all[6..]);
            assert_eq!(engine.audit_page(10, 2).unwrap().entries[0], all[9]);
            assert_eq!(engine.audit_page(12, 1).unwrap().entries, []);
            let span = engine.audit_span().unwrap();
            assert_eq!((span.after.seq, span.last.seq, span.entries()), (6, 11, 5));
            // Less than was trimmed changes nothing.
            assert_eq!(engine.trim_audit(3).unwrap().through, span.after);
            assert_eq!(engine.audit_span().unwrap(), span);
        }
        // The trail goes on, and is trimmed again, past its end as well.
        store.issue("acme", "acme");
        assert_eq!(store.engine.trim_audit(u64::MAX).unwrap().removed, 6);
        store.assert_sound();
        assert_eq!(store.engine.audit_page(0, 10).unwrap().entries.len(), 1);
    });
}

/// More than one transaction takes, and below, at and above what one takes.
#[test]
fn many_entries_are_trimmed_by_ten_thousand_and_each_step_is_whole() {
    let store = Store::new(0, true);
    store.keyspace("acme");
    let batch = |count| vec![NewKey::new("acme", "acme").unwrap(); count];
    for count in [10_000, 10_000, 4097] {
        store.engine.issue_batch(batch(count)).unwrap();
    }
    let revoked = store.issue("acme", "other").key.id;
    by(&store.engine, "alice")
        .revoke(revoked, leaked())
        .unwrap();
    let told = store.engine.key(revoked).unwrap();
    let last = store.engine.audit_span().unwrap().last;
    assert_eq!(last.seq, 24_100);
    assert_eq!(store.engine.trim_audit(1).unwrap().removed, 1);
    assert_eq!(store.engine.trim_audit(10_001).unwrap().removed, 10_000);
    let trimmed = store.engine.trim_audit(last.seq).unwrap();
    assert_eq!(
        (trimmed.removed, trimmed.kept, trimmed.through),
        (14_099, 1, last)
    );
    let left = store.engine.audit_page(0, 10).unwrap().entries;
    let steps: Vec<_> = left
        .iter()
        .map(|entry| match &entry.event {
            AuditEvent::AuditTrimmed { through, .. } => through.seq,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(steps, [1, 10_001, 20_001, 24_100]);
    assert_eq!(store.engine.key(revoked).unwrap(), told);
    let copy = store.dir().join("copy.redb");
    store.engine.backup(&copy).unwrap();
    let copy = small().clock(store.clock.clone()).open(&copy).unwrap();
    assert_eq!(
        copy.audit_span().unwrap(),
        store.engine.audit_span().unwrap()
    );
    assert_eq!(copy.key(revoked).unwrap(), told);
}

#[test]
fn exports_and_what_is_left_of_a_trimmed_trail_are_one_chain() {
    everywhere(|store| {
        revoked_in_every_way(store);
        let key = store.engine.audit_key();
        let all = super::trail(&store.engine);
        let (first, bytes) = export(&store.engine, 0);
        assert_eq!(verified(&bytes, &key).unwrap(), (first, all.clone()));
        let none: Link = format!("0:{}", "00".repeat(32)).parse().unwrap();
        assert_eq!((first.after, first.entries()), (none, all.len() as u64));
        let (part, bytes) = export(&store.engine, 7);
        assert_eq!(verified(&bytes, &key).unwrap(), (part, all[6..].to_vec()));

        store.engine.trim_audit(first.last.seq).unwrap();
        assert_eq!(store.engine.audit_span().unwrap().after, first.last);
        store.issue("acme", "later");
        let (second, bytes) = export(&store.engine, first.last.seq + 1);
        assert_eq!(second.after, first.last);
        assert_eq!(verified(&bytes, &key).unwrap().1.len(), 2);
        assert_eq!(export(&store.engine, 0).0, second);
        // Nothing new is an export as well.
        let (none, bytes) = export(&store.engine, u64::MAX);
        assert_eq!((none.after, none.entries()), (second.last, 0));
        assert_eq!(verified(&bytes, &key).unwrap(), (none, vec![]));

        // The key can be kept elsewhere; that of another store proves nothing.
        let kept = AuditKey::new(*key.expose());
        assert!(verified(&bytes, &kept).is_ok());
        assert_eq!(format!("{kept:?}"), "AuditKey(withheld)");
        let other = Store::new(0, false).engine.audit_key();
        assert!(matches!(
            verified(&export(&store.engine, 0).1, &other),
            Err(Error::Corrupted(_))
        ));
    });
}

#[test]
fn an_export_longer_than_a_snapshot_is_whole() {
    let store = Store::new(0, false);
    store.keyspace("acme");
    let batch = vec![NewKey::new("acme", "acme").unwrap(); 2999];
    store.engine.issue_batch(batch).unwrap();
    for from in [1, 2, 1000, 1001, 2001, 3000] {
        let (span, bytes) = export(&store.engine, from);
        assert_eq!((span.after.seq, span.last.seq), (from - 1, 3000));
        let (_, entries) = verified(&bytes, &store.engine.audit_key()).unwrap();
        assert!(entries.iter().map(|entry| entry.seq).eq(from..=3000));
    }
}

/// The range of each line, its end included.
fn lines(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut from = 0;
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| {
            let range = from..from + line.len();
            from = range.end;
            range
        })
        .collect()
}

#[test]
fn an_export_that_was_altered_cut_or_joined_does_not_verify() {
    let store = Store::new(0, false);
    revoked_in_every_way(&store);
    let key = store.engine.audit_key();
    let (span, whole) = export(&store.engine, 0);
    let refused = |what: &str, bytes: &[u8]| {
        let error = verified(bytes, &key).expect_err(what);
        assert!(
            matches!(
                error,
                Error::Corrupted(_) | Error::Invalid(Invalid::Malformed(_)) | Error::Store(_)
            ),
            "{what}: {error}"
        );
    };
    let lines = lines(&whole);
    assert_eq!(lines.len() as u64, span.entries() + 3);
    for (at, line) in lines.iter().enumerate() {
        refused(&format!("cut before line {at}"), &whole[..line.start]);
        refused(
            &format!("cut in line {at}"),
            &whole[..line.start + line.len() / 2],
        );
        let without = [&whole[..line.start], &whole[line.end..]].concat();
        refused(&format!("without line {at}"), &without);
        if let Some(next) = lines.get(at + 1) {
            let swapped = [
                &whole[..line.start],
                &whole[next.clone()],
                &whole[line.clone()],
                &whole[next.end..],
            ];
            refused(&format!("line {at} after the next"), &swapped.concat());
        }
    }
    for at in 0..whole.len() {
        let mut altered = whole.clone();
        // Never the same digit in another case.
        altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
        refused(&format!("byte {at}"), &altered);
    }
    // The last entries left out, and the end made to fit: only a link that was noted
    // elsewhere tells.
    let noted = store.engine.audit_span().unwrap().last;
    let text = std::str::from_utf8(&whole[..lines[lines.len() - 2].start]).unwrap();
    let hash = &text.trim_end()[text.len() - 65..];
    let shorter = format!("{text}last {}:{hash}\n", span.last.seq - 1).into_bytes();
    let (cut, _) = verified(&shorter, &key).unwrap();
    assert_ne!(cut.last, noted);
    assert_eq!(cut.last.seq, noted.seq - 1);
}

/// Old records that are put back are found where an entry that is left or kept tells.
#[test]
fn a_revoked_key_whose_old_record_is_put_back_after_a_trimming_is_found() {
    use redb::{ReadableTable, TableDefinition};
    const KEYS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("keys");
    const KEPT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("kept");

    let mut store = Store::on_file();
    store.keyspace("acme");
    let key = store.issue("acme", "acme").key.id;
    let (id, old) = store.edit(|txn| {
        let table = txn.open_table(KEYS).unwrap();
        let (id, record) = table.first().unwrap().unwrap();
        (id.value(), record.value().to_vec())
    });
    store.engine.revoke(key, leaked()).unwrap();
    store.engine.trim_audit(u64::MAX).unwrap();
    store.assert_sound();
    let found = |store: &Store| format!("{:?}", store.engine.check().unwrap().findings);
    let new = store.edit(|txn| {
        let mut table = txn.open_table(KEYS).unwrap();
        let replaced = table.insert(id, old.as_slice()).unwrap().unwrap();
        replaced.value().to_vec()
    });
    let text = found(&store);
    assert!(text.contains("it is older than audit entry 3"), "{text}");
    store.edit(|txn| {
        let mut table = txn.open_table(KEYS).unwrap();
        table.insert(id, new.as_slice()).unwrap();
        txn.open_table(KEPT).unwrap().remove(3).unwrap();
    });
    let text = found(&store);
    assert!(text.contains("kept"), "{text}");
    // That it is revoked, its own record says; by whom is lost.
    let revoked = store.engine.key(key).unwrap().revoked.unwrap();
    assert_eq!((revoked.note, revoked.by), (None, None));
    let report = store.engine.repair().unwrap();
    assert!(report.left.is_sound(), "{report:#?}");
    assert_eq!(report.repairs[0].table, "kept");
}

#[test]
fn a_trimming_stops_at_an_entry_that_does_not_follow() {
    let mut store = Store::on_file();
    store.keyspace("acme");
    for _ in 0..8 {
        let key = store.issue("acme", "acme").key.id;
        store
            .engine
            .update(key, KeyUpdate::new().name("n"))
            .unwrap();
    }
    store.edit(|txn| {
        let mut table = txn.open_table(super::chain::AUDIT).unwrap();
        super::chain::flip_a_bit(&mut table, 9, 3);
    });
    assert_eq!(store.engine.trim_audit(8).unwrap().removed, 8);
    let span = store.engine.audit_span().unwrap();
    assert!(matches!(
        store.engine.trim_audit(12),
        Err(Error::Corrupted(corruption)) if corruption.record == "9"
    ));
    assert_eq!(store.engine.audit_span().unwrap(), span);
}
