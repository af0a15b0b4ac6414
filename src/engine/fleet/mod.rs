//! A fleet: several servers with one set of keys, over a log that they share.
//!
//! Each server has a file of its own and verifies from it and from memory, without asking anybody.
//! A change is a transaction whose *delta* its server appends to a [`Log`], on the condition that the log ends
//! with the entry that its file has applied last; then every server applies it, its own too.
//! So there is one order of changes, and all rules that a change keeps, hold for the fleet.
//! `docs/FLEET.md` is the guide.
//!
//! A server that cannot hear of the log any more cannot know what was revoked. From some
//! time on it grants nothing, and every verification is an error: see [`Freshness`].
//!
//! ```
//! use std::sync::Arc;
//! use gatekey::fleet::{MemoryLog, Settings};
//! use gatekey::{Engine, NewKey, NewKeyspace, Options, Pepper, Reason};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let (first, second) = (dir.path().join("first.redb"), dir.path().join("second.redb"));
//! let log = Arc::new(MemoryLog::new()); // a test; gatekey-postgres has one for servers
//! let options = |node: &str| -> gatekey::Result<Options> {
//!     let pepper = Pepper::new(1, b"32 bytes from a secret manager..")?;
//!     Ok(Options::new().pepper(pepper).fleet(Settings::new(log.clone(), node)))
//! };
//! let alone = Options::new().pepper(Pepper::new(1, b"32 bytes from a secret manager..")?);
//! alone.create(&first)?.close()?;
//! let one = options("one")?.found_fleet(&first)?;
//! let two = options("two")?.join_fleet(&second)?;
//!
//! one.create_keyspace(NewKeyspace::new("acme_live")?)?;
//! let issued = two.issue(NewKey::new("acme_live", "acme")?)?;
//! one.revoke(issued.key.id, Reason::KeyCompromise)?; // returns once both have heard of it
//! assert!(!two.verify(issued.token.expose())?.is_granted());
//! # one.close()?;
//! # two.close()?;
//! # Ok::<(), gatekey::Error>(())
//! ```

mod ahead;
mod apply;
mod beat;
mod bodies;
mod everywhere;
mod lead;
mod membership;
mod memory_log;
mod peppers;
mod reads;
mod settings;
mod snapshots;
mod state;
mod status;
mod thread;

pub use crate::model::fleet::{Server, Status};
pub use crate::model::log::{
    Appended, BODY_LEN_MAX, Beat, Beaten, BodyId, ENTRY_LEN_MAX, Entries, Head, Log, LogError,
    LogResult, Node, PART_LEN_MAX, READS_LEN_MAX, SEAL_LEN, Seal, SnapshotInfo,
};
pub use memory_log::MemoryLog;
pub use settings::{Freshness, Settings};

pub(super) use state::{Fleet, steady};
pub(super) use thread::FollowerThread;
