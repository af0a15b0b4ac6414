//! The body of an entry that is too large to be appended whole: its records, which the log has
//! beside its entries, in parts.
//!
//! Its server puts all parts, and then appends the entry, which names the body: by the nonce of
//! the entry, its length, the number of its parts and its hash. The entry's seal is over these, so that
//! who can write to the log can change no part unseen. Nothing of a body is decoded before its
//! length and its hash were found right, and what is kept of it until then is no longer than the
//! entry says, which is at most [`BODY_LEN_MAX`].

use std::borrow::Cow;

use crate::crypto::digest::{DIGEST_LEN, Digest, digests_equal, hash};
use crate::model::error::Error;
use crate::model::log::{BODY_LEN_MAX, BodyId, LogError, LogResult, PART_LEN_MAX};

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
pub(super) mod tests;

/// What an entry says of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    len: u64,
    parts: u32,
    hash: Digest,
}

/// What the log has of a part.
type Part = LogResult<Option<Vec<u8>>>;

/// Where a body is.
pub(crate) enum Source<'s> {
    /// At hand: this server has put it.
    Here(&'s [u8]),
    /// In the log, which is asked for a part.
    Asked(&'s mut dyn FnMut(&BodyId, u32) -> Part),
}

/// The parts in which a body is put, with their numbers.
pub(crate) fn parts(body: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    (0..).zip(body.chunks(PART_LEN_MAX))
}

pub(super) fn refused(position: u64, why: &str) -> Error {
    Error::Log(LogError::new(format!("entry {position}: {why}")))
}

impl Named {
    pub(crate) fn of(body: &[u8]) -> Self {
        Self {
            len: body.len() as u64,
            // At most 2^10 of them.
            parts: parts(body).map(|(part, _)| part + 1).last().unwrap_or(0),
            hash: hash(body),
        }
    }

    /// As an entry has it: length, number of parts, hash.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.len.to_le_bytes().to_vec();
        bytes.extend(self.parts.to_le_bytes());
        bytes.extend(self.hash);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (parts, hash) = rest.split_first_chunk()?;
        Some(Self {
            len: u64::from_le_bytes(*len),
            parts: u32::from_le_bytes(*parts),
            hash: <[u8; DIGEST_LEN]>::try_from(hash).ok()?,
        })
    }

    /// The body of the entry at a position, if it is what the entry names.
    pub(super) fn body<'s>(
        &self,
        position: u64,
        id: &BodyId,
        source: &'s mut Source<'_>,
    ) -> Result<Cow<'s, [u8]>, Error> {
        let len = usize::try_from(self.len).ok();
        let Some(len) = len.filter(|len| *len <= BODY_LEN_MAX) else {
            return Err(refused(position, "its body is too long"));
        };
        let changed = || {
            let why = "its body was changed: its length or its hash is not what the entry says";
            refused(position, why)
        };
        let body = match source {
            Source::Here(body) => Cow::Borrowed(&**body),
            Source::Asked(ask) => {
                let mut body = Vec::new();
                for part in 0..self.parts {
                    let Some(bytes) = ask(id, part).map_err(Error::Log)? else {
                        let parts = self.parts;
                        let why = format!("the log lacks part {part} of {parts} of its body");
                        return Err(refused(position, &why));
                    };
                    // None of them is empty, so that no more are asked for than there are bytes.
                    if bytes.is_empty() || bytes.len() > len - body.len() {
                        return Err(changed());
                    }
                    body.extend(bytes);
                }
                Cow::Owned(body)
            }
        };
        match body.len() == len && digests_equal(&hash(&body), &self.hash) {
            true => Ok(body),
            false => Err(changed()),
        }
    }
}
