//! Real files whose disk is against them: no room, no right to write, no directory.
//!
//! Invariants checked:
//! - 3: nothing is acknowledged that is not there after;
//! - 10: verification goes on with what was acknowledged, and is never wrong;
//! - an error says what to do, and once that is done the store opens.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use gatekey::{Engine, Error, NewKey, NewKeyspace, OpenError, Options, Reason};

const TASK: &str = "GATEKEY_PROOF_DISK_TASK";
/// Who may write only what everybody may: `nobody`, as it is numbered by custom.
const NOBODY: u32 = 65_534;

fn options() -> Options {
    Options::new().resident_bytes(1 << 16).usage_interval(None)
}

fn new_key() -> NewKey {
    NewKey::new("acme", "acme").unwrap()
}

/// A store with a key, closed, in a directory of its own; and the key's token.
fn store() -> (tempfile::TempDir, PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let engine = options().create(&path).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let token = engine.issue(new_key()).unwrap().token;
    engine.close().unwrap();
    (dir, path, token.expose().to_owned())
}

fn is_granted(engine: &Engine, token: &str) -> bool {
    engine.verify(token).unwrap().is_granted()
}

/// The part of a process whose file may not be as long as it would be: issues until
/// that fails, and says what was acknowledged. Without its variable this is no test.
#[test]
fn the_child_without_room() {
    let Ok(path) = std::env::var(TASK) else {
        return;
    };
    let engine = options().open(&path).unwrap();
    let mut tokens = Vec::new();
    let error = loop {
        match engine.issue_batch(vec![new_key(); 200]) {
            Ok(batch) => tokens.extend(batch.into_iter().map(|issued| issued.token)),
            Err(error) => break error,
        }
    };
    println!("error:{error}");
    for token in &tokens {
        println!("token:{}", token.expose());
        assert!(is_granted(&engine, token.expose()));
    }
    // The file cannot grow, and the engine goes on: a small change may find room in it.
    let refused = loop {
        match engine.issue_batch(vec![new_key(); 20]) {
            Ok(batch) => {
                for issued in batch {
                    println!("token:{}", issued.token.expose());
                }
            }
            Err(error) => break error,
        }
    };
    println!("then:{refused}");
    let revoked = tokens.pop().unwrap();
    let is_revoked = engine.revoke(revoked.key_id(), Reason::Cessation).is_ok();
    assert_eq!(is_granted(&engine, revoked.expose()), !is_revoked);
    // There is room again, and it is the same engine.
    if let Ok("linux") = std::env::var("GATEKEY_PROOF_OS").as_deref() {
        let pid = std::process::id().to_string();
        let Some(prlimit) = gatekey_testkit::tools::find("prlimit") else {
            return;
        };
        let lifted = Command::new(prlimit)
            .args(["--pid", &pid, "--fsize=unlimited"])
            .status();
        assert!(lifted.unwrap().success());
    }
    let mut attempts = 0;
    while let Err(error) = engine.revoke(revoked.key_id(), Reason::Cessation) {
        assert!(matches!(error, Error::Store(_)), "{error:?}");
        std::thread::sleep(Duration::from_millis(1));
        attempts += 1;
        assert!(attempts < 60_000, "{error}");
    }
    assert!(engine.health().is_well());
    assert!(!is_granted(&engine, revoked.expose()));
    println!("revoked:{}", revoked.expose());
    for issued in engine.issue_batch(vec![new_key(); 2000]).unwrap() {
        println!("token:{}", issued.token.expose());
    }
    assert!(engine.check().unwrap().is_sound());
    let closed = engine.close();
    println!("closed:{}", closed.is_ok());
}

#[test]
fn without_room_nothing_is_acknowledged_that_is_not_there_and_with_room_it_opens() {
    let (mut acknowledged, mut lifted) = (0, 0);
    for blocks in [1600_u64, 2000, 3000, 4100] {
        let (_dir, path, first) = store();
        // Of 512 bytes, or of 1,024, by the shell.
        let script = format!(
            "trap '' XFSZ; ulimit -S -f {blocks} && exec \"$0\" --exact --nocapture \"$1\""
        );
        let child = Command::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .arg("real_disk::the_child_without_room")
            .env(TASK, &path)
            .env("GATEKEY_PROOF_OS", std::env::consts::OS)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        let all = |name: &str| -> Vec<String> {
            let lines = said.lines().filter_map(|line| line.strip_prefix(name));
            lines.map(str::to_owned).collect()
        };
        assert!(
            child.status.success(),
            "{said}\n{}",
            String::from_utf8_lossy(&child.stderr)
        );
        let errors = [all("error:"), all("then:")].concat();
        assert_eq!(errors.len(), 2, "{said}");
        assert!(errors[0].contains("File too large"), "{errors:?}");
        assert!(errors[1].contains("File too large"), "{errors:?}");
        // There is room again.
        let engine = options().open(&path).unwrap();
        assert!(engine.check().unwrap().is_sound(), "{blocks} blocks");
        assert!(is_granted(&engine, &first));
        let revoked = all("revoked:");
        for token in &revoked {
            assert!(
                !is_granted(&engine, token),
                "{blocks} blocks: a stale grant"
            );
        }
        lifted += revoked.len();
        let mut tokens = all("token:");
        tokens.retain(|token| !revoked.contains(token));
        for token in &tokens {
            assert!(is_granted(&engine, token), "{blocks} blocks: a lost key");
        }
        acknowledged += tokens.len();
        engine.issue(new_key()).unwrap();
        engine.close().unwrap();
    }
    println!("{acknowledged} keys were acknowledged before there was no room");
    assert!(acknowledged > 400, "{acknowledged}");
    println!("{lifted} of 4 processes had room again");
}

/// The part of a process that may read the file, and not write it. Without its
/// variable this is no test.
#[test]
fn the_child_that_may_not_write() {
    let Ok(path) = std::env::var(TASK) else {
        return;
    };
    let refused = options().open(&path).unwrap_err();
    let is_told = |reason: &OpenError| matches!(reason, OpenError::ReadOnly);
    assert!(
        matches!(&refused, Error::Open { reason, .. } if is_told(reason)),
        "{refused:?}"
    );
    // Nor may it make one in that directory.
    let other = Path::new(&path).with_file_name("other.redb");
    let refused = options().create(other).unwrap_err();
    assert!(matches!(refused, Error::Open { .. }), "{refused:?}");
    println!("refused:{refused}");
}

/// Runs a program that was just written. Another thread that forks meanwhile has it
/// open for writing until its own program runs, and until then it is busy.
fn run_copied(program: &mut Command) -> io::Result<Output> {
    for _ in 0..200 {
        match program.output() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
    program.output()
}

#[test]
fn a_file_that_may_not_be_written_is_refused_as_it_is_and_opens_once_it_may() {
    let (dir, path, token) = store();
    let bytes = fs::read(&path).unwrap();
    // Of which a copy may be run by anybody, whatever the umask is.
    let program = dir.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let is_root = fs::metadata(&path).unwrap().uid() == 0;
    for mode in [0o444, 0o644] {
        // With the second, the file could be written, but not by them.
        if mode == 0o644 && !is_root {
            continue;
        }
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o555)).unwrap();
        let mut child = Command::new(&program);
        child
            .args(["--exact", "--nocapture"])
            .arg("real_disk::the_child_that_may_not_write")
            .env(TASK, &path);
        if is_root {
            child.uid(NOBODY).gid(NOBODY);
        }
        let child = run_copied(&mut child);
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let child = match child {
            // A directory above lets nobody else in.
            Err(error) if is_root && error.kind() == ErrorKind::PermissionDenied => {
                println!("passed over: {NOBODY} may not run {}", program.display());
                return;
            }
            child => child.unwrap(),
        };
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success() && said.contains("refused:"),
            "{said}\n{}",
            String::from_utf8_lossy(&child.stderr)
        );
        assert_eq!(fs::read(&path).unwrap(), bytes, "mode {mode:o}");
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 2, "something was left behind");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let engine = options().open(&path).unwrap();
    assert!(is_granted(&engine, &token));
    engine.close().unwrap();
}

#[test]
fn a_file_that_is_removed_or_replaced_while_it_is_open_acknowledges_nothing_more() {
    type Fate = fn(&Path);
    let fates: [(&str, Fate); 3] = [
        ("the directory removed", |path| {
            fs::remove_dir_all(path.parent().unwrap()).unwrap();
        }),
        ("the file removed", |path| fs::remove_file(path).unwrap()),
        ("an old copy put in its place", |path| {
            fs::rename(path.with_extension("copy"), path).unwrap();
        }),
    ];
    for (name, fate) in fates {
        let (_dir, path, token) = store();
        let engine = options().open(&path).unwrap();
        engine.backup(path.with_extension("copy")).unwrap();
        fate(&path);
        let unknown = engine.issue(new_key()).unwrap_err();
        assert!(matches!(unknown, Error::OutcomeUnknown(_)), "{unknown:?}");
        let text = unknown.to_string();
        assert!(text.contains("removed or replaced"), "{name}: {text}");
        let refused = engine.issue(new_key()).unwrap_err();
        assert!(matches!(refused, Error::NeedsReopen), "{name}: {refused:?}");
        // What was acknowledged before is still known.
        assert!(is_granted(&engine, &token), "{name}");
        let _ = engine.close();
        let again = options().open(&path);
        match name {
            "an old copy put in its place" => {
                let engine = again.unwrap();
                assert!(is_granted(&engine, &token));
                engine.issue(new_key()).unwrap();
                engine.close().unwrap();
            }
            _ => assert!(
                matches!(&again, Err(Error::Open { .. })),
                "{name}: {again:?}"
            ),
        }
    }
}

#[test]
fn a_compacted_file_has_the_name_the_link_and_the_permissions_of_the_old_one() {
    let (dir, path, token) = store();
    let link = dir.path().join("link.redb");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let engine = options().open(&link).unwrap();
    let before = fs::metadata(&path).unwrap();
    engine.compact().unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_ne!(before.ino(), after.ino());
    assert_eq!(after.mode(), before.mode());
    assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let issued = engine.issue(new_key()).unwrap().token;
    // What is in the way of a copy, and is none, stays; the store goes on.
    let copy = dir.path().join("keys.redb.gatekey-rewrite");
    fs::write(&copy, "another's").unwrap();
    let refused = engine.compact().unwrap_err();
    assert!(matches!(refused, Error::Store(_)), "{refused:?}");
    assert_eq!(fs::read(&copy).unwrap(), b"another's");
    assert!(engine.health().is_well());
    engine.close().unwrap();
    let engine = options().open(&path).unwrap();
    assert!(copy.exists());
    assert!(is_granted(&engine, &token) && is_granted(&engine, issued.expose()));
    // A file that was moved, or replaced, is not written to its former name.
    fs::rename(&path, dir.path().join("moved")).unwrap();
    fs::remove_file(&copy).unwrap();
    engine.compact().unwrap_err();
    assert!(!path.exists() && !copy.exists());
    engine.issue(new_key()).unwrap();
}

#[test]
fn a_file_that_is_moved_while_it_is_open_keeps_what_is_acknowledged() {
    let (_dir, path, _) = store();
    let engine = options().open(&path).unwrap();
    let moved = path.with_extension("moved");
    fs::rename(&path, &moved).unwrap();
    let bytes = fs::metadata(&moved).unwrap().len();
    assert_eq!(engine.stats().unwrap().file_bytes, bytes);
    let token = engine.issue(new_key()).unwrap().token;
    engine.close().unwrap();
    let engine = options().open(&moved).unwrap();
    assert!(is_granted(&engine, token.expose()));
    engine.close().unwrap();
}
