//! A server that is killed at each named step of a change, of applying others' changes, of a
//! snapshot, of joining and of founding. Then it is started again: what it answered is there,
//! nothing is there twice, and it agrees with the others.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gatekey::fleet::{Freshness, Settings};
use gatekey::{Engine, KeyFilter, KeyState, NewKey, NewKeyspace, Options, Reason};
use gatekey_postgres::Config;
use gatekey_testkit::until;

use crate::fleet::options;
use crate::server::Postgres;

/// What the child is told: the database, its file, what to do, and where it ends.
const ADDRESS: &str = "GATEKEY_PROOF_STEPS_ADDRESS";
const FILE: &str = "GATEKEY_PROOF_STEPS_FILE";
const ACT: &str = "GATEKEY_PROOF_STEPS_ACT";
const STEP: &str = "GATEKEY_PROOF_STEPS_STEP";
const NTH: &str = "GATEKEY_PROOF_STEPS_NTH";

const LEASE: Duration = Duration::from_secs(2);

/// The steps of each act, in their order.
const CHANGE: [&str; 6] = [
    "collected",
    "appended",
    "written",
    "committed",
    "shown",
    "answered",
];
/// Of a change that is too large for an entry.
const LARGE: [&str; 8] = [
    "body part",
    "body put",
    "collected",
    "appended",
    "written",
    "committed",
    "shown",
    "answered",
];
/// At which nothing is in the log yet that takes effect.
const BEFORE: [&str; 3] = ["body part", "body put", "collected"];
const APPLY: [&str; 4] = ["read", "written", "committed", "shown"];
const SNAPSHOT: [&str; 5] = ["copying", "copied", "put", "all put", "sealed"];
const JOIN: [&str; 4] = ["part", "taken", "checked", "named"];
const FOUND: [&str; 4] = ["placed", "founded", "sealed", "begun"];

fn server(address: &str, node: &str) -> Options {
    let config = Config::new(address).unwrap();
    let log = config
        .deadline(Duration::from_secs(5))
        .open("keys")
        .unwrap();
    let settings = Settings::new(Arc::new(log), node).freshness(Freshness::FailClosed(LEASE));
    options().fleet(settings.locally())
}

fn issue(engine: &Engine, owner: &str) -> gatekey::Result<gatekey::Issued> {
    engine.issue(NewKey::new("acme_live", owner)?)
}

/// What the child does until it stops at its step. Without its variables this is no test.
#[test]
fn the_child() {
    let Ok(act) = std::env::var(ACT) else { return };
    let told = |name: &str| std::env::var(name).unwrap();
    let say = |line: &str| {
        let line = format!("\n{line}\n");
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    };
    let stop = || {
        gatekey::proof::stop_at(&told(STEP), told(NTH).parse().unwrap(), move || {
            say("stopped");
            loop {
                std::thread::park();
            }
        });
    };
    let options = server(&told(ADDRESS), "victim");
    let path = told(FILE);
    match &*act {
        "change" => {
            let engine = options.join_fleet(path).unwrap();
            stop();
            for turn in 0.. {
                let owner = format!("{}-{}/turn{turn}", told(STEP), told(NTH));
                say(&format!("begun {owner}"));
                let issued = issue(&engine, &owner).unwrap();
                say(&format!("issued {owner} {}", issued.key.id));
                engine.revoke(issued.key.id, Reason::Superseded).unwrap();
                say(&format!("revoked {owner} {}", issued.key.id));
            }
        }
        "large" => {
            let engine = options.join_fleet(path).unwrap();
            stop();
            let owner = format!("large-{}-{}", told(STEP).replace(' ', "-"), told(NTH));
            say(&format!("begun {owner}"));
            // One that is looked for, and as many more as the entry has no room for.
            let new = |owner: &str| NewKey::new("acme_live", owner).unwrap();
            let many = vec![new("many").description("x".repeat(1_000)); 800];
            let batch = std::iter::once(new(&owner)).chain(many).collect();
            let issued = engine.issue_batch(batch).unwrap();
            say(&format!("issued {owner} {}", issued[0].key.id));
            engine.revoke_owner("many", Reason::Superseded).unwrap();
        }
        "apply" => {
            let engine = options.join_fleet(path).unwrap();
            stop();
            say("ready");
            until("its step", || engine.fleet_status().is_none());
        }
        "snapshot" => {
            let engine = options.join_fleet(path).unwrap();
            stop();
            engine.put_fleet_snapshot().unwrap();
        }
        "join" => {
            stop();
            options.join_fleet(path).unwrap();
        }
        "found" => {
            stop();
            options.found_fleet(path).unwrap();
        }
        other => panic!("{other}"),
    }
    panic!("it went past its step");
}

/// What was heard of each owner's key: its id once it was issued, and whether it was revoked.
type Heard = BTreeMap<String, Option<(String, bool)>>;

/// Starts a child, kills it at its step, and says what it had answered.
fn kill_at(address: &str, path: &Path, act: &str, step: &str, nth: u32, feed: impl Fn()) -> Heard {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "killed::the_child"])
        .env(ADDRESS, address)
        .env(FILE, path)
        .env(ACT, act)
        .env(STEP, step)
        .env(NTH, nth.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut heard, mut has_stopped) = (Heard::new(), false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match *words {
            ["ready"] => feed(),
            ["begun", owner] => drop(heard.insert(owner.to_owned(), None)),
            ["issued" | "revoked", owner, id] => {
                let is_revoked = words[0] == "revoked";
                heard.insert(owner.to_owned(), Some((id.to_owned(), is_revoked)));
            }
            ["stopped"] => {
                has_stopped = true;
                child.kill().unwrap();
            }
            _ => {}
        }
    }
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(has_stopped, "{act} did not come to {step:?}: {said}");
    assert!(
        !ended.status.success() && ended.status.code().is_none(),
        "{ended:?}"
    );
    heard
}

fn position(engine: &Engine) -> u64 {
    engine.fleet_status().unwrap().position
}

pub(crate) type ByOwner = BTreeMap<String, Vec<(String, KeyState)>>;

/// All keys by their owner, and the trail.
pub(crate) fn told(engine: &Engine) -> (ByOwner, Vec<String>) {
    let mut keys = ByOwner::new();
    for key in engine.keys(KeyFilter::new()) {
        let key = key.unwrap();
        let of = keys.entry(key.owner.to_string()).or_default();
        of.push((key.id.to_string(), key.state));
    }
    let (mut trail, mut from) = (Vec::new(), 1);
    loop {
        let page = engine.audit_page(from, 1_000).unwrap();
        let Some(last) = page.entries.last() else {
            return (keys, trail);
        };
        from = last.seq + 1;
        trail.extend(page.entries.iter().map(|entry| format!("{entry:?}")));
    }
}

/// Starts the killed server again, and holds it against another and against what was heard.
fn check(address: &str, path: &Path, other: &Engine, act: &str, step: &str, heard: &Heard) {
    let victim = server(address, "victim").join_fleet(path).unwrap();
    until("it takes changes", || issue(&victim, "after").is_ok());
    until("both have applied everything", || {
        issue(other, "after").is_ok() && position(other) == position(&victim)
    });
    let told = told(&victim);
    assert!(told == self::told(other), "{act}, {step}: they differ");
    let keys = told.0;
    for (owner, known) in heard {
        let of = keys.get(owner).map(Vec::as_slice).unwrap_or_default();
        let is_last = heard
            .last_key_value()
            .is_some_and(|(last, _)| last == owner);
        match (known, of) {
            // In flight: what was sent is there, and nothing else.
            (None, []) => assert!(is_last && BEFORE.contains(&step), "{step}: {owner} is lost"),
            (None, [(_, state)]) => {
                assert!(
                    is_last && !BEFORE.contains(&step),
                    "{step}: {owner} was not sent"
                );
                assert_eq!(*state, KeyState::Active);
            }
            (Some((id, is_revoked)), [(found, state)]) => {
                assert_eq!(id, found);
                let was_sent = is_last && act != "large" && step != "collected";
                let revoked = *is_revoked || was_sent;
                let wanted = if revoked {
                    KeyState::Revoked
                } else {
                    KeyState::Active
                };
                assert_eq!(*state, wanted, "{step}: {owner}");
            }
            _ => panic!("{step}: {owner}, {known:?}: {of:?}"),
        }
    }
    for engine in [&victim, other] {
        let report = engine.check().unwrap();
        assert!(report.is_sound(), "{act}, {step}: {:?}", report.findings);
    }
    victim.close().unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let files = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = files.filter(|file| file.starts_with(name)).collect();
    assert_eq!(left, [name], "{act}, {step}");
}

fn store(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.redb"))
}

#[test]
fn a_server_that_is_killed_at_any_step_has_what_it_answered_once_and_agrees_with_the_others() {
    let Some(postgres) = Postgres::start(&[]) else {
        return;
    };
    let address = postgres.address("postgres", "disable");
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path(), "first");
    let alone = options().create(&first).unwrap();
    alone
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    alone.close().unwrap();
    for (at, step) in FOUND.into_iter().enumerate() {
        // Each is founded anew, at last for good.
        kill_at(&address, &first, "found", step, 1, || {});
        if at + 1 < FOUND.len() {
            let founded = server(&address, "first").found_fleet(&first).unwrap();
            issue(&founded, "after").unwrap();
            let other = store(dir.path(), &format!("of-{at}"));
            let joined = server(&address, "other").join_fleet(&other).unwrap();
            until("it has the key", || position(&joined) == position(&founded));
            assert!(
                told(&joined) == told(&founded),
                "founding, {step}: they differ"
            );
            joined.close().unwrap();
            founded.close().unwrap();
            options().leave_fleet(&first).unwrap().close().unwrap();
            postgres.sql("TRUNCATE gatekey.head, gatekey.log, gatekey.body, gatekey.node, gatekey.snapshot, gatekey.part CASCADE");
        }
    }
    let first = server(&address, "first").found_fleet(&first).unwrap();
    let feed = || {
        until("others write", || issue(&first, "fed").is_ok());
    };
    for step in JOIN {
        let path = store(dir.path(), &format!("joined-{step}"));
        kill_at(&address, &path, "join", step, 1, || {});
        check(&address, &path, &first, "join", step, &Heard::new());
    }
    let path = store(dir.path(), "victim");
    server(&address, "victim")
        .join_fleet(&path)
        .unwrap()
        .close()
        .unwrap();
    for (act, steps) in [
        ("change", &CHANGE[..]),
        ("large", &LARGE),
        ("apply", &APPLY),
        ("snapshot", &SNAPSHOT),
    ] {
        for step in steps {
            let most = match (act, *step) {
                ("change", _) => 4,
                // The first part, and the next.
                ("large", "body part") => 2,
                _ => 1,
            };
            for nth in 1..=most {
                let heard = kill_at(&address, &path, act, step, nth, feed);
                check(&address, &path, &first, act, step, &heard);
                // A new server begins with what the log has.
                if act == "snapshot" {
                    let path = store(dir.path(), &format!("after-{step}"));
                    check(&address, &path, &first, act, step, &heard);
                }
                assert_eq!(heard.is_empty(), !matches!(act, "change" | "large"));
            }
        }
    }
    first.close().unwrap();
}
