//! Listing keys, page by page.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::error::Corruption;
use crate::model::id::Prefix;
use crate::model::key::{Key, KeyState};
use crate::model::owner::OwnerPath;
use crate::model::parse::ParseError;

/// Selects keys to list. A key must match every condition.
///
/// The order is by age, the oldest first; keys issued in the same millisecond are in no
/// order. With an owner, the order is by owner, keyspace and age; with an expiry, by
/// expiry. [`newest_first`](Self::newest_first) turns it around.
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
    pub(crate) name_part: Option<String>,
    pub(crate) expires_within: Option<Duration>,
    pub(crate) looked_at_max: Option<usize>,
    pub(crate) newest_first: bool,
}

impl KeyFilter {
    /// All keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keys of a keyspace.
    #[must_use]
    pub fn keyspace(mut self, prefix: Prefix) -> Self {
        self.keyspace = Some(prefix);
        self
    }

    /// Keys of exactly this owner.
    #[must_use]
    pub fn owner(mut self, owner: OwnerPath) -> Self {
        self.owner = Some((owner, false));
        self
    }

    /// Keys of this owner and of all owners below it.
    #[must_use]
    pub fn owner_and_below(mut self, owner: OwnerPath) -> Self {
        self.owner = Some((owner, true));
        self
    }

    /// Keys in a state, at the instant of the answer. Each key is in one: the first of
    /// [`KeyState`] that is true of it. So a disabled key that has expired is
    /// [`Disabled`](KeyState::Disabled) here; [`expired`](Self::expired) finds it.
    #[must_use]
    pub fn state(mut self, state: KeyState) -> Self {
        self.state = Some(state);
        self
    }

    /// Keys that are past their expiry, whether or not they are suspended or disabled;
    /// with `false`, all others. A revoked key does not count as expired.
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

    /// Keys that are disabled, whether or not they are suspended or expired; with
    /// `false`, all others. A revoked key does not count as disabled.
    #[must_use]
    pub fn disabled(mut self, disabled: bool) -> Self {
        self.disabled = Some(disabled);
        self
    }

    /// Keys whose owner is suspended, whether or not they are disabled or expired; with
    /// `false`, all others. A revoked key does not count as suspended.
    #[must_use]
    pub fn suspended(mut self, suspended: bool) -> Self {
        self.suspended = Some(suspended);
        self
    }

    /// Keys that need the pepper with an id: see
    /// [`Engine::peppers`](crate::Engine::peppers). Revoked keys need none.
    #[must_use]
    pub fn pepper(mut self, id: u8) -> Self {
        self.pepper = Some(id);
        self
    }

    /// Keys with a label, whatever its value.
    ///
    /// ```
    /// # use gatekey::{Engine, KeyFilter, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// engine.issue(NewKey::new("acme_live", "acme")?.label("env", "prod"))?;
    /// engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// assert_eq!(engine.keys(KeyFilter::new().has_label("env")).count(), 1);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn has_label(mut self, name: impl Into<String>) -> Self {
        self.labels.push((name.into(), None));
        self
    }

    /// Keys with a label of this value.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), Some(value.into())));
        self
    }

    /// Keys whose name has this text in it, in letters of either case.
    ///
    /// There is no index of names: see [`looking_at_most`](Self::looking_at_most).
    ///
    /// ```
    /// # use gatekey::{Engine, KeyFilter, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// engine.issue(NewKey::new("acme_live", "acme")?.name("Deploy robot"))?;
    /// engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// assert_eq!(engine.keys(KeyFilter::new().name_contains("robot")).count(), 1);
    /// assert_eq!(engine.keys(KeyFilter::new().name_contains("deploy R")).count(), 1);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn name_contains(mut self, part: impl AsRef<str>) -> Self {
        self.name_part = Some(part.as_ref().to_lowercase());
        self
    }

    /// Keys that expire, or whose grace ends, within `time`.
    #[must_use]
    pub fn expires_within(mut self, time: Duration) -> Self {
        self.expires_within = Some(time);
        self
    }

    /// Ends a page after so many keys were looked at, at least one, whether they match or
    /// not: such a page may have few keys or none, and a
    /// [`next`](crate::KeyPage::next). Without this, a page whose filter few keys match
    /// takes as long as a look at all.
    ///
    /// ```
    /// # use gatekey::{Engine, KeyFilter, KeyState, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// for _ in 0..3 {
    ///     engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// }
    /// let disabled = KeyFilter::new().state(KeyState::Disabled).looking_at_most(2);
    /// let page = engine.keys_page(&disabled, None, 100)?;
    /// assert!(page.keys.is_empty() && page.next.is_some());
    /// let last = engine.keys_page(&disabled, page.next.as_ref(), 100)?;
    /// assert!(last.keys.is_empty() && last.next.is_none());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn looking_at_most(mut self, keys: usize) -> Self {
        self.looked_at_max = Some(keys);
        self
    }

    /// Lists from the end of the order: the newest keys first. With an owner, the last owner
    /// comes first; with an expiry, the latest.
    ///
    /// ```
    /// # use gatekey::{Engine, KeyFilter, ManualClock, NewKey, NewKeyspace, Options};
    /// # let clock = ManualClock::at("2026-01-01T00:00:00Z".parse()?);
    /// # let engine = Options::new().clock(clock.clone()).open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// engine.issue(NewKey::new("acme_live", "acme")?.name("old"))?;
    /// # clock.advance(std::time::Duration::from_secs(1));
    /// engine.issue(NewKey::new("acme_live", "acme")?.name("new"))?;
    /// let page = engine.keys_page(&KeyFilter::new().newest_first(), None, 1)?;
    /// assert_eq!(page.keys[0].name.as_deref(), Some("new"));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }

    /// The index that serves this filter, and that gives the order.
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

    /// Whether a key of this name and with these labels matches, as far as those tell.
    pub(crate) fn is_called(&self, name: Option<&str>, labels: &BTreeMap<String, String>) -> bool {
        let is_named = |part: &String| name.is_some_and(|name| name.to_lowercase().contains(part));
        self.name_part.as_ref().is_none_or(is_named)
            && self.labels.iter().all(|(name, value)| {
                labels
                    .get(name)
                    .is_some_and(|held| value.as_ref().is_none_or(|value| value == held))
            })
    }

    /// Whether a key from the index matches, given its state and what it is called.
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
    /// Not of keys: the owners that are suspended.
    Suspended,
}

impl Order {
    fn letter(self) -> char {
        match self {
            Self::Id => 'i',
            Self::Keyspace => 'k',
            Self::Owner => 'o',
            Self::End => 'e',
            Self::Settings => 's',
            Self::Suspended => 'u',
        }
    }
}

/// Where a page ended. As text it can travel to a client and back; it says no
/// more than the key, or the owner, that the page ended with.
///
/// A listing that continues from a cursor neither repeats nor skips a key that existed
/// throughout, whatever is issued, revoked or purged meanwhile. In a listing by expiry,
/// a key moves when its expiry is changed.
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
            Some('u') => Order::Suspended,
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

/// The error for a cursor that does not fit. It does not show the cursor, which may
/// contain anything.
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
    /// Records that could not be read, so that the filter cannot be applied to them.
    /// They grant nothing; [`Engine::repair`](crate::Engine::repair) removes or
    /// rebuilds them.
    pub damaged: Vec<Corruption>,
    /// Where the next page begins; `None` if this is the last.
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
