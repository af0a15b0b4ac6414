//! What the tests, benches and examples of several packages share.
//!
//! It does not depend on gatekey, so that the engine's unit tests can use it too: they
//! would otherwise meet two gatekeys, with types that look alike and differ.
#![allow(clippy::panic, reason = "a test that cannot go on should stop")]

#[cfg(feature = "tracing")]
pub mod events;
pub mod forge;
pub mod tools;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The folder of the workspace, where `docs`, `target` and the fixtures are.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Waits until something holds that others bring about.
///
/// # Panics
/// Where it does not within a minute.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What comes of a future that waits for nothing.
///
/// # Panics
/// Where it does wait.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("the future waits for something"),
    }
}
