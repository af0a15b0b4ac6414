//! What the audit trail says of the records, and where it is broken.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;

use super::{Mender, repair_of};
use crate::crypto::digest::digests_equal;
use crate::model::audit::{AuditBody, AuditEntry, AuditEvent, NAMED_MAX, Scope};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::{KeyId, Prefix};
use crate::model::owner::OwnerPath;
use crate::store::failure::OrStore;
use crate::store::owner_told::Told;
use crate::store::read::{self, Links};
use crate::store::record::Phase;
use crate::store::tables::{self, KEPT, OwnerRecord, Tagged};

/// How many positions one audit entry names.
const POSITIONS_PER_ENTRY: usize = 4096;

/// What the audit trail says, as far as it can be read.
#[derive(Default)]
pub(super) struct Trail {
    pub(super) broken: BTreeSet<u64>,
    /// By owner: the entry that last suspended or resumed it, and the record that a
    /// suspension wrote.
    pub(super) suspensions: BTreeMap<OwnerPath, (u64, Option<OwnerRecord>)>,
    /// The last entry that suspended or resumed all keys of an owner.
    pub(super) reached_owner: BTreeMap<OwnerPath, u64>,
    /// The last that revoked all keys of an owner or a keyspace, and when.
    pub(super) revoked_owner: BTreeMap<OwnerPath, (u64, Timestamp)>,
    pub(super) revoked_keyspace: BTreeMap<Prefix, (u64, Timestamp)>,
    pub(super) settings: Told,
    /// Keys whose records are older than an entry about them.
    pub(super) stale: BTreeSet<KeyId>,
}

impl Mender<'_, '_> {
    /// Walks the audit trail. Its chain cannot be mended: what is broken is said to be.
    pub(super) fn trail(&mut self) -> Result<Trail, Error> {
        let mut trail = Trail::default();
        let mut acknowledged = BTreeSet::new();
        let mut outside = Vec::new();
        let state = &self.tx.state;
        let (last, hash) = (state.audit_seq, state.audit_hash);
        let mut links = Links::new(state);
        self.kept(&mut trail)?;
        for entry in self.tx.audit.iter().or_store()? {
            let (seq, bytes) = entry.or_store()?;
            let (seq, bytes) = (seq.value(), bytes.value());
            if !links.is_due(seq) {
                outside.push(seq);
                continue;
            }
            trail
                .broken
                .extend(links.missing_before(seq).map(|(seq, _)| seq));
            let Ok(entry) = links.read(self.tx.ring, seq, bytes) else {
                trail.broken.insert(seq);
                continue;
            };
            if let AuditEvent::AuditBroken { entries } = &entry.event {
                acknowledged.extend(entries.iter().copied());
            }
            self.follow(&mut trail, entry)?;
        }
        trail
            .broken
            .extend(links.missing_before(u64::MAX).map(|(seq, _)| seq));
        for seq in outside {
            self.tx.writing();
            self.tx.audit.remove(seq).or_store()?;
            self.note("audit", seq, "it is outside of the trail: removed");
        }
        if !links.last().is_some_and(|last| digests_equal(&last, &hash)) {
            // The next entry is to follow on what the store says was the last.
            self.tx.writing();
            let link = [&[0][..], &hash[..]].concat();
            self.tx.audit.insert(last, link.as_slice()).or_store()?;
            trail.broken.insert(last);
        }
        let fresh: Vec<u64> = trail.broken.difference(&acknowledged).copied().collect();
        for entries in fresh.chunks(POSITIONS_PER_ENTRY) {
            let event = AuditEvent::AuditBroken {
                entries: entries.to_vec(),
            };
            self.tx.audit(self.actor, event)?;
        }
        for seq in fresh {
            let why = "it cannot be read: marked as broken";
            self.done.push(repair_of("audit", &seq.to_string(), why));
        }
        Ok(trail)
    }

    /// Notes what an entry says of keys and owners.
    fn follow(&self, trail: &mut Trail, entry: AuditEntry) -> Result<(), Error> {
        let told_at = entry.event.told_at(entry.seq);
        for id in entry.event.keys() {
            let key = self.tx.readable(id)?;
            if key.is_some_and(|key| key.revision < told_at) {
                trail.stale.insert(id);
            }
        }
        trail.take(entry);
        Ok(())
    }

    /// Goes through the entries that were trimmed away and kept. One that cannot be read
    /// becomes one that names its keys and no more: that they are revoked, and why, their
    /// own records say.
    fn kept(&mut self, trail: &mut Trail) -> Result<(), Error> {
        let floor = self.tx.state.audit_floor_seq;
        let mut pointed: BTreeMap<u64, Vec<KeyId>> = BTreeMap::new();
        self.tx.each_key(|key| {
            if key.revision <= floor && matches!(key.phase, Phase::Revoked { .. }) {
                pointed.entry(key.revision).or_default().push(key.id);
            }
            Ok(())
        })?;
        let mut table = self.tx.open_table(KEPT)?;
        let mut wrong = Vec::new();
        for entry in table.iter().or_store()? {
            let seq = entry.or_store()?.0.value();
            let read = Error::or_damaged(read::kept(&table, self.tx.ring, seq))?;
            match read {
                Ok(entry) if seq <= floor => {
                    pointed.remove(&seq);
                    self.follow(trail, entry)?;
                }
                _ => wrong.push(seq),
            }
        }
        for seq in wrong {
            table.remove(seq).or_store()?;
            self.note(
                "kept",
                seq,
                "it cannot be read, or was not trimmed away: removed",
            );
        }
        for (seq, keys) in pointed {
            let body = AuditBody {
                at: self.tx.now,
                actor: None,
                event: AuditEvent::StoreRepaired {
                    keys: keys.into_iter().take(NAMED_MAX).collect(),
                    repairs: Vec::new(),
                },
            };
            let key = seq.to_le_bytes();
            let bytes = tables::seal(self.tx.ring, Tagged::Kept, &key, &body)?;
            table.insert(seq, bytes.as_slice()).or_store()?;
            self.note(
                "kept",
                seq,
                "it was missing: made again, without what it said",
            );
        }
        Ok(())
    }
}

impl Trail {
    fn take(&mut self, entry: AuditEntry) {
        self.settings.follow(&entry);
        let AuditEntry { seq, at, actor, .. } = entry;
        match entry.event {
            AuditEvent::KeysRevokedUnnamed { scope, .. } => match scope {
                Scope::Owner(owner) => drop(self.revoked_owner.insert(owner, (seq, at))),
                Scope::Keyspace(prefix) => drop(self.revoked_keyspace.insert(prefix, (seq, at))),
            },
            AuditEvent::OwnerSuspended { owner, note, .. } => {
                let record = OwnerRecord {
                    suspended_at: at,
                    suspended_by: actor,
                    note,
                };
                self.reached_owner.insert(owner.clone(), seq);
                self.suspensions.insert(owner, (seq, Some(record)));
            }
            AuditEvent::OwnerResumed { owner, .. } => {
                self.reached_owner.insert(owner.clone(), seq);
                self.suspensions.insert(owner, (seq, None));
            }
            _ => {}
        }
    }
}
