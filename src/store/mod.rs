//! The file: the only place that names redb.
//!
//! [`open`] finds or makes the file of a store ([`file`] keeps a file and its name
//! together), [`identity`] says who it is and opens its key, [`tx`] is a write
//! transaction, [`snapshot`] a consistent view for readers, [`queue`] lets writers that
//! wait together share a commit, [`check`] walks everything, [`backup`] copies it, and
//! [`mark`] says whether a copy is whole.
//!
//! A [`base`] is a database on its [`ground`], to which it has an [`access`] that can be
//! taken away; [`recovery`] opens another beneath the engine where a call has failed,
//! and [`rewrite`] writes the store to another file.

mod access;
pub(crate) mod aside;
pub(crate) mod backup;
mod base;
pub(crate) mod body;
pub(crate) mod check;
pub(crate) mod codec;
pub(crate) mod counts;
mod damage;
pub(crate) mod delta;
pub(crate) mod entry;
pub(crate) mod export;
pub(crate) mod extension;
pub(crate) mod failure;
pub(crate) mod file;
pub(crate) mod foreign;
mod ground;
mod held;
pub(crate) mod history;
mod home;
pub(crate) mod hot;
pub(crate) mod identity;
pub(crate) mod import;
pub(crate) mod journal;
mod lagging;
pub(crate) mod lags;
pub(crate) mod leftovers;
pub(crate) mod life;
mod lineage;
mod mark;
#[cfg(feature = "proof")]
pub(crate) mod medium;
pub(crate) mod open;
pub(crate) mod owner_settings;
mod owner_told;
mod partial;
pub(crate) mod pipe;
pub(crate) mod place;
pub(crate) mod queue;
pub(crate) mod quota;
pub(crate) mod reach;
pub(crate) mod read;
pub(crate) mod record;
mod rewrite;
pub(crate) mod settings;
pub(crate) mod snapshot;
mod stored;
mod suspended;
pub(crate) mod tables;
pub(crate) mod trail;
pub(crate) mod tx;
pub(crate) mod usage_history;
pub(crate) mod usage_networks;
mod view;
pub(crate) mod writer;
