//! Inputs that are not acceptable.

use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::error::or_none;
use crate::model::id::Prefix;
use crate::model::parse::ParseError;
use crate::model::permissions::Permissions;

/// An input that is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// A value does not have the form that its kind asks for.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// The input has more of something than its limit allows.
    #[error("{count} {what} are more than the {max} allowed")]
    TooMany {
        /// What the input has too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// The same thing was given twice.
    #[error("{what} {value} is given twice")]
    Duplicate {
        /// What was given twice.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// A permission name that the keyspace does not have.
    #[error("keyspace {keyspace} has no permission {name:?}; it has: {}", or_none(.known))]
    UnknownPermission {
        /// The name that was given; withheld where it looks like a token.
        name: String,
        /// The keyspace.
        keyspace: Prefix,
        /// The names it has, separated by commas.
        known: String,
    },
    /// A plan that the keyspace does not have.
    #[error("keyspace {keyspace} has no plan {name:?}; it has: {}", or_none(.known))]
    UnknownPlan {
        /// The name that was given; withheld where it looks like a token.
        name: String,
        /// The keyspace.
        keyspace: Prefix,
        /// The names it has, separated by commas.
        known: String,
    },
    /// A permission name that the keyspace has retired.
    #[error("permission {name:?} of keyspace {keyspace} is retired for good; ask for another")]
    RetiredPermission {
        /// The name that was given.
        name: String,
        /// The keyspace.
        keyspace: Prefix,
    },
    /// Permission bits that no active name of the keyspace stands for.
    #[error("permission bits {bits} have no active name in keyspace {keyspace}")]
    UnknownBits {
        /// The bits without a name.
        bits: Permissions,
        /// The keyspace.
        keyspace: Prefix,
    },
    /// An expiry that is not after the present.
    #[error("an expiry of {expires_at} is not in the future (it is {now})")]
    ExpiryInPast {
        /// The expiry that was given.
        expires_at: Timestamp,
        /// The present, by the engine's clock.
        now: Timestamp,
    },
    /// The key would end before it begins.
    #[error("a key that begins at {not_before} and expires at {expires_at} is never valid")]
    NotBeforeAfterExpiry {
        /// The not-before that was given.
        not_before: Timestamp,
        /// The expiry.
        expires_at: Timestamp,
    },
    /// A life longer than the keyspace allows.
    #[error("keyspace {keyspace} allows a lifetime of at most {max:?}; {asked} was asked for")]
    LifetimeTooLong {
        /// The keyspace.
        keyspace: Prefix,
        /// The longest life it allows.
        max: Duration,
        /// The requested expiry: an instant or `never`.
        asked: String,
    },
    /// A grace longer than the keyspace allows.
    #[error("keyspace {keyspace} allows a grace of at most {max:?}; {asked:?} was asked for")]
    GraceTooLong {
        /// The keyspace.
        keyspace: Prefix,
        /// The longest grace it allows.
        max: Duration,
        /// What was asked for.
        asked: Duration,
    },
    /// An instant, or the sum of an instant and a duration, that cannot be represented.
    #[error("{0} is outside the instants that can be represented (1970 to 9999)")]
    TimeOutOfRange(String),
}

impl Invalid {
    /// A value that does not have the form that it should have: for crates that stand on the
    /// engine, and refuse their callers' input as it does. A value that looks like a
    /// secret is not shown.
    ///
    /// ```
    /// use gatekey::{Error, Invalid};
    ///
    /// fn grant_type(text: &str) -> Result<(), Error> {
    ///     match text {
    ///         "client_credentials" => Ok(()),
    ///         _ => Err(Invalid::malformed("grant type", text, "it is not supported").into()),
    ///     }
    /// }
    /// let error = grant_type("password").unwrap_err();
    /// assert_eq!(error.to_string(), r#""password" is not a valid grant type: it is not supported"#);
    /// ```
    pub fn malformed(what: &'static str, value: &str, why: impl Into<String>) -> Self {
        Self::Malformed(ParseError::new(what, value, why))
    }
}
