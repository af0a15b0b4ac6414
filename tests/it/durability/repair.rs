//! Damaged records, one by one: no verb fails for the others, and a repair removes or
//! rebuilds each, and grants nothing that was not granted before.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gatekey::{
    AuditEvent, Corruption, Denial, Engine, Error, KeyFilter, KeyId, KeyState, KeyUpdate,
    KeysPerOwner, KeyspaceUpdate, Limit, ManualClock, NewKey, NewKeyspace, Options, Plan, Purged,
    Quota, Reason, RepairReport, Requirements, Rotation, Verdict,
};
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::tampering::{
    AUDIT, BY_END, BY_KEYSPACE, BY_OWNER, BY_TURN, COLD, KEYS, META, OWNERS, PREFIXES, USAGE, edit,
    get, put, raw, tampered,
};
use crate::audit::{last_event, trail};
use crate::common::{DAY, Store, at, code};

const QUOTAS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("quotas");
pub(super) const REQUESTS: TableDefinition<'_, (&[u8; 32], u16), &[u8]> =
    TableDefinition::new("requests");
pub(super) const REQUESTS_BY_TIME: TableDefinition<'_, (u64, &[u8; 32]), u16> =
    TableDefinition::new("requests_by_time");
const DAY_MS: u64 = 86_400_000;
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn flip(
    txn: &WriteTransaction,
    table: TableDefinition<'_, u64, &'static [u8]>,
    key: u64,
) {
    let mut bytes = get(txn, table, key);
    bytes[5] ^= 1;
    put(txn, table, key, &bytes);
}

fn new(prefix: &str, owner: &str) -> NewKey {
    NewKey::new(prefix, owner).unwrap()
}

pub(super) fn repaired(store: &Store) -> RepairReport {
    let report = store.engine.acting_as("mender").unwrap().repair().unwrap();
    assert!(report.left.is_sound(), "{report:#?}");
    store.assert_sound();
    report
}

/// All that repairs have done, by the audit trail.
fn told(engine: &Engine) -> Vec<(String, String)> {
    let entries = trail(engine).into_iter().filter(|entry| {
        let is_repair = matches!(entry.event, AuditEvent::StoreRepaired { .. });
        assert!(!is_repair || entry.actor.as_deref() == Some("mender"));
        is_repair
    });
    let repairs = entries.flat_map(|entry| match entry.event {
        AuditEvent::StoreRepaired { repairs, .. } => repairs,
        _ => vec![],
    });
    repairs
        .map(|repair| (repair.table, repair.record))
        .collect()
}

fn damaged_keys(engine: &Engine, filter: KeyFilter) -> (usize, Vec<Corruption>) {
    let (good, bad): (Vec<_>, Vec<_>) = engine.keys(filter).partition(Result::is_ok);
    let bad = bad.into_iter().map(|error| match error {
        Err(Error::Corrupted(damage)) => damage,
        other => panic!("{other:?}"),
    });
    (good.len(), bad.collect())
}

#[test]
fn one_damaged_key_stops_no_verb_for_the_others_and_a_repair_removes_it() {
    for resident_bytes in [0, 1 << 20] {
        let mut store = Store::new(resident_bytes, true);
        store.keyspace("acme_live");
        let policy = KeysPerOwner::SingleRefusing;
        let one = NewKeyspace::new("one").unwrap().keys_per_owner(policy);
        store.engine.create_keyspace(one).unwrap();
        let capped = KeysPerOwner::Many { cap: Some(1) };
        let capped = NewKeyspace::new("capped").unwrap().keys_per_owner(capped);
        store.engine.create_keyspace(capped).unwrap();

        let bad: Vec<_> = ["acme_live", "one", "capped"]
            .map(|prefix| {
                let key = new(prefix, "acme").expires_in(DAY);
                store.engine.issue(key).unwrap()
            })
            .into();
        let over = store.issue("acme_live", "acme");
        let good = store.issue("acme_live", "other");
        store.engine.revoke(over.key.id, Reason::Cessation).unwrap();
        store.clock.advance(DAY * 2);
        let mut ids: Vec<KeyId> = bad.iter().map(|issued| issued.key.id).collect();
        ids.sort_unstable();
        tampered(&mut store, |txn| {
            ids.iter().for_each(|id| flip(txn, KEYS, raw(*id)));
        });
        let engine = store.engine.clone();
        let total = |engine: &Engine| {
            let counts = engine.stats().unwrap().keyspaces;
            counts.values().map(gatekey::KeyCounts::total).sum::<u64>()
        };
        // They count as before: nobody has read them since.
        assert_eq!(total(&engine), 5);
        for filter in [
            KeyFilter::new(),
            KeyFilter::new().owner_and_below("acme".parse().unwrap()),
            KeyFilter::new().state(KeyState::Revoked),
        ] {
            let (good, damaged) = damaged_keys(&engine, filter);
            assert!(good > 0);
            let named: Vec<_> = damaged.iter().map(|damage| damage.record.clone()).collect();
            let expected: Vec<_> = ids.iter().map(ToString::to_string).collect();
            assert!(expected.iter().all(|id| named.contains(id)), "{named:?}");
        }
        // A page holds as many as it is asked for, of both kinds.
        let mut after = None;
        let mut seen = (0, 0);
        loop {
            let page = engine
                .keys_page(&KeyFilter::new(), after.as_ref(), 2)
                .unwrap();
            assert!(page.keys.len() + page.damaged.len() <= 2);
            seen = (seen.0 + page.keys.len(), seen.1 + page.damaged.len());
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, (2, 3));

        let Purged { keys, damaged, .. } = engine.purge(DAY / 2).unwrap();
        assert_eq!((keys, damaged), (1, 3));
        let single = KeyspaceUpdate::new().keys_per_owner(KeysPerOwner::SingleSuperseding);
        engine.update_keyspace("acme_live", single).unwrap();
        // Its owner is not barred by a key that grants nothing.
        for prefix in ["acme_live", "one", "capped"] {
            let issued = engine.issue(new(prefix, "acme")).unwrap();
            let rotation = Rotation::with_grace(DAY);
            let rotated = engine.rotate(issued.key.id, rotation).unwrap();
            assert_eq!(store.verdict(rotated.token.expose()), "granted");
        }
        let many = engine.revoke_owner("acme", Reason::Cessation).unwrap();
        assert_eq!((many.keys, many.damaged), (6, 3));
        for issued in &bad {
            let verdict = engine.verify(issued.token.expose());
            assert!(matches!(verdict, Err(Error::Corrupted(_))), "{verdict:?}");
        }

        let report = repaired(&store);
        let named = told(&engine);
        for id in &ids {
            assert!(named.contains(&("keys".to_owned(), id.to_string())));
        }
        assert_eq!(report.repairs_total, named.len() as u64);
        let keys = trail(&engine)
            .into_iter()
            .find_map(|entry| match entry.event {
                AuditEvent::StoreRepaired { keys, .. } => Some(keys),
                _ => None,
            });
        assert_eq!(keys.unwrap(), ids);
        for issued in &bad {
            assert_eq!(store.verdict(issued.token.expose()), "unknown");
            assert!(matches!(engine.key(issued.key.id), Err(Error::NotFound(_))));
        }
        assert_eq!(store.verdict(good.token.expose()), "granted");
        assert_eq!(total(&engine), 7);
        // There is no more to do, and nothing more is written.
        let last = last_event(&engine);
        assert_eq!(repaired(&store).repairs_total, 0);
        assert_eq!(last_event(&engine), last);
    }
}

#[test]
fn what_a_damaged_record_said_begins_anew_or_becomes_the_narrowest() {
    let mut store = Store::on_file();
    store.keyspace("acme_live");
    let named = new("acme_live", "acme")
        .name("nightly")
        .label("env", "prod");
    let named = store.engine.issue(named).unwrap();
    let counted = new("acme_live", "acme").quota(Quota::new(50));
    let counted = store.engine.issue(counted).unwrap();
    let first = store.issue("acme_live", "acme");
    let rotation = Rotation::with_grace(DAY);
    let second = store.engine.rotate(first.key.id, rotation).unwrap();
    let held = store.issue("acme_live", "held/bot");
    store.clock.advance(HOUR);
    store.engine.suspend("held", Some("unpaid")).unwrap();
    assert_eq!(store.verdict(named.token.expose()), "granted");
    assert_eq!(store.verdict(counted.token.expose()), "granted");

    let ids = [named.key.id, first.key.id];
    tampered(&mut store, |txn| {
        ids.iter().for_each(|id| flip(txn, COLD, raw(*id)));
        flip(txn, USAGE, raw(named.key.id));
        let mut owners = txn.open_table(OWNERS).unwrap();
        owners.insert("held", b"?".as_slice()).unwrap();
        let mut quotas = txn.open_table(QUOTAS).unwrap();
        let number = quotas.first().unwrap().unwrap().0.value();
        quotas.insert(number, b"?".as_slice()).unwrap();
    });
    let engine = store.engine.clone();
    // Still good, and what is damaged beside them grants nothing more.
    assert_eq!(store.verdict(named.token.expose()), "granted");
    assert_eq!(store.verdict(held.token.expose()), "suspended");
    assert!(engine.verify(counted.token.expose()).is_err());
    // Below a suspension that cannot be read, all are suspended.
    let below = engine.issue(new("acme_live", "held/new")).unwrap();
    assert_eq!(below.key.state, KeyState::Suspended);
    assert!(engine.owner("held").is_err());
    let above = engine.owner("held/bot").unwrap().suspended_above;
    assert_eq!(above, Some("held".parse().unwrap()));

    repaired(&store);
    let key = engine.key(named.key.id).unwrap();
    assert_eq!((key.name, key.labels.len()), (None, 0));
    assert_eq!(key.created_at, named.key.created_at);
    let key = engine.key(first.key.id).unwrap();
    assert_eq!(key.successor, Some(second.key.id));
    assert_eq!(store.verdict(first.token.expose()), "granted");
    // As the audit trail has it.
    let suspended = engine.owner("held").unwrap().suspended.unwrap();
    assert_eq!(suspended.at, at(3_600_000));
    assert_eq!(suspended.note.as_deref(), Some("unpaid"));
    assert_eq!(store.verdict(held.token.expose()), "suspended");
    assert_eq!(store.verdict(counted.token.expose()), "quota_exhausted");
    let other = KeyUpdate::new().quota(Quota::new(10));
    engine.update(counted.key.id, other).unwrap();
    assert_eq!(store.verdict(counted.token.expose()), "granted");
    engine.resume("held").unwrap();
    assert_eq!(store.verdict(below.token.expose()), "granted");
}

#[test]
fn a_suspension_that_cannot_be_read_can_be_lifted_and_made_anew() {
    let mut store = Store::on_file();
    store.keyspace("acme_live");
    let issued = store.issue("acme_live", "held/bot");
    for lifted in [true, false] {
        store.engine.suspend("held", None).unwrap();
        tampered(&mut store, |txn| {
            let mut owners = txn.open_table(OWNERS).unwrap();
            owners.insert("held", b"?".as_slice()).unwrap();
        });
        if !lifted {
            let state = store.engine.suspend("held", Some("again")).unwrap();
            assert!(state.suspended.is_some());
            assert_eq!(store.verdict(issued.token.expose()), "suspended");
        }
        store.engine.resume("held").unwrap();
        assert_eq!(store.verdict(issued.token.expose()), "granted");
        store.assert_sound();
    }
}

#[test]
fn the_trail_goes_on_behind_entries_that_are_broken_and_says_which() {
    for damage in [
        "a byte",
        "a link",
        "missing",
        "the last byte",
        "the last",
        "too many",
    ] {
        let mut store = Store::on_file();
        store.keyspace("acme_live");
        let revoked = store.issue("acme_live", "acme");
        store
            .engine
            .revoke(revoked.key.id, Reason::KeyCompromise)
            .unwrap();
        store.engine.suspend("held", None).unwrap();
        store.engine.suspend("freed", None).unwrap();
        store.engine.resume("freed").unwrap();
        for _ in 0..3 {
            store.issue("acme_live", "acme");
        }
        let last = trail(&store.engine).len() as u64;
        let hit: &[u64] = match damage {
            "a byte" => &[2, 3, 4, 6],
            "a link" => &[3, 6],
            "missing" => &[3],
            "the last byte" | "the last" => &[last],
            _ => &[],
        };
        tampered(&mut store, |txn| {
            for seq in hit {
                let mut bytes = get(txn, AUDIT, *seq);
                let at = if damage == "a link" {
                    bytes.len() - 1
                } else {
                    3
                };
                bytes[at] ^= 1;
                put(txn, AUDIT, *seq, &bytes);
                if damage == "missing" || damage == "the last" {
                    drop(txn.open_table(AUDIT).unwrap().remove(*seq).unwrap());
                }
            }
            if damage == "too many" {
                let bytes = get(txn, AUDIT, 2);
                put(txn, AUDIT, last + 1, &bytes);
            }
        });
        let before = store.engine.check().unwrap();
        assert!(!before.is_sound(), "{damage}");
        // The keys are listed all the same.
        assert_eq!(damaged_keys(&store.engine, KeyFilter::new()), (4, vec![]));
        let report = repaired(&store);
        assert!(report.repairs_total > 0, "{damage}");
        assert!(report.repairs.iter().all(|repair| repair.table == "audit"));
        // It can be read on behind what is broken, and written to.
        let key = store.issue("acme_live", "acme").key.id;
        store.engine.revoke(key, Reason::Cessation).unwrap();
        store.reopen();
        store.assert_sound();
        let from = last + 2;
        let entries = store.engine.audit_page(from, 100).unwrap().entries;
        assert!(!entries.is_empty(), "{damage}");
        let key = store.engine.key(revoked.key.id).unwrap();
        assert_eq!(key.revoked.unwrap().reason, Reason::KeyCompromise);
        let held = |owner: &str| store.engine.owner(owner).unwrap().suspended.is_some();
        assert!(held("held") && !held("freed"));
        // What is broken after it is told again.
        tampered(&mut store, |txn| flip(txn, AUDIT, last + 2));
        assert!(!store.engine.check().unwrap().is_sound(), "{damage}");
        repaired(&store);
    }
}

/// A file with every kind of record, closed, and the tokens of its keys.
fn furnished(path: &Path, clock: &ManualClock) -> Vec<(KeyId, String)> {
    let engine = open(path, clock);
    let plan = Plan::new("gold").limit(Limit::per_hour(1_000_000));
    let keyspace = NewKeyspace::new("acme_live").unwrap().plan(plan);
    engine
        .create_keyspace(keyspace.permissions(["read"]))
        .unwrap();
    let one = NewKeyspace::new("one").unwrap().single_active();
    engine.create_keyspace(one).unwrap();
    let mut tokens = Vec::new();
    let mut issue = |new: NewKey| {
        clock.advance(Duration::from_millis(1));
        let issued = engine.issue(new).unwrap();
        tokens.push((issued.key.id, issued.token.expose().to_owned()));
        issued.key.id
    };
    issue(new("acme_live", "acme").name("plain").permissions(["read"]));
    issue(
        new("acme_live", "acme/planned")
            .plan("gold")
            .expires_in(DAY),
    );
    let counted = issue(new("acme_live", "acme/counted").quota(Quota::new(1000)));
    let revoked = issue(new("acme_live", "acme/revoked"));
    let disabled = issue(new("acme_live", "acme/disabled"));
    issue(new("acme_live", "acme/later").not_before(at(DAY_MS)));
    issue(new("acme_live", "held/one"));
    issue(new("acme_live", "held/two"));
    issue(new("acme_live", "freed/one"));
    let lost = issue(new("one", "solo"));
    let once = engine.idempotent("once").unwrap();
    once.issue(new("acme_live", "acme/once")).unwrap();
    let over = issue(new("acme_live", "acme/over").expires_in(Duration::from_millis(1)));
    clock.advance(HOUR);
    engine.revoke(revoked, Reason::KeyCompromise).unwrap();
    engine.disable(disabled).unwrap();
    engine.suspend("held", Some("unpaid")).unwrap();
    engine.suspend("freed", None).unwrap();
    engine.resume("freed").unwrap();
    let mut rotate = |key: KeyId| {
        clock.advance(Duration::from_millis(1));
        let rotated = engine.rotate(key, Rotation::with_grace(DAY)).unwrap();
        tokens.push((rotated.key.id, rotated.token.expose().to_owned()));
        rotated.key.id
    };
    rotate(counted);
    let first = rotate(lost);
    engine.revoke(first, Reason::Cessation).unwrap();
    rotate(lost);
    engine.revoke_owner("nobody", Reason::Cessation).unwrap();
    assert!(engine.key(over).is_ok());
    for (_, token) in &tokens {
        let _ = engine.verify(token).unwrap();
    }
    engine.flush().unwrap();
    assert!(engine.check().unwrap().is_sound());
    engine.close().unwrap();
    tokens
}

fn open(path: &Path, clock: &ManualClock) -> Engine {
    let options = Options::new().clock(clock.clone()).cache_bytes(1 << 20);
    let options = options.usage_interval(DAY).resident_bytes(1 << 14);
    options.open_or_create(path).unwrap()
}

fn verdicts(engine: &Engine, tokens: &[(KeyId, String)]) -> Vec<String> {
    let ask = |(_, token): &(KeyId, String)| match engine.verify_with(token, &Requirements::new()) {
        Ok(Verdict::Granted(grant)) => format!("granted {:?}", grant.permissions()),
        Ok(Verdict::Denied(Denial::Unknown)) => "unknown".to_owned(),
        Ok(verdict) => code(&verdict).to_owned(),
        Err(error) => {
            assert!(matches!(error, Error::Corrupted(_)), "{error:?}");
            "damaged".to_owned()
        }
    };
    tokens.iter().map(ask).collect()
}

/// How a record is damaged.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Harm {
    Flipped(usize),
    Emptied,
    Removed,
}

const HARMS: [Harm; 4] = [
    Harm::Flipped(9),
    Harm::Flipped(usize::MAX),
    Harm::Emptied,
    Harm::Removed,
];

/// Damages the record at a place of a table; `false`: there are not so many.
fn harm<K: redb::Key + 'static>(
    txn: &WriteTransaction,
    table: TableDefinition<'_, K, &'static [u8]>,
    at: usize,
    harm: Harm,
) -> bool {
    let mut table = txn.open_table(table).unwrap();
    // Twice, since an entry that is read holds its table.
    let mut bytes = match table.iter().unwrap().nth(at) {
        Some(entry) => entry.unwrap().1.value().to_vec(),
        None => return false,
    };
    match harm {
        Harm::Flipped(at) => {
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1;
        }
        Harm::Emptied => bytes.clear(),
        Harm::Removed => {
            let mut place = 0;
            table
                .retain(|_, _| {
                    place += 1;
                    place != at + 1
                })
                .unwrap();
            return true;
        }
    }
    let mut place = 0;
    let mut keys = Vec::new();
    table
        .retain(|key, _| {
            place += 1;
            if place == at + 1 {
                keys.push(K::as_bytes(&key).as_ref().to_vec());
            }
            true
        })
        .unwrap();
    let key = keys.pop().unwrap();
    table.insert(K::from_bytes(&key), bytes.as_slice()).unwrap();
    true
}

/// Damages the counts of a keyspace, in one of the ways; `false`: there are not so many.
fn harm_counts(txn: &WriteTransaction, at: usize) -> bool {
    let mut meta = txn.open_table(META).unwrap();
    let name = format!("counts/{}", at / HARMS.len());
    let Some(mut bytes) = meta
        .get(name.as_str())
        .unwrap()
        .map(|it| it.value().to_vec())
    else {
        return false;
    };
    match HARMS[at % HARMS.len()] {
        Harm::Removed => {
            meta.remove(name.as_str()).unwrap();
            return true;
        }
        Harm::Emptied => bytes.clear(),
        Harm::Flipped(at) => {
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1;
        }
    }
    meta.insert(name.as_str(), bytes.as_slice()).unwrap();
    true
}

fn remove_entry<K: redb::Key + 'static, V: redb::Value + 'static>(
    txn: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
    at: usize,
) -> bool {
    let mut table = txn.open_table(table).unwrap();
    let (mut place, mut found) = (0, false);
    table
        .retain(|_, _| {
            place += 1;
            found |= place == at + 1;
            place != at + 1
        })
        .unwrap();
    found
}

#[test]
fn every_record_damaged_in_turn_is_gone_around_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let whole: PathBuf = dir.path().join("whole.redb");
    let clock = ManualClock::at(at(0));
    let tokens = furnished(&whole, &clock);
    let path = dir.path().join("damaged.redb");
    type Damage<'a> = &'a dyn Fn(&WriteTransaction, usize) -> bool;
    // Each record in one of the ways, and each way on every fourth.
    let way = |at: usize| HARMS[at % HARMS.len()];
    let mut tried = 0;
    let mut run = |name: &str, damage: Damage<'_>| {
        for at in 0.. {
            std::fs::copy(&whole, &path).unwrap();
            if !edit(&path, |txn| damage(txn, at)) {
                assert!(at > 0, "{name}: there is none");
                return;
            }
            tried += 1;
            let place = format!("{name}, record {at}");
            let engine = open(&path, &clock);
            assert!(!engine.check().unwrap().is_sound(), "{place}");
            let before = verdicts(&engine, &tokens);
            // Every verb goes around it.
            engine.stats().unwrap();
            engine.keys(KeyFilter::new()).for_each(|key| match key {
                Ok(_) | Err(Error::Corrupted(_)) => {}
                Err(error) => panic!("{place}: {error}"),
            });
            engine.issue(new("acme_live", "acme/fresh")).unwrap();
            engine.suspend("elsewhere", None).unwrap();
            let single = KeyspaceUpdate::new().description("changed");
            engine.update_keyspace("one", single).unwrap();

            let report = engine.repair().unwrap();
            assert!(report.left.is_sound(), "{place}: {report:#?}");
            assert!(report.repairs_total > 0, "{place}");
            let after = verdicts(&engine, &tokens);
            let reopened = {
                engine.close().unwrap();
                open(&path, &clock)
            };
            assert_eq!(verdicts(&reopened, &tokens), after, "{place}");
            for (before, after) in before.iter().zip(&after) {
                let is_granted = after.starts_with("granted");
                assert!(
                    !is_granted || before == after,
                    "{place}: {before} then {after}"
                );
                assert_ne!(after, "damaged", "{place}");
            }
            assert_eq!(reopened.repair().unwrap().repairs_total, 0, "{place}");
            let purged = reopened.purge(Duration::ZERO).unwrap();
            assert_eq!(purged.damaged, 0, "{place}");
            assert!(reopened.check().unwrap().is_sound(), "{place}");
        }
    };
    run("keys", &|txn, at| harm(txn, KEYS, at, way(at)));
    run("cold", &|txn, at| harm(txn, COLD, at, way(at + 1)));
    run("audit", &|txn, at| harm(txn, AUDIT, at, way(at)));
    run("quotas", &|txn, at| harm(txn, QUOTAS, at, way(at)));
    run("requests", &|txn, at| {
        harm(txn, REQUESTS, at, HARMS[3 - at])
    });
    run("requests_by_time", &|txn, at| {
        remove_entry(txn, REQUESTS_BY_TIME, at)
    });
    // One that is missing is no damage.
    run("usage", &|txn, at| harm(txn, USAGE, at, HARMS[at % 3]));
    run("owners, flipped", &|txn, at| {
        harm(txn, OWNERS, at, HARMS[0])
    });
    run("owners, removed", &|txn, at| {
        harm(txn, OWNERS, at, Harm::Removed)
    });
    run("by_owner", &|txn, at| remove_entry(txn, BY_OWNER, at));
    run("by_keyspace", &|txn, at| remove_entry(txn, BY_KEYSPACE, at));
    run("by_end", &|txn, at| remove_entry(txn, BY_END, at));
    run("by_turn", &|txn, at| remove_entry(txn, BY_TURN, at));
    run("by_turn, forged", &|txn, at| {
        let mut table = txn.open_table(BY_TURN).unwrap();
        table.insert((1, 1), ()).unwrap();
        at < 1
    });
    run("counts", &|txn, at| harm_counts(txn, at));
    run("by_owner, another standing", &|txn, at| {
        let mut table = txn.open_table(BY_OWNER).unwrap();
        let entry = table.iter().unwrap().nth(at);
        let Some((index, standing)) = entry.map(|entry| {
            let (index, standing) = entry.unwrap();
            (index.value().to_vec(), standing.value())
        }) else {
            return false;
        };
        let wrong = if standing == 1 { 7 } else { 1 };
        table.insert(index.as_slice(), wrong).unwrap();
        // One that is over may be said to be: it is damage all the same with the next.
        table.insert(b"x".as_slice(), 0).unwrap();
        true
    });
    run("prefixes", &|txn, at| {
        let mut table = txn.open_table(PREFIXES).unwrap();
        table.insert("forged", 0).unwrap();
        at < 1
    });
    assert!(tried > 100, "{tried}");
}
