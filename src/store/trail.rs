//! The audit trail in the file: trims, and the entries that a trim keeps.
//!
//! A trimming removes entries from the beginning. The state holds the position and the
//! hash of the last one removed, the *floor*, so that the chain can be verified from there
//! on. An entry that a revoked key's record points at moves to a table of its own, with a
//! tag instead of a place in the chain, until a trimming after the key's purge.

use std::collections::BTreeSet;

use redb::ReadableTable;

use crate::crypto::digest::{DIGEST_LEN, Keyring};
use crate::model::audit::link::Link;
use crate::model::audit::{AuditBody, AuditEntry, AuditEvent, NAMED_MAX};
use crate::model::error::{Corruption, Error};
use crate::store::export::Lines;
use crate::store::failure::OrStore;
use crate::store::journal::Noted;
use crate::store::read;
use crate::store::record::Phase;
use crate::store::snapshot::Snapshot;
use crate::store::tables::{AUDIT, Bytes, KEPT, State, Tagged, seal};
use crate::store::tx::Tx;

/// The audit entries that the records of revoked keys point at.
pub(crate) struct Pointed {
    /// Of those that were trimmed away before.
    below: BTreeSet<u64>,
    first: u64,
    /// A bit for each position from `first` on.
    bits: Vec<u64>,
}

impl Pointed {
    fn new(floor: u64, through: u64) -> Self {
        let len = usize::try_from(through.saturating_sub(floor) / 64 + 1).unwrap_or(0);
        Self {
            below: BTreeSet::new(),
            first: floor + 1,
            bits: vec![0; len],
        }
    }

    fn place(&self, seq: u64) -> Option<(usize, u64)> {
        let at = seq.checked_sub(self.first)?;
        Some((usize::try_from(at / 64).ok()?, 1 << (at % 64)))
    }

    fn add(&mut self, seq: u64) {
        match self.place(seq) {
            None => {
                self.below.insert(seq);
            }
            Some((word, bit)) => {
                if let Some(word) = self.bits.get_mut(word) {
                    *word |= bit;
                }
            }
        }
    }

    fn holds(&self, seq: u64) -> bool {
        match self.place(seq) {
            None => self.below.contains(&seq),
            Some((word, bit)) => self.bits.get(word).is_some_and(|word| word & bit != 0),
        }
    }
}

impl Snapshot {
    /// Which entries up to a position, and of those that are trimmed already, the records of
    /// revoked keys point at. Reads every key; a revocation that comes after points at an entry
    /// that comes after.
    pub(crate) fn pointed(&self, through: u64) -> Result<Pointed, Error> {
        let floor = self.state()?.audit_floor_seq;
        // All that are kept are below the floor, and stay where nothing more is trimmed.
        let through = through.max(floor);
        let mut pointed = Pointed::new(floor, through);
        self.each_sound_record(|key| {
            if matches!(key.phase, Phase::Revoked { .. }) && key.revision <= through {
                pointed.add(key.revision);
            }
        })?;
        Ok(pointed)
    }

    /// Up to `limit` entries from a position on as lines of an export, each checked to
    /// follow on the one before it, and the last of them.
    pub(crate) fn export(
        &self,
        after: Link,
        through: u64,
        limit: u64,
    ) -> Result<(String, Link), Error> {
        let table = self.table(AUDIT)?;
        let state = self.state()?;
        read::require_above(&state, after.seq + 1)?;
        let mut marked = None;
        let mut lines = String::new();
        let mut last = after;
        for seq in after.seq + 1..=through.min(after.seq.saturating_add(limit)) {
            let stored = ReadableTable::get(&table, seq).or_store()?;
            let stored = stored.as_ref().map(redb::AccessGuard::value);
            let read = match stored {
                Some(stored) => read::decode_audit(self.ring(), &last.hash, seq, stored),
                None => Err(Error::corrupted("audit", seq, "it is missing")),
            };
            match (Error::or_damaged(read)?, stored) {
                (Ok((_, hash)), Some(stored)) => {
                    lines.push_str(&Lines::entry(seq, stored));
                    last = Link::new(seq, hash);
                }
                (Ok(_), None) => return Err(Error::Internal("an entry is and is not there")),
                (Err(damage), _) => {
                    let marked = match &mut marked {
                        Some(marked) => marked,
                        none => none.insert(marked_broken(&table, self.ring(), &state)?),
                    };
                    // What marks it must be in the export too.
                    if !marked.contains(&seq) {
                        return Err(unmarked(damage));
                    }
                    last = broken_link(seq, stored);
                    lines.push_str(&Lines::broken(last));
                }
            }
        }
        Ok((lines, last))
    }

    /// The place after which an export begins; `from` 0: the beginning of the trail.
    pub(crate) fn link_before(&self, from: u64) -> Result<Link, Error> {
        let state = self.state()?;
        let from = match from {
            0 => state.audit_floor_seq + 1,
            from => from.min(state.audit_seq + 1),
        };
        read::require_above(&state, from)?;
        let hash = read::audit_hash(&self.table(AUDIT)?, &state, from - 1)?;
        Ok(Link::new(from - 1, hash))
    }
}

/// The entries that a repair has marked as broken, by those that can be read.
pub(super) fn marked_broken(
    table: &impl ReadableTable<u64, Bytes>,
    ring: &Keyring,
    state: &State,
) -> Result<BTreeSet<u64>, Error> {
    let mut marked = BTreeSet::new();
    let mut links = read::Links::new(state);
    for entry in table.range(state.audit_floor_seq + 1..).or_store()? {
        let (seq, bytes) = entry.or_store()?;
        if !links.is_due(seq.value()) {
            continue;
        }
        links.missing_before(seq.value()).for_each(drop);
        let read = links.read(ring, seq.value(), bytes.value());
        if let Ok(AuditEntry {
            event: AuditEvent::AuditBroken { entries },
            ..
        }) = read
        {
            marked.extend(entries);
        }
    }
    Ok(marked)
}

/// The place of an entry that cannot be read: what follows on it follows on the hash that
/// stands there. Where none stands there, what follows cannot be read either.
fn broken_link(seq: u64, stored: Option<&[u8]>) -> Link {
    let hash = stored.and_then(|stored| stored.last_chunk::<DIGEST_LEN>());
    Link::new(seq, hash.copied().unwrap_or_default())
}

/// The error for an entry that is broken, and that nothing marks so.
fn unmarked(damage: Corruption) -> Error {
    let why = format!(
        "{}; Engine::repair marks it, and then it can be passed",
        damage.why
    );
    Error::Corrupted(Corruption { why, ..damage })
}

impl<'t> Tx<'t> {
    pub(crate) fn floor(&self) -> Link {
        self.state.floor()
    }

    /// Trims up to `limit` entries, through a position, and says how many of them are
    /// kept.
    pub(crate) fn trim(
        &mut self,
        through: u64,
        limit: u64,
        pointed: &Pointed,
    ) -> Result<u64, Error> {
        let mut floor = self.state.floor();
        let through = through.min(self.state.audit_seq);
        let last = through.min(floor.seq.saturating_add(limit));
        if last <= floor.seq {
            return Ok(0);
        }
        self.writing();
        let mut table = self.open_kept()?;
        let mut by_key = self.open_by_key()?;
        let mut count = 0;
        let mut marked = None;
        for seq in floor.seq + 1..=last {
            let stored = self.audit.get(seq).or_store()?;
            let stored = stored.map(|stored| stored.value().to_vec());
            let read = match &stored {
                Some(stored) => read::decode_audit(self.ring, &floor.hash, seq, stored),
                None => Err(Error::corrupted("audit", seq, "it is missing")),
            };
            let body = match Error::or_damaged(read)? {
                Ok((entry, hash)) => {
                    floor = Link::new(seq, hash);
                    Self::forget_rows(&mut by_key, &entry)?;
                    AuditBody::from(entry)
                }
                Err(damage) => {
                    let marked = match &mut marked {
                        Some(marked) => marked,
                        none => none.insert(marked_broken(&self.audit, self.ring, &self.state)?),
                    };
                    if !marked.contains(&seq) {
                        return Err(unmarked(damage));
                    }
                    floor = broken_link(seq, stored.as_deref());
                    self.unreadable_body(seq)?
                }
            };
            self.audit.remove(seq).or_store()?;
            if pointed.holds(seq) {
                let key = seq.to_le_bytes();
                let bytes = seal(self.ring, Tagged::Kept, &key, &body)?;
                table.insert(seq, bytes.as_slice()).or_store()?;
                count += 1;
            }
        }
        self.state.audit_floor_seq = floor.seq;
        self.state.audit_floor_hash = floor.hash;
        Ok(count)
    }

    /// What is kept of an entry that cannot be read: the keys that point at it.
    fn unreadable_body(&self, seq: u64) -> Result<AuditBody, Error> {
        let keys = self.revoked_at(seq)?;
        Ok(AuditBody {
            at: self.now(),
            actor: None,
            event: AuditEvent::StoreRepaired {
                keys: keys.into_iter().take(NAMED_MAX).collect(),
                repairs: Vec::new(),
            },
        })
    }

    /// Removes up to `limit` kept entries at which no key's record points any more, and
    /// says how many.
    pub(crate) fn drop_kept(&mut self, limit: u64, pointed: &Pointed) -> Result<u64, Error> {
        let mut table = self.open_kept()?;
        let mut stale = Vec::new();
        // Those that a trimming has moved since are pointed at.
        for entry in table.range(..pointed.first).or_store()? {
            let seq = entry.or_store()?.0.value();
            if !pointed.below.contains(&seq) {
                stale.push(seq);
            }
            if stale.len() as u64 == limit {
                break;
            }
        }
        if !stale.is_empty() {
            self.writing();
        }
        for seq in &stale {
            table.remove(*seq).or_store()?;
        }
        Ok(stale.len() as u64)
    }

    /// The audit entry at a position, which may have been trimmed away and kept.
    pub(super) fn entry(&self, seq: u64) -> Result<AuditEntry, Error> {
        match seq > self.state.audit_floor_seq {
            true => read::audit_entry(&self.audit, self.ring, &self.state, seq),
            false => read::kept(&self.open_kept()?, self.ring, seq),
        }
    }

    fn open_kept(&self) -> Result<Noted<'t, u64, Bytes>, Error> {
        self.open_table(KEPT)
    }
}
