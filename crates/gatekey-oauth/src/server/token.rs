//! The token endpoint: a code or a refresh token for an access token.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use gatekey::extension::ExtensionTx;
use gatekey::{Error, Key, KeyUpdate, NewKey, Result, Rotation, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::encoding::{decode, encode, encode_secret};
use crate::params::Params;
use crate::server::AuthorizationServer;
use crate::server::authorize::asked_scope;
use crate::server::clients::{Caller, authenticated};
use crate::server::records::{
    AUTHORIZATION, AUTHORIZATIONS, AuthorizationRecord, BY_CLIENT, CLIENTS, CODES, ClientRecord,
    CodeRecord, Head, Source, by_client, forget_line, instant, note_end, put, sweep,
};
use crate::server::reply::{Refusal, Reply};
use crate::server::revocation::revoke;

const REFRESH: &str = "gkr_";
/// Hashes and pads of secrets, each under a purpose of its own.
const SECRET: &str = "refresh secret";
const PAD: &str = "refresh pad";
const PROOF: &str = "refresh proof";
const PROOF_LEN: usize = 16;

pub(super) type Answer<T> = Result<std::result::Result<T, Refusal>>;

/// A request to the token endpoint, or to that for revocation.
///
/// `Debug` shows the names of the parameters, and neither their values nor the header.
#[derive(Clone, Copy)]
pub struct TokenRequest<'a> {
    /// The body, of a form or of JSON.
    pub params: &'a Params,
    /// The `Authorization` header, if the request has one.
    pub authorization: Option<&'a str>,
}

impl fmt::Debug for TokenRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let withheld = self.authorization.map(|_| "withheld");
        f.debug_struct("TokenRequest")
            .field("params", &self.params)
            .field("authorization", &withheld)
            .finish()
    }
}

/// A refresh token in its parts. Its proof was right: this store has made it.
pub(super) struct Refresh {
    pub(super) authorization: [u8; 16],
    pub(super) generation: u64,
    secret: Zeroizing<[u8; 32]>,
}

/// What a client gets.
pub(super) struct Tokens {
    pub(super) access: Zeroizing<String>,
    pub(super) refresh: Option<Zeroizing<String>>,
    pub(super) scope: Vec<String>,
    pub(super) ends_at: Timestamp,
}

/// What a transaction draws beforehand.
#[derive(Clone)]
struct Drawn {
    id: [u8; 16],
    secret: Zeroizing<[u8; 32]>,
}

impl AuthorizationServer {
    /// Answers a request to the token endpoint: `authorization_code`, `refresh_token`, or
    /// `client_credentials` of a [service](crate::server::NewClient::service).
    ///
    /// All checks come before anything is consumed. A code is good once; one that is
    /// presented again and passes all checks revokes what it was exchanged for. A refresh
    /// token is good until the next is used; see [`ServerOptions::refresh_window`] for
    /// retries. Durable before it returns.
    ///
    /// [`ServerOptions::refresh_window`]: crate::server::ServerOptions::refresh_window
    ///
    /// # Errors
    /// See [`Engine`](gatekey::Engine): answer 503.
    pub fn token(&self, request: TokenRequest<'_>) -> Result<Reply> {
        let extension = &self.shared.extension;
        let TokenRequest {
            params,
            authorization,
        } = request;
        let Some(caller) = authenticated(extension, authorization, params)? else {
            return Ok(Reply::refuse(Refusal::InvalidClient));
        };
        let Caller { id, record, .. } = &caller;
        let is_service = record.owner.is_some();
        let answer = match (params.get("grant_type"), is_service) {
            (Some("authorization_code"), false) => self.redeem(id, params),
            (Some("refresh_token"), false) => self.refresh(id, params),
            (Some("client_credentials"), true) => self.serve(caller, params),
            (Some("authorization_code" | "refresh_token" | "client_credentials"), _) => {
                Ok(Err(Refusal::UnauthorizedClient))
            }
            (Some(_), _) => Ok(Err(Refusal::UnsupportedGrantType)),
            (None, _) => Ok(Err(Refusal::InvalidRequest)),
        };
        let answer = match answer {
            // The engine does not give such a key: a permission was retired, say, or the owner
            // is at a cap. Nothing was consumed.
            Err(Error::Invalid(_) | Error::Conflict(_) | Error::NotFound(_)) => {
                Err(Refusal::InvalidScope)
            }
            answer => answer?,
        };
        Ok(match answer {
            Ok(tokens) => self.show(&tokens),
            Err(refusal) => Reply::refuse(refusal),
        })
    }

    fn show(&self, tokens: &Tokens) -> Reply {
        let now = self.shared.extension.engine().now();
        let left = tokens.ends_at.saturating_since(now);
        let said = json!({
            "token_type": "Bearer",
            "expires_in": left.as_secs(),
            "scope": tokens.scope.join(" "),
        });
        let said = said.to_string();
        // The tokens, of which JSON escapes no character, are put in at once: the answer is
        // the only copy of them.
        let before = said.trim_end_matches('}');
        let mut parts = vec![before, ",\"access_token\":\"", tokens.access.as_str()];
        if let Some(refresh) = &tokens.refresh {
            parts.extend(["\",\"refresh_token\":\"", refresh.as_str()]);
        }
        parts.push("\"}");
        Reply::of_json(200, parts.concat())
    }

    /// Exchanges a code.
    fn redeem(&self, client: &str, params: &Params) -> Answer<Tokens> {
        let Some(code) = params.get("code") else {
            return Ok(Err(Refusal::InvalidRequest));
        };
        let hash = self.code_hash(code);
        let redirect_uri = params.get("redirect_uri").map(str::to_owned);
        let resource = params.get("resource").map(str::to_owned);
        let verifier = params.get("code_verifier").map(str::to_owned);
        let drawn = self.draw()?;
        let (server, client) = (self.clone(), client.to_owned());
        self.shared.extension.change(move |tx| {
            let now_ms = tx.now().unix_ms();
            let refused = Ok(Err(Refusal::InvalidGrant));
            if !is_enabled(tx, &client)? {
                return Ok(Err(Refusal::InvalidClient));
            }
            let Some(mut found) = tx.find::<CodeRecord>(CODES, &hash)? else {
                return refused;
            };
            let is_right = found.client == client
                && now_ms < found.ends_at_ms
                && redirect_uri.as_ref() == Some(&found.redirect_uri)
                && proves(found.challenge.as_deref(), verifier.as_deref());
            if !is_right {
                return refused;
            }
            if resource.is_some() && resource != found.resource {
                return Ok(Err(Refusal::InvalidTarget));
            }
            // Nothing was consumed so far, and all that follows is one transaction.
            if let Some(id) = &found.authorization {
                if let Some(mut authorization) = find(tx, id)? {
                    revoke(tx, id, &mut authorization, "code_replayed")?;
                }
                return refused;
            }
            if tx.owner(&found.owner.parse()?)?.is_suspended() {
                return refused;
            }
            let Some(of_client) = tx.find::<ClientRecord>(CLIENTS, client.as_bytes())? else {
                return refused;
            };
            sweep(tx)?;
            let options = &server.shared.options;
            let id = encode(&drawn.id);
            let ends_at = tx.now().saturating_add(options.authorization_lifetime);
            let mut authorization = AuthorizationRecord {
                client: client.clone(),
                owner: found.owner.clone(),
                keyspace: of_client.keyspace,
                scope: found.scope.clone(),
                resource: found.resource.clone(),
                created_at_ms: now_ms,
                ends_at_ms: ends_at.unix_ms(),
                revoked_at_ms: None,
                key: String::new(),
                previous_key: None,
                head: Head {
                    generation: 0,
                    made_at_ms: 0,
                    secret: [0; 32],
                    access: Vec::new(),
                    access_ends_at_ms: None,
                    scope: found.scope.clone(),
                },
                predecessor: None,
                successor: None,
                held: Vec::new(),
            };
            let access = server.issue(tx, &id, &mut authorization)?;
            let tokens = server.crown(tx, &drawn, &mut authorization, None, access)?;
            put(tx, AUTHORIZATIONS, id.as_bytes(), &authorization)?;
            tx.put(BY_CLIENT, &by_client(&client, id.as_bytes()), 1, &[])?;
            note_end(tx, authorization.ends_at_ms, AUTHORIZATION, id.as_bytes())?;
            found.authorization = Some(id.clone());
            put(tx, CODES, &hash, &found)?;
            tx.audit("code_redeemed", &id, Some(&client))?;
            Ok(Ok(tokens))
        })
    }

    /// Exchanges a refresh token.
    fn refresh(&self, client: &str, params: &Params) -> Answer<Tokens> {
        let Some(token) = params.get("refresh_token") else {
            return Ok(Err(Refusal::InvalidRequest));
        };
        // A forged one ends here: it waits for no transaction, and changes nothing.
        let Some(presented) = self.read_refresh(token) else {
            return Ok(Err(Refusal::InvalidGrant));
        };
        let resource = params.get("resource").map(str::to_owned);
        let (params, mut drawn) = (params.clone(), self.draw()?);
        drawn.id = presented.authorization;
        let (server, client) = (self.clone(), client.to_owned());
        let id = encode(&presented.authorization);
        self.shared.extension.change(move |tx| {
            let refused = Ok(Err(Refusal::InvalidGrant));
            if !is_enabled(tx, &client)? {
                return Ok(Err(Refusal::InvalidClient));
            }
            let Some(mut found) = find(tx, &id)? else {
                return refused;
            };
            let now = tx.now();
            if found.client != client
                || found.revoked_at_ms.is_some()
                || now.unix_ms() >= found.ends_at_ms
            {
                return refused;
            }
            if resource.is_some() && resource != found.resource {
                return Ok(Err(Refusal::InvalidTarget));
            }
            // An authorization is what its newest key is: whoever takes the key away takes
            // away all that could come of it.
            let Some(key) = tx.find_key(found.key_id()?)? else {
                return refused;
            };
            let is_off = key.disabled && !found.held.contains(&found.key);
            let is_dead =
                key.revoked.is_some() || key.successor.is_some() || key.suspended || is_off;
            if is_dead || tx.owner(&found.owner()?)?.is_suspended() {
                return refused;
            }
            found.narrow(&tx.keyspace(found.keyspace()?)?, &key);
            let Ok(scope) = asked_scope(&params, &found.scope) else {
                return Ok(Err(Refusal::InvalidScope));
            };
            let is_young = server.is_young(&found, now);
            let (is_head, is_before) = server.stands(&presented, &found);
            if !is_head && !is_before {
                if presented.generation >= found.head.generation {
                    // Of a later one: the store is an older copy of itself.
                    return refused;
                }
                // A generation that was replaced, in the hands of two.
                revoke(tx, &id, &mut found, "refresh_replayed")?;
                return refused;
            }
            if is_before && !is_young {
                revoke(tx, &id, &mut found, "refresh_replayed")?;
                return refused;
            }
            // A retry, or another process of the client: it gets what was made then.
            if is_young {
                let asked = params.get("scope").is_some();
                let names = |scope: &[String]| scope.iter().cloned().collect::<BTreeSet<_>>();
                if asked && names(&scope) != names(&found.head.scope) {
                    return Ok(Err(Refusal::InvalidScope));
                }
                if now < found.access_end(&key) {
                    return server.again(&presented, &found, &key).map(Ok);
                }
                // The access token has ended before the window has. The head stays.
                sweep(tx)?;
                let tokens = server.renew(tx, &presented, &mut found, &key)?;
                put(tx, AUTHORIZATIONS, id.as_bytes(), &found)?;
                tx.audit("access_renewed", &id, Some(&client))?;
                return Ok(Ok(tokens));
            }
            sweep(tx)?;
            found.head.scope = scope;
            if let Some(previous) = &found.previous_key {
                forget_line(tx, previous, Some(key.id))?;
            }
            let access = server.replace(tx, &mut found, &key, server.window())?;
            let tokens = server.crown(tx, &drawn, &mut found, Some(&presented), access)?;
            put(tx, AUTHORIZATIONS, id.as_bytes(), &found)?;
            tx.audit("refreshed", &id, Some(&client))?;
            Ok(Ok(tokens))
        })
    }

    fn is_young(&self, authorization: &AuthorizationRecord, now: Timestamp) -> bool {
        let age = now.saturating_since(instant(authorization.head.made_at_ms));
        age < self.shared.options.refresh_window
    }

    /// Whether a refresh token is the head, and whether it is the one before.
    fn stands(&self, presented: &Refresh, authorization: &AuthorizationRecord) -> (bool, bool) {
        let generation = authorization.head.generation;
        let is = |hash: &[u8; 32]| {
            let extension = &self.shared.extension;
            extension.mac_is(SECRET, &[presented.secret.as_slice()], hash)
        };
        let is_head = presented.generation == generation && is(&authorization.head.secret);
        let is_before = presented.generation.checked_add(1) == Some(generation)
            && authorization.predecessor.is_some_and(|hash| is(&hash));
        (is_head, is_before)
    }

    /// Whether a refresh token is accepted now, by its generation.
    pub(super) fn is_accepted(
        &self,
        presented: &Refresh,
        authorization: &AuthorizationRecord,
        now: Timestamp,
    ) -> bool {
        let (is_head, is_before) = self.stands(presented, authorization);
        is_head || (is_before && self.is_young(authorization, now))
    }

    fn draw(&self) -> Result<Drawn> {
        let extension = &self.shared.extension;
        Ok(Drawn {
            id: *extension.random::<16>()?,
            secret: extension.random::<32>()?,
        })
    }

    /// A new key for an authorization, and its access token.
    pub(super) fn issue(
        &self,
        tx: &mut ExtensionTx<'_, '_>,
        id: &str,
        authorization: &mut AuthorizationRecord,
    ) -> Result<(Zeroizing<String>, Timestamp)> {
        let ends_at = self.access_end(tx, authorization)?;
        let new = NewKey::new(authorization.keyspace()?, authorization.owner()?)?
            .permissions(authorization.head.scope.clone())
            .label(LABEL, id)
            .expires_at(ends_at);
        let issued = tx.issue(&new)?;
        authorization.previous_key =
            (!authorization.key.is_empty()).then(|| std::mem::take(&mut authorization.key));
        authorization.key = issued.key.id.to_string();
        let token = Zeroizing::new(issued.token.expose().to_owned());
        self.shape(authorization, &issued.key, token)
    }

    fn window(&self) -> Duration {
        self.shared.options.refresh_window
    }

    /// The key of the next access token, on the terms of the one before: what an operator has
    /// set for that goes on, and so do its counters, also where it has expired. It is accepted
    /// for some time longer, if it has not ended.
    pub(super) fn replace(
        &self,
        tx: &mut ExtensionTx<'_, '_>,
        authorization: &mut AuthorizationRecord,
        key: &Key,
        grace: Duration,
    ) -> Result<(Zeroizing<String>, Timestamp)> {
        let keyspace = tx.keyspace(authorization.keyspace()?)?;
        let grace = keyspace.max_grace.map_or(grace, |max| max.min(grace));
        let changes = KeyUpdate::new()
            .set_permissions(authorization.head.scope.clone())
            .expires_at(self.access_end(tx, authorization)?);
        let rotation = Rotation::with_grace(grace).changing(changes);
        let mut rotated = tx.renew(key.id, &rotation)?;
        if rotated.key.disabled && key.expired {
            // It was held with its client, which is enabled, and expired meanwhile.
            rotated.key = tx.set_disabled(rotated.key.id, false)?;
        }
        authorization.held.retain(|held| *held != authorization.key);
        authorization.previous_key = Some(std::mem::take(&mut authorization.key));
        authorization.key = rotated.key.id.to_string();
        let token = Zeroizing::new(rotated.token.expose().to_owned());
        self.shape(authorization, &rotated.key, token)
    }

    fn access_end(
        &self,
        tx: &ExtensionTx<'_, '_>,
        authorization: &AuthorizationRecord,
    ) -> Result<Timestamp> {
        let keyspace = tx.keyspace(authorization.keyspace()?)?;
        let lifetime = self.shared.options.access_lifetime;
        let lifetime = keyspace
            .max_lifetime
            .map_or(lifetime, |max| max.min(lifetime));
        let ends_at = tx.now().saturating_add(lifetime);
        Ok(ends_at.min(instant(authorization.ends_at_ms)))
    }

    /// The access token that a client gets for a key: its token, or a JWT.
    pub(super) fn shape(
        &self,
        authorization: &AuthorizationRecord,
        key: &Key,
        token: Zeroizing<String>,
    ) -> Result<(Zeroizing<String>, Timestamp)> {
        let ends_at = key.expires_at.unwrap_or(Timestamp::MAX);
        let Some(jwts) = &self.shared.jwts else {
            return Ok((token, ends_at));
        };
        let scope = &authorization.head.scope;
        let jwt = jwts.issue_for(key, &authorization.client, scope)?;
        Ok((Zeroizing::new(jwt.expose().to_owned()), jwt.expires_at))
    }

    /// Makes the next refresh token the head of an authorization.
    fn crown(
        &self,
        tx: &ExtensionTx<'_, '_>,
        drawn: &Drawn,
        authorization: &mut AuthorizationRecord,
        before: Option<&Refresh>,
        (access, ends_at): (Zeroizing<String>, Timestamp),
    ) -> Result<Tokens> {
        let extension = &self.shared.extension;
        let secret = &drawn.secret;
        let generation = authorization.head.generation + 1;
        authorization.predecessor = before.map(|_| authorization.head.secret);
        authorization.successor = before
            .map(|before| extension.seal(&self.pad(before.secret.as_slice()), secret.as_slice()))
            .transpose()?;
        authorization.head = Head {
            generation,
            made_at_ms: tx.now().unix_ms(),
            secret: extension.mac(SECRET, &[secret.as_slice()]),
            access: extension.seal(&self.pad(secret.as_slice()), access.as_bytes())?,
            access_ends_at_ms: Some(ends_at.unix_ms()),
            scope: authorization.head.scope.clone(),
        };
        Ok(Tokens {
            refresh: Some(self.print_refresh(&drawn.id, generation, secret)),
            access,
            scope: authorization.head.scope.clone(),
            ends_at,
        })
    }

    /// What was made with the head, for whoever has the head or the one before.
    fn again(
        &self,
        presented: &Refresh,
        authorization: &AuthorizationRecord,
        key: &Key,
    ) -> Result<Tokens> {
        let head = &authorization.head;
        let secret = self.head_secret(presented, authorization)?;
        Ok(Tokens {
            access: self.unseal_access(secret.as_slice(), &head.access)?,
            refresh: Some(self.print_refresh(&presented.authorization, head.generation, &secret)),
            scope: head.scope.clone(),
            ends_at: authorization.access_end(key),
        })
    }

    /// The head, with an access token that has not ended.
    fn renew(
        &self,
        tx: &mut ExtensionTx<'_, '_>,
        presented: &Refresh,
        authorization: &mut AuthorizationRecord,
        key: &Key,
    ) -> Result<Tokens> {
        let extension = &self.shared.extension;
        let secret = self.head_secret(presented, authorization)?;
        // Without JWTs a text ends with its key; there is none but the key's, which is not known.
        let (access, ends_at) = if key.expired || self.shared.jwts.is_none() {
            if let Some(previous) = &authorization.previous_key {
                forget_line(tx, previous, Some(key.id))?;
            }
            self.replace(tx, authorization, key, self.window())?
        } else {
            // A JWT, which ends before its key.
            self.shape(authorization, key, Zeroizing::default())?
        };
        let head = &mut authorization.head;
        head.access = extension.seal(&self.pad(secret.as_slice()), access.as_bytes())?;
        head.access_ends_at_ms = Some(ends_at.unix_ms());
        Ok(Tokens {
            refresh: Some(self.print_refresh(&presented.authorization, head.generation, &secret)),
            access,
            scope: head.scope.clone(),
            ends_at,
        })
    }

    /// The head's secret, for whoever has the head or the one before.
    fn head_secret(
        &self,
        presented: &Refresh,
        authorization: &AuthorizationRecord,
    ) -> Result<Zeroizing<[u8; 32]>> {
        if presented.generation == authorization.head.generation {
            return Ok(presented.secret.clone());
        }
        let Some(sealed) = &authorization.successor else {
            return Err(Error::Internal("a refresh token has no successor"));
        };
        let pad = self.pad(presented.secret.as_slice());
        let opened = self.shared.extension.unseal(&pad, sealed)?;
        let why = Error::Internal("the secret of a refresh token has another length");
        Ok(Zeroizing::new(
            opened.as_slice().try_into().map_err(|_| why)?,
        ))
    }

    /// An access token that was sealed under a secret.
    pub(super) fn unseal_access(&self, secret: &[u8], sealed: &[u8]) -> Result<Zeroizing<String>> {
        let access = self.shared.extension.unseal(&self.pad(secret), sealed)?;
        let access = String::from_utf8(access.to_vec()).map(Zeroizing::new);
        access.map_err(|_| Error::Internal("an access token is no text"))
    }

    /// What a secret seals under: nothing that is stored gives it.
    pub(super) fn pad(&self, secret: &[u8]) -> Zeroizing<String> {
        let pad = Zeroizing::new(self.shared.extension.mac(PAD, &[secret]));
        encode_secret("refresh pad ", pad.as_slice())
    }

    fn print_refresh(
        &self,
        id: &[u8; 16],
        generation: u64,
        secret: &[u8; 32],
    ) -> Zeroizing<String> {
        let mut body = Zeroizing::new(Vec::with_capacity(72));
        body.extend_from_slice(id);
        body.extend(generation.to_be_bytes());
        body.extend_from_slice(secret);
        let proof = self.shared.extension.mac(PROOF, &[&body]);
        body.extend(proof.iter().take(PROOF_LEN));
        encode_secret(REFRESH, &body)
    }

    /// A refresh token of this store: its proof is right, whatever became of it.
    pub(super) fn read_refresh(&self, token: &str) -> Option<Refresh> {
        let text = token
            .strip_prefix(REFRESH)
            .filter(|text| text.len() == 96)?;
        let bytes = Zeroizing::new(decode(text)?);
        let (body, proof) = bytes.split_last_chunk::<PROOF_LEN>()?;
        let whole = self.shared.extension.mac(PROOF, &[body]);
        // Both are of a keyed hash over what was presented: compared as hashes.
        let is_right = self.shared.extension.mac_is(
            "compared",
            &[proof],
            &self
                .shared
                .extension
                .mac("compared", &[whole.get(..PROOF_LEN)?]),
        );
        let (id, rest) = body.split_first_chunk::<16>()?;
        let (generation, secret) = rest.split_first_chunk::<8>()?;
        is_right.then_some(Refresh {
            authorization: *id,
            generation: u64::from_be_bytes(*generation),
            secret: Zeroizing::new(secret.try_into().ok()?),
        })
    }
}

/// The label of a key that names its authorization.
pub(super) const LABEL: &str = "oauth_authorization";

pub(super) fn find(tx: &ExtensionTx<'_, '_>, id: &str) -> Result<Option<AuthorizationRecord>> {
    match id.len() {
        1..=64 => tx.find(AUTHORIZATIONS, id.as_bytes()),
        _ => Ok(None),
    }
}

fn is_enabled(tx: &ExtensionTx<'_, '_>, client: &str) -> Result<bool> {
    let found = tx.find::<ClientRecord>(CLIENTS, client.as_bytes())?;
    Ok(found.is_some_and(|client| !client.disabled))
}

/// Whether a verifier is that of a challenge (RFC 7636, 4.6). One without the other is
/// not: a code that was asked for without a challenge takes no verifier.
fn proves(challenge: Option<&str>, verifier: Option<&str>) -> bool {
    match (challenge, verifier) {
        (None, None) => true,
        (Some(challenge), Some(verifier)) => {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            (43..=128).contains(&verifier.len())
                && verifier.bytes().all(allowed)
                && encode(&Sha256::digest(verifier)) == challenge
        }
        _ => false,
    }
}
