//! Crates that stand on the engine: their records, in its transactions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use redb::ReadableTable as _;

use gatekey::extension::{Changed, Extension, ExtensionView, Flaw, Follower, PAGE_MAX};
use gatekey::{
    AuditEvent, Clock, Conflict, Denial, Engine, Error, Invalid, KeyState, Limit, ManualClock,
    NewKey, NewKeyspace, NotFound, OpenError, Options, Pepper, Permissions, Plan, Reason,
    Requirements, Rotation, Verdict,
};

use crate::common::{DAY, Late, Store};

const TABLE: &str = "devices";

fn store() -> (Store, Extension) {
    let store = Store::on_file();
    let minute = Plan::new("slow").limit(Limit::per_minute(2));
    let keyspace = NewKeyspace::new("acme_live")
        .unwrap()
        .permissions(["read", "write"])
        .plan(minute);
    store.engine.create_keyspace(keyspace).unwrap();
    let extension = store.engine.extension("devices").unwrap();
    (store, extension)
}

fn bytes_of(extension: &Extension, key: &[u8]) -> Option<Vec<u8>> {
    let record = extension.read(|view| view.get(TABLE, key)).unwrap();
    record.map(|record| record.bytes)
}

fn put(extension: &Extension, key: &'static [u8], bytes: &'static [u8]) {
    extension
        .change(move |tx| tx.put(TABLE, key, 1, bytes))
        .unwrap();
}

#[test]
fn records_and_keys_change_together_or_not_at_all() {
    let (mut store, extension) = store();
    let new = NewKey::new("acme_live", "acme").unwrap();
    let issued = extension.change(move |tx| {
        assert_eq!(tx.get(TABLE, b"1")?, None);
        let issued = tx.issue(&new)?;
        tx.put(TABLE, b"1", 7, b"first")?;
        let seen = tx.get(TABLE, b"1")?.unwrap();
        assert_eq!((seen.version, seen.bytes.as_slice()), (7, &b"first"[..]));
        assert_eq!(tx.find_key(issued.key.id)?.unwrap().state, KeyState::Active);
        tx.audit("device_added", "1", Some("in the hall"))?;
        Ok(issued)
    });
    let issued = issued.unwrap();
    assert!(
        store
            .engine
            .verify(issued.token.expose())
            .unwrap()
            .is_granted()
    );

    // What fails leaves nothing, also of what it had written before.
    let id = issued.key.id;
    let failed = extension.change(move |tx| {
        tx.put(TABLE, b"1", 8, b"second")?;
        tx.put(TABLE, b"2", 8, b"third")?;
        tx.revoke(id, Reason::KeyCompromise)?;
        tx.audit("device_stolen", "1", None)?;
        tx.issue(&NewKey::new("nowhere", "acme")?)
    });
    let error = failed.unwrap_err();
    assert!(
        matches!(error, Error::NotFound(NotFound::Keyspace(_))),
        "{error}"
    );
    assert_eq!(bytes_of(&extension, b"1").unwrap(), b"first");
    assert_eq!(bytes_of(&extension, b"2"), None);
    assert!(
        store
            .engine
            .verify(issued.token.expose())
            .unwrap()
            .is_granted()
    );

    let entries = store.engine.audit_page(0, 100).unwrap().entries;
    let told: Vec<_> = entries
        .iter()
        .filter(|entry| matches!(entry.event, AuditEvent::ExtensionChanged { .. }))
        .map(|entry| entry.event.to_string())
        .collect();
    assert_eq!(told, [r#"devices device_added "1", note "in the hall""#]);

    store.reopen();
    let extension = store.engine.extension("devices").unwrap();
    assert_eq!(bytes_of(&extension, b"1").unwrap(), b"first");
    extension
        .change(move |tx| {
            assert!(tx.remove(TABLE, b"1")?);
            assert!(!tx.remove(TABLE, b"2")?);
            tx.revoke(id, Reason::KeyCompromise)
        })
        .unwrap();
    assert!(
        !store
            .engine
            .verify(issued.token.expose())
            .unwrap()
            .is_granted()
    );
    assert_eq!(bytes_of(&extension, b"1"), None);
    assert!(store.engine.check().unwrap().is_sound());
}

#[test]
fn the_actor_of_a_handle_is_that_of_its_extension() {
    let (store, extension) = store();
    let by_alice = extension.acting_as("alice").unwrap();
    by_alice.change(|tx| tx.audit("looked", "1", None)).unwrap();
    extension
        .change(|tx| tx.audit("looked", "2", None))
        .unwrap();
    let entries = store.engine.audit_page(0, 100).unwrap().entries;
    let actors: Vec<_> = entries.iter().map(|entry| entry.actor.as_deref()).collect();
    assert_eq!(actors[actors.len() - 2..], [Some("alice"), None]);
}

#[test]
fn pages_are_in_the_order_of_keys_and_extensions_are_apart() {
    let (store, extension) = store();
    let other = store.engine.extension("other").unwrap();
    extension
        .change(|tx| {
            for n in [3_u8, 1, 2, 9] {
                tx.put(TABLE, &[n], 1, &[n])?;
            }
            let keys = |page: Vec<(Vec<u8>, _)>| page.into_iter().map(|(key, _)| key[0]);
            assert!(keys(tx.page(TABLE, &[2], Some(&[9]), 10)?).eq([2, 3]));
            Ok(())
        })
        .unwrap();
    let keys = |extension: &Extension, from: &[u8], before: Option<&[u8]>, limit| {
        let page = extension.read(|view| view.page(TABLE, from, before, limit));
        let keys = page.unwrap().into_iter().map(|(key, _)| key[0]);
        keys.collect::<Vec<_>>()
    };
    assert_eq!(keys(&extension, &[], None, PAGE_MAX), [1, 2, 3, 9]);
    assert_eq!(keys(&extension, &[2], Some(&[9]), 10), [2, 3]);
    assert_eq!(keys(&extension, &[], None, 2), [1, 2]);
    assert!(keys(&other, &[], None, 9).is_empty());
    assert_ne!(extension.mac("a", &[]), other.mac("a", &[]));
    let sealed = extension.seal("a", b"secret").unwrap();
    assert!(matches!(
        other.unseal("a", &sealed),
        Err(Error::Corrupted(_))
    ));
}

#[test]
fn what_is_too_long_or_misnamed_is_refused_and_nothing_is_written() {
    let (store, extension) = store();
    for name in ["", "Devices", "a/b", "a\0", "..", &"a".repeat(33)] {
        assert!(store.engine.extension(name).is_err(), "{name:?}");
        let name = name.to_owned();
        let put = extension.change(move |tx| tx.put(&name, b"1", 1, b""));
        assert!(matches!(put, Err(Error::Invalid(_))), "{put:?}");
    }
    let refused: [(usize, usize); 3] = [(0, 0), (256, 0), (1, 32 * 1024 + 1)];
    for (key, record) in refused {
        let put = extension.change(move |tx| tx.put(TABLE, &vec![1; key], 1, &vec![1; record]));
        assert!(matches!(put, Err(Error::Invalid(_))), "{put:?}");
    }
    let event = extension.change(|tx| tx.audit("two words", "1", None));
    assert!(matches!(event, Err(Error::Invalid(Invalid::Malformed(_)))));
    let subject = extension.change(|tx| tx.audit("looked", "a\nb", None));
    assert!(matches!(
        subject,
        Err(Error::Invalid(Invalid::Malformed(_)))
    ));
    extension
        .change(|tx| tx.put(TABLE, &[1; 255], 1, &[1; 32 * 1024]))
        .unwrap();
    assert_eq!(bytes_of(&extension, &[1; 255]).unwrap().len(), 32 * 1024);
}

/// Of rivals for one record one wins, and each sees what those before it wrote.
#[test]
fn of_64_rivals_for_one_record_one_wins() {
    let (store, extension) = store();
    put(&extension, b"code", b"fresh");
    let barrier = Arc::new(Barrier::new(64));
    let threads: Vec<_> = (0..64)
        .map(|_| {
            let (extension, barrier) = (extension.clone(), barrier.clone());
            std::thread::spawn(move || {
                barrier.wait();
                extension
                    .change(|tx| {
                        let is_fresh = tx.get(TABLE, b"code")?.unwrap().bytes == b"fresh";
                        if is_fresh {
                            tx.put(TABLE, b"code", 1, b"used")?;
                            tx.issue(&NewKey::new("acme_live", "acme")?)?;
                        }
                        Ok(is_fresh)
                    })
                    .unwrap()
            })
        })
        .collect();
    let won = threads
        .into_iter()
        .filter_map(|thread| thread.join().unwrap().then_some(()));
    assert_eq!(won.count(), 1);
    assert_eq!(store.engine.keys(gatekey::KeyFilter::new()).count(), 1);
}

#[test]
fn a_key_is_vouched_for_as_its_token_is_verified() {
    for resident_bytes in [0, Options::RESIDENT_BYTES] {
        let store = Store::new(resident_bytes, true);
        let minute = Plan::new("slow").limit(Limit::per_minute(2));
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        let keyspace = keyspace.permissions(["read", "write"]).plan(minute);
        store.engine.create_keyspace(keyspace).unwrap();
        let extension = store.engine.extension("devices").unwrap();
        let new = NewKey::new("acme_live", "acme/etl").unwrap();
        let new = new.permissions(["read"]).plan("slow").expires_in(DAY);
        let issued = store.engine.issue(new).unwrap();
        let (id, token) = (issued.key.id, issued.token.expose());
        const READ: Requirements<'_> = Requirements::new().permissions(&["read"]);
        const WRITE: Requirements<'_> = Requirements::new().permissions(&["write"]);
        let vouch = |requirements: &Requirements<'_>| {
            extension.vouch(id, Permissions::ALL, requirements).unwrap()
        };
        let denial = |requirements: &Requirements<'_>| vouch(requirements).denial().cloned();
        assert!(matches!(
            denial(&WRITE),
            Some(Denial::PermissionMissing { .. })
        ));
        // Both ways spend the same limit.
        let Verdict::Granted(grant) = vouch(&READ) else {
            panic!("denied");
        };
        assert_eq!((grant.owner(), grant.key_id()), ("acme/etl", id));
        assert!(store.engine.verify(token).unwrap().is_granted());
        assert!(matches!(denial(&READ), Some(Denial::RateLimited { .. })));
        store.clock.advance(Duration::from_secs(180));
        assert!(vouch(&READ).is_granted());
        store.engine.flush().unwrap();
        assert_eq!(store.engine.key(id).unwrap().usage.count, 3);

        let free = READ.cost(0);
        let none = extension.vouch(id, Permissions::NONE, &free).unwrap();
        assert!(matches!(
            none.denial(),
            Some(Denial::PermissionMissing { .. })
        ));
        // It adds nothing.
        let all = extension
            .vouch(id, Permissions::ALL, &WRITE.cost(0))
            .unwrap();
        assert!(!all.is_granted());
        let elsewhere = free.keyspace("other".parse().unwrap());
        assert!(matches!(denial(&elsewhere), Some(Denial::Unknown)));
        store.engine.suspend("acme", None).unwrap();
        assert!(matches!(denial(&free), Some(Denial::Suspended { .. })));
        store.engine.resume("acme").unwrap();
        store.engine.disable(id).unwrap();
        assert!(matches!(denial(&free), Some(Denial::Disabled { .. })));
        store.engine.enable(id).unwrap();
        assert!(vouch(&free).is_granted());
        let successor = store.engine.rotate(id, Rotation::at_once()).unwrap().key.id;
        assert!(matches!(denial(&free), Some(Denial::Revoked { .. })));
        assert!(
            extension
                .vouch(successor, Permissions::ALL, &free)
                .unwrap()
                .is_granted()
        );
        store.clock.advance(DAY);
        let ended = extension.vouch(successor, Permissions::ALL, &free).unwrap();
        assert!(
            matches!(ended.denial(), Some(Denial::Expired { .. })),
            "{ended:?}"
        );
        store.engine.purge(Duration::ZERO).unwrap();
        assert!(matches!(
            extension
                .vouch(successor, Permissions::ALL, &free)
                .unwrap()
                .denial(),
            Some(Denial::Unknown)
        ));
        let engine = store.engine.clone();
        engine.close().unwrap();
        assert!(matches!(
            extension.vouch(id, Permissions::ALL, &free),
            Err(Error::Closed)
        ));
    }
}

/// A vouched key whose token is of an older pepper keeps its digest: there is no token to
/// renew it from.
#[test]
fn to_vouch_for_a_key_renews_no_digest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let pepper = |id: u8| Pepper::new(id, [id; 32]).unwrap();
    let engine = Options::new().pepper(pepper(1)).create(&path).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let issued = engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    engine.close().unwrap();
    let options = Options::new().pepper(pepper(2)).pepper(pepper(1));
    let engine = options.open(&path).unwrap();
    let extension = engine.extension("devices").unwrap();
    for _ in 0..3 {
        let verdict = extension.vouch(issued.key.id, Permissions::ALL, &Requirements::new());
        assert!(verdict.unwrap().is_granted());
        engine.flush().unwrap();
    }
    assert!(engine.verify(issued.token.expose()).unwrap().is_granted());
}

#[test]
fn keys_are_changed_in_a_transaction_as_the_engine_changes_them() {
    let (store, extension) = store();
    let new = NewKey::new("acme_live", "acme").unwrap().expires_in(DAY);
    let issued = store.engine.issue(new).unwrap();
    let id = issued.key.id;
    let rotated = extension.change(move |tx| {
        assert!(!tx.owner(&"acme".parse()?)?.is_suspended());
        assert_eq!(
            tx.keyspace("acme_live".parse()?)?.prefix.as_str(),
            "acme_live"
        );
        let rotated = tx.rotate(id, &Rotation::with_grace(Duration::from_secs(60)))?;
        assert_eq!(tx.find_key(id)?.unwrap().state, KeyState::Retiring);
        // It is not over, so it stays.
        assert!(!tx.purge(id)?);
        Ok(rotated)
    });
    let successor = rotated.unwrap().key.id;
    let disabled = extension.change(move |tx| {
        tx.set_disabled(successor, true)?;
        tx.update(successor, &gatekey::KeyUpdate::new().name("laptop"))
    });
    assert_eq!(disabled.unwrap().state, KeyState::Disabled);
    store.clock.advance(Duration::from_secs(60));
    let refused = extension.change(move |tx| tx.set_disabled(id, true));
    assert!(matches!(
        refused,
        Err(Error::Conflict(Conflict::Revoked { .. }))
    ));
    assert!(extension.change(move |tx| tx.purge(id)).unwrap());
    let purged = AuditEvent::KeysPurged { keys: vec![id] };
    assert_eq!(crate::audit::last_event(&store.engine), purged);
    assert!(!extension.change(move |tx| tx.purge(id)).unwrap());
    assert_eq!(store.engine.find_key(id).unwrap(), None);
    assert!(store.engine.check().unwrap().is_sound());
}

/// Keeps all devices in memory, and finds those that are not upright.
#[derive(Default)]
struct Hall {
    devices: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    told: AtomicU64,
}

impl Follower for Hall {
    fn begin(&self, view: &ExtensionView<'_>) -> gatekey::Result<()> {
        let page = view.page(TABLE, &[], None, PAGE_MAX)?;
        let page = page.into_iter().map(|(key, record)| (key, record.bytes));
        *self.devices.lock().unwrap() = page.collect();
        Ok(())
    }

    fn follow(&self, changes: &[Changed<'_>]) {
        let mut devices = self.devices.lock().unwrap();
        for change in changes {
            assert_eq!(change.table, TABLE);
            self.told.fetch_add(1, Ordering::Relaxed);
            match &change.new {
                Some(record) => devices.insert(change.key.to_vec(), record.bytes.clone()),
                None => devices.remove(change.key),
            };
        }
    }

    fn check(&self, view: &ExtensionView<'_>) -> gatekey::Result<Vec<Flaw>> {
        fallen(view)
    }
}

/// A follower that has nothing in memory, and so begins beside damaged records.
struct Looks;

impl Follower for Looks {
    fn begin(&self, _: &ExtensionView<'_>) -> gatekey::Result<()> {
        Ok(())
    }

    fn follow(&self, _: &[Changed<'_>]) {}

    fn check(&self, view: &ExtensionView<'_>) -> gatekey::Result<Vec<Flaw>> {
        let damaged = view.get(TABLE, b"1");
        assert!(matches!(damaged, Err(Error::Corrupted(_))), "{damaged:?}");
        fallen(view)
    }
}

fn fallen(view: &ExtensionView<'_>) -> gatekey::Result<Vec<Flaw>> {
    let page = view.page(TABLE, &[], None, PAGE_MAX)?.into_iter();
    let fallen = page.filter(|(_, record)| record.bytes == b"fallen");
    let flaw = |(key, _): (Vec<u8>, _)| Flaw {
        record: format!("{TABLE} {}", key.escape_ascii()),
        problem: "it has fallen".to_owned(),
    };
    Ok(fallen.map(flaw).collect())
}

#[test]
fn a_follower_is_never_older_than_a_change_that_was_acknowledged() {
    let (mut store, extension) = store();
    put(&extension, b"1", b"before");
    let hall = Arc::new(Hall::default());
    extension.follow(&hall).unwrap();
    let seen = |key: &[u8]| hall.devices.lock().unwrap().get(key).cloned();
    assert_eq!(seen(b"1").unwrap(), b"before");
    for round in 0..50_u8 {
        let wanted = vec![round];
        extension
            .change(move |tx| tx.put(TABLE, b"1", 1, &[round]))
            .unwrap();
        assert_eq!(seen(b"1"), Some(wanted));
    }
    extension.change(|tx| tx.remove(TABLE, b"1")).unwrap();
    assert_eq!(seen(b"1"), None);
    assert_eq!(hall.told.load(Ordering::Relaxed), 51);
    // What is not committed, not changed or another's is not told.
    let failed = extension.change(|tx| {
        tx.put(TABLE, b"1", 1, b"no")?;
        Err::<(), _>(Error::Internal("no"))
    });
    failed.unwrap_err();
    let other = store.engine.extension("other").unwrap();
    put(&other, b"1", b"other");
    store
        .engine
        .create_keyspace(NewKeyspace::new("more").unwrap())
        .unwrap();
    assert_eq!(hall.told.load(Ordering::Relaxed), 51);
    assert_eq!(seen(b"1"), None);

    put(&extension, b"2", b"fallen");
    let report = store.engine.check().unwrap();
    let found: Vec<_> = report.findings.iter().map(text_of).collect();
    assert_eq!(found, ["extension: devices devices 2: it has fallen"]);
    // Whoever lets it go is not told any more.
    drop(hall);
    put(&extension, b"2", b"upright");
    assert!(store.engine.check().unwrap().is_sound());
    store.reopen();
    assert!(matches!(
        extension.follow(&Arc::new(Hall::default())),
        Err(Error::Closed)
    ));
}

fn text_of(finding: &gatekey::Finding) -> String {
    let gatekey::Finding {
        table,
        record,
        problem,
        ..
    } = finding;
    format!("{table}: {record}: {problem}")
}

#[test]
fn a_damaged_record_is_an_error_and_is_found_and_can_be_written_anew() {
    let (mut store, extension) = store();
    put(&extension, b"1", b"first");
    put(&extension, b"2", b"second");
    let table = redb::TableDefinition::<&[u8], &[u8]>::new("ext/devices/devices");
    store.edit(|txn| {
        let mut table = txn.open_table(table).unwrap();
        let mut record = table.get(&b"1"[..]).unwrap().unwrap().value().to_vec();
        record[1] ^= 1;
        table.insert(&b"1"[..], record.as_slice()).unwrap();
    });
    let extension = store.engine.extension("devices").unwrap();
    let read = extension.read(|view| view.get(TABLE, b"1"));
    assert!(matches!(read, Err(Error::Corrupted(_))), "{read:?}");
    let read = extension.read(|view| view.page(TABLE, &[], None, 9));
    assert!(matches!(read, Err(Error::Corrupted(_))));
    let read = extension.change(|tx| tx.get(TABLE, b"1").map(drop));
    assert!(matches!(read, Err(Error::Corrupted(_))));
    assert_eq!(bytes_of(&extension, b"2").unwrap(), b"second");
    assert_eq!(store.engine.check().unwrap().findings_total, 1);
    // Nor does it keep a follower from looking at the others.
    let looks = Arc::new(Looks);
    extension.follow(&looks).unwrap();
    put(&extension, b"3", b"fallen");
    assert_eq!(store.engine.check().unwrap().findings_total, 2);
    drop((
        looks,
        extension.change(|tx| tx.remove(TABLE, b"3")).unwrap(),
    ));
    put(&extension, b"1", b"mended");
    assert!(store.engine.check().unwrap().is_sound());
}

#[test]
fn a_secret_that_is_sealed_opens_only_with_the_pepper() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let pepper = || Pepper::new(1, [1; 32]).unwrap();
    let engine = Options::new().pepper(pepper()).create(&path).unwrap();
    let extension = engine.extension("devices").unwrap();
    let sealed = extension.seal("pin", b"a pin to be found").unwrap();
    let wanted = sealed.clone();
    extension
        .change(move |tx| tx.put(TABLE, b"pin", 1, &sealed))
        .unwrap();
    engine.close().unwrap();
    let file = std::fs::read(&path).unwrap();
    assert!(
        !file
            .windows(17)
            .any(|window| window == b"a pin to be found")
    );
    assert!(file.windows(wanted.len()).any(|window| window == wanted));
    let refused = Engine::open(&path).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Open {
                reason: OpenError::PepperRequired { .. },
                ..
            }
        ),
        "{refused}"
    );
    let engine = Options::new().pepper(pepper()).open(&path).unwrap();
    let extension = engine.extension("devices").unwrap();
    let sealed = bytes_of(&extension, b"pin").unwrap();
    assert_eq!(
        *extension.unseal("pin", &sealed).unwrap(),
        b"a pin to be found"
    );
}

#[test]
fn an_instant_has_come_by_the_exact_clock_and_stays_so() {
    let clock = ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap());
    let options = Options::new().usage_interval(None);
    let engine = options
        .clock(Late(clock.clone(), Duration::from_secs(59)))
        .open_in_memory()
        .unwrap();
    let devices = engine.extension("devices").unwrap();
    let end = clock.now().saturating_add(Duration::from_secs(600));
    assert!(!devices.has_come(end));
    clock.advance(Duration::from_secs(600) - Duration::from_millis(1));
    assert!(!devices.has_come(end));
    clock.advance(Duration::from_millis(1));
    assert!(devices.has_come(end));
    // It was told, and time does not run behind it from then on.
    devices.hold_now();
    clock.step_back(Duration::from_secs(30));
    assert!(devices.has_come(end));
}
