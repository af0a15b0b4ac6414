//! Copies of a store: those that `backup` makes are whole or are none, and those that
//! another program makes of an open file hold together or say what they are.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use gatekey::{
    BackupProgress, Conflict, Engine, Error, KeyFilter, KeyId, NewKey, NewKeyspace, OpenError,
    Options, Reason, Rotation,
};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::{META, refused, small};
use crate::common::Store;

const BY_KEYSPACE: TableDefinition<'_, (u32, u64), ()> = TableDefinition::new("by_keyspace");
const USAGE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("usage");
const BY_OWNER: TableDefinition<'_, &[u8], u8> = TableDefinition::new("by_owner");

/// Issues keys until a store holds so many.
fn grow(engine: &Engine, ids: &mut Vec<KeyId>, count: usize) {
    while ids.len() < count {
        let some = (count - ids.len()).min(gatekey::bounds::BATCH_MAX);
        let batch = vec![NewKey::new("acme_live", "acme").unwrap(); some];
        let issued = engine.issue_batch(batch).unwrap();
        ids.extend(issued.iter().map(|issued| issued.key.id));
    }
}

fn a_store_of(count: usize) -> (Engine, Vec<KeyId>) {
    // Without a thread of the engine's own, which adds to the index of the trail now and then.
    let options = Options::new().resident_bytes(0).usage_interval(None);
    let engine = options.open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(keyspace).unwrap();
    let mut ids = Vec::new();
    grow(&engine, &mut ids, count);
    (engine, ids)
}

/// Below, at and above each number of records after which anything in the engine begins
/// another page, batch or report.
#[test]
fn a_backup_holds_every_record_whatever_their_number() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut ids) = a_store_of(0);
    for count in [
        0, 1, 4095, 4096, 4097, 9_999, 10_001, 19_999, 20_000, 20_001,
    ] {
        grow(&engine, &mut ids, count);
        let target = dir.path().join(format!("{count}.redb"));
        let made = engine.backup(&target).unwrap();
        // A keyspace with its prefix and its entry; and for each key the two records,
        // an entry in three indexes and one of the trail.
        assert_eq!(made.records, 3 + 6 * count as u64, "{count} keys");
        assert_eq!(made.audit_seq, 1 + count as u64);
        assert_eq!(made.file_bytes, fs::metadata(&target).unwrap().len());

        let copy = Options::new().resident_bytes(0).open(&target).unwrap();
        let held: Vec<_> = copy
            .keys(KeyFilter::new())
            .map(|key| key.unwrap().id)
            .collect();
        ids.sort_unstable();
        assert!(held == ids, "{} of {count} keys", held.len());
        let last = copy.audit_page(made.audit_seq, 2).unwrap().entries;
        assert!(
            last == engine.audit_page(made.audit_seq, 2).unwrap().entries,
            "{count} keys"
        );
        if count < 5000 {
            let report = copy.check().unwrap();
            assert!(report.is_sound(), "{count} keys: {report:#?}");
            assert_eq!(report.audit_entries, made.audit_seq);
        }
        copy.close().unwrap();
        fs::remove_file(&target).unwrap();
    }
}

#[test]
fn a_copy_that_lost_records_is_refused_and_one_in_which_a_record_differs_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.redb");
    let (engine, _) = a_store_of(10);
    engine.backup(&whole).unwrap();

    let cut = dir.path().join("cut.redb");
    fs::copy(&whole, &cut).unwrap();
    let edited = Database::open(&cut).unwrap();
    let txn = edited.begin_write().unwrap();
    txn.open_table(BY_KEYSPACE).unwrap().pop_first().unwrap();
    txn.commit().unwrap();
    drop(edited);
    let error = refused(small(), &cut).to_string();
    assert!(
        error.contains("not whole: table by_keyspace holds 9 of 10 records"),
        "{error}"
    );

    // As many records, and nothing but a digest over all tells that one is another:
    // the index has no tags.
    let altered = dir.path().join("altered.redb");
    fs::copy(&whole, &altered).unwrap();
    let edited = Database::open(&altered).unwrap();
    let txn = edited.begin_write().unwrap();
    {
        let mut table = txn.open_table(BY_OWNER).unwrap();
        let first = table.first().unwrap().unwrap().0.value().to_vec();
        assert_eq!(
            table.insert(first.as_slice(), 9).unwrap().unwrap().value(),
            0
        );
    }
    txn.commit().unwrap();
    drop(edited);
    let engine = small().open(&altered).unwrap();
    let found = |engine: &Engine| {
        let findings = engine.check().unwrap().findings;
        findings.iter().any(|found| found.record == "copy")
    };
    assert!(found(&engine));
    // From its first change on it is a store of its own.
    engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    assert!(!found(&engine));
    drop(engine);

    let engine = small().open(&whole).unwrap();
    assert!(engine.check().unwrap().is_sound());
    let verified = engine.issue(NewKey::new("acme_live", "acme").unwrap());
    assert!(
        engine
            .verify(verified.unwrap().token.expose())
            .unwrap()
            .is_granted()
    );
    engine.close().unwrap();
    let engine = small().open(&whole).unwrap();
    assert!(engine.check().unwrap().is_sound());
    drop(engine);
    // The use of the key was written, so that the counts are others by now.
    let db = Database::open(&whole).unwrap();
    let txn = db.begin_read().unwrap();
    assert_eq!(txn.open_table(USAGE).unwrap().len().unwrap(), 1);
    assert!(txn.open_table(META).unwrap().get("copy").unwrap().is_some());
}

/// What is told so often, counted in `at`, before it stops what tells it.
fn stopping_after<P>(often: usize, at: &mut usize) -> impl FnMut(P) -> ControlFlow<()> {
    move |_| {
        *at += 1;
        match *at > often {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

#[test]
fn a_backup_tells_how_far_it_is_and_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("copy.redb");
    let (engine, _) = a_store_of(2000);
    // Tables of extensions count as any other.
    let devices = engine.extension("devices").unwrap();
    devices
        .change(|tx| (0..9_u8).try_for_each(|at| tx.put("seen", &[at], 1, b"once")))
        .unwrap();
    let mut told = Vec::new();
    let made = engine
        .backup_with(&target, |progress| {
            told.push(progress);
            ControlFlow::Continue(())
        })
        .unwrap();
    let of = |is_verifying| {
        let told = told
            .iter()
            .filter(move |told| told.is_verifying == is_verifying);
        told.map(|told| told.records).collect::<Vec<_>>()
    };
    assert!(told.iter().all(|told| told.records_total == made.records));
    assert!(told.is_sorted_by_key(|told| told.is_verifying));
    assert_eq!(of(false), [0, 4096, 8192, made.records]);
    assert_eq!(of(true), of(false));

    for stop_at in 0..told.len() {
        let target = dir.path().join("stopped.redb");
        let stopped = engine.backup_with(&target, stopping_after(stop_at, &mut 0));
        assert!(matches!(
            stopped,
            Err(Error::Conflict(Conflict::BackupStopped))
        ));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            engine.backup_with(&target, |progress| {
                assert!(!progress.is_verifying, "a fault of the caller");
                ControlFlow::Continue(())
            })
        }));
        let payload = panicked.expect_err("it panicked");
        assert_eq!(payload.downcast_ref(), Some(&"a fault of the caller"));
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left"
        );
    }
}

#[test]
fn a_check_tells_how_far_it_is_and_can_be_stopped() {
    let (engine, _) = a_store_of(2000);
    let entries = engine.audit_span().unwrap().last.seq;
    let mut told = Vec::new();
    let report = engine
        .check_with(|progress| {
            told.push(progress);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(report, engine.check().unwrap());
    assert!(report.keys == 2000 && report.is_sound());
    let total = entries + 2000;
    assert!(told.iter().all(|told| told.records_total == total));
    let records: Vec<u64> = told.iter().map(|told| told.records).collect();
    assert_eq!((records[0], *records.last().unwrap()), (0, total));
    assert!(records.is_sorted() && records.windows(2).all(|two| two[1] - two[0] <= 1024));

    for stop_at in 0..told.len() {
        let mut at = 0;
        let stopped = engine.check_with(stopping_after(stop_at, &mut at));
        assert!(matches!(
            stopped,
            Err(Error::Conflict(Conflict::CheckStopped))
        ));
        assert_eq!(at, stop_at + 1);
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        engine.check_with(|progress| {
            assert!(progress.records == 0, "a fault of the caller");
            ControlFlow::Continue(())
        })
    }));
    let payload = panicked.expect_err("it panicked");
    assert_eq!(payload.downcast_ref(), Some(&"a fault of the caller"));
    assert!(engine.check().unwrap().is_sound());
}

/// Makes a backup for each place, and spoils it there before it is read back; gives the
/// errors. A backup without one is sound: what was spoilt was not in use.
fn spoilt_backups(places: Range<u64>, spoil: fn(&mut File, u64)) -> Vec<Error> {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("copy.redb");
    let (engine, _) = a_store_of(2000);
    let mut errors = Vec::new();
    for place in places {
        let spoil = |progress: BackupProgress| {
            if progress.is_verifying && progress.records == 0 {
                let partial = dir.path().join("copy.redb.backup");
                let file = File::options().read(true).write(true).open(partial);
                spoil(&mut file.unwrap(), place);
            }
            ControlFlow::Continue(())
        };
        match engine.backup_with(&target, spoil) {
            Ok(_) => {
                let copy = small().open(&target).unwrap();
                assert!(copy.check().unwrap().is_sound());
                drop(copy);
                fs::remove_file(&target).unwrap();
            }
            Err(error) => errors.push(error),
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
    errors
}

#[test]
fn a_copy_that_does_not_read_back_as_it_was_written_gets_no_name() {
    let errors = spoilt_backups(1..10, |file, place| {
        let len = file.metadata().unwrap().len();
        file.seek(SeekFrom::Start(len / 10 * place / 4096 * 4096))
            .unwrap();
        file.write_all(&[0x5a; 3 * 4096]).unwrap();
    });
    for error in &errors {
        assert!(
            matches!(error, Error::Store(_) | Error::Corrupted(_)),
            "{error}"
        );
    }
    assert!(errors.len() > 3, "{} of 9", errors.len());
}

/// One bit of a value, which the storage engine reads as well as any other.
#[test]
fn a_copy_of_which_one_bit_does_not_read_back_gets_no_name() {
    let errors = spoilt_backups(1..30, |file, place| {
        let at = file.metadata().unwrap().len() / 31 * place + 2048;
        let mut byte = [0];
        file.seek(SeekFrom::Start(at)).unwrap();
        file.read_exact(&mut byte).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&[byte[0] ^ 0x10]).unwrap();
    });
    let told = |error: &&Error| error.to_string().contains("read back");
    let different = errors.iter().filter(told).count();
    assert!(different > 3, "{different} of 29");
}

#[test]
fn what_a_crash_leaves_of_a_backup_is_never_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("copy.redb");
    let (engine, _) = a_store_of(2000);
    let mut left = Vec::new();
    engine
        .backup_with(&target, |progress| {
            // What a crash at this instant would leave.
            let half = dir.path().join(format!("half{}.redb", left.len()));
            if !progress.is_verifying {
                fs::copy(dir.path().join("copy.redb.backup"), &half).unwrap();
                left.push(half);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(left.len(), 4);
    for half in left {
        match refused(small(), &half) {
            OpenError::NotAStore(why) => assert!(why.contains("a backup that was not"), "{why}"),
            other => panic!("{other}"),
        }
    }
}

/// Copies a file as `cp` does, piece by piece, with changes of the store in between.
fn copy_in_pieces(from: &Path, to: &Path, piece: usize, mut between: impl FnMut()) {
    let (mut from, mut to) = (File::open(from).unwrap(), File::create(to).unwrap());
    let mut bytes = vec![0; piece];
    loop {
        let count = from.read(&mut bytes).unwrap();
        if count == 0 {
            return;
        }
        to.write_all(&bytes[..count]).unwrap();
        between();
    }
}

#[test]
fn a_copy_made_by_another_program_while_the_store_is_open_is_sound_or_says_what_it_is() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let engine = &store.engine;
    let mut ids = Vec::new();
    grow(engine, &mut ids, 3000);
    let token = engine.issue(NewKey::new("acme_live", "acme").unwrap());
    let token = token.unwrap();
    let token = token.token.expose();
    let path = store.path.as_ref().unwrap();
    let (mut opened, mut refused) = (0, 0);
    let mut change = 0;
    for round in 0..24 {
        let copy = store.dir().join("copied.redb");
        let piece = [1 << 16, 1 << 18, 1 << 20, 1 << 26][round % 4];
        copy_in_pieces(path, &copy, piece, || {
            change += 1;
            match change % 3 {
                0 => engine.revoke(ids[change], Reason::Cessation).map(drop),
                1 => engine.rotate(ids[change], Rotation::at_once()).map(drop),
                _ => engine.disable(ids[change]).map(drop),
            }
            .unwrap();
        });
        let options = small().clock(store.clock.clone());
        // With a thread of its own an engine reads the copy before that has repaired it.
        let copied = match round % 8 {
            0..4 => options.open(&copy),
            _ => options.usage_interval(None).open(&copy),
        };
        let flushed = copied.and_then(|copied| match copied.flush() {
            Ok(()) => Ok(copied),
            Err(error) => {
                // It is read no more.
                assert!(round % 8 < 4 && copied.verify(token).is_err());
                assert!(!copied.health().is_well());
                Err(error)
            }
        });
        match flushed {
            Ok(copied) => {
                opened += 1;
                let report = copied.check().unwrap();
                assert!(report.is_sound(), "{report:#?}");
                assert!(copied.verify(token).unwrap().is_granted());
            }
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                assert!(
                    text.contains("made while the store was open")
                        && text.contains("Engine::backup"),
                    "{text}"
                );
            }
        }
        fs::remove_file(&copy).unwrap();
    }
    // Those in one piece are whole.
    assert!(opened >= 6, "{opened}");
    assert!(refused > 0);
}
