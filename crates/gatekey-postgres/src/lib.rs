//! The log of a gatekey [fleet](gatekey::fleet) in PostgreSQL.
//!
//! ```no_run
//! use std::sync::Arc;
//! use gatekey::fleet::Settings;
//! use gatekey::{Options, Pepper};
//! use gatekey_postgres::Config;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new("postgres://gatekey@db.internal/gatekey?sslmode=require")?;
//! config.create_schema()?; // once, by somebody who may
//! let log = Arc::new(config.open("production")?);
//! let engine = Options::new()
//!     .pepper(Pepper::new(1, b"32 bytes from a secret manager..")?)
//!     .fleet(Settings::new(log, "eu-1"))
//!     .join_fleet("keys.redb")?;
//! # Ok(())
//! # }
//! ```
//!
//! One database can have several logs, each under a name. It was run with versions 12 to 18.
//!
//! # What the database must promise
//! An append is one transaction, and a heartbeat writes. So what the fleet stands on is
//! that a transaction which was acknowledged is never lost, and that a former primary commits
//! none. With one server and `fsync` on, both hold. With a standby, they hold with synchronous
//! replication (`synchronous_standby_names` on the primary, `synchronous_commit` at least
//! `on`), and a former primary that waits for a standby it has lost does not acknowledge.
//! With asynchronous replication, a failover can lose changes: the servers then say that
//! the log went back, and grant nothing.
//!
//! # Threads
//! A log has three connections, each with a thread of its own, which is where all waiting is
//! done. So it can be used inside an async runtime as elsewhere. A call that has no answer by its
//! deadline leaves its thread behind, and the next makes another.

// What starts a PostgreSQL for tests uses this crate by its name.
#[cfg(test)]
extern crate self as gatekey_postgres;

mod config;
mod log;
#[cfg(test)]
#[allow(dead_code, reason = "it serves other tests too")]
#[path = "../tests/it/server.rs"]
mod server;
mod session;
mod worker;

pub use config::Config;
pub use log::PostgresLog;
