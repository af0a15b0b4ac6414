//! JWTs and OAuth 2.0 for a server whose API keys are in [gatekey].
//!
//! A JWT that others verify by themselves is good until it ends, whatever became of its
//! owner. Here it stands for a key: [`Jwts::verify`] looks at the signature once, and at
//! the key each time. So a revocation holds from the return of its call, and limits,
//! quotas, suspension and the audit trail are those of the key.
//!
//! | you want to | see |
//! |---|---|
//! | exchange a key for a JWT | [`Jwts::exchange`], [`Jwts::issue`] |
//! | verify a JWT | [`Jwts::verify`] |
//! | publish the key set | [`Jwts::jwks`] |
//! | rotate the signing keys | [`Jwts::rotate_signing_keys`], [`Jwts::revoke_signing_key`] |
//! | let applications ask for access | [`server`] |
//! | ask a person for consent | [`page`] |
//! | serve all of it with axum | `router`, with the feature `axum` |
//!
//! Signing keys are in the engine's own file, sealed under its key, in the extension `oauth`: see
//! [`gatekey::extension`].
//!
//! The crate is synchronous and speaks no HTTP, but for `router`.
//!
//! # Features
//! | feature | adds |
//! |---|---|
//! | `axum` | `router`: the endpoints as an axum router |
//! | `aws-lc` | the algorithms ES256 and RS256, with `aws-lc-rs`; building it needs a C compiler |

mod algorithm;
mod encoding;
mod json;
mod jws;
mod jwt;
mod keys;
pub mod page;
mod params;
mod redirect;
#[cfg(feature = "axum")]
pub mod router;
mod seen;
pub mod server;
mod trail;

pub use algorithm::Algorithm;
pub use jwt::{IssuedJwt, JwtOptions, Jwts, LIFETIME_MAX};
pub use keys::{KeyUse, SigningKeyInfo};
pub use params::{PARAMS_LEN_MAX, Params};

/// The name of the extension in the store.
const EXTENSION: &str = "oauth";

#[cfg(doctest)]
#[doc = include_str!("../../../docs/OAUTH.md")]
struct OauthPage;
