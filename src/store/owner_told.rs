//! What the audit trail tells of the settings of owners, for a check and a repair.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::audit::{AuditEntry, AuditEvent};
use crate::model::id::Prefix;
use crate::model::owner::OwnerPath;
use crate::model::owner_settings::UNLIMITED;

/// What the trail tells of the settings of owners, by keyspace and owner.
#[derive(Default)]
pub(super) struct Told(BTreeMap<(Prefix, OwnerPath), OwnerTold>);

/// What the trail tells of the settings of one owner.
#[derive(Default, Clone)]
pub(super) struct OwnerTold {
    /// The last entry that changed them; 0 where none is left of the trail that did.
    pub(super) seq: u64,
    /// What is set, as far as the trail goes back.
    fields: BTreeSet<String>,
    /// The last entry that began a quota which nothing has ended since.
    pub(super) quota_since: Option<u64>,
}

impl OwnerTold {
    /// Whether there must be a record.
    pub(super) fn has_settings(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Whether the owner has a quota of its own.
    pub(super) fn has_own_quota(&self) -> bool {
        self.fields.contains("quota")
    }

    /// Whether a record can be as the trail left it, of which this is what it tells, and
    /// which begins behind `floor`.
    pub(super) fn agrees(
        told: Option<&Self>,
        revision: u64,
        floor: u64,
        is_broken: impl Fn(u64) -> bool,
    ) -> bool {
        let seq = told.map_or(0, |told| told.seq);
        seq == revision || (seq == 0 && revision <= floor) || is_broken(revision)
    }
}

impl Told {
    /// Takes an entry, the next in the trail.
    pub(super) fn follow(&mut self, entry: &AuditEntry) {
        match &entry.event {
            AuditEvent::OwnerUpdated {
                keyspace,
                owner,
                changes,
            } => {
                let told = self.0.entry((*keyspace, owner.clone())).or_default();
                told.seq = entry.seq;
                for change in changes {
                    // One that is unlimited is set, and begins no quota.
                    let is_set = change.after != "none";
                    match is_set {
                        true => told.fields.insert(change.field.clone()),
                        false => told.fields.remove(&change.field),
                    };
                    if change.field == "quota" {
                        told.quota_since =
                            (is_set && change.after != UNLIMITED).then_some(entry.seq);
                    }
                }
            }
            AuditEvent::OwnerQuotaBegun { keyspace, owner } => {
                let told = self.0.entry((*keyspace, owner.clone())).or_default();
                told.quota_since = Some(entry.seq);
            }
            _ => {}
        }
    }

    pub(super) fn of(&self, keyspace: Prefix, owner: &OwnerPath) -> Option<&OwnerTold> {
        self.0.get(&(keyspace, owner.clone()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Prefix, &OwnerPath, &OwnerTold)> {
        let told = self.0.iter();
        told.map(|((keyspace, owner), told)| (*keyspace, owner, told))
    }
}
