//! What the store does not hold, or does not allow.

use std::fmt;
use std::path::PathBuf;

use crate::model::clock::Timestamp;
use crate::model::error::or_none;
use crate::model::id::{KeyId, Prefix};
use crate::model::owner::OwnerPath;

/// The store does not hold what a call names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotFound {
    /// No key has this id: it never existed, or was purged.
    #[error("there is no key {0}")]
    Key(KeyId),
    /// No keyspace has this prefix.
    #[error("there is no keyspace {0}")]
    Keyspace(Prefix),
    /// The audit trail does not hold this entry any more.
    #[error("audit entry {seq} was trimmed away; the trail begins with entry {first}")]
    AuditEntry {
        /// The requested position.
        seq: u64,
        /// The position of the first entry that is there, or of the next to come.
        first: u64,
    },
    /// The token belongs to no key of this store.
    #[error("the token belongs to no key of this store")]
    Token,
    /// No import has this name.
    #[error("there is no import {0:?}")]
    Import(String),
    /// The import has no key under this id of its source.
    #[error("import {import} has no key under the id {id:?}")]
    ForeignId {
        /// The import.
        import: String,
        /// The id.
        id: String,
    },
}

/// The state of the store forbids a change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// The engine is of no fleet, and the call asks something of one.
    #[error("this engine is of no fleet; open it with Options::fleet")]
    Alone,
    /// The prefix belongs to another keyspace.
    #[error("keyspace {0} exists already; choose another prefix")]
    PrefixTaken(Prefix),
    /// The keyspace exists, and differs from what
    /// [`ensure_keyspace`](crate::Engine::ensure_keyspace) was called with.
    #[error("keyspace {keyspace} exists with other settings. {}. Change it with update_keyspace, or ask for what it has", .differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    KeyspaceDiffers {
        /// The keyspace.
        keyspace: Prefix,
        /// The fields that differ, at least one.
        differences: Vec<Difference>,
    },
    /// The key was revoked, which is final.
    #[error("key {key} was revoked at {at}, which is final; issue a new one")]
    Revoked {
        /// The key.
        key: KeyId,
        /// When the key was revoked, or when its grace ended.
        at: Timestamp,
    },
    /// The key has expired, which is final.
    #[error("key {key} expired at {expired_at}; an expired key cannot be changed, issue a new one")]
    Expired {
        /// The key.
        key: KeyId,
        /// When it expired.
        expired_at: Timestamp,
    },
    /// Time cannot be set back, since the engine's present is not ahead.
    #[error("time cannot be set back to {to}: the engine's present is {now}")]
    TimeNotAhead {
        /// The present.
        now: Timestamp,
        /// The instant to go back to: the requested one, or that of the clock if it is
        /// later.
        to: Timestamp,
    },
    /// The key is disabled.
    #[error("key {0} is disabled; enable it first")]
    Disabled(KeyId),
    /// The key was rotated already, and is in its grace.
    #[error("key {key} was rotated to {successor} already; rotate that one")]
    AlreadyRotated {
        /// The key.
        key: KeyId,
        /// The key that replaced it.
        successor: KeyId,
    },
    /// The keyspace allows one active key an owner and does not supersede.
    #[error(
        "owner {owner} holds key {key} already, and the keyspace allows one; rotate or revoke that one"
    )]
    OwnerHasKey {
        /// The owner.
        owner: OwnerPath,
        /// The key that the owner holds.
        key: KeyId,
    },
    /// The owner, or one above it, holds as many keys as it may.
    #[error("owner {owner} holds {} and may hold {cap}; revoke one, or raise the cap", keys(*held))]
    OwnerAtCap {
        /// Whose cap it is: the owner of the key, or one above it. Of several that refuse,
        /// the lowest is told.
        owner: OwnerPath,
        /// How many keys count, no further than one above the cap.
        held: u64,
        /// How many may be held: at the owner, by the keyspace; or at it and below it, by
        /// a cap of its own or of its level.
        cap: u32,
    },
    /// The keyspace counts a key in its grace beside its successor, and a cap leaves no
    /// room for both. A rotation without a grace is not refused.
    #[error("owner {owner} holds {} and may hold {cap}: rotate key {key} without a grace", keys(*held))]
    NoRoomForGrace {
        /// The key that was to be rotated.
        key: KeyId,
        /// Whose cap it is: the key's owner, or one above it.
        owner: OwnerPath,
        /// How many keys count, no further than one above the cap.
        held: u64,
        /// How many may be held.
        cap: u32,
    },
    /// A keyspace cannot become single-active while an owner holds several keys.
    #[error(
        "keyspace {keyspace} cannot become single-active while owner {owner} holds several keys; revoke all but one"
    )]
    OwnerHoldsSeveral {
        /// The keyspace.
        keyspace: Prefix,
        /// The first such owner.
        owner: OwnerPath,
    },
    /// The store holds as many keyspaces as it can.
    #[error("the store holds {0} keyspaces, which is the most that it can")]
    TooManyKeyspaces(usize),
    /// The store holds as many owners with settings as it can.
    #[error(
        "the store holds settings of {0} owners, which is the most that it can; take away those that nobody needs"
    )]
    TooManyOwnerSettings(u64),
    /// The idempotency key was given before, with another request.
    #[error("the idempotency key belongs to another request; use a new one for this request")]
    AnotherRequest,
    /// The request was answered before, and the answer may have arrived: the key was
    /// used, changed or removed since, or the engine keeps no usage and cannot know.
    #[error(
        "the request was answered before, with key {key}, which may be in use; if nobody has its token, revoke the key and repeat the request under a new idempotency key"
    )]
    AlreadyAnswered {
        /// The key of the answer.
        key: KeyId,
    },
    /// An import of this name exists, with tokens of another shape or hash.
    #[error("import {0} exists already, and says another thing of its tokens; choose another name")]
    ImportDiffers(String),
    /// The store holds as many imports as it can.
    #[error("the store holds {0} imports, which is the most that it can")]
    TooManyImports(usize),
    /// The token, or its hash, is that of another key.
    #[error("the token is that of key {key} already")]
    TokenTaken {
        /// That key.
        key: KeyId,
    },
    /// The import has a key under this id, with another token.
    #[error("the import has key {key} under this id already, with another token")]
    ForeignIdTaken {
        /// That key.
        key: KeyId,
    },
    /// The key waits for no token: it has one.
    #[error("key {key} has a token already, and cannot be claimed")]
    NotClaimable {
        /// The key.
        key: KeyId,
    },
    /// The sunset of the import is over.
    #[error("import {import} ended at {sunset}; no key can be imported or claimed any more")]
    ImportOver {
        /// The import.
        import: String,
        /// Its sunset.
        sunset: Timestamp,
    },
    /// Neither a backup nor a restore overwrites a file.
    #[error("the target {} exists already, and nothing overwrites it; choose another", .0.display())]
    TargetExists(PathBuf),
    /// A backup has another name until it is complete, and a file of that name exists.
    #[error(
        "{} exists: a backup to there is under way, or one was cut off; if none is, remove the file",
        .0.display()
    )]
    BackupUnderWay(PathBuf),
    /// A restore has another name until it is complete, and a file of that name exists.
    #[error(
        "{} exists: a restore to there is under way, or one was cut off; if none is, remove the file",
        .0.display()
    )]
    RestoreUnderWay(PathBuf),
    /// The caller stopped the backup, and nothing is left of it.
    #[error("the backup was stopped by its caller, and nothing is left of it")]
    BackupStopped,
    /// The caller stopped the check, which has changed nothing.
    #[error("the check was stopped by its caller, and says nothing of the store")]
    CheckStopped,
}

/// A field in which the store differs from what the caller asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The name of the field.
    pub field: String,
    /// The stored value, as text.
    pub found: String,
    /// The requested value, as text.
    pub asked: String,
}

fn keys(count: u64) -> String {
    format!("{count} key{}", if count == 1 { "" } else { "s" })
}

impl Difference {
    pub(crate) fn new(field: String, found: &str, asked: &str) -> Self {
        let shown = |text| crate::model::withheld::withheld(or_none(text)).to_string();
        Self {
            field,
            found: shown(found),
            asked: shown(asked),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            found,
            asked,
        } = self;
        write!(f, "{field}: it has {found}, you ask for {asked}")
    }
}
