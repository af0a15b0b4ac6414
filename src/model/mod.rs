//! The model: the types that callers and the store speak of. Nothing here reads a
//! file, takes a hash or remembers a request.

pub(crate) mod allowances;
pub(crate) mod audit;
pub(crate) mod base62;
pub mod bounds;
pub(crate) mod charge;
pub(crate) mod clock;
pub(crate) mod counter;
pub(crate) mod dry_run;
pub(crate) mod error;
pub(crate) mod filter;
pub(crate) mod health;
pub(crate) mod hex;
pub(crate) mod id;
pub(crate) mod idempotency;
pub(crate) mod key;
pub(crate) mod keyspace;
pub(crate) mod level;
pub(crate) mod limit;
pub(crate) mod network;
pub(crate) mod owner;
pub(crate) mod owner_settings;
pub(crate) mod parse;
pub(crate) mod permissions;
pub(crate) mod plan;
pub(crate) mod quota;
pub(crate) mod reason;
pub(crate) mod requirements;
pub(crate) mod secret;
#[cfg(feature = "serde")]
pub(crate) mod serialized;
pub(crate) mod stats;
pub(crate) mod text;
pub(crate) mod time;
pub(crate) mod verdict;
pub(crate) mod withheld;
