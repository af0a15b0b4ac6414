//! Requests that were answered under an idempotency key, so that they can be asked again.
//! Only keyed hashes of what names a request, and of what it asked for, are stored.

use std::ops::Bound;
use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata};

use super::Tx;
use crate::crypto::digest::{DIGEST_LEN, Digest, Keyring};
use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::{Corruption, Error};
use crate::model::id::KeyId;
use crate::store::failure::OrStore;
use crate::store::tables::{self, Bytes, REQUESTS, REQUESTS_BY_TIME, Tagged};

/// How many keys one part of a request names: an encoding has a limit.
pub(crate) const KEYS_PER_PART: usize = 128;
/// How many requests that are over one transaction forgets.
const FORGOTTEN_MAX: usize = 64;

/// A request, and what it was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// When it was first answered.
    pub(crate) at: Timestamp,
    /// The hash of what was asked for.
    pub(crate) asked: Digest,
    /// The last audit entry of the newest answer: what changes a key after it is later.
    pub(crate) last_seq: u64,
    /// The keys of the newest answer, in its order.
    pub(crate) keys: Vec<KeyId>,
}

/// A part of a request as stored.
#[derive(Clone)]
pub(crate) struct RequestPart {
    pub(crate) at: Timestamp,
    pub(in crate::store) asked: Digest,
    pub(in crate::store) last_seq: u64,
    /// How many parts there are.
    pub(crate) parts: u16,
    pub(in crate::store) keys: Vec<KeyId>,
}

/// What binds a part to its place.
fn part_key(name: &Digest, part: u16) -> Vec<u8> {
    [&name[..], &part.to_le_bytes()].concat()
}

/// Reads a part of a request; `None`: there is none.
pub(crate) fn read_part(
    table: &impl ReadableTable<(&'static [u8; DIGEST_LEN], u16), Bytes>,
    ring: &Keyring,
    name: &Digest,
    part: u16,
) -> Result<Option<RequestPart>, Error> {
    match table.get((name, part)).or_store()? {
        Some(bytes) => {
            let key = part_key(name, part);
            let read = tables::unseal(ring, Tagged::Request, &key, bytes.value());
            // Its name is a hash; as text it is short enough.
            read.map(Some).map_err(|error| match error {
                Error::Corrupted(damage) => Error::Corrupted(Corruption {
                    record: shown(name, part),
                    ..damage
                }),
                error => error,
            })
        }
        None => Ok(None),
    }
}

/// A part in a readable form.
pub(crate) fn shown(name: &Digest, part: u16) -> String {
    let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}/{part}")
}

impl Tx<'_> {
    /// The position of the last audit entry.
    pub(crate) fn last_seq(&self) -> u64 {
        self.state.audit_seq
    }

    /// The request of a name.
    pub(crate) fn request(&self, name: &Digest) -> Result<Option<Request>, Error> {
        let table = self.open_table(REQUESTS)?;
        let Some(first) = read_part(&table, self.ring, name, 0)? else {
            return Ok(None);
        };
        let mut request = Request {
            at: first.at,
            asked: first.asked,
            last_seq: first.last_seq,
            keys: first.keys,
        };
        for part in 1..first.parts {
            let part = read_part(&table, self.ring, name, part)?
                .ok_or_else(|| Error::corrupted("requests", shown(name, part), "it is missing"))?;
            request.keys.extend(part.keys);
        }
        Ok(Some(request))
    }

    /// Remembers a request, in the place of one of its name, and forgets some of those
    /// that are over; where there are too many, the oldest.
    pub(crate) fn put_request(
        &mut self,
        name: &Digest,
        request: &Request,
        window: Duration,
    ) -> Result<(), Error> {
        self.forget_request(name)?;
        let over = self.now.saturating_sub(window);
        self.forget_requests(over, bounds::REQUESTS_MAX)?;
        let chunks: Vec<&[KeyId]> = request.keys.chunks(KEYS_PER_PART).collect();
        let parts = u16::try_from(chunks.len().max(1))
            .map_err(|_| Error::Internal("a request has too many keys"))?;
        let mut table = self.open_table(REQUESTS)?;
        for part in 0..parts {
            let keys = chunks.get(usize::from(part)).copied().unwrap_or_default();
            let record = RequestPart {
                at: request.at,
                asked: request.asked,
                last_seq: request.last_seq,
                parts,
                keys: keys.to_vec(),
            };
            let key = part_key(name, part);
            let bytes = tables::seal(self.ring, Tagged::Request, &key, &record)?;
            table.insert((name, part), bytes.as_slice()).or_store()?;
        }
        drop(table);
        let mut by_time = self.open_table(REQUESTS_BY_TIME)?;
        let place = (request.at.unix_ms(), name);
        by_time.insert(place, parts).or_store()?;
        drop(by_time);
        self.writing();
        Ok(())
    }

    /// Forgets the request of a name, if there is one.
    fn forget_request(&mut self, name: &Digest) -> Result<(), Error> {
        let at = {
            let table = self.open_table(REQUESTS)?;
            read_part(&table, self.ring, name, 0)?.map(|part| (part.at, part.parts))
        };
        match at {
            Some((at, parts)) => self.remove_request(at.unix_ms(), name, parts),
            None => Ok(()),
        }
    }

    fn remove_request(&mut self, at: u64, name: &Digest, parts: u16) -> Result<(), Error> {
        self.writing();
        let mut table = self.open_table(REQUESTS)?;
        for part in 0..parts {
            table.remove((name, part)).or_store()?;
        }
        let mut by_time = self.open_table(REQUESTS_BY_TIME)?;
        by_time.remove((at, name)).or_store()?;
        Ok(())
    }

    /// Forgets requests from after an instant. Their window would begin in the future.
    pub(crate) fn forget_requests_after(&mut self, instant: Timestamp) -> Result<(), Error> {
        let late: Vec<(u64, Digest, u16)> = {
            let by_time = self.open_table(REQUESTS_BY_TIME)?;
            let range = (
                Bound::Excluded((instant.unix_ms(), &[u8::MAX; DIGEST_LEN])),
                Bound::Unbounded,
            );
            by_time
                .range::<(u64, &[u8; DIGEST_LEN])>(range)
                .or_store()?
                .map(|entry| {
                    let (place, parts) = entry.or_store()?;
                    let (at, name) = place.value();
                    Ok((at, *name, parts.value()))
                })
                .collect::<Result<_, Error>>()?
        };
        for (at, name, parts) in late {
            self.remove_request(at, &name, parts)?;
        }
        Ok(())
    }

    /// Forgets the oldest requests: some of those from before an instant, and as many as
    /// it takes to keep to a number of parts.
    pub(super) fn forget_requests(
        &mut self,
        before: Timestamp,
        parts_max: u64,
    ) -> Result<(), Error> {
        for forgotten in 0.. {
            let oldest = {
                let by_time = self.open_table(REQUESTS_BY_TIME)?;
                let first = by_time.first().or_store()?;
                first.map(|(place, parts)| {
                    let (at, name) = place.value();
                    (at, *name, parts.value())
                })
            };
            let count = self.open_table(REQUESTS)?.len().or_store()?;
            let Some((at, name, parts)) = oldest else {
                return Ok(());
            };
            let is_over = at <= before.unix_ms() && forgotten < FORGOTTEN_MAX;
            if !is_over && count < parts_max {
                return Ok(());
            }
            self.remove_request(at, &name, parts)?;
        }
        Ok(())
    }
}
