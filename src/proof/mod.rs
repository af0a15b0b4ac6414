//! What the project's own proofs reach into: tests, benches and fuzz targets.
//!
//! With the feature `proof` alone. Nothing here is part of the interface that
//! versions speak of; do not build on it. See docs/PROOF.md.

pub mod fuzz;

use crate::crypto::digest::{self, DIGEST_LEN, Keyring};
use crate::crypto::mac::{self, MAC_LEN, MacKey, NUMBERS};
use crate::crypto::token::{self, Entropy, SECRET_LEN, Signed};
use crate::engine::handle::Engine;
use crate::engine::options::Options;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::secret::Pepper;
use crate::store::place::Place;
use crate::store::settings::Intent;

pub use crate::steps::stop_at;
pub use crate::store::medium::Medium;

/// Opens or creates a store on a medium of the caller's: a disk that is
/// simulated, and may fail or lose its power.
///
/// It is [`Options::open_or_create`] but for what concerns a file's name: the look at a
/// file before it is opened for writing, its mode, its lock and its directory.
///
/// # Errors
/// As [`Options::open_or_create`].
pub fn open_on(mut options: Options, medium: impl Medium) -> Result<Engine, Error> {
    options.store.intent = Intent::OpenOrCreate;
    Engine::open_with(options, Place::Medium(std::sync::Arc::new(medium)))
}

/// Lets keys that are suspended, resumed or revoked together lag where they are more than
/// `at_once`, which is how many are brought up in a transaction, too. Unless
/// `by_itself`, only a flush brings them up.
pub fn lagging(mut options: Options, at_once: usize, by_itself: bool) -> Options {
    (options.at_once, options.brings_up) = (at_once, by_itself);
    options
}

/// Says when a file that was not closed is repaired: as it is opened, or once it
/// `reads_first`. An engine that has no thread then repairs it before its first change.
pub fn reading_first(mut options: Options, reads_first: bool) -> Options {
    options.reads_first = Some(reads_first);
    options
}

/// The comparison of two digests that every verification makes.
#[must_use]
#[inline(never)]
pub fn digests_equal(left: &[u8; DIGEST_LEN], right: &[u8; DIGEST_LEN]) -> bool {
    digest::digests_equal(left, right)
}

/// The digest of the last 60 characters of a token, in a store with this key and
/// these peppers, the signing one first.
#[must_use]
pub fn digest(store_key: &[u8; DIGEST_LEN], peppers: &[Pepper], signed: &Signed) -> [u8; 32] {
    let ring = Keyring::new(&zeroize::Zeroizing::new(*store_key), peppers);
    ring.sign(signed).1
}

/// The MAC of the last 60 characters of a token, under a key of these numbers.
#[must_use]
pub fn mac(numbers: &[u64; NUMBERS], signed: &Signed) -> [u8; MAC_LEN] {
    MacKey::of(numbers).mac(signed)
}

/// The comparison of two MACs that every verification from memory makes.
#[must_use]
pub fn macs_equal(left: &[u8; MAC_LEN], right: &[u8; MAC_LEN]) -> bool {
    mac::macs_equal(left, right)
}

/// Draws so many secrets, as issuing does.
///
/// # Errors
/// [`Error::Entropy`].
pub fn draw_secrets(count: usize, mut each: impl FnMut(&[u8; SECRET_LEN])) -> Result<(), Error> {
    let mut entropy = Entropy::new();
    for _ in 0..count {
        each(&*token::draw_secret(&mut entropy)?);
    }
    Ok(())
}

/// A text that has the form of a token in every digit, its checksum included: of no key,
/// unless the secret is that of the id.
///
/// # Errors
/// [`Error::Invalid`] for what is no prefix.
pub fn print_token(prefix: &str, id: KeyId, secret: &[u8; SECRET_LEN]) -> Result<String, Error> {
    Ok(token::print(&prefix.parse()?, id, secret)?.to_string())
}
