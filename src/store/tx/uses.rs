//! Writing the uses of keys. They are no change, and leave no audit entry.

use std::sync::Arc;

use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
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

/// Uses on their way into the file. Their commit sets the flag as it takes effect, so
/// that a flush after one whose outcome was unknown counts them once.
pub(crate) struct OnTheWay {
    pub(crate) used: Vec<(KeyId, Used)>,
    pub(crate) is_written: Arc<AtomicBool>,
}

impl OnTheWay {
    pub(crate) fn new(used: Vec<(KeyId, Used)>) -> Self {
        Self {
            used,
            is_written: Arc::new(AtomicBool::new(false)),
        }
    }
}

impl Tx<'_> {
    /// Writes uses of keys, and has them told of it as this takes effect.
    pub(crate) fn add_uses(&mut self, uses: &OnTheWay) -> Result<(), Error> {
        for (id, used) in &uses.used {
            self.add_usage(*id, used.last_used, used.count)?;
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
