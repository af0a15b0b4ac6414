//! Behaviour tests against the public interface, by topic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod counters;

mod audit;
mod bad_input;
mod bounds;
mod charges;
mod clock_panics;
mod counts;
mod dry_runs;
mod durability;
mod extension;
mod field;
mod hints;
mod history;
mod idempotency;
mod imports;
mod issue;
mod keyspaces;
#[cfg(feature = "proof")]
mod lags;
mod levels;
mod limits;
mod listing;
mod looking;
mod metrics;
mod model;
mod opening;
mod owner_settings;
mod owners;
mod places;
mod quotas;
mod restore;
mod revoke;
mod rotate;
mod scanners;
mod self_service;
mod settling;
mod slices;
mod tenants;
mod threads;
mod tiers;
mod time;
mod unlimited;
mod update;
mod usage;
mod usage_history;
mod used_from;
mod vectors;
mod verify;
