//! What a process keeps in memory beside the file: resident keys, keyspaces, counts
//! and purses. All of it can be lost without a wrong grant.

pub(crate) mod attempts;
pub(crate) mod hash;
pub(crate) mod limiter;
pub(crate) mod process;
pub(crate) mod quota;
pub(crate) mod registry;
pub(crate) mod resident;
pub(crate) mod sweep;
pub(crate) mod usage;
