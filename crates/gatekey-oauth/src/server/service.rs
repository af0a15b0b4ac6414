//! Access tokens of services, for their own secret (RFC 6749, 4.4).
//!
//! A service has one authorization for each set of permissions that it asks for, whose id
//! follows from both. While its newest access token has more than half of its life left,
//! that one is given again: so processes that ask at once get one token, and however often
//! they ask, at most two are alive.

use gatekey::extension::ExtensionTx;
use gatekey::{Key, Result, Timestamp};
use zeroize::Zeroizing;

use crate::encoding::encode;
use crate::params::Params;
use crate::server::AuthorizationServer;
use crate::server::authorize::asked_scope;
use crate::server::clients::Caller;
use crate::server::records::{
    AUTHORIZATION, AUTHORIZATIONS, AuthorizationRecord, BY_CLIENT, CLIENTS, ClientRecord, Head,
    Source as _, by_client, forget_line, instant, line, move_end, note_end, put, readable, sweep,
};
use crate::server::reply::Refusal;
use crate::server::token::{Answer, Tokens, find};

/// For how many sets of permissions a service may have access tokens at a time.
const SETS_MAX: usize = 32;
const SEEN_SERVICE: &str = "service";

impl AuthorizationServer {
    /// Answers a service that has authenticated.
    pub(super) fn serve(&self, caller: Caller, params: &Params) -> Answer<Tokens> {
        let Ok(asked) = asked_scope(params, &caller.record.scope) else {
            return Ok(Err(Refusal::InvalidScope));
        };
        let resource = params.get("resource");
        if !self.is_resource(resource) {
            return Ok(Err(Refusal::InvalidTarget));
        }
        // In one order, whatever order they were asked for in.
        let known = caller.record.scope.iter();
        let scope: Vec<String> = known.filter(|name| asked.contains(name)).cloned().collect();
        let resource = resource.map(str::to_owned);
        let names = scope.join(" ");
        let extension = &self.shared.extension;
        let hash = extension.mac(SEEN_SERVICE, &[caller.id.as_bytes(), names.as_bytes()]);
        let id = encode(hash.get(..16).unwrap_or(&hash));
        let (server, caller) = (self.clone(), std::sync::Arc::new(caller));
        extension.change(move |tx| {
            let client = tx.find::<ClientRecord>(CLIENTS, caller.id.as_bytes())?;
            let Some(client) = client.filter(|client| !client.disabled) else {
                return Ok(Err(Refusal::InvalidClient));
            };
            let Some(owner) = client.owner else {
                return Ok(Err(Refusal::UnauthorizedClient));
            };
            if tx.owner(&owner.parse()?)?.is_suspended() {
                return Ok(Err(Refusal::UnauthorizedClient));
            }
            let now = tx.now();
            let secret = caller.secret.as_bytes();
            let (mut key, mut base) = (None, None);
            if let Some(found) = find(tx, &id)? {
                base = base_key(tx, &found)?;
                key = good_key(tx, &found)?;
                if let Some(key) = &key
                    && is_fresh(instant(found.head.made_at_ms), found.access_end(key), now)
                    && let Ok(access) = server.unseal_access(secret, &found.head.access)
                {
                    return Ok(Ok(tokens(access, found.access_end(key), &found)));
                }
            }
            sweep(tx)?;
            let found = find(tx, &id)?;
            if found.is_none() {
                let start = by_client(&caller.id, &[]);
                let end = [caller.id.as_bytes(), &[1]].concat();
                if tx
                    .record_keys(BY_CLIENT, &start, Some(&end), SETS_MAX)?
                    .len()
                    == SETS_MAX
                {
                    return Ok(Err(Refusal::InvalidScope));
                }
                tx.put(BY_CLIENT, &by_client(&caller.id, id.as_bytes()), 1, &[])?;
            }
            let ends_at = now.saturating_add(server.shared.options.access_lifetime);
            let before = found.as_ref().map(|found| found.ends_at_ms);
            let mut authorization = AuthorizationRecord {
                client: caller.id.clone(),
                owner,
                keyspace: client.keyspace,
                scope: scope.clone(),
                resource: resource.clone(),
                created_at_ms: now.unix_ms(),
                ends_at_ms: ends_at.unix_ms(),
                revoked_at_ms: None,
                key: String::new(),
                previous_key: None,
                head: Head {
                    generation: 0,
                    made_at_ms: now.unix_ms(),
                    secret: [0; 32],
                    access: Vec::new(),
                    access_ends_at_ms: None,
                    scope: scope.clone(),
                },
                predecessor: None,
                successor: None,
                held: Vec::new(),
            };
            if let Some(found) = found {
                authorization.key = found.key;
                authorization.previous_key = found.previous_key;
                authorization.created_at_ms = found.created_at_ms;
            }
            let kept = key.filter(|key| {
                let ends_at = key.expires_at.unwrap_or(Timestamp::MAX);
                server.shared.jwts.is_some() && is_fresh(key.created_at, ends_at, now)
            });
            let (access, access_ends_at) = match kept {
                // A JWT, which ends before its key.
                Some(key) => server.shape(&authorization, &key, Zeroizing::default())?,
                None => {
                    if let Some(previous) = authorization.previous_key.take() {
                        let kept = authorization.key.parse().ok();
                        forget_line(tx, &previous, kept)?;
                    }
                    match base {
                        // The one before is good for as long as was told of it.
                        Some(key) => {
                            let lifetime = server.shared.options.access_lifetime;
                            server.replace(tx, &mut authorization, &key, lifetime)?
                        }
                        None => server.issue(tx, &id, &mut authorization)?,
                    }
                }
            };
            let sealed = server
                .shared
                .extension
                .seal(&server.pad(secret), access.as_bytes())?;
            authorization.head.access = sealed;
            authorization.head.access_ends_at_ms = Some(access_ends_at.unix_ms());
            let ends_at_ms = authorization.ends_at_ms;
            match before {
                Some(before) => {
                    move_end(tx, (before, ends_at_ms), AUTHORIZATION, id.as_bytes())?;
                }
                None => note_end(tx, ends_at_ms, AUTHORIZATION, id.as_bytes())?,
            }
            put(tx, AUTHORIZATIONS, id.as_bytes(), &authorization)?;
            tx.audit("service_token_issued", &id, Some(&caller.id))?;
            Ok(Ok(tokens(access, access_ends_at, &authorization)))
        })
    }
}

fn tokens(
    access: Zeroizing<String>,
    ends_at: Timestamp,
    authorization: &AuthorizationRecord,
) -> Tokens {
    Tokens {
        access,
        refresh: None,
        scope: authorization.scope.clone(),
        ends_at,
    }
}

/// The key of an authorization, if nothing has taken it away.
fn good_key(tx: &mut ExtensionTx<'_, '_>, found: &AuthorizationRecord) -> Result<Option<Key>> {
    // For one that is damaged the service gets another.
    let key = readable(tx.find_key(found.key_id()?))?.flatten();
    let key = key.filter(|key| key.successor.is_none());
    Ok(key.filter(|key| found.revoked_at_ms.is_none() && is_good(key)))
}

/// The key whose terms the next one has, if nothing has taken it away: the newest, or what an
/// operator rotated that to.
fn base_key(tx: &mut ExtensionTx<'_, '_>, found: &AuthorizationRecord) -> Result<Option<Key>> {
    let newest = line(tx, &found.key)?.pop();
    let newest = newest.and_then(|(_, key)| key);
    Ok(newest.filter(|key| found.revoked_at_ms.is_none() && is_good(key)))
}

/// Whether a key is neither over nor halted.
fn is_good(key: &Key) -> bool {
    key.revoked.is_none() && !key.disabled && !key.suspended && !key.expired
}

/// Whether more than half of a life is left.
fn is_fresh(from: Timestamp, to: Timestamp, now: Timestamp) -> bool {
    to.saturating_since(now) * 2 > to.saturating_since(from)
}
