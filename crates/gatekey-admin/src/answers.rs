//! What the API answers with, where that is more than a type of the engine's.

use gatekey::{
    AuditEntry, CheckReport, Corruption, Cursor, Import, Key, KeyId, Keyspace, LimitStatus,
    OwnerState, PepperKeys, Purged, RevokedMany, Timestamp,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::schema;

/// A key, with the names of its permissions.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NamedKey")]
pub(crate) struct NamedKey {
    #[serde(flatten)]
    #[schemars(with = "schema::Key")]
    pub(crate) key: Key,
    /// The names of its permissions.
    pub(crate) permission_names: Vec<String>,
}

/// A key just issued.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Issued {
    /// Its token. This is the only time that it is shown.
    pub(crate) token: String,
    pub(crate) key: NamedKey,
}

/// Keys just issued, in the order of the request.
#[derive(Serialize, JsonSchema)]
pub(crate) struct IssuedBatch {
    pub(crate) keys: Vec<Issued>,
}

/// A key just rotated.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Rotated {
    /// The token of the new key. This is the only time that it is shown.
    pub(crate) token: String,
    pub(crate) key: NamedKey,
    pub(crate) old: NamedKey,
}

/// A page of keys.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Keys {
    pub(crate) keys: Vec<NamedKey>,
    /// Records that cannot be read. They grant nothing.
    #[schemars(with = "Vec<schema::Corruption>")]
    pub(crate) damaged: Vec<Corruption>,
    /// From where to go on; `null` on the last page.
    #[schemars(with = "Option<schema::Cursor>")]
    pub(crate) next: Option<Cursor>,
}

/// All keyspaces.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Keyspaces {
    #[schemars(with = "Vec<schema::Keyspace>")]
    pub(crate) keyspaces: Vec<Keyspace>,
}

/// A page of what owners have of their own in a keyspace.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Owners {
    #[schemars(with = "Vec<schema::OwnerSettings>")]
    pub(crate) owners: Vec<gatekey::OwnerSettings>,
    /// Records that cannot be read.
    #[schemars(with = "Vec<schema::Corruption>")]
    pub(crate) damaged: Vec<Corruption>,
    /// From where to go on; `null` on the last page.
    #[schemars(with = "Option<schema::Cursor>")]
    pub(crate) next: Option<Cursor>,
}

/// An owner, and how many keys it and those below it have.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Owner {
    #[serde(flatten)]
    #[schemars(with = "schema::OwnerState")]
    pub(crate) state: OwnerState,
    /// How many keys there are, at the owner and below it, that are not revoked.
    pub(crate) keys: u64,
}

/// The history of a key.
#[derive(Serialize, JsonSchema)]
pub(crate) struct History {
    #[schemars(with = "Vec<schema::AuditEntry>")]
    pub(crate) entries: Vec<AuditEntry>,
    /// The position from which to go on; `null` if this is all.
    pub(crate) next: Option<u64>,
}

/// What is left of the limits of a key.
#[derive(Serialize, JsonSchema)]
pub(crate) struct KeyUsage {
    #[schemars(with = "schema::Usage")]
    pub(crate) usage: gatekey::Usage,
    #[schemars(with = "Option<schema::QuotaStatus>")]
    pub(crate) quota: Option<gatekey::QuotaStatus>,
    #[schemars(with = "Vec<schema::LimitStatus>")]
    pub(crate) limits: Vec<LimitStatus>,
    /// The networks that it was used from in the last 90 days, where they are noted.
    #[schemars(with = "Vec<schema::UsedFrom>")]
    pub(crate) networks: Vec<gatekey::UsedFrom>,
}

/// How keys were used together.
#[derive(Serialize, JsonSchema)]
pub(crate) struct UsageTotals {
    /// How many keys there are.
    pub(crate) keys: u64,
    /// How many of them were ever granted.
    pub(crate) used_keys: u64,
    /// How often they were granted.
    pub(crate) count: u64,
    /// When one was last granted, rounded down to the minute.
    #[schemars(with = "Option<schema::Timestamp>")]
    pub(crate) last_used: Option<Timestamp>,
    /// How many records cannot be read, and are not counted.
    pub(crate) damaged: u64,
}

/// How a key, an owner or a keyspace was used.
#[derive(Serialize, JsonSchema)]
pub(crate) struct UsageHistory {
    pub(crate) by: crate::endpoints::usage::By,
    #[schemars(with = "schema::Timestamp")]
    pub(crate) from: Timestamp,
    #[schemars(with = "schema::Timestamp")]
    pub(crate) to: Timestamp,
    /// How many verifications were granted.
    pub(crate) granted: u64,
    /// How many were denied.
    pub(crate) denied: u64,
    /// The days or hours in which there was something, the oldest first.
    #[schemars(with = "Vec<schema::UsageBin>")]
    pub(crate) bins: Vec<gatekey::UsageBin>,
}

/// A hint, with its rule as a sentence.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ShownHint {
    #[serde(flatten)]
    #[schemars(with = "schema::Hint")]
    pub(crate) hint: gatekey::Hint,
    /// The rule.
    pub(crate) text: &'static str,
}

/// A page of hints.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Hints {
    pub(crate) hints: Vec<ShownHint>,
    /// From where to go on; `null` on the last page. A page may have no hint and a next one.
    #[schemars(with = "Option<schema::Cursor>")]
    pub(crate) next: Option<Cursor>,
}

/// A verdict: one of the two members.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code, clippy::large_enum_variant)]
pub(crate) enum Verdict {
    Granted(schema::Grant),
    Denied(schema::Denial),
}

/// How many keys a verb would reach, or has reached.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Reached {
    #[serde(flatten)]
    #[schemars(with = "schema::RevokedMany")]
    pub(crate) reached: RevokedManyOrPlanned,
    /// Whether this only says what would be done.
    pub(crate) dry_run: bool,
}

/// What was done, or what would be.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum RevokedManyOrPlanned {
    Done(RevokedMany),
    Planned { keys: u64, newly: u64, damaged: u64 },
}

/// How many keys a suspension reaches.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Suspended {
    #[schemars(with = "schema::OwnerState")]
    pub(crate) owner: OwnerState,
    /// How many keys that are not revoked are at the owner and below it.
    pub(crate) keys: u64,
    /// Whether this only says what would be done.
    pub(crate) dry_run: bool,
}

/// The result of a purge, or of a dry run of one.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PurgedOrPlanned {
    #[serde(flatten)]
    #[schemars(with = "schema::Purged")]
    pub(crate) purged: PurgedKeys,
    /// Whether this only says what would be done.
    pub(crate) dry_run: bool,
}

/// What was removed, or what would be.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum PurgedKeys {
    Done(Purged),
    Planned { keys: u64, damaged: u64 },
}

/// The result of a check.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Checked {
    /// Whether nothing was found.
    pub(crate) is_sound: bool,
    #[serde(flatten)]
    #[schemars(with = "schema::CheckReport")]
    pub(crate) report: CheckReport,
}

/// The peppers of the store.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Peppers {
    #[schemars(with = "Vec<schema::PepperKeys>")]
    pub(crate) peppers: Vec<PepperKeys>,
}

/// The key that exports of the audit trail verify with.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ExportKey {
    /// 64 hexadecimal digits. Whoever has it can forge exports.
    pub(crate) key: String,
}

/// The result of a repair.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Repaired {
    #[serde(flatten)]
    #[schemars(with = "schema::RepairReport")]
    pub(crate) report: gatekey::RepairReport,
}

/// All imports.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Imports {
    #[schemars(with = "Vec<schema::Import>")]
    pub(crate) imports: Vec<Import>,
}

/// What became of keys, in the order of the request.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ImportedKeys {
    pub(crate) keys: Vec<ImportedRow>,
}

/// What became of a key.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ImportedRow {
    pub(crate) outcome: Outcome,
    /// The key; `null` where it was refused. In a dry run, drawn for the answer alone.
    #[schemars(with = "Option<schema::KeyId>")]
    pub(crate) id: Option<KeyId>,
    /// A stable name of why it was refused.
    pub(crate) code: Option<String>,
    /// The same in a sentence.
    pub(crate) detail: Option<String>,
}

/// What became of a key that was to be imported.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was imported, or would be.
    Imported,
    /// The import has it already.
    Present,
    /// It was refused.
    Refused,
}

/// A fleet, as the server that answers sees it.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Fleet {
    /// What this server knows without asking the log.
    pub(crate) server: OwnStatus,
    /// All servers that the log has heard of; empty where it does not answer.
    #[schemars(with = "Vec<schema::FleetServer>")]
    pub(crate) servers: Vec<gatekey::fleet::Server>,
    /// Why the log did not say which servers there are; `null` if it did.
    pub(crate) servers_error: Option<String>,
}

/// What this server knows.
#[derive(Serialize, JsonSchema)]
pub(crate) struct OwnStatus {
    #[serde(flatten)]
    #[schemars(with = "schema::FleetStatus")]
    pub(crate) status: gatekey::fleet::Status,
    /// How many entries it has heard of and not applied.
    pub(crate) behind: u64,
}

/// A snapshot that was put into the log.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SnapshotPut {
    #[serde(flatten)]
    #[schemars(with = "schema::SnapshotInfo")]
    pub(crate) snapshot: gatekey::fleet::SnapshotInfo,
    /// The position up to which entries were removed; `null` if none were.
    pub(crate) trimmed_through: Option<u64>,
}
