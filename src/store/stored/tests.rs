//! Every kind of record, and every variant in one, against bytes that do not change.

use std::collections::BTreeMap;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::crypto::digest::Seal;
use crate::model::audit::link::Link;
use crate::model::audit::{AuditBody, AuditEvent, Change, Repair, Scope};
use crate::model::clock::Timestamp;
use crate::model::hex::Hex;
use crate::model::id::KeyId;
use crate::model::import::{ForeignHash, Shape};
use crate::model::key::ColdRecord;
use crate::model::keyspace::{KeysPerOwner, Keyspace, PermissionName};
use crate::model::level::LevelDefaults;
use crate::model::limit::{Algorithm, Limit};
use crate::model::outcome::Outcome;
use crate::model::owner_settings::Setting;
use crate::model::plan::Plan;
use crate::model::quota::{Quota, Refill};
use crate::model::reason::Reason;
use crate::model::secret::Pepper;
use crate::model::used_from::SourceNet;
use crate::store::codec;
use crate::store::counts::Counted;
use crate::store::history::Indexed;
use crate::store::identity::{Identity, StoredKey};
use crate::store::import::{ImportCounts, ImportRecord};
use crate::store::lags::{Became, Lag, Lags, Whose};
use crate::store::mark::Mark;
use crate::store::owner_settings::{OwnerQuota, OwnerSettingsRecord};
use crate::store::quota::QuotaRecord;
use crate::store::reach::Reach;
use crate::store::read::UsageRecord;
use crate::store::stored::owner::SettingForm;
use crate::store::stored::quota::RefillForm;
use crate::store::tables::{OwnerRecord, State, Stored};
use crate::store::tx::requests::RequestPart;
use crate::store::usage_history::{HistoryRow, HistoryState};
use crate::store::usage_networks::{NetworksRecord, UsedNet};

const AT: Timestamp = Timestamp::from_raw(1_767_225_600_123);
const LATER: Timestamp = Timestamp::from_raw(1_767_225_700_456);

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn id(raw: u64) -> KeyId {
    KeyId::from_raw(raw)
}

fn colds() -> [ColdRecord; 2] {
    [
        ColdRecord {
            name: text("etl"),
            description: text("what it is for"),
            labels: BTreeMap::from([
                ("env".to_owned(), "prod".to_owned()),
                ("team".to_owned(), "data".to_owned()),
            ]),
            created_at: AT,
            created_by: text("ops"),
            predecessor: Some(id(77)),
            successor: Some(id(300_000)),
            quota: Some(9),
            limits: Some(vec![Limit::per_minute(90), Limit::per_hour(3_000)]),
            foreign_id: text("row-17"),
        },
        ColdRecord {
            name: None,
            description: None,
            labels: BTreeMap::new(),
            created_at: Timestamp::MIN,
            created_by: None,
            predecessor: None,
            successor: None,
            quota: None,
            limits: None,
            foreign_id: None,
        },
    ]
}

fn keyspaces() -> [Keyspace; 3] {
    let full = Keyspace {
        id: 3,
        revision: 400,
        prefix: "acme_live".parse().unwrap(),
        description: "of the API".to_owned(),
        permissions: [("read", false), ("write", true)]
            .map(|(name, retired)| PermissionName {
                name: name.to_owned(),
                retired,
            })
            .into(),
        keys_per_owner: KeysPerOwner::Many { cap: Some(5) },
        default_lifetime: Some(Duration::new(60, 5)),
        max_lifetime: Some(Duration::from_secs(86_400)),
        plans: vec![
            Plan::new("gold")
                .limit(Limit::per_minute(60).fixed())
                .limit(Limit::per_hour(100_000).bucket(500)),
            Plan::new("free").shared_by_owner(),
            Plan::new("batch").replaces_levels_above(),
        ],
        default_plan: text("gold"),
        owner_defaults: BTreeMap::from([
            (
                1,
                LevelDefaults::new()
                    .plan("free")
                    .quota(Quota::new(1000).refilled(Refill::Monthly))
                    .cap(300),
            ),
            (8, LevelDefaults::new().cap(1)),
        ]),
        max_grace: Some(Duration::from_secs(3600)),
        count_retiring: true,
        created_at: AT,
        updated_at: LATER,
    };
    let superseding = Keyspace {
        keys_per_owner: KeysPerOwner::SingleSuperseding,
        permissions: Vec::new(),
        default_lifetime: None,
        max_lifetime: None,
        plans: Vec::new(),
        default_plan: None,
        owner_defaults: BTreeMap::new(),
        max_grace: None,
        count_retiring: false,
        ..full.clone()
    };
    let refusing = Keyspace {
        keys_per_owner: KeysPerOwner::SingleRefusing,
        ..superseding.clone()
    };
    [full, superseding, refusing]
}

fn events() -> Vec<AuditEvent> {
    let keyspace = "acme_live".parse().unwrap();
    let owner: crate::OwnerPath = "acme/ingest".parse().unwrap();
    let changes = vec![Change {
        field: "name".to_owned(),
        before: "a".to_owned(),
        after: "b".to_owned(),
    }];
    let note = text("why");
    let (key, old, new) = (id(77), id(78), id(300_000));
    vec![
        AuditEvent::KeyspaceCreated { keyspace },
        AuditEvent::KeyspaceUpdated {
            keyspace,
            changes: changes.clone(),
        },
        AuditEvent::KeyIssued {
            key,
            keyspace,
            owner: owner.clone(),
            superseded: vec![old],
        },
        AuditEvent::KeyRotated {
            old,
            new,
            retiring_until: Some(LATER),
            superseded: vec![key],
        },
        AuditEvent::KeyRevoked {
            key,
            reason: Reason::KeyCompromise,
            note: note.clone(),
        },
        AuditEvent::KeysRevokedUnnamed {
            scope: Scope::Owner(owner.clone()),
            keys: 2000,
            reason: Reason::Superseded,
            note: None,
        },
        AuditEvent::KeyUpdated {
            key,
            changes: changes.clone(),
        },
        AuditEvent::KeyDisabled { key },
        AuditEvent::KeyEnabled { key },
        AuditEvent::OwnerSuspended {
            owner: owner.clone(),
            keys: 3,
            note: note.clone(),
        },
        AuditEvent::OwnerResumed {
            owner: owner.clone(),
            keys: 4,
        },
        AuditEvent::KeysPurged {
            keys: vec![key, old, new],
        },
        AuditEvent::DigestsRenewed {
            pepper: 200,
            keys: vec![key],
        },
        AuditEvent::AuditTrimmed {
            through: Link::new(5, [6; 32]),
            kept: 7,
            dropped: 8,
        },
        AuditEvent::KeysRevoked {
            scope: Scope::Keyspace(keyspace),
            keys: vec![old, new],
            reason: Reason::Cessation,
            note,
        },
        AuditEvent::KeyReissued { old, new },
        AuditEvent::StoreRepaired {
            keys: vec![key],
            repairs: vec![Repair {
                table: "cold".to_owned(),
                record: "r".to_owned(),
                done: "removed".to_owned(),
            }],
        },
        AuditEvent::AuditBroken {
            entries: vec![1, 70_000],
        },
        AuditEvent::StoreRestored {
            backup: Link::new(1, [2; 32]),
            trail: Link::new(3, [4; 32]),
        },
        AuditEvent::TimeSetBack {
            from: LATER,
            to: AT,
            revived: 2,
        },
        AuditEvent::KeyRevoked {
            key,
            reason: Reason::Unspecified,
            note: None,
        },
        AuditEvent::KeyRevoked {
            key,
            reason: Reason::AffiliationChanged,
            note: None,
        },
        AuditEvent::KeyRevoked {
            key,
            reason: Reason::PrivilegeWithdrawn,
            note: None,
        },
        AuditEvent::OwnerUpdated {
            keyspace,
            owner: owner.clone(),
            changes,
        },
        AuditEvent::OwnerQuotaBegun {
            keyspace,
            owner: owner.clone(),
        },
        AuditEvent::ExtensionChanged {
            extension: "oauth".to_owned(),
            event: "code_redeemed".to_owned(),
            subject: "s".to_owned(),
            note: Some("n".to_owned()),
        },
        AuditEvent::ImportChanged {
            import: "unkey".to_owned(),
            changes: vec![Change {
                field: "sunset".to_owned(),
                before: "none".to_owned(),
                after: "never".to_owned(),
            }],
        },
        AuditEvent::KeysImported {
            import: "unkey".to_owned(),
            keys: vec![key, old],
        },
        AuditEvent::KeyClaimed {
            import: "unkey".to_owned(),
            key,
        },
        AuditEvent::ImportEnded {
            import: "unkey".to_owned(),
            keys: vec![new],
        },
        AuditEvent::RevokedKeysNamed {
            entry: 70_000,
            scope: Scope::Owner(owner),
            keys: vec![old, key],
        },
    ]
}

fn quotas() -> [QuotaRecord; 4] {
    let quota = QuotaRecord {
        quota: Quota::new(1000),
        remaining: 999,
        owed: 0,
        refills_at: Timestamp::MAX,
        keys: 2,
        revision: 70_000,
    };
    let refilled = |refill| QuotaRecord {
        quota: Quota::new(1000).refilled(refill),
        refills_at: LATER,
        ..quota.clone()
    };
    let (daily, monthly) = (refilled(Refill::Daily), refilled(Refill::Monthly));
    let owing = QuotaRecord {
        remaining: 0,
        owed: 70_000,
        ..refilled(Refill::monthly_from(31).unwrap())
    };
    [quota, daily, monthly, owing]
}

fn owner_settings() -> [OwnerSettingsRecord; 4] {
    let full = OwnerSettingsRecord {
        plan: 300,
        limits: Some(vec![Limit::per_second(80)]),
        quota: Setting::Own(Quota::new(1000).refilled(Refill::Daily)),
        cap: Setting::Own(7),
        revision: 70_000,
        updated_at: LATER,
        updated_by: text("ops"),
    };
    let unlimited = OwnerSettingsRecord {
        plan: 0,
        limits: Some(Vec::new()),
        quota: Setting::Own(Quota::new(1000)),
        cap: Setting::Default,
        updated_by: None,
        ..full.clone()
    };
    let capped = OwnerSettingsRecord {
        limits: None,
        quota: Setting::Default,
        cap: Setting::Own(70_000),
        ..unlimited.clone()
    };
    // The first two are as version 1 had them.
    let boundless = OwnerSettingsRecord {
        quota: Setting::Unlimited,
        cap: Setting::Unlimited,
        ..capped.clone()
    };
    [full, unlimited, capped, boundless]
}

fn imports() -> [ImportRecord; 4] {
    let full = ImportRecord {
        name: "unkey".to_owned(),
        hash: ForeignHash::Sha256,
        shape: Shape {
            after_bar: true,
            starts_with: "uk_".to_owned(),
            len_min: 8,
            len_max: 512,
        },
        sunset: Some(LATER),
        created_at: AT,
        created_by: text("ops"),
        counts: ImportCounts {
            keys: 70_000,
            unseen: 7,
            hashed: 300,
        },
    };
    let of = |hash| ImportRecord {
        hash,
        sunset: None,
        created_by: None,
        ..full.clone()
    };
    let [plain, long, other] = [ForeignHash::Plain, ForeignHash::Sha512, ForeignHash::Other];
    [full.clone(), of(plain), of(long), of(other)]
}

fn usage() -> UsageRecord {
    UsageRecord {
        last_used: Some(AT),
        count: 1_000_000,
    }
}

fn networks() -> NetworksRecord {
    let net = |address: &str, last_day| UsedNet {
        net: SourceNet::of(address.parse().unwrap()),
        first: AT,
        last_day,
    };
    NetworksRecord {
        since: AT,
        nets: vec![net("192.0.2.77", 70_000), net("2001:db8:77::1", 3)],
    }
}

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
    let state = State {
        audit_seq: 7,
        audit_hash: [1; 32],
        clock: AT,
        next_keyspace: 2,
        digests: vec![(1, 3), (2, 400)],
        commits: 11,
        audit_floor_seq: 2,
        audit_floor_hash: [3; 32],
        reach: Reach::through(LATER),
        lags: Lags::default(),
    };
    line(&mut lines, "state", &state);
    let mut lagging = state.clone();
    for (owner, is_suspended, after) in [
        ("acme", true, Some(vec![97, 0, 255])),
        ("globex/etl", false, None),
    ] {
        lagging.lags.push(Lag {
            whose: Whose::Owner(owner.parse().unwrap()),
            became: match is_suspended {
                true => Became::Suspended,
                false => Became::Resumed,
            },
            seq: 70_000,
            after,
        });
    }
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
    line(&mut lines, "state", &revoking(lagging));
    lines
}

/// A state where keys lag behind revocations, too.
fn revoking(mut state: State) -> State {
    let prefix = "acme_live".parse().unwrap();
    let who = Some("alice".to_owned());
    for (whose, actor, after) in [
        (Whose::Owner("acme".parse().unwrap()), who, None),
        (Whose::Keyspace(2, prefix), None, Some(vec![0, 255])),
    ] {
        state.lags.push(Lag {
            whose,
            became: Became::Revoked {
                at: LATER,
                reason: Reason::KeyCompromise,
                actor,
            },
            seq: 70_001,
            after,
        });
    }
    state
}

/// Records with limits that are for the fleet.
fn for_fleet() -> (ColdRecord, Keyspace, [OwnerSettingsRecord; 2]) {
    let [mut cold, _] = colds();
    cold.limits = Some(vec![
        Limit::per_minute(90),
        Limit::per_minute(90).for_fleet(),
    ]);
    let [mut keyspace, ..] = keyspaces();
    keyspace.plans[1].limits = vec![
        Limit::per_minute(60).fixed().for_fleet(),
        Limit::per_hour(9).bucket(500).for_fleet(),
    ];
    let [mut settings, .., mut boundless] = owner_settings();
    settings.limits = Some(vec![Limit::per_second(80).for_fleet()]);
    boundless.limits = settings.limits.clone();
    (cold, keyspace, [settings, boundless])
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
    let [quota, daily, monthly, _] = quotas();
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
        refused(&quota, |form| form.requests = 0),
        refused(&quota, |form| form.requests = u64::MAX),
        refused(&quota, |form| form.refills_at = after_9999),
        refused(&quota, |form| {
            form.refill = Some(RefillForm::MonthlyFrom(0));
        }),
        refused(&quota, |form| {
            form.refill = Some(RefillForm::MonthlyFrom(32));
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
