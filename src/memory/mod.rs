//! What a process keeps in memory beside the file: resident keys, keyspaces, counters
//! and purses. Losing any of it causes no wrong grant.

pub(crate) mod attempts;
pub(crate) mod hash;
pub(crate) mod hints;
pub(crate) mod lagging;
pub(crate) mod levels;
pub(crate) mod limiter;
pub(crate) mod networks;
pub(crate) mod owner_names;
pub(crate) mod owner_terms;
pub(crate) mod process;
pub(crate) mod quota;
pub(crate) mod registry;
pub(crate) mod resident;
pub(crate) mod slab;
pub(crate) mod sweep;
pub(crate) mod tally;
pub(crate) mod usage;
