//! The forms of what the engine's types read and write, for the document alone: the
//! engine does not depend on what makes schemas. A test holds each answer of a tour of the
//! API against them, so that they say what is sent.

#![allow(dead_code)]

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Texts of one form.
macro_rules! texts {
    ($($name:ident: $schema:tt;)*) => {
        $(
            pub(crate) struct $name;

            impl JsonSchema for $name {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!($schema)
                }
            }
        )*
    };
}

texts! {
    KeyId: { "type": "string", "pattern": "^[0-9A-Za-z]{10}$" };
    Prefix: { "type": "string", "pattern": "^[a-z0-9_]{1,32}$" };
    Owner: {
        "type": "string",
        "pattern": "^[!-.0-~]{1,64}(?:/[!-.0-~]{1,64}){0,7}$",
        "maxLength": 255,
        "examples": ["acme/ingest"]
    };
    Timestamp: { "type": "string", "format": "date-time" };
    Duration: { "type": "string", "format": "duration" };
    Network: { "type": "string", "examples": ["192.0.2.0/24", "2001:db8::/32"] };
    Address: { "type": "string", "examples": ["192.0.2.7", "2001:db8::1"] };
    Permissions: { "type": "string", "pattern": "^0x[0-9a-f]{1,32}$" };
    Link: { "type": "string", "pattern": "^[0-9]+:[0-9a-f]{64}$" };
    Cursor: { "type": "string", "pattern": "^[a-z](?:[0-9a-f]{2})*$" };
    Reason: {
        "type": "string",
        "pattern": "^(?:unspecified|key_compromise|superseded|affiliation_changed|privilege_withdrawn|cessation|other_[0-9]+)$"
    };
}

/// When a key stops being good.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub(crate) enum Expiry {
    /// As the keyspace says.
    Default,
    /// Never.
    Never,
    /// At an instant.
    #[schemars(with = "Timestamp")]
    At(()),
    /// A time from now.
    #[schemars(with = "Duration")]
    After(()),
}

/// How many keys an owner may hold.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub(crate) enum KeysPerOwner {
    /// One; a new key supersedes it.
    SingleSuperseding,
    /// One; a second is refused.
    SingleRefusing,
    /// Several.
    Many(Several),
}

/// Several keys an owner.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Several {
    /// At most so many.
    #[schemars(default, range(min = 1, max = 4_294_967_295_u32))]
    cap: Option<u32>,
}

/// A number of keys.
#[derive(JsonSchema)]
#[schemars(inline)]
pub(crate) struct Cap(#[schemars(range(min = 1, max = 4_294_967_295_u32))] u32);

/// A number of requests in a time.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Limit {
    /// How many.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    requests: u32,
    /// In what time.
    #[schemars(with = "Duration")]
    window: (),
    /// How they are counted; `sliding`, if left out.
    #[schemars(default)]
    algorithm: Option<Algorithm>,
    /// How many a bucket holds.
    #[schemars(default, range(min = 1, max = 4_294_967_295_u32))]
    burst: Option<u32>,
    /// Whether the numbers are for all servers of a fleet together, and not for each.
    #[schemars(default)]
    for_fleet: bool,
}

/// How requests are counted.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub(crate) enum Algorithm {
    Sliding,
    Fixed,
    Bucket,
}

/// A named list of limits.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Its name.
    name: String,
    /// Its limits.
    #[schemars(default)]
    limits: Vec<Limit>,
    /// Whether the keys of an owner are counted together.
    #[schemars(default)]
    shared_by_owner: bool,
    /// Whether it stands in the place of the limits of the levels above.
    #[schemars(default)]
    replaces_levels_above: bool,
}

/// What owners of one level get.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct LevelDefaults {
    /// A plan.
    #[schemars(default)]
    plan: Option<String>,
    /// A quota.
    #[schemars(default)]
    quota: Option<Quota>,
    /// The most keys.
    #[schemars(default, range(min = 1, max = 4_294_967_295_u32))]
    cap: Option<u32>,
}

/// A number of requests in total.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Quota {
    /// How many.
    #[schemars(range(min = 1))]
    requests: u64,
    /// When it is full again.
    #[schemars(default)]
    refill: Option<Refill>,
}

/// When a quota is full again, at midnight in UTC: each day, before the first of each month, or
/// before another day of it, `{"monthly_from": 15}`.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub(crate) enum Refill {
    Daily,
    Monthly,
    /// A billing period. In a month that is shorter it begins on the last day.
    MonthlyFrom(#[schemars(range(min = 1, max = 31))] u8),
}

/// A quota, and what is left of it in the file. The engine may have taken up to a slice more
/// into memory, and gives back at its end what is left of that.
#[derive(JsonSchema)]
pub(crate) struct QuotaStatus {
    quota: Quota,
    /// How many requests are left.
    remaining: u64,
    /// How many requests were used beyond the quota; what is refilled pays them first.
    owed: u64,
    #[schemars(with = "Option<Timestamp>")]
    refills_at: (),
}

/// What is left of a limit.
#[derive(JsonSchema)]
pub(crate) struct LimitStatus {
    limit: Limit,
    /// `"key"`, or the owner at a depth: `{"owner": 1}`.
    level: serde_json::Value,
    remaining: u32,
    #[schemars(with = "Timestamp")]
    resets_at: (),
}

/// The state of a key: the first that is true of it.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub(crate) enum KeyState {
    Revoked,
    Suspended,
    Disabled,
    NotYetValid,
    Expired,
    Retiring,
    Active,
}

/// A key. Never its digest, never its token.
#[derive(JsonSchema)]
pub(crate) struct Key {
    #[schemars(with = "KeyId")]
    id: (),
    keyspace: String,
    owner: String,
    state: KeyState,
    disabled: bool,
    suspended: bool,
    expired: bool,
    /// What it may do, as the bits of its keyspace.
    #[schemars(with = "Permissions")]
    permissions: (),
    name: Option<String>,
    description: Option<String>,
    labels: BTreeMap<String, String>,
    #[schemars(with = "Vec<Network>")]
    networks: (),
    plan: Option<String>,
    limits: Option<Vec<Limit>>,
    quota: Option<QuotaStatus>,
    #[schemars(with = "Option<Timestamp>")]
    not_before: (),
    #[schemars(with = "Option<Timestamp>")]
    expires_at: (),
    #[schemars(with = "Option<Timestamp>")]
    retiring_until: (),
    #[schemars(with = "Timestamp")]
    created_at: (),
    created_by: Option<String>,
    #[schemars(with = "Option<KeyId>")]
    predecessor: (),
    #[schemars(with = "Option<KeyId>")]
    successor: (),
    revoked: Option<Revoked>,
    usage: Usage,
}

/// A revocation.
#[derive(JsonSchema)]
pub(crate) struct Revoked {
    #[schemars(with = "KeyId")]
    key: (),
    #[schemars(with = "Timestamp")]
    at: (),
    #[schemars(with = "Reason")]
    reason: (),
    note: Option<String>,
    by: Option<String>,
}

/// How a key was used.
#[derive(JsonSchema)]
pub(crate) struct Usage {
    /// When it was last granted, rounded down to the minute.
    #[schemars(with = "Option<Timestamp>")]
    last_used: (),
    /// How often it was granted.
    count: u64,
}

/// What a person should look at.
#[derive(JsonSchema)]
pub(crate) struct Hint {
    /// The name of the rule.
    rule: String,
    #[schemars(with = "KeyId")]
    key: (),
    keyspace: String,
    owner: String,
    /// Since when, as the rule says.
    #[schemars(with = "Option<Timestamp>")]
    since: (),
    /// How often.
    count: u64,
    /// How often it is usual; 0 where the rule does not compare.
    usual: u64,
    /// Of `new_network`: which.
    #[schemars(with = "Option<Network>")]
    network: (),
}

/// A network that a key was used from.
#[derive(JsonSchema)]
pub(crate) struct UsedFrom {
    /// A `/24` of IPv4 or a `/48` of IPv6.
    #[schemars(with = "Network")]
    network: (),
    /// When the key was first used from it.
    #[schemars(with = "Timestamp")]
    first: (),
    /// When the last day begins on which it was, in UTC.
    #[schemars(with = "Timestamp")]
    last_day: (),
}

/// How a day or an hour was.
#[derive(JsonSchema)]
pub(crate) struct UsageBin {
    /// When it begins.
    #[schemars(with = "Timestamp")]
    begins_at: (),
    /// How many verifications came to each outcome: `granted`, or the code of a denial.
    counts: BTreeMap<String, u64>,
}

/// A damaged record.
#[derive(JsonSchema)]
pub(crate) struct Corruption {
    table: String,
    record: String,
    why: String,
}

/// A keyspace.
#[derive(JsonSchema)]
pub(crate) struct Keyspace {
    prefix: String,
    description: String,
    permissions: Vec<PermissionName>,
    keys_per_owner: KeysPerOwner,
    #[schemars(with = "Option<Duration>")]
    default_lifetime: (),
    #[schemars(with = "Option<Duration>")]
    max_lifetime: (),
    plans: Vec<Plan>,
    default_plan: Option<String>,
    owner_defaults: BTreeMap<String, LevelDefaults>,
    count_retiring: bool,
    #[schemars(with = "Option<Duration>")]
    max_grace: (),
    #[schemars(with = "Timestamp")]
    created_at: (),
    #[schemars(with = "Timestamp")]
    updated_at: (),
}

/// A permission of a keyspace.
#[derive(JsonSchema)]
pub(crate) struct PermissionName {
    name: String,
    retired: bool,
}

/// Whether an owner is suspended.
#[derive(JsonSchema)]
pub(crate) struct OwnerState {
    owner: String,
    suspended: Option<Suspension>,
    /// The shortest path above that is suspended.
    suspended_above: Option<String>,
}

/// A suspension.
#[derive(JsonSchema)]
pub(crate) struct Suspension {
    #[schemars(with = "Timestamp")]
    at: (),
    note: Option<String>,
    by: Option<String>,
}

/// What an owner has of its own in a keyspace.
#[derive(JsonSchema)]
pub(crate) struct OwnerSettings {
    keyspace: String,
    owner: String,
    plan: Option<String>,
    limits: Option<Vec<Limit>>,
    quota: Setting<QuotaStatus>,
    cap: Setting<Cap>,
    #[schemars(with = "Option<Timestamp>")]
    updated_at: (),
    updated_by: Option<String>,
}

/// `null`: as the defaults of the owner's level say; `"unlimited"`: no bound, whatever they
/// say; else its own.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
pub(crate) enum Setting<T> {
    Default(()),
    Unlimited(Unlimited),
    Own(T),
}

/// No bound.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
pub(crate) enum Unlimited {
    Unlimited,
}

/// An entry of the audit trail.
#[derive(JsonSchema)]
pub(crate) struct AuditEntry {
    /// Its position.
    seq: u64,
    #[schemars(with = "Timestamp")]
    at: (),
    actor: Option<String>,
    event: AuditEvent,
}

/// What was changed. The other members depend on the type.
#[derive(JsonSchema)]
#[schemars(extend("additionalProperties" = true))]
pub(crate) struct AuditEvent {
    /// For example `key_revoked`.
    r#type: String,
}

/// A page of the audit trail.
#[derive(JsonSchema)]
pub(crate) struct AuditPage {
    entries: Vec<AuditEntry>,
    /// The position from which to go on.
    next: Option<u64>,
}

/// What the audit trail has.
#[derive(JsonSchema)]
pub(crate) struct AuditSpan {
    #[schemars(with = "Link")]
    after: (),
    #[schemars(with = "Link")]
    last: (),
}

/// The result of trimming the audit trail.
#[derive(JsonSchema)]
pub(crate) struct Trimmed {
    removed: u64,
    kept: u64,
    #[schemars(with = "Link")]
    through: (),
}

/// A grant.
#[derive(JsonSchema)]
pub(crate) struct Grant {
    #[schemars(with = "KeyId")]
    key_id: (),
    keyspace: String,
    owner: String,
    #[schemars(with = "Permissions")]
    permissions: (),
    #[schemars(with = "Option<Timestamp>")]
    expires_at: (),
    #[schemars(with = "Option<Timestamp>")]
    retiring_until: (),
    tightest_limit: Option<LimitStatus>,
    longest_limit: Option<LimitStatus>,
    /// How old the knowledge of the server of a fleet was; null where the server is alone.
    #[schemars(with = "Option<Duration>")]
    knowledge_age: (),
}

/// A denial. The other members depend on the code.
#[derive(JsonSchema)]
#[schemars(extend("additionalProperties" = true))]
pub(crate) struct Denial {
    /// For example `revoked`.
    code: String,
}

/// How many keys there are, by state.
#[derive(JsonSchema)]
pub(crate) struct KeyCounts {
    active: u64,
    retiring: u64,
    not_yet_valid: u64,
    disabled: u64,
    suspended: u64,
    expired: u64,
    revoked: u64,
    over_by_expiry: u64,
}

/// What a store holds, and what its engine keeps in memory.
#[derive(JsonSchema)]
pub(crate) struct Stats {
    keyspaces: BTreeMap<String, KeyCounts>,
    file_bytes: u64,
    audit_entries: u64,
    resident_keys: u64,
    resident_capacity: u64,
    limited_keys: u64,
    limits_refused_for_room: u64,
    limits_evicted: u64,
    usage_lost: u64,
    health: Health,
}

/// Whether the store takes changes.
#[derive(JsonSchema)]
pub(crate) struct Health {
    is_well: bool,
    failure: Option<Failure>,
    /// Whether the server of a fleet verifies tokens; null where the server is alone.
    is_fresh: Option<bool>,
}

/// Why it does not.
#[derive(JsonSchema)]
pub(crate) struct Failure {
    #[schemars(with = "Timestamp")]
    since: (),
    cause: String,
    attempts: u64,
    last: Option<String>,
    is_recoverable: bool,
    advice: String,
}

/// How many keys need a pepper.
#[derive(JsonSchema)]
pub(crate) struct PepperKeys {
    pepper: u8,
    keys: u64,
    is_signing: bool,
}

/// The engine's clock and its store.
#[derive(JsonSchema)]
pub(crate) struct ClockStatus {
    #[schemars(with = "Timestamp")]
    clock: (),
    #[schemars(with = "Timestamp")]
    committed: (),
    #[schemars(with = "Timestamp")]
    now: (),
    #[schemars(with = "Duration")]
    behind: (),
    #[schemars(with = "Duration")]
    allowed: (),
    leaps: u64,
    last_leap: Option<ClockLeap>,
}

/// A leap of the clock.
#[derive(JsonSchema)]
pub(crate) struct ClockLeap {
    #[schemars(with = "Timestamp")]
    expected: (),
    #[schemars(with = "Timestamp")]
    found: (),
}

/// What a server knows of its fleet.
#[derive(JsonSchema)]
pub(crate) struct FleetStatus {
    /// The name of the server that answers.
    node: String,
    /// The position of the entry that it has applied last.
    position: u64,
    /// The newest position that it has heard of.
    newest: u64,
    /// How old its knowledge is; `null` before its first heartbeat.
    #[schemars(with = "Option<Duration>")]
    age: (),
    /// How old its knowledge may be for it to verify tokens.
    #[schemars(with = "Duration")]
    lease: (),
    /// Whether it verifies tokens.
    is_fresh: bool,
    /// How many servers beat, this one included.
    servers: u64,
    /// How many entries it has applied since it was opened.
    applied: u64,
    /// How many it has appended since.
    appended: u64,
    /// How many of its appends came behind one of another server, and ran again.
    overtaken: u64,
    /// How many of its appends got no answer.
    unknown: u64,
    /// How many calls of the log failed.
    failures: u64,
    /// The last error, until a heartbeat succeeds.
    error: Option<String>,
}

/// A server of the fleet, by its last heartbeat.
#[derive(JsonSchema)]
pub(crate) struct FleetServer {
    /// Its name.
    node: String,
    /// The position that it had applied; of the server that answers, the one that it has
    /// applied now.
    position: u64,
    /// How many entries there are, as far as any server has heard, that it had not applied.
    behind: u64,
    /// How long ago its last heartbeat was.
    #[schemars(with = "Duration")]
    age: (),
    /// For how long after a heartbeat it grants.
    #[schemars(with = "Duration")]
    lease: (),
    /// Whether that time is over.
    is_gone: bool,
    /// The ids of its peppers, the newest first; null where it does not say.
    peppers: Option<Vec<u8>>,
}

/// A snapshot in the log of the fleet.
#[derive(JsonSchema)]
pub(crate) struct SnapshotInfo {
    /// The position of the last entry that is in it.
    position: u64,
    /// How many parts it has.
    parts: u32,
}

/// The result of a check.
#[derive(JsonSchema)]
pub(crate) struct CheckReport {
    keys: u64,
    audit_entries: u64,
    findings: Vec<Finding>,
    findings_total: u64,
}

/// Something that does not agree.
#[derive(JsonSchema)]
pub(crate) struct Finding {
    table: String,
    record: String,
    problem: String,
}

/// The result of a repair.
#[derive(JsonSchema)]
pub(crate) struct RepairReport {
    repairs: Vec<Repair>,
    repairs_total: u64,
    left: CheckReport,
}

/// What became of a record.
#[derive(JsonSchema)]
pub(crate) struct Repair {
    table: String,
    record: String,
    done: String,
}

/// The result of compacting the file.
#[derive(JsonSchema)]
pub(crate) struct Compacted {
    file_bytes: u64,
    file_bytes_before: u64,
}

/// How many keys a verb on many keys reached.
#[derive(JsonSchema)]
pub(crate) struct RevokedMany {
    /// How many keys were in scope. A request that revokes more than 256 does not count them:
    /// this is 257 then.
    keys: u64,
    /// How many of them this request revoked; 257 where it does not count them.
    newly: u64,
    /// How many have a damaged record. They grant nothing. 0 where they are not counted.
    damaged: u64,
}

/// The result of a purge.
#[derive(JsonSchema)]
pub(crate) struct Purged {
    keys: u64,
    damaged: u64,
}

/// What a source keeps of its tokens.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub(crate) enum ForeignHash {
    /// The token itself.
    Plain,
    /// SHA-256 of the token.
    Sha256,
    /// SHA-512 of the token.
    Sha512,
    /// Anything else: its keys are to be claimed.
    Other,
}

/// An import as it stands.
#[derive(JsonSchema)]
pub(crate) struct Import {
    name: String,
    hash: ForeignHash,
    after_bar: bool,
    starts_with: String,
    len_min: u16,
    len_max: u16,
    #[schemars(with = "Option<Timestamp>")]
    sunset: (),
    #[schemars(with = "Timestamp")]
    created_at: (),
    created_by: Option<String>,
    /// How many keys it has.
    keys: u64,
    /// How many of them were not used yet, and are neither revoked nor rotated.
    unseen: u64,
}
