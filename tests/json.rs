//! The public types as JSON: what a server's admin interface sends, and what its clients
//! read. The texts here are the interface: a change of one breaks a client.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Debug;
use std::marker::PhantomData;
use std::time::Duration;

use gatekey::{
    AuditEntry, AuditEvent, Clock as _, Denial, Engine, Expiry, ForeignHash, IdempotencyKey,
    Import, Key, KeyCounts, KeyFilter, KeyId, KeysPerOwner, Level, LevelDefaults, Limit,
    LimitStatus, Link, ManualClock, Network, NewKey, NewKeyspace, Options, OwnerPath,
    OwnerSettings, OwnerUpdate, Permissions, Plan, Prefix, Quota, QuotaStatus, Reason, Refill,
    Requirements, Timestamp, Verdict,
};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Reads a text, and writes it again: it must be the same.
fn reads_and_writes<T: Serialize + DeserializeOwned>(text: &str) -> T {
    let value: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let written = serde_json::to_string(&value).unwrap();
    let (written, text): (Value, Value) = (written.parse().unwrap(), text.parse().unwrap());
    assert_eq!(written, text);
    value
}

fn round<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
    // By way of a tree, as `json!` and `#[serde(flatten)]` go.
    let tree = serde_json::to_value(value).unwrap();
    assert_eq!(&serde_json::from_value::<T>(tree).unwrap(), value, "{text}");
}

fn refused<T: DeserializeOwned>(value: &Value) -> String {
    match serde_json::from_value::<T>(value.clone()) {
        Ok(_) => panic!("{value} was read"),
        Err(error) => error.to_string(),
    }
}

fn engine(clock: &ManualClock) -> Engine {
    let options = Options::new().clock(clock.clone());
    let engine = options.open_in_memory().unwrap();
    let new = NewKeyspace::new("acme_live").unwrap();
    let new = new
        .permissions(["read", "write"])
        .keys_per_owner(KeysPerOwner::Many { cap: Some(5) })
        .default_lifetime(Duration::from_secs(90 * 86_400))
        .plan(Plan::new("gold").limit(Limit::per_minute(1)))
        .owner_defaults(1, LevelDefaults::new().plan("gold").cap(3));
    engine.create_keyspace(new).unwrap();
    engine
}

fn clock() -> ManualClock {
    ManualClock::at("2026-01-01T00:00:00.123Z".parse().unwrap())
}

#[test]
fn a_key_reads_as_a_person_would_write_it() {
    let key: Key = reads_and_writes(
        r#"{
            "id": "7Hk2Pq9ZxW",
            "keyspace": "acme_live",
            "owner": "acme/ingest",
            "state": "not_yet_valid",
            "disabled": false,
            "suspended": false,
            "expired": false,
            "permissions": "0x80000000000000000000000000000003",
            "name": "etl",
            "description": null,
            "labels": {"team": "data"},
            "networks": ["192.0.2.0/24", "2001:db8::/32"],
            "plan": "gold",
            "limits": [{"requests": 60, "window": "PT1M", "algorithm": "sliding"}],
            "quota": {
                "quota": {"requests": 1000, "refill": "monthly"},
                "remaining": 990,
                "refills_at": "2026-02-01T00:00:00Z",
                "owed": 0
            },
            "not_before": "2026-01-02T00:00:00Z",
            "expires_at": "2026-04-01T00:00:00.123Z",
            "retiring_until": null,
            "created_at": "2026-01-01T00:00:00.123Z",
            "created_by": "ops",
            "predecessor": null,
            "successor": null,
            "revoked": {
                "key": "7Hk2Pq9ZxW",
                "at": "2026-01-01T00:00:00Z",
                "reason": "key_compromise",
                "note": null,
                "by": null
            },
            "usage": {"last_used": null, "count": 3}
        }"#,
    );
    assert_eq!(key.permissions.bits(), 1 << 127 | 3);
    assert_eq!(key.quota.unwrap().remaining, 990);
}

#[test]
fn small_types_have_these_texts() {
    reads_and_writes::<Permissions>(r#""0x0""#);
    reads_and_writes::<Timestamp>(r#""2026-01-01T00:00:00Z""#);
    reads_and_writes::<IdempotencyKey>(r#""order-17""#);
    reads_and_writes::<Link>(&format!("\"7:{}\"", "0a".repeat(32)));
    reads_and_writes::<Limit>(r#"{"requests": 60, "window": "PT1M", "algorithm": "sliding"}"#);
    reads_and_writes::<Limit>(r#"{"requests": 5, "window": "PT1H", "algorithm": "fixed"}"#);
    reads_and_writes::<Limit>(
        r#"{"requests": 5, "window": "PT1S", "algorithm": "bucket", "burst": 9}"#,
    );
    reads_and_writes::<Limit>(
        r#"{"requests": 5, "window": "PT1H", "algorithm": "fixed", "for_fleet": true}"#,
    );
    let sliding: Limit = serde_json::from_str(r#"{"requests": 5, "window": "PT1S"}"#).unwrap();
    assert_eq!(sliding, Limit::per_second(5));
    reads_and_writes::<LimitStatus>(
        r#"{"limit": {"requests": 60, "window": "PT1S", "algorithm": "fixed"}, "level": {"owner": 1}, "remaining": 9,
            "resets_at": "2026-01-01T00:01:00Z"}"#,
    );
    reads_and_writes::<Plan>(
        r#"{"name": "gold", "limits": [{"requests": 5, "window": "PT1H", "algorithm": "sliding"}], "shared_by_owner": true,
            "replaces_levels_above": false}"#,
    );
    reads_and_writes::<LevelDefaults>(
        r#"{"plan": "free", "quota": {"requests": 9, "refill": "daily"}, "cap": 5}"#,
    );
    let unlimited = r#"{"keyspace": "acme_live", "owner": "acme", "plan": null, "limits": [],
        "quota": "unlimited", "cap": "unlimited", "updated_at": null, "updated_by": null}"#;
    reads_and_writes::<OwnerSettings>(unlimited);
    for (wrong, why) in [
        (r#""endless""#, r#"expected null, "unlimited" or a value"#),
        ("-1", "expected u32"),
        ("[5]", r#"expected null, "unlimited" or a value"#),
    ] {
        let text = unlimited.replace(r#""cap": "unlimited""#, &format!(r#""cap": {wrong}"#));
        let refused = serde_json::from_str::<OwnerSettings>(&text).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    reads_and_writes::<OwnerSettings>(
        r#"{
            "keyspace": "acme_live",
            "owner": "acme/ingest",
            "plan": "gold",
            "limits": [{"requests": 60, "window": "PT1M", "algorithm": "sliding"}],
            "quota": {
                "quota": {"requests": 1000, "refill": null},
                "remaining": 990,
                "refills_at": null,
                "owed": 0
            },
            "cap": 5,
            "updated_at": "2026-01-01T00:00:00Z",
            "updated_by": "ops"
        }"#,
    );
    reads_and_writes::<Quota>(r#"{"requests": 9, "refill": null}"#);
    reads_and_writes::<Quota>(r#"{"requests": 9, "refill": {"monthly_from": 31}}"#);
    reads_and_writes::<Import>(
        r#"{
            "name": "unkey",
            "hash": "sha256",
            "after_bar": false,
            "starts_with": "uk_",
            "len_min": 8,
            "len_max": 512,
            "sunset": "2031-01-01T00:00:00Z",
            "created_at": "2026-01-01T00:00:00Z",
            "created_by": null,
            "keys": 10000,
            "unseen": 7
        }"#,
    );
    for hash in ["plain", "sha256", "sha512", "other"] {
        reads_and_writes::<ForeignHash>(&format!("{hash:?}"));
    }
    reads_and_writes::<KeysPerOwner>(r#""single_superseding""#);
    reads_and_writes::<KeysPerOwner>(r#""single_refusing""#);
    reads_and_writes::<KeysPerOwner>(r#"{"many": {"cap": 5}}"#);
    reads_and_writes::<KeysPerOwner>(r#"{"many": {"cap": null}}"#);
    reads_and_writes::<Expiry>(r#""default""#);
    reads_and_writes::<Expiry>(r#""never""#);
    reads_and_writes::<Expiry>(r#"{"at": "2026-01-01T00:00:00Z"}"#);
    reads_and_writes::<Expiry>(r#"{"after": "P90D"}"#);
    for reason in [
        "unspecified",
        "key_compromise",
        "superseded",
        "affiliation_changed",
        "privilege_withdrawn",
        "cessation",
        "other_77",
    ] {
        reads_and_writes::<Reason>(&format!("{reason:?}"));
    }
    // What may be left out of what a caller sends.
    let plan: Plan = serde_json::from_str(r#"{"name": "free"}"#).unwrap();
    assert_eq!(plan, Plan::new("free"));
    let quota: Quota = serde_json::from_str(r#"{"requests": 9}"#).unwrap();
    assert_eq!(quota, Quota::new(9));
    let defaults: LevelDefaults = serde_json::from_str(r#"{"cap": 5}"#).unwrap();
    assert_eq!(defaults, LevelDefaults::new().cap(5));
}

#[test]
fn every_entry_of_the_audit_trail_has_its_text() {
    let link = format!("7:{}", "0a".repeat(32));
    let events = json!([
        {"type": "keyspace_created", "keyspace": "acme_live"},
        {"type": "keyspace_updated", "keyspace": "acme_live",
            "changes": [{"field": "description", "before": "a", "after": "b"}]},
        {"type": "key_issued", "key": "7Hk2Pq9ZxW", "keyspace": "acme_live", "owner": "acme",
            "superseded": []},
        {"type": "key_rotated", "old": "7Hk2Pq9ZxW", "new": "7Hk2Pq9ZxX",
            "retiring_until": "2026-01-01T00:00:00Z", "superseded": ["7Hk2Pq9ZxV"]},
        {"type": "key_revoked", "key": "7Hk2Pq9ZxW", "reason": "superseded", "note": "why"},
        {"type": "keys_revoked_unnamed", "scope": {"owner": "acme"}, "keys": 2,
            "reason": "cessation", "note": null},
        {"type": "key_updated", "key": "7Hk2Pq9ZxW", "changes": []},
        {"type": "key_disabled", "key": "7Hk2Pq9ZxW"},
        {"type": "key_enabled", "key": "7Hk2Pq9ZxW"},
        {"type": "owner_suspended", "owner": "acme", "keys": 1, "note": null},
        {"type": "owner_resumed", "owner": "acme", "keys": 1},
        {"type": "keys_purged", "keys": ["7Hk2Pq9ZxW"]},
        {"type": "digests_renewed", "pepper": 2, "keys": ["7Hk2Pq9ZxW"]},
        {"type": "audit_trimmed", "through": link, "kept": 1, "dropped": 2},
        {"type": "keys_revoked", "scope": {"keyspace": "acme_live"}, "keys": ["7Hk2Pq9ZxW"],
            "reason": "other_200", "note": null},
        {"type": "key_reissued", "old": "7Hk2Pq9ZxW", "new": "7Hk2Pq9ZxX"},
        {"type": "store_repaired", "keys": [],
            "repairs": [{"table": "cold", "record": "r", "done": "removed"}]},
        {"type": "audit_broken", "entries": [1, 2]},
        {"type": "store_restored", "backup": link, "trail": link},
        {"type": "time_set_back", "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z",
            "revived": 1},
        {"type": "owner_updated", "keyspace": "acme_live", "owner": "acme",
            "changes": [{"field": "cap", "before": "none", "after": "5"}]},
        {"type": "owner_quota_begun", "keyspace": "acme_live", "owner": "acme"},
        {"type": "extension_changed", "extension": "oauth", "event": "code_redeemed",
            "subject": "s", "note": null},
        {"type": "import_changed", "import": "unkey",
            "changes": [{"field": "sunset", "before": "none", "after": "never"}]},
        {"type": "keys_imported", "import": "unkey", "keys": ["7Hk2Pq9ZxW"]},
        {"type": "key_claimed", "import": "unkey", "key": "7Hk2Pq9ZxW"},
        {"type": "import_ended", "import": "unkey", "keys": ["7Hk2Pq9ZxW"]},
        {"type": "revoked_keys_named", "entry": 7, "scope": {"owner": "acme"},
            "keys": ["7Hk2Pq9ZxW"]},
    ]);
    for event in events.as_array().unwrap() {
        let entry = json!({
            "seq": u64::MAX, "at": "2026-01-01T00:00:00.123Z", "actor": "ops", "event": event,
        });
        reads_and_writes::<AuditEntry>(&entry.to_string());
    }
    assert!(refused::<AuditEvent>(&json!({"type": "of_later"})).contains("unknown variant"));
}

#[test]
fn what_an_engine_answers_with_reads_back() {
    let clock = clock();
    let engine = engine(&clock);
    let new = NewKey::new("acme_live", "acme/ingest").unwrap();
    let new = new
        .permissions(["read"])
        .quota(Quota::new(9).refilled(Refill::Daily))
        .plan("gold")
        .allow_network("192.0.2.0/24".parse().unwrap());
    let issued = engine.issue(new).unwrap();
    engine.revoke(issued.key.id, Reason::KeyCompromise).unwrap();
    round(&engine.key(issued.key.id).unwrap());
    for entry in engine.audit_page(0, 100).unwrap().entries {
        round(&entry);
    }
    let metrics = serde_json::to_value(engine.metrics().unwrap()).unwrap();
    assert!(metrics["verifications"]["acme_live"]["granted"].is_u64());
    assert_eq!(metrics["unattributed"], json!({"granted": 0}));
    let _ = engine.verify(issued.token.expose()).unwrap();
    engine.flush().unwrap();
    let (first, last) = (Timestamp::MIN, Timestamp::MAX);
    let days = engine.usage_of_key(issued.key.id, first, last).unwrap();
    let days = serde_json::to_value(days).unwrap();
    assert!(
        days[0]["begins_at"]
            .as_str()
            .unwrap()
            .ends_with("T00:00:00Z")
    );
    assert_eq!(days[0]["counts"], json!({"granted": 0, "revoked": 1}));
    let hints = serde_json::to_value(engine.hints(None, 10).unwrap().hints).unwrap();
    assert_eq!(hints[0]["rule"], "revoked_key_tried");
    assert_eq!(hints[0]["key"], issued.key.id.to_string());
    let commits = &metrics["commits"];
    let in_buckets = commits["buckets_ns"].as_array().unwrap().iter();
    let counted: u64 = in_buckets.map(|bucket| bucket[1].as_u64().unwrap()).sum();
    assert_eq!(commits["count"], counted);
    assert_eq!(
        serde_json::to_value(gatekey::Outcome::RateLimited).unwrap(),
        "rate_limited"
    );
    let stats = serde_json::to_value(engine.stats().unwrap()).unwrap();
    assert_eq!(stats["keyspaces"]["acme_live"]["revoked"], 1);
    let health = json!({"is_well": true, "failure": null, "is_fresh": null});
    assert_eq!(stats["health"], health);
    // What is left out is the default.
    #[derive(Deserialize)]
    struct Sold {
        cap: gatekey::Setting<u32>,
    }
    for sold in [json!({}), json!({"cap": null})] {
        let sold: Sold = serde_json::from_value(sold).unwrap();
        assert_eq!(sold.cap, gatekey::Setting::Default);
    }
    let counts = &stats["keyspaces"]["acme_live"];
    round(&serde_json::from_value::<KeyCounts>(counts.clone()).unwrap());
    let update = OwnerUpdate::new().limits([]).quota(Quota::new(9)).cap(2);
    round(&engine.update_owner("acme_live", "acme", update).unwrap());
    let page = engine.owner_settings_page("acme_live", None, 1).unwrap();
    let page = serde_json::to_value(page).unwrap();
    assert_eq!(page["owners"][0]["quota"]["remaining"], 9);
    assert_eq!(page["next"], "s0000000061636d65");
    let page = engine.keys_page(&KeyFilter::new(), None, 10).unwrap();
    let page = serde_json::to_value(page).unwrap();
    assert_eq!(page["keys"][0]["id"], issued.key.id.to_string());
    let keyspace = serde_json::to_value(engine.keyspace("acme_live").unwrap()).unwrap();
    assert_eq!(
        keyspace,
        json!({
            "prefix": "acme_live",
            "description": "",
            "permissions": [
                {"name": "read", "retired": false},
                {"name": "write", "retired": false},
            ],
            "keys_per_owner": {"many": {"cap": 5}},
            "default_lifetime": "P90D",
            "max_lifetime": null,
            "plans": [{
                "name": "gold",
                "limits": [{"requests": 1, "window": "PT1M", "algorithm": "sliding"}],
                "shared_by_owner": false,
                "replaces_levels_above": false,
            }],
            "default_plan": null,
            "owner_defaults": {"1": {"plan": "gold", "quota": null, "cap": 3}},
            "count_retiring": false,
            "max_grace": null,
            "created_at": "2026-01-01T00:00:00.123Z",
            "updated_at": "2026-01-01T00:00:00.123Z",
        })
    );
    engine.close().unwrap();
}

#[test]
fn a_verdict_tells_its_code_and_no_secret() {
    let clock = clock();
    let engine = engine(&clock);
    let new = NewKey::new("acme_live", "acme").unwrap();
    let issued = engine
        .issue(new.permissions(["read"]).plan("gold"))
        .unwrap();
    let id = issued.key.id.to_string();
    let verify = |asked: &Requirements<'_>| -> (Verdict, Value) {
        let verdict = engine.verify_with(issued.token.expose(), asked).unwrap();
        let value = serde_json::to_value(&verdict).unwrap();
        assert!(!value.to_string().contains(issued.token.expose()));
        (verdict, value)
    };
    let any = Requirements::new();
    let limit = json!({
        "limit": {"requests": 1, "window": "PT1M", "algorithm": "sliding"},
        "level": {"owner": 1},
        "remaining": 0,
        "resets_at": "2026-01-01T00:02:00Z",
    });
    assert_eq!(
        verify(&any).1,
        json!({"granted": {
            "key_id": id,
            "keyspace": "acme_live",
            "owner": "acme",
            "permissions": "0x1",
            "expires_at": "2026-04-01T00:00:00.123Z",
            "retiring_until": null,
            "tightest_limit": limit,
            "longest_limit": limit,
            "knowledge_age": null,
        }})
    );
    let denied = |value: &Value| value["denied"].clone();
    let (_, limited) = verify(&any);
    assert_eq!(denied(&limited)["code"], "rate_limited");
    assert_eq!(denied(&limited)["key"], id);
    let wait = denied(&limited)["retry_after"].as_str().unwrap().to_owned();
    assert!(wait.starts_with("PT") && wait.ends_with('S'), "{wait}");
    let write = Requirements::new().permissions(&["write"]);
    assert_eq!(
        denied(&verify(&write).1),
        json!({
            "code": "permission_missing",
            "key": id,
            "missing": "0x2",
            "names": ["write"],
            "undefined": 0,
        })
    );
    engine.revoke(issued.key.id, Reason::Cessation).unwrap();
    assert_eq!(
        denied(&verify(&any).1),
        json!({"code": "revoked", "key": id, "at": clock.now(), "reason": "cessation"})
    );
    // The codes are those that logs and counters have.
    let key = issued.key.id;
    let at = clock.now();
    for denial in [
        Denial::TooManyAttempts {
            retry_after: Duration::from_secs(1),
        },
        Denial::Malformed,
        Denial::Unknown,
        Denial::Suspended {
            key,
            owner: "acme".parse().unwrap(),
        },
        Denial::Disabled { key },
        Denial::NotYetValid {
            key,
            not_before: at,
        },
        Denial::Expired {
            key,
            expired_at: at,
        },
        Denial::NetworkNotAllowed { key, source: None },
        Denial::QuotaExhausted {
            key,
            level: Level::Key,
            refills_at: None,
        },
    ] {
        let value = serde_json::to_value(&denial).unwrap();
        assert_eq!(value["code"], denial.code());
    }
    engine.close().unwrap();
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    permissions: Permissions,
    at: Timestamp,
    limit: Limit,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flattened {
    name: String,
    #[serde(flatten)]
    inner: Inner,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Mask { permissions: Permissions },
    Names { names: Vec<String> },
}

proptest! {
    /// Numbers of 128 bits are what `json!`, `flatten` and `untagged` cannot carry.
    #[test]
    fn a_mask_passes_through_trees_and_flattened_and_untagged_types(bits in any::<u128>()) {
        let permissions = Permissions::from_bits(bits);
        prop_assert_eq!(json!(permissions), json!(format!("{bits:#x}")));
        round(&permissions);
        let inner = Inner { permissions, at: Timestamp::MIN, limit: Limit::per_hour(1) };
        round(&Flattened { name: "n".to_owned(), inner });
        round(&Untagged::Mask { permissions });
    }

    #[test]
    fn what_is_written_reads_back(
        ms in 0..=Timestamp::MAX.unix_ms(),
        requests in 1..=u32::MAX,
        burst in 1..=u32::MAX,
        seconds in 1..=Limit::WINDOW_MAX.as_secs(),
        quota in 1..=Quota::REQUESTS_MAX,
        nanos in 0..=u64::MAX,
        refill in proptest::option::of(prop_oneof![
            Just(Refill::Daily),
            Just(Refill::Monthly),
            (1_u8..=31).prop_map(|day| Refill::monthly_from(day).unwrap()),
        ]),
        owner in "[!-.0-~]{3,20}(/[!-.0-~]{3,20}){0,7}",
        prefix in "[a-z0-9_]{1,32}",
        network in any::<std::net::IpAddr>(),
    ) {
        round(&Timestamp::from_unix_ms(ms).unwrap());
        let limit = Limit::new(requests, Duration::from_secs(seconds)).unwrap();
        for limit in [limit, limit.fixed(), limit.bucket(burst)] {
            round(&limit);
        }
        round(&Plan::new("gold").limit(limit));
        let quota = match refill {
            Some(refill) => Quota::new(quota).refilled(refill),
            None => Quota::new(quota),
        };
        round(&quota);
        round(&Expiry::After(Duration::from_nanos(nanos)));
        round(&owner.parse::<OwnerPath>().unwrap());
        round(&prefix.parse::<Prefix>().unwrap());
        round(&network.to_string().parse::<Network>().unwrap());
    }

    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,40}") {
        let value = Value::String(text);
        let _ = serde_json::from_value::<Permissions>(value.clone());
        let _ = serde_json::from_value::<Timestamp>(value.clone());
        let _ = serde_json::from_value::<Expiry>(json!({"after": value}));
        let _ = serde_json::from_value::<Limit>(json!({"requests": 1, "window": value}));
        let _ = serde_json::from_value::<Network>(value.clone());
        let _ = serde_json::from_value::<Link>(value.clone());
        let _ = serde_json::from_value::<Reason>(value);
    }
}

#[test]
fn what_no_constructor_makes_is_not_read() {
    let window = "PT1M";
    for limit in [
        json!({"requests": 0, "window": window}),
        json!({"requests": u64::from(u32::MAX) + 1, "window": window}),
        json!({"requests": -1, "window": window}),
        json!({"requests": 1, "window": "PT0S"}),
        json!({"requests": 1, "window": "PT0.5S"}),
        json!({"requests": 1, "window": "PT1H1S"}),
        json!({"requests": 1, "window": "-PT1M"}),
        json!({"requests": 1, "window": "1 minute"}),
        json!({"requests": 1, "window": 60}),
        json!({"requests": 1}),
        json!({"requests": 1, "window": window, "burst": 5}),
        json!({"requests": 1, "window": window, "algorithm": "fixed", "burst": 5}),
        json!({"requests": 1, "window": window, "algorithm": "bucket"}),
        json!({"requests": 1, "window": window, "algorithm": "bucket", "burst": 0}),
        json!({"requests": 1, "window": window, "algorithm": "leaky"}),
    ] {
        refused::<Limit>(&limit);
        refused::<Plan>(&json!({"name": "gold", "limits": [limit]}));
    }
    let limits = vec![json!({"requests": 1, "window": window}); 100];
    refused::<Plan>(&json!({"name": "gold", "limits": limits}));
    refused::<Plan>(&json!({"name": "Not a name!"}));
    refused::<Plan>(&json!({"name": "gold", "shared": true}));
    for defaults in [
        json!({"cap": 0}),
        json!({"quota": {"requests": 0}}),
        json!({"limits": []}),
    ] {
        refused::<LevelDefaults>(&defaults);
    }
    for quota in [
        json!({"requests": 0}),
        json!({"requests": Quota::REQUESTS_MAX + 1}),
        json!({"requests": 1, "refill": "hourly"}),
        json!({"requests": 1, "refill": {"monthly_from": 0}}),
        json!({"requests": 1, "refill": {"monthly_from": 32}}),
        json!({"requests": 1, "refils": "daily"}),
    ] {
        refused::<Quota>(&quota);
        let status = json!({"quota": quota, "remaining": 1, "refills_at": null});
        refused::<QuotaStatus>(&status);
    }
    refused::<KeysPerOwner>(&json!({"many": {"cap": 0}}));
    refused::<KeysPerOwner>(&json!({"many": {"cap": 1, "per": "team"}}));
    refused::<KeysPerOwner>(&json!({"many": {"cap": -1}}));
    for mask in [
        json!("3"),
        json!("0x"),
        json!("0X3"),
        json!("0x+3"),
        json!("-0x3"),
        json!("0x1_0"),
        json!(format!("0x{}", "f".repeat(33))),
        json!(3),
        json!(["read"]),
        json!(null),
    ] {
        refused::<Permissions>(&mask);
    }
    for instant in [
        json!("yesterday"),
        json!("1969-12-31T23:59:59Z"),
        json!("9999-12-31T23:59:59Z"),
        json!("never"),
        json!(1_767_225_600_123_u64),
    ] {
        refused::<Timestamp>(&instant);
        refused::<Expiry>(&json!({"at": instant}));
    }
    for reason in [
        "Cessation",
        "other_5",
        "other_05",
        "other_256",
        "other_",
        "",
    ] {
        refused::<Reason>(&json!(reason));
    }
    refused::<KeyId>(&json!("7Hk2Pq9Zx"));
    refused::<KeyId>(&json!("zzzzzzzzzzz"));
    refused::<KeyId>(&json!(77));
    refused::<Prefix>(&json!("Acme"));
    refused::<OwnerPath>(&json!("acme//x"));
    refused::<Network>(&json!("192.0.2.1/24"));
    refused::<IdempotencyKey>(&json!("a b"));
}

/// What derives its reading takes the members of an object by their places, too.
#[test]
fn a_list_is_not_read_where_an_object_is_written() {
    let [limit, plan] = [json!([5, "PT1M"]), json!(["gold", [], false, false])];
    let [quota, defaults] = [json!([5, "daily"]), json!(["gold", null, 5])];
    for (told, what) in [
        (refused::<Limit>(&limit), "limit"),
        (refused::<Plan>(&plan), "plan"),
        (
            refused::<Plan>(&json!({"name": "gold", "limits": [limit]})),
            "limits of a plan",
        ),
        (refused::<Quota>(&quota), "quota"),
        (refused::<LevelDefaults>(&defaults), "defaults"),
        (
            refused::<LevelDefaults>(&json!({ "quota": quota })),
            "quota of defaults",
        ),
    ] {
        assert!(
            told.contains("sequence, expected an object"),
            "{what}: {told}"
        );
    }
}

#[test]
fn an_error_does_not_show_a_token_that_came_where_another_value_belongs() {
    let clock = clock();
    let engine = engine(&clock);
    let issued = engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    let token = json!(issued.token.expose());
    for error in [
        refused::<KeyId>(&token),
        refused::<Permissions>(&token),
        refused::<Timestamp>(&token),
        refused::<Network>(&token),
        refused::<Reason>(&token),
        refused::<Link>(&token),
        refused::<Expiry>(&json!({"after": token})),
        refused::<Limit>(&json!({"requests": 1, "window": token})),
        refused::<Plan>(&json!({"name": token})),
    ] {
        assert!(!error.contains(&issued.token.expose()[25..]), "{error}");
    }
    engine.close().unwrap();
}

/// Whether a type is `Serialize`: an inherent constant goes before a trait's.
struct Probe<T>(PhantomData<T>);

trait IsNot {
    const IS_SERIALIZE: bool = false;
}

impl<T> IsNot for Probe<T> {}

impl<T: Serialize> Probe<T> {
    const IS_SERIALIZE: bool = true;
}

#[test]
fn no_type_that_holds_a_secret_is_serialize() {
    let is_serialize = [
        Probe::<Key>::IS_SERIALIZE,
        Probe::<gatekey::Token>::IS_SERIALIZE,
        Probe::<gatekey::Pepper>::IS_SERIALIZE,
        Probe::<gatekey::AuditKey>::IS_SERIALIZE,
        Probe::<gatekey::Issued>::IS_SERIALIZE,
        Probe::<gatekey::Rotated>::IS_SERIALIZE,
        Probe::<Options>::IS_SERIALIZE,
    ];
    // The first, so that a probe that always says no is noticed.
    let expected = [true, false, false, false, false, false, false];
    assert_eq!(is_serialize, expected);
}
