//! Writing the uses of keys. They are no change, and leave no audit entry.

use std::sync::Arc;

use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::outcome::Outcome;
use crate::store::failure::OrStore;
use crate::store::read::{self, UsageRecord};
use crate::store::tables::{self, Tagged};

use super::Tx;
use crate::sync::atomic::AtomicBool;

/// The use of a key since the last flush.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    pub(crate) last_used: Timestamp,
    pub(crate) count: u64,
}

/// An hour since the epoch: the finest that the usage history tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hour(pub(crate) u32);

const HOUR_MS: u64 = 3_600_000;

impl Hour {
    /// The one that an instant lies in.
    pub(crate) fn of(instant: Timestamp) -> Self {
        Self(u32::try_from(instant.unix_ms() / HOUR_MS).unwrap_or(u32::MAX))
    }

    pub(crate) fn begins_at(self) -> Timestamp {
        Timestamp::from_raw(u64::from(self.0) * HOUR_MS)
    }

    /// The day since the epoch.
    pub(crate) fn day(self) -> u32 {
        self.0 / 24
    }
}

/// What verifications of a key came to, or of what belongs to none.
#[derive(Clone, Copy)]
pub(crate) struct Note {
    pub(crate) key: Option<KeyId>,
    pub(crate) outcome: Outcome,
    pub(crate) used: Used,
}

/// Uses on their way into the file. Their commit sets the flag as it takes effect, so
/// that a flush after one whose outcome was unknown counts them once.
pub(crate) struct OnTheWay {
    pub(crate) notes: Vec<Note>,
    pub(crate) is_written: Arc<AtomicBool>,
}

impl OnTheWay {
    pub(crate) fn new(notes: Vec<Note>) -> Self {
        Self {
            notes,
            is_written: Arc::new(AtomicBool::new(false)),
        }
    }
}

impl Tx<'_> {
    /// Writes uses of keys, and has them told of it as this takes effect.
    pub(crate) fn add_uses(
        &mut self,
        uses: &OnTheWay,
        history_bytes_max: u64,
    ) -> Result<(), Error> {
        for note in &uses.notes {
            if let (Some(id), Outcome::Granted) = (note.key, note.outcome) {
                self.add_usage(id, note.used.last_used, note.used.count)?;
            }
        }
        if history_bytes_max > 0 {
            self.add_history(&uses.notes, history_bytes_max)?;
        }
        self.delta.waiting.flushes.push(uses.is_written.clone());
        Ok(())
    }

    /// Adds to a key's usage; a key that is gone has none.
    pub(crate) fn add_usage(
        &mut self,
        id: KeyId,
        last_used: Timestamp,
        count: u64,
    ) -> Result<(), Error> {
        if !self.id_is_taken(id)? {
            return Ok(());
        }
        self.writing();
        let last_used = last_used.min(self.now);
        // One that is damaged begins anew: it must not keep the others from
        // being written.
        let mut usage = match read::usage(&self.usage, self.ring, id) {
            Err(Error::Corrupted(_)) => UsageRecord::default(),
            usage => usage?,
        };
        // An instant that is yet to come is from before time was set back.
        let before = usage.last_used.filter(|before| *before <= self.now);
        usage.last_used = before.max(Some(last_used));
        usage.count = usage.count.saturating_add(count);
        let bytes = tables::seal(self.ring, Tagged::Usage, &id.raw().to_le_bytes(), &usage)?;
        self.usage.insert(id.raw(), bytes.as_slice()).or_store()?;
        Ok(())
    }
}
