//! What a peer stores of a key, for the peers that store bytes.

use std::hint::black_box;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The place of the revoked flag in an encoded record.
const REVOKED_AT: usize = 8;
const OWNER_FROM: usize = 9;

/// SHA-256 of a token: what the peers look a key up by. A token has 256 bits of
/// entropy, so that a plain hash is the advised one.
pub(crate) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// A key as a server needs it to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record<Owner = String> {
    pub(crate) expires_at_ms: u64,
    pub(crate) revoked: bool,
    pub(crate) owner: Owner,
}

impl<Owner> Record<Owner> {
    /// Whether the key is good now. The owner counts as used: a server needs it.
    pub(crate) fn grants(&self) -> bool {
        black_box(&self.owner);
        !self.revoked && now_ms() < self.expires_at_ms
    }
}

impl<'a> Record<&'a str> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self> {
        let (expires_at_ms, rest) = bytes.split_first_chunk().context("a short record")?;
        let (revoked, owner) = rest.split_first().context("a short record")?;
        Ok(Self {
            expires_at_ms: u64::from_le_bytes(*expires_at_ms),
            revoked: *revoked != 0,
            owner: std::str::from_utf8(owner)?,
        })
    }
}

impl Record {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(OWNER_FROM + self.owner.len());
        bytes.extend(self.expires_at_ms.to_le_bytes());
        bytes.push(u8::from(self.revoked));
        bytes.extend(self.owner.as_bytes());
        bytes
    }
}

/// The same encoded record, revoked.
pub(crate) fn revoked(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(flag) = bytes.get_mut(REVOKED_AT) {
        *flag = 1;
    }
    bytes
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(expires_at_ms: u64) -> Record {
        Record {
            expires_at_ms,
            revoked: false,
            owner: "acme/bot".to_owned(),
        }
    }

    #[test]
    fn a_record_is_granted_until_it_expires_or_is_revoked() {
        assert!(record(u64::MAX).grants());
        assert!(!record(now_ms()).grants());
        let bytes = record(u64::MAX).encode();
        assert!(matches!(Record::decode(&bytes), Ok(record) if record.grants()));
        let revoked = revoked(&bytes);
        assert!(matches!(Record::decode(&revoked), Ok(record) if !record.grants()));
    }

    #[test]
    fn a_record_comes_back_as_it_was_encoded() {
        let bytes = record(1 << 40).encode();
        let decoded = Record::decode(&bytes).ok();
        let expected = Record {
            expires_at_ms: 1 << 40,
            revoked: false,
            owner: "acme/bot",
        };
        assert_eq!(decoded, Some(expected));
        assert!(Record::decode(&bytes[..8]).is_err());
    }
}
