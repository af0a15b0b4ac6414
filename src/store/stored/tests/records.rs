//! A record of each kind, in each of its variants.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::audit::link::Link;
use crate::model::audit::{AuditEvent, Change, Repair, Scope};
use crate::model::clock::Timestamp;
use crate::model::id::KeyId;
use crate::model::import::{ForeignHash, Shape};
use crate::model::key::ColdRecord;
use crate::model::keyspace::{KeysPerOwner, Keyspace, PermissionName};
use crate::model::level::LevelDefaults;
use crate::model::limit::Limit;
use crate::model::owner_settings::Setting;
use crate::model::plan::Plan;
use crate::model::quota::{Quota, Refill};
use crate::model::reason::Reason;
use crate::model::used_from::SourceNet;
use crate::store::import::{ImportCounts, ImportRecord};
use crate::store::lags::{Became, Lag, Lags, Whose};
use crate::store::owner_settings::OwnerSettingsRecord;
use crate::store::quota::QuotaRecord;
use crate::store::reach::Reach;
use crate::store::read::UsageRecord;
use crate::store::tables::State;
use crate::store::usage_networks::{NetworksRecord, UsedNet};

pub(super) const AT: Timestamp = Timestamp::from_raw(1_767_225_600_123);
const LATER: Timestamp = Timestamp::from_raw(1_767_225_700_456);

pub(super) fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub(super) fn id(raw: u64) -> KeyId {
    KeyId::from_raw(raw)
}

pub(super) fn colds() -> [ColdRecord; 2] {
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

pub(super) fn keyspaces() -> [Keyspace; 3] {
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

pub(super) fn events() -> Vec<AuditEvent> {
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

pub(super) fn quotas() -> [QuotaRecord; 5] {
    let quota = QuotaRecord {
        quota: Quota::new(1000),
        remaining: 999,
        owed: 0,
        refills_at: Timestamp::MAX,
        given_until: None,
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
    let brought_near = QuotaRecord {
        given_until: Some(Timestamp::MAX),
        ..daily.clone()
    };
    [quota, daily, monthly, owing, brought_near]
}

pub(super) fn owner_settings() -> [OwnerSettingsRecord; 4] {
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

pub(super) fn imports() -> [ImportRecord; 4] {
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

pub(super) fn usage() -> UsageRecord {
    UsageRecord {
        last_used: Some(AT),
        count: 1_000_000,
    }
}

pub(super) fn networks() -> NetworksRecord {
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

/// Where no key lags behind, where some do, and where some lag behind revocations, too.
pub(super) fn states() -> [State; 3] {
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
    let revoking = revoking(lagging.clone());
    [state, lagging, revoking]
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
pub(super) fn for_fleet() -> (ColdRecord, Keyspace, [OwnerSettingsRecord; 2]) {
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
