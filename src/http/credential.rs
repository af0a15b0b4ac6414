//! Reading the token from a request's headers. Linear in their length. Only Basic
//! allocates: the decoded text, which is shorter than the header.

use std::fmt;

use ::http::header::AUTHORIZATION;
use ::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::reason::RejectionReason;
use crate::crypto::token;
use crate::model::id::KeyId;

/// Where in a request a token may be. Never in the URL: servers and browsers log, cache and
/// pass on URLs.
///
/// ```
/// use gatekey::http::{Carrier, Dialect};
/// use http::HeaderName;
///
/// let dialect = Dialect::builder()
///     .carriers([Carrier::Bearer, Carrier::Header(HeaderName::from_static("x-api-key"))])
///     .build()?;
/// # let _ = dialect;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Carrier {
    /// `Authorization: Bearer <token>` (RFC 6750).
    Bearer,
    /// `Authorization: Basic <base64 of the token and a colon>` (RFC 7617): the
    /// token as the user name, and an empty password.
    Basic,
    /// `Authorization: <token>`, without a scheme. It accepts any value, and so must be the
    /// last of several carriers.
    RawAuthorization,
    /// A separate header, such as `X-API-Key: <token>`.
    Header(HeaderName),
}

impl Carrier {
    pub(crate) fn name(&self) -> &HeaderName {
        match self {
            Self::Bearer | Self::Basic | Self::RawAuthorization => &AUTHORIZATION,
            Self::Header(name) => name,
        }
    }
}

/// The token that a request presents. It is not trimmed, folded or normalised, and not
/// verified.
///
/// ```
/// use gatekey::http::Dialect;
/// use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
///
/// let mut headers = HeaderMap::new();
/// headers.insert(AUTHORIZATION, HeaderValue::from_static("bearer  abc"));
/// let presented = Dialect::default().credential(&headers).unwrap().unwrap();
/// assert_eq!(presented.expose(), b"abc");
/// assert_eq!(format!("{presented:?}"), "Presented(withheld)");
/// ```
pub struct Presented<'h>(Text<'h>);

enum Text<'h> {
    Borrowed(&'h [u8]),
    Decoded(Zeroizing<Vec<u8>>),
}

impl Presented<'_> {
    /// The token, for [`Engine::verify_with`](crate::Engine::verify_with).
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        match &self.0 {
            Text::Borrowed(text) => text,
            Text::Decoded(text) => text,
        }
    }

    /// The key id that the token names; `None` where it has not the shape of a token. It
    /// proves nothing: there may be no such key.
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        token::split(self.expose()).map(|parts| parts.id)
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented(withheld)")
    }
}

/// Finds the one token of a request.
///
/// One header may carry a credential, and it may occur once. More are rejected before any of
/// them is read: choosing one would be a guess, and a proxy in front may have guessed
/// differently.
pub(super) fn find<'h>(
    carriers: &[Carrier],
    headers: &'h HeaderMap,
) -> Result<Option<Presented<'h>>, RejectionReason> {
    let mut found: Option<(&HeaderName, &'h HeaderValue)> = None;
    for carrier in carriers {
        let name = carrier.name();
        // Several carriers may share `Authorization`.
        if found.is_some_and(|(known, _)| known == name) {
            continue;
        }
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else {
            continue;
        };
        if values.next().is_some() {
            return Err(RejectionReason::RepeatedHeader(name.clone()));
        }
        if found.is_some() {
            return Err(RejectionReason::SeveralCredentials);
        }
        found = Some((name, value));
    }
    let Some((name, value)) = found else {
        return Ok(None);
    };
    let value = value.as_bytes();
    if !value.is_ascii() {
        return Err(RejectionReason::NotAscii);
    }
    let text = if name == AUTHORIZATION {
        authorization(carriers, value)?
    } else {
        Text::Borrowed(value)
    };
    let presented = Presented(text);
    if presented.expose().is_empty() {
        return Err(RejectionReason::Empty);
    }
    Ok(Some(presented))
}

/// Reads `Authorization` by the first carrier that accepts its scheme.
fn authorization<'h>(carriers: &[Carrier], value: &'h [u8]) -> Result<Text<'h>, RejectionReason> {
    for carrier in carriers {
        let found = match carrier {
            Carrier::Bearer => {
                after_scheme(value, b"bearer").map(|token| Ok(Text::Borrowed(token)))
            }
            Carrier::Basic => after_scheme(value, b"basic").map(basic),
            Carrier::RawAuthorization => Some(Ok(Text::Borrowed(value))),
            Carrier::Header(_) => None,
        };
        if let Some(found) = found {
            return found;
        }
    }
    if value.is_empty() {
        return Err(RejectionReason::Empty);
    }
    Err(RejectionReason::UnknownScheme)
}

/// The text behind a scheme and its spaces (RFC 9110, 11.4). The scheme is
/// case-insensitive, and the spaces are no part of the token.
fn after_scheme<'h>(value: &'h [u8], scheme: &[u8]) -> Option<&'h [u8]> {
    let (head, mut rest) = value.split_at_checked(scheme.len())?;
    if !head.eq_ignore_ascii_case(scheme) || rest.first().is_some_and(|byte| *byte != b' ') {
        return None;
    }
    while let Some(shorter) = rest.strip_prefix(b" ") {
        rest = shorter;
    }
    Some(rest)
}

/// The user name of Basic. It ends at the first colon, and the password must be empty: keys
/// have none.
fn basic(encoded: &[u8]) -> Result<Text<'static>, RejectionReason> {
    if encoded.is_empty() {
        return Err(RejectionReason::Empty);
    }
    // The capacity that the decoder asks for, so that it does not reallocate and leave a
    // copy behind.
    let room = base64::decoded_len_estimate(encoded.len());
    let mut decoded = Zeroizing::new(Vec::with_capacity(room));
    STANDARD
        .decode_vec(encoded, &mut decoded)
        .map_err(|_| RejectionReason::NotBase64)?;
    let colon = decoded.iter().position(|byte| *byte == b':');
    let colon = colon.ok_or(RejectionReason::NoColon)?;
    if colon + 1 != decoded.len() {
        return Err(RejectionReason::PasswordGiven);
    }
    decoded.truncate(colon);
    Ok(Text::Decoded(decoded))
}
