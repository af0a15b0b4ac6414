use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::*;
use crate::crypto::digest::{Keyring, NO_PEPPER};
use crate::model::clock::Timestamp;
use crate::model::log::{ENTRY_LEN_MAX, Seal};
use crate::store::entry::{self, Encoded, Entry, Header, Place};
use crate::store::journal::{Records, Rows};

const NONCE: BodyId = [3; 16];
const HEADER: Header = Header {
    nonce: NONCE,
    at: Timestamp::MIN,
    sets_time_back: false,
    takes_away: true,
    pepper: NO_PEPPER,
};

/// A table with a record of each length.
pub(in crate::store) fn large(lens: &[usize]) -> Records {
    let row = |(at, len): (usize, &usize)| {
        let value = (0..*len).map(|byte| u8::try_from((byte + at) % 251).unwrap());
        (vec![u8::try_from(at).unwrap(); 8], Some(value.collect()))
    };
    let rows: Rows = lens.iter().enumerate().map(row).collect();
    Records::from([("keys".to_owned(), rows)])
}

struct Chain {
    ring: Keyring,
    place: Place,
}

impl Chain {
    fn new() -> Self {
        let ring = Keyring::new(&Zeroizing::new([7; 32]), &[]);
        let (_, place) = entry::found(&ring, [5; 16], Timestamp::MIN).unwrap();
        Self { ring, place }
    }

    fn encode(&self, records: &Records, body_len_max: usize) -> Result<Encoded, Error> {
        entry::encode(&self.ring, &self.place, HEADER, records, body_len_max)
    }

    /// Reads an entry whose body's parts are these, and gives which were asked for.
    fn read(&self, entry: &[u8], parts: &[Vec<u8>]) -> (Result<Entry, Error>, Vec<u32>) {
        let mut asked = Vec::new();
        let ask = &mut |id: &BodyId, part: u32| {
            assert_eq!(*id, NONCE);
            asked.push(part);
            Ok(parts.get(usize::try_from(part).unwrap()).cloned())
        };
        let read = entry::decode(&self.ring, &self.place, entry, &mut Source::Asked(ask));
        (read, asked)
    }

    /// An entry that names a body, sealed as by a server.
    fn naming(&self, kind: u8, named: &[u8]) -> Vec<u8> {
        let mut bytes = self.encode(&large(&[600_000]), 1 << 20).unwrap().entry;
        bytes.truncate(88);
        bytes[1] = kind;
        bytes.extend(named);
        entry::seal(&self.ring, bytes).unwrap()
    }
}

type Change = fn(&mut Vec<Vec<u8>>);

fn in_parts(body: &[u8]) -> Vec<Vec<u8>> {
    parts(body).map(|(_, bytes)| bytes.to_vec()).collect()
}

fn why<T>(result: Result<T, Error>) -> String {
    // Not unwrapped: what it says of an entry has megabytes.
    let Some(error) = result.err() else {
        panic!("it is read");
    };
    assert!(matches!(error, Error::Log(_)), "{error:?}");
    error.to_string()
}

#[test]
fn what_is_too_large_for_an_entry_is_in_its_body_and_reads_back_as_the_same() {
    let chain = Chain::new();
    // As large as an entry may be, and a byte more.
    let empty = chain.encode(&large(&[0]), BODY_LEN_MAX).unwrap();
    let rest = ENTRY_LEN_MAX - empty.entry.len();
    let whole = chain.encode(&large(&[rest]), BODY_LEN_MAX).unwrap();
    assert_eq!(whole.entry.len(), ENTRY_LEN_MAX);
    assert!(whole.body.is_none());
    for lens in [
        vec![rest + 1],
        vec![600_000],
        vec![900_000, 900_000, 900_000],
    ] {
        let records = large(&lens);
        let Encoded { entry, body } = chain.encode(&records, BODY_LEN_MAX).unwrap();
        let body = body.unwrap();
        assert_eq!(entry.len(), 88 + 44 + 32);
        let parts = in_parts(&body);
        assert!(parts.iter().all(|part| part.len() <= PART_LEN_MAX));
        let (read, asked) = chain.read(&entry, &parts);
        let read = read.unwrap();
        assert!(read.records == records);
        assert_eq!(read.place.seal, Seal::of(&entry));
        assert_eq!(read.len, entry.len() + body.len());
        let numbers: Vec<u32> = (0..).take(parts.len()).collect();
        assert_eq!(asked, numbers, "each once, in order");
        // The body that its server has put.
        let source = &mut Source::Here(&body);
        let own = entry::decode(&chain.ring, &chain.place, &entry, source).unwrap();
        assert!(own == read);
    }
}

/// Such an entry was appended whole before there were bodies.
#[test]
fn a_delta_that_is_longer_than_an_entry_is_still_read_whole() {
    let chain = Chain::new();
    let records = large(&[900_000, 900_000]);
    let Encoded { entry, body } = chain.encode(&records, BODY_LEN_MAX).unwrap();
    let mut whole = entry;
    whole.truncate(88);
    whole[1] = 1;
    whole.extend(body.unwrap());
    let whole = entry::seal(&chain.ring, whole).unwrap();
    let (read, asked) = chain.read(&whole, &[]);
    assert!(read.unwrap().records == records && asked.is_empty());
}

#[test]
fn a_body_that_is_missing_cut_changed_or_in_another_order_is_refused() {
    let chain = Chain::new();
    let records = large(&[900_000, 900_000, 900_000]);
    let Encoded { entry, body } = chain.encode(&records, BODY_LEN_MAX).unwrap();
    let right = in_parts(&body.unwrap());
    assert_eq!(right.len(), 3);
    let with = |change: Change| {
        let mut parts = right.clone();
        change(&mut parts);
        why(chain.read(&entry, &parts).0)
    };
    let refused: BTreeMap<&str, Change> = BTreeMap::from([
        ("a part is gone", (|parts| drop(parts.pop())) as Change),
        ("all are gone", |parts| parts.clear()),
        ("the first is gone", |parts| drop(parts.remove(0))),
        ("two are swapped", |parts| parts.swap(0, 1)),
        ("one is there twice", |parts| parts[1] = parts[0].clone()),
        ("a bit of one is another", |parts| parts[1][77] ^= 1),
        ("the last is cut", |parts| parts[2].truncate(900)),
        ("the last has a byte more", |parts| parts[2].push(0)),
        ("one is empty", |parts| parts[1].clear()),
        ("the first has all", |parts| parts[0] = parts.concat()),
    ]);
    for (name, change) in refused {
        let why = with(change);
        assert!(why.contains("entry 1: "), "{name}: {why}");
        let says = match name {
            "a part is gone" => "the log lacks part 2 of 3 of its body",
            "all are gone" => "the log lacks part 0 of 3 of its body",
            // A shorter part comes where the last is missing.
            "the first is gone" => "the log lacks part 2 of 3",
            _ => "its body was changed",
        };
        assert!(why.contains(says), "{name}: {why}");
    }
    // What the log says of its failure is not taken for an answer.
    let ask = &mut |_: &BodyId, _| Err(LogError::new("the database is away"));
    let failed = entry::decode(&chain.ring, &chain.place, &entry, &mut Source::Asked(ask));
    assert!(why(failed).contains("the database is away"));
    assert!(chain.read(&entry, &right).0.is_ok());
}

#[test]
fn an_entry_that_lies_of_its_body_is_refused_before_a_part_is_asked_for() {
    let chain = Chain::new();
    let long = |len: u64| {
        let mut named = Named::of(b"");
        (named.len, named.parts) = (len, u32::MAX);
        let (read, asked) = chain.read(&chain.naming(2, &named.encode()), &[]);
        (why(read), asked)
    };
    for len in [BODY_LEN_MAX as u64 + 1, u64::MAX] {
        let (why, asked) = long(len);
        assert!(why.contains("its body is too long"), "{why}");
        assert!(asked.is_empty());
    }
    // The longest there may be is asked for, and not believed.
    let (why, asked) = long(BODY_LEN_MAX as u64);
    assert!(why.contains("lacks part 0"), "{why}");
    assert_eq!(asked, [0]);
    // Parts without a byte do not keep a server busy.
    let mut named = Named::of(b"12");
    named.parts = u32::MAX;
    let entry = chain.naming(2, &named.encode());
    let (read, asked) = chain.read(&entry, &[b"1".to_vec(), Vec::new(), b"2".to_vec()]);
    assert!(self::why(read).contains("its body was changed"));
    assert_eq!(asked, [0, 1]);
    // A body that is right and no table.
    let entry = chain.naming(2, &Named::of(b"\x04keys").encode());
    let (read, _) = chain.read(&entry, &[b"\x04keys".to_vec()]);
    assert!(self::why(read).contains("it does not decode"));
    // What names a body is as long as it is.
    let named = Named::of(b"").encode();
    for bad in [&named[1..], &[named.clone(), vec![0]].concat()[..]] {
        let (read, _) = chain.read(&chain.naming(2, bad), &[]);
        assert!(self::why(read).contains("it does not decode"));
    }
    assert!(chain.read(&chain.naming(2, &named), &[]).0.is_ok());
}

/// As a server of before there were bodies answers to one.
#[test]
fn an_entry_of_a_kind_that_is_not_known_is_of_a_newer_gatekey() {
    let chain = Chain::new();
    for kind in [0, 3, 255] {
        let (read, asked) = chain.read(&chain.naming(kind, &Named::of(b"").encode()), &[]);
        let why = why(read);
        assert!(why.contains("a newer gatekey wrote it"), "{kind}: {why}");
        assert!(asked.is_empty());
    }
}

#[test]
fn a_change_that_is_larger_than_the_log_takes_is_refused() {
    let chain = Chain::new();
    let records = large(&[600_000]);
    let len = chain
        .encode(&records, BODY_LEN_MAX)
        .unwrap()
        .body
        .unwrap()
        .len();
    assert!(chain.encode(&records, len).is_ok());
    let why = why(chain.encode(&records, len - 1));
    assert!(why.contains("too large for the log"), "{why}");
}
