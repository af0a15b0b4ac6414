//! Invariants checked, for any bytes as an entry of a fleet's log, as they are, and with a
//! seal that is right, behind a head that is right and without one:
//! - without the seal they are refused;
//! - with it, reading them is an error or gives an entry; it does not panic;
//! - what was read is written, and reads back as the same;
//! - records in a body are read as those in the entry, and not if a bit of them is another;
//! - whatever an entry says of its body, in bounded memory.

use std::sync::LazyLock;

use zeroize::Zeroizing;

use crate::crypto::digest::{Keyring, NO_PEPPER};
use crate::model::clock::Timestamp;
use crate::model::log::{BODY_LEN_MAX, BodyId};
use crate::store::body::{Named, Source};
use crate::store::entry::{self, Encoded, Entry, Header, Place};

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

/// Takes bytes for an entry, for the content of one, for what one says of its body, and for
/// that body.
pub fn entry(bytes: &[u8]) {
    // Nobody guesses a seal.
    assert!(read(bytes, bytes).is_none());
    assert!(entry::founded(&RING, bytes).is_err());
    let _ = Place::decode(&RING, bytes);
    sealed(bytes.to_vec(), bytes);
    let whole = sealed([&entry::delta_head(HEADER, &PLACE), bytes].concat(), bytes);
    sealed(entry::naming(HEADER, &PLACE, bytes), bytes);
    // The same records, in a body.
    let named = entry::naming(HEADER, &PLACE, &Named::of(bytes).encode());
    let apart = sealed(named.clone(), bytes);
    assert!(apart.map(|entry| entry.records) == whole.map(|entry| entry.records));
    let mut changed = bytes.to_vec();
    let middle = changed.len() / 2;
    if let Some(byte) = changed.get_mut(middle) {
        *byte ^= 1;
        assert!(sealed(named, &changed).is_none());
    }
}

/// Reads an entry whose body is this, or has this in each of three parts.
fn read(sealed: &[u8], body: &[u8]) -> Option<Entry> {
    let ask = &mut |_: &BodyId, part| Ok((part < 3).then(|| body.to_vec()));
    entry::decode(&RING, &PLACE, sealed, &mut Source::Asked(ask)).ok()
}

fn sealed(bytes: Vec<u8>, body: &[u8]) -> Option<Entry> {
    let sealed = entry::seal(&RING, bytes).ok()?;
    let _ = entry::founded(&RING, &sealed);
    let found = read(&sealed, body)?;
    let header = Header {
        at: found.at,
        sets_time_back: found.sets_time_back,
        takes_away: found.takes_away,
        ..HEADER
    };
    let written = entry::encode(&RING, &PLACE, header, &found.records, BODY_LEN_MAX).unwrap();
    let Encoded { entry, body } = written;
    let again = read(&entry, &body.unwrap_or_default()).unwrap();
    assert!(again.records == found.records && again.at == found.at);
    assert_eq!(
        (again.sets_time_back, again.takes_away, again.place.position),
        (found.sets_time_back, found.takes_away, 1)
    );
    Some(found)
}
