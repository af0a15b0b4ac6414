//! The error for a value that does not have the form of its type. It does not depend on
//! the engine, so that every type of the model can use it.

use crate::model::withheld::holds_a_secret;

/// A value does not have the form that its type asks for: a [`KeyId`](crate::KeyId), a
/// [`Prefix`](crate::Prefix), an [`OwnerPath`](crate::OwnerPath), a
/// [`Network`](crate::Network), a [`Timestamp`](crate::Timestamp), ...
///
/// ```
/// use gatekey::{KeyId, ParseError};
///
/// let error: ParseError = "not-an-id".parse::<KeyId>().unwrap_err();
/// assert_eq!(error.what, "key id");
/// assert_eq!(
///     error.to_string(),
///     "\"not-an-id\" is not a valid key id: not 10 base62 characters",
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value} is not a valid {what}: {why}")]
#[non_exhaustive]
pub struct ParseError {
    /// The kind of value: `prefix`, `owner`, `label key`, ...
    pub what: &'static str,
    /// The value: quoted, cut to 64 characters, and withheld where it looks like a token.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, value: &str, why: impl Into<String>) -> Self {
        Self::hidden(what, shown(value), why)
    }

    /// As [`new`](Self::new), with a description in place of the value.
    pub(crate) fn hidden(
        what: &'static str,
        value: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self {
            what,
            value: value.into(),
            why: why.into(),
        }
    }
}

/// Quotes a value for an error message. It is cut to 64 characters, and withheld where
/// it contains a run of base62 as long as a token's secret: a caller may have passed a
/// token in the wrong argument.
pub(crate) fn shown(value: &str) -> String {
    const CUT: usize = 64;
    if holds_a_secret(value) {
        return format!(
            "(a value of {} bytes, withheld: it looks like a secret)",
            value.len()
        );
    }
    match value.char_indices().nth(CUT) {
        Some((at, _)) => format!("{:?}... ({} bytes)", &value[..at], value.len()),
        None => format!("{value:?}"),
    }
}

#[cfg(test)]
mod texts;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_looks_like_a_secret_is_withheld() {
        let token = format!("acme_live_7Hk2Pq9ZxW_{}", "a1B2c3D4".repeat(6));
        let text = shown(&token);
        assert!(!text.contains("a1B2"), "{text}");
        assert!(text.contains("withheld"));
    }

    #[test]
    fn a_long_value_is_cut_at_a_character() {
        let text = shown(&"\u{e9} ".repeat(200));
        assert!(text.len() < 300 && text.contains("600 bytes"), "{text}");
    }
}
