//! Authentication for HTTP, without a server or a runtime. With the feature `http`.
//!
//! A [`Dialect`] finds the token in a request's headers, has the
//! [`Engine`](crate::Engine) verify it, and words the response to a rejected request. It
//! takes headers, and gives a response whose body is bytes. For tower services (axum,
//! tonic, hyper), the layer of the feature `tower` does the rest.
//!
//! ```
//! use gatekey::http::{Authenticated, Dialect};
//! use gatekey::{Engine, Requirements};
//! use http::{HeaderMap, Response};
//!
//! const WRITE: Requirements = Requirements::new().permissions(&["write"]);
//!
//! fn create(engine: &Engine, dialect: &Dialect, headers: &HeaderMap) -> Response<Vec<u8>> {
//!     match dialect.authenticate(engine, headers, &WRITE) {
//!         Ok(Authenticated::Granted(grant)) => {
//!             let mut response = Response::new(format!("hello, {}", grant.owner()).into_bytes());
//!             response.headers_mut().extend(dialect.limit_headers(engine, &grant));
//!             dialect.keep_private(response.headers_mut());
//!             response
//!         }
//!         Ok(Authenticated::Anonymous) => {
//!             let mut response = Response::new(b"hello, whoever you are".to_vec());
//!             dialect.vary(response.headers_mut());
//!             response
//!         }
//!         Err(rejection) => {
//!             eprintln!("rejected: {rejection}");
//!             rejection.response()
//!         }
//!     }
//! }
//! # let engine = Engine::open_in_memory()?;
//! # let response = create(&engine, &Dialect::default(), &HeaderMap::new());
//! # assert_eq!(response.status(), 401);
//! # engine.close()?;
//! # Ok::<(), gatekey::Error>(())
//! ```
//!
//! # Reading a credential
//! - A request has one credential, in one header. Two credentials, or a repeated header,
//!   are rejected with 400: choosing one would be a guess.
//! - The scheme may be in any case, with one or more spaces behind it. The token is taken
//!   as it is: not trimmed, folded or decoded.
//! - Basic is strict base64: the user name ends at the first colon, and the password is
//!   empty.
//! - An unknown scheme or an empty header gets the response for a missing credential, but
//!   never passes as anonymous: such a client means to authenticate.
//! - Nothing is read from a URL.
//!
//! # What a client learns
//! A malformed, unknown, revoked, suspended, disabled or not yet valid key reads as
//! invalid. Only the holder of the right secret learns that a key has expired, and only
//! where the dialect reveals it. An error of the store is a 503 without detail: never a
//! 401, never a grant.
//!
//! # Names
//! Three words for "no" mean three things. A [`Denial`](crate::Denial) is the engine's
//! verdict over a token. A [`Rejection`] is a request that the server does not serve, be it
//! for a denial or for a header that cannot be read. An [`Answer`] is what the client
//! learns of it.
//!
//! # Dialects
//! | dialect | token | rejections |
//! |---|---|---|
//! | [`Dialect::problem_details`], the default | Bearer | RFC 6750 and RFC 9457 |
//! | [`presets::aurorax`] | `x-aurorax-api-key`; anonymous callers pass | `{"error_code", "error_message"}` |
//! | [`presets::pixxel`] | `Authorization`, without a scheme | 403 |
//! | [`presets::tiered_bearer`] | Bearer | `{"error", "message"}`, `X-RateLimit-*` |
//! | [`presets::one_codex`] | Basic or `X-API-Key`; anonymous callers pass | `{"message", "status"}`, 404 to hide |
//! | [`presets::ai_platform`] | Bearer | `{"success", "error": {"code", "message", "details"}}` |
//!
//! `docs/DIALECTS.md` has the statements that the presets follow, one by one.

mod answer;
mod builder;
mod caching;
mod challenge;
mod credential;
mod dialect;
mod forward;
mod headers;
mod hook;
mod limit_fields;
mod line_writer;
pub mod presets;
mod proxies;
mod reason;
mod rejection;
mod rejection_log;
mod settings;
mod status;

pub use answer::{Answer, AnswerKind};
pub use builder::DialectBuilder;
pub use caching::no_store;
pub use challenge::Challenge;
pub use credential::{Carrier, Presented};
pub use dialect::{Authenticated, Dialect};
pub use forward::{ForwardAuth, OriginalRequest};
pub use headers::header_map;
pub use limit_fields::{LimitFields, ReportedLimit};
pub use proxies::{Peer, Proxies, SourceFault, SourceHeader};
pub use reason::RejectionReason;
pub use rejection::Rejection;
pub use rejection_log::RejectionLog;

#[cfg(feature = "tower")]
pub(crate) use self::{
    caching::{add_private, add_vary, is_shared},
    hook::call_hook,
    limit_fields::Report,
};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod texts;
