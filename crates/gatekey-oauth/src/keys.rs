//! The signing keys: next, current and retired, sealed in the store's file.
//!
//! A key is published before it signs and stays published until all that it has signed
//! has ended, so that a rotation is no outage for those who keep a copy of the key set.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use gatekey::extension::{
    Changed, Extension, ExtensionTx, ExtensionView, Flaw, Follower, KEY_LEN_MAX, PAGE_MAX, Record,
};
use gatekey::{Error, Invalid, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::algorithm::{Algorithm, PrivateKey, PublicKey};
use crate::encoding::{decode, encode};
use crate::jws;
use crate::seen::Epoch;

const TABLE: &str = "signing_keys";
const VERSION: u8 = 1;
/// The most keys that are published. A rotation that would make more is refused: many times
/// what rotations leave.
const KEYS_MAX: usize = 32;

/// What a signing key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeyUse {
    /// It is published, and will sign after the next rotation.
    Next,
    /// It signs.
    Current,
    /// It signs no more, and what it has signed is still good.
    Retired,
}

/// A signing key, as it is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SigningKeyInfo {
    /// Its thumbprint (RFC 7638), by which tokens name it.
    pub kid: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// What it is for.
    pub usage: KeyUse,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a retired key goes.
    pub ends_at: Option<Timestamp>,
}

/// A key as it is stored, by its `kid`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    algorithm: Algorithm,
    usage: KeyUse,
    created_at_ms: u64,
    /// Of a retired key.
    ends_at_ms: Option<u64>,
    /// The private key, sealed for its `kid`.
    sealed: String,
}

impl Stored {
    fn read(record: &Record) -> Option<Self> {
        let is_known = record.version == VERSION;
        is_known.then(|| serde_json::from_slice(&record.bytes).ok())?
    }

    /// Whether it is retired, and all that it signed has ended.
    fn is_over(&self, now: Timestamp) -> bool {
        let end = self.ends_at_ms.filter(|_| self.usage == KeyUse::Retired);
        end.is_some_and(|end| now.unix_ms() >= end)
    }

    fn put(&self, tx: &mut ExtensionTx<'_, '_>, kid: &[u8]) -> Result<()> {
        let bytes = serde_json::to_vec(self);
        let bytes = bytes.map_err(|_| Error::Internal("a signing key does not encode"))?;
        tx.put(TABLE, kid, VERSION, &bytes)
    }

    fn info(&self, kid: &str) -> SigningKeyInfo {
        let instant = |ms| Timestamp::from_unix_ms(ms).unwrap_or(Timestamp::MAX);
        SigningKeyInfo {
            kid: kid.to_owned(),
            algorithm: self.algorithm,
            usage: self.usage,
            created_at: instant(self.created_at_ms),
            ends_at: self.ends_at_ms.map(instant),
        }
    }
}

fn purpose(kid: &str) -> String {
    format!("signing key {kid}")
}

/// A key in memory.
pub(crate) struct Signer {
    /// The header of all that it signs.
    pub(crate) header: String,
    pub(crate) public: PublicKey,
    private: PrivateKey,
    /// Of the hashes of all that has its header.
    hash_key: Zeroizing<[u8; 32]>,
}

impl Signer {
    pub(crate) fn private(&self) -> &PrivateKey {
        &self.private
    }
}

/// Whether all that a key has signed has ended.
fn is_over(info: &SigningKeyInfo, now: Timestamp) -> bool {
    info.ends_at.is_some_and(|end| now >= end)
}

/// All keys, as the newest commit has them.
#[derive(Default)]
struct Ring {
    signers: BTreeMap<String, (Arc<Signer>, SigningKeyInfo)>,
    current: Option<Arc<Signer>>,
    /// How many were removed from the ring before.
    removed: u64,
}

/// The signing keys of a store. The engine tells them of each change.
pub(crate) struct SigningKeys {
    extension: Extension,
    /// Of the hashes of what has no key's header.
    hash_key: Zeroizing<[u8; 32]>,
    ring: ArcSwap<Ring>,
    /// How many keys were removed from the ring.
    removals: AtomicU64,
}

impl SigningKeys {
    /// What is proven by a key that is found after this call is true in this epoch. From the
    /// return of a call that removes a key on, there is another.
    #[inline]
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch::after(self.removals.load(Ordering::Acquire))
    }

    /// The keys of a store, where it has none with two new ones: current and next.
    pub(crate) fn open(extension: &Extension, algorithm: Algorithm) -> Result<Arc<Self>> {
        let keys = Arc::new(Self {
            extension: extension.clone(),
            hash_key: Zeroizing::new(extension.mac("seen", &[])),
            ring: ArcSwap::default(),
            removals: AtomicU64::new(0),
        });
        extension.follow(&keys)?;
        if keys.ring.load().signers.is_empty() {
            let (current, next) = (keys.draw(algorithm)?, keys.draw(algorithm)?);
            extension.change(move |tx| {
                // Another handle may have been as quick.
                if !tx.record_keys(TABLE, &[], None, 1)?.is_empty() {
                    return Ok(());
                }
                current.put(tx, KeyUse::Current)?;
                next.put(tx, KeyUse::Next)?;
                tx.audit("signing_keys_made", &current.kid, None)
            })?;
        }
        Ok(keys)
    }

    /// A keyed hash over all of a token. A header that is a signing key's is not gone over: it
    /// is in the key of the hash, which is that signing key's and this store's, and it is a
    /// fifth of a token.
    #[inline]
    pub(crate) fn hash(&self, token: &[u8]) -> blake3::Hash {
        let ring = self.ring.load();
        let signers = ring.signers.values().map(|(signer, _)| signer);
        for signer in ring.current.iter().chain(signers) {
            if let Some(after_header) = token.strip_prefix(signer.header.as_bytes()) {
                return blake3::keyed_hash(&signer.hash_key, after_header);
            }
        }
        blake3::keyed_hash(&self.hash_key, token)
    }

    /// A new key, not stored yet. Drawn before a transaction, since it takes its time.
    fn draw(&self, algorithm: Algorithm) -> Result<Drawn> {
        let failed = Error::Internal("a signing key could not be made");
        let seed = self.extension.random::<32>()?;
        let kept = PrivateKey::generate(algorithm, &seed).ok_or(failed.clone())?;
        let public = PrivateKey::read(algorithm, &kept).and_then(|key| key.public());
        let kid = public.ok_or(failed)?.thumbprint();
        let sealed = encode(&self.extension.seal(&purpose(&kid), &kept)?);
        Ok(Drawn {
            kid,
            algorithm,
            sealed,
        })
    }

    /// The key that signs.
    pub(crate) fn current(&self) -> Result<Arc<Signer>> {
        let current = self.ring.load().current.clone();
        current.ok_or(Error::Internal("there is no signing key that can be read"))
    }

    /// The key of a `kid` that is good at an instant.
    pub(crate) fn find(&self, kid: &str, now: Timestamp) -> Option<Arc<Signer>> {
        let ring = self.ring.load();
        let (signer, info) = ring.signers.get(kid)?;
        (!is_over(info, now)).then(|| signer.clone())
    }

    /// The key that writes a header, where it is good at an instant.
    pub(crate) fn find_by_header(&self, header: &str, now: Timestamp) -> Option<Arc<Signer>> {
        let ring = self.ring.load();
        let mut signers = ring.signers.values();
        let (signer, info) = signers.find(|(signer, _)| signer.header == header)?;
        (!is_over(info, now)).then(|| signer.clone())
    }

    /// All keys, by their `kid`s.
    pub(crate) fn list(&self) -> Vec<SigningKeyInfo> {
        let ring = self.ring.load();
        ring.signers
            .values()
            .map(|(_, info)| info.clone())
            .collect()
    }

    /// The key set, as it is published.
    pub(crate) fn jwks(&self, now: Timestamp) -> String {
        let ring = self.ring.load();
        let shown = ring.signers.values();
        let shown = shown.filter(|(_, info)| !is_over(info, now));
        let keys: Vec<_> = shown.map(|(signer, _)| signer.public.jwk()).collect();
        json!({ "keys": keys }).to_string()
    }

    /// Lets the next key sign, and retires the current one for as long as what it signed
    /// may be good.
    pub(crate) fn rotate(&self, algorithm: Algorithm, lifetime_max: Duration) -> Result<String> {
        let drawn = self.draw(algorithm)?;
        self.extension.change(move |tx| {
            let now = tx.now();
            let end_ms = now.saturating_add(lifetime_max).unix_ms();
            let mut keys = Keys::read(tx)?;
            for (kid, _) in keys.take_if(|stored| stored.is_over(now)) {
                tx.remove(TABLE, &kid)?;
            }
            if keys.count >= KEYS_MAX {
                let why = format!(
                    "{KEYS_MAX} keys are published, and a retired one stays for {} hours",
                    lifetime_max.as_secs() / 3600
                );
                return Err(Invalid::malformed("rotation of the signing keys", "", why).into());
            }
            // Where the next one cannot be read, the current one goes on.
            if keys.has(KeyUse::Next) {
                for (kid, mut stored) in keys.take_if(|stored| stored.usage == KeyUse::Current) {
                    stored.usage = KeyUse::Retired;
                    stored.ends_at_ms = Some(end_ms);
                    stored.put(tx, &kid)?;
                }
            }
            let signs = keys.complete(tx, &drawn)?;
            tx.audit("signing_key_rotated", &signs, None)?;
            Ok(signs)
        })
    }

    /// Removes a key and, with it, all that it signed. If it was the current one, the next
    /// signs. `false`: there is none of this `kid`.
    pub(crate) fn revoke(&self, algorithm: Algorithm, kid: &str) -> Result<bool> {
        let drawn = self.draw(algorithm)?;
        let kid = kid.to_owned();
        self.extension.change(move |tx| {
            // Damaged or not.
            if kid.is_empty() || kid.len() > KEY_LEN_MAX || !tx.remove(TABLE, kid.as_bytes())? {
                return Ok(false);
            }
            let mut keys = Keys::read(tx)?;
            if !keys.has(KeyUse::Current) || !keys.has(KeyUse::Next) {
                keys.complete(tx, &drawn)?;
            }
            tx.audit("signing_key_revoked", &kid, None)?;
            Ok(true)
        })
    }

    fn signer(&self, kid: &str, stored: &Stored) -> Option<Arc<Signer>> {
        let sealed = decode(&stored.sealed)?;
        let kept: Zeroizing<Vec<u8>> = self.extension.unseal(&purpose(kid), &sealed).ok()?;
        let private = PrivateKey::read(stored.algorithm, &kept)?;
        let public = private.public()?;
        (public.thumbprint() == kid).then(|| {
            Arc::new(Signer {
                header: jws::header_of(kid, public.algorithm().name()),
                public,
                private,
                hash_key: Zeroizing::new(self.extension.mac("seen", &[kid.as_bytes()])),
            })
        })
    }

    /// Takes a record into a ring.
    fn take(&self, ring: &mut Ring, kid: &[u8], record: &Record) {
        let read = || {
            let kid = std::str::from_utf8(kid).ok()?;
            let stored = Stored::read(record)?;
            let known = ring.signers.get(kid).map(|(signer, _)| signer.clone());
            let signer = known.or_else(|| self.signer(kid, &stored))?;
            Some((signer, stored.info(kid)))
        };
        match read() {
            Some((signer, info)) => {
                ring.signers.insert(info.kid.clone(), (signer, info));
            }
            // A damaged one neither signs nor verifies, and stops no other.
            None => ring.remove(kid),
        }
    }
}

impl Ring {
    fn remove(&mut self, kid: &[u8]) {
        let kid = std::str::from_utf8(kid);
        if kid.is_ok_and(|kid| self.signers.remove(kid).is_some()) {
            self.removed += 1;
        }
    }

    fn settle(&mut self) {
        let is_current = |(_, info): &&(Arc<Signer>, SigningKeyInfo)| info.usage == KeyUse::Current;
        let all = self.signers.values().filter(is_current);
        let current = all.max_by_key(|(_, info)| info.created_at);
        self.current = current.map(|(signer, _)| signer.clone());
    }
}

impl Follower for SigningKeys {
    fn begin(&self, view: &ExtensionView<'_>) -> Result<()> {
        let mut ring = Ring::default();
        for (kid, record) in all_in(view)? {
            if let Some(record) = record {
                self.take(&mut ring, &kid, &record);
            }
        }
        ring.settle();
        self.ring.store(Arc::new(ring));
        // Of another ring there may have been proofs.
        self.removals.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn follow(&self, changes: &[Changed<'_>]) {
        let mut changes = changes
            .iter()
            .filter(|change| change.table == TABLE)
            .peekable();
        if changes.peek().is_none() {
            return;
        }
        let old = self.ring.load_full();
        let mut ring = Ring {
            signers: old.signers.clone(),
            current: None,
            removed: 0,
        };
        for change in changes {
            match &change.new {
                Some(record) => self.take(&mut ring, change.key, record),
                None => ring.remove(change.key),
            }
        }
        ring.settle();
        let removed = ring.removed;
        self.ring.store(Arc::new(ring));
        // After: who sees the epoch finds no key that was removed before it began.
        self.removals.fetch_add(removed, Ordering::AcqRel);
    }

    fn check(&self, view: &ExtensionView<'_>) -> Result<Vec<Flaw>> {
        let mut flaws = Vec::new();
        let mut usages = Vec::new();
        for (kid, record) in all_in(view)? {
            // A damaged one was found before.
            let Some(record) = record else {
                continue;
            };
            let name = String::from_utf8_lossy(&kid).into_owned();
            let stored = Stored::read(&record);
            match stored
                .as_ref()
                .and_then(|stored| self.signer(&name, stored))
            {
                Some(_) => usages.extend(stored.map(|stored| stored.usage)),
                None => flaws.push(Flaw {
                    record: format!("{TABLE} {name}"),
                    problem: "it cannot be read, or is not the key that it is named after".into(),
                }),
            }
        }
        for usage in [KeyUse::Current, KeyUse::Next] {
            let count = usages.iter().filter(|known| **known == usage).count();
            if count != 1 && !(usages.is_empty() && flaws.is_empty()) {
                flaws.push(Flaw {
                    record: TABLE.to_owned(),
                    problem: format!("{count} keys are {usage:?}, and one must be"),
                });
            }
        }
        Ok(flaws)
    }
}

/// All records of keys, however many there are; `None` for one that is damaged.
type AllRecords = Vec<(Vec<u8>, Option<Record>)>;

fn all(
    kids: impl Fn(&[u8]) -> Result<Vec<Vec<u8>>>,
    get: impl Fn(&[u8]) -> Result<Option<Record>>,
) -> Result<AllRecords> {
    let mut all = Vec::new();
    let mut from = Vec::new();
    loop {
        let page = kids(&from)?;
        let Some(last) = page.last() else {
            return Ok(all);
        };
        from = [last.as_slice(), &[0]].concat();
        for kid in page {
            let record = match get(&kid) {
                Err(Error::Corrupted(_)) => None,
                record => record?,
            };
            all.push((kid, record));
        }
    }
}

fn all_in(view: &ExtensionView<'_>) -> Result<AllRecords> {
    let kids = |from: &[u8]| view.record_keys(TABLE, from, None, PAGE_MAX);
    all(kids, |kid| view.get(TABLE, kid))
}

/// The keys of a store, in a transaction.
struct Keys {
    /// Those that can be read.
    read: Vec<(Vec<u8>, Stored)>,
    /// How many there are, also of those that cannot.
    count: usize,
}

impl Keys {
    fn read(tx: &ExtensionTx<'_, '_>) -> Result<Self> {
        let kids = |from: &[u8]| tx.record_keys(TABLE, from, None, PAGE_MAX);
        let all = all(kids, |kid| tx.get(TABLE, kid))?;
        let count = all.len();
        let read = all.into_iter().filter_map(|(kid, record)| {
            let stored = Stored::read(&record?)?;
            Some((kid, stored))
        });
        Ok(Self {
            read: read.collect(),
            count,
        })
    }

    fn has(&self, usage: KeyUse) -> bool {
        self.read.iter().any(|(_, stored)| stored.usage == usage)
    }

    fn take_if(&mut self, is_meant: impl Fn(&Stored) -> bool) -> Vec<(Vec<u8>, Stored)> {
        let taken: Vec<_> = self
            .read
            .extract_if(.., |(_, stored)| is_meant(stored))
            .collect();
        self.count -= taken.len();
        taken
    }

    /// Has one key sign and another be the next, with a new one. Returns the `kid` of the one
    /// that signs.
    fn complete(&mut self, tx: &mut ExtensionTx<'_, '_>, drawn: &Drawn) -> Result<String> {
        let mut next = self.take_if(|stored| stored.usage == KeyUse::Next);
        next.sort_by_key(|(_, stored)| stored.created_at_ms);
        let mut next = next.into_iter();
        let current = self.take_if(|stored| stored.usage == KeyUse::Current);
        let current = current.into_iter().map(|(kid, _)| kid).next_back();
        let signs = match (current, next.next()) {
            (Some(current), None) => current,
            (None, Some((kid, mut stored))) => {
                stored.usage = KeyUse::Current;
                stored.put(tx, &kid)?;
                kid
            }
            // Neither can be read. The next rotation makes a next one.
            (None, None) => {
                drawn.put(tx, KeyUse::Current)?;
                return Ok(drawn.kid.clone());
            }
            (Some(_), Some(_)) => return Err(Error::Internal("there is a next signing key")),
        };
        // It has signed nothing.
        for (kid, _) in next {
            tx.remove(TABLE, &kid)?;
        }
        drawn.put(tx, KeyUse::Next)?;
        String::from_utf8(signs).map_err(|_| Error::Internal("a signing key has no name"))
    }
}

/// A key that was drawn and is not stored.
struct Drawn {
    kid: String,
    algorithm: Algorithm,
    sealed: String,
}

impl Drawn {
    fn put(&self, tx: &mut ExtensionTx<'_, '_>, usage: KeyUse) -> Result<()> {
        let stored = Stored {
            algorithm: self.algorithm,
            usage,
            created_at_ms: tx.now().unix_ms(),
            ends_at_ms: None,
            sealed: self.sealed.clone(),
        };
        stored.put(tx, self.kid.as_bytes())
    }
}

#[cfg(test)]
mod tests;
