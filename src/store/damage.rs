//! Finding damaged records while a snapshot is copied: each record alone, without a
//! look at others.

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::digest::{DIGEST_LEN, Keyring};
use crate::model::audit::{AuditBody, AuditEvent};
use crate::model::error::{Corruption, Error};
use crate::model::id::KeyId;
use crate::model::key::ColdRecord;
use crate::model::keyspace::Keyspace;
use crate::store::counts::{self, Counted};
use crate::store::extension;
use crate::store::history::Indexed;
use crate::store::quota::QuotaRecord;
use crate::store::read::{Links, UsageRecord};
use crate::store::record::{KeyRecord, View};
use crate::store::tables::{META_INDEXED, OwnerRecord, State, Stored, Tagged, unseal};
use crate::store::tx::requests::{self, RequestPart};
use crate::store::usage_history::{HistoryRow, HistoryState, META_HISTORY};
use crate::store::usage_networks::NetworksRecord;

/// How many damaged records are listed; the rest is counted.
pub(super) const LISTED_MAX: usize = 100;

/// The damaged records among those that it was shown.
pub(super) struct Damage<'a> {
    ring: &'a Keyring,
    links: Links,
    /// Entries of the trail that are missing or do not follow, and why.
    broken: BTreeMap<u64, String>,
    /// The entries that a repair has marked.
    marked: BTreeSet<u64>,
    listed: Vec<Corruption>,
    total: u64,
}

impl<'a> Damage<'a> {
    pub(super) fn new(ring: &'a Keyring, state: &State) -> Self {
        Self {
            ring,
            links: Links::new(state),
            broken: BTreeMap::new(),
            marked: BTreeSet::new(),
            listed: Vec::new(),
            total: 0,
        }
    }

    /// Looks at a record as it is stored. Tables are shown in the order of their keys.
    pub(super) fn look(&mut self, table: &str, key: &[u8], value: &[u8]) {
        match table {
            "keys" => self.key(key, value),
            "cold" => self.sealed::<ColdRecord>(Tagged::Cold, key, value, &number),
            "keyspaces" => self.sealed::<Keyspace>(Tagged::Keyspace, key, value, &number),
            "owners" => self.sealed::<OwnerRecord>(Tagged::Owner, key, value, &text),
            "usage" => self.sealed::<UsageRecord>(Tagged::Usage, key, value, &number),
            "usage_hours" => self.sealed::<HistoryRow>(Tagged::UsageHours, key, value, &text),
            "usage_days" => self.sealed::<HistoryRow>(Tagged::UsageDays, key, value, &text),
            "usage_owners" => self.sealed::<HistoryRow>(Tagged::UsageOwners, key, value, &text),
            "usage_networks" => {
                self.sealed::<NetworksRecord>(Tagged::UsageNetworks, key, value, &number);
            }
            "quotas" => self.sealed::<QuotaRecord>(Tagged::Quota, key, value, &number),
            "kept" => self.sealed::<AuditBody>(Tagged::Kept, key, value, &number),
            "requests" => self.sealed::<RequestPart>(Tagged::Request, key, value, &request),
            "audit" => self.entry(key, value),
            // What else there is one of was read before.
            "gatekey" if key == META_INDEXED.as_bytes() => {
                self.sealed::<Indexed>(Tagged::Indexed, key, value, &text);
            }
            "gatekey" if key == META_HISTORY.as_bytes() => {
                self.sealed::<HistoryState>(Tagged::HistoryState, key, value, &text);
            }
            "gatekey" if key.starts_with(counts::NAME.as_bytes()) => {
                self.sealed::<Counted>(Tagged::Counts, key, value, &text);
            }
            table if extension::is_name(table) => {
                let looked = extension::look(self.ring, table, key, value);
                if let Err(Error::Corrupted(damage)) = looked {
                    self.find(damage);
                }
            }
            // Indexes carry no tags.
            _ => {}
        }
    }

    fn key(&mut self, key: &[u8], value: &[u8]) {
        let id = KeyId::from_raw(raw(key));
        let read =
            View::open(value, id, self.ring).and_then(|(view, _)| KeyRecord::from_view(&view));
        if let Err(Error::Corrupted(damage)) = read {
            self.find(damage);
        }
    }

    fn sealed<T: Stored>(
        &mut self,
        table: Tagged,
        key: &[u8],
        value: &[u8],
        shown: &dyn Fn(Tagged, &[u8]) -> String,
    ) {
        if let Err(Error::Corrupted(damage)) = unseal::<T>(self.ring, table, key, value) {
            let record = shown(table, key);
            self.find(Corruption { record, ..damage });
        }
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) {
        let seq = raw(key);
        if !self.links.is_due(seq) {
            return;
        }
        self.broken.extend(self.links.missing_before(seq));
        match self.links.read(self.ring, seq, value) {
            Ok(entry) => {
                if let AuditEvent::AuditBroken { entries } = entry.event {
                    self.marked.extend(entries);
                }
            }
            Err(why) => drop(self.broken.insert(seq, why)),
        }
    }

    fn find(&mut self, damage: Corruption) {
        self.total += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(damage);
        }
    }

    /// The first damaged records, and how many there are in all.
    pub(super) fn finish(mut self) -> (Vec<Corruption>, u64) {
        self.broken.extend(self.links.missing_before(u64::MAX));
        for (seq, why) in std::mem::take(&mut self.broken) {
            if !self.marked.contains(&seq) {
                self.find(Corruption {
                    table: "audit",
                    record: seq.to_string(),
                    why,
                });
            }
        }
        (self.listed, self.total)
    }
}

/// A number as the storage engine keeps it: little-endian.
fn raw(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    for (byte, stored) in bytes.iter_mut().zip(key) {
        *byte = *stored;
    }
    u64::from_le_bytes(bytes)
}

fn number(table: Tagged, key: &[u8]) -> String {
    match table {
        Tagged::Cold | Tagged::Usage | Tagged::UsageNetworks => {
            KeyId::from_raw(raw(key)).to_string()
        }
        _ => raw(key).to_string(),
    }
}

fn text(_: Tagged, key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

fn request(_: Tagged, key: &[u8]) -> String {
    match key.split_first_chunk::<DIGEST_LEN>() {
        Some((name, part)) => requests::shown(name, u16::try_from(raw(part)).unwrap_or(0)),
        None => key.escape_ascii().to_string(),
    }
}
