//! Why the server rejected a request.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ::http::HeaderName;

use super::proxies::SourceFault;
use crate::model::error::Error;
use crate::model::verdict::Denial;

/// Why a request was rejected, in full, for the server's log.
///
/// The client learns less: see [`Answer`](super::Answer).
///
/// ```
/// use gatekey::http::{Dialect, RejectionReason};
/// use http::HeaderMap;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("authorization", "Digest abc".parse().unwrap());
/// let rejection = Dialect::default().credential(&headers).unwrap_err();
/// assert!(matches!(rejection.reason(), RejectionReason::UnknownScheme));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RejectionReason {
    /// The request has no credential, and needs one.
    Missing,
    /// The credential's header is empty.
    Empty,
    /// `Authorization` has a scheme that the dialect does not accept.
    UnknownScheme,
    /// Two headers carry a credential.
    SeveralCredentials,
    /// A header that carries a credential occurs more than once.
    RepeatedHeader(HeaderName),
    /// The credential is not ASCII.
    NotAscii,
    /// The Basic credential is not base64 with padding (RFC 7617).
    NotBase64,
    /// The Basic credential has no colon.
    NoColon,
    /// The Basic credential has a password.
    PasswordGiven,
    /// The engine denied the token.
    Denied(Denial),
    /// The request is for something that belongs to another owner: see
    /// [`Dialect::foreign`](super::Dialect::foreign).
    Foreign,
    /// A peer that is not a trusted proxy called a [`ForwardAuth`](super::ForwardAuth).
    UntrustedPeer(IpAddr),
    /// The client sent a header that an application may read as one of the identity
    /// headers of [`ForwardAuth`](super::ForwardAuth).
    IdentityHeader(HeaderName),
    /// The proxy did not name the original request, or its path is ambiguous.
    UnclearTarget,
    /// A proxy did not say where the request comes from: see
    /// [`Proxies`](super::Proxies).
    SourceUnknown(SourceFault),
    /// The engine failed. The token may be good or not.
    Unavailable(Arc<Error>),
    /// The request was let through, and the engine failed in the handler: see
    /// [`Dialect::failed`](super::Dialect::failed).
    Failed(Arc<Error>),
}

impl RejectionReason {
    /// A stable name of the variant, for logs and counters. For a denial, its own
    /// [`code`](Denial::code).
    ///
    /// ```
    /// use gatekey::http::Dialect;
    ///
    /// assert_eq!(Dialect::default().missing().reason().code(), "missing");
    /// ```
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Empty => "empty",
            Self::UnknownScheme => "unknown_scheme",
            Self::SeveralCredentials => "several_credentials",
            Self::RepeatedHeader(_) => "repeated_header",
            Self::NotAscii => "not_ascii",
            Self::NotBase64 => "not_base64",
            Self::NoColon => "no_colon",
            Self::PasswordGiven => "password_given",
            Self::Denied(denial) => denial.code(),
            Self::SourceUnknown(_) => "source_unknown",
            Self::Foreign => "foreign",
            Self::UntrustedPeer(_) => "untrusted_peer",
            Self::IdentityHeader(_) => "identity_header",
            Self::UnclearTarget => "unclear_target",
            Self::Unavailable(_) => "unavailable",
            Self::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no credential was presented",
            Self::Empty => "the credential is empty",
            Self::UnknownScheme => "the scheme of Authorization is not accepted",
            Self::SeveralCredentials => "credentials were presented in more than one header",
            Self::RepeatedHeader(name) => return write!(f, "the header {name} is repeated"),
            Self::NotAscii => "the credential is not ASCII",
            Self::NotBase64 => "the Basic credential is not base64",
            Self::NoColon => "the Basic credential has no colon",
            Self::PasswordGiven => "the Basic credential has a password",
            Self::Denied(denial) => return denial.fmt(f),
            Self::SourceUnknown(fault) => return fault.fmt(f),
            Self::Foreign => "the request is for something of another owner",
            Self::UntrustedPeer(peer) => return write!(f, "{peer} is not a trusted proxy"),
            Self::IdentityHeader(name) => {
                return write!(f, "the client sent the identity header {name}");
            }
            Self::UnclearTarget => "the proxy did not say clearly which request it asks about",
            Self::Unavailable(error) => {
                return write!(f, "the token could not be verified: {error}");
            }
            Self::Failed(error) => return write!(f, "the request failed: {error}"),
        })
    }
}
