//! The entries of a fleet's log, and where in the log a file stands.
//!
//! An entry is `head, records, seal`. The seal is a keyed hash over all before it, the
//! position and the seal of the entry before included, under a key that comes of the store
//! key and of that pepper: so who can write to the log and does not know the pepper can neither make an
//! entry nor move one. Nothing of an entry is decoded before its seal was found right, and what is
//! decoded then takes no more memory than the entry has bytes.
//!
//! The records of an entry that would be larger than [`ENTRY_LEN_MAX`] are its [body](crate::store::body),
//! which the log has beside it, in parts. The entry names it by its hash.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | kind: 0 founds the log, 1 is a delta, 2 a delta whose records are in a body |
//! | 2 | 1 | flags: 1 sets time back, 2 takes access away |
//! | 3 | 1 | the pepper that signed as it was made, under which the seal is; 0 in the first |
//! | 4 | 4 | format of the records |
//! | 8 | 8 | position |
//! | 16 | 32 | seal of the entry before |
//! | 48 | 8 | instant of the commit |
//! | 56 | 16 | the fleet |
//! | 72 | 16 | nonce, drawn for each: two servers that make the same change at one instant write two entries, of which each knows its own by the seal. A body is put under it |
//! | 88 | | of kind 1, tables: length of the name (1), name, number of records (4); each of these: length of the key (2), key, length of the value (4, all ones: removed), value |
//! | 88 | 44 | of kind 2, the body: its length (8), how many parts it has (4), its BLAKE3 (32) |
//! | the end | 32 | seal |

use crate::crypto::digest::{DIGEST_LEN, Keyring, NO_PEPPER, TAG_LEN, digests_equal};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::log::{BODY_LEN_MAX, BodyId, ENTRY_LEN_MAX, LogError, SEAL_LEN, Seal};
use crate::store::body::{Named, Source, refused};
use crate::store::journal::{Records, Rows};
use crate::store::tables::{FORMAT, META_FLEET, Tagged};

const VERSION: u8 = 1;
const HEAD_LEN: usize = 88;
const FOUNDS: u8 = 0;
const IS_DELTA: u8 = 1;
const HAS_BODY: u8 = 2;
/// The longest entry that is read: before there were bodies, all records were in it.
const READ_LEN_MAX: usize = 64 << 20;
const SETS_TIME_BACK: u8 = 1;
const TAKES_AWAY: u8 = 2;
/// In the place of a value's length: the record was removed.
const REMOVED: u32 = u32::MAX;

/// The name of a fleet, drawn as it is founded.
pub(crate) type FleetId = [u8; 16];

/// Where in a fleet's log a file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) fleet: FleetId,
    /// The entry that was applied last.
    pub(crate) position: u64,
    pub(crate) seal: Seal,
}

const PLACE_VERSION: u8 = 1;
const PLACE_LEN: usize = 1 + 16 + 8 + SEAL_LEN;

impl Place {
    /// As it stands in the file: version, fleet, position, seal, tag.
    pub(super) fn encode(&self, ring: &Keyring) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PLACE_LEN + TAG_LEN);
        bytes.push(PLACE_VERSION);
        bytes.extend(self.fleet);
        bytes.extend(self.position.to_le_bytes());
        bytes.extend(self.seal.as_bytes());
        let tag = ring.tag(Tagged::Fleet as u8, META_FLEET.as_bytes(), &bytes);
        bytes.extend(tag);
        bytes
    }

    pub(crate) fn decode(ring: &Keyring, bytes: &[u8]) -> Result<Self, Error> {
        let corrupted = |why| Error::corrupted("gatekey", META_FLEET, why);
        let (body, tag) = bytes
            .split_last_chunk::<TAG_LEN>()
            .ok_or_else(|| corrupted("it is too short"))?;
        if !ring.tag_is_right(Tagged::Fleet as u8, META_FLEET.as_bytes(), body, tag) {
            return Err(corrupted("its tag is wrong"));
        }
        let mut reader = Reader(body);
        let read = (|| {
            let version = reader.byte()?;
            let place = Self {
                fleet: reader.array()?,
                position: reader.u64()?,
                seal: Seal::new(reader.array()?),
            };
            (version == PLACE_VERSION && reader.0.is_empty()).then_some(place)
        })();
        read.ok_or_else(|| corrupted("its version is unknown"))
    }
}

/// A delta as the log carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) previous: Seal,
    pub(crate) at: Timestamp,
    pub(crate) sets_time_back: bool,
    /// Whether callers wait until every server has applied it.
    pub(crate) takes_away: bool,
    /// How many bytes it has, with its body.
    pub(crate) len: usize,
    pub(crate) records: Records,
}

/// An entry as it is appended, with what is put before.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) entry: Vec<u8>,
    pub(crate) body: Option<Vec<u8>>,
}

/// What an entry is sealed with beside its records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    /// What tells this entry from one of another server with the same content.
    pub(crate) nonce: [u8; 16],
    pub(crate) at: Timestamp,
    pub(crate) sets_time_back: bool,
    pub(crate) takes_away: bool,
    /// The pepper that signed as it was made, and that of its digests, if it has any.
    pub(crate) pepper: u8,
}

fn head(kind: u8, header: Header, after: &Place, position: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_LEN);
    let flag = |is_set: bool, flag| if is_set { flag } else { 0 };
    let flags = flag(header.sets_time_back, SETS_TIME_BACK) | flag(header.takes_away, TAKES_AWAY);
    bytes.extend([VERSION, kind, flags, header.pepper]);
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend(position.to_le_bytes());
    bytes.extend(after.seal.as_bytes());
    bytes.extend(header.at.unix_ms().to_le_bytes());
    bytes.extend(after.fleet);
    bytes.extend(header.nonce);
    bytes
}

pub(crate) fn seal(ring: &Keyring, mut bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    let seal = ring.log_seal(pepper_of(&bytes), &bytes);
    bytes.extend(seal.ok_or(Error::Internal("an entry of a pepper that is not there"))?);
    Ok(bytes)
}

/// The format of an entry's records, by what it says of itself: its place is the same in all
/// versions.
pub(crate) fn format_of(entry: &[u8]) -> Option<u32> {
    let format = entry.get(4..)?.first_chunk()?;
    Some(u32::from_le_bytes(*format))
}

/// The pepper in whose seal an entry is: its place is the same in all versions.
fn pepper_of(entry: &[u8]) -> u8 {
    entry.get(3).copied().unwrap_or(NO_PEPPER)
}

/// The head of an entry right behind a place, for the proofs.
#[cfg(feature = "proof")]
pub(crate) fn delta_head(header: Header, after: &Place) -> Vec<u8> {
    head(IS_DELTA, header, after, after.position + 1)
}

/// The entry that founds a log, with the place of a file that has applied it.
pub(crate) fn found(
    ring: &Keyring,
    fleet: FleetId,
    at: Timestamp,
) -> Result<(Vec<u8>, Place), Error> {
    let before = Place {
        fleet,
        position: 0,
        seal: Seal::new([0; SEAL_LEN]),
    };
    let header = Header {
        // The fleet's name is drawn too.
        nonce: [0; 16],
        at,
        sets_time_back: false,
        takes_away: false,
        // The same bytes whenever it is made, whatever signs then.
        pepper: NO_PEPPER,
    };
    let bytes = seal(ring, head(FOUNDS, header, &before, 0))?;
    let seal = Seal::of(&bytes);
    Ok((bytes, Place { seal, ..before }))
}

/// The fleet whose log an entry founds.
pub(crate) fn founded(ring: &Keyring, bytes: &[u8]) -> Result<Place, Error> {
    let mut reader = unsealed(ring, 0, bytes)?;
    let read = (|| {
        let kind = reader.take(2)?.get(1).copied()?;
        reader.take(46)?;
        reader.u64()?;
        Some((kind, reader.array()?))
    })();
    match read {
        Some((FOUNDS, fleet)) => Ok(Place {
            fleet,
            position: 0,
            seal: Seal::of(bytes),
        }),
        _ => Err(refused(0, "it founds no log")),
    }
}

/// Seals a delta as the entry right behind a place. One that is too large for an entry has a
/// body, of at most so many bytes.
pub(crate) fn encode(
    ring: &Keyring,
    after: &Place,
    header: Header,
    records: &Records,
    body_len_max: usize,
) -> Result<Encoded, Error> {
    const WHOLE_MAX: usize = ENTRY_LEN_MAX - SEAL_LEN;
    let mut bytes = head(IS_DELTA, header, after, after.position + 1);
    let len_max = WHOLE_MAX.max(HEAD_LEN + body_len_max.min(BODY_LEN_MAX));
    write(&mut bytes, records, len_max).ok_or_else(|| {
        let why = "the change is too large for the log: make it in several steps";
        Error::Log(LogError::new(why))
    })?;
    if bytes.len() <= WHOLE_MAX {
        let entry = seal(ring, bytes)?;
        return Ok(Encoded { entry, body: None });
    }
    bytes.drain(..HEAD_LEN);
    Ok(Encoded {
        entry: seal(ring, naming(header, after, &Named::of(&bytes).encode()))?,
        body: Some(bytes),
    })
}

/// An entry that says this of its body.
pub(crate) fn naming(header: Header, after: &Place, named: &[u8]) -> Vec<u8> {
    let mut entry = head(HAS_BODY, header, after, after.position + 1);
    entry.extend(named);
    entry
}

/// Writes tables behind what is there. `None`: it would be longer than it may be.
fn write(bytes: &mut Vec<u8>, records: &Records, len_max: usize) -> Option<()> {
    for (name, rows) in records {
        bytes.push(u8::try_from(name.len()).ok()?);
        bytes.extend(name.as_bytes());
        bytes.extend(u32::try_from(rows.len()).ok()?.to_le_bytes());
        for (key, value) in rows {
            bytes.extend(u16::try_from(key.len()).ok()?.to_le_bytes());
            bytes.extend(key);
            let len = match value {
                None => REMOVED,
                Some(value) => {
                    let len = u32::try_from(value.len()).ok();
                    len.filter(|len| *len != REMOVED)?
                }
            };
            bytes.extend(len.to_le_bytes());
            bytes.extend(value.iter().flatten());
            if bytes.len() > len_max {
                return None;
            }
        }
    }
    (bytes.len() <= len_max).then_some(())
}

/// Reads the entry right behind a place, of which it must be the next. Its body, if it has
/// one, is asked for once all else of it was found right.
pub(crate) fn decode(
    ring: &Keyring,
    after: &Place,
    bytes: &[u8],
    source: &mut Source<'_>,
) -> Result<Entry, Error> {
    let position = after.position + 1;
    let mut reader = unsealed(ring, position, bytes)?;
    let no = |why: &str| Err(refused(position, why));
    let Some((head, rest)) = reader.0.split_first_chunk::<HEAD_LEN>() else {
        return no("it is too short");
    };
    reader.0 = rest;
    let [_, kind, flags, ..] = *head;
    let mut head = Reader(head);
    let fields = (|| {
        head.take(4)?;
        let format = u32::from_le_bytes(head.array()?);
        let found = head.u64()?;
        let previous = Seal::new(head.array()?);
        let at = head.u64()?;
        let (fleet, nonce): (_, BodyId) = (head.array()?, head.array()?);
        Some((format, found, previous, at, fleet, nonce))
    })();
    let Some((format, found, previous, at, fleet, nonce)) = fields else {
        return no("it is too short");
    };
    if !matches!(kind, IS_DELTA | HAS_BODY)
        || flags & !(SETS_TIME_BACK | TAKES_AWAY) != 0
        || format > FORMAT
    {
        return no("a newer gatekey wrote it; use that on this server too");
    }
    if fleet != after.fleet {
        return no("it is of another fleet");
    }
    if found != position {
        return no("it was written for another position");
    }
    if previous != after.seal {
        return no(
            "it does not follow on what this server has applied: the log has another history",
        );
    }
    let mut len = bytes.len();
    let body;
    if kind == HAS_BODY {
        let Some(named) = Named::decode(reader.0) else {
            return no("it does not decode");
        };
        body = named.body(position, &nonce, source)?;
        len += body.len();
        reader = Reader(&body);
    }
    let Some(records) = reader.records() else {
        return no("it does not decode");
    };
    Ok(Entry {
        place: Place {
            fleet,
            position,
            seal: Seal::of(bytes),
        },
        previous,
        at: Timestamp::from_raw(at),
        sets_time_back: flags & SETS_TIME_BACK != 0,
        takes_away: flags & TAKES_AWAY != 0,
        len,
        records,
    })
}

/// What an entry says, without its seal, which was found right.
fn unsealed<'e>(ring: &Keyring, position: u64, bytes: &'e [u8]) -> Result<Reader<'e>, Error> {
    if bytes.len() > READ_LEN_MAX {
        return Err(refused(position, "it is too long"));
    }
    let Some((body, seal)) = bytes.split_last_chunk::<DIGEST_LEN>() else {
        return Err(refused(position, "it is too short"));
    };
    let pepper = pepper_of(body);
    let Some(own) = ring.log_seal(pepper, body) else {
        let why = format!("its server signs with pepper {pepper}, which this one does not have");
        return Err(refused(position, &why));
    };
    if !digests_equal(&own, seal) {
        let why = match pepper {
            NO_PEPPER => "its seal is wrong: it was changed, or is of another store".to_owned(),
            id => format!(
                "its seal is wrong: it was changed, is of another store, or its server has another secret for pepper {id}"
            ),
        };
        return Err(refused(position, &why));
    }
    match body.first() {
        Some(&VERSION) => Ok(Reader(body)),
        _ => Err(refused(
            position,
            "a newer gatekey wrote it; use that on this server too",
        )),
    }
}

/// Bytes that are read from the front.
struct Reader<'e>(&'e [u8]);

impl<'e> Reader<'e> {
    fn take(&mut self, count: usize) -> Option<&'e [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn len(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Each record is read from bytes that are there: a count or a length that lies ends
    /// the reading, and reserves nothing.
    fn records(&mut self) -> Option<Records> {
        let mut records = Records::new();
        while !self.0.is_empty() {
            let name_len = self.byte()?;
            let name = std::str::from_utf8(self.take(name_len.into())?).ok()?;
            let mut rows = Rows::new();
            for _ in 0..self.len()? {
                let key_len = u16::from_le_bytes(self.array()?);
                let key = self.take(key_len.into())?.to_vec();
                let value = match self.len()? {
                    REMOVED => None,
                    len => Some(self.take(usize::try_from(len).ok()?)?.to_vec()),
                };
                rows.insert(key, value);
            }
            records.insert(name.to_owned(), rows);
        }
        Some(records)
    }
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn ring(byte: u8) -> Keyring {
        Keyring::new(&Zeroizing::new([byte; 32]), &[])
    }

    const HEADER: Header = Header {
        nonce: [3; 16],
        at: Timestamp::MIN,
        sets_time_back: false,
        takes_away: true,
        pepper: NO_PEPPER,
    };

    fn records() -> Records {
        let rows = Rows::from([(vec![1; 8], Some(vec![9; 40])), (vec![2; 8], None)]);
        let empty = Rows::from([(Vec::new(), Some(Vec::new()))]);
        Records::from([("keys".to_owned(), rows), ("by_owner".to_owned(), empty)])
    }

    fn written(ring: &Keyring, after: &Place, header: Header, records: &Records) -> Vec<u8> {
        let encoded = encode(ring, after, header, records, BODY_LEN_MAX).unwrap();
        assert!(encoded.body.is_none());
        encoded.entry
    }

    fn read(ring: &Keyring, after: &Place, bytes: &[u8]) -> Result<Entry, Error> {
        decode(ring, after, bytes, &mut Source::Here(b"none is asked for"))
    }

    /// The place of the founding entry, and the two entries behind it.
    fn chain(ring: &Keyring) -> (Place, [Vec<u8>; 2], [Entry; 2]) {
        let (first, place) = found(ring, [5; 16], Timestamp::MIN).unwrap();
        assert_eq!(founded(ring, &first).unwrap(), place);
        let one = written(ring, &place, HEADER, &records());
        let first = read(ring, &place, &one).unwrap();
        let two = written(ring, &first.place, HEADER, &Records::new());
        let last = read(ring, &first.place, &two).unwrap();
        (place, [one, two], [first, last])
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let ring = ring(7);
        let (place, _, [one, two]) = chain(&ring);
        assert_eq!((one.place.position, two.place.position), (1, 2));
        assert_eq!((one.previous, two.previous), (place.seal, one.place.seal));
        assert_eq!(one.records, records());
        // Another server's, with the same content.
        let nonce = [4; 16];
        let other = written(&ring, &place, Header { nonce, ..HEADER }, &records());
        assert_ne!(
            read(&ring, &place, &other).unwrap().place.seal,
            one.place.seal
        );
        assert!(one.takes_away && !one.sets_time_back);
        let stored = place.encode(&ring);
        assert_eq!(Place::decode(&ring, &stored).unwrap(), place);
        for bit in 0..stored.len() * 8 {
            let mut bad = stored.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Place::decode(&ring, &bad).is_err(), "bit {bit}");
        }
    }

    fn from_hex(text: &str) -> Vec<u8> {
        let pairs = text.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        pairs.map(byte).collect()
    }

    /// `tests/vectors/entries.tsv`: what a log has is read for ever, and written as the newest
    /// row of each kind. A new format of records gets rows of its own.
    #[test]
    fn an_entry_is_written_as_it_always_was_and_those_of_older_formats_are_read() {
        let ring = ring(7);
        let (place, [one, _], [entry, _]) = chain(&ring);
        let (first, _) = found(&ring, [5; 16], Timestamp::MIN).unwrap();
        let large = crate::store::body::tests::large(&[600_000]);
        let Encoded { entry: named, body } =
            encode(&ring, &place, HEADER, &large, BODY_LEN_MAX).unwrap();
        let body = body.unwrap();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let newest_of: [(&str, String); 4] = [
            ("founding", hex(&first)),
            ("delta", hex(&one)),
            ("delta with a body", hex(&named)),
            ("place", hex(&place.encode(&ring))),
        ];
        let vectors = include_str!("../../tests/vectors/entries.tsv").lines();
        let mut newest = std::collections::BTreeMap::new();
        for line in vectors.filter(|line| !line.starts_with('#')) {
            let (kind, bytes) = line.split_once('\t').unwrap();
            newest.insert(kind, bytes.to_owned());
            let bytes = from_hex(bytes);
            match kind {
                "founding" => assert_eq!(founded(&ring, &bytes).unwrap().fleet, [5; 16]),
                "delta" => {
                    // Behind the founding entry of its own format.
                    let before = from_hex(&newest["founding"]);
                    let after = founded(&ring, &before).unwrap();
                    assert_eq!(read(&ring, &after, &bytes).unwrap().records, entry.records);
                }
                "delta with a body" => {
                    let before = from_hex(&newest["founding"]);
                    let after = founded(&ring, &before).unwrap();
                    let source = &mut Source::Here(&body);
                    let found = decode(&ring, &after, &bytes, source).unwrap();
                    assert!(found.records == large);
                }
                _ => drop(Place::decode(&ring, &bytes).unwrap()),
            }
        }
        assert_eq!(newest, std::collections::BTreeMap::from(newest_of));
    }

    #[test]
    fn an_entry_that_was_forged_cut_moved_or_replayed_is_refused() {
        let (ring, other) = (ring(7), ring(8));
        let (place, [one, two], [first, _]) = chain(&ring);
        for bit in 0..one.len() * 8 {
            let mut bad = one.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&ring, &place, &bad).is_err(), "bit {bit}");
        }
        for len in 0..one.len() {
            assert!(read(&ring, &place, &one[..len]).is_err(), "{len}");
            assert!(read(&ring, &place, &one[len + 1..]).is_err(), "{len}");
        }
        // In another order, twice, under another key, of another fleet.
        assert!(read(&ring, &place, &two).is_err());
        assert!(read(&ring, &first.place, &one).is_err());
        assert!(read(&other, &place, &one).is_err());
        let elsewhere = Place {
            fleet: [6; 16],
            ..place
        };
        assert!(read(&ring, &elsewhere, &one).is_err());
        // The right position behind another history.
        let forked = Place {
            seal: Seal::new([1; 32]),
            ..place
        };
        let why = read(&ring, &forked, &one).unwrap_err().to_string();
        assert!(why.contains("another history"), "{why}");
        // A delta founds nothing, and the founding entry is none.
        assert!(founded(&ring, &one).is_err());
        let (first, _) = found(&ring, [5; 16], Timestamp::MIN).unwrap();
        assert!(read(&ring, &place, &first).is_err());
    }

    /// The position is in what is sealed, not only compared: an entry whose position was
    /// changed with its bytes is forged.
    #[test]
    fn the_seal_covers_the_position() {
        let ring = ring(7);
        let (place, [one, _], _) = chain(&ring);
        let mut moved = one;
        moved[8] = 9;
        let ahead = Place {
            position: 8,
            ..place
        };
        let why = read(&ring, &ahead, &moved).unwrap_err().to_string();
        assert!(why.contains("seal is wrong"), "{why}");
    }

    #[test]
    fn a_body_that_lies_is_an_error_and_reserves_nothing() {
        let ring = ring(7);
        let (_, place) = found(&ring, [5; 16], Timestamp::MIN).unwrap();
        let with = |body: &[u8]| {
            let mut bytes = head(IS_DELTA, HEADER, &place, 1);
            bytes.extend(body);
            read(&ring, &place, &seal(&ring, bytes).unwrap())
        };
        assert!(with(b"").is_ok());
        // Four billion records, a key and a value that are not there, a name that is none.
        let lies: [&[u8]; 5] = [
            b"\x04keys\xff\xff\xff\xff",
            b"\x04keys\x01\0\0\0\xff\xff",
            b"\x04keys\x01\0\0\0\x01\0k\xfe\xff\xff\xff",
            b"\x09keys",
            b"\x02\xff\xff\0\0\0\0",
        ];
        for lie in lies {
            assert!(with(lie).is_err(), "{lie:?}");
        }
    }

    /// Both may be given under one id, on servers whose files do not know it yet.
    #[test]
    fn an_entry_of_another_secret_for_the_same_pepper_is_refused() {
        let key = Zeroizing::new([7; 32]);
        let with = |fill| {
            let pepper = |id, fill| crate::Pepper::new(id, [fill; 32]).unwrap();
            Keyring::new(&key, &[pepper(2, fill), pepper(1, 1)])
        };
        let (ring, other) = (with(5), with(6));
        let (first, place) = found(&ring, [5; 16], Timestamp::MIN).unwrap();
        assert_eq!(founded(&other, &first).unwrap(), place);
        for (pepper, is_read) in [(1, true), (2, false)] {
            let header = Header { pepper, ..HEADER };
            let entry = written(&ring, &place, header, &records());
            assert!(read(&ring, &place, &entry).is_ok());
            let elsewhere = read(&other, &place, &entry);
            assert_eq!(elsewhere.is_ok(), is_read);
            if let Err(error) = elsewhere {
                let told = error.to_string();
                assert!(told.contains("another secret for pepper 2"), "{told}");
            }
        }
        assert_ne!(ring.pepper_checks(), other.pepper_checks());
        assert_eq!(ring.pepper_checks()[1], other.pepper_checks()[1]);
    }
}
