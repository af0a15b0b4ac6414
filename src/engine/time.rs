//! The calls about time and the clock.

use crate::change;
use crate::change::time::TimeSetBack;
use crate::engine::handle::Engine;
use crate::model::clock::Timestamp;
use crate::model::error::Result;
use crate::model::key::Key;
use crate::model::time::ClockStatus;

/// Whether a key's fields say that time has ended it, whatever its state is.
pub(super) fn is_over(key: &Key, now: Timestamp) -> bool {
    let ends = [key.expires_at, key.retiring_until];
    ends.into_iter().flatten().any(|end| now >= end)
}

/// # Time
impl Engine {
    /// Reports what the engine knows of its clock: whether it has leapt, and how far it
    /// lags behind the engine's present.
    ///
    /// A leap is a difference of more than
    /// [`Options::clock_leap`](crate::Options::clock_leap) between how far the clock
    /// has moved and how far a clock has moved that cannot be set
    /// ([`Clock::steady`](crate::Clock::steady)). The engine compares the two at each
    /// commit and flush, and in this call. It refuses nothing after a leap: a machine
    /// that was paused leaps correctly, and keys that expired meanwhile must not be
    /// granted.
    ///
    /// # Errors
    /// See [`Engine`].
    ///
    /// ```
    /// # let engine = gatekey::Engine::open_in_memory()?;
    /// let status = engine.clock_status()?;
    /// if status.is_suspect() {
    ///     eprintln!("look at the clock: {status:?}");
    /// }
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn clock_status(&self) -> Result<ClockStatus> {
        self.core.clock_status()
    }

    /// Sets the engine's present back, after its clock was ahead and the store has
    /// taken a wrong instant. One transaction, with audit entries.
    ///
    /// `to` is the present, from a source that you trust. Time continues from `to`, or
    /// from the clock if that is later: so a clock that lags cannot revive more keys
    /// than you ask for.
    ///
    /// | what the wrong time did | after the call |
    /// |---|---|
    /// | a key expired, or its grace ended | it is good again; in a single-active keyspace it is revoked instead where its owner has a newer one |
    /// | a key was issued, rotated or given an expiry | what was left of its life, or of its grace, then, is left of it from now on |
    /// | a quota was refilled | what is left stays; the next refill comes when it would |
    /// | requests were counted for limits | all windows begin anew |
    /// | a key was revoked, also by a newer one | it stays revoked |
    /// | a key was purged | it is gone |
    ///
    /// The engine finds those keys in the audit trail. Keys whose entries were trimmed
    /// since keep the end that the wrong time gave them. An expiry that a caller gave
    /// as an instant while time was wrong moves earlier by the same amount: set it
    /// again. An owner may hold more keys than its cap afterwards.
    ///
    /// O(keys that had ended in between + audit entries since + quotas).
    ///
    /// # Errors
    /// [`Conflict::TimeNotAhead`](crate::Conflict::TimeNotAhead) where the engine's
    /// present is not ahead of `to` and of the clock.
    ///
    /// ```
    /// use std::time::Duration;
    /// use gatekey::{ManualClock, NewKey, NewKeyspace, Options};
    ///
    /// let clock = ManualClock::at("2026-01-01T00:00:00Z".parse()?);
    /// let engine = Options::new().clock(clock.clone()).open_in_memory()?;
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let day = Duration::from_secs(86_400);
    /// let issued = engine.issue(NewKey::new("acme_live", "acme")?.expires_in(day))?;
    ///
    /// clock.set("2099-01-01T00:00:00Z".parse()?);
    /// assert!(!engine.verify(issued.token.expose())?.is_granted());
    /// clock.set("2026-01-01T00:01:00Z".parse()?);
    /// assert!(!engine.verify(issued.token.expose())?.is_granted());
    ///
    /// let set_back = engine.acting_as("ops")?.set_time_back("2026-01-01T00:01:00Z".parse()?)?;
    /// assert_eq!(set_back.revived, 1);
    /// assert!(engine.verify(issued.token.expose())?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn set_time_back(&self, to: Timestamp) -> Result<TimeSetBack> {
        self.core.can_be_set_back()?;
        let to = to.max(self.core.clock_now());
        self.change(move |tx, actor| change::time::set_back(tx, to, actor))
    }
}
