//! Stores of every version of the format, as they were written by the version of the
//! crate that had it: opened, read, changed, for ever.
//!
//! A store's file is in tests/fixtures, and beside it what it said of itself when it
//! was made. `GATEKEY_PROOF_FIXTURES=format-1` makes those of the format that is
//! current; it writes over none.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatekey::proof::open_on;
use gatekey::{
    Engine, KeyFilter, KeyId, KeyState, ManualClock, NewKey, Reason, Rotation, Timestamp,
};

use crate::disk::Disk;
use crate::workload::{SCRIPT, World, assert_sound, instant, options, verdict};

const MAKE: &str = "GATEKEY_PROOF_FIXTURES";

/// The name of a store, and how many peppers it has.
const STORES: [(&str, u8); 3] = [
    ("format-1", 0),
    ("format-1-peppered", 2),
    // It was not closed, and must be recovered.
    ("format-1-open", 2),
];

fn path(name: &str, extension: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fixtures.join(name).with_extension(extension)
}

/// The instants at which each token is asked for: after the script, as keys go out of
/// grace and expire, and long after.
fn instants() -> [Timestamp; 4] {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let end = instant(SCRIPT.len());
    [0, 1, 2, 100_000].map(|after| end.saturating_add(hours(after)))
}

/// A store opened at the end of the script, from a copy of its bytes.
fn opened(bytes: &[u8], peppers: u8) -> (Engine, ManualClock) {
    let clock = ManualClock::at(instant(SCRIPT.len()));
    let engine = open_on(options(&clock, peppers), Disk::of(bytes.to_vec())).unwrap();
    (engine, clock)
}

/// What a store says of itself, line by line; in no derived form, which a new field of
/// an answer would change.
fn account(engine: &Engine, clock: &ManualClock, tokens: &[(KeyId, String)]) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").unwrap();
    for keyspace in engine.keyspaces().unwrap() {
        let (prefix, text) = (keyspace.prefix, keyspace.description);
        let names = keyspace.permissions.iter().map(|name| name.name.clone());
        let names: Vec<String> = names.collect();
        line(format!("keyspace {prefix} {text:?} {names:?}"));
    }
    for key in engine.keys(KeyFilter::new()) {
        let key = key.unwrap();
        let ms = |at: Option<Timestamp>| at.map(Timestamp::unix_ms);
        line(format!(
            "key {} {} {} {:?} permissions {:x} name {:?} {:?} labels {:?} networks {:?} plan {:?}",
            key.id,
            key.keyspace,
            key.owner,
            key.state,
            key.permissions.bits(),
            key.name,
            key.description,
            key.labels,
            key.networks
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            key.plan,
        ));
        line(format!(
            "    quota {:?} times {:?} {:?} {:?} created {} {:?} lineage {:?} {:?} used {}",
            key.quota.map(|quota| quota.remaining),
            ms(key.not_before),
            ms(key.expires_at),
            ms(key.retiring_until),
            key.created_at.unix_ms(),
            key.created_by,
            key.predecessor.map(|id| id.to_string()),
            key.successor.map(|id| id.to_string()),
            key.usage.count,
        ));
        if let Some(revoked) = key.revoked {
            line(format!(
                "    revoked {} {} {:?} {:?}",
                revoked.at.unix_ms(),
                revoked.reason,
                revoked.note,
                revoked.by
            ));
        }
    }
    for entry in engine.audit_page(1, 1000).unwrap().entries {
        line(format!(
            "audit {} {} {:?} {} keys",
            entry.seq,
            entry.at.unix_ms(),
            entry.actor,
            entry.event.keys().len()
        ));
    }
    for (key, token) in tokens {
        let verdicts = instants().map(|at| {
            // The clock of an engine that was asked later would not go back.
            clock.set(at);
            verdict(engine, token).unwrap()
        });
        line(format!("token {key} {token} {verdicts:?}"));
    }
    text
}

/// Makes the fixtures of the current format. Without its variable this is no test.
#[test]
fn the_maker() {
    let Ok(format) = std::env::var(MAKE) else {
        return;
    };
    for (name, peppers) in STORES {
        let target = path(name, "store");
        if !name.starts_with(&format) || target.exists() {
            continue;
        }
        let disk = Disk::default();
        let mut world = World::begin_with(peppers.min(1), disk.clone()).unwrap();
        for (at, verb) in SCRIPT.iter().enumerate() {
            world.run(at, *verb).unwrap();
        }
        if !name.ends_with("open") {
            world.engine.close().unwrap();
        }
        let bytes = disk.live();
        let (engine, clock) = opened(&bytes, peppers);
        fs::write(&target, &bytes).unwrap();
        let said = account(&engine, &clock, &world.tokens);
        fs::write(path(name, "txt"), said).unwrap();
    }
}

#[test]
fn a_store_of_every_version_of_the_format_says_what_it_said_then() {
    for (name, peppers) in STORES {
        let bytes = fs::read(path(name, "store")).unwrap();
        let said = fs::read_to_string(path(name, "txt")).unwrap();
        let tokens = said.lines().filter_map(|line| {
            let mut words = line.strip_prefix("token ")?.split(' ');
            let key = words.next()?.parse().unwrap();
            Some((key, words.next()?.to_owned()))
        });
        let tokens: Vec<(KeyId, String)> = tokens.collect();
        assert!(tokens.len() > 30, "{name}");
        let (engine, clock) = opened(&bytes, peppers);
        assert_sound(&engine, name);
        let says = account(&engine, &clock, &tokens);
        for (now, then) in says.lines().zip(said.lines()) {
            assert_eq!(now, then, "{name}");
        }
        assert_eq!(says.lines().count(), said.lines().count(), "{name}");
        // Counts, which format 1 did not keep.
        for (prefix, counts) in engine.stats().unwrap().keyspaces {
            let keys = engine.keys(KeyFilter::new().keyspace(prefix));
            let states: Vec<KeyState> = keys.map(|key| key.unwrap().state).collect();
            let count = |state| states.iter().filter(|it| **it == state).count() as u64;
            assert_eq!(counts.revoked, count(KeyState::Revoked), "{name}");
            assert_eq!(counts.expired, count(KeyState::Expired), "{name}");
            assert_eq!(counts.suspended, count(KeyState::Suspended), "{name}");
            assert_eq!(counts.active, count(KeyState::Active), "{name}");
            assert_eq!(counts.total(), states.len() as u64, "{name}");
        }
    }
}

#[test]
fn a_store_of_every_version_of_the_format_can_be_changed_and_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    for (name, peppers) in STORES {
        let file = dir.path().join(name);
        fs::copy(path(name, "store"), &file).unwrap();
        let clock = ManualClock::at(instant(SCRIPT.len()));
        let options = || options(&clock, peppers);
        let engine = options().open(&file).unwrap();
        let entries = engine.stats().unwrap().audit_entries;
        let issued = engine.issue(NewKey::new("many", "new").unwrap()).unwrap();
        let rotated = engine.rotate(issued.key.id, Rotation::at_once()).unwrap();
        engine.suspend("acme", None).unwrap();
        engine.revoke(rotated.key.id, Reason::Cessation).unwrap();
        engine.close().unwrap();
        let engine = options().open(&file).unwrap();
        assert_sound(&engine, name);
        assert_eq!(engine.stats().unwrap().audit_entries, entries + 4, "{name}");
        let of = |token: &gatekey::Token| verdict(&engine, token.expose()).unwrap();
        assert_eq!(of(&issued.token), "revoked");
        assert_eq!(of(&rotated.token), "revoked");
        engine.close().unwrap();
    }
}
