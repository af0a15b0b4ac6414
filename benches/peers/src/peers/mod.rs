//! The peers, one file each.

mod api_keys_simplified;
mod dashmap;
mod fjall;
mod gatekey;
mod lmdb;
mod moka;
mod postgres;
mod prefixed_api_key;
mod redb;
mod redis;
mod sqlite;

use anyhow::Result;

use crate::peer::{Peer, Place};
use crate::world::World;

/// Loads a peer, or says why it is not available.
type Load = fn(&Place<'_>, &World) -> Result<Box<dyn Peer>>;

/// All peers in the order of the table, by the names that `--only` takes.
pub(crate) const ALL: [(&str, Load); 13] = [
    ("gatekey-resident", load::<gatekey::Resident>),
    ("gatekey-from-file", load::<gatekey::FromFile>),
    ("gatekey-from-pages", load::<gatekey::FromPages>),
    ("lmdb", load::<lmdb::Lmdb>),
    ("redb", load::<redb::Redb>),
    ("sqlite", load::<sqlite::Sqlite>),
    ("fjall", load::<fjall::Fjall>),
    ("dashmap", load::<dashmap::Dash>),
    ("moka", load::<moka::Moka>),
    ("postgres", load::<postgres::Postgres>),
    ("redis", load::<redis::Redis>),
    ("prefixed-api-key", load::<prefixed_api_key::Prefixed>),
    (
        "api-keys-simplified",
        load::<api_keys_simplified::Simplified>,
    ),
];

fn load<P: Peer + 'static>(place: &Place<'_>, world: &World) -> Result<Box<dyn Peer>> {
    Ok(Box::new(P::load(place, world)?))
}
