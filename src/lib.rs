//! gatekey issues, verifies, rotates and revokes API keys inside your server,
//! from one durable file.

mod audit;
mod change;
mod clock;
mod codec;
mod core;
mod digest;
mod engine;
mod error;
mod id;
mod key;
mod keyspace;
pub mod limits;
mod network;
mod options;
mod outcome;
mod owner;
mod permissions;
mod policy;
mod query;
mod record;
mod resident;
mod secret;
mod stats;
mod store;
mod token;
mod usage;

pub use audit::{AuditEntry, AuditEvent, Change, Scope};
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use engine::Engine;
pub use error::{Corruption, Error, Invalid, NotFound, OpenError, Refusal, Result, StoreFailure};
pub use id::{KeyId, Prefix};
pub use key::{
    Expiry, Issued, Key, KeyState, KeyUpdate, NewKey, Reason, Revocation, Revoked, RevokedMany,
    Rotated, Rotation, Usage,
};
pub use keyspace::{KeysPerOwner, Keyspace, KeyspaceUpdate, NewKeyspace, PermissionName};
pub use network::Network;
pub use options::Options;
pub use outcome::{Denial, Grant, Verdict};
pub use owner::{OwnerPath, OwnerState, Suspension};
pub use permissions::Permissions;
pub use policy::Requirements;
pub use query::{Cursor, KeyFilter, Page};
pub use secret::{Pepper, Token};
pub use stats::{KeyCounts, Stats};
pub use store::check::{CheckReport, Finding};
