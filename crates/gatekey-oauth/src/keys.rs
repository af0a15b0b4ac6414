//! The signing keys: next, current and retired, sealed in the store's file.
//!
//! A key is published before it signs and stays published until all that it has signed
//! has ended, so that a rotation is no outage for those who keep a copy of the key set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use gatekey::extension::{Changed, Extension, ExtensionTx, ExtensionView, Flaw, Follower, Record};
use gatekey::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::algorithm::{Algorithm, PrivateKey, PublicKey};
use crate::encoding::{decode, encode};

const TABLE: &str = "signing_keys";
const VERSION: u8 = 1;
/// The most keys: many times what rotations leave.
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

/// A key in memory. Whoever has it asks [`is_good`](Signer::is_good) each time.
pub(crate) struct Signer {
    pub(crate) kid: String,
    pub(crate) public: PublicKey,
    private: PrivateKey,
    is_good: AtomicBool,
}

impl Signer {
    /// Whether what it signed is good: it was not removed.
    pub(crate) fn is_good(&self) -> bool {
        self.is_good.load(Ordering::Acquire)
    }

    pub(crate) fn private(&self) -> &PrivateKey {
        &self.private
    }
}

/// All keys, as the newest commit has them.
#[derive(Default)]
struct Ring {
    signers: BTreeMap<String, (Arc<Signer>, SigningKeyInfo)>,
    current: Option<Arc<Signer>>,
    /// Keys that cannot be read. While there are some nothing is signed, and what they
    /// signed is not verified.
    damaged: BTreeSet<Vec<u8>>,
}

/// The signing keys of a store. The engine tells them of each change.
pub(crate) struct SigningKeys {
    extension: Extension,
    ring: ArcSwap<Ring>,
}

impl SigningKeys {
    /// The keys of a store, where it has none with two new ones: current and next.
    pub(crate) fn open(extension: &Extension, algorithm: Algorithm) -> Result<Arc<Self>> {
        let keys = Arc::new(Self {
            extension: extension.clone(),
            ring: ArcSwap::default(),
        });
        extension.follow(&keys)?;
        if keys.ring.load().signers.is_empty() {
            let (current, next) = (keys.draw(algorithm)?, keys.draw(algorithm)?);
            extension.change(move |tx| {
                // Another handle may have been as quick.
                if !tx.page(TABLE, &[], None, 1)?.is_empty() {
                    return Ok(());
                }
                current.put(tx, KeyUse::Current)?;
                next.put(tx, KeyUse::Next)?;
                tx.audit("signing_keys_made", &current.kid, None)
            })?;
        }
        Ok(keys)
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
        let ring = self.ring.load();
        match (&ring.current, !ring.damaged.is_empty()) {
            (Some(current), false) => Ok(current.clone()),
            _ => Err(Error::Internal("there is no signing key that can be read")),
        }
    }

    /// The key of a `kid` that is good at an instant.
    pub(crate) fn find(&self, kid: &str, now: Timestamp) -> Option<Arc<Signer>> {
        let ring = self.ring.load();
        let (signer, info) = ring.signers.get(kid)?;
        // What it signed has ended by then.
        let is_over = info.ends_at.is_some_and(|end| now >= end);
        (!is_over).then(|| signer.clone())
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
        let shown = shown.filter(|(_, info)| info.ends_at.is_none_or(|end| now < end));
        let keys: Vec<_> = shown.map(|(signer, _)| signer.public.jwk()).collect();
        json!({ "keys": keys }).to_string()
    }

    /// Lets the next key sign, and retires the current one for as long as what it signed
    /// may be good.
    pub(crate) fn rotate(&self, algorithm: Algorithm, lifetime_max: Duration) -> Result<String> {
        let drawn = self.draw(algorithm)?;
        self.extension.change(move |tx| {
            let now = tx.now();
            let mut signs = None;
            for (kid, record) in tx.page(TABLE, &[], None, KEYS_MAX + 1)? {
                let unread = Error::Internal("a signing key does not decode");
                let mut stored = Stored::read(&record).ok_or(unread)?;
                match stored.usage {
                    KeyUse::Next => {
                        stored.usage = KeyUse::Current;
                        signs = String::from_utf8(kid.clone()).ok();
                        stored.put(tx, &kid)?;
                    }
                    KeyUse::Current => {
                        stored.usage = KeyUse::Retired;
                        let end = now.saturating_add(lifetime_max);
                        stored.ends_at_ms = Some(end.unix_ms());
                        stored.put(tx, &kid)?;
                    }
                    KeyUse::Retired
                        if stored.ends_at_ms.is_some_and(|end| now.unix_ms() >= end) =>
                    {
                        tx.remove(TABLE, &kid)?;
                    }
                    KeyUse::Retired => {}
                }
            }
            drawn.put(tx, KeyUse::Next)?;
            let signs = signs.ok_or(Error::Internal("there is no next signing key"))?;
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
            let Some(record) = tx.get(TABLE, kid.as_bytes())? else {
                return Ok(false);
            };
            tx.remove(TABLE, kid.as_bytes())?;
            // One that cannot be read may have been the current one.
            let usage = Stored::read(&record).map(|stored| stored.usage);
            let mut next_is_missing = usage == Some(KeyUse::Next);
            if matches!(usage, Some(KeyUse::Current) | None) {
                for (kid, record) in tx.page(TABLE, &[], None, KEYS_MAX + 1)? {
                    if let Some(mut stored) = Stored::read(&record)
                        && stored.usage == KeyUse::Next
                    {
                        stored.usage = KeyUse::Current;
                        stored.put(tx, &kid)?;
                        next_is_missing = true;
                    }
                }
            }
            if next_is_missing {
                drawn.put(tx, KeyUse::Next)?;
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
                kid: kid.to_owned(),
                public,
                private,
                is_good: AtomicBool::new(true),
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
            None => {
                ring.damaged.insert(kid.to_vec());
            }
        }
    }
}

impl Ring {
    fn settle(&mut self) {
        let is_current = |(_, info): &&(Arc<Signer>, SigningKeyInfo)| info.usage == KeyUse::Current;
        let current = self.signers.values().find(is_current);
        self.current = current.map(|(signer, _)| signer.clone());
    }
}

impl Follower for SigningKeys {
    fn begin(&self, view: &ExtensionView<'_>) -> Result<()> {
        let mut ring = Ring::default();
        for (kid, record) in view.page(TABLE, &[], None, KEYS_MAX + 1)? {
            self.take(&mut ring, &kid, &record);
        }
        ring.settle();
        self.ring.store(Arc::new(ring));
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
            damaged: old.damaged.clone(),
        };
        for change in changes {
            match &change.new {
                Some(record) => self.take(&mut ring, change.key, record),
                None => {
                    ring.damaged.remove(change.key);
                    let kid = std::str::from_utf8(change.key);
                    if let Some((signer, _)) = kid.ok().and_then(|kid| ring.signers.remove(kid)) {
                        signer.is_good.store(false, Ordering::Release);
                    }
                }
            }
        }
        ring.settle();
        self.ring.store(Arc::new(ring));
    }

    fn check(&self, view: &ExtensionView<'_>) -> Result<Vec<Flaw>> {
        let mut flaws = Vec::new();
        let mut usages = Vec::new();
        for (kid, record) in view.page(TABLE, &[], None, KEYS_MAX + 1)? {
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
