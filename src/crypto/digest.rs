//! Hashing and constant-time comparison. No other file does either.
//!
//! All keys derive from one random *store key* of 32 bytes. Without a pepper the file
//! contains it in the clear; with peppers, sealed under each of them. The key of the
//! record tags and that of the audit chain derive from it, so that neither depends on
//! which pepper is the newest. The digest of a token is keyed by the store key and by
//! one pepper, whose id the record names.

use std::sync::atomic::{AtomicU8, Ordering};

use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::token::{SIGNED_LEN, Signed};
use crate::model::secret::Pepper;

/// The length of a digest and of a key, in bytes.
pub(crate) const DIGEST_LEN: usize = 32;
/// The length of a record's tag, in bytes.
pub(crate) const TAG_LEN: usize = 16;
/// The pepper id of digests in a store without a pepper.
pub(crate) const NO_PEPPER: u8 = 0;

pub(crate) type Digest = [u8; DIGEST_LEN];
pub(crate) type Tag = [u8; TAG_LEN];
/// By what servers compare peppers, which tells nothing of them.
pub(crate) type PepperCheck = [u8; 8];
pub(crate) type SecretKey = Zeroizing<[u8; DIGEST_LEN]>;

const CONTEXT_DIGEST: &str = "gatekey v1 token digest";
const CONTEXT_FOREIGN: &str = "gatekey v1 foreign token digest";
const CONTEXT_TAG: &str = "gatekey v1 record tag";
const CONTEXT_CHAIN: &str = "gatekey v1 audit chain";
const CONTEXT_REQUEST: &str = "gatekey v1 idempotent request";
const CONTEXT_EXTENSION: &str = "gatekey v1 extension";
const CONTEXT_LOG: &str = "gatekey v1 fleet log";
const CONTEXT_CHECK: &str = "gatekey v1 pepper check";
const CONTEXT_SEAL: &str = "gatekey v1 store key seal";
const CONTEXT_SEAL_TAG: &str = "gatekey v1 store key seal tag";

/// The keys of an open store. Wiped on drop.
pub(crate) struct Keyring {
    /// The id of the pepper that signs: the first, but where other servers lack it.
    signing: AtomicU8,
    /// By pepper id.
    digest_keys: Vec<(u8, SecretKey)>,
    /// By pepper id, for the tokens of other systems.
    foreign_keys: Vec<(u8, SecretKey)>,
    tag_key: SecretKey,
    chain_key: ChainKey,
    request_key: SecretKey,
    extension_key: SecretKey,
    /// By the id of the pepper that signs, and under none.
    log_keys: Vec<(u8, SecretKey)>,
    /// By pepper id.
    pepper_checks: Vec<(u8, PepperCheck)>,
}

impl Keyring {
    /// The keys of a store, for the peppers given, of which the first signs.
    pub(crate) fn new(store_key: &SecretKey, peppers: &[Pepper]) -> Self {
        let by_pepper = |context| {
            let derived = peppers.iter().map(|pepper| {
                let key = derive(context, &[store_key.as_slice(), pepper.expose()]);
                (pepper.id(), key)
            });
            let mut keys: Vec<(u8, SecretKey)> = derived.collect();
            if keys.is_empty() {
                keys.push((NO_PEPPER, derive(context, &[store_key.as_slice()])));
            }
            keys
        };
        let mut log_keys = by_pepper(CONTEXT_LOG);
        if !peppers.is_empty() {
            log_keys.push((NO_PEPPER, derive(CONTEXT_LOG, &[store_key.as_slice()])));
        }
        let check =
            |(id, key): &(u8, SecretKey)| (*id, key.first_chunk().copied().unwrap_or_default());
        let pepper_checks = by_pepper(CONTEXT_CHECK).iter().map(check).collect();
        Self {
            signing: AtomicU8::new(peppers.first().map_or(NO_PEPPER, Pepper::id)),
            digest_keys: by_pepper(CONTEXT_DIGEST),
            foreign_keys: by_pepper(CONTEXT_FOREIGN),
            tag_key: derive(CONTEXT_TAG, &[store_key.as_slice()]),
            chain_key: ChainKey(derive(CONTEXT_CHAIN, &[store_key.as_slice()])),
            request_key: derive(CONTEXT_REQUEST, &[store_key.as_slice()]),
            extension_key: derive(CONTEXT_EXTENSION, &[store_key.as_slice()]),
            log_keys,
            pepper_checks,
        }
    }

    /// The id of the pepper that new digests are made with.
    pub(crate) fn signing_pepper(&self) -> u8 {
        self.signing.load(Ordering::Relaxed)
    }

    /// Lets another of the peppers sign: while nobody writes, so that a transaction has one.
    pub(crate) fn sign_with(&self, pepper: u8) {
        debug_assert!(self.knows_pepper(pepper));
        self.signing.store(pepper, Ordering::Relaxed);
    }

    /// The digest of a token under a pepper, or `None` for a pepper not given.
    pub(crate) fn digest(&self, pepper: u8, signed: &Signed) -> Option<Digest> {
        note_work(1, 0);
        let key = self.digest_keys.iter().find(|(id, _)| *id == pepper);
        key.map(|(_, key)| digest_under(key, signed))
    }

    /// The pepper that signs, and the digest of a token under it.
    pub(crate) fn sign(&self, signed: &Signed) -> (u8, Digest) {
        let pepper = self.signing_pepper();
        let digest = self.digest(pepper, signed);
        (pepper, digest.unwrap_or([0; DIGEST_LEN]))
    }

    /// Whether a record's digest, made under a pepper, is a token's.
    pub(crate) fn proves(&self, signed: &Signed, pepper: u8, digest: &Digest) -> bool {
        match self.digest(pepper, signed) {
            Some(own) => digests_equal(&own, digest),
            None => {
                // The key is revoked: otherwise its pepper could not have been left
                // out.
                self.refuse_unknown(signed);
                false
            }
        }
    }

    /// Does the work of a wrong secret for a token without a record, so that time does
    /// not tell the two apart.
    pub(crate) fn refuse_unknown(&self, signed: &Signed) {
        // The shape of a record with a short owner, tag left off.
        let dummy = [0x5a; 124];
        std::hint::black_box(self.hot_tag_is_right(&dummy, &[0; TAG_LEN]));
        let (_, digest) = self.sign(signed);
        std::hint::black_box(digests_equal(
            &digest,
            std::hint::black_box(&[0; DIGEST_LEN]),
        ));
    }

    /// The digest of what is known of the token of another system, under a pepper; `None` for
    /// a pepper not given.
    pub(super) fn foreign_digest(&self, pepper: u8, kind: u8, bytes: &[u8]) -> Option<Digest> {
        note_work(1, 0);
        let (_, key) = self.foreign_keys.iter().find(|(id, _)| *id == pepper)?;
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(&[kind]);
        hasher.update(bytes);
        let digest = *hasher.finalize().as_bytes();
        hasher.zeroize();
        Some(digest)
    }

    /// The ids of the peppers given, the newest first.
    pub(crate) fn peppers(&self) -> impl Iterator<Item = u8> {
        self.digest_keys.iter().map(|(id, _)| *id)
    }

    /// The tag of a hot record, which contains its own table and key.
    pub(crate) fn hot_tag(&self, body: &[u8]) -> Tag {
        note_work(1, 0);
        cut(blake3::keyed_hash(&self.tag_key, body))
    }

    pub(crate) fn hot_tag_is_right(&self, body: &[u8], tag: &Tag) -> bool {
        tags_equal(&self.hot_tag(body), tag)
    }

    /// The tag of any other record: over the table's number, the record's key
    /// with its length, and the record.
    pub(crate) fn tag(&self, table: u8, key: &[u8], body: &[u8]) -> Tag {
        let mut hasher = blake3::Hasher::new_keyed(&self.tag_key);
        hasher.update(&[table]);
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(key);
        hasher.update(body);
        cut(hasher.finalize())
    }

    pub(crate) fn tag_is_right(&self, table: u8, key: &[u8], body: &[u8], tag: &Tag) -> bool {
        tags_equal(&self.tag(table, key, body), tag)
    }

    /// Hashes a request part by part, under a key, so that the file alone does not let
    /// an attacker guess requests.
    pub(crate) fn request_hasher(&self) -> RequestHasher {
        RequestHasher(blake3::Hasher::new_keyed(&self.request_key))
    }

    /// The hash of an audit entry, over the hash before it, its position and
    /// its bytes.
    pub(crate) fn chain(&self, previous: &Digest, seq: u64, body: &[u8]) -> Digest {
        self.chain_key.link(previous, seq, body)
    }

    /// Whether records may be hashed under a pepper.
    pub(crate) fn knows_pepper(&self, pepper: u8) -> bool {
        self.digest_keys.iter().any(|(id, _)| *id == pepper)
    }

    /// The seal of an entry of a fleet's log, over all else of it: who has another secret for
    /// the pepper that its digests were made with, has another seal. `None` for a pepper not
    /// given.
    pub(crate) fn log_seal(&self, pepper: u8, body: &[u8]) -> Option<Digest> {
        let (_, key) = self.log_keys.iter().find(|(id, _)| *id == pepper)?;
        Some(*blake3::keyed_hash(key, body).as_bytes())
    }

    /// For each pepper, the newest first, its id and by what another server knows that it has
    /// the same secret for it.
    pub(crate) fn pepper_checks(&self) -> &[(u8, PepperCheck)] {
        &self.pepper_checks
    }

    /// What the keys of extensions come from.
    pub(super) fn extension_key(&self) -> &SecretKey {
        &self.extension_key
    }

    pub(crate) fn chain_key(&self) -> &ChainKey {
        &self.chain_key
    }
}

/// The key of the audit chain. It depends on the store key alone. Wiped on drop.
#[derive(Clone)]
pub(crate) struct ChainKey(SecretKey);

impl ChainKey {
    pub(crate) fn new(bytes: [u8; DIGEST_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn expose(&self) -> &[u8; DIGEST_LEN] {
        &self.0
    }

    /// The hash of an audit entry: see [`Keyring::chain`].
    pub(crate) fn link(&self, previous: &Digest, seq: u64, body: &[u8]) -> Digest {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(previous);
        hasher.update(&seq.to_le_bytes());
        hasher.update(body);
        *hasher.finalize().as_bytes()
    }
}

/// The hash of a request under way.
pub(crate) struct RequestHasher(blake3::Hasher);

impl RequestHasher {
    /// Adds a part, with its length.
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        *self.0.finalize().as_bytes()
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring(withheld)")
    }
}

/// The hash of bytes that are not secret, which stands where a seal covers it.
pub(crate) fn hash(bytes: &[u8]) -> Digest {
    *blake3::hash(bytes).as_bytes()
}

/// A digest over records in their order. It is compared, or stands where a tag covers it.
pub(crate) struct Contents {
    hasher: blake3::Hasher,
    /// What is not hashed yet: BLAKE3 hashes a long text several times as fast as its parts one
    /// by one.
    waiting: Vec<u8>,
}

impl Contents {
    /// How much is hashed at once.
    const AT_ONCE: usize = 64 << 10;

    pub(crate) fn new() -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            waiting: Vec::with_capacity(Self::AT_ONCE),
        }
    }

    /// Takes a part, with its length.
    pub(crate) fn add(&mut self, part: &[u8]) {
        self.add_parts(&(part.len() as u64).to_le_bytes());
        self.add_parts(part);
    }

    /// Takes parts that stand behind their lengths, eight bytes each, little-endian.
    pub(crate) fn add_parts(&mut self, parts: &[u8]) {
        if self.waiting.len() + parts.len() < Self::AT_ONCE {
            self.waiting.extend_from_slice(parts);
            return;
        }
        self.hasher.update(&self.waiting);
        self.waiting.clear();
        self.hasher.update(parts);
    }

    pub(crate) fn finish(mut self) -> Digest {
        self.hasher.update(&self.waiting);
        *self.hasher.finalize().as_bytes()
    }
}

pub(super) fn derive(context: &str, parts: &[&[u8]]) -> SecretKey {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let key = Zeroizing::new(*hasher.finalize().as_bytes());
    hasher.zeroize();
    key
}

#[inline]
fn digest_under(key: &SecretKey, signed: &Signed) -> Digest {
    *blake3::keyed_hash(key, signed).as_bytes()
}

pub(super) fn cut(hash: blake3::Hash) -> Tag {
    let mut tag = [0; TAG_LEN];
    for (to, from) in tag.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    tag
}

/// Whether two digests are equal, in a time that does not depend on where they differ.
/// Compares the longest words that `subtle` has: each costs it as much as a byte.
#[inline]
pub(crate) fn digests_equal(left: &Digest, right: &Digest) -> bool {
    words_equal(left, right)
}

pub(super) fn tags_equal(left: &Tag, right: &Tag) -> bool {
    words_equal(left, right)
}

#[inline(always)]
pub(super) fn words_equal(left: &[u8], right: &[u8]) -> bool {
    debug_assert!(left.len() == right.len() && left.len().is_multiple_of(16));
    note_work(0, 1);
    let (left, _) = left.as_chunks::<16>();
    let (right, _) = right.as_chunks::<16>();
    let mut pairs = left.iter().zip(right);
    let one = |(left, right): (&[u8; 16], &[u8; 16])| {
        u128::from_le_bytes(*left).ct_eq(&u128::from_le_bytes(*right))
    };
    let first = pairs.next().map_or(Choice::from(0), one);
    pairs.fold(first, |equal, pair| equal & one(pair)).into()
}

/// Counts the hashes and comparisons of a thread, for the test that all kinds of
/// refusals do the same work.
#[cfg(test)]
fn note_work(hashes: u32, comparisons: u32) {
    tests::WORK.with(|work| {
        let (all_hashes, all_comparisons) = work.get();
        work.set((all_hashes + hashes, all_comparisons + comparisons));
    });
}

#[cfg(not(test))]
const fn note_work(_hashes: u32, _comparisons: u32) {}

/// The store key under a pepper: the key xored with a pad that the pepper and
/// the store's id give, and a tag over the result.
#[derive(Clone)]
pub(crate) struct Seal {
    pub(crate) pepper: u8,
    pub(crate) sealed: [u8; DIGEST_LEN],
    pub(crate) tag: Tag,
}

impl Seal {
    pub(crate) fn new(pepper: &Pepper, store_id: &[u8; 16], store_key: &SecretKey) -> Self {
        let pad = derive(CONTEXT_SEAL, &[store_id, pepper.expose()]);
        let mut sealed = [0; DIGEST_LEN];
        for ((to, key), pad) in sealed.iter_mut().zip(store_key.iter()).zip(pad.iter()) {
            *to = key ^ pad;
        }
        let tag = Self::tag_of(pepper, store_id, &sealed);
        Self {
            pepper: pepper.id(),
            sealed,
            tag,
        }
    }

    /// The store key, or `None` where the pepper is not the one that sealed it.
    pub(crate) fn open(&self, pepper: &Pepper, store_id: &[u8; 16]) -> Option<SecretKey> {
        let tag = Self::tag_of(pepper, store_id, &self.sealed);
        if !tags_equal(&tag, &self.tag) {
            return None;
        }
        let mut key = derive(CONTEXT_SEAL, &[store_id, pepper.expose()]);
        for (key, sealed) in key.iter_mut().zip(&self.sealed) {
            *key ^= sealed;
        }
        Some(key)
    }

    fn tag_of(pepper: &Pepper, store_id: &[u8; 16], sealed: &[u8]) -> Tag {
        let key = derive(CONTEXT_SEAL_TAG, &[store_id, pepper.expose()]);
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(&[pepper.id()]);
        hasher.update(sealed);
        let tag = cut(hasher.finalize());
        hasher.zeroize();
        tag
    }
}

const _: () = assert!(SIGNED_LEN <= 64, "a digest is one compression");

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    thread_local! {
        /// How many hashes and comparisons this thread has made.
        pub(crate) static WORK: std::cell::Cell<(u32, u32)> = const { std::cell::Cell::new((0, 0)) };
    }

    fn pepper(id: u8, fill: u8) -> Pepper {
        Pepper::new(id, [fill; 32]).unwrap()
    }

    #[test]
    fn digests_that_differ_in_one_bit_are_not_equal() {
        let left = [0xa5; DIGEST_LEN];
        assert!(digests_equal(&left, &left.clone()));
        for bit in 0..DIGEST_LEN * 8 {
            let mut right = left;
            right[bit / 8] ^= 1 << (bit % 8);
            assert!(!digests_equal(&left, &right), "bit {bit}");
        }
        for bit in 0..TAG_LEN * 8 {
            let mut right = [0; TAG_LEN];
            right[bit / 8] ^= 1 << (bit % 8);
            assert!(!tags_equal(&[0; TAG_LEN], &right), "bit {bit}");
        }
    }

    #[test]
    fn a_seal_opens_under_its_pepper_and_store_alone() {
        let key = Zeroizing::new([9; 32]);
        let store = [1; 16];
        let seal = Seal::new(&pepper(1, 1), &store, &key);
        assert_eq!(seal.open(&pepper(1, 1), &store).unwrap(), key);
        assert!(seal.open(&pepper(1, 2), &store).is_none());
        assert!(seal.open(&pepper(2, 1), &store).is_none());
        assert!(seal.open(&pepper(1, 1), &[2; 16]).is_none());
        let mut tampered = seal.clone();
        tampered.sealed[0] ^= 1;
        assert!(tampered.open(&pepper(1, 1), &store).is_none());
    }

    #[test]
    fn tags_depend_on_table_key_and_body() {
        let ring = Keyring::new(&Zeroizing::new([3; 32]), &[]);
        let tag = ring.tag(1, b"ab", b"c");
        assert!(ring.tag_is_right(1, b"ab", b"c", &tag));
        assert!(!ring.tag_is_right(2, b"ab", b"c", &tag));
        assert!(!ring.tag_is_right(1, b"a", b"bc", &tag));
        let other = Keyring::new(&Zeroizing::new([4; 32]), &[]);
        assert!(!other.tag_is_right(1, b"ab", b"c", &tag));
    }

    /// The bytes that a vector file gives in hexadecimal.
    pub(crate) fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn digests_are_those_of_another_implementation() {
        let rows = include_str!("../../tests/vectors/digests.tsv").lines();
        let mut count = 0;
        for row in rows.filter(|row| !row.starts_with('#')) {
            let [key, pepper, signed, digest] = row.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{row}");
            };
            let key = Zeroizing::new(bytes(key).try_into().unwrap());
            let peppers = match pepper {
                "-" => vec![],
                hex => vec![Pepper::new(1, bytes(hex)).unwrap()],
            };
            let ring = Keyring::new(&key, &peppers);
            let signed = signed.as_bytes().try_into().unwrap();
            assert_eq!(ring.sign(signed).1.as_slice(), bytes(digest), "{row}");
            count += 1;
        }
        assert_eq!(count, 3);
    }

    #[test]
    fn the_first_pepper_signs_and_the_others_verify() {
        let key = Zeroizing::new([3; 32]);
        let ring = Keyring::new(&key, &[pepper(2, 2), pepper(1, 1)]);
        let signed = [b'x'; SIGNED_LEN];
        assert_eq!(ring.signing_pepper(), 2);
        assert_eq!(ring.sign(&signed), (2, ring.digest(2, &signed).unwrap()));
        assert_ne!(ring.digest(1, &signed), ring.digest(2, &signed));
        assert_eq!(ring.digest(3, &signed), None);
    }

    #[test]
    fn a_link_of_the_chain_depends_on_the_one_before_its_position_and_its_bytes() {
        let ring = Keyring::new(&Zeroizing::new([3; 32]), &[]);
        let link = ring.chain(&[1; 32], 7, b"entry");
        assert_eq!(link, ring.chain(&[1; 32], 7, b"entry"));
        assert_ne!(link, ring.chain(&[2; 32], 7, b"entry"));
        assert_ne!(link, ring.chain(&[1; 32], 8, b"entry"));
        assert_ne!(link, ring.chain(&[1; 32], 7, b"entri"));
        let other = Keyring::new(&Zeroizing::new([4; 32]), &[]);
        assert_ne!(link, other.chain(&[1; 32], 7, b"entry"));
        assert_eq!(format!("{ring:?}"), "Keyring(withheld)");
    }
}
