//! The layer, in front of axum and of a bare tower service.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod axum_router;
mod bare;
mod caching;
mod drain_layer;
mod draining;
mod failed;
mod required;
mod settling;
mod sources;
mod stacks;
mod verifiers;

use gatekey::{Engine, Issued, NewKey, NewKeyspace};

/// An engine with a keyspace, and a key that has `read`.
pub(crate) fn store() -> (Engine, Issued) {
    let engine = Engine::open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine
        .create_keyspace(keyspace.permissions(["read", "write"]))
        .unwrap();
    let issued = issue(&engine, &["read"]);
    (engine, issued)
}

pub(crate) fn issue(engine: &Engine, permissions: &[&str]) -> Issued {
    let new = NewKey::new("acme_live", "acme").unwrap();
    engine
        .issue(new.permissions(permissions.iter().copied()))
        .unwrap()
}
