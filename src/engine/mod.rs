//! The engine: the public handle, the way of a verification and the way of a change.

mod availability;
mod backup;
mod charge;
mod checking;
mod commit;
pub(crate) mod compact;
mod counters;
mod counting;
mod events;
mod expiring;
pub mod extension;
mod extension_tx;
pub mod fleet;
mod flush;
mod follower;
mod foreign;
#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod forked;
pub(crate) mod handle;
mod hints;
mod importing;
mod insight;
mod issuing;
mod keyspaces;
mod lagging;
mod looking;
mod maintenance;
mod metrics;
pub(crate) mod once;
mod open;
pub(crate) mod options;
mod owner_settings;
mod owners;
pub(crate) mod policy;
pub(crate) mod prove;
pub(crate) mod repair;
pub(crate) mod restore;
mod revoking;
mod settle;
pub(crate) mod shared;
mod standing;
mod time;
mod trail;
mod usage_history;
mod verify;
mod vouch;
