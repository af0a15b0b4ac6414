//! What becomes of verifications, as they are counted.

use std::fmt;

use crate::model::verdict::Denial;

/// What became of a verification: granted, or a [`Denial`] by its kind alone. Counts are
/// kept by it.
///
/// ```
/// # use gatekey::Engine;
/// use gatekey::{Outcome, Verdict};
///
/// # let engine = Engine::open_in_memory()?;
/// let verdict = engine.verify("not a token")?;
/// assert_eq!(Outcome::of(&verdict), Outcome::Malformed);
/// assert_eq!(Outcome::of(&verdict).code(), "malformed");
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Granted.
    Granted,
    /// [`Denial::TooManyAttempts`].
    TooManyAttempts,
    /// [`Denial::Malformed`].
    Malformed,
    /// [`Denial::Unknown`].
    Unknown,
    /// [`Denial::Revoked`].
    Revoked,
    /// [`Denial::Suspended`].
    Suspended,
    /// [`Denial::Disabled`].
    Disabled,
    /// [`Denial::NotYetValid`].
    NotYetValid,
    /// [`Denial::Expired`].
    Expired,
    /// [`Denial::NetworkNotAllowed`].
    NetworkNotAllowed,
    /// [`Denial::PermissionMissing`].
    PermissionMissing,
    /// [`Denial::RateLimited`].
    RateLimited,
    /// [`Denial::QuotaExhausted`].
    QuotaExhausted,
}

/// How many outcomes there are.
pub(crate) const OUTCOMES: usize = Outcome::ALL.len();

impl Outcome {
    /// All that this version knows, in the order in which a verification finds them.
    pub const ALL: [Self; 13] = [
        Self::Granted,
        Self::TooManyAttempts,
        Self::Malformed,
        Self::Unknown,
        Self::Revoked,
        Self::Suspended,
        Self::Disabled,
        Self::NotYetValid,
        Self::Expired,
        Self::NetworkNotAllowed,
        Self::PermissionMissing,
        Self::RateLimited,
        Self::QuotaExhausted,
    ];

    /// That of a verdict.
    #[must_use]
    pub fn of(verdict: &crate::model::verdict::Verdict) -> Self {
        verdict.denial().map_or(Self::Granted, Self::of_denial)
    }

    pub(crate) fn of_denial(denial: &Denial) -> Self {
        match denial {
            Denial::TooManyAttempts { .. } => Self::TooManyAttempts,
            Denial::Malformed => Self::Malformed,
            Denial::Unknown => Self::Unknown,
            Denial::Revoked { .. } => Self::Revoked,
            Denial::Suspended { .. } => Self::Suspended,
            Denial::Disabled { .. } => Self::Disabled,
            Denial::NotYetValid { .. } => Self::NotYetValid,
            Denial::Expired { .. } => Self::Expired,
            Denial::NetworkNotAllowed { .. } => Self::NetworkNotAllowed,
            Denial::PermissionMissing { .. } => Self::PermissionMissing,
            Denial::RateLimited { .. } => Self::RateLimited,
            Denial::QuotaExhausted { .. } => Self::QuotaExhausted,
        }
    }

    /// A stable name: `granted`, or the [`code`](Denial::code) of the denial.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::TooManyAttempts => "too_many_attempts",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Revoked => "revoked",
            Self::Suspended => "suspended",
            Self::Disabled => "disabled",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::NetworkNotAllowed => "network_not_allowed",
            Self::PermissionMissing => "permission_missing",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
        }
    }

    /// Its number, which the file has too: none is ever another's.
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    pub(crate) fn numbered(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// The [`code`](Outcome::code).
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

/// How many verifications came to each [`Outcome`]. Serialises as an object from codes to
/// numbers, `granted` first, and of the denials those that there were.
///
/// ```
/// # use gatekey::{Engine, NewKey, NewKeyspace};
/// use gatekey::Outcome;
///
/// # let engine = Engine::open_in_memory()?;
/// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
/// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
/// engine.verify(issued.token.expose())?;
/// engine.disable(issued.key.id)?;
/// engine.verify(issued.token.expose())?;
/// let metrics = engine.metrics()?;
/// let counts = &metrics.verifications[&"acme_live".parse()?];
/// assert_eq!((counts.granted(), counts.denied(), counts.total()), (1, 1, 2));
/// assert_eq!(counts.get(Outcome::Disabled), 1);
/// assert_eq!(counts.iter().count(), Outcome::ALL.len());
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutcomeCounts([u64; OUTCOMES]);

impl OutcomeCounts {
    /// How many came to an outcome.
    #[must_use]
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0.get(outcome as usize).copied().unwrap_or(0)
    }

    /// How many were granted.
    #[must_use]
    pub fn granted(&self) -> u64 {
        self.get(Outcome::Granted)
    }

    /// How many were denied.
    #[must_use]
    pub fn denied(&self) -> u64 {
        let [_, denied @ ..] = &self.0;
        denied
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.granted().saturating_add(self.denied())
    }

    /// Each outcome with its count, also those that never came.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL.into_iter().zip(self.0)
    }

    pub(crate) fn add(&mut self, outcome: Outcome, count: u64) {
        if let Some(of) = self.0.get_mut(outcome as usize) {
            *of = of.saturating_add(count);
        }
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        other
            .iter()
            .for_each(|(outcome, count)| self.add(outcome, count));
    }

    /// Those that there were.
    pub(crate) fn some(&self) -> impl Iterator<Item = (Outcome, u64)> {
        self.iter().filter(|(_, count)| *count > 0)
    }
}

/// Adds each count.
///
/// ```
/// let mut total = gatekey::OutcomeCounts::default();
/// total += gatekey::OutcomeCounts::default();
/// assert_eq!(total.total(), 0);
/// ```
impl std::ops::AddAssign for OutcomeCounts {
    fn add_assign(&mut self, other: Self) {
        self.add_all(&other);
    }
}

impl FromIterator<(Outcome, u64)> for OutcomeCounts {
    fn from_iter<I: IntoIterator<Item = (Outcome, u64)>>(counts: I) -> Self {
        let mut all = Self::default();
        for (outcome, count) in counts {
            all.add(outcome, count);
        }
        all
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for OutcomeCounts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let denied = self.some().filter(|(of, _)| *of != Outcome::Granted);
        let all = std::iter::once((Outcome::Granted, self.granted())).chain(denied);
        serializer.collect_map(all.map(|(outcome, count)| (outcome.code(), count)))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_has_the_number_of_its_place() {
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(outcome.number()), at);
            assert_eq!(Outcome::numbered(outcome.number()), Some(outcome));
        }
        assert_eq!(Outcome::numbered(13), None);
        // Grants are what notes of uses hold as they are.
        assert_eq!(Outcome::Granted.number(), 0);
    }
}
