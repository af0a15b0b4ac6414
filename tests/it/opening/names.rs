//! What a store's path may lead to, what may lie beside it, and what becomes of the
//! path while the store is being opened or is open.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use gatekey::{Error, KeyFilter, NewKey, NewKeyspace, OpenError, Reason};

use super::{CREATE, EITHER, OPEN, closed_store, contents, refused, small};

fn is_granted(path: &Path, token: &str) -> bool {
    let engine = small().open(path).unwrap();
    let is_granted = engine.verify(token).unwrap().is_granted();
    engine.close().unwrap();
    is_granted
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_name_that_ends_as_that_of_a_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut path = dir.path().join("keys").into_os_string();
    path.push("/");
    let path = PathBuf::from(path);
    for way in [OPEN, CREATE, EITHER] {
        let error = way(small(), &path).unwrap_err();
        assert!(matches!(error, Error::Open { .. }), "{error:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_is_no_file_is_refused_and_left() {
    let dir = tempfile::tempdir().unwrap();
    let (fifo, socket) = (dir.path().join("fifo"), dir.path().join("socket"));
    pipe(&fifo);
    let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [fifo, socket] {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        for way in [OPEN, CREATE, EITHER] {
            let reason = match way(small(), &path).unwrap_err() {
                Error::Open { reason, .. } => reason,
                other => panic!("{other:?}"),
            };
            assert!(matches!(reason, OpenError::NotAStore(_)), "{reason:?}");
        }
        assert_eq!(fs::symlink_metadata(&path).unwrap().file_type(), kind);
    }
}

/// Another creation's file, or whatever else has a name like that, is in nobody's way:
/// each creation has a name of its own.
#[test]
fn a_creation_touches_nothing_but_its_own_file_which_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    closed_store(small(), &store);
    for name in ["partial", "gatekey-create", "0.gatekey-create"] {
        fs::copy(&store, dir.path().join(format!("keys.{name}"))).unwrap();
    }
    symlink("nowhere", dir.path().join("keys.1.gatekey-create")).unwrap();
    let before = contents(dir.path());
    let path = dir.path().join("keys");
    let engine = small().create(&path).unwrap();
    assert_eq!(engine.keys(KeyFilter::new()).count(), 0, "it is a new one");
    engine.close().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    fs::remove_file(&path).unwrap();
    assert!(contents(dir.path()) == before);
}

/// The names in a directory, in their order.
fn names(directory: &Path) -> Vec<String> {
    let name = |(path, _): (PathBuf, _)| path.file_name().unwrap().to_str().unwrap().to_owned();
    contents(directory).into_iter().map(name).collect()
}

fn creating_name(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("keys.{number:016x}.gatekey-create"))
}

#[test]
fn the_next_opening_removes_what_a_crash_during_creation_has_left() {
    let dir = tempfile::tempdir().unwrap();
    let (path, store) = (dir.path().join("keys"), dir.path().join("store"));
    closed_store(small(), &store);
    // Cut off before the first write, before the first sync, and before the rename.
    let leave = || {
        let empty = fs::File::create(creating_name(dir.path(), 1)).unwrap();
        let hour = Duration::from_secs(3600);
        empty.set_modified(SystemTime::now() - hour).unwrap();
        fs::write(creating_name(dir.path(), 2), [0; 4096]).unwrap();
        fs::copy(&store, creating_name(dir.path(), u64::MAX)).unwrap();
    };
    leave();
    let token = closed_store(small(), &path);
    assert_eq!(names(dir.path()), ["keys", "store"], "after a creation");
    leave();
    assert!(is_granted(&path, &token));
    assert_eq!(names(dir.path()), ["keys", "store"], "after an opening");
}

#[test]
fn a_creation_under_way_keeps_its_file_and_so_does_anybody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (path, store) = (dir.path().join("keys"), dir.path().join("store"));
    closed_store(small(), &store);
    // One that is being written, and one that is not locked yet.
    fs::copy(&store, creating_name(dir.path(), 1)).unwrap();
    let writes = fs::File::open(creating_name(dir.path(), 1)).unwrap();
    writes.lock().unwrap();
    fs::File::create(creating_name(dir.path(), 2)).unwrap();
    // What no creation of this store has made.
    fs::write(creating_name(dir.path(), 3), "notes of somebody else").unwrap();
    symlink(&store, creating_name(dir.path(), 4)).unwrap();
    fs::create_dir(creating_name(dir.path(), 5)).unwrap();
    for name in [
        "other.0000000000000001.gatekey-create",
        "keys.0123456789ABCDEF.gatekey-create",
        "keys.00000000000000001.gatekey-create",
        "keys.0000000000000001.gatekey-create.old",
    ] {
        fs::copy(&store, dir.path().join(name)).unwrap();
    }
    let before = contents(dir.path());
    let token = closed_store(small(), &path);
    assert!(is_granted(&path, &token));
    fs::remove_file(&path).unwrap();
    assert!(contents(dir.path()) == before);
}

#[test]
fn an_empty_file_that_was_made_in_advance_is_filled_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("keys"), dir.path().join("other"));
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(&path, &other).unwrap();
    let token = closed_store(small(), &path);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    assert!(is_granted(&other, &token), "it is the same file");
}

#[test]
fn a_link_that_leads_to_nothing_yet_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let path = dir.path().join("keys");
    // One link that is relative, and one that is not.
    symlink("next", &path).unwrap();
    symlink(volume.join("keys"), dir.path().join("next")).unwrap();
    let reason = refused(small(), &path);
    assert!(matches!(reason, OpenError::Missing), "{reason:?}");
    let token = closed_store(small(), &path);
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(is_granted(&volume.join("keys"), &token));
}

/// The careful operator's way, and that of those who keep links to old files.
#[test]
fn a_file_whose_name_is_anothers_by_now_acknowledges_nothing_more() {
    type Fate = fn(&Path, &Path);
    let fates: [(&str, Fate); 3] = [
        ("linked before, and replaced", |path, copy| {
            fs::hard_link(path, path.with_extension("link")).unwrap();
            fs::rename(copy, path).unwrap();
        }),
        ("moved away, and replaced", |path, copy| {
            fs::rename(path, path.with_extension("old")).unwrap();
            fs::rename(copy, path).unwrap();
        }),
        ("a link to it made to lead to another", |path, copy| {
            fs::rename(path, path.with_extension("old")).unwrap();
            symlink(copy, path).unwrap();
        }),
    ];
    for (name, fate) in fates {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("keys"), dir.path().join("copy"));
        let token = closed_store(small(), &path);
        let engine = small().open(&path).unwrap();
        engine.backup(&copy).unwrap();
        fate(&path, &copy);
        let key = engine.keys(KeyFilter::new()).next().unwrap().unwrap().id;
        let unknown = engine.revoke(key, Reason::KeyCompromise).unwrap_err();
        assert!(matches!(unknown, Error::OutcomeUnknown(_)), "{name}");
        let refused = engine.revoke(key, Reason::KeyCompromise).unwrap_err();
        assert!(matches!(refused, Error::NeedsReopen), "{name}");
        let _ = engine.close();
        assert!(is_granted(&path, &token), "{name}: it is the copy");
    }
}

/// A store that was made at the end of a link is known by the link, as one that was
/// there before.
#[test]
fn a_link_that_is_made_to_lead_elsewhere_is_noticed_by_who_made_a_store_through_it() {
    let dir = tempfile::tempdir().unwrap();
    let join = |name: &str| dir.path().join(name);
    fs::create_dir(join("volume")).unwrap();
    symlink("volume/keys", join("keys")).unwrap();
    let engine = small().create(join("keys")).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let token = closed_store(small(), &join("other"));
    symlink("other", join("new")).unwrap();
    fs::rename(join("new"), join("keys")).unwrap();
    let unknown = engine.issue(NewKey::new("acme", "acme").unwrap());
    assert!(
        matches!(unknown, Err(Error::OutcomeUnknown(_))),
        "{unknown:?}"
    );
    let _ = engine.close();
    assert!(is_granted(&join("keys"), &token));
}

/// Whoever looks at a file, or closes it, is soon done.
#[test]
fn a_file_that_is_locked_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    let token = closed_store(small(), &path);
    let other = fs::File::open(&path).unwrap();
    for lock in [fs::File::lock, fs::File::lock_shared] {
        lock(&other).unwrap();
        assert!(matches!(refused(small(), &path), OpenError::InUse));
        let engine = std::thread::scope(|scope| {
            let opening = scope.spawn(|| small().open(&path));
            std::thread::sleep(Duration::from_millis(2));
            other.unlock().unwrap();
            opening.join().unwrap()
        });
        engine.unwrap().close().unwrap();
    }
    assert!(is_granted(&path, &token));
    // And while it is open, nobody else gets the lock that a look takes.
    let engine = small().open(&path).unwrap();
    let other = fs::File::open(&path).unwrap();
    assert!(other.try_lock_shared().is_err());
    engine.close().unwrap();
    assert!(other.try_lock_shared().is_ok());
}

#[test]
fn what_is_empty_unnamed_or_unfinished_is_told_as_that() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    let told = |text: &str| {
        let error = small().open(&path).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    fs::write(&path, "").unwrap();
    told("is empty");
    // As a crash leaves a file that was being filled where it was.
    fs::write(&path, vec![0; 1 << 20]).unwrap();
    told("was not finished: if it is one, empty or remove it");
    let mut paths = vec![PathBuf::new()];
    for end in ["x/", "x/.", "x/..", ".", "..", "x//", ""] {
        paths.push(dir.path().join(end));
    }
    // A link to such a name is one.
    #[cfg(unix)]
    {
        let link = dir.path().join("link");
        symlink("x/", &link).unwrap();
        paths.push(link);
    }
    let engine = small().open_in_memory().unwrap();
    for path in paths {
        for way in [CREATE, EITHER] {
            let error = way(small(), &path).unwrap_err().to_string();
            assert!(error.contains("names no file"), "{path:?}: {error}");
        }
        if !path.is_symlink() {
            let error = engine.backup(&path).unwrap_err().to_string();
            assert!(error.contains("names no file"), "{path:?}: {error}");
        }
    }
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, if cfg!(unix) { 2 } else { 1 }, "nothing is made");
}

/// Replaced at any moment of its opening, a store keeps what it acknowledges, or
/// acknowledges nothing.
#[test]
fn a_file_that_is_replaced_while_it_is_opened_loses_nothing_that_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let join = |name: &str| dir.path().join(name);
    let (whole, path, copy) = (join("whole"), join("keys"), join("copy"));
    closed_store(small(), &whole);
    let mut acknowledged = 0;
    for round in 0..150_u64 {
        fs::copy(&whole, &path).unwrap();
        fs::copy(&whole, &copy).unwrap();
        let opened = std::thread::scope(|scope| {
            let opening = scope.spawn(|| small().open(&path));
            let (began, after) = (Instant::now(), Duration::from_micros(round * 20));
            while began.elapsed() < after {
                std::hint::spin_loop();
            }
            fs::rename(&copy, &path).unwrap();
            opening.join().unwrap()
        });
        let Ok(engine) = opened else { continue };
        let issued = engine.issue(NewKey::new("acme_live", "acme").unwrap());
        let _ = engine.close();
        let Ok(issued) = issued else { continue };
        acknowledged += 1;
        assert!(
            is_granted(&path, issued.token.expose()),
            "round {round}: a lost key"
        );
    }
    assert!(acknowledged > 0);
}

/// Eight that make one store at once: one has it, and keeps what it acknowledges; the
/// others are told that it is in use.
#[test]
fn rivals_that_make_one_store_lose_nothing_that_is_acknowledged() {
    for round in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        if round % 2 == 0 {
            fs::write(&path, "").unwrap();
        }
        let tokens: Vec<Option<String>> = std::thread::scope(|scope| {
            let rival = || {
                let engine = match small().open_or_create(&path) {
                    Ok(engine) => engine,
                    Err(Error::Open {
                        reason: OpenError::InUse,
                        ..
                    }) => return None,
                    Err(error) => panic!("round {round}: {error:?}"),
                };
                // One who comes after another has closed finds the keyspace there.
                engine
                    .ensure_keyspace(NewKeyspace::new("acme").unwrap())
                    .unwrap();
                let issued = engine.issue(NewKey::new("acme", "acme").unwrap()).unwrap();
                engine.close().unwrap();
                Some(issued.token.expose().to_owned())
            };
            let rivals: Vec<_> = (0..8).map(|_| scope.spawn(rival)).collect();
            rivals
                .into_iter()
                .map(|rival| rival.join().unwrap())
                .collect()
        });
        let tokens: Vec<String> = tokens.into_iter().flatten().collect();
        assert!(!tokens.is_empty(), "round {round}: nobody has it");
        for token in &tokens {
            assert!(is_granted(&path, token), "round {round}: a lost key");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
