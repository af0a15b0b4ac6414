//! A key's state: the only place that orders the states.

use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::filter::KeyFilter;
use crate::model::key::KeyState;
use crate::model::reason::Reason;
use crate::store::record::{KeyRecord, Phase, View};

/// How near a key's end or beginning must be for the exact clock to be asked. The coarse
/// one is at most 10 ms behind it: so much more, because a machine that was held up may
/// be late to move it on.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The fields of a record that decide the key's state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) phase: Phase,
    pub(crate) suspended: u8,
    pub(crate) disabled: bool,
    pub(crate) not_before: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
}

impl From<&View<'_>> for Life {
    #[inline(always)]
    fn from(view: &View<'_>) -> Self {
        Self {
            phase: view.phase(),
            suspended: view.suspended(),
            disabled: view.disabled(),
            not_before: view.not_before(),
            expires_at: view.expires_at(),
        }
    }
}

impl From<&KeyRecord> for Life {
    fn from(record: &KeyRecord) -> Self {
        Self {
            phase: record.phase,
            suspended: record.suspended,
            disabled: record.disabled,
            not_before: record.not_before,
            expires_at: record.expires_at,
        }
    }
}

impl Life {
    /// The state at an instant: the one place that orders them.
    #[inline(always)]
    pub(crate) fn state(&self, now: Timestamp) -> KeyState {
        if self.revoked(now).is_some() {
            KeyState::Revoked
        } else if self.suspended != 0 {
            KeyState::Suspended
        } else if self.disabled {
            KeyState::Disabled
        } else if now < self.not_before {
            KeyState::NotYetValid
        } else if self.expired(now).is_some() {
            KeyState::Expired
        } else if matches!(self.phase, Phase::Retiring { .. }) {
            KeyState::Retiring
        } else {
            KeyState::Active
        }
    }

    /// Since when and why the key is revoked; a grace that is over counts.
    pub(crate) fn revoked(&self, now: Timestamp) -> Option<(Timestamp, Reason)> {
        match self.phase {
            Phase::Revoked { at, reason } => Some((at, reason)),
            Phase::Retiring { until } if now >= until => Some((until, Reason::Superseded)),
            Phase::Retiring { .. } | Phase::Current => None,
        }
    }

    /// Since when the key is expired. A key is good while `now < expires_at`.
    pub(crate) fn expired(&self, now: Timestamp) -> Option<Timestamp> {
        self.expires_at.filter(|expires_at| now >= *expires_at)
    }

    /// Whether time alone changes the state at some instant.
    pub(crate) fn turns(&self) -> bool {
        self.expires_at.is_some()
            || self.not_before > Timestamp::MIN
            || matches!(self.phase, Phase::Retiring { .. })
    }

    /// Whether the state may change within [`SOON`] from an instant on: if not, it is the
    /// same at that instant and at one shortly after.
    #[inline(always)]
    pub(crate) fn turns_soon(&self, from: Timestamp) -> bool {
        let is_soon = |at: Timestamp| from < at && at <= from.saturating_add(SOON);
        is_soon(self.not_before)
            | self.expires_at.is_some_and(is_soon)
            | matches!(self.phase, Phase::Retiring { until } if is_soon(until))
    }

    /// Whether the key is over by its expiry, suspended or disabled as it may be; what
    /// is revoked is over by that.
    pub(crate) fn is_over_by_expiry(&self, now: Timestamp) -> bool {
        self.expired(now).is_some() && self.revoked(now).is_none()
    }

    /// Whether the key is suspended, whatever else it is but revoked.
    pub(crate) fn is_suspended(&self, now: Timestamp) -> bool {
        self.suspended != 0 && self.revoked(now).is_none()
    }

    /// Whether the key is disabled, whatever else it is but revoked.
    pub(crate) fn is_disabled(&self, now: Timestamp) -> bool {
        self.disabled && self.revoked(now).is_none()
    }

    /// Whether the key is over for good: nothing revives it.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.revoked(now).is_some() || self.expired(now).is_some()
    }
}

/// Whether a filter may ask for a key, by what its hot record says.
pub(crate) fn is_asked_for(filter: &KeyFilter, record: &KeyRecord, now: Timestamp) -> bool {
    let life = Life::from(record);
    let needs = |id| record.pepper == id && !matches!(record.phase, Phase::Revoked { .. });
    let agrees = |asked: Option<bool>, is| asked.is_none_or(|asked| asked == is);
    filter.state.is_none_or(|state| state == life.state(now))
        && filter.pepper.is_none_or(needs)
        && agrees(filter.expired, life.is_over_by_expiry(now))
        && agrees(filter.disabled, life.is_disabled(now))
        && agrees(filter.suspended, life.is_suspended(now))
}
