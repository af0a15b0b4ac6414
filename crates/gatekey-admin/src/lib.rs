//! The admin API of [gatekey](https://docs.rs/gatekey): what the people who run a store do
//! with it, as HTTP and JSON.
//!
//! One router over an [`Engine`], and three doors to it. Nothing is open before a door is
//! opened.
//!
//! | door | opened by | who asks is known by | rights |
//! |---|---|---|---|
//! | the process | [`Admin::router`] | the host, which sets an [`Operator`] | those that the host gives |
//! | a unix socket | [`Admin::open_socket`] | the system (`SO_PEERCRED`) | all |
//! | TCP | [`Admin::open_tcp`], [`Admin::router_with_keys`] | an admin key | the permissions of the key |
//!
//! The audit trail has each change with its operator: `unix:1000`, `key:7Hk2Pq9ZxW`, or the
//! name that the host gave.
//!
//! ```no_run
//! use gatekey::Engine;
//! use gatekey_admin::{Admin, socket_beside};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::open("keys.redb")?;
//! let door = Admin::new(engine.clone()).open_socket(socket_beside("keys.redb"))?;
//! // ... serve, until told to stop; `gatekey --store keys.redb key list` works meanwhile.
//! door.close();
//! engine.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! [`openapi`] is the description of the API; the repository has it as `docs/openapi.json`.
//! [`wire`] has what callers send. Errors are problem details (RFC 9457) with a stable
//! `code`.
//!
//! # Rights
//! Each endpoint takes one [`Right`], which the document names. Whoever may issue keys could
//! issue an admin key for themselves: so whatever touches the keyspace of admin keys, or an
//! owner that has an admin key, takes the right to administer besides.
//!
//! # Threads
//! The engine is synchronous. Each request runs on a thread that may block
//! (`tokio::task::spawn_blocking`), so that no change that waits for the disk holds up a
//! runtime. The doors bring a thread and a runtime of their own: a host need not be
//! asynchronous.
//!
//! # Features
//! `tracing`: events of changes, refusals and failures, without what a request holds.

mod admin;
mod answers;
mod api;
mod call;
mod chart;
mod doors;
mod endpoints;
mod events;
mod find;
mod metrics;
mod openapi;
mod operator;
mod problem;
mod query;
mod schema;
mod stream;
pub mod wire;

pub use admin::Admin;
pub use chart::UsageChart;
pub use doors::Door;
#[cfg(unix)]
pub use doors::socket_beside;
pub use find::{FoundInText, find_in_text};
pub use metrics::metrics;
pub use openapi::openapi;
pub use operator::{Operator, Right, ensure_admin_keyspace};

#[cfg(doc)]
use gatekey::Engine;
