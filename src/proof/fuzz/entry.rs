//! Invariants checked, for any bytes as an entry of a fleet's log, as they are, and with a
//! seal that is right, behind a head that is right and without one:
//! - without the seal they are refused;
//! - with it, reading them is an error or gives an entry; it does not panic;
//! - what was read is written, and reads back as the same.

use std::sync::LazyLock;

use zeroize::Zeroizing;

use crate::crypto::digest::{Keyring, NO_PEPPER};
use crate::model::clock::Timestamp;
use crate::store::entry::{self, Header, Place};

static RING: LazyLock<Keyring> = LazyLock::new(|| Keyring::new(&Zeroizing::new([3; 32]), &[]));
/// Behind what the entry must come.
static PLACE: LazyLock<Place> =
    LazyLock::new(|| entry::found(&RING, [5; 16], Timestamp::MIN).unwrap().1);

const HEADER: Header = Header {
    nonce: [7; 16],
    at: Timestamp::MIN,
    sets_time_back: false,
    takes_away: true,
    pepper: NO_PEPPER,
};

/// The most memory that reading and writing an entry of a length takes: the smallest record
/// has 6 bytes, and may be the one row of a map of its own.
#[must_use]
pub const fn entry_bytes_max(len: usize) -> u64 {
    (64 << 10) + 256 * len as u64
}

/// Takes bytes for an entry, for the content of one, and for its records.
pub fn entry(bytes: &[u8]) {
    // Nobody guesses a seal.
    assert!(entry::decode(&RING, &PLACE, bytes).is_err());
    assert!(entry::founded(&RING, bytes).is_err());
    let _ = Place::decode(&RING, bytes);
    sealed(bytes.to_vec());
    sealed([&entry::delta_head(HEADER, &PLACE), bytes].concat());
}

fn sealed(bytes: Vec<u8>) {
    let Ok(sealed) = entry::seal(&RING, bytes) else {
        return;
    };
    let _ = entry::founded(&RING, &sealed);
    let Ok(read) = entry::decode(&RING, &PLACE, &sealed) else {
        return;
    };
    let header = Header {
        at: read.at,
        sets_time_back: read.sets_time_back,
        takes_away: read.takes_away,
        ..HEADER
    };
    let written = entry::encode(&RING, &PLACE, header, &read.records).unwrap();
    let again = entry::decode(&RING, &PLACE, &written).unwrap();
    assert!(again.records == read.records && again.at == read.at);
    assert_eq!(
        (again.sets_time_back, again.takes_away, again.place.position),
        (read.sets_time_back, read.takes_away, 1)
    );
}
