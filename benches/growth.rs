//! What a store grows by beside what it holds: a line `name value unit` for each figure.
//!
//! - The file: a backup keeps the pages of its snapshot, so that changes beside it take
//!   new ones; and a file does not shrink with its keys. Each is done twice: what is done
//!   again shows whether the growth is bounded.
//! - Memory: threads that write, each in an arena of the allocator. The process runs
//!   itself anew for each setting of `MALLOC_ARENA_MAX`, which glibc reads at its start.
//!
//! `cargo bench --bench growth`. Under `cargo test`, with `--test` and in a debug build,
//! it runs on few keys, prints nothing, and fails where a result is wrong.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails should stop, and figures are for people"
)]

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::process::Command;
use std::time::Duration;

use gatekey::{AuditEvent, Engine, KeyFilter, KeyId, KeyUpdate, Options, Reason};
use support::{Home, new_key, report};

/// In the environment of a process that shows what writing threads take.
const WRITERS: &str = "GATEKEY_BENCH_WRITERS";
const THREADS: usize = 16;

/// How much of everything.
struct Scale {
    keys: usize,
    updates: usize,
    purged: usize,
    per_writer: usize,
}

fn main() {
    let scale = match support::is_test() {
        true => Scale {
            keys: 2000,
            updates: 200,
            purged: 3000,
            per_writer: 5,
        },
        false => Scale {
            keys: 300_000,
            updates: 16_500,
            purged: 1_000_000,
            per_writer: 300,
        },
    };
    if std::env::var_os(WRITERS).is_some() {
        write_and_tell_memory(&scale);
        return;
    }
    update_during_a_backup(&scale);
    for arenas in [None, Some("1"), Some("2")] {
        writers(arenas);
    }
    purge(&scale);
}

/// No thread of the engine's own writes beside.
fn options() -> Options {
    Options::new().resident_bytes(0).usage_interval(None)
}

fn file_mib(home: &Home) -> f64 {
    fs::metadata(home.file()).unwrap().len() as f64 / f64::from(1 << 20)
}

fn issue(engine: &Engine, count: usize) -> Vec<KeyId> {
    let mut ids = Vec::with_capacity(count);
    let owner = |n: usize| format!("acme/team-{}/bot-{n}", n % 97);
    support::issue(engine, count, owner, |_, token| ids.push(token.key_id()));
    support::shuffle(&mut ids);
    ids
}

/// Changes a key from all over the file, in a commit of its own.
fn update(engine: &Engine, ids: &[KeyId], at: usize) {
    let name = format!("update {at}");
    let update = KeyUpdate::new().name(name.as_str());
    engine.update(ids[at % ids.len()], update).unwrap();
}

fn update_during_a_backup(scale: &Scale) {
    let home = Home::new();
    let engine = home.open(options());
    let ids = issue(&engine, scale.keys);
    report("file_issued", file_mib(&home), "MiB");
    for at in 0..scale.updates {
        update(&engine, &ids, at);
    }
    report("file_after_updates", file_mib(&home), "MiB");
    engine.compact().unwrap();
    report("file_compacted", file_mib(&home), "MiB");
    for round in 1..=2 {
        // Changes beside a backup, evenly over the time for which it holds its snapshot.
        let target = home.file().with_extension("copy");
        let mut done = 0;
        let made = engine.backup_with(&target, |progress| {
            let part = progress.records as f64 / progress.records_total as f64;
            let is_due =
                |done: usize| progress.is_verifying || (done as f64) < part * scale.updates as f64;
            while done < scale.updates && is_due(done) {
                update(&engine, &ids, round * scale.updates + done);
                done += 1;
            }
            ControlFlow::Continue(())
        });
        made.unwrap();
        assert_eq!(done, scale.updates);
        let copy = fs::metadata(&target).unwrap().len() as f64 / f64::from(1 << 20);
        fs::remove_file(&target).unwrap();
        report(
            &format!("file_after_backup_{round}"),
            file_mib(&home),
            "MiB",
        );
        report(&format!("copy_{round}"), copy, "MiB");
    }
    let compacted = engine.compact().unwrap();
    assert!(compacted.file_bytes < compacted.file_bytes_before);
    report("file_compacted_again", file_mib(&home), "MiB");
    assert_eq!(engine.keys(KeyFilter::new()).count(), scale.keys);
    engine.close().unwrap();
}

fn purge(scale: &Scale) {
    let home = Home::new();
    let engine = home.open(options());
    report("purge_file_empty", file_mib(&home), "MiB");
    for round in 1..=2 {
        issue(&engine, scale.purged);
        report(
            &format!("purge_file_issued_{round}"),
            file_mib(&home),
            "MiB",
        );
        let revoked = engine.revoke_owner("acme", Reason::Cessation).unwrap();
        let told = AuditEvent::keys_counted(revoked.newly);
        assert!(told.is_none_or(|told| told == scale.purged as u64));
        // What ended in this millisecond is not older than nothing yet.
        let mut purged = 0;
        while purged < scale.purged as u64 {
            purged += engine.purge(Duration::ZERO).unwrap().keys;
        }
        report(
            &format!("purge_file_purged_{round}"),
            file_mib(&home),
            "MiB",
        );
        if round < 2 {
            trim(&engine);
        }
    }
    engine.compact().unwrap();
    report("purge_file_compacted_with_a_trail", file_mib(&home), "MiB");
    trim(&engine);
    engine.compact().unwrap();
    report("purge_file_compacted_without", file_mib(&home), "MiB");
    engine.close().unwrap();
}

/// Removes all of the trail but what its own transactions add.
fn trim(engine: &Engine) {
    let end = engine.audit_span().unwrap().last.seq;
    engine.trim_audit(end).unwrap();
    let left = engine.stats().unwrap().audit_entries;
    assert!(left < end / 50, "{left} of {end} entries are left");
}

/// Runs this program anew, as one that writes, with so many arenas.
fn writers(arenas: Option<&str>) {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(std::env::args().skip(1)).env(WRITERS, "1");
    command.env_remove("MALLOC_ARENA_MAX");
    if let Some(arenas) = arenas {
        command.env("MALLOC_ARENA_MAX", arenas);
    }
    let told = command.output().unwrap();
    assert!(told.status.success(), "{told:?}");
    for line in String::from_utf8(told.stdout).unwrap().lines() {
        println!("arenas_{}_{line}", arenas.unwrap_or("by_default"));
    }
}

fn write_and_tell_memory(scale: &Scale) {
    let home = Home::new();
    let engine = home.open(options());
    for round in 1..=8 {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let engine = &engine;
                scope.spawn(move || {
                    let owner = format!("acme/writer-{thread}");
                    for _ in 0..scale.per_writer {
                        engine.issue(new_key(&owner)).unwrap();
                    }
                });
            }
        });
        report(
            &format!("memory_round_{round}"),
            support::memory_mib("VmRSS"),
            "MiB",
        );
    }
    engine.close().unwrap();
}
