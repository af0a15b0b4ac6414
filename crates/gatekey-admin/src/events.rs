//! Events for `tracing`, with the feature of that name: what was asked by whom, and what
//! became of it. Nothing that a request holds is in one.

use crate::call::{Answer, Endpoint};
use crate::problem::Problem;

/// A change is at `INFO`, a refusal at `WARN`, a failure of the store at `ERROR`, and
/// what changes nothing at `DEBUG`.
#[cfg(feature = "tracing")]
pub(crate) fn served(endpoint: &Endpoint, actor: Option<&str>, answered: &Result<Answer, Problem>) {
    let (operation, actor) = (endpoint.id, actor.unwrap_or(""));
    match answered {
        Ok(_) if crate::api::is_safe(endpoint.method) => {
            tracing::debug!(target: "gatekey_admin", operation, actor, "read");
        }
        Ok(_) => tracing::info!(target: "gatekey_admin", operation, actor, "done"),
        Err(problem) => {
            let (status, code) = (problem.status(), problem.code());
            match status >= 500 {
                true => {
                    tracing::error!(target: "gatekey_admin", operation, actor, status, code, "failed");
                }
                false => {
                    tracing::warn!(target: "gatekey_admin", operation, actor, status, code, "refused");
                }
            }
        }
    }
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn served(_: &Endpoint, _: Option<&str>, answered: &Result<Answer, Problem>) {
    // Read where there are events.
    let _ = answered
        .as_ref()
        .map_err(|problem| (problem.status(), problem.code()));
}
