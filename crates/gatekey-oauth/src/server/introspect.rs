//! Introspection (RFC 7662): what a token is good for, to whoever may know.

use gatekey::{Key, KeyState, Result};
use serde_json::{Value, json};

use crate::encoding::encode;
use crate::server::AuthorizationServer;
use crate::server::clients::{Caller, ClientAuth, authenticated};
use crate::server::records::{
    AUTHORIZATIONS, AuthorizationRecord, CLIENTS, ClientRecord, Source as _, instant,
};
use crate::server::reply::{Refusal, Reply};
use crate::server::token::{LABEL, Refresh, TokenRequest};

impl AuthorizationServer {
    /// Answers a request to the introspection endpoint (RFC 7662) of a client with a secret.
    /// It learns of its own tokens, and of access tokens of all clients in its keyspace if it
    /// was registered as [`introspecting`](crate::server::NewClient::introspecting).
    ///
    /// What is not active, is unknown, is a key that came of no authorization, or is nothing
    /// of this client's, is all one answer: `{"active":false}`. What it says is as live as a
    /// verification: from the return of a revocation on, the token is not active. It charges
    /// no limit and no quota: a server that has the engine calls
    /// [`Engine::verify`](gatekey::Engine::verify) instead.
    ///
    /// # Errors
    /// See [`Engine`](gatekey::Engine): answer 503.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # use gatekey_oauth::Params;
    /// # use gatekey_oauth::server::{AuthorizationServer, ServerOptions, TokenRequest};
    /// use gatekey_oauth::server::{ClientAuth, NewClient};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # let keyspace = engine.create_keyspace(NewKeyspace::new("acme_at")?.permissions(["read"]))?;
    /// # let server = AuthorizationServer::open(&engine, ServerOptions::new("https://a.example"))?;
    /// // A server of the API, which has the engine not in its own process.
    /// let by = ClientAuth::ClientSecretPost;
    /// let new = NewClient::service("API", by, keyspace.prefix, ["read"], "acme/api".parse()?);
    /// let api = server.register(&new.introspecting())?;
    /// let body = format!(
    ///     "token=what_it_was_presented&client_id={}&client_secret={}",
    ///     api.client.id,
    ///     api.expose_secret().unwrap(),
    /// );
    /// let params = Params::form(body.as_bytes()).unwrap();
    /// let reply = server.introspect(TokenRequest { params: &params, authorization: None })?;
    /// assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"active":false}"#));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn introspect(&self, request: TokenRequest<'_>) -> Result<Reply> {
        let extension = &self.shared.extension;
        let TokenRequest {
            params,
            authorization,
        } = request;
        let caller = authenticated(extension, authorization, params)?;
        // One without a secret would have anybody search for tokens.
        let caller = caller.filter(|caller| caller.record.auth != ClientAuth::None);
        let Some(caller) = caller else {
            return Ok(Reply::refuse(Refusal::InvalidClient));
        };
        let Some(token) = params.get("token") else {
            return Ok(Reply::refuse(Refusal::InvalidRequest));
        };
        // What it reads is as new as what a verification reads.
        self.shared.extension.require_current()?;
        let told = match self.read_refresh(token) {
            Some(refresh) => self.tell_refresh(&caller, &refresh)?,
            None => self.tell_access(&caller, token)?,
        };
        let told = told.unwrap_or_else(|| json!({ "active": false }));
        Ok(Reply::json(200, &told))
    }

    fn tell_access(&self, caller: &Caller, token: &str) -> Result<Option<Value>> {
        let engine = self.shared.extension.engine();
        // The end and the permissions that a JWT has beside those of its key.
        let (key, of_jwt) = match &self.shared.jwts {
            Some(jwts) => match jwts.good_proof(token)? {
                Some(read) => (engine.find_key(read.key)?, Some(read)),
                None => (None, None),
            },
            None => (engine.find_by_token(token)?, None),
        };
        let Some(key) = key.filter(is_granted) else {
            return Ok(None);
        };
        let id = key.labels.get(LABEL).map_or("", String::as_str);
        let Some(found) = self.alive(id)? else {
            return Ok(None);
        };
        let record = &caller.record;
        let may_know =
            found.client == caller.id || (record.introspects && record.keyspace == found.keyspace);
        // A key that merely bears the label is none of the authorization's.
        let text = key.id.to_string();
        let is_of_it = found.key == text || found.previous_key.as_ref() == Some(&text);
        if !may_know || !is_of_it {
            return Ok(None);
        }
        let keyspace = engine.keyspace(key.keyspace.as_str())?;
        let mut permissions = key.permissions & keyspace.active_mask();
        let mut ends_at = [key.expires_at, key.retiring_until]
            .into_iter()
            .flatten()
            .min();
        if let Some(read) = &of_jwt {
            permissions = permissions & read.within;
            let of_jwt = instant(read.expires_s.saturating_mul(1000));
            ends_at = Some(ends_at.map_or(of_jwt, |end| end.min(of_jwt)));
        }
        let mut told = self.tell(&found, &keyspace.names(permissions).join(" "));
        told["token_type"] = "Bearer".into();
        if of_jwt.is_none() {
            told["iat"] = key.created_at.unix_seconds().into();
        }
        if let Some(ends_at) = ends_at {
            told["exp"] = ends_at.unix_seconds().into();
        }
        Ok(Some(told))
    }

    /// A refresh token is its client's business alone.
    fn tell_refresh(&self, caller: &Caller, refresh: &Refresh) -> Result<Option<Value>> {
        let found = self.alive(&encode(&refresh.authorization))?;
        let Some(mut found) = found.filter(|found| found.client == caller.id) else {
            return Ok(None);
        };
        let now = self.shared.extension.engine().now();
        if !self.is_accepted(refresh, &found, now) || !self.is_refreshable(&found)? {
            return Ok(None);
        }
        let engine = self.shared.extension.engine();
        if let Some(key) = engine.find_key(found.key_id()?)? {
            found.narrow(&engine.keyspace(found.keyspace()?.as_str())?, &key);
        }
        let mut told = self.tell(&found, &found.scope.join(" "));
        told["iat"] = instant(found.head.made_at_ms).unix_seconds().into();
        told["exp"] = instant(found.ends_at_ms).unix_seconds().into();
        Ok(Some(told))
    }

    /// What is said of each token.
    fn tell(&self, found: &AuthorizationRecord, scope: &str) -> Value {
        let options = &self.shared.options;
        json!({
            "active": true,
            "client_id": found.client,
            "sub": found.owner,
            "scope": scope,
            "iss": options.issuer,
            "aud": options.resource,
        })
    }

    /// An authorization that has neither ended nor was revoked, of a client that is enabled.
    fn alive(&self, id: &str) -> Result<Option<AuthorizationRecord>> {
        if id.is_empty() || id.len() > 64 {
            return Ok(None);
        }
        let extension = &self.shared.extension;
        let now_ms = extension.engine().now().unix_ms();
        extension.read(|view| {
            let found = view.find::<AuthorizationRecord>(AUTHORIZATIONS, id.as_bytes())?;
            let Some(found) = found else {
                return Ok(None);
            };
            let client = view.find::<ClientRecord>(CLIENTS, found.client.as_bytes())?;
            let is_alive = found.revoked_at_ms.is_none()
                && now_ms < found.ends_at_ms
                && client.is_some_and(|client| !client.disabled);
            Ok(is_alive.then_some(found))
        })
    }

    /// Whether a refresh would look at the key of an authorization and go on.
    fn is_refreshable(&self, found: &AuthorizationRecord) -> Result<bool> {
        let engine = self.shared.extension.engine();
        let key = engine.find_key(found.key_id()?)?;
        let owner = engine.owner(found.owner()?)?;
        let is_off = |key: &Key| {
            key.revoked.is_some() || key.successor.is_some() || key.disabled || key.suspended
        };
        Ok(key.is_some_and(|key| !is_off(&key)) && !owner.is_suspended())
    }
}

/// Whether a verification that asks for nothing would grant.
fn is_granted(key: &Key) -> bool {
    matches!(key.state, KeyState::Active | KeyState::Retiring)
}
