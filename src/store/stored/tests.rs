//! Every kind of record, and every variant in one, against bytes that do not change.

use zeroize::Zeroizing;

use self::records::{
    AT, colds, events, for_fleet, id, imports, keyspaces, networks, owner_settings, quotas, states,
    text, usage,
};
use crate::crypto::digest::Seal;
use crate::model::audit::{AuditBody, AuditEvent};
use crate::model::clock::Timestamp;
use crate::model::hex::Hex;
use crate::model::key::ColdRecord;
use crate::model::keyspace::Keyspace;
use crate::model::limit::{Algorithm, Limit};
use crate::model::outcome::Outcome;
use crate::model::reason::Reason;
use crate::model::secret::Pepper;
use crate::store::codec;
use crate::store::counts::Counted;
use crate::store::history::Indexed;
use crate::store::identity::{Identity, StoredKey};
use crate::store::mark::Mark;
use crate::store::owner_settings::OwnerQuota;
use crate::store::quota::QuotaRecord;
use crate::store::stored::owner::SettingForm;
use crate::store::stored::quota::RefillForm;
use crate::store::tables::{OwnerRecord, Stored};
use crate::store::tx::requests::RequestPart;
use crate::store::usage_history::{HistoryRow, HistoryState};

mod records;

/// A line of the vectors for each record: its kind, and its fields as they are written.
fn lines() -> Vec<String> {
    fn line<T: Stored>(lines: &mut Vec<String>, kind: &str, record: &T) {
        let bytes = record.encode().unwrap();
        let again = T::decode(record.version(), &bytes)
            .unwrap()
            .encode()
            .unwrap();
        assert_eq!(again, bytes, "{kind}");
        lines.push(format!("{kind}\t{}", Hex(&bytes)));
    }
    let mut lines = Vec::new();
    for cold in colds() {
        line(&mut lines, "cold", &cold);
    }
    for keyspace in keyspaces() {
        line(&mut lines, "keyspace", &keyspace);
    }
    for (actor, event) in [None, text("ops")].into_iter().cycle().zip(events()) {
        let body = AuditBody {
            at: AT,
            actor,
            event,
        };
        line(&mut lines, "audit", &body);
    }
    for quota in quotas() {
        line(&mut lines, "quota", &quota);
    }
    let owner = OwnerRecord {
        suspended_at: AT,
        suspended_by: text("ops"),
        note: None,
    };
    line(&mut lines, "owner", &owner);
    for settings in owner_settings() {
        line(&mut lines, "owner_settings", &settings);
    }
    line(&mut lines, "owner_quota", &OwnerQuota { number: 70_000 });
    line(&mut lines, "usage", &usage());
    let counts = [(Outcome::Granted, 70_000), (Outcome::QuotaExhausted, 3)];
    let row = HistoryRow(counts.into_iter().collect());
    line(&mut lines, "usage_history", &row);
    line(&mut lines, "usage_history", &HistoryRow::default());
    let history = HistoryState {
        hours: 1,
        days: 300,
        owners: 70_000,
        skipped: 4,
    };
    line(&mut lines, "usage_history_state", &history);
    line(&mut lines, "usage_networks", &networks());
    for import in imports() {
        line(&mut lines, "import", &import);
    }
    let [state, lagging, revoking] = states();
    line(&mut lines, "state", &state);
    line(&mut lines, "state", &lagging);
    let part = RequestPart {
        at: AT,
        asked: [9; 32],
        last_seq: 70_000,
        parts: 300,
        keys: vec![id(77), id(300_000)],
    };
    line(&mut lines, "request", &part);
    let mark = Mark {
        commits: 12,
        counts: vec![("keys".to_owned(), 5), ("cold".to_owned(), 300)],
        contents: [8; 32],
    };
    line(&mut lines, "copy", &mark);
    line(&mut lines, "indexed", &Indexed { through: 70_000 });
    let counted = Counted {
        active: 1,
        retiring: 2,
        not_yet_valid: 3,
        disabled: 4,
        suspended: 5,
        expired: 6,
        revoked: 700,
        over_by_expiry: 8,
    };
    line(&mut lines, "counts", &counted);
    let identity = |key| Identity {
        store_id: [5; 16],
        key,
    };
    let plain = identity(StoredKey::Plain([6; 32]));
    line(&mut lines, "identity", &plain);
    let seals = [1, 200].map(|number| {
        let pepper = Pepper::new(number, [number; 32]).unwrap();
        Seal::new(&pepper, &[5; 16], &Zeroizing::new([6; 32]))
    });
    let sealed = identity(StoredKey::Sealed(seals.into()));
    line(&mut lines, "identity", &sealed);
    let (cold, keyspace, settings) = for_fleet();
    line(&mut lines, "cold", &cold);
    line(&mut lines, "keyspace", &keyspace);
    line(&mut lines, "owner_settings", &settings[0]);
    line(&mut lines, "state", &revoking);
    lines
}

/// So that a fleet whose servers do not all know such limits goes on while there are none.
#[test]
fn a_record_with_a_limit_of_the_fleet_alone_has_the_newest_version() {
    fn read_again<T: Stored + PartialEq + std::fmt::Debug>(record: &T, version: u8) {
        assert_eq!(record.version(), version);
        let encoded = record.encode().unwrap();
        assert_eq!(T::decode(version, &encoded).as_ref(), Ok(record));
    }
    let (cold, keyspace, settings) = for_fleet();
    read_again(&cold, 4);
    read_again(&keyspace, 3);
    settings.iter().for_each(|settings| read_again(settings, 3));
    colds().iter().for_each(|cold| read_again(cold, 3));
    (keyspaces().iter()).for_each(|keyspace| read_again(keyspace, 2));
    let versions = owner_settings().map(|settings| settings.version());
    assert_eq!(versions, [1, 1, 1, 2]);
    let versions = quotas().map(|quota| quota.version());
    assert_eq!(versions, [2, 2, 2, 2, 3]);
}

#[test]
fn every_record_is_encoded_as_it_always_was() {
    let vectors = include_str!("../../../tests/vectors/stored.tsv");
    let vectors = vectors
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains('/'));
    assert_eq!(lines(), vectors.collect::<Vec<_>>());
}

/// The vectors of older versions: kind, version, bytes.
fn older(kind: &str) -> Vec<Vec<u8>> {
    let vectors = include_str!("../../../tests/vectors/stored.tsv");
    let of_kind = vectors.lines().filter_map(|line| {
        let (name, hex) = line.split_once('\t')?;
        (name == kind).then(|| {
            let pairs = hex.as_bytes().chunks(2);
            let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            pairs.map(byte).collect()
        })
    });
    of_kind.collect()
}

#[test]
fn records_of_version_1_are_read_without_what_came_later() {
    let [full, empty] = colds();
    let full = ColdRecord {
        foreign_id: None,
        ..full
    };
    let read = |bytes: &Vec<u8>| ColdRecord::decode(2, bytes).unwrap();
    assert_eq!(
        older("cold/2").iter().map(read).collect::<Vec<_>>(),
        [full.clone(), empty.clone()]
    );
    let full = ColdRecord {
        limits: None,
        ..full
    };
    let read = |bytes: &Vec<u8>| ColdRecord::decode(1, bytes).unwrap();
    assert_eq!(
        older("cold/1").iter().map(read).collect::<Vec<_>>(),
        [full, empty]
    );
    let [mut full, superseding, refusing] = keyspaces();
    full.owner_defaults.clear();
    full.plans.truncate(2);
    // Limits slid, and a window of a day could be given.
    let slid = |requests, window_s| {
        Limit::stored(requests, window_s, Algorithm::Sliding, requests).unwrap()
    };
    full.plans[0].limits = vec![slid(60, 60), slid(100_000, 86_400)];
    (full.max_grace, full.count_retiring) = (None, false);
    let read = |bytes: &Vec<u8>| Keyspace::decode(1, bytes).unwrap();
    assert_eq!(
        older("keyspace/1").iter().map(read).collect::<Vec<_>>(),
        [full, superseding, refusing]
    );
    let [quota, daily, monthly, ..] = quotas();
    let read = |bytes: &Vec<u8>| QuotaRecord::decode(1, bytes).unwrap();
    assert_eq!(
        older("quota/1").iter().map(read).collect::<Vec<_>>(),
        [quota, daily, monthly]
    );
}

#[test]
fn a_reason_of_a_later_version_is_kept() {
    for code in 0..=u8::MAX {
        let body = AuditBody {
            at: AT,
            actor: None,
            event: AuditEvent::KeyRevoked {
                key: id(77),
                reason: Reason::from_code(code),
                note: None,
            },
        };
        let encoded = body.encode().unwrap();
        let read = AuditBody::decode(AuditBody::VERSION, &encoded).unwrap();
        assert_eq!(read.event, body.event);
    }
}

fn refused<T: Stored>(record: &T, spoil: impl FnOnce(&mut T::Form)) -> bool {
    let mut form = record.to_form();
    spoil(&mut form);
    let encoded = codec::encode(&form).unwrap();
    T::decode(T::VERSION, &encoded).is_err()
}

/// Each with a right tag would be taken for a record, if the form alone decided.
#[test]
fn a_form_that_no_record_has_is_refused() {
    let [cold, _] = colds();
    assert!(!refused(&cold, |_| ()));
    let [keyspace, ..] = keyspaces();
    let [quota, ..] = quotas();
    let [settings, ..] = owner_settings();
    let after_9999 = Timestamp::MAX.unix_ms() + 1;
    let mut spoiled = vec![
        refused(&usage(), |form| form.last_used = Some(after_9999)),
        refused(&networks(), |form| form.since = after_9999),
        refused(&networks(), |form| form.nets[0].0 = 1 << 24),
        refused(&networks(), |form| form.nets[0].1 = after_9999),
        refused(&cold, |form| form.created_at = u64::MAX),
        refused(&cold, |form| form.predecessor = Some(u64::MAX)),
        refused(&keyspace, |form| form.prefix = "Acme".to_owned()),
        refused(&keyspace, |form| form.prefix = String::new()),
        refused(&keyspace, |form| form.updated_at = after_9999),
        refused(&keyspace, |form| form.plans[0].limits[0].requests = 0),
        refused(&keyspace, |form| form.plans[0].limits[0].window_s = 0),
        refused(&quota, |form| form.first.requests = 0),
        refused(&quota, |form| form.first.requests = u64::MAX),
        refused(&quota, |form| form.first.refills_at = after_9999),
        refused(&quota, |form| {
            form.first.refill = Some(RefillForm::MonthlyFrom(0));
        }),
        refused(&quota, |form| {
            form.first.refill = Some(RefillForm::MonthlyFrom(32));
        }),
        refused(&cold, |form| form.limits.as_mut().unwrap()[0].requests = 0),
        refused(&keyspace, |form| {
            form.owner_defaults[0].quota.as_mut().unwrap().requests = 0;
        }),
        refused(&settings, |form| form.updated_at = after_9999),
        refused(&imports()[0], |form| form.created_at = after_9999),
        refused(&imports()[0], |form| form.sunset = Some(after_9999)),
        refused(&settings, |form| {
            form.limits.as_mut().unwrap()[0].requests = 0;
        }),
        refused(&settings, |form| match &mut form.quota {
            SettingForm::Own(quota) => quota.requests = 0,
            _ => unreachable!(),
        }),
    ];
    for event in events() {
        let body = AuditBody {
            at: AT,
            actor: None,
            event,
        };
        spoiled.push(refused(&body, |form| form.at = after_9999));
    }
    assert!(spoiled.iter().all(|is_refused| *is_refused), "{spoiled:?}");
}
