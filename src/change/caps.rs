//! How many keys owners may hold: the caps of a keyspace, of owners, and of their levels.

use std::cmp::Reverse;

use crate::model::error::{Conflict, Error};
use crate::model::keyspace::{KeysPerOwner, Keyspace};
use crate::model::owner::OwnerPath;
use crate::model::owner_settings::Setting;
use crate::store::record::KeyRecord;
use crate::store::tx::Tx;

/// A cap that bounds the keys of an owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cap {
    /// Whose cap it is: the owner's, or that of one above it.
    pub(crate) owner: OwnerPath,
    /// Whether the keys of all below that owner count.
    pub(crate) below: bool,
    pub(crate) cap: u32,
}

/// Whether there is a cap in a keyspace at all, of whichever owner.
pub(crate) fn may_be(tx: &Tx<'_>, keyspace: &Keyspace) -> Result<bool, Error> {
    let of_keyspace = match keyspace.keys_per_owner {
        KeysPerOwner::Many { cap } => cap.is_some(),
        KeysPerOwner::SingleSuperseding | KeysPerOwner::SingleRefusing => keyspace.count_retiring,
    };
    Ok(of_keyspace || !keyspace.owner_defaults.is_empty() || tx.owner_settings_count()? > 0)
}

/// The caps that bound the keys of an owner in a keyspace.
pub(crate) fn of(tx: &Tx<'_>, keyspace: &Keyspace, owner: &OwnerPath) -> Result<Vec<Cap>, Error> {
    let mut caps = Vec::new();
    let mut own = Setting::Default;
    let has_settings = tx.owner_settings_count()? > 0;
    let has_any = has_settings || !keyspace.owner_defaults.is_empty();
    for (depth, path) in (1..).zip(owner.levels()).take_while(|_| has_any) {
        let path: OwnerPath = path.parse()?;
        own = match has_settings {
            true => tx.find_owner_settings(keyspace.id, &path)?,
            false => None,
        }
        .map_or(Setting::Default, |settings| settings.cap);
        let default = keyspace.owner_defaults.get(&depth);
        if let Some(cap) = own.or_default(default.and_then(|default| default.cap)) {
            caps.push(Cap {
                owner: path,
                below: true,
                cap,
            });
        }
    }
    let of_keyspace = match keyspace.keys_per_owner {
        // A cap of its own takes the place of the keyspace's.
        KeysPerOwner::Many { cap } => cap.filter(|_| own.is_default()),
        KeysPerOwner::SingleSuperseding | KeysPerOwner::SingleRefusing => {
            keyspace.count_retiring.then_some(1)
        }
    };
    caps.extend(of_keyspace.map(|cap| Cap {
        owner: owner.clone(),
        below: false,
        cap,
    }));
    Ok(caps)
}

/// Of caps that refuse, each with what is held, the lowest, and of several the one of the
/// longest path.
pub(crate) fn tightest(refusing: Vec<(Cap, u64)>) -> Option<(Cap, u64)> {
    refusing
        .into_iter()
        .min_by_key(|(cap, _)| (cap.cap, Reverse(cap.owner.depth())))
}

/// Refuses a rotation after which an owner would hold so many more keys, since its
/// keyspace counts a key in its grace, where a cap does not allow them.
pub(crate) fn refuse_grace(
    tx: &Tx<'_>,
    keyspace: &Keyspace,
    key: &KeyRecord,
    more: u64,
) -> Result<(), Error> {
    let mut refusing = Vec::new();
    for cap in of(tx, keyspace, &key.owner)? {
        let held = tx.tally(keyspace, &cap.owner, cap.below, cap.cap)?.count;
        if held + more > u64::from(cap.cap) {
            refusing.push((cap, held));
        }
    }
    match tightest(refusing) {
        Some((cap, held)) => Err(Conflict::NoRoomForGrace {
            key: key.id,
            owner: cap.owner,
            held,
            cap: cap.cap,
        }
        .into()),
        None => Ok(()),
    }
}
