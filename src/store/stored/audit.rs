//! `audit` and `kept`: the entries of the trail.

use serde::{Deserialize, Serialize};

use crate::crypto::digest::Digest;
use crate::model::audit::link::Link;
use crate::model::audit::{AuditBody, AuditEvent, Change, Repair, Scope};
use crate::model::clock::Timestamp;
use crate::model::reason::Reason;
use crate::store::stored::{instant, key_id, key_ids, maybe, raw_ids};
use crate::store::tables::Stored;

#[derive(Serialize, Deserialize)]
pub(crate) struct EntryForm {
    pub(super) at: u64,
    pub(super) actor: Option<String>,
    pub(super) event: EventForm,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ChangeForm {
    pub(super) field: String,
    pub(super) before: String,
    pub(super) after: String,
}

/// New variants go to the end: the encoding counts them.
#[derive(Serialize, Deserialize)]
pub(super) enum ScopeForm {
    Owner(String),
    Keyspace(String),
}

#[derive(Serialize, Deserialize)]
pub(super) struct RepairForm {
    pub(super) table: String,
    pub(super) record: String,
    pub(super) done: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LinkForm {
    pub(super) seq: u64,
    pub(super) hash: Digest,
}

/// The code of a reason, in the encoding that the number of a variant has.
#[derive(Serialize, Deserialize)]
pub(super) struct ReasonForm(u32);

/// New variants go to the end: the encoding counts them.
#[derive(Serialize, Deserialize)]
pub(super) enum EventForm {
    KeyspaceCreated {
        keyspace: String,
    },
    KeyspaceUpdated {
        keyspace: String,
        changes: Vec<ChangeForm>,
    },
    KeyIssued {
        key: u64,
        keyspace: String,
        owner: String,
        superseded: Vec<u64>,
    },
    KeyRotated {
        old: u64,
        new: u64,
        retiring_until: Option<u64>,
        superseded: Vec<u64>,
    },
    KeyRevoked {
        key: u64,
        reason: ReasonForm,
        note: Option<String>,
    },
    KeysRevokedUnnamed {
        scope: ScopeForm,
        keys: u64,
        reason: ReasonForm,
        note: Option<String>,
    },
    KeyUpdated {
        key: u64,
        changes: Vec<ChangeForm>,
    },
    KeyDisabled {
        key: u64,
    },
    KeyEnabled {
        key: u64,
    },
    OwnerSuspended {
        owner: String,
        keys: u64,
        note: Option<String>,
    },
    OwnerResumed {
        owner: String,
        keys: u64,
    },
    KeysPurged {
        keys: Vec<u64>,
    },
    DigestsRenewed {
        pepper: u8,
        keys: Vec<u64>,
    },
    AuditTrimmed {
        through: LinkForm,
        kept: u64,
        dropped: u64,
    },
    KeysRevoked {
        scope: ScopeForm,
        keys: Vec<u64>,
        reason: ReasonForm,
        note: Option<String>,
    },
    KeyReissued {
        old: u64,
        new: u64,
    },
    StoreRepaired {
        keys: Vec<u64>,
        repairs: Vec<RepairForm>,
    },
    AuditBroken {
        entries: Vec<u64>,
    },
    StoreRestored {
        backup: LinkForm,
        trail: LinkForm,
    },
    TimeSetBack {
        from: u64,
        to: u64,
        revived: u64,
    },
    OwnerUpdated {
        keyspace: String,
        owner: String,
        changes: Vec<ChangeForm>,
    },
    OwnerQuotaBegun {
        keyspace: String,
        owner: String,
    },
    ExtensionChanged {
        extension: String,
        event: String,
        subject: String,
        note: Option<String>,
    },
    ImportChanged {
        import: String,
        changes: Vec<ChangeForm>,
    },
    KeysImported {
        import: String,
        keys: Vec<u64>,
    },
    KeyClaimed {
        import: String,
        key: u64,
    },
    ImportEnded {
        import: String,
        keys: Vec<u64>,
    },
    RevokedKeysNamed {
        entry: u64,
        scope: ScopeForm,
        keys: Vec<u64>,
    },
}

impl Stored for AuditBody {
    type Form = EntryForm;

    fn to_form(&self) -> EntryForm {
        EntryForm {
            at: self.at.unix_ms(),
            actor: self.actor.clone(),
            event: EventForm::of(&self.event),
        }
    }

    fn from_form(form: EntryForm) -> Option<Self> {
        Some(Self {
            at: instant(form.at)?,
            actor: form.actor,
            event: form.event.read()?,
        })
    }
}

impl ChangeForm {
    fn all_of(changes: &[Change]) -> Vec<Self> {
        let of = |change: &Change| Self {
            field: change.field.clone(),
            before: change.before.clone(),
            after: change.after.clone(),
        };
        changes.iter().map(of).collect()
    }

    fn read_all(forms: Vec<Self>) -> Vec<Change> {
        let read = |form: Self| Change {
            field: form.field,
            before: form.before,
            after: form.after,
        };
        forms.into_iter().map(read).collect()
    }
}

impl RepairForm {
    fn all_of(repairs: &[Repair]) -> Vec<Self> {
        let of = |repair: &Repair| Self {
            table: repair.table.clone(),
            record: repair.record.clone(),
            done: repair.done.clone(),
        };
        repairs.iter().map(of).collect()
    }

    fn read_all(forms: Vec<Self>) -> Vec<Repair> {
        let read = |form: Self| Repair {
            table: form.table,
            record: form.record,
            done: form.done,
        };
        forms.into_iter().map(read).collect()
    }
}

impl ScopeForm {
    fn of(scope: &Scope) -> Self {
        match scope {
            Scope::Owner(owner) => Self::Owner(owner.as_str().to_owned()),
            Scope::Keyspace(prefix) => Self::Keyspace(prefix.as_str().to_owned()),
        }
    }

    fn read(self) -> Option<Scope> {
        Some(match self {
            Self::Owner(owner) => Scope::Owner(owner.try_into().ok()?),
            Self::Keyspace(prefix) => Scope::Keyspace(prefix.parse().ok()?),
        })
    }
}

impl LinkForm {
    fn of(link: &Link) -> Self {
        Self {
            seq: link.seq,
            hash: link.hash,
        }
    }

    fn read(self) -> Link {
        Link::new(self.seq, self.hash)
    }
}

impl ReasonForm {
    pub(super) fn of(reason: Reason) -> Self {
        Self(reason.code().into())
    }

    pub(super) fn read(self) -> Option<Reason> {
        u8::try_from(self.0).ok().map(Reason::from_code)
    }
}

impl EventForm {
    fn of(event: &AuditEvent) -> Self {
        match event {
            AuditEvent::KeyspaceCreated { keyspace } => Self::KeyspaceCreated {
                keyspace: keyspace.as_str().to_owned(),
            },
            AuditEvent::KeyspaceUpdated { keyspace, changes } => Self::KeyspaceUpdated {
                keyspace: keyspace.as_str().to_owned(),
                changes: ChangeForm::all_of(changes),
            },
            AuditEvent::KeyIssued {
                key,
                keyspace,
                owner,
                superseded,
            } => Self::KeyIssued {
                key: key.raw(),
                keyspace: keyspace.as_str().to_owned(),
                owner: owner.as_str().to_owned(),
                superseded: raw_ids(superseded),
            },
            AuditEvent::KeyRotated {
                old,
                new,
                retiring_until,
                superseded,
            } => Self::KeyRotated {
                old: old.raw(),
                new: new.raw(),
                retiring_until: retiring_until.map(Timestamp::unix_ms),
                superseded: raw_ids(superseded),
            },
            AuditEvent::KeyRevoked { key, reason, note } => Self::KeyRevoked {
                key: key.raw(),
                reason: ReasonForm::of(*reason),
                note: note.clone(),
            },
            AuditEvent::KeysRevokedUnnamed {
                scope,
                keys,
                reason,
                note,
            } => Self::KeysRevokedUnnamed {
                scope: ScopeForm::of(scope),
                keys: *keys,
                reason: ReasonForm::of(*reason),
                note: note.clone(),
            },
            AuditEvent::KeyUpdated { key, changes } => Self::KeyUpdated {
                key: key.raw(),
                changes: ChangeForm::all_of(changes),
            },
            AuditEvent::KeyDisabled { key } => Self::KeyDisabled { key: key.raw() },
            AuditEvent::KeyEnabled { key } => Self::KeyEnabled { key: key.raw() },
            AuditEvent::OwnerSuspended { owner, keys, note } => Self::OwnerSuspended {
                owner: owner.as_str().to_owned(),
                keys: *keys,
                note: note.clone(),
            },
            AuditEvent::OwnerResumed { owner, keys } => Self::OwnerResumed {
                owner: owner.as_str().to_owned(),
                keys: *keys,
            },
            AuditEvent::KeysPurged { keys } => Self::KeysPurged {
                keys: raw_ids(keys),
            },
            AuditEvent::DigestsRenewed { pepper, keys } => Self::DigestsRenewed {
                pepper: *pepper,
                keys: raw_ids(keys),
            },
            AuditEvent::AuditTrimmed {
                through,
                kept,
                dropped,
            } => Self::AuditTrimmed {
                through: LinkForm::of(through),
                kept: *kept,
                dropped: *dropped,
            },
            AuditEvent::KeysRevoked {
                scope,
                keys,
                reason,
                note,
            } => Self::KeysRevoked {
                scope: ScopeForm::of(scope),
                keys: raw_ids(keys),
                reason: ReasonForm::of(*reason),
                note: note.clone(),
            },
            AuditEvent::KeyReissued { old, new } => Self::KeyReissued {
                old: old.raw(),
                new: new.raw(),
            },
            AuditEvent::StoreRepaired { keys, repairs } => Self::StoreRepaired {
                keys: raw_ids(keys),
                repairs: RepairForm::all_of(repairs),
            },
            AuditEvent::AuditBroken { entries } => Self::AuditBroken {
                entries: entries.clone(),
            },
            AuditEvent::StoreRestored { backup, trail } => Self::StoreRestored {
                backup: LinkForm::of(backup),
                trail: LinkForm::of(trail),
            },
            AuditEvent::TimeSetBack { from, to, revived } => Self::TimeSetBack {
                from: from.unix_ms(),
                to: to.unix_ms(),
                revived: *revived,
            },
            AuditEvent::OwnerUpdated {
                keyspace,
                owner,
                changes,
            } => Self::OwnerUpdated {
                keyspace: keyspace.as_str().to_owned(),
                owner: owner.as_str().to_owned(),
                changes: ChangeForm::all_of(changes),
            },
            AuditEvent::OwnerQuotaBegun { keyspace, owner } => Self::OwnerQuotaBegun {
                keyspace: keyspace.as_str().to_owned(),
                owner: owner.as_str().to_owned(),
            },
            AuditEvent::ExtensionChanged {
                extension,
                event,
                subject,
                note,
            } => Self::ExtensionChanged {
                extension: extension.clone(),
                event: event.clone(),
                subject: subject.clone(),
                note: note.clone(),
            },
            AuditEvent::ImportChanged { import, changes } => Self::ImportChanged {
                import: import.clone(),
                changes: ChangeForm::all_of(changes),
            },
            AuditEvent::KeysImported { import, keys } => Self::KeysImported {
                import: import.clone(),
                keys: raw_ids(keys),
            },
            AuditEvent::KeyClaimed { import, key } => Self::KeyClaimed {
                import: import.clone(),
                key: key.raw(),
            },
            AuditEvent::RevokedKeysNamed { entry, scope, keys } => Self::RevokedKeysNamed {
                entry: *entry,
                scope: ScopeForm::of(scope),
                keys: raw_ids(keys),
            },
            AuditEvent::ImportEnded { import, keys } => Self::ImportEnded {
                import: import.clone(),
                keys: raw_ids(keys),
            },
        }
    }

    fn read(self) -> Option<AuditEvent> {
        Some(match self {
            Self::KeyspaceCreated { keyspace } => AuditEvent::KeyspaceCreated {
                keyspace: keyspace.parse().ok()?,
            },
            Self::KeyspaceUpdated { keyspace, changes } => AuditEvent::KeyspaceUpdated {
                keyspace: keyspace.parse().ok()?,
                changes: ChangeForm::read_all(changes),
            },
            Self::KeyIssued {
                key,
                keyspace,
                owner,
                superseded,
            } => AuditEvent::KeyIssued {
                key: key_id(key)?,
                keyspace: keyspace.parse().ok()?,
                owner: owner.try_into().ok()?,
                superseded: key_ids(&superseded)?,
            },
            Self::KeyRotated {
                old,
                new,
                retiring_until,
                superseded,
            } => AuditEvent::KeyRotated {
                old: key_id(old)?,
                new: key_id(new)?,
                retiring_until: maybe(retiring_until, instant)?,
                superseded: key_ids(&superseded)?,
            },
            Self::KeyRevoked { key, reason, note } => AuditEvent::KeyRevoked {
                key: key_id(key)?,
                reason: reason.read()?,
                note,
            },
            Self::KeysRevokedUnnamed {
                scope,
                keys,
                reason,
                note,
            } => AuditEvent::KeysRevokedUnnamed {
                scope: scope.read()?,
                keys,
                reason: reason.read()?,
                note,
            },
            Self::KeyUpdated { key, changes } => AuditEvent::KeyUpdated {
                key: key_id(key)?,
                changes: ChangeForm::read_all(changes),
            },
            Self::KeyDisabled { key } => AuditEvent::KeyDisabled { key: key_id(key)? },
            Self::KeyEnabled { key } => AuditEvent::KeyEnabled { key: key_id(key)? },
            Self::OwnerSuspended { owner, keys, note } => AuditEvent::OwnerSuspended {
                owner: owner.try_into().ok()?,
                keys,
                note,
            },
            Self::OwnerResumed { owner, keys } => AuditEvent::OwnerResumed {
                owner: owner.try_into().ok()?,
                keys,
            },
            Self::KeysPurged { keys } => AuditEvent::KeysPurged {
                keys: key_ids(&keys)?,
            },
            Self::DigestsRenewed { pepper, keys } => AuditEvent::DigestsRenewed {
                pepper,
                keys: key_ids(&keys)?,
            },
            Self::AuditTrimmed {
                through,
                kept,
                dropped,
            } => AuditEvent::AuditTrimmed {
                through: through.read(),
                kept,
                dropped,
            },
            Self::KeysRevoked {
                scope,
                keys,
                reason,
                note,
            } => AuditEvent::KeysRevoked {
                scope: scope.read()?,
                keys: key_ids(&keys)?,
                reason: reason.read()?,
                note,
            },
            Self::KeyReissued { old, new } => AuditEvent::KeyReissued {
                old: key_id(old)?,
                new: key_id(new)?,
            },
            Self::StoreRepaired { keys, repairs } => AuditEvent::StoreRepaired {
                keys: key_ids(&keys)?,
                repairs: RepairForm::read_all(repairs),
            },
            Self::AuditBroken { entries } => AuditEvent::AuditBroken { entries },
            Self::StoreRestored { backup, trail } => AuditEvent::StoreRestored {
                backup: backup.read(),
                trail: trail.read(),
            },
            Self::TimeSetBack { from, to, revived } => AuditEvent::TimeSetBack {
                from: instant(from)?,
                to: instant(to)?,
                revived,
            },
            Self::OwnerUpdated {
                keyspace,
                owner,
                changes,
            } => AuditEvent::OwnerUpdated {
                keyspace: keyspace.parse().ok()?,
                owner: owner.try_into().ok()?,
                changes: ChangeForm::read_all(changes),
            },
            Self::OwnerQuotaBegun { keyspace, owner } => AuditEvent::OwnerQuotaBegun {
                keyspace: keyspace.parse().ok()?,
                owner: owner.try_into().ok()?,
            },
            Self::ExtensionChanged {
                extension,
                event,
                subject,
                note,
            } => AuditEvent::ExtensionChanged {
                extension,
                event,
                subject,
                note,
            },
            Self::ImportChanged { import, changes } => AuditEvent::ImportChanged {
                import,
                changes: ChangeForm::read_all(changes),
            },
            Self::KeysImported { import, keys } => AuditEvent::KeysImported {
                import,
                keys: key_ids(&keys)?,
            },
            Self::KeyClaimed { import, key } => AuditEvent::KeyClaimed {
                import,
                key: key_id(key)?,
            },
            Self::ImportEnded { import, keys } => AuditEvent::ImportEnded {
                import,
                keys: key_ids(&keys)?,
            },
            Self::RevokedKeysNamed { entry, scope, keys } => AuditEvent::RevokedKeysNamed {
                entry,
                scope: scope.read()?,
                keys: key_ids(&keys)?,
            },
        })
    }
}
