//! Places in the audit trail, and spans of it.

use std::fmt;
use std::str::FromStr;

use crate::model::hex::{Hex, unhex};
use crate::model::parse::ParseError;

/// A place in the audit trail: the position of an entry, and the hash that chains it to
/// all entries before it. Position 0 is the place before the first entry.
///
/// If two trails share a link, they are equal up to it. Save the newest link where an
/// attacker who can write the file cannot reach it: a trail that no longer contains
/// that link was altered, cut or rolled back.
///
/// ```
/// # use gatekey::{Engine, Link, NewKeyspace};
/// # let engine = Engine::open_in_memory()?;
/// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
/// let noted = engine.audit_span()?.last.to_string();
/// let link: Link = noted.parse()?;
/// assert_eq!(link.seq, 1);
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Link {
    /// The position of the entry.
    pub seq: u64,
    /// Its hash: zeros for position 0.
    pub hash: [u8; 32],
}

impl Link {
    pub(crate) fn new(seq: u64, hash: [u8; 32]) -> Self {
        Self { seq, hash }
    }
}

/// The position, a colon, and the hash in hexadecimal.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, Hex(&self.hash))
    }
}

#[cfg(feature = "serde")]
crate::model::serialized::as_text!(Link, "a link of the audit trail");

impl FromStr for Link {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts = text.split_once(':');
        let parsed = parts.and_then(|(seq, hash)| {
            let hash = unhex(hash)?.try_into().ok()?;
            Some(Self::new(seq.parse().ok()?, hash))
        });
        parsed.ok_or_else(|| {
            let why = "a link is a position, a colon and 64 hexadecimal digits";
            ParseError::new("link", text, why)
        })
    }
}

/// A span of the audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct AuditSpan {
    /// The place after which it begins.
    pub after: Link,
    /// Its last entry; the same as `after` where it has none.
    pub last: Link,
}

impl AuditSpan {
    pub(crate) fn new(after: Link, last: Link) -> Self {
        Self { after, last }
    }

    /// How many entries it has.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.last.seq.saturating_sub(self.after.seq)
    }
}

/// The result of a trim of the audit trail: see
/// [`Engine::trim_audit`](crate::Engine::trim_audit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Trimmed {
    /// How many entries the trim removed from the trail.
    pub removed: u64,
    /// How many of these the store keeps beside the trail, since they say who revoked a
    /// key and why.
    pub kept: u64,
    /// The last removed entry, of this trim or an earlier one: the trail begins after
    /// it.
    pub through: Link,
}
