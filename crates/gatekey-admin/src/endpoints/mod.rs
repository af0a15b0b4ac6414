//! The endpoints: one table, from which both the router and the document are made.

mod care;
mod fleet;
mod imports;
mod keys;
mod keyspaces;
mod owners;
mod trail;
pub(crate) mod usage;

use crate::call::Endpoint;

pub(crate) fn all() -> impl Iterator<Item = &'static Endpoint> {
    [
        keyspaces::ENDPOINTS,
        owners::ENDPOINTS,
        keys::ENDPOINTS,
        imports::ENDPOINTS,
        trail::ENDPOINTS,
        care::ENDPOINTS,
        fleet::ENDPOINTS,
        usage::ENDPOINTS,
    ]
    .into_iter()
    .flatten()
}
