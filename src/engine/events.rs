//! Events for `tracing`, with the feature of that name, at the target `gatekey`: what was
//! changed, that the store fails, and commits that took long. No event has a token, a
//! secret, a name or a note in it; whoever wants more asks the audit trail for the position.

use std::time::Duration;

use crate::model::error::Error;
use crate::store::delta::Delta;

/// From when a commit is a slow one.
#[cfg(feature = "tracing")]
const SLOW: Duration = Duration::from_millis(500);

/// What a commit changed, once it is durable: an event at `INFO` for each audit entry.
#[cfg(feature = "tracing")]
pub(super) fn changed(delta: &Delta) {
    for entry in &delta.waiting.audited {
        let (seq, change, keys) = (entry.seq, entry.kind.as_str(), entry.keys);
        let actor = entry.actor.as_deref().unwrap_or("");
        match entry.key {
            Some(key) => {
                tracing::info!(target: "gatekey", seq, change, actor, keys, %key, "changed");
            }
            None => tracing::info!(target: "gatekey", seq, change, actor, keys, "changed"),
        }
    }
}

#[cfg(not(feature = "tracing"))]
pub(super) fn changed(_: &Delta) {}

/// How a transaction ended: at `WARN` where its commit was slow, at `ERROR` where it failed.
#[cfg(feature = "tracing")]
pub(super) fn driven(changes: usize, took: Option<Duration>, failed: Option<&Error>) {
    if let Some(took) = took.filter(|took| *took >= SLOW) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(target: "gatekey", changes, ms, "slow commit");
    }
    if let Some(error) = failed {
        tracing::error!(target: "gatekey", changes, %error, "the store took no change");
    }
}

#[cfg(not(feature = "tracing"))]
pub(super) fn driven(_: usize, _: Option<Duration>, _: Option<&Error>) {}
