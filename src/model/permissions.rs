//! The mask of a key's permissions.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};
use std::str::FromStr;

use crate::model::parse::ParseError;

/// A set of permissions: a mask of 128 bits, each of which a keyspace gives a name.
///
/// The same bit means different things in different keyspaces. Take masks from
/// [`Keyspace::mask`](crate::Keyspace::mask) rather than writing bits.
///
/// ```
/// use gatekey::Permissions;
///
/// let both = Permissions::from_bits(0b11);
/// let first = Permissions::from_bits(0b01);
/// assert!(both.contains(first));
/// assert_eq!(both - first, Permissions::from_bits(0b10));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Permissions(u128);

impl Permissions {
    /// No permission.
    pub const NONE: Self = Self(0);
    /// All that a keyspace can name.
    pub const ALL: Self = Self(u128::MAX);
    /// How many permissions a keyspace can name, retired ones included.
    pub const COUNT_MAX: usize = 128;

    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits of the set.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// Whether every permission of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set with the one bit at `index`, or none past 127.
    #[must_use]
    pub(crate) const fn bit(index: usize) -> Self {
        if index < Self::COUNT_MAX {
            Self(1 << index)
        } else {
            Self::NONE
        }
    }
}

impl BitOr for Permissions {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Permissions {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for Permissions {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// `0x` and 1 to 32 hexadecimal digits, as `Display` prints it.
///
/// ```
/// use gatekey::Permissions;
///
/// let mask = Permissions::from_bits(1 << 100 | 1);
/// assert_eq!(mask.to_string().parse::<Permissions>()?, mask);
/// assert!("3".parse::<Permissions>().is_err());
/// # Ok::<(), gatekey::ParseError>(())
/// ```
impl FromStr for Permissions {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let digits = text.strip_prefix("0x").filter(|digits| {
            (1..=32).contains(&digits.len())
                && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        });
        let bits = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        bits.map(Self).ok_or_else(|| {
            let why = "not 0x and 1 to 32 hexadecimal digits";
            ParseError::new("permission mask", text, why)
        })
    }
}

#[cfg(feature = "serde")]
crate::model::serialized::as_text!(Permissions, "a permission mask, such as 0x3");

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permissions({:#x})", self.0)
    }
}
