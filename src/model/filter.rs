//! Asking for keys, page by page.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::error::Corruption;
use crate::model::id::Prefix;
use crate::model::key::{Key, KeyState};
use crate::model::owner::OwnerPath;
use crate::model::parse::ParseError;

/// Which keys to list. All that is asked for must hold.
///
/// The order is by age, the oldest first (to the millisecond: keys issued in the
/// same one are in no order); where an owner is asked for, by owner
/// and then by keyspace and age; where an expiry is asked for, by expiry.
///
/// ```
/// use std::time::Duration;
/// use gatekey::{KeyFilter, KeyState};
///
/// let soon_over = KeyFilter::new()
///     .owner_and_below("acme".parse()?)
///     .state(KeyState::Active)
///     .expires_within(Duration::from_secs(7 * 86_400));
/// # let _ = soon_over;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct KeyFilter {
    pub(crate) keyspace: Option<Prefix>,
    pub(crate) owner: Option<(OwnerPath, bool)>,
    pub(crate) state: Option<KeyState>,
    pub(crate) expired: Option<bool>,
    pub(crate) disabled: Option<bool>,
    pub(crate) suspended: Option<bool>,
    pub(crate) pepper: Option<u8>,
    pub(crate) labels: Vec<(String, Option<String>)>,
    pub(crate) expires_within: Option<Duration>,
}

impl KeyFilter {
    /// All keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of a keyspace.
    #[must_use]
    pub fn keyspace(mut self, prefix: Prefix) -> Self {
        self.keyspace = Some(prefix);
        self
    }

    /// Those of exactly this owner.
    #[must_use]
    pub fn owner(mut self, owner: OwnerPath) -> Self {
        self.owner = Some((owner, false));
        self
    }

    /// Those of this owner and of all below it.
    #[must_use]
    pub fn owner_and_below(mut self, owner: OwnerPath) -> Self {
        self.owner = Some((owner, true));
        self
    }

    /// Those in a state, at the instant of the answer. Each key is in one: the first in
    /// the order of [`KeyState`] that is true of it. So a disabled key that has expired
    /// is [`Disabled`](KeyState::Disabled) here; [`expired`](Self::expired) finds it.
    #[must_use]
    pub fn state(mut self, state: KeyState) -> Self {
        self.state = Some(state);
        self
    }

    /// Those that are over by their expiry, suspended or disabled as they may be; or,
    /// with `false`, all others. What is revoked is over by that, and not expired.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use gatekey::{Engine, ManualClock, NewKey, NewKeyspace, Options};
    /// use gatekey::{KeyFilter, KeyState};
    ///
    /// # let clock = ManualClock::at("2026-01-01T00:00:00Z".parse()?);
    /// # let engine = Options::new().clock(clock.clone()).open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let day = Duration::from_secs(86_400);
    /// let issued = engine.issue(NewKey::new("acme_live", "acme")?.expires_in(day))?;
    /// engine.disable(issued.key.id)?;
    /// # clock.advance(day);
    /// // A day later:
    /// let in_state = KeyFilter::new().state(KeyState::Expired);
    /// assert_eq!(engine.keys(in_state).count(), 0);
    /// let over = KeyFilter::new().expired(true);
    /// assert_eq!(engine.keys(over).count(), 1);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn expired(mut self, expired: bool) -> Self {
        self.expired = Some(expired);
        self
    }

    /// Those that are disabled, suspended or expired as they may be; or, with `false`,
    /// all others. A revoked key is not disabled.
    #[must_use]
    pub fn disabled(mut self, disabled: bool) -> Self {
        self.disabled = Some(disabled);
        self
    }

    /// Those whose owner is suspended, disabled or expired as they may be; or, with
    /// `false`, all others. A revoked key is not suspended.
    #[must_use]
    pub fn suspended(mut self, suspended: bool) -> Self {
        self.suspended = Some(suspended);
        self
    }

    /// Those that need the pepper of an id: see [`Engine::peppers`](crate::Engine::peppers).
    /// Revoked keys need none.
    #[must_use]
    pub fn pepper(mut self, id: u8) -> Self {
        self.pepper = Some(id);
        self
    }

    /// Those with a label, whatever its value.
    #[must_use]
    pub fn has_label(mut self, name: impl Into<String>) -> Self {
        self.labels.push((name.into(), None));
        self
    }

    /// Those with a label of this value.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), Some(value.into())));
        self
    }

    /// Those that are good now or later, and will not be any more in this time:
    /// that expire, or whose grace ends.
    #[must_use]
    pub fn expires_within(mut self, time: Duration) -> Self {
        self.expires_within = Some(time);
        self
    }

    /// The index that serves this filter, and so the order.
    pub(crate) fn order(&self) -> Order {
        if self.owner.is_some() {
            Order::Owner
        } else if self.expires_within.is_some() {
            Order::End
        } else if self.keyspace.is_some() {
            Order::Keyspace
        } else {
            Order::Id
        }
    }

    /// Whether a key that the index gave, and whose state is asked for, is asked for.
    pub(crate) fn matches(&self, key: &Key, now: Timestamp) -> bool {
        let ends_soon = |within: Duration| {
            let end = [key.expires_at, key.retiring_until]
                .into_iter()
                .flatten()
                .min();
            !matches!(key.state, KeyState::Revoked | KeyState::Expired)
                && end.is_some_and(|end| end > now && end <= now.saturating_add(within))
        };
        self.keyspace.is_none_or(|prefix| prefix == key.keyspace)
            && self.expires_within.is_none_or(ends_soon)
            && self.labels.iter().all(|(name, value)| {
                key.labels
                    .get(name)
                    .is_some_and(|held| value.as_ref().is_none_or(|value| value == held))
            })
    }
}

/// The index that a listing walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Id,
    Keyspace,
    Owner,
    End,
    /// Not of keys: the settings of owners.
    Settings,
}

impl Order {
    fn letter(self) -> char {
        match self {
            Self::Id => 'i',
            Self::Keyspace => 'k',
            Self::Owner => 'o',
            Self::End => 'e',
            Self::Settings => 's',
        }
    }
}

/// Where a page ended. As text it can travel to a client and back; it says no
/// more than the key, or the owner, that the page ended with.
///
/// A listing that goes on from a cursor neither repeats nor skips a key that
/// existed all along, whatever is issued, revoked or purged meanwhile; listed
/// by expiry, a key whose expiry is changed meanwhile moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) order: Order,
    /// The key of the index's last entry.
    pub(crate) position: Vec<u8>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.order.letter())?;
        self.position
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(feature = "serde")]
crate::model::serialized::as_text!(Cursor, "the cursor of a page");

impl FromStr for Cursor {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const LEN_MAX: usize = 1 + 2 * (OwnerPath::LEN_MAX + 13);
        let refuse = || bad_cursor("it is not one that a page ended with");
        let mut chars = text.chars();
        let order = match chars.next() {
            Some('i') => Order::Id,
            Some('k') => Order::Keyspace,
            Some('o') => Order::Owner,
            Some('e') => Order::End,
            Some('s') => Order::Settings,
            _ => return Err(refuse()),
        };
        let (pairs, rest) = chars.as_str().as_bytes().as_chunks::<2>();
        if text.len() > LEN_MAX || !rest.is_empty() {
            return Err(refuse());
        }
        let byte = |pair: &[u8; 2]| {
            let pair = std::str::from_utf8(pair).ok()?;
            let hex = pair
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
            u8::from_str_radix(pair, 16).ok().filter(|_| hex)
        };
        let position = pairs
            .iter()
            .map(byte)
            .collect::<Option<_>>()
            .ok_or_else(refuse)?;
        Ok(Self { order, position })
    }
}

/// A cursor that does not fit. It is not shown: it may be anything.
pub(crate) fn bad_cursor(why: &str) -> ParseError {
    ParseError::hidden("cursor", "what was given", why)
}

/// A page of keys.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<Key>,
    /// What on the way could not be read: whether the filter asks for it cannot be known.
    /// It grants nothing; [`Engine::repair`](crate::Engine::repair) removes or rebuilds it.
    pub damaged: Vec<Corruption>,
    /// Where to go on; `None`: there is no more.
    pub next: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_travel_as_text() {
        let cursor = Cursor {
            order: Order::Owner,
            position: vec![0, 1, 0xfe, 0x2f],
        };
        assert_eq!(cursor.to_string(), "o0001fe2f");
        assert_eq!("o0001fe2f".parse::<Cursor>().unwrap(), cursor);
        for bad in [
            "",
            "x00",
            "o0",
            "o+1",
            "o0g",
            "oFE",
            "o\u{e9}",
            &"o00".repeat(999),
        ] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
