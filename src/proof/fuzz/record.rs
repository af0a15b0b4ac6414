//! Invariants checked, for any bytes as a stored record of each kind, as they are
//! and with a tag that is right put behind them, so that what stands behind the
//! tag is reached too:
//! - reading them is an error or gives a record; it does not panic;
//! - a record that was read is written, and reads back as the same;
//! - what a verification and a listing make of such a record does not panic;
//! - a store's identity, which no tag covers, is refused or unlocks a key.

use std::sync::LazyLock;

use zeroize::Zeroizing;

use crate::crypto::digest::Keyring;
use crate::engine::policy;
use crate::memory::registry::Registry;
use crate::model::audit::AuditBody;
use crate::model::clock::Timestamp;
use crate::model::counter::Counter;
use crate::model::id::KeyId;
use crate::model::key::ColdRecord;
use crate::model::keyspace::Keyspace;
use crate::model::limit::Level;
use crate::model::owner_settings::Setting;
use crate::model::requirements::Requirements;
use crate::model::secret::Pepper;
use crate::model::stats::KeyCounts;
use crate::store::counts::Counted;
use crate::store::identity::unlock_stored;
use crate::store::life::Life;
use crate::store::owner_settings::{OwnerQuota, OwnerSettingsRecord, assemble};
use crate::store::quota::QuotaRecord;
use crate::store::read::{UsageRecord, decode_audit, encode_audit_onto};
use crate::store::record::{KeyRecord, View};
use crate::store::tables::{OwnerRecord, State, Stored, Tagged, seal, unseal};

/// The key of an envelope; which one does not matter, since the tag covers it.
const KEY: &[u8] = b"a key";
/// The newest version of a kind of record.
fn newest(kind: u8) -> u8 {
    match kind % KINDS {
        1 => ColdRecord::VERSION,
        2 => Keyspace::VERSION,
        5 => State::VERSION,
        6 => QuotaRecord::VERSION,
        10 => OwnerSettingsRecord::VERSION,
        _ => 1,
    }
}

static RING: LazyLock<Keyring> = LazyLock::new(|| Keyring::new(&Zeroizing::new([3; 32]), &[]));

/// Takes the first byte for the kind of a record, and the rest for the record.
pub fn record(bytes: &[u8]) {
    if let Some((kind, bytes)) = bytes.split_first() {
        read(*kind, bytes);
        for version in 1..=newest(*kind) {
            read(*kind, &with_tag(*kind, version, bytes));
        }
    }
}

const KINDS: u8 = 12;

/// Reads a record as it is stored, its tag included, and says whether there is
/// one. An identity has no tag.
fn read(kind: u8, stored: &[u8]) -> bool {
    match kind % KINDS {
        0 => hot(stored),
        1 => envelope::<ColdRecord>(Tagged::Cold, stored, |_| {}),
        2 => envelope::<Keyspace>(Tagged::Keyspace, stored, use_keyspace),
        3 => envelope::<OwnerRecord>(Tagged::Owner, stored, |_| {}),
        4 => envelope::<UsageRecord>(Tagged::Usage, stored, |_| {}),
        5 => envelope::<State>(Tagged::State, stored, use_state),
        6 => envelope::<QuotaRecord>(Tagged::Quota, stored, use_quota),
        7 => audit(stored),
        8 => envelope::<Counted>(Tagged::Counts, stored, |counted| {
            let _ = KeyCounts::from(*counted).total();
        }),
        10 => envelope::<OwnerSettingsRecord>(Tagged::OwnerSettings, stored, use_settings),
        11 => envelope::<OwnerQuota>(Tagged::OwnerQuota, stored, |_| {}),
        _ => {
            let pepper = Pepper::new(1, [1; 32]).unwrap();
            let _ = unlock_stored(&[pepper], stored);
            unlock_stored(&[], stored).is_ok()
        }
    }
}

/// Puts a tag that is right behind a record, and a version before it where it
/// does not hold its own.
fn with_tag(kind: u8, version: u8, bytes: &[u8]) -> Vec<u8> {
    let body = [&[version], bytes].concat();
    let table = match kind % KINDS {
        0 => return [bytes, &RING.hot_tag(bytes)].concat(),
        1 => Tagged::Cold,
        2 => Tagged::Keyspace,
        3 => Tagged::Owner,
        4 => Tagged::Usage,
        5 => Tagged::State,
        6 => Tagged::Quota,
        7 => return [body.as_slice(), &RING.chain(&[7; 32], 8, &body)].concat(),
        8 => Tagged::Counts,
        10 => Tagged::OwnerSettings,
        11 => Tagged::OwnerQuota,
        _ => return bytes.to_vec(),
    };
    let tag = RING.tag(table as u8, KEY, &body);
    [body.as_slice(), &tag].concat()
}

/// The instants at which a record is asked what it is.
const INSTANTS: [Timestamp; 3] = [
    Timestamp::MIN,
    Timestamp::from_raw(1_767_225_600_000),
    Timestamp::MAX,
];

fn hot(stored: &[u8]) -> bool {
    let id = match stored.get(8..).and_then(<[u8]>::first_chunk) {
        Some(id) => KeyId::from_raw(u64::from_le_bytes(*id)),
        None => KeyId::from_raw(0),
    };
    let Ok((view, body)) = View::open(stored, id, &RING) else {
        return false;
    };
    assert_eq!(RING.hot_tag(body), stored[body.len()..]);
    for now in INSTANTS {
        let asked = Requirements::new()
            .source("10.1.2.3".parse().unwrap())
            .permissions(&["read"]);
        let (life, held) = (Life::from(&view), view.permissions());
        let nameless = policy::nameless().unwrap();
        let _ = policy::decide(&view, &life, held, &asked, |_| false, || &nameless, now);
        let _ = (life.state(now), view.short_owner(), view.lineage());
    }
    let Ok(record) = KeyRecord::from_view(&view) else {
        return false;
    };
    let _ = format!("{record:?} {:?}", record.ends_at());
    let written = record.encode(&RING).unwrap();
    let (view, _) = View::open(&written, id, &RING).unwrap();
    assert!(KeyRecord::from_view(&view).unwrap() == record);
    true
}

fn envelope<T: Stored>(table: Tagged, stored: &[u8], used: impl Fn(&T)) -> bool {
    let Ok(value) = unseal::<T>(&RING, table, KEY, stored) else {
        return false;
    };
    used(&value);
    // A value may be read from several encodings, and is written as one.
    let written = seal(&RING, table, KEY, &value).unwrap();
    let again: T = unseal(&RING, table, KEY, &written).unwrap();
    assert!(seal(&RING, table, KEY, &again).unwrap() == written);
    true
}

fn use_keyspace(keyspace: &Keyspace) {
    let _ = (keyspace.active_mask(), keyspace.validate());
    let _ = keyspace.names(keyspace.active_mask());
    let _ = (keyspace.mask(["read"]), keyspace.plan_for(None));
    for plan in keyspace.plans.iter().take(4) {
        let _ = format!("{plan:?}");
        for limit in plan.limits.iter().take(4) {
            for now in INSTANTS {
                let mut counter = Counter::default();
                counter.add(*limit, 1, now);
                let _ = format!("{limit} {:?}", counter.status(*limit, Level::Key, now));
            }
        }
    }
    let _ = Registry::new().publish(keyspace.clone());
}

fn use_state(state: &State) {
    let mut state = state.clone();
    state.count_digest(1, 1);
    state.count_digest(2, -1);
    let _ = (state.lags.covers(b"acme/etl", 3), state.lags.is_full());
    state.lags.reached(None);
}

fn use_quota(quota: &QuotaRecord) {
    for now in INSTANTS {
        let _ = format!("{:?}", quota.status(now));
        let mut quota = quota.at(now);
        let slice = quota.take_slice(1, 1, 0, 0);
        quota.put_back(slice.period(), slice.requests);
        quota.use_up(u64::MAX);
        let _ = format!("{:?}", quota.status(now));
    }
}

fn use_settings(settings: &OwnerSettingsRecord) {
    let owner = "acme".parse().unwrap();
    let nameless = policy::nameless().unwrap();
    let settings = assemble(&nameless, &owner, Some(settings.clone()), Setting::Default);
    let _ = format!("{settings:?} {}", settings.is_empty());
}

fn audit(stored: &[u8]) -> bool {
    let Ok((entry, hash)) = decode_audit(&RING, &[7; 32], 8, stored) else {
        return false;
    };
    let _ = format!("{entry:?} {:?}", entry.event.keys());
    let body = AuditBody {
        at: entry.at,
        actor: entry.actor.clone(),
        event: entry.event.clone(),
    };
    let mut written = Vec::new();
    encode_audit_onto(&RING, &[7; 32], 8, &body, &mut written).unwrap();
    let (again, _) = decode_audit(&RING, &[7; 32], 8, &written).unwrap();
    assert!(again == entry && stored.ends_with(&hash));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::audit::{AuditEvent, Change};
    use crate::model::permissions::Permissions;
    use crate::store::lags::{Became, Lag, Lags, Whose};
    use crate::store::reach::Reach;
    use crate::store::record::Phase;
    use crate::{KeysPerOwner, LevelDefaults, Limit, Plan, Quota, Refill};

    fn sealed<T: Stored>(value: &T) -> Vec<u8> {
        value.encode().unwrap()
    }

    /// A sound record of each kind, without its version and tag.
    fn sound() -> [(&'static str, Vec<u8>); 12] {
        let at = INSTANTS[1];
        let id = KeyId::from_raw(77);
        let hot = KeyRecord {
            id,
            lineage: KeyId::from_raw(70),
            keyspace: 3,
            plan: 515,
            has_quota: true,
            has_own_limits: false,
            phase: Phase::Retiring { until: at },
            disabled: true,
            suspended: 0b101,
            permissions: Permissions::from_bits(u128::MAX - 5),
            not_before: at,
            expires_at: Some(at),
            revision: 12,
            pepper: 4,
            scheme: crate::store::record::Scheme::Native,
            import: 0,
            digest: [0xab; 32],
            owner: "acme/ingest/etl-bot".parse().unwrap(),
            networks: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
        };
        let (retiring, hot) = (hot.clone(), hot.encode(&RING).unwrap());
        let text = |text: &str| Some(text.to_owned());
        let cold = ColdRecord {
            name: text("etl"),
            description: text("what it is for"),
            labels: [("team".to_owned(), "data".to_owned())].into(),
            created_at: at,
            created_by: text("ops"),
            predecessor: Some(id),
            successor: Some(KeyId::from_raw(78)),
            quota: Some(9),
            limits: Some(vec![Limit::per_minute(90)]),
            foreign_id: text("row-17"),
        };
        let limit = Limit::per_minute(60);
        let new = crate::NewKeyspace::new("acme_live").unwrap();
        let new = new
            .permissions(["read", "write"])
            .keys_per_owner(KeysPerOwner::Many { cap: Some(5) })
            .max_lifetime(std::time::Duration::from_secs(60))
            .plan(Plan::new("gold").limit(limit))
            .owner_defaults(1, LevelDefaults::new().plan("gold").cap(5));
        let engine = crate::Engine::open_in_memory().unwrap();
        let mut keyspace = engine.create_keyspace(new).unwrap();
        (keyspace.created_at, keyspace.updated_at) = (at, at);
        let owner = OwnerRecord {
            suspended_at: at,
            suspended_by: text("ops"),
            note: text("unpaid"),
        };
        let usage = UsageRecord {
            last_used: Some(at),
            count: 1_000_000,
        };
        let state = State {
            audit_seq: 7,
            audit_hash: [1; 32],
            clock: at,
            next_keyspace: 2,
            digests: vec![(1, 3), (2, 4)],
            commits: 11,
            audit_floor_seq: 2,
            audit_floor_hash: [3; 32],
            reach: Reach::through(at),
            lags: Lags::new(vec![
                Lag {
                    whose: Whose::Owner("acme".parse().unwrap()),
                    became: Became::Suspended,
                    seq: 5,
                    after: Some(b"acme".to_vec()),
                },
                Lag {
                    whose: Whose::Keyspace(3, "acme_live".parse().unwrap()),
                    became: Became::Revoked {
                        at,
                        reason: crate::Reason::KeyCompromise,
                        actor: text("ops"),
                    },
                    seq: 6,
                    after: None,
                },
            ]),
        };
        let settings = OwnerSettingsRecord {
            plan: 1,
            limits: Some(vec![limit]),
            quota: Setting::Own(Quota::new(9)),
            cap: Setting::Own(5),
            revision: 12,
            updated_at: at,
            updated_by: text("ops"),
        };
        let quota = QuotaRecord {
            given_until: Some(at),
            ..QuotaRecord::new(Quota::new(9).refilled(Refill::Daily), 1, 5, at)
        };
        let audit = AuditBody {
            at,
            actor: text("ops"),
            event: AuditEvent::KeyUpdated {
                key: id,
                changes: vec![Change {
                    field: "name".to_owned(),
                    before: "a".to_owned(),
                    after: "b".to_owned(),
                }],
            },
        };
        let mut counted = Counted::default();
        counted.count(&retiring, INSTANTS[0], 300);
        counted.count(&retiring, at, 1);
        let mut identity = vec![7; 16];
        identity.push(0);
        identity.extend([8; 32]);
        [
            ("hot", hot[..hot.len() - 16].to_vec()),
            ("cold", sealed(&cold)),
            ("keyspace", sealed(&keyspace)),
            ("owner", sealed(&owner)),
            ("usage", sealed(&usage)),
            ("state", sealed(&state)),
            ("quota", sealed(&quota)),
            ("audit", sealed(&audit)),
            ("counts", sealed(&counted)),
            ("identity", identity),
            ("owner_settings", sealed(&settings)),
            ("owner_quota", sealed(&OwnerQuota { number: 5 })),
        ]
    }

    #[test]
    fn the_corpus_holds_a_sound_record_of_each_kind_and_each_is_read() {
        for (kind, (name, body)) in (0_u8..).zip(sound()) {
            let seed = [&[kind], body.as_slice()].concat();
            let file = format!("{}/fuzz/corpus/record/{name}", env!("CARGO_MANIFEST_DIR"));
            let kept = std::fs::read(file).unwrap();
            assert_eq!(kept, seed, "{name}: the format is another than it was");
            assert!(read(kind, &with_tag(kind, newest(kind), &body)), "{name}");
        }
    }

    #[test]
    fn a_record_of_another_version_is_not_read_though_its_tag_is_right() {
        for (kind, (name, mut body)) in (0_u8..).zip(sound()) {
            if name == "identity" {
                continue;
            }
            for version in [0, newest(kind) + 1, 255] {
                if kind == 0 {
                    body[1] = version;
                }
                let stored = with_tag(kind, version, &body);
                assert!(!read(kind, &stored), "version {version} of {name}");
            }
        }
    }

    #[test]
    fn every_single_bit_flip_of_every_record_with_a_tag_is_detected() {
        let mut flips = 0;
        for (kind, (name, body)) in (0_u8..).zip(sound()) {
            if name == "identity" {
                continue;
            }
            let stored = with_tag(kind, newest(kind), &body);
            for bit in 0..stored.len() * 8 {
                let mut bad = stored.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(!read(kind, &bad), "bit {bit} of {name}");
                flips += 1;
            }
            for len in 0..stored.len() {
                assert!(!read(kind, &stored[..len]), "{len} bytes of {name}");
            }
        }
        assert_eq!(flips, 6288);
    }
}
