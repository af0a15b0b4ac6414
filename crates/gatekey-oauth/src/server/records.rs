//! The server's records. Each is JSON, under version 1.
//!
//! | table | key | value |
//! |---|---|---|
//! | `clients` | client id | [`ClientRecord`] |
//! | `codes` | hash of the code | [`CodeRecord`] |
//! | `tickets` | id of a ticket that was used | nothing |
//! | `authorizations` | id | [`AuthorizationRecord`] |
//! | `by_client` | client id, 0, authorization | nothing |
//! | `ends` | the instant at which a record goes, its kind, its key | nothing |

use gatekey::extension::{ExtensionTx, ExtensionView, Record};
use gatekey::{Error, Key, KeyId, Keyspace, OwnerPath, Prefix, Reason, Result, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::server::clients::ClientAuth;

const VERSION: u8 = 1;

pub(super) const CLIENTS: &str = "clients";
pub(super) const CODES: &str = "codes";
pub(super) const TICKETS: &str = "tickets";
pub(super) const AUTHORIZATIONS: &str = "authorizations";
pub(super) const BY_CLIENT: &str = "by_client";
pub(super) const ENDS: &str = "ends";

/// For how long an authorization that cannot be read leaves the queue of what ends.
const UNREAD_KEPT_MS: u64 = 24 * 3600 * 1000;

/// How many records that have ended one transaction removes: more than it makes.
const SWEPT: usize = 8;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientRecord {
    pub(crate) name: String,
    pub(crate) auth: ClientAuth,
    /// The hash of its secret.
    pub(crate) secret: Option<[u8; 32]>,
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) keyspace: String,
    pub(crate) scope: Vec<String>,
    pub(crate) requires_pkce: bool,
    /// Whom it acts for by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) introspects: bool,
    pub(crate) disabled: bool,
    pub(crate) created_at_ms: u64,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeRecord {
    pub(crate) client: String,
    pub(crate) redirect_uri: String,
    /// The redirect URI stood in the request, and must in the exchange.
    pub(crate) challenge: Option<String>,
    pub(crate) scope: Vec<String>,
    pub(crate) owner: String,
    pub(crate) resource: Option<String>,
    pub(crate) ends_at_ms: u64,
    /// What it was exchanged for.
    pub(crate) authorization: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthorizationRecord {
    pub(crate) client: String,
    pub(crate) owner: String,
    pub(crate) keyspace: String,
    /// All that was agreed.
    pub(crate) scope: Vec<String>,
    pub(crate) resource: Option<String>,
    pub(crate) created_at_ms: u64,
    pub(crate) ends_at_ms: u64,
    pub(crate) revoked_at_ms: Option<u64>,
    /// The key of the newest access token, and of the one before.
    pub(crate) key: String,
    pub(crate) previous_key: Option<String>,
    pub(crate) head: Head,
    /// The hash of the secret before the head's, if there was one.
    pub(crate) predecessor: Option<[u8; 32]>,
    /// The head's secret, sealed under its predecessor.
    pub(crate) successor: Option<Vec<u8>>,
    /// The keys that were disabled with the client.
    pub(crate) held: Vec<String>,
}

/// The newest refresh token of an authorization. A service has none: its secret is in the
/// place of the head's.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    pub(crate) generation: u64,
    pub(crate) made_at_ms: u64,
    /// The hash of its secret.
    pub(crate) secret: [u8; 32],
    /// The access token that was made with it, sealed under its secret, and its scope.
    pub(crate) access: Vec<u8>,
    /// When that access token ends, which may be before its key does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) access_ends_at_ms: Option<u64>,
    pub(crate) scope: Vec<String>,
}

const UNREAD: &str = "a record of gatekey-oauth does not decode";

/// What was read; `None`: its record is damaged, or of a form that is not known. For what one
/// such record must not stop.
pub(super) fn readable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(Error::Corrupted(_) | Error::Internal(UNREAD)) => Ok(None),
        read => read.map(Some),
    }
}

pub(super) fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T> {
    let read = match version {
        VERSION => serde_json::from_slice(bytes).ok(),
        _ => None,
    };
    read.ok_or(Error::Internal(UNREAD))
}

/// Where records are read from.
pub(super) trait Source {
    fn record(&self, table: &str, key: &[u8]) -> Result<Option<Record>>;

    fn find<T: DeserializeOwned>(&self, table: &str, key: &[u8]) -> Result<Option<T>> {
        let record = self.record(table, key)?;
        let record = record.as_ref();
        let read = record.map(|record| decode(record.version, &record.bytes));
        read.transpose()
    }
}

impl Source for ExtensionTx<'_, '_> {
    fn record(&self, table: &str, key: &[u8]) -> Result<Option<Record>> {
        self.get(table, key)
    }
}

impl Source for ExtensionView<'_> {
    fn record(&self, table: &str, key: &[u8]) -> Result<Option<Record>> {
        self.get(table, key)
    }
}

pub(super) fn put<T: Serialize>(
    tx: &mut ExtensionTx<'_, '_>,
    table: &str,
    key: &[u8],
    value: &T,
) -> Result<()> {
    let bytes = serde_json::to_vec(value);
    let bytes = bytes.map_err(|_| Error::Internal("a record of gatekey-oauth does not encode"))?;
    tx.put(table, key, VERSION, &bytes)
}

/// A key in [`ENDS`]: in the order of time.
pub(super) fn end_key(at_ms: u64, kind: u8, key: &[u8]) -> Vec<u8> {
    [&at_ms.to_be_bytes(), &[kind][..], key].concat()
}

pub(super) const CODE: u8 = b'c';
pub(super) const TICKET: u8 = b't';
pub(super) const AUTHORIZATION: u8 = b'a';

/// Notes when a record goes.
pub(super) fn note_end(
    tx: &mut ExtensionTx<'_, '_>,
    at_ms: u64,
    kind: u8,
    key: &[u8],
) -> Result<()> {
    tx.put(ENDS, &end_key(at_ms, kind, key), VERSION, &[])
}

/// Has a record go sooner.
pub(super) fn move_end(
    tx: &mut ExtensionTx<'_, '_>,
    (from_ms, to_ms): (u64, u64),
    kind: u8,
    key: &[u8],
) -> Result<()> {
    tx.remove(ENDS, &end_key(from_ms, kind, key))?;
    note_end(tx, to_ms, kind, key)
}

/// Removes some records that have ended, with their keys. Each transaction that makes
/// records does it, so that the file is bounded by what is alive. A damaged one stops nobody:
/// a check finds it.
pub(super) fn sweep(tx: &mut ExtensionTx<'_, '_>) -> Result<()> {
    let now = tx.now().unix_ms().saturating_add(1).to_be_bytes();
    for end in tx.record_keys(ENDS, &[], Some(&now), SWEPT)? {
        match end.get(8..).and_then(<[u8]>::split_first) {
            Some((&CODE, key)) => drop(tx.remove(CODES, key)?),
            Some((&TICKET, key)) => drop(tx.remove(TICKETS, key)?),
            Some((&AUTHORIZATION, id)) => sweep_authorization(tx, id)?,
            _ => {}
        }
        tx.remove(ENDS, &end)?;
    }
    Ok(())
}

fn sweep_authorization(tx: &mut ExtensionTx<'_, '_>, id: &[u8]) -> Result<()> {
    let now_ms = tx.now().unix_ms();
    let found = tx.find::<AuthorizationRecord>(AUTHORIZATIONS, id);
    match readable(found)? {
        Some(Some(record)) if record.ends_at_ms <= now_ms => {
            let keys = [record.previous_key.as_ref(), Some(&record.key)];
            for key in keys.into_iter().flatten() {
                forget_line(tx, key, None)?;
            }
            tx.remove(BY_CLIENT, &by_client(&record.client, id))?;
            tx.remove(AUTHORIZATIONS, id)?;
        }
        // Its end was put off.
        Some(_) => {}
        // It may be read again: by a repair, or by a newer release than this one. Meanwhile it
        // leaves the head of the queue to others.
        None => note_end(tx, now_ms + UNREAD_KEPT_MS, AUTHORIZATION, id)?,
    }
    Ok(())
}

/// The keys of a line, from one on: it, and those that it was rotated to since, by whomever.
/// `None` for one that is damaged, which is the last that is known.
pub(super) fn line(tx: &mut ExtensionTx<'_, '_>, from: &str) -> Result<Vec<(KeyId, Option<Key>)>> {
    let mut next = Some(from.parse()?);
    let mut line = Vec::new();
    while let Some(id) = next.take() {
        match readable(tx.find_key(id))? {
            Some(Some(key)) => {
                next = key.successor;
                line.push((id, Some(key)));
            }
            Some(None) => {}
            None => line.push((id, None)),
        }
    }
    Ok(line)
}

/// Removes the keys of a line, up to one that is kept. A key that is not over is revoked:
/// nothing would know of it any more. A damaged one stays for a repair, and is granted
/// nothing.
pub(super) fn forget_line(
    tx: &mut ExtensionTx<'_, '_>,
    from: &str,
    kept: Option<KeyId>,
) -> Result<()> {
    for (id, key) in line(tx, from)? {
        if Some(id) == kept {
            break;
        }
        if key.is_none() {
            tx.revoke(id, Reason::Superseded)?;
        } else if !tx.purge(id)? {
            tx.revoke(id, Reason::Superseded)?;
            tx.purge(id)?;
        }
    }
    Ok(())
}

pub(super) fn by_client(client: &str, authorization: &[u8]) -> Vec<u8> {
    [client.as_bytes(), &[0], authorization].concat()
}

impl AuthorizationRecord {
    pub(super) fn key_id(&self) -> Result<KeyId> {
        Ok(self.key.parse()?)
    }

    /// Withdraws what was withdrawn from the newest key since that was made. A name that the
    /// keyspace has retired stays: asking for it is refused.
    pub(super) fn narrow(&mut self, keyspace: &Keyspace, key: &Key) {
        let made_with = self.head.scope.clone();
        let is_kept = |name: &String| {
            let bit = keyspace.mask([name]);
            !made_with.contains(name) || bit.map_or(true, |bit| key.permissions.contains(bit))
        };
        self.scope.retain(is_kept);
        self.head.scope.retain(is_kept);
    }

    /// When the newest access token ends.
    pub(super) fn access_end(&self, key: &Key) -> Timestamp {
        let of_key = key.expires_at.unwrap_or(Timestamp::MAX);
        let of_token = self.head.access_ends_at_ms.map_or(of_key, instant);
        of_key.min(of_token)
    }

    pub(super) fn owner(&self) -> Result<OwnerPath> {
        Ok(self.owner.parse()?)
    }

    pub(super) fn keyspace(&self) -> Result<Prefix> {
        Ok(self.keyspace.parse()?)
    }
}

pub(super) fn instant(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(ms).unwrap_or(Timestamp::MAX)
}
