//! What whoever writes a [`Log`](gatekey::fleet::Log) for a gatekey fleet tests it with.
//!
//! [`conformance`] has a function for each promise of the trait, and [`conformance::run`]
//! calls them all. [`FaultyLog`] stands between an engine and a log, and delays, cuts, loses
//! answers and lets appends land late, as a network and a database do.
//!
//! ```
//! use std::sync::Arc;
//! use gatekey::fleet::MemoryLog;
//!
//! gatekey_logkit::conformance::run(|| Arc::new(MemoryLog::new()));
//! ```
#![allow(clippy::panic, reason = "a test that finds a fault should stop")]

pub mod conformance;
mod faulty;

pub use faulty::{Asked, FaultyLog, LostAppend, Notified};
