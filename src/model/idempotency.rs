//! Repeatable requests: the key that the caller gives to a request.

use std::fmt;
use std::str::FromStr;

use crate::model::parse::ParseError;

/// A caller's name for a request, with which the caller can repeat it: 1 to 255 visible
/// ASCII characters, as in the header `Idempotency-Key`. Make a new one of at least 16
/// random bytes for each request.
///
/// ```
/// use gatekey::IdempotencyKey;
///
/// let key: IdempotencyKey = "8e03978e-40d5-43dd-bc93-6894a57f9324".parse()?;
/// assert!("".parse::<IdempotencyKey>().is_err());
/// assert!("two words".parse::<IdempotencyKey>().is_err());
/// # let _ = key;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// The longest key, in bytes.
    pub const LEN_MAX: usize = 255;

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(feature = "serde")]
crate::model::serialized::as_text!(IdempotencyKey, "an idempotency key");

impl FromStr for IdempotencyKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let why = if text.is_empty() {
            "it is empty"
        } else if text.len() > Self::LEN_MAX {
            "it is longer than 255 bytes"
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            "it has a character that is not visible ASCII"
        } else {
            return Ok(Self(text.into()));
        };
        Err(ParseError::new("idempotency key", text, why))
    }
}

impl TryFrom<&str> for IdempotencyKey {
    type Error = ParseError;

    fn try_from(text: &str) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl TryFrom<&String> for IdempotencyKey {
    type Error = ParseError;

    fn try_from(text: &String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_1_to_255_visible_ascii_characters() {
        for good in ["a", "!~", &"k".repeat(255)] {
            assert_eq!(IdempotencyKey::try_from(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a\n", "\u{e9}", "\u{7f}", &"k".repeat(256)] {
            assert!(bad.parse::<IdempotencyKey>().is_err(), "{bad:?}");
        }
    }
}
