//! The values of `WWW-Authenticate`.

use ::http::{HeaderName, HeaderValue};

use crate::model::error::{Error, Invalid};

/// A challenge: how a client may authenticate, in `WWW-Authenticate` (RFC 9110, 11.6.1).
/// Every 401 has all challenges of its dialect.
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
    /// `Bearer` (RFC 6750). Only this challenge has an error code, and it is also on 400 and
    /// 403. Without a credential it has none.
    ///
    /// ```
    /// use gatekey::Denial;
    /// use gatekey::http::{Challenge, Dialect};
    ///
    /// let dialect = Dialect::builder().challenges([Challenge::bearer()]).build()?;
    /// let response = dialect.denied(Denial::Unknown).response();
    /// assert_eq!(response.headers()["www-authenticate"], r#"Bearer error="invalid_token""#);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
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
    /// [`Invalid::Malformed`] for a realm with a quote, a backslash, or a character that is
    /// not printable ASCII.
    pub fn bearer_in(realm: &str) -> Result<Self, Error> {
        Self::quoted("Bearer", "realm", realm)
    }

    /// `Bearer` of a resource whose metadata is at a URL (RFC 9728): there a client finds the
    /// authorization server to ask for access.
    ///
    /// ```
    /// use gatekey::http::{Challenge, Dialect};
    ///
    /// let at = "https://api.example.com/.well-known/oauth-protected-resource";
    /// let dialect = Dialect::builder().challenges([Challenge::bearer_of(at)?]).build()?;
    /// let response = dialect.missing().response();
    /// let expected = format!(r#"Bearer resource_metadata="{at}""#);
    /// assert_eq!(response.headers()["www-authenticate"], expected);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`bearer_in`](Self::bearer_in).
    pub fn bearer_of(resource_metadata: &str) -> Result<Self, Error> {
        Self::quoted("Bearer", "resource_metadata", resource_metadata)
    }

    /// `Basic` with its realm (RFC 7617). Browsers then ask for a user name and a password.
    ///
    /// # Errors
    /// As [`bearer_in`](Self::bearer_in).
    pub fn basic(realm: &str) -> Result<Self, Error> {
        Self::quoted("Basic", "realm", realm)
    }

    /// `ApiKey`, with the name of the header that carries the key. The scheme is not
    /// registered: there is none for such headers.
    ///
    /// ```
    /// use gatekey::http::{Carrier, Challenge, Dialect};
    /// use http::HeaderName;
    ///
    /// let header = HeaderName::from_static("x-acme-key");
    /// let challenge = Challenge::api_key(&header); // which the carrier brings by itself, too
    /// let dialect = Dialect::builder()
    ///     .carriers([Carrier::Header(header)])
    ///     .challenges([challenge])
    ///     .build()?;
    /// let response = dialect.missing().response();
    /// assert_eq!(response.headers()["www-authenticate"], r#"ApiKey header="x-acme-key""#);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn api_key(header: &HeaderName) -> Self {
        // No character of a header's name needs quoting.
        Self {
            scheme: "ApiKey",
            parameter: Some(format!("header=\"{header}\"")),
        }
    }

    /// For realms that need no check.
    pub(super) fn basic_of(realm: &'static str) -> Self {
        Self {
            scheme: "Basic",
            parameter: Some(format!("realm=\"{realm}\"")),
        }
    }

    fn quoted(scheme: &'static str, name: &'static str, value: &str) -> Result<Self, Error> {
        let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        if !value.bytes().all(plain) {
            let why = "it has a quote, a backslash, or a character that is not printable ASCII";
            return Err(Invalid::malformed(name, value, why).into());
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
