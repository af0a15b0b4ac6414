//! The audit trail: who changed what, and when.

pub(crate) mod link;
mod text;

use crate::model::audit::link::Link;
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, Prefix};
use crate::model::owner::OwnerPath;
use crate::model::reason::Reason;

/// One change, written in the same transaction as the change itself.
///
/// Entries are chained: each carries a keyed hash over itself and the hash of the one
/// before. Without the store's key, nobody can alter, remove or insert an entry
/// unnoticed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct AuditEntry {
    /// The position, from 1 on, without gaps.
    pub seq: u64,
    /// The instant of the change, by the engine's time. Never before that of the
    /// previous entry, unless this entry says that time was set back.
    pub at: Timestamp,
    /// The actor, as given to [`Engine::acting_as`](crate::Engine::acting_as).
    pub actor: Option<String>,
    /// The change.
    pub event: AuditEvent,
}

/// A page of the audit trail: see [`Engine::audit_page`](crate::Engine::audit_page).
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct AuditPage {
    /// The entries, the oldest first.
    pub entries: Vec<AuditEntry>,
    /// The position of the next page; `None` if this is the last.
    pub next: Option<u64>,
}

/// The stored part of an entry; its position is the record's key.
#[derive(Debug, Clone)]
pub(crate) struct AuditBody {
    pub(crate) at: Timestamp,
    pub(crate) actor: Option<String>,
    pub(crate) event: AuditEvent,
}

impl AuditBody {
    pub(crate) fn at_position(self, seq: u64) -> AuditEntry {
        AuditEntry {
            seq,
            at: self.at,
            actor: self.actor,
            event: self.event,
        }
    }
}

impl From<AuditEntry> for AuditBody {
    fn from(entry: AuditEntry) -> Self {
        Self {
            at: entry.at,
            actor: entry.actor,
            event: entry.event,
        }
    }
}

/// A field that changed.
///
/// Text that people wrote (names, descriptions, labels, names of plans) is quoted, with
/// quotes and backslashes escaped. An absent value is `none`, without quotes. So a text
/// has one reading only. Commas separate the items of lists, and a label reads
/// `"env"="prod"`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Change {
    /// The name of the field.
    pub field: String,
    /// The old value, as text.
    pub before: String,
    /// The new value, as text.
    pub after: String,
}

impl Change {
    /// Notes a field if it changed.
    pub(crate) fn note<T: PartialEq>(
        changes: &mut Vec<Self>,
        field: &str,
        before: &T,
        after: &T,
        text: impl Fn(&T) -> String,
    ) {
        if before != after {
            changes.push(Self {
                field: field.to_owned(),
                before: text(before),
                after: text(after),
            });
        }
    }
}

/// Quotes a text that people wrote, for [`Change`], so that it has one reading. The
/// result is at most twice as long, so that an entry keeps to the limit of its
/// encoding. Hidden characters were refused before.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

pub(crate) fn quoted_or_none(text: Option<&str>) -> String {
    text.map_or("none".to_owned(), quoted)
}

/// Whose keys a revocation of many revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Scope {
    /// The keys of an owner and of all owners below it.
    Owner(OwnerPath),
    /// The keys of a keyspace.
    Keyspace(Prefix),
}

/// The change that an entry records.
// New variants go to the end: the encoding counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(tag = "type", rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum AuditEvent {
    /// A keyspace was created.
    KeyspaceCreated {
        /// The keyspace.
        keyspace: Prefix,
    },
    /// A keyspace was changed.
    KeyspaceUpdated {
        /// The keyspace.
        keyspace: Prefix,
        /// What changed.
        changes: Vec<Change>,
    },
    /// A key was issued.
    KeyIssued {
        /// The key.
        key: KeyId,
        /// Its keyspace.
        keyspace: Prefix,
        /// Its owner.
        owner: OwnerPath,
        /// The keys that the issue revoked, in a single-active keyspace.
        superseded: Vec<KeyId>,
    },
    /// A key was rotated.
    KeyRotated {
        /// The old key.
        old: KeyId,
        /// The new key.
        new: KeyId,
        /// When the old key's grace ends; `None` if it was revoked at once.
        retiring_until: Option<Timestamp>,
        /// The older keys whose grace this rotation ended.
        superseded: Vec<KeyId>,
    },
    /// A key was revoked.
    KeyRevoked {
        /// The key.
        key: KeyId,
        /// The reason.
        reason: Reason,
        /// A note.
        note: Option<String>,
    },
    /// All keys of an owner or a keyspace with many were revoked: all that it had at this
    /// entry, but for those revoked before. Entries
    /// [`RevokedKeysNamed`](Self::RevokedKeysNamed) name the keys, as their records follow.
    /// Of few keys, there is an entry [`KeysRevoked`](Self::KeysRevoked) in its place.
    /// Earlier versions wrote this one for any number, and did not name the keys.
    KeysRevokedUnnamed {
        /// Whose keys.
        scope: Scope,
        /// How many keys there were, counted as for
        /// [`OwnerSuspended`](Self::OwnerSuspended).
        keys: u64,
        /// The reason.
        reason: Reason,
        /// A note.
        note: Option<String>,
    },
    /// A key was changed.
    KeyUpdated {
        /// The key.
        key: KeyId,
        /// What changed.
        changes: Vec<Change>,
    },
    /// A key was disabled.
    KeyDisabled {
        /// The key.
        key: KeyId,
    },
    /// A key was enabled.
    KeyEnabled {
        /// The key.
        key: KeyId,
    },
    /// An owner was suspended, with all below it.
    OwnerSuspended {
        /// The owner.
        owner: OwnerPath,
        /// How many keys this reached: counted up to
        /// [`KEYS_COUNTED_MAX`](Self::KEYS_COUNTED_MAX), and one more than that for any
        /// more.
        keys: u64,
        /// A note.
        note: Option<String>,
    },
    /// An owner was resumed.
    OwnerResumed {
        /// The owner.
        owner: OwnerPath,
        /// As for [`OwnerSuspended`](Self::OwnerSuspended).
        keys: u64,
    },
    /// Keys long over were removed.
    KeysPurged {
        /// The keys.
        keys: Vec<KeyId>,
    },
    /// Digests were renewed under the newest pepper.
    DigestsRenewed {
        /// The pepper's id.
        pepper: u8,
        /// The keys.
        keys: Vec<KeyId>,
    },
    /// The beginning of the audit trail was removed.
    AuditTrimmed {
        /// The last entry that was removed: the trail begins after it.
        through: Link,
        /// How many entries were kept beside the trail, for revoked keys.
        kept: u64,
        /// How many were kept before and no longer are, since their keys were purged.
        dropped: u64,
    },
    /// Keys of an owner or a keyspace were revoked, which had no more than
    /// [`KEYS_COUNTED_MAX`](Self::KEYS_COUNTED_MAX). A restore writes it for any number, an
    /// entry for each thousand keys, and so did earlier versions.
    KeysRevoked {
        /// Whose keys.
        scope: Scope,
        /// The keys that the call revoked and this entry names, at most a thousand.
        /// Keys revoked before the call are not among them.
        keys: Vec<KeyId>,
        /// The reason.
        reason: Reason,
        /// A note.
        note: Option<String>,
    },
    /// A caller repeated a request under an idempotency key, and got another key in
    /// place of one that nobody had used. See
    /// [`Engine::idempotent`](crate::Engine::idempotent).
    KeyReissued {
        /// The key of the earlier answer, now revoked as superseded.
        old: KeyId,
        /// The key that replaces it.
        new: KeyId,
    },
    /// [`Engine::repair`](crate::Engine::repair) removed or rebuilt damaged records. A
    /// repair writes as many entries as it needs to name all of them.
    StoreRepaired {
        /// The keys whose hot records the repair removed, or made agree with their
        /// owner's suspension.
        keys: Vec<KeyId>,
        /// What the repair did.
        repairs: Vec<Repair>,
    },
    /// [`Engine::repair`](crate::Engine::repair) found entries of this trail that are
    /// missing or do not follow the one before. The chain cannot be mended;
    /// [`Engine::check`](crate::Engine::check) does not report these entries again.
    AuditBroken {
        /// Their positions.
        entries: Vec<u64>,
    },
    /// The store was restored from a backup. The entries that follow apply the
    /// restrictions made since, each in the name of its original actor.
    StoreRestored {
        /// The end of the backup's trail.
        backup: Link,
        /// The end of the applied trail.
        trail: Link,
    },
    /// Time was set back: see [`Engine::set_time_back`](crate::Engine::set_time_back).
    /// Entries about the keys that this changed follow.
    TimeSetBack {
        /// The engine's present before.
        from: Timestamp,
        /// The engine's present after.
        to: Timestamp,
        /// How many keys became good again.
        revived: u64,
    },
    /// The settings of an owner in a keyspace were changed.
    OwnerUpdated {
        /// The keyspace.
        keyspace: Prefix,
        /// The owner.
        owner: OwnerPath,
        /// What changed.
        changes: Vec<Change>,
    },
    /// An owner spent the first request of a quota that the defaults of its level give
    /// it, or of another one that they give it now.
    OwnerQuotaBegun {
        /// The keyspace.
        keyspace: Prefix,
        /// The owner.
        owner: OwnerPath,
    },
    /// An extension changed records of its own: see
    /// [`ExtensionTx::audit`](crate::extension::ExtensionTx::audit). What it did to keys in
    /// the same transaction has entries of its own.
    ExtensionChanged {
        /// The name of the extension.
        extension: String,
        /// What happened, in the words of the extension: `code_redeemed`.
        event: String,
        /// The id of the record that it is about.
        subject: String,
        /// A note.
        note: Option<String>,
    },
    /// An import began, or its sunset was changed.
    ImportChanged {
        /// The import.
        import: String,
        /// What changed; empty where it began.
        changes: Vec<Change>,
    },
    /// Keys were imported, whose tokens another system issued.
    KeysImported {
        /// The import.
        import: String,
        /// The keys, at most a thousand, of which at most one has a quota.
        keys: Vec<KeyId>,
    },
    /// A key that was imported got the token that its holder has: see
    /// [`Engine::claim`](crate::Engine::claim).
    KeyClaimed {
        /// The import.
        import: String,
        /// The key.
        key: KeyId,
    },
    /// The sunset of an import was over, and keys of it that were never used were revoked.
    ImportEnded {
        /// The import.
        import: String,
        /// The keys, at most a thousand.
        keys: Vec<KeyId>,
    },
    /// Names keys that an earlier entry has revoked, a
    /// [`KeysRevokedUnnamed`](Self::KeysRevokedUnnamed): since when, why and by whom, that
    /// one says. A key that was purged before its record followed is not named.
    RevokedKeysNamed {
        /// The position of that entry.
        entry: u64,
        /// Whose keys.
        scope: Scope,
        /// The keys, at most a thousand.
        keys: Vec<KeyId>,
    },
}

/// One step of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Repair {
    /// The table of the store.
    pub table: String,
    /// The key of the record, in readable form, cut if it is long.
    pub record: String,
    /// What was wrong with the record, and what the repair did.
    pub done: String,
}

/// The most keys that one entry names, so that it keeps to the limit of its encoding.
pub(crate) const NAMED_MAX: usize = 1000;

impl AuditEvent {
    /// How far the keys are counted that are suspended, resumed or revoked with their owner or
    /// their keyspace: such a call takes no longer for a million keys.
    pub const KEYS_COUNTED_MAX: u64 = 256;

    /// A number of keys as an event has it; `None` where there were more than are counted.
    ///
    /// ```
    /// use gatekey::AuditEvent;
    ///
    /// assert_eq!(AuditEvent::keys_counted(7), Some(7));
    /// let more = AuditEvent::KEYS_COUNTED_MAX + 1;
    /// assert_eq!(AuditEvent::keys_counted(more), None);
    /// ```
    #[must_use]
    pub fn keys_counted(keys: u64) -> Option<u64> {
        (keys != Self::KEYS_COUNTED_MAX + 1).then_some(keys)
    }

    /// The position of the entry that changed the keys which the one at a position names.
    pub(crate) fn told_at(&self, seq: u64) -> u64 {
        match self {
            Self::RevokedKeysNamed { entry, .. } => *entry,
            _ => seq,
        }
    }

    /// The keys that the entry names, at most a thousand. A suspension and its end name
    /// none.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyId> {
        match self {
            Self::KeyspaceCreated { .. }
            | Self::KeyspaceUpdated { .. }
            | Self::KeysRevokedUnnamed { .. }
            | Self::OwnerSuspended { .. }
            | Self::OwnerResumed { .. }
            | Self::AuditTrimmed { .. }
            | Self::AuditBroken { .. }
            | Self::StoreRestored { .. }
            | Self::TimeSetBack { .. }
            | Self::OwnerUpdated { .. }
            | Self::OwnerQuotaBegun { .. }
            | Self::ImportChanged { .. }
            | Self::ExtensionChanged { .. } => Vec::new(),
            Self::KeyIssued {
                key, superseded, ..
            } => [&[*key], superseded.as_slice()].concat(),
            Self::KeyRotated {
                old,
                new,
                superseded,
                ..
            } => [&[*old, *new], superseded.as_slice()].concat(),
            Self::KeyReissued { old, new } => vec![*old, *new],
            Self::KeyRevoked { key, .. }
            | Self::KeyUpdated { key, .. }
            | Self::KeyDisabled { key }
            | Self::KeyEnabled { key }
            | Self::KeyClaimed { key, .. } => vec![*key],
            Self::KeysPurged { keys }
            | Self::DigestsRenewed { keys, .. }
            | Self::KeysRevoked { keys, .. }
            | Self::KeysImported { keys, .. }
            | Self::ImportEnded { keys, .. }
            | Self::RevokedKeysNamed { keys, .. }
            | Self::StoreRepaired { keys, .. } => keys.clone(),
        }
    }
}
