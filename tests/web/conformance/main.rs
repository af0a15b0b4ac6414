//! The example server, case by case as the texts of five systems say, by `curl` and
//! by a client that shares nothing with it. docs/DIALECTS.md links each statement of
//! each text to its test here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
#[path = "../nginx.rs"]
mod nginx;
#[cfg(feature = "postgres")]
#[allow(dead_code)]
#[path = "../../../crates/gatekey-postgres/tests/it/server.rs"]
mod postgres;
mod server;

mod ai;
mod aurorax;
mod behind;
mod browsers;
#[cfg(feature = "postgres")]
mod fleet;
mod forward;
mod log;
mod oauth;
mod obeying;
mod one_codex;
mod operating;
mod pixxel;
mod tenants;
mod tiered;
