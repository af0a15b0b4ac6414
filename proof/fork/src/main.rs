//! Forks while an engine is open. The child must change nothing, refuse every call
//! within the bound that `Engine` states, and end; the parent must not notice.
//!
//! In the tests of the crate a process is only said to be another. Here it is one, with
//! locks that threads held which it does not have.

use std::path::Path;
use std::process::{ExitCode, exit};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gatekey::{
    Engine, Error, Issued, KeyFilter, KeyUpdate, NewKey, NewKeyspace, Options, Quota, Reason,
    Requirements, Rotation,
};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

/// A child that takes longer hangs. Generous: a machine may be busy.
const CHILD_MAX: Duration = Duration::from_secs(60);
/// The bound that the documentation states, in verifications of a thread.
const ANSWERS_MAX: usize = 1024;
/// And in time, with the coarse clock's 10 ms, and some for a machine that is busy.
const STALE: Duration = Duration::from_millis(1500);

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let forks = std::env::args().nth(1).and_then(|count| count.parse().ok());
    for (name, case) in [
        ("a server that forks under load", under_load as Case),
        ("a child that lives on after a revocation", lives_on),
        ("a daemon whose parent is gone", daemon),
        ("a child that opens a store itself", opens_itself),
    ] {
        let dir = tempfile::tempdir().expect("a directory for a store");
        match case(&dir.path().join("keys.redb"), forks.unwrap_or(40)) {
            Ok(said) => println!("ok: {name}: {said}"),
            Err(failure) => {
                eprintln!("FAILED: {name}: {failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

type Case = fn(&Path, u32) -> Result<String, Failure>;

fn options() -> Options {
    Options::new()
        .resident_bytes(1 << 18)
        .cache_bytes(1 << 20)
        .usage_interval(Duration::from_millis(5))
}

fn new(owner: &str) -> Result<NewKey, Error> {
    NewKey::new("acme", owner)
}

/// Runs `child` in a fork. What it gives is the exit status: 0 where all was well.
fn fork(child: impl FnOnce() -> i32) -> Result<Pid, Failure> {
    // SAFETY: the child takes no lock but those of the engine, which is what is looked
    // at, and of the allocator, which glibc and musl give a child of a fork to use.
    #[allow(unsafe_code)]
    let pid = unsafe { libc::fork() };
    match pid {
        0 => exit(child()),
        pid => Pid::from_raw(pid)
            .filter(|_| pid > 0)
            .ok_or_else(|| std::io::Error::last_os_error().into()),
    }
}

/// Waits for a child, and kills one that hangs.
fn wait(child: Pid) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let status: Option<WaitStatus> =
            waitpid(Some(child), WaitOptions::NOHANG)?.map(|(_, status)| status);
        match status.map(|status| (status.exit_status(), status)) {
            Some((Some(0), _)) => return Ok(()),
            Some((Some(line), _)) => return Err(format!("the child's line {line}").into()),
            Some((None, status)) => return Err(format!("the child ended: {status:?}").into()),
            None if begun.elapsed() > CHILD_MAX => {
                kill_process(child, Signal::KILL)?;
                waitpid(Some(child), WaitOptions::empty())?;
                return Err("the child hung".into());
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// In the child: the line of a check that failed. A status has eight bits; main.rs is
/// to stay below 512 lines, of which half a line is told.
macro_rules! must {
    ($what:expr) => {
        if !$what {
            return (line!() / 2) as i32;
        }
    };
}

fn is_forked<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Forked))
}

/// What a child may find of an engine that its parent opened.
fn look_around(engine: Engine, good: &Issued, path: &Path) -> i32 {
    let (id, token) = (good.key.id, good.token.expose());
    must!(is_forked(&engine.revoke(id, Reason::Unspecified)));
    must!(is_forked(&engine.rotate(id, Rotation::at_once())));
    must!(is_forked(&engine.update(id, KeyUpdate::new())));
    must!(is_forked(&engine.disable(id)));
    must!(is_forked(&engine.suspend("acme", None)));
    must!(is_forked(&engine.purge(Duration::ZERO)));
    must!(new("acme").is_ok_and(|new| is_forked(&engine.issue(new))));
    must!(is_forked(&engine.revoke_token(token, Reason::Unspecified)));
    must!(is_forked(&engine.flush()));
    must!(is_forked(&engine.key(id)));
    must!(is_forked(&engine.keys_page(&KeyFilter::new(), None, 10)));
    must!(is_forked(&engine.stats()));
    must!(is_forked(&engine.audit_page(1, 10)));
    must!(is_forked(&engine.check()));
    let copy = path.with_extension("copy");
    must!(is_forked(&engine.backup(&copy)) && !copy.exists());
    must!(is_forked(&engine.keyspaces()));
    // Never more than the bound, and never again after.
    let answered = (0..=ANSWERS_MAX).take_while(|_| engine.verify(token).is_ok());
    must!(answered.count() <= ANSWERS_MAX);
    must!(is_forked(&engine.verify(token)));
    let many = engine.verify_many(&[token, token], &Requirements::new());
    must!(many.len() == 2 && many.iter().all(is_forked));
    // A thread of the child's own has nothing to go by, and asks at once.
    let first = std::thread::scope(|scope| scope.spawn(|| engine.verify(token)).join());
    must!(first.is_ok_and(|first| is_forked(&first)));
    must!(is_forked(&engine.clone().close()));
    drop(engine);
    0
}

/// Threads issue, revoke, verify and spend while the process forks.
fn under_load(path: &Path, forks: u32) -> Result<String, Failure> {
    let engine = options().create(path)?;
    engine.create_keyspace(NewKeyspace::new("acme")?)?;
    let good = engine.issue(new("acme")?)?;
    let counted = engine.issue(new("counted")?.quota(Quota::new(1 << 40)))?;
    let (over, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    let outcome = std::thread::scope(|scope| {
        for writer in 0..2 {
            let (engine, over, changes) = (&engine, &over, &changes);
            scope.spawn(move || -> Result<(), Error> {
                while !over.load(Ordering::SeqCst) {
                    let issued = engine.issue(new(&format!("writer/{writer}"))?)?;
                    engine.revoke(issued.key.id, Reason::Unspecified)?;
                    assert!(!engine.verify(issued.token.expose())?.is_granted());
                    changes.fetch_add(2, Ordering::SeqCst);
                }
                Ok(())
            });
        }
        for token in [&good.token, &counted.token] {
            let (engine, over) = (&engine, &over);
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    assert!(engine.verify(token.expose()).is_ok_and(|v| v.is_granted()));
                }
            });
        }
        let forked = (0..forks).try_for_each(|number| {
            // This thread verifies as well, so that it has asked just before.
            assert!(engine.verify(good.token.expose())?.is_granted());
            std::thread::sleep(Duration::from_micros(u64::from(number) * 131 % 4000));
            let mine = engine.clone();
            wait(fork(|| look_around(mine, &good, path))?)
        });
        over.store(true, Ordering::SeqCst);
        forked
    });
    outcome?;
    let changes = changes.load(Ordering::SeqCst);
    if !engine.check()?.is_sound() || engine.stats()?.audit_entries < changes {
        return Err("the parent's store is not sound".into());
    }
    engine.close()?;
    let engine = options().verify_file(true).open(path)?;
    if !engine.check()?.is_sound() || engine.stats()?.audit_entries < changes {
        return Err("the store is not sound once it is opened again".into());
    }
    Ok(format!("{forks} forks amid {changes} changes, all kept"))
}

/// What the parent revokes, a child that was forked before does not grant.
fn lives_on(path: &Path, _: u32) -> Result<String, Failure> {
    let engine = options().create(path)?;
    engine.create_keyspace(NewKeyspace::new("acme")?)?;
    let issued = engine.issue(new("acme")?)?;
    assert!(engine.verify(issued.token.expose())?.is_granted());
    let mine = engine.clone();
    let child = fork(|| {
        std::thread::sleep(STALE);
        must!(is_forked(&mine.verify(issued.token.expose())));
        must!(is_forked(&mine.revoke(issued.key.id, Reason::Unspecified)));
        drop(mine);
        0
    })?;
    engine.revoke(issued.key.id, Reason::KeyCompromise)?;
    wait(child)?;
    // Also once the child is gone, whose end gives nothing back.
    if engine.verify(issued.token.expose())?.is_granted() || !engine.check()?.is_sound() {
        return Err("the parent grants what it revoked, or its store is not sound".into());
    }
    engine.issue(new("acme")?)?;
    engine.close()?;
    Ok("refused".to_owned())
}

/// The parent opens, forks and ends, as a program does that detaches itself.
fn daemon(path: &Path, _: u32) -> Result<String, Failure> {
    let intermediate = fork(|| {
        let prepared = (|| -> Result<_, Error> {
            let engine = options().create(path)?;
            engine.create_keyspace(NewKeyspace::new("acme")?)?;
            let issued = engine.issue(new("acme")?)?;
            Ok((engine, issued))
        })();
        let Ok((engine, issued)) = prepared else {
            return 1;
        };
        let done = path.with_extension("done");
        let daemon = fork(|| {
            std::thread::sleep(STALE);
            let status = look_around(engine, &issued, path);
            must!(std::fs::write(&done, status.to_string()).is_ok());
            status
        });
        // Ends without closing, as `daemon(3)` has it.
        i32::from(daemon.is_err())
    })?;
    wait(intermediate)?;
    let begun = Instant::now();
    let status = loop {
        match std::fs::read_to_string(path.with_extension("done")) {
            Ok(status) if !status.is_empty() => break status,
            _ if begun.elapsed() > CHILD_MAX => return Err("the daemon hung".into()),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    if status != "0" {
        return Err(format!("the daemon's line {status}").into());
    }
    // Its copy of the lock goes with it.
    while let Err(error) = options().open(path) {
        if begun.elapsed() > CHILD_MAX {
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let engine = options().open(path)?;
    if !engine.check()?.is_sound() || engine.keys_page(&KeyFilter::new(), None, 2)?.keys.len() != 1
    {
        return Err("the store lost its key".into());
    }
    Ok("refused, and the store is whole".to_owned())
}

/// What the documentation says to do: open after the fork.
fn opens_itself(path: &Path, _: u32) -> Result<String, Failure> {
    let engine = options().create(path)?;
    engine.create_keyspace(NewKeyspace::new("acme")?)?;
    let issued = engine.issue(new("acme")?)?;
    let mine = engine.clone();
    let child = fork(|| {
        must!(matches!(options().open(path), Err(Error::Open { .. })));
        drop(mine);
        let begun = Instant::now();
        let own = loop {
            match options().open(path) {
                Ok(own) => break own,
                Err(_) if begun.elapsed() > CHILD_MAX / 2 => return 1,
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        must!(
            own.verify(issued.token.expose())
                .is_ok_and(|v| v.is_granted())
        );
        must!(own.revoke(issued.key.id, Reason::Unspecified).is_ok());
        must!(own.close().is_ok());
        0
    })?;
    std::thread::sleep(Duration::from_millis(200));
    engine.close()?;
    wait(child)?;
    let engine = options().open(path)?;
    if engine.verify(issued.token.expose())?.is_granted() || !engine.check()?.is_sound() {
        return Err("the child's revocation is lost".into());
    }
    Ok("once the parent has closed".to_owned())
}
