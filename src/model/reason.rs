//! Why keys are revoked.

use std::fmt;

/// Why a key was revoked. The names are those of RFC 5280, section 5.3.1.
///
/// ```
/// use gatekey::Reason;
///
/// assert_eq!(Reason::KeyCompromise.to_string(), "key compromise");
/// assert_eq!(Reason::default(), Reason::Unspecified);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Reason {
    /// No reason was given.
    #[default]
    Unspecified,
    /// An unauthorised party has, or may have, the token.
    KeyCompromise,
    /// Another key took its place.
    Superseded,
    /// The owner's relation to the service has changed.
    AffiliationChanged,
    /// The owner no longer has the right to the key.
    PrivilegeWithdrawn,
    /// The key is not needed any more.
    Cessation,
    /// A reason that this version does not know: a later version of this crate wrote
    /// it. It is kept as it is, and only read from a store.
    #[non_exhaustive]
    Other {
        /// Its number in the store, which none of the others has.
        code: u8,
    },
}

/// Every reason that this version knows, in the order of its code, with its text.
const KNOWN: [(Reason, &str); 6] = [
    (Reason::Unspecified, "unspecified"),
    (Reason::KeyCompromise, "key compromise"),
    (Reason::Superseded, "superseded"),
    (Reason::AffiliationChanged, "affiliation changed"),
    (Reason::PrivilegeWithdrawn, "privilege withdrawn"),
    (Reason::Cessation, "cessation"),
];

impl Reason {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::Superseded => 2,
            Self::AffiliationChanged => 3,
            Self::PrivilegeWithdrawn => 4,
            Self::Cessation => 5,
            Self::Other { code } => code,
        }
    }

    pub(crate) fn from_code(code: u8) -> Self {
        match KNOWN.get(usize::from(code)) {
            Some((known, _)) => *known,
            None => Self::Other { code },
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KNOWN.get(usize::from(self.code())) {
            Some((_, text)) => f.pad(text),
            None => f.pad(&format!("reason {}", self.code())),
        }
    }
}

/// Written as one word: `key_compromise`, or `other_77`.
#[cfg(feature = "serde")]
struct Name(Reason);

#[cfg(feature = "serde")]
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Reason::Other { code } => write!(f, "other_{code}"),
            known => f.write_str(&known.to_string().replace(' ', "_")),
        }
    }
}

#[cfg(feature = "serde")]
impl std::str::FromStr for Name {
    type Err = crate::model::parse::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |code: &u8| Self(Reason::from_code(*code)).to_string() == text;
        let code = (0..=u8::MAX).find(named);
        code.map(|code| Self(Reason::from_code(code)))
            .ok_or_else(|| Self::Err::new("reason", text, "no reason has this name"))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Name(*self))
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Reason {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = crate::model::serialized::Text::<Name>::new("a reason of a revocation");
        deserializer
            .deserialize_str(text)
            .map(|Name(reason)| reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_reason_and_one_text() {
        let mut texts = std::collections::BTreeSet::new();
        for code in 0..=u8::MAX {
            let reason = Reason::from_code(code);
            assert_eq!(reason.code(), code);
            assert_eq!(matches!(reason, Reason::Other { .. }), code > 5);
            assert!(texts.insert(reason.to_string()));
        }
    }
}
