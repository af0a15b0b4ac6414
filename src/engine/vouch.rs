//! The way of a verification for a key that another proof than its token stands for.

use crate::engine::prove::Proven;
use crate::engine::shared::Core;
use crate::engine::verify::{ROUNDS_MAX, never_settled};
use crate::memory::lagging::is_behind;
use crate::memory::resident::packed::{COPIED_LEN, RECORD_LEN_MAX};
use crate::memory::resident::{Copying, Resident};
use crate::memory::tally::Way;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::outcome::Outcome;
use crate::model::permissions::Permissions;
use crate::model::requirements::Requirements;
use crate::model::verdict::{Denial, Verdict};
use crate::store::hot::HotCopy;
use crate::store::life::SOON;
use crate::store::record::View;

impl Core {
    /// Whether an instant has come. The exact clock is asked only where it is near.
    #[inline]
    pub(crate) fn has_come(&self, instant: Timestamp) -> bool {
        let shortly_before = self.time.coarse(&*self.clock).present.at;
        shortly_before >= instant
            || (shortly_before.saturating_add(SOON) >= instant && self.now() >= instant)
    }

    /// Decides on a key and charges it, as if its token had been presented, and as if it had
    /// of its permissions those that are in `within`. A key that is unknown is denied.
    pub(crate) fn vouch(
        &self,
        key: KeyId,
        within: Permissions,
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        let decide = || {
            let known_at = self.require_health()?;
            let mut verdict =
                self.on_credit(key, requirements, |left| self.vouch_for(key, within, left));
            self.note_age(&mut verdict, known_at);
            verdict
        };
        decide().map_err(|error| self.noted(error))
    }

    /// Decides on a key by what others have not charged the request yet, and tells them of a
    /// grant.
    pub(super) fn on_credit(
        &self,
        key: KeyId,
        requirements: &Requirements<'_>,
        decide: impl FnOnce(&Requirements<'_>) -> Result<Verdict, Error>,
    ) -> Result<Verdict, Error> {
        let verdict = decide(&requirements.beyond_paid(self.identity(), key))?;
        if verdict.is_granted() {
            requirements.note_granted(self.identity(), key);
        }
        Ok(verdict)
    }

    fn vouch_for(
        &self,
        key: KeyId,
        within: Permissions,
        requirements: &Requirements<'_>,
    ) -> Result<Verdict, Error> {
        if let Some(resident) = &self.resident
            && let Some(verdict) = self.vouch_in_memory(resident, key, within, requirements)?
        {
            return Ok(verdict);
        }
        self.look_home()?;
        let mut copy = HotCopy::new();
        for _ in 0..ROUNDS_MAX {
            let leave = self.copy_from_file(key, &mut copy)?;
            let Some(view) = copy.view() else {
                self.notes.count_unattributed(Outcome::Unknown);
                return Ok(Verdict::Denied(Denial::Unknown));
            };
            let entry = self.entry_of(&view)?;
            // The caller has proven that the key is in use.
            if let (Some(resident), Some(leave)) = (&self.resident, leave) {
                resident.fill(leave, key, copy.body(), None);
            }
            let proven = Proven::new(view, entry, within);
            if let Some(verdict) = self.conclude(&proven, None, requirements, Way::File)? {
                return Ok(verdict);
            }
        }
        Err(never_settled())
    }

    #[inline(always)]
    fn vouch_in_memory(
        &self,
        resident: &Resident,
        key: KeyId,
        within: Permissions,
        requirements: &Requirements<'_>,
    ) -> Result<Option<Verdict>, Error> {
        let heeded = self.heeded();
        let Some(at) = resident.find(key) else {
            return Ok(None);
        };
        let mut copy = [0; COPIED_LEN];
        match resident.copy(at, key, &mut copy) {
            Copying::Done if is_behind(heeded.as_ref(), &copy) => Ok(None),
            Copying::Done => self.vouch_by(View::parse(&copy), within, requirements),
            Copying::Long => self.vouch_by_long(key, within, requirements),
            Copying::Missed => Ok(None),
        }
    }

    #[cold]
    fn vouch_by_long(
        &self,
        key: KeyId,
        within: Permissions,
        requirements: &Requirements<'_>,
    ) -> Result<Option<Verdict>, Error> {
        let mut copy = [0; RECORD_LEN_MAX];
        self.vouch_by(self.copy_long(key, &mut copy), within, requirements)
    }

    /// Vouches by a record that was copied out of memory.
    #[inline(always)]
    fn vouch_by(
        &self,
        view: Option<View<'_>>,
        within: Permissions,
        requirements: &Requirements<'_>,
    ) -> Result<Option<Verdict>, Error> {
        let Some(view) = view else {
            return Ok(None);
        };
        let entry = self.entry_of(&view)?;
        let proven = Proven::new(view, entry, within);
        self.conclude(&proven, None, requirements, Way::Memory)
    }
}
