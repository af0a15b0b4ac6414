//! The records as they stand in the file: one private form for each kind.
//!
//! A form holds plain numbers, texts and lists, in the order of the format, and nothing
//! else in the crate is encoded: a field of a public type can be moved or renamed, and no
//! file changes. [`Stored`](crate::store::tables::Stored) turns a record into its form
//! and back; a form that does not make a record, such as one with an instant after the
//! year 9999, is a damaged record. `tests/vectors/stored.tsv` has the bytes of each.
//!
//! To change a record, give it the next version, keep its form for
//! [`decode_older`](crate::store::tables::Stored::decode_older), and add a vector.

use crate::model::clock::Timestamp;
use crate::model::id::KeyId;

mod audit;
mod counts;
mod import;
mod key;
mod keyspace;
mod meta;
mod owner;
mod quota;
mod request;
#[cfg(test)]
mod tests;
mod usage_history;
mod usage_networks;

/// An instant; `None` where it is out of range.
fn instant(ms: u64) -> Option<Timestamp> {
    Timestamp::from_unix_ms(ms).ok()
}

/// A key's id; `None` where it is out of range.
fn key_id(raw: u64) -> Option<KeyId> {
    KeyId::checked(raw)
}

fn raw_ids(ids: &[KeyId]) -> Vec<u64> {
    ids.iter().map(|id| id.raw()).collect()
}

fn key_ids(raw: &[u64]) -> Option<Vec<KeyId>> {
    raw.iter().map(|raw| key_id(*raw)).collect()
}

/// Reads what may be absent. `None` where it is there and cannot be read.
#[allow(clippy::option_option)]
fn maybe<F, T>(form: Option<F>, read: impl FnOnce(F) -> Option<T>) -> Option<Option<T>> {
    match form {
        Some(form) => read(form).map(Some),
        None => Some(None),
    }
}
