//! Calling the server's own closures.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls a hook. A hook that panics must not cost the client its response.
pub(crate) fn call_hook(hook: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(hook));
}
