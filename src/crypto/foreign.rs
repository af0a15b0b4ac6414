//! Digests of the tokens of other systems.
//!
//! A digest is BLAKE3 under a key of its own, which derives from the store key and a pepper,
//! over one byte that says what is hashed, and then that: the token, or what the other system
//! kept of it. So a hash that the other system lost is of no use against the file, nor the
//! file against the other system. No token of gatekey's own has such a digest.

use sha2::{Digest as _, Sha256, Sha512};
use zeroize::Zeroizing;

use crate::crypto::digest::{Digest, Keyring};
use crate::model::hex::Hex;
use crate::model::import::ForeignHash;

/// What a digest is made over: the part of a token that is hashed, in one of the forms in which
/// an import knows it.
pub(crate) struct Known {
    kind: u8,
    bytes: Zeroizing<Vec<u8>>,
}

impl Known {
    /// The token itself: what is left of every key once it was used.
    pub(crate) fn text(part: &[u8]) -> Self {
        Self {
            kind: 0,
            bytes: Zeroizing::new(part.to_vec()),
        }
    }

    /// What another system keeps of a token; `None` where the engine does not compute it.
    pub(crate) fn of(hash: ForeignHash, part: &[u8]) -> Option<Self> {
        match hash {
            ForeignHash::Plain => Some(Self::text(part)),
            ForeignHash::Sha256 => Self::kept(hash, &Sha256::digest(part)),
            ForeignHash::Sha512 => Self::kept(hash, &Sha512::digest(part)),
            ForeignHash::Other => None,
        }
    }

    /// A hash as it was kept; `None` where it is none of that kind.
    pub(crate) fn kept(hash: ForeignHash, bytes: &[u8]) -> Option<Self> {
        let kind = match hash {
            ForeignHash::Sha256 => 1,
            ForeignHash::Sha512 => 2,
            ForeignHash::Plain | ForeignHash::Other => return None,
        };
        let len = hash.digest_len();
        (len == Some(bytes.len())).then(|| Self {
            kind,
            bytes: Zeroizing::new(bytes.to_vec()),
        })
    }

    /// The digest under a pepper, or `None` for a pepper not given.
    pub(crate) fn digest(&self, ring: &Keyring, pepper: u8) -> Option<Digest> {
        ring.foreign_digest(pepper, self.kind, &self.bytes)
    }

    /// A name for it that no pepper changes, in the place of an id of the source.
    pub(crate) fn name(&self, ring: &Keyring) -> String {
        let mut hasher = ring.request_hasher();
        hasher.part(b"foreign id");
        hasher.part(&[self.kind]);
        hasher.part(&self.bytes);
        let hash = hasher.finish();
        let (start, _) = hash.split_at(16);
        format!("digest:{}", Hex(start))
    }

    /// The pepper that signs, and the digest under it.
    pub(crate) fn sign(&self, ring: &Keyring) -> (u8, Digest) {
        let pepper = ring.signing_pepper();
        (pepper, self.digest(ring, pepper).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_another_digest_for_each_kind_store_and_pepper() {
        let ring = |byte| Keyring::new(&Zeroizing::new([byte; 32]), &[]);
        let known = |hash| Known::of(hash, b"abc").unwrap();
        let all = [ForeignHash::Plain, ForeignHash::Sha256, ForeignHash::Sha512];
        let mut seen = std::collections::BTreeSet::new();
        for ring in [ring(1), ring(2)] {
            for hash in all {
                assert!(seen.insert(known(hash).sign(&ring)));
            }
            // A hash is not mistaken for a token that reads as it.
            let sha = Known::of(ForeignHash::Sha256, b"abc").unwrap();
            assert!(seen.insert(Known::text(&sha.bytes).sign(&ring)));
        }
        assert!(known(ForeignHash::Plain).digest(&ring(1), 9).is_none());
        assert!(Known::of(ForeignHash::Other, b"abc").is_none());
    }

    #[test]
    fn hashes_are_those_of_the_standards() {
        let hex = |hash| Hex(&Known::of(hash, b"abc").unwrap().bytes).to_string();
        // FIPS 180-4, the example of one block.
        assert_eq!(
            hex(ForeignHash::Sha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(hex(ForeignHash::Sha512).starts_with("ddaf35a193617abacc417349ae204131"));
        assert!(Known::kept(ForeignHash::Sha256, &[0; 31]).is_none());
        assert!(Known::kept(ForeignHash::Plain, &[0; 32]).is_none());
    }
}
