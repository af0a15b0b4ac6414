//! The audit trail: its chain, its index, and what it says of the records.

use std::collections::BTreeSet;

use redb::{ReadableTable, ReadableTableMetadata};

use super::{AT_ONCE, Walk};
use crate::model::audit::{AuditEntry, AuditEvent, Scope};
use crate::model::error::Error;
use crate::store::failure::OrStore;
use crate::store::pipe::in_turns;
use crate::store::read;
use crate::store::tables::{AUDIT, KEPT};

/// What stands at a position of the trail.
enum Linked {
    Outside(u64),
    /// Entries that are missing before it, and the entry itself, or what is wrong with it.
    Due {
        missing: Vec<(u64, String)>,
        seq: u64,
        entry: Result<AuditEntry, String>,
    },
}

impl Walk<'_> {
    pub(super) fn audit(&mut self) -> Result<(), Error> {
        let snapshot = self.snapshot;
        let table = snapshot.table(AUDIT)?;
        self.kept()?;
        let mut acknowledged = BTreeSet::new();
        let mut links = read::Links::new(&self.state);
        let mut rows = table.iter().or_store()?;
        // Another thread follows the links.
        let next = || {
            let mut some = Vec::new();
            while some.len() < AT_ONCE
                && let Some(row) = rows.next()
            {
                let (seq, bytes) = row.or_store()?;
                let (seq, bytes) = (seq.value(), bytes.value());
                some.push(match links.is_due(seq) {
                    true => Linked::Due {
                        missing: links.missing_before(seq).collect(),
                        seq,
                        entry: links.read(snapshot.ring(), seq, bytes),
                    },
                    false => Linked::Outside(seq),
                });
            }
            Ok((!some.is_empty()).then_some(some))
        };
        in_turns([next], table.len().or_store()? > AT_ONCE as u64, |some| {
            let looked_at = some.len();
            some.into_iter()
                .try_for_each(|linked| self.linked(linked, &mut acknowledged))?;
            self.advance(looked_at)
        })?;
        self.broken.extend(links.missing_before(u64::MAX));
        // The rows of an unreadable entry are not known.
        let damage = self.rows.damage();
        let is_known = damage.is_none();
        if let Some(damage) = damage {
            self.find(damage.table, damage.record, damage.why);
        }
        match self.rows.surplus()? {
            rows if is_known && rows > 0 && self.broken.is_empty() => {
                self.find("by_key", "*", format!("{rows} rows are of no entry"));
            }
            _ => {}
        }
        if links.last() != Some(self.state.audit_hash) {
            self.find(
                "audit",
                self.state.audit_seq,
                "the trail does not end where the store says",
            );
        }
        for (seq, why) in self.broken.clone() {
            if !acknowledged.contains(&seq) {
                self.find("audit", seq, why);
            }
        }
        Ok(())
    }

    fn linked(&mut self, linked: Linked, acknowledged: &mut BTreeSet<u64>) -> Result<(), Error> {
        let (missing, seq, entry) = match linked {
            Linked::Outside(seq) => {
                self.find("audit", seq, "it is outside of the trail");
                return Ok(());
            }
            Linked::Due {
                missing,
                seq,
                entry,
            } => (missing, seq, entry),
        };
        self.broken.extend(missing);
        let entry = match entry {
            Ok(entry) => entry,
            Err(why) => {
                self.broken.insert(seq, why);
                return Ok(());
            }
        };
        self.report.audit_entries += 1;
        if let AuditEvent::AuditBroken { entries } = &entry.event {
            acknowledged.extend(entries.iter().copied());
        }
        self.follow(&entry);
        if !self.rows.has(&entry)? {
            let problem = "an entry of the trail has not all of its rows";
            self.find("by_key", seq, problem);
        }
        Ok(())
    }

    /// Follows the entries that a trim kept: they record revocations, as those of the
    /// trail do.
    fn kept(&mut self) -> Result<(), Error> {
        let kept = self.snapshot.table(KEPT)?;
        for entry in kept.iter().or_store()? {
            let seq = entry.or_store()?.0.value();
            if seq > self.state.audit_floor_seq {
                self.find("kept", seq, "it was not trimmed away");
            }
            let read = read::kept(&kept, self.snapshot.ring(), seq);
            if let Some(entry) = self.sound(read)? {
                self.follow(&entry);
            }
        }
        Ok(())
    }

    /// Notes what an audit entry says of the records.
    fn follow(&mut self, entry: &AuditEntry) {
        let seq = entry.seq;
        let told_at = entry.event.told_at(seq);
        self.settings_told.follow(entry);
        match &entry.event {
            AuditEvent::KeysRevokedUnnamed { scope, .. } => match scope {
                Scope::Owner(owner) => {
                    self.revoked_owner.insert(owner.clone(), (seq, entry.at));
                }
                Scope::Keyspace(prefix) => {
                    self.revoked_keyspace.insert(*prefix, (seq, entry.at));
                }
            },
            AuditEvent::OwnerSuspended { owner, .. } | AuditEvent::OwnerResumed { owner, .. } => {
                let suspended = matches!(entry.event, AuditEvent::OwnerSuspended { .. });
                self.suspended.insert(owner.clone(), (suspended, seq));
                self.reached_owner.insert(owner.clone(), seq);
            }
            AuditEvent::KeyspaceCreated { keyspace }
            | AuditEvent::KeyspaceUpdated { keyspace, .. } => {
                self.keyspace_revisions.insert(*keyspace, seq);
            }
            _ => {}
        }
        for id in entry.event.keys() {
            // Only one that says that it is older is read whole. The walk over the keys finds
            // corrupt records.
            if let Ok(Some(revision)) = read::revision(&self.keys, id)
                && revision < told_at
                && let Ok(Some(key)) = read::key(&self.keys, self.snapshot.ring(), id)
                && key.revision < told_at
            {
                self.find(
                    "keys",
                    id,
                    format!("it is older than audit entry {told_at}"),
                );
            }
        }
    }
}
