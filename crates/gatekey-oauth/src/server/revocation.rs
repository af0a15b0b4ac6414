//! Revocation: of a token by its client, and of an authorization by whomever.

use std::collections::BTreeMap;

use gatekey::extension::ExtensionTx;
use gatekey::{Key, KeyId, Reason, Result};

use crate::encoding::encode;
use crate::server::AuthorizationServer;
use crate::server::clients::{Caller, authenticated};
use crate::server::records::{
    AUTHORIZATION, AUTHORIZATIONS, AuthorizationRecord, line, move_end, put, readable,
};
use crate::server::reply::{Refusal, Reply};
use crate::server::token::{LABEL, TokenRequest, find};

/// How long a revoked authorization is remembered.
const REVOKED_KEPT_MS: u64 = 24 * 3600 * 1000;

impl AuthorizationServer {
    /// Answers a request to the revocation endpoint (RFC 7009): revokes the authorization of a
    /// refresh token or of an access token, if it is this client's. 200 also for what is
    /// unknown. Durable before it returns.
    ///
    /// # Errors
    /// See [`Engine`](gatekey::Engine): answer 503.
    pub fn revoke(&self, request: TokenRequest<'_>) -> Result<Reply> {
        let extension = &self.shared.extension;
        let TokenRequest {
            params,
            authorization,
        } = request;
        let Some(Caller { id: client, .. }) = authenticated(extension, authorization, params)?
        else {
            return Ok(Reply::refuse(Refusal::InvalidClient));
        };
        let Some(token) = params.get("token") else {
            return Ok(Reply::refuse(Refusal::InvalidRequest));
        };
        let (id, presented) = match self.read_refresh(token) {
            Some(refresh) => (Some(encode(&refresh.authorization)), None),
            // An access token names its authorization in its key's labels.
            None => {
                let key = match &self.shared.jwts {
                    Some(jwts) => match jwts.key_of(token)? {
                        Some(key) => extension.engine().find_key(key)?,
                        None => None,
                    },
                    None => extension.engine().find_by_token(token)?,
                };
                let id = key.as_ref().and_then(|key| key.labels.get(LABEL).cloned());
                (id, key)
            }
        };
        let Some(id) = id else {
            return Ok(Reply::empty(200));
        };
        let answer = extension.change(move |tx| {
            let Some(mut found) = find(tx, &id)? else {
                return Ok(Ok(()));
            };
            if found.client != client {
                return Ok(Err(Refusal::InvalidGrant));
            }
            revoke(tx, &id, &mut found, "token_revoked")?;
            // Its line may be broken: the key before it was purged, say.
            if let Some(key) = &presented
                && key.owner.as_str() == found.owner
                && key.keyspace.as_str() == found.keyspace
                && let Some(Some(key)) = readable(tx.find_key(key.id))?
                && key.revoked.is_none()
            {
                tx.revoke(key.id, Reason::Cessation)?;
            }
            Ok(Ok(()))
        })?;
        Ok(match answer {
            Ok(()) => Reply::empty(200),
            Err(refusal) => Reply::refuse(refusal),
        })
    }

    /// Revokes an authorization, with its access tokens and its refresh token: for a person
    /// who takes it back. A service gets a new access token with its secret: disable it instead.
    /// `false`: there is none, or it was revoked before.
    ///
    /// # Errors
    /// See [`Engine`](gatekey::Engine).
    pub fn revoke_authorization(&self, id: &str) -> Result<bool> {
        let id = id.to_owned();
        self.shared
            .extension
            .change(move |tx| match find(tx, &id)? {
                Some(mut found) if found.revoked_at_ms.is_none() => {
                    revoke(tx, &id, &mut found, "authorization_revoked")?;
                    Ok(true)
                }
                _ => Ok(false),
            })
    }
}

/// The keys of an authorization, each once: those that it names, and what an operator rotated
/// them to.
pub(super) fn lines(
    tx: &mut ExtensionTx<'_, '_>,
    authorization: &AuthorizationRecord,
) -> Result<BTreeMap<KeyId, Option<Key>>> {
    let mut keys = BTreeMap::new();
    let named = [
        Some(&authorization.key),
        authorization.previous_key.as_ref(),
    ];
    for from in named.into_iter().flatten() {
        keys.extend(line(tx, from)?);
    }
    Ok(keys)
}

/// Revokes an authorization in constant time and space: at most two keys are alive, but for
/// those that an operator rotated them to.
pub(super) fn revoke(
    tx: &mut ExtensionTx<'_, '_>,
    id: &str,
    authorization: &mut AuthorizationRecord,
    event: &str,
) -> Result<()> {
    if authorization.revoked_at_ms.is_some() {
        return Ok(());
    }
    let now_ms = tx.now().unix_ms();
    for (key, state) in lines(tx, authorization)? {
        // One that is damaged is granted nothing, also where memory still has it.
        if state.is_none_or(|key| key.revoked.is_none()) {
            tx.revoke(key, Reason::Cessation)?;
        }
    }
    let goes_at_ms = authorization.ends_at_ms.min(now_ms + REVOKED_KEPT_MS);
    move_end(
        tx,
        (authorization.ends_at_ms, goes_at_ms),
        AUTHORIZATION,
        id.as_bytes(),
    )?;
    authorization.revoked_at_ms = Some(now_ms);
    authorization.ends_at_ms = goes_at_ms;
    put(tx, AUTHORIZATIONS, id.as_bytes(), authorization)?;
    tx.audit(event, id, Some(&authorization.client))
}
