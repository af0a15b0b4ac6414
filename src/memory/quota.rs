//! Quotas, as they are spent from memory.
//!
//! What is left stands in the store. The engine takes a *slice* of it in one
//! durable commit, spends that from memory, and puts the rest back when it closes.
//! So a quota is never overspent, not even after a crash, which loses at most the
//! slices that were out: a hundredth of a quota each, at least ten requests and at
//! most 1,000, or what one request costs where that is more.

mod front;
mod purses;
mod spend;

pub(crate) use spend::{Fetched, Name, Quotas, Taken};

#[cfg(test)]
#[cfg(gatekey_loom)]
mod interleavings;
#[cfg(test)]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
mod tests;
