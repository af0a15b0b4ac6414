//! How a record is kept in the words of a slot, and of its parts.
//!
//! What is not needed or is zero as a rule is left out; the first word's lowest byte, which all
//! records have in common, says what is there.

use crate::crypto::mac::{MAC_LEN, Mac, NO_MAC};
use crate::model::id::KeyId;
use crate::store::record::{NOT_RESIDENT, RARE, RESIDENT_MAC, TABLE};
use crate::sync::table::{AtomicU64, Ordering};

/// The words of a record that a slot has room for.
pub(super) const WORDS: usize = if cfg!(gatekey_loom) { 2 } else { 11 };
/// The bytes of a [`Copied`]. A slot has a record, without its tag, with an owner of up to 40
/// bytes, 8 fewer for a key that came of a rotation and for each of the rare words, or a shorter
/// one and networks. Of a copy's owner as many bytes are read as a short one may have.
pub(crate) const COPIED_LEN: usize = if cfg!(gatekey_loom) { 32 } else { 152 };
/// How many parts a record has at most beside its slot.
pub(super) const PARTS_MAX: usize = if cfg!(gatekey_loom) { 1 } else { 3 };
/// The longest record that is kept, without its tag: with any owner, or with a shorter one and
/// networks. Longer ones are read from the file.
pub(crate) const RECORD_LEN_MAX: usize = if cfg!(gatekey_loom) { 40 } else { 408 };
/// The byte of a slot's first word that stands for how its record is kept, where all records have
/// [`TABLE`].
pub(super) const KEPT: u64 = 0xff;
/// In that byte: of the record's words that are [`RARE`], the first is there. The next
/// bits stand for the others. What is not there is zero.
const FIRST_RARE: u64 = 1;
/// Where in that byte it is said how many parts the record has.
pub(super) const PARTS_AT: u32 = 3;
pub(super) const PARTS: u64 = 3 << PARTS_AT;

/// A record copied out of the table, padded with zeros. Its revision is not kept, and reads as 0.
/// Its digest is not kept either: where that begins is the MAC.
pub(crate) type Copied = [u8; COPIED_LEN];
/// The same of a record that may have parts.
pub(crate) type CopiedLong = [u8; RECORD_LEN_MAX];

/// Where in a record the words stand that a slot holds as a rule.
pub(super) const PLAIN: [usize; WORDS] = {
    let mut plain = [0; WORDS];
    let (mut at, mut next) = (0, 0);
    while next < WORDS {
        let byte = at * 8;
        if is_kept(byte) && byte != RARE[0] && byte != RARE[1] && byte != RARE[2] {
            plain[next] = at;
            next += 1;
        }
        at += 1;
    }
    plain
};
#[cfg(not(gatekey_loom))]
const _: () = assert!((PLAIN[WORDS - 1] + 1) * 8 == crate::store::record::FIXED_LEN + 40);

/// Whether the word of a record that begins at a byte is kept.
const fn is_kept(byte: usize) -> bool {
    let [first, second] = NOT_RESIDENT;
    (byte < first.start || byte >= first.end) && (byte < second.start || byte >= second.end)
}

/// A record as slots hold it: the words of the key's own, and of its parts.
pub(super) struct Packed {
    pub(super) words: [u64; WORDS * (1 + PARTS_MAX)],
    /// Where among them the two of the MAC are, if it has none.
    without_mac: Option<usize>,
}

impl Packed {
    /// `None` where it is too long.
    pub(super) fn new(record: &[u8], mac: Option<&Mac>) -> Option<Self> {
        let mut padded: CopiedLong = [0; RECORD_LEN_MAX];
        padded.get_mut(..record.len())?.copy_from_slice(record);
        if let Some(place) = padded.get_mut(RESIDENT_MAC) {
            place.copy_from_slice(mac.unwrap_or(&NO_MAC));
        }
        let mut words = [0; WORDS * (1 + PARTS_MAX)];
        let (mut next, mut kept, mut without_mac) = (0, 0, None);
        let own = record.len().div_ceil(8);
        for (at, chunk) in padded.as_chunks::<8>().0.iter().take(own).enumerate() {
            let word = u64::from_le_bytes(*chunk);
            match kind_of(at) {
                Kind::NotKept => continue,
                Kind::Rare(_) if word == 0 => continue,
                Kind::Rare(bit) => kept |= bit,
                Kind::Plain => {}
            }
            if at * 8 == RESIDENT_MAC.start && mac.is_none() {
                without_mac = Some(next);
            }
            *words.get_mut(next)? = word;
            next += 1;
        }
        let parts = next.saturating_sub(1) / WORDS;
        kept |= (parts as u64) << PARTS_AT;
        let head = words.first_mut()?;
        let is_a_record = *head & KEPT == u64::from(TABLE);
        *head = *head & !KEPT | kept;
        is_a_record.then_some(Self { words, without_mac })
    }

    /// Whether what a slot has in the place of a word need not be the same.
    pub(super) fn may_differ(&self, at: usize) -> bool {
        (self.without_mac).is_some_and(|first| (first..first + MAC_LEN / 8).contains(&at))
    }

    pub(super) fn parts(&self) -> u64 {
        let [head, ..] = self.words;
        (head & PARTS) >> PARTS_AT
    }
}

/// How a word of a record is kept.
enum Kind {
    NotKept,
    Plain,
    /// Where it is not zero; with its bit in the slot's first word.
    Rare(u64),
}

fn kind_of(word: usize) -> Kind {
    if !is_kept(word * 8) {
        return Kind::NotKept;
    }
    match RARE.iter().position(|rare| *rare == word * 8) {
        Some(at) => Kind::Rare(FIRST_RARE << at),
        None => Kind::Plain,
    }
}

/// The first word of a slot, as it is in the record.
#[inline(always)]
fn as_stored(head: u64) -> u64 {
    head & !KEPT | u64::from(TABLE)
}

/// Copies out the words of a record that its first word says to be there.
#[cold]
pub(super) fn unpack(head: u64, mut words: impl Iterator<Item = u64>, into: &mut [u8]) {
    for (at, chunk) in into.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let is_kept = match kind_of(at) {
            Kind::NotKept => continue,
            Kind::Plain => true,
            Kind::Rare(bit) => head & bit != 0,
        };
        let word = if is_kept { words.next() } else { None };
        *chunk = word.unwrap_or(0).to_le_bytes();
    }
    if let Some(chunk) = into.first_chunk_mut() {
        *chunk = as_stored(head).to_le_bytes();
    }
}

/// Its place tells it.
#[inline(always)]
pub(super) fn fill_id_in(id: KeyId, into: &mut [u8]) {
    if let Some(place) = into.get_mut(8..).and_then(<[u8]>::first_chunk_mut) {
        *place = id.raw().to_le_bytes();
    }
}

/// Copies a record without rare words and parts out, which has a first word. The caller looks
/// at the version before and after.
#[inline]
pub(super) fn copy_plain(head: u64, words: &[AtomicU64; WORDS], into: &mut Copied) {
    let (chunks, _) = into.as_chunks_mut::<8>();
    for rare in RARE {
        if let Some(chunk) = chunks.get_mut(rare / 8) {
            *chunk = [0; 8];
        }
    }
    for (at, word) in PLAIN.into_iter().zip(words) {
        if let Some(chunk) = chunks.get_mut(at) {
            *chunk = word.load(Ordering::Relaxed).to_le_bytes();
        }
    }
    if let Some(chunk) = chunks.first_mut() {
        *chunk = as_stored(head).to_le_bytes();
    }
}
