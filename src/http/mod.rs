//! The dialects of HTTP APIs: where a token is in a request, and in which words
//! a refusal is answered. With the feature `http`.
//!
//! A [`Dialect`] reads the token, has the [`Engine`](crate::Engine) verify it, and
//! words the answer. It knows no server and no runtime: it takes headers, and gives
//! a response whose body is bytes. For servers made of tower services there is a
//! layer that does the rest, with the feature `tower`.
//!
//! ```
//! use gatekey::http::{Authenticated, Dialect};
//! use gatekey::{Engine, Requirements};
//! use http::{HeaderMap, Response};
//!
//! const WRITE: Requirements = Requirements::new().permission_names(&["write"]);
//!
//! fn create(engine: &Engine, dialect: &Dialect, headers: &HeaderMap) -> Response<Vec<u8>> {
//!     match dialect.authenticate(engine, headers, &WRITE) {
//!         Ok(Authenticated::Granted(grant)) => {
//!             let mut response = Response::new(format!("hello, {}", grant.owner()).into_bytes());
//!             response.headers_mut().extend(dialect.limit_headers(&grant, engine.now()));
//!             dialect.keep_private(response.headers_mut());
//!             response
//!         }
//!         Ok(Authenticated::Anonymous) => {
//!             let mut response = Response::new(b"hello, whoever you are".to_vec());
//!             dialect.vary(response.headers_mut());
//!             response
//!         }
//!         Err(refused) => {
//!             eprintln!("refused with {refused}");
//!             refused.response()
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
//! # What is read
//! - One credential, in one header. Two of them, or a header that is repeated, are
//!   refused (400): which one is meant would be a guess.
//! - A scheme in any case, one or more spaces, and then the token as it is.
//! - Of Basic: strict base64, a user name that ends at the first colon, and an empty
//!   password.
//! - An unknown scheme, or an empty header, is answered as if there were no
//!   credential, but is not let through as anonymous: somebody meant to be known.
//! - Nothing from a URL.
//!
//! # What is told
//! A caller whose key is malformed, unknown, revoked, suspended, disabled or not yet
//! valid is told the same: the key is invalid. That it has expired is told only where
//! the dialect says so, and only to whom the secret was right. An error of the store
//! is a 503 without detail: never a 401, never a grant.
//!
//! # Ready-made
//! | dialect | token | refusals |
//! |---|---|---|
//! | [`Dialect::problem_details`], the default | Bearer | RFC 6750 and RFC 9457 |
//! | [`Dialect::aurorax`] | `x-aurorax-api-key`; anonymous let through | RFC 9457 |
//! | [`Dialect::pixxel`] | `Authorization`, without a scheme | 403 |
//! | [`Dialect::tiered_bearer`] | Bearer | `{"error", "message"}`, `X-RateLimit-*` |
//! | [`Dialect::one_codex`] | Basic or `X-API-Key`; anonymous let through | `{"message", "status"}`, 404 to hide |
//! | [`Dialect::ai_platform`] | Bearer | `{"success", "error": {"code", "message", "details"}}` |
//!
//! `docs/DIALECTS.md` holds the statements they were made from, one by one.

mod caching;
mod challenge;
mod credential;
mod dialect;
mod forward;
mod headers;
mod limit_fields;
mod proxies;
mod refusal_log;
mod refused;
mod status;
mod systems;

pub use caching::no_store;
pub use challenge::Challenge;
pub use credential::{Carrier, Presented};
pub use dialect::{Authenticated, Dialect, DialectBuilder};
pub use forward::{Asked, ForwardAuth};
pub use headers::header_map;
pub use limit_fields::{LimitFields, LimitTold};
pub use proxies::{Peer, Proxies, SourceFault, SourceHeader};
pub use refusal_log::RefusalLog;
pub use refused::{Answer, AnswerKind, Refused, RefusedReason};

#[cfg(feature = "tower")]
pub(crate) use caching::{add_private, add_vary, is_shared};

/// Calls a hook of the server's. One that panics is the server's loss, not its caller's.
pub(crate) fn call_hook(hook: impl FnOnce()) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(hook));
}

#[cfg(test)]
mod tests;
