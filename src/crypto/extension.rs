//! What an extension hashes and seals with: keys of its own, which depend on the store
//! key and on the extension's name.

use zeroize::{Zeroize, Zeroizing};

use crate::crypto::digest::{
    DIGEST_LEN, Digest, Keyring, SecretKey, TAG_LEN, Tag, cut, derive, digests_equal, tags_equal,
};
use crate::crypto::token::fill_random;
use crate::model::error::Error;

const CONTEXT_MAC: &str = "gatekey v1 extension mac";
const CONTEXT_SEAL: &str = "gatekey v1 extension seal";
const CONTEXT_SEAL_TAG: &str = "gatekey v1 extension seal tag";

/// The length of what makes two seals of one secret differ.
const NONCE_LEN: usize = 24;
/// How much longer a sealed secret is than the secret.
pub(crate) const SEAL_OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// The keys of an extension. Wiped on drop.
pub(crate) struct ExtensionKeys {
    mac: SecretKey,
    seal: SecretKey,
    seal_tag: SecretKey,
}

impl ExtensionKeys {
    pub(crate) fn new(ring: &Keyring, name: &str) -> Self {
        let parts = [ring.extension_key().as_slice(), name.as_bytes()];
        Self {
            mac: derive(CONTEXT_MAC, &parts),
            seal: derive(CONTEXT_SEAL, &parts),
            seal_tag: derive(CONTEXT_SEAL_TAG, &parts),
        }
    }

    /// A keyed hash over a purpose and parts, each with its length.
    pub(crate) fn mac(&self, purpose: &str, parts: &[&[u8]]) -> Digest {
        *hash(&self.mac, purpose, parts).finalize().as_bytes()
    }

    pub(crate) fn mac_is(&self, purpose: &str, parts: &[&[u8]], expected: &[u8]) -> bool {
        let expected: Result<&Digest, _> = expected.try_into();
        expected.is_ok_and(|expected| digests_equal(&self.mac(purpose, parts), expected))
    }

    /// Encrypts a secret for a purpose: `nonce, secret xor keystream, tag`.
    pub(crate) fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, Error> {
        let mut sealed = vec![0; NONCE_LEN];
        fill_random(&mut sealed)?;
        sealed.extend_from_slice(secret);
        if let Some((nonce, secret)) = sealed.split_first_chunk_mut::<NONCE_LEN>() {
            self.cross(purpose, nonce, secret);
        }
        let tag = self.tag(purpose, &sealed);
        sealed.extend(tag);
        Ok(sealed)
    }

    /// The secret of a seal, or `None` where it was not sealed for this purpose.
    pub(crate) fn unseal(&self, purpose: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (body, tag) = sealed.split_last_chunk::<TAG_LEN>()?;
        if !tags_equal(&self.tag(purpose, body), tag) {
            return None;
        }
        let (nonce, secret) = body.split_first_chunk::<NONCE_LEN>()?;
        let mut secret = Zeroizing::new(secret.to_vec());
        self.cross(purpose, nonce, &mut secret);
        Some(secret)
    }

    /// Xors bytes with the keystream of a nonce.
    fn cross(&self, purpose: &str, nonce: &[u8; NONCE_LEN], bytes: &mut [u8]) {
        let mut hasher = hash(&self.seal, purpose, &[nonce]);
        let mut stream = hasher.finalize_xof();
        let mut block = Zeroizing::new([0; 64]);
        for bytes in bytes.chunks_mut(block.len()) {
            stream.fill(block.as_mut_slice());
            for (byte, pad) in bytes.iter_mut().zip(block.iter()) {
                *byte ^= pad;
            }
        }
        stream.zeroize();
        hasher.zeroize();
    }

    fn tag(&self, purpose: &str, body: &[u8]) -> Tag {
        cut(hash(&self.seal_tag, purpose, &[body]).finalize())
    }
}

fn hash(key: &SecretKey, purpose: &str, parts: &[&[u8]]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in [purpose.as_bytes()].iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher
}

const _: () = assert!(DIGEST_LEN == 32);

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(fill: u8, name: &str) -> ExtensionKeys {
        let ring = Keyring::new(&Zeroizing::new([fill; 32]), &[]);
        ExtensionKeys::new(&ring, name)
    }

    #[test]
    fn a_mac_depends_on_store_extension_purpose_and_each_part() {
        let own = keys(1, "oauth");
        let mac = own.mac("code", &[b"ab", b"c"]);
        assert!(own.mac_is("code", &[b"ab", b"c"], &mac));
        for bit in 0..DIGEST_LEN * 8 {
            let mut bad = mac;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!own.mac_is("code", &[b"ab", b"c"], &bad), "bit {bit}");
        }
        assert!(!own.mac_is("code", &[b"ab", b"c"], &mac[..31]));
        for other in [
            own.mac("code", &[b"a", b"bc"]),
            own.mac("codea", &[b"b", b"c"]),
            own.mac("ticket", &[b"ab", b"c"]),
            keys(2, "oauth").mac("code", &[b"ab", b"c"]),
            keys(1, "admin").mac("code", &[b"ab", b"c"]),
        ] {
            assert_ne!(mac, other);
        }
    }

    #[test]
    fn a_seal_hides_its_secret_and_opens_for_its_purpose_alone() {
        let own = keys(1, "oauth");
        for len in [0, 1, 63, 64, 65, 1000] {
            let secret = vec![0xa5; len];
            let sealed = own.seal("key 1", &secret).unwrap();
            assert_eq!(sealed.len(), len + SEAL_OVERHEAD);
            assert_eq!(*own.unseal("key 1", &sealed).unwrap(), secret);
            assert!(len < 8 || !sealed.windows(8).any(|window| window == &secret[..8]));
            assert_ne!(
                sealed,
                own.seal("key 1", &secret).unwrap(),
                "a nonce of its own"
            );
            assert!(own.unseal("key 2", &sealed).is_none());
            assert!(keys(2, "oauth").unseal("key 1", &sealed).is_none());
            assert!(keys(1, "admin").unseal("key 1", &sealed).is_none());
            for bit in (0..sealed.len() * 8).step_by(7) {
                let mut bad = sealed.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(own.unseal("key 1", &bad).is_none(), "bit {bit}");
            }
            for cut in 0..sealed.len().min(80) {
                assert!(own.unseal("key 1", &sealed[..cut]).is_none());
            }
        }
    }
}
