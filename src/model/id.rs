//! The names of keys, keyspaces and actors.

use std::fmt;
use std::str::FromStr;

use crate::model::base62::{self, from_base62};
use crate::model::parse::ParseError;

/// The public name of a key: 10 base62 characters, which also stand in its token.
///
/// Its high bits are the millisecond of issue and its low bits are random. So ids sort
/// by age, and an id reveals when its key was issued. An id is not a secret.
///
/// ```
/// use gatekey::KeyId;
///
/// let id: KeyId = "1lRk2Pq9Zx".parse()?;
/// assert_eq!(id.to_string(), "1lRk2Pq9Zx");
/// assert!("7Hk2Pq9Zx".parse::<KeyId>().is_err());
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

impl KeyId {
    /// The length of an id as text.
    pub const LEN: usize = base62::ID_LEN;
    /// How many ids there are: 62 to the power of 10.
    const COUNT: u64 = 839_299_365_868_340_224;

    /// 2024-01-01T00:00:00Z: ids issued before are as if issued then.
    pub(crate) const FIRST_MS: u64 = 1_704_067_200_000;

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The id with this number; `None` where no text has it.
    pub(crate) const fn checked(raw: u64) -> Option<Self> {
        if raw < Self::COUNT {
            Some(Self(raw))
        } else {
            None
        }
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// The low bits of an id, which are random; above them are 41 of milliseconds.
    const RANDOM_BITS: u32 = 18;

    /// The millisecond in which the id was issued.
    pub(crate) const fn unix_ms(self) -> u64 {
        (self.0 >> Self::RANDOM_BITS).saturating_add(Self::FIRST_MS)
    }

    /// The id for a key issued at `unix_ms`, whose low bits are `random`.
    pub(crate) fn from_time(unix_ms: u64, random: u32) -> Self {
        // 41 bits of milliseconds from 2024 on last until 2093; with 18 bits of
        // randomness they stay below 62^10. After that the high bits begin
        // again at 0, and only the order suffers.
        const RANDOM_BITS: u32 = KeyId::RANDOM_BITS;
        const TIME_MASK: u64 = (1 << 41) - 1;
        const { assert!((TIME_MASK << RANDOM_BITS) < KeyId::COUNT - (1 << RANDOM_BITS)) };
        let time = unix_ms.saturating_sub(Self::FIRST_MS) & TIME_MASK;
        Self(time << RANDOM_BITS | (u64::from(random) & ((1 << RANDOM_BITS) - 1)))
    }

    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        Self::read(text.try_into().ok()?)
    }

    /// As [`parse`](Self::parse), of a text of the right length.
    #[inline]
    pub(crate) fn read(text: &[u8; Self::LEN]) -> Option<Self> {
        from_base62(text).map(Self)
    }

    pub(crate) fn text(self) -> [u8; Self::LEN] {
        base62::base62(self.0)
    }
}

/// For a column of numbers: below 62 to the power of 10, so that it is an `i64` too.
///
/// ```
/// use gatekey::KeyId;
///
/// let id: KeyId = "1lRk2Pq9Zx".parse()?;
/// assert_eq!(KeyId::try_from(u64::from(id))?, id);
/// # Ok::<(), gatekey::Error>(())
/// ```
impl From<KeyId> for u64 {
    fn from(id: KeyId) -> Self {
        id.raw()
    }
}

/// Refuses a number that no id has.
impl TryFrom<u64> for KeyId {
    type Error = ParseError;

    #[inline]
    fn try_from(number: u64) -> Result<Self, ParseError> {
        Self::checked(number).ok_or_else(|| {
            let why = "it is not below 62 to the power of 10";
            ParseError::new("key id", &number.to_string(), why)
        })
    }
}

#[cfg(feature = "serde")]
crate::model::serialized::as_text!(KeyId, "the id of a key, 10 base62 characters");

impl FromStr for KeyId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text.as_bytes())
            .ok_or_else(|| ParseError::new("key id", text, "not 10 base62 characters"))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        f.pad(std::str::from_utf8(&text).unwrap_or("?"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The name of a keyspace, with which its tokens begin: 1 to 32 of `a-z 0-9 _`.
///
/// ```
/// use gatekey::Prefix;
///
/// let prefix: Prefix = "acme_live".parse()?;
/// assert_eq!(prefix.as_str(), "acme_live");
/// assert!("acme-live".parse::<Prefix>().is_err());
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    len: u8,
    bytes: [u8; Self::LEN_MAX],
}

impl Prefix {
    /// The longest prefix, in bytes.
    pub const LEN_MAX: usize = 32;

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or("")
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    pub(crate) fn is_prefix(text: &[u8]) -> bool {
        (1..=Self::LEN_MAX).contains(&text.len())
            && text
                .iter()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    }

    /// A regular expression, in the syntax that RE2, PCRE and Rust share, that
    /// finds every token of this keyspace: for a secret scanner.
    ///
    /// The pattern needs no word boundary around a token, since the character before
    /// may be the last one of an escape (`\n`, `%3D`, a terminal's colour). So it also
    /// matches inside a longer run of letters and digits, and matches tokens of a
    /// keyspace whose prefix ends with this one. Inside the token, the separators may
    /// be escaped as Markdown (`\_`) and URLs (`%5F`) do.
    ///
    /// It does not find a token that is encoded as a whole, as in Basic, or broken over
    /// two lines. gitleaks decodes base64 by itself.
    ///
    /// ```
    /// let prefix: gatekey::Prefix = "acme".parse()?;
    /// assert_eq!(
    ///     prefix.scanner_pattern(),
    ///     r"acme(?:\\*_|%(?:25)*5[Ff])[0-9A-Za-z]{10}(?:\\*_|%(?:25)*5[Ff])[0-9A-Za-z]{49}",
    /// );
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn scanner_pattern(&self) -> String {
        const SEPARATOR: &str = r"(?:\\*_|%(?:25)*5[Ff])";
        let token = format!("{self}_[0-9A-Za-z]{{10}}_[0-9A-Za-z]{{49}}");
        token.replace('_', SEPARATOR)
    }
}

impl PartialOrd for Prefix {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Prefix {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

#[cfg(feature = "serde")]
crate::model::serialized::as_text!(Prefix, "the prefix of a keyspace");

impl FromStr for Prefix {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if !Self::is_prefix(text.as_bytes()) {
            return Err(ParseError::new(
                "prefix",
                text,
                "not 1 to 32 characters of a-z 0-9 _",
            ));
        }
        let mut bytes = [0; Self::LEN_MAX];
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        Ok(Self {
            len: u8::try_from(text.len()).unwrap_or(0),
            bytes,
        })
    }
}

impl TryFrom<&str> for Prefix {
    type Error = ParseError;

    fn try_from(text: &str) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl TryFrom<String> for Prefix {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl TryFrom<&String> for Prefix {
    type Error = ParseError;

    fn try_from(text: &String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.as_str().to_owned()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_prints_as_ten_characters_and_reads_back() {
        for raw in [0, 1, 61, 62, KeyId::COUNT - 1, 123_456_789_012_345_678] {
            let id = KeyId::from_raw(raw);
            assert_eq!(id.to_string().len(), KeyId::LEN);
            assert_eq!(id.to_string().parse::<KeyId>().unwrap(), id);
        }
    }

    #[test]
    fn an_id_says_in_which_millisecond_it_was_issued() {
        for ms in [KeyId::FIRST_MS, KeyId::FIRST_MS + 77_000_000_000] {
            assert_eq!(KeyId::from_time(ms, u32::MAX).unix_ms(), ms);
        }
    }

    #[test]
    fn ids_sort_by_the_millisecond_of_issue() {
        let now = 1_795_305_600_000;
        let earlier = KeyId::from_time(now, u32::MAX);
        let later = KeyId::from_time(now + 1, 0);
        assert!(earlier < later);
        assert!(earlier.to_string() < later.to_string());
        assert!(KeyId::from_time(u64::MAX, u32::MAX).raw() < KeyId::COUNT);
    }

    #[test]
    fn what_is_not_base62_is_no_id() {
        for text in [
            "",
            "7Hk2Pq9Zx",
            "7Hk2Pq9ZxWW",
            "7Hk2Pq9Zx-",
            "7Hk2Pq9Zx\u{e9}",
        ] {
            assert!(text.parse::<KeyId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn prefixes_outside_the_alphabet_are_refused() {
        for text in ["", "A", "a-b", "a b", "\u{430}cme", &"a".repeat(33)] {
            assert!(text.parse::<Prefix>().is_err(), "{text:?}");
        }
        assert!("a".repeat(32).parse::<Prefix>().is_ok());
    }
}
