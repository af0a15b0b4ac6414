//! gatekey issues, verifies, rotates and revokes API keys inside your server,
//! and keeps them in one durable file.
//!
//! Any API that hands out keys must answer one question on every request: is
//! this token good, whose is it, what may it do? gatekey answers it in the
//! process, from memory or from a [redb](https://docs.rs/redb) file beside the
//! server. A revocation holds from the instant that the call returns.
//!
//! It is not a server, not a gateway and not an identity provider: it knows no
//! users, passwords or sessions. JWTs and OAuth are in the crate `gatekey-oauth`, which
//! stands on it. One process at a time holds a file; several servers with a file each can
//! share their keys over a log: see [`fleet`].
//!
//! # A complete program
//! ```
//! use gatekey::{Engine, NewKey, NewKeyspace, Reason, Requirements, Verdict};
//!
//! fn main() -> gatekey::Result<()> {
//!     # let dir = tempfile::tempdir().unwrap();
//!     # std::env::set_current_dir(&dir).unwrap();
//!     let engine = Engine::open_or_create("keys.redb")?;
//!     engine.ensure_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
//!
//!     let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?.permissions(["read"]))?;
//!     println!("keep this, it is shown once: {}", issued.token.expose());
//!
//!     let read = Requirements::new().permissions(&["read"]);
//!     match engine.verify_with(issued.token.expose(), &read)? {
//!         Verdict::Granted(grant) => println!("welcome, {}", grant.owner()),
//!         Verdict::Denied(denial) => println!("refused: {denial}"),
//!     }
//!     engine.revoke(issued.key.id, Reason::KeyCompromise)?;
//!     assert!(!engine.verify(issued.token.expose())?.is_granted());
//!     engine.close()
//! }
//! ```
//!
//! # Words
//! - A **token** is the text that a client presents; the engine shows it once
//!   and never stores it. A **key** is the record behind it, named by a
//!   [`KeyId`] that is public.
//! - A [`Keyspace`] is a family of keys under one policy: the prefix of its
//!   tokens, the names of its permissions, how many keys an owner may hold, how
//!   long a key may live.
//! - An **owner** is a path of segments, as in `acme/ingest/etl-bot`; what is
//!   suspended at a path is suspended below it. See [`OwnerPath`].
//! - A key is active, retiring, not yet valid, disabled, suspended, expired or
//!   revoked: see [`KeyState`].
//! - A [`Denial`] says why a verification that ran well said no. It is data,
//!   and an [`Error`] is never one.
//!
//! # Where to go
//! | you want to | see |
//! |---|---|
//! | open or create a store, with a pepper, other memory, another clock | [`Engine::open`], [`Engine::create`], [`Engine::open_or_create`], [`Options`], [`Pepper`] |
//! | have a keyspace at the start of a server | [`Engine::ensure_keyspace`] |
//! | verify | [`Engine::verify`], [`Requirements`], [`Verdict`], [`Grant`], [`Denial`] |
//! | issue, one or thousands | [`NewKey`], [`Engine::issue_batch`] |
//! | replace a key without an outage | [`Engine::rotate`], [`Rotation`] |
//! | take access away | [`Engine::revoke`], [`Engine::revoke_token`], [`Engine::revoke_owner`], [`Engine::disable`], [`Engine::suspend`] |
//! | give a customer a tier | [`Engine::update_owner`], [`OwnerUpdate`], [`LevelDefaults`], [`Plan`] |
//! | look | [`Engine::find_key`], [`Engine::keys_page`], [`KeyFilter`], [`Engine::audit`], [`Engine::stats`] |
//! | care for the file | [`Engine::health`], [`Engine::check`], [`Engine::backup`], [`Engine::purge`], [`Engine::compact`] |
//! | mend a wrong clock | [`Engine::clock_status`], [`Engine::set_time_back`] |
//! | test what expires | [`ManualClock`] |
//! | read the form of a text without a store | [`inspect_token`] |
//! | know what is refused for its size | [`bounds`] |
//!
//! # What holds
//! 1. A token's secret is never stored, logged or printed, save by
//!    [`Token::expose`].
//! 2. Once a call that takes access away has returned, no verification that
//!    starts after it grants. There is no cache that goes stale.
//! 3. A change that returned `Ok` survives power loss. One that failed was not
//!    applied, or the error is [`Error::OutcomeUnknown`].
//! 4. In a single-active keyspace an owner has at most one active key, and at
//!    most one retiring.
//! 5. An unknown id and a wrong secret do the same work and read the same.
//! 6. A damaged or forged record grants nothing.
//! 7. A key is good while `now < expires_at`. Time never runs behind the newest
//!    change, nor behind an answer that a key is over, so that a clock that steps
//!    back revives nothing; [`Engine::set_time_back`] is the way out of a wrong one.
//! 8. Every change writes its entry in a chained audit trail.
//! 9. Memory is bounded by the options.
//! 10. An error of the store is never a denial and never a grant.
//!
//! The reasons, the format of the file and the test for each are in
//! `docs/DESIGN.md`; what is defended against whom, in `SECURITY.md`.
//!
//! # In an async server
//! The crate is synchronous. A verification of a key that is resident takes no
//! lock and reads no file (but where the minute changes, it adds up its thread's notes of
//! use, under a lock that is held briefly; else the engine's own thread does, and where that is
//! late, the verification adds up 64 at a time); one that is not reads a few pages,
//! which the system usually has in memory. Changes wait for an fsync: call them from a thread
//! that may block, such as `tokio::task::spawn_blocking`.
//!
//! # Features
//! All are off by default, and none changes what is there without it.
//!
//! | feature | adds |
//! |---|---|
//! | `http` | `gatekey::http`: dialects, that find the token in a request's headers and word the answer to a refusal |
//! | `tower` | `gatekey::tower`: a layer for axum, tonic and other tower services; implies `http` |
//! | `serde` | `Serialize` for what the engine answers with, and `Deserialize` for what a caller or a client reads; see [Serde](#serde) |
//! | `tracing` | events at the target `gatekey` for changes, failures of the store and slow commits, without a token or a secret in any |
//! | `axum` | the grant as an argument of an axum handler; implies `tower` |
//!
//! # Serde
//! With the feature `serde`, an admin interface can send what the engine returns. Every
//! format gets the same form: an id, a path, a network, a link, an instant (RFC 3339)
//! or a duration (ISO 8601, days of 24 hours) is a string; a mask is a string of
//! hexadecimal digits, so that no bit is lost where numbers have 64 bits; names of
//! variants are in `snake_case`.
//!
//! What a caller sends ([`Limit`], [`Plan`], [`Quota`], [`KeysPerOwner`],
//! [`LevelDefaults`], [`Expiry`]) is read as strictly as its constructors are, and fields that are not known are
//! refused. Types that only an engine can make ([`Keyspace`], [`Grant`], [`Denial`],
//! [`Stats`], [`Health`], reports) can be serialised, and not deserialised. [`Token`],
//! [`Pepper`] and types that contain one ([`Issued`], [`Rotated`]) can be neither: only
//! [`Token::expose`] shows a token. A [`Denial`] names its key and says more than a
//! caller should learn: it is for logs.
#![cfg_attr(feature = "serde", doc = "```")]
#![cfg_attr(not(feature = "serde"), doc = "```ignore")]
//! # use gatekey::{Limit, Permissions, Plan};
//! # use serde_json::json;
//! let mask = Permissions::from_bits(1 << 100 | 1);
//! assert_eq!(json!({ "mask": mask })["mask"], "0x10000000000000000000000001");
//!
//! let gold: Plan = serde_json::from_value(json!({
//!     "name": "gold",
//!     "limits": [{"requests": 60, "window": "PT1M"}],
//! }))?;
//! assert_eq!(gold, Plan::new("gold").limit(Limit::per_minute(60)));
//!
//! let none = json!({"name": "gold", "limits": [{"requests": 0, "window": "PT1M"}]});
//! assert!(serde_json::from_value::<Plan>(none).is_err());
//! # Ok::<(), serde_json::Error>(())
//! ```

mod change;
mod crypto;
mod engine;
#[cfg(feature = "http")]
pub mod http;
mod memory;
mod model;
#[cfg(feature = "proof")]
#[doc(hidden)]
pub mod proof;
mod steps;
mod store;
mod sync;
#[cfg(feature = "tower")]
pub mod tower;

pub use change::time::TimeSetBack;
pub use crypto::token::{TokenForm, inspect_token};
pub use engine::compact::Compacted;
pub use engine::extension;
pub use engine::fleet;
pub use engine::handle::Engine;
pub use engine::once::Idempotent;
pub use engine::options::Options;
pub use engine::repair::RepairReport;
pub use engine::restore::{Restore, Restored};
pub use model::audit::link::{AuditSpan, Link, Trimmed};
pub use model::audit::{AuditEntry, AuditEvent, AuditPage, Change, Repair, Scope};
pub use model::bounds;
pub use model::charge::Charge;
pub use model::clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use model::dry_run::{DryRun, QuotaLeft};
pub use model::error::{
    Conflict, Corruption, Difference, Error, Invalid, NotFound, OpenError, Result, StoreFailure,
};
pub use model::filter::{Cursor, KeyFilter, KeyPage};
pub use model::health::{Failure, Health};
pub use model::hint::{Hint, HintPage, HintRule};
pub use model::id::{KeyId, Prefix};
pub use model::idempotency::IdempotencyKey;
pub use model::import::{Credential, ForeignHash, ForeignKey, Import, ImportedKey, NewImport};
pub use model::key::{
    Expiry, Issued, Key, KeyState, KeyUpdate, NewKey, Purged, Revocation, Revoked, RevokedMany,
    Rotated, Rotation, Usage,
};
pub use model::keyspace::{KeysPerOwner, Keyspace, KeyspaceUpdate, NewKeyspace, PermissionName};
pub use model::level::LevelDefaults;
pub use model::limit::{Algorithm, Level, Limit, LimitStatus};
pub use model::metrics::Metrics;
pub use model::network::Network;
pub use model::outcome::{Outcome, OutcomeCounts};
pub use model::owner::{OwnerPath, OwnerState, Suspension};
pub use model::owner_page::OwnerPage;
pub use model::owner_settings::{OwnerSettings, OwnerSettingsPage, OwnerUpdate, Setting};
pub use model::parse::ParseError;
pub use model::permissions::Permissions;
pub use model::plan::Plan;
pub use model::quota::{BillingDay, Quota, QuotaStatus, Refill};
pub use model::reason::Reason;
pub use model::requirements::Requirements;
pub use model::secret::{Pepper, Token};
pub use model::stats::{KeyCounts, PepperKeys, Stats};
pub use model::time::{ClockLeap, ClockStatus};
pub use model::timings::Timings;
pub use model::usage_history::UsageBin;
pub use model::used_from::UsedFrom;
pub use model::verdict::{Denial, Grant, Verdict};
pub use model::withheld::withheld;
pub use store::backup::{Backup, BackupProgress};
pub use store::check::{CheckProgress, CheckReport, Finding};
pub use store::export::{AuditKey, verify_audit_export};

// README.md, docs/GUIDE.md and others need a web server: tests/web/pages.rs.
#[cfg(doctest)]
#[doc = include_str!("../docs/FLEET.md")]
struct FleetPage;

#[cfg(doctest)]
#[doc = include_str!("../docs/LIMITS.md")]
struct LimitsPage;

#[cfg(doctest)]
#[doc = include_str!("../docs/METRICS.md")]
struct MetricsPage;

#[cfg(doctest)]
#[doc = include_str!("../docs/OPERATING.md")]
struct OperatingPage;

#[cfg(doctest)]
#[doc = include_str!("../docs/RESTORE.md")]
struct RestorePage;

#[cfg(doctest)]
#[doc = include_str!("../docs/SELF_SERVICE.md")]
struct SelfServicePage;
