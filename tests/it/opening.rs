//! Opening and closing: every refusal is named, and leaves the file as it was
//! to the byte.

mod closing;
mod copies;
#[cfg(unix)]
mod names;
mod peppers;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use gatekey::{Engine, Error, KeyFilter, NewKey, NewKeyspace, OpenError, Options};
use redb::{Database, MultimapTableDefinition, TableDefinition};

use crate::common::{Store, code};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("gatekey");

/// Options whose memory is quick to set up.
pub(crate) fn small() -> Options {
    Options::new().resident_bytes(1 << 20)
}

/// What stands in a directory: each file's name and bytes.
fn contents(directory: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut all: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).ok()))
        .collect();
    all.sort();
    all
}

/// The three ways to a store on a file.
type Way = fn(Options, &Path) -> gatekey::Result<Engine>;
const OPEN: Way = |options, path| options.open(path);
const CREATE: Way = |options, path| options.create(path);
const EITHER: Way = |options, path| options.open_or_create(path);

/// Asserts that opening is refused and touches nothing, and gives the reason.
fn refused(options: Options, path: &Path) -> OpenError {
    refused_as(OPEN, options, path)
}

fn refused_as(way: Way, options: Options, path: &Path) -> OpenError {
    let directory = path
        .ancestors()
        .find(|above| *above != path && above.is_dir());
    let directory = directory.unwrap();
    let before = contents(directory);
    let error = way(options, path).expect_err("it opens");
    assert!(
        contents(directory) == before,
        "{} is not as it was after: {error}",
        directory.display()
    );
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    match error {
        Error::Open {
            path: named,
            reason,
        } => {
            assert_eq!(named, path);
            reason
        }
        other => panic!("{other:?}"),
    }
}

/// A closed store with one keyspace and one key, and its token.
fn closed_store(options: Options, path: &Path) -> String {
    closed_store_as(CREATE, options, path)
}

fn closed_store_as(way: Way, options: Options, path: &Path) -> String {
    let engine = way(options, path).unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(keyspace).unwrap();
    let issued = engine.issue(NewKey::new("acme_live", "acme").unwrap());
    let token = issued.unwrap().token.expose().to_owned();
    engine.close().unwrap();
    token
}

fn edit_meta(path: &Path, name: &str, value: Option<&[u8]>) {
    let db = Database::open(path).unwrap();
    let txn = db.begin_write().unwrap();
    {
        let mut meta = txn.open_table(META).unwrap();
        match value {
            Some(value) => drop(meta.insert(name, value).unwrap()),
            None => drop(meta.remove(name).unwrap()),
        }
    }
    txn.commit().unwrap();
}

#[test]
fn a_second_engine_is_told_that_the_store_is_in_use() {
    let mut store = Store::on_file();
    store.keyspace("acme_live");
    let issued = store.issue("acme_live", "acme");
    let path = store.path.clone().unwrap();
    for (way, options) in [
        (OPEN, Options::new()),
        (EITHER, Options::new()),
        (OPEN, Options::new().verify_file(true)),
    ] {
        assert!(matches!(refused_as(way, options, &path), OpenError::InUse));
    }
    let reason = refused_as(CREATE, small(), &path);
    assert!(matches!(reason, OpenError::Exists), "{reason:?}");
    assert_eq!(store.verdict(issued.token.expose()), "granted");
    store.issue("acme_live", "acme");
    assert!(store.reopen());
    assert_eq!(store.verdict(issued.token.expose()), "granted");
    store.assert_sound();
}

const CHILD_PATH: &str = "GATEKEY_TEST_CHILD_HOLDS";

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    if let Some(path) = std::env::var_os(CHILD_PATH) {
        // The child: holds the store until its standard input is closed.
        let engine = Engine::open(path).unwrap();
        writeln!(std::io::stdout(), "child: open").unwrap();
        std::io::stdin().lines().for_each(drop);
        engine.close().unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let token = closed_store(small(), &path);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("opening::a_second_process_is_told_that_the_store_is_in_use")
        .env(CHILD_PATH, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let open = |line: &std::io::Result<String>| line.as_ref().unwrap().ends_with("child: open");
    assert!(lines.any(|line| open(&line)));
    assert!(matches!(refused(Options::new(), &path), OpenError::InUse));
    drop(child.stdin.take());
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    let engine = small().open(&path).unwrap();
    assert_eq!(code(&engine.verify(token).unwrap()), "granted");
}

#[test]
fn a_file_that_is_not_a_store_is_refused_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let redb_and_rubbish = [b"redb\x1a\x0a\xa9\x0d\x0a".as_slice(), &[0x5a; 8000]].concat();
    for bytes in [
        b"x".as_slice(),
        b"redb",
        b"[keys]\nadmin = \"secret\"\n",
        b"SQLite format 3\0",
        &[0; 4096],
        &[0xff; 100_000],
        b"redb\x1a\x0a\xa9\x0d\x0a",
        &redb_and_rubbish,
    ] {
        fs::write(&path, bytes).unwrap();
        let reason = refused_as(CREATE, small(), &path);
        assert!(matches!(reason, OpenError::Exists), "{reason:?}");
        for way in [OPEN, EITHER] {
            let reason = refused_as(way, Options::new(), &path);
            let starts_as_redb = bytes.starts_with(b"redb\x1a");
            assert!(
                matches!(reason, OpenError::NotAStore(_))
                    || starts_as_redb && matches!(reason, OpenError::Corrupted(_)),
                "{:.20}: {reason:?}",
                bytes.escape_ascii().to_string()
            );
        }
    }
    let inner = dir.path().join("directory");
    fs::create_dir(&inner).unwrap();
    for way in [OPEN, CREATE, EITHER] {
        let reason = refused_as(way, Options::new(), &inner);
        assert!(matches!(reason, OpenError::NotAStore(_)), "{reason:?}");
    }
}

#[test]
fn a_store_cut_short_is_refused_and_never_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    closed_store(small(), &path);
    let whole = fs::read(&path).unwrap();
    for len in [
        1,
        8,
        9,
        64,
        320,
        4095,
        4096,
        8192,
        whole.len() / 2,
        whole.len() - 1,
    ] {
        fs::write(&path, &whole[..len]).unwrap();
        for way in [OPEN, EITHER] {
            let reason = refused_as(way, Options::new(), &path);
            assert!(
                matches!(reason, OpenError::Corrupted(_) | OpenError::NotAStore(_)),
                "{len}: {reason:?}"
            );
        }
    }
}

#[test]
fn another_programs_database_is_refused_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    type Make = fn(&redb::WriteTransaction);
    let makes: [(&str, Make); 5] = [
        ("a table", |txn| {
            let table = TableDefinition::<&str, u64>::new("users");
            txn.open_table(table).unwrap().insert("alice", 1).unwrap();
        }),
        ("a multimap", |txn| {
            let table = MultimapTableDefinition::<&str, u64>::new("users");
            txn.open_multimap_table(table)
                .unwrap()
                .insert("a", 1)
                .unwrap();
        }),
        ("our name, another type", |txn| {
            let table = TableDefinition::<u64, u64>::new("gatekey");
            txn.open_table(table).unwrap().insert(1, 1).unwrap();
        }),
        ("our name, a multimap", |txn| {
            let table = MultimapTableDefinition::<&str, &[u8]>::new("gatekey");
            drop(txn.open_multimap_table(table).unwrap());
        }),
        ("our name and type, no format", |txn| {
            txn.open_table(META)
                .unwrap()
                .insert("x", b"y".as_slice())
                .unwrap();
        }),
    ];
    for (name, make) in makes {
        let path = dir.path().join(name);
        let db = Database::create(&path).unwrap();
        let txn = db.begin_write().unwrap();
        make(&txn);
        txn.commit().unwrap();
        drop(db);
        let reason = refused(Options::new(), &path);
        assert!(
            matches!(reason, OpenError::NotAStore(_)),
            "{name}: {reason:?}"
        );
    }
}

#[test]
fn a_format_that_is_not_ours_is_refused_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let token = closed_store(small(), &path);
    for newer in [6_u32, 1000, u32::MAX] {
        edit_meta(&path, "format", Some(&newer.to_le_bytes()));
        assert!(matches!(
            refused(Options::new(), &path),
            OpenError::NewerFormat { found, supported: 5 } if found == newer
        ));
    }
    for rubbish in [b"".as_slice(), b"1", &[1, 0, 0, 0, 0]] {
        edit_meta(&path, "format", Some(rubbish));
        let reason = refused(Options::new(), &path);
        assert!(matches!(reason, OpenError::Corrupted(_)), "{reason:?}");
    }
    edit_meta(&path, "format", None);
    let reason = refused(Options::new(), &path);
    assert!(matches!(reason, OpenError::NotAStore(_)), "{reason:?}");
    // All the while nothing was lost.
    edit_meta(&path, "format", Some(&1_u32.to_le_bytes()));
    let engine = small().open(&path).unwrap();
    assert_eq!(code(&engine.verify(token).unwrap()), "granted");
}

#[test]
fn a_format_that_never_was_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    closed_store(small(), &path);
    edit_meta(&path, "format", Some(&0_u32.to_le_bytes()));
    let reason = refused(Options::new(), &path);
    assert!(matches!(reason, OpenError::Corrupted(_)), "{reason:?}");
}

#[test]
fn a_read_only_file_is_refused_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let token = closed_store(small(), &path);
    let writable = fs::metadata(&path).unwrap().permissions();
    let mut read_only = writable.clone();
    read_only.set_readonly(true);
    fs::set_permissions(&path, read_only.clone()).unwrap();
    assert!(matches!(
        refused(Options::new(), &path),
        OpenError::ReadOnly
    ));
    fs::set_permissions(&path, writable).unwrap();
    let engine = small().open(&path).unwrap();
    assert_eq!(code(&engine.verify(token).unwrap()), "granted");

    let empty = dir.path().join("empty");
    fs::write(&empty, b"").unwrap();
    fs::set_permissions(&empty, read_only).unwrap();
    for way in [CREATE, EITHER] {
        assert!(matches!(
            refused_as(way, Options::new(), &empty),
            OpenError::ReadOnly
        ));
    }
}

#[test]
fn a_missing_directory_is_named_and_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("not").join("there");
    let path = missing.join("keys.redb");
    for way in [CREATE, EITHER] {
        assert!(matches!(
            refused_as(way, Options::new(), &path),
            OpenError::MissingDirectory(named) if named == missing
        ));
    }
    assert!(matches!(refused(Options::new(), &path), OpenError::Missing));
}

/// A volume that is not mounted, or a file that lost what it held, is no empty store.
#[test]
fn open_makes_no_store_of_what_is_missing_empty_or_blank() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let assert_missing = || {
        let reason = refused(small(), &path);
        assert!(matches!(reason, OpenError::Missing), "{reason:?}");
        assert!(reason.to_string().contains("call create or open_or_create"));
    };
    assert_missing();
    fs::write(&path, b"").unwrap();
    assert_missing();
    fs::remove_file(&path).unwrap();
    drop(Database::create(&path).unwrap());
    assert_missing();
    fs::remove_file(&path).unwrap();
    closed_store(small(), &path);
    let engine = small().open(&path).unwrap();
    assert_eq!(engine.keys(KeyFilter::new()).count(), 1);
}

#[test]
fn create_leaves_a_store_that_exists_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let token = closed_store(small(), &path);
    let link = dir.path().join("link");
    fs::hard_link(&path, &link).unwrap();
    for path in [&path, &link] {
        let reason = refused_as(CREATE, small(), path);
        assert!(matches!(reason, OpenError::Exists), "{reason:?}");
    }
    let engine = small().open_or_create(&path).unwrap();
    assert_eq!(code(&engine.verify(token).unwrap()), "granted");
}

#[test]
fn options_that_contradict_each_other_are_refused_before_the_file_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let zero = || Options::new().usage_interval(Duration::ZERO);
    assert!(matches!(refused(zero(), &path), OpenError::Options(_)));
    let limited = |keys| Options::new().limited_keys(keys);
    let most = Options::LIMITED_KEYS_MAX;
    for keys in [most + 1, usize::MAX] {
        let reason = refused(limited(keys), &path);
        assert!(reason.to_string().contains(&keys.to_string()), "{reason}");
    }
    limited(most).open_in_memory().unwrap();
    assert!(matches!(
        zero().open_in_memory(),
        Err(Error::Open {
            reason: OpenError::Options(_),
            ..
        })
    ));
}

#[test]
fn an_empty_file_and_a_database_without_tables_become_stores() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    fs::write(&empty, b"").unwrap();
    let blank = dir.path().join("blank");
    drop(Database::create(&blank).unwrap());
    for (way, path) in [(CREATE, empty), (EITHER, blank)] {
        let token = closed_store_as(way, small(), &path);
        let engine = small().open(&path).unwrap();
        assert_eq!(code(&engine.verify(token).unwrap()), "granted");
        assert!(engine.check().unwrap().is_sound());
    }
}

/// The part of a process that is killed as it creates a store. Without its variable this
/// is no test.
#[test]
fn the_child_that_creates() {
    if let Some(path) = std::env::var_os(CHILD_CREATES) {
        writeln!(std::io::stdout(), "child: creates").unwrap();
        let engine = small().create(path).unwrap();
        writeln!(std::io::stdout(), "child: created").unwrap();
        std::thread::park();
        engine.close().unwrap();
    }
}

const CHILD_CREATES: &str = "GATEKEY_TEST_CHILD_CREATES";

/// Killed at any moment, a creation has made a whole store, or none. The next opening or
/// creation removes its temporary file.
#[test]
fn a_creation_that_is_killed_leaves_a_whole_store_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let (mut none, mut whole) = (0, 0);
    for round in 0..40_u32 {
        let path = dir.path().join(format!("keys-{round}"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "opening::the_child_that_creates"])
            .env(CHILD_CREATES, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let says = |line: &std::io::Result<String>, what| line.as_ref().unwrap().contains(what);
        assert!(lines.any(|line| says(&line, "child: creates")));
        match round % 4 {
            0 => assert!(lines.any(|line| says(&line, "child: created"))),
            _ => std::thread::sleep(Duration::from_micros(u64::from(round) * 200)),
        }
        child.kill().unwrap();
        child.wait().unwrap();
        match small().open(&path) {
            Ok(engine) => {
                assert!(engine.check().unwrap().is_sound());
                whole += 1;
            }
            Err(Error::Open {
                reason: OpenError::Missing,
                ..
            }) => {
                assert!(!path.exists());
                small().create(&path).unwrap().close().unwrap();
                none += 1;
            }
            Err(error) => panic!("round {round}: {error}"),
        }
        let beside = format!("keys-{round}.");
        for (path, bytes) in contents(dir.path()) {
            let is_beside = path
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&beside);
            // An empty one may be another's that is not locked yet.
            let is_empty = bytes.is_some_and(|bytes| bytes.is_empty());
            assert!(!is_beside || is_empty, "{path:?} was left");
        }
    }
    assert!(whole >= 10 && none + whole == 40, "{none} {whole}");
}

#[test]
fn of_many_that_make_the_same_store_one_has_it() {
    for round in 0..12 {
        let way = [CREATE, EITHER][round / 2 % 2];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        if round % 2 == 1 {
            fs::write(&path, b"").unwrap();
        }
        let start = std::sync::Barrier::new(4);
        let opened: Vec<_> = std::thread::scope(|scope| {
            let rivals = [(); 4].map(|()| {
                scope.spawn(|| {
                    start.wait();
                    way(small(), &path)
                })
            });
            rivals.map(|rival| rival.join().unwrap()).into()
        });
        let mut held = 0;
        for opened in opened {
            match opened {
                Ok(engine) => {
                    held += 1;
                    engine
                        .create_keyspace(NewKeyspace::new("acme").unwrap())
                        .unwrap();
                    assert!(engine.check().unwrap().is_sound());
                }
                Err(Error::Open {
                    reason: OpenError::InUse | OpenError::Exists,
                    ..
                }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(held, 1, "engines on one file");
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 1, "something was left behind");
        let engine = small().open(&path).unwrap();
        assert_eq!(engine.keyspaces().unwrap().len(), held);
    }
}
