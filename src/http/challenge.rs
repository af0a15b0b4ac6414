//! What `WWW-Authenticate` says.

use ::http::{HeaderName, HeaderValue};

use crate::model::error::{Error, Invalid};

/// A challenge: what `WWW-Authenticate` says of how to authenticate (RFC 9110,
/// 11.6.1). Every 401 carries all of a dialect's.
///
/// ```
/// use gatekey::http::{Carrier, Challenge, Dialect};
///
/// let dialect = Dialect::builder()
///     .carriers([Carrier::Basic])
///     .challenges([Challenge::basic("reports")?])
///     .build()?;
/// # let _ = dialect;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    scheme: &'static str,
    parameter: Option<String>,
}

impl Challenge {
    /// `Bearer` (RFC 6750). It alone says what was wrong, by the code that the RFC
    /// has for it, and does so on 400 and 403 too; without a credential it says
    /// nothing.
    #[must_use]
    pub const fn bearer() -> Self {
        Self {
            scheme: "Bearer",
            parameter: None,
        }
    }

    /// `Bearer` with a realm.
    ///
    /// # Errors
    /// [`Invalid::Malformed`] for a realm with a quote, a backslash, or what is not
    /// printable ASCII.
    pub fn bearer_in(realm: &str) -> Result<Self, Error> {
        Self::quoted("Bearer", "realm", realm)
    }

    /// `Basic` with the realm that it must have (RFC 7617). Browsers ask for a user
    /// name and a password when they see it.
    ///
    /// # Errors
    /// As [`bearer_in`](Self::bearer_in).
    pub fn basic(realm: &str) -> Result<Self, Error> {
        Self::quoted("Basic", "realm", realm)
    }

    /// `ApiKey`, with the name of the header that takes the key. The scheme is not
    /// a registered one; there is none for a header of one's own.
    #[must_use]
    pub fn api_key(header: &HeaderName) -> Self {
        // A header's name has no character that would need quoting.
        Self {
            scheme: "ApiKey",
            parameter: Some(format!("header=\"{header}\"")),
        }
    }

    /// For realms that are known to be good.
    pub(super) fn basic_of(realm: &'static str) -> Self {
        Self {
            scheme: "Basic",
            parameter: Some(format!("realm=\"{realm}\"")),
        }
    }

    fn quoted(scheme: &'static str, name: &str, value: &str) -> Result<Self, Error> {
        let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        if !value.bytes().all(plain) {
            let why = "it has a quote, a backslash, or a character that is not printable ASCII";
            return Err(Invalid::malformed("realm", value, why).into());
        }
        Ok(Self {
            scheme,
            parameter: Some(format!("{name}=\"{value}\"")),
        })
    }

    pub(super) fn is_bearer(&self) -> bool {
        self.scheme == "Bearer"
    }

    pub(super) fn value(&self, error: Option<&str>, scope: Option<&str>) -> Option<HeaderValue> {
        let mut text = self.scheme.to_owned();
        let mut separator = " ";
        let mut push = |parameter: &str| {
            text.push_str(separator);
            text.push_str(parameter);
            separator = ", ";
        };
        if let Some(parameter) = &self.parameter {
            push(parameter);
        }
        if let Some(error) = error.filter(|_| self.is_bearer()) {
            push(&format!("error=\"{error}\""));
            if let Some(scope) = scope {
                push(&format!("scope=\"{scope}\""));
            }
        }
        HeaderValue::try_from(text).ok()
    }
}
