//! Clients: who may ask for authorizations, and how they authenticate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatekey::extension::{Extension, ExtensionTx};
use gatekey::{Invalid, KeyFilter, KeysPerOwner, OwnerPath, Prefix, Reason, Result, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::encoding::{encode, encode_secret};
use crate::params::{Params, decoded};
use crate::redirect;
use crate::server::records::{
    AUTHORIZATIONS, AuthorizationRecord, BY_CLIENT, CLIENTS, ClientRecord, Source, instant, put,
    readable,
};
use crate::server::revocation::lines;
use crate::server::token::LABEL;

/// How a client authenticates at the token endpoint. Only the method that it was registered
/// with is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClientAuth {
    /// Not at all: a public client, such as an app or a page.
    None,
    /// With its secret in the `Authorization` header.
    ClientSecretBasic,
    /// With its secret in the body.
    ClientSecretPost,
}

/// A client to be registered.
#[derive(Debug, Clone)]
pub struct NewClient {
    name: String,
    auth: ClientAuth,
    redirect_uris: Vec<String>,
    keyspace: Prefix,
    scope: Vec<String>,
    requires_pkce: bool,
    owner: Option<OwnerPath>,
    introspects: bool,
}

impl NewClient {
    /// A public client: it has no secret, and proves with PKCE that a code is its own.
    ///
    /// The keyspace is that of its access tokens, and `scope` the permissions that it may
    /// ask for.
    #[must_use]
    pub fn public<N: Into<String>>(
        name: impl Into<String>,
        keyspace: Prefix,
        scope: impl IntoIterator<Item = N>,
    ) -> Self {
        Self {
            name: name.into(),
            auth: ClientAuth::None,
            redirect_uris: Vec::new(),
            keyspace,
            scope: scope.into_iter().map(Into::into).collect(),
            requires_pkce: true,
            owner: None,
            introspects: false,
        }
    }

    /// A confidential client, which authenticates with a secret.
    #[must_use]
    pub fn confidential<N: Into<String>>(
        name: impl Into<String>,
        auth: ClientAuth,
        keyspace: Prefix,
        scope: impl IntoIterator<Item = N>,
    ) -> Self {
        Self {
            auth,
            ..Self::public(name, keyspace, scope)
        }
    }

    /// A service: a confidential client that acts for an owner of its own, and not for persons.
    /// It gets access tokens with its secret alone (`client_credentials`), has no redirect URI,
    /// and can get no code.
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
    /// let by = ClientAuth::ClientSecretPost;
    /// let owner = "acme/nightly".parse()?;
    /// let new = NewClient::service("Nightly", by, keyspace.prefix, ["read"], owner);
    /// let client = server.register(&new)?;
    /// let body = format!(
    ///     "grant_type=client_credentials&client_id={}&client_secret={}",
    ///     client.client.id,
    ///     client.expose_secret().unwrap(),
    /// );
    /// let params = Params::form(body.as_bytes()).unwrap();
    /// let reply = server.token(TokenRequest { params: &params, authorization: None })?;
    /// assert_eq!(reply.status, 200);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn service<N: Into<String>>(
        name: impl Into<String>,
        auth: ClientAuth,
        keyspace: Prefix,
        scope: impl IntoIterator<Item = N>,
        owner: OwnerPath,
    ) -> Self {
        Self {
            auth,
            owner: Some(owner),
            ..Self::public(name, keyspace, scope)
        }
    }

    /// Lets a confidential client ask about the access tokens of all clients in its keyspace,
    /// for an API that other servers than this one serve. Without it, a client learns of its
    /// own tokens alone.
    #[must_use]
    pub fn introspecting(mut self) -> Self {
        self.introspects = true;
        self
    }

    /// A redirect URI: `https`, `http` on a loopback address, whose port is then free, or a
    /// reversed domain name as scheme. Compared byte for byte.
    #[must_use]
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirect_uris.push(uri.into());
        self
    }

    /// Lets a confidential client do without PKCE, for those that do not know it.
    #[must_use]
    pub fn without_pkce(mut self) -> Self {
        self.requires_pkce = false;
        self
    }

    fn validate(&self) -> Result<()> {
        let refuse = |what, value: &str, why| Err(Invalid::malformed(what, value, why).into());
        if self.name.is_empty() || self.name.len() > 128 || self.name.chars().any(char::is_control)
        {
            return refuse(
                "name of a client",
                &self.name,
                "it is not 1 to 128 bytes of text",
            );
        }
        match self.owner {
            None if !(1..=16).contains(&self.redirect_uris.len()) => {
                return refuse("client", &self.name, "it has not 1 to 16 redirect URIs");
            }
            Some(_) if !self.redirect_uris.is_empty() => {
                return refuse("client", &self.name, "a service has no redirect URI");
            }
            _ => {}
        }
        let is_proven = self.auth != ClientAuth::None;
        if !is_proven && (self.owner.is_some() || self.introspects) {
            let why = "without a secret it can neither be a service nor introspect";
            return refuse("client", &self.name, why);
        }
        for uri in &self.redirect_uris {
            if let Some(why) = redirect::flaw(uri) {
                return refuse("redirect URI", uri, why);
            }
        }
        if self.auth == ClientAuth::None && !self.requires_pkce {
            return refuse(
                "client",
                &self.name,
                "a public client cannot do without PKCE",
            );
        }
        Ok(())
    }
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Client {
    /// Its id, which is public.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// How it authenticates.
    pub auth: ClientAuth,
    /// Its redirect URIs.
    pub redirect_uris: Vec<String>,
    /// What it may ask for.
    pub scope: Vec<String>,
    /// The owner that it acts for by itself, if it is a service.
    pub owner: Option<OwnerPath>,
    /// Whether it may ask about the tokens of other clients.
    pub introspects: bool,
    /// Whether it is disabled: then nothing is granted to it.
    pub disabled: bool,
    /// When it was registered.
    pub created_at: Timestamp,
}

impl Client {
    pub(super) fn of(id: &str, record: &ClientRecord) -> Self {
        Self {
            id: id.to_owned(),
            name: record.name.clone(),
            auth: record.auth,
            redirect_uris: record.redirect_uris.clone(),
            scope: record.scope.clone(),
            owner: record.owner.as_ref().and_then(|owner| owner.parse().ok()),
            introspects: record.introspects,
            disabled: record.disabled,
            created_at: instant(record.created_at_ms),
        }
    }
}

/// A client that was just registered, with its secret, which cannot be read again, and is
/// wiped on drop.
#[derive(Clone)]
#[non_exhaustive]
pub struct RegisteredClient {
    /// The client.
    pub client: Client,
    secret: Option<Zeroizing<String>>,
}

impl RegisteredClient {
    /// The secret of a confidential client.
    #[must_use]
    pub fn expose_secret(&self) -> Option<&str> {
        self.secret.as_ref().map(|secret| secret.as_str())
    }
}

impl std::fmt::Debug for RegisteredClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegisteredClient")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

const SECRET: &str = "client secret";

pub(super) fn register(extension: &Extension, new: &NewClient) -> Result<RegisteredClient> {
    new.validate()?;
    let id = format!("c_{}", encode(&extension.random::<16>()?[..]));
    let secret = match new.auth {
        ClientAuth::None => None,
        _ => Some(encode_secret("gks_", &extension.random::<32>()?[..])),
    };
    let hash = secret
        .as_ref()
        .map(|secret| extension.mac(SECRET, &[secret.as_bytes()]));
    let (new, named) = (new.clone(), id.clone());
    let client = extension.change(move |tx| {
        // Names that the keyspace does not have are refused here, not at a token's issue.
        let keyspace = tx.keyspace(new.keyspace)?;
        keyspace.mask(&new.scope)?;
        if !matches!(keyspace.keys_per_owner, KeysPerOwner::Many { .. }) {
            let why = "each person may have one key in it, and authorizations need several";
            let prefix = new.keyspace.to_string();
            return Err(Invalid::malformed("keyspace of a client", &prefix, why).into());
        }
        let record = ClientRecord {
            name: new.name.clone(),
            auth: new.auth,
            secret: hash,
            redirect_uris: new.redirect_uris.clone(),
            keyspace: new.keyspace.to_string(),
            scope: new.scope.clone(),
            requires_pkce: new.requires_pkce,
            owner: new.owner.as_ref().map(ToString::to_string),
            introspects: new.introspects,
            disabled: false,
            created_at_ms: tx.now().unix_ms(),
        };
        put(tx, CLIENTS, named.as_bytes(), &record)?;
        // Its name must be good as a note: it has no character that nobody sees.
        tx.audit("client_registered", &named, Some(&new.name))?;
        Ok(Client::of(&named, &record))
    })?;
    Ok(RegisteredClient { client, secret })
}

/// Disables or enables a client, with the access tokens that it has. `None`: there is none.
pub(super) fn set_disabled(
    extension: &Extension,
    id: &str,
    disabled: bool,
) -> Result<Option<Client>> {
    let id = id.to_owned();
    let done = extension.change(move |tx| {
        let Some(mut record) = tx.find::<ClientRecord>(CLIENTS, id.as_bytes())? else {
            return Ok(None);
        };
        let mut unread = Vec::new();
        if record.disabled != disabled {
            record.disabled = disabled;
            put(tx, CLIENTS, id.as_bytes(), &record)?;
            unread = hold_all(tx, &id, disabled)?;
            let event = if disabled {
                "client_disabled"
            } else {
                "client_enabled"
            };
            tx.audit(event, &id, None)?;
        }
        Ok(Some((Client::of(&id, &record), record.keyspace, unread)))
    })?;
    let Some((client, keyspace, unread)) = done else {
        return Ok(None);
    };
    if disabled {
        for authorization in unread {
            revoke_labelled(extension, &keyspace, &authorization)?;
        }
    }
    Ok(Some(client))
}

/// Revokes the keys of an authorization that cannot be read, by their label. It gives no new
/// ones. Reads all keys of the keyspace.
fn revoke_labelled(extension: &Extension, keyspace: &str, authorization: &str) -> Result<()> {
    let filter = KeyFilter::new()
        .keyspace(keyspace.parse()?)
        .label(LABEL, authorization);
    let mut keys = Vec::new();
    for key in extension.engine().keys(filter) {
        if let Some(key) = readable(key)?
            && key.revoked.is_none()
        {
            keys.push(key.id);
        }
    }
    extension.change(move |tx| {
        keys.iter()
            .try_for_each(|key| tx.revoke(*key, Reason::Cessation).map(drop))
    })
}

/// Disables the keys of a client's authorizations, or enables those that it disabled. Returns
/// the authorizations that cannot be read, which stop nothing.
fn hold_all(tx: &mut ExtensionTx<'_, '_>, client: &str, hold: bool) -> Result<Vec<String>> {
    let start = [client.as_bytes(), &[0]].concat();
    let end = [client.as_bytes(), &[1]].concat();
    let mut from = start.clone();
    let mut unread = Vec::new();
    loop {
        let page = tx.record_keys(BY_CLIENT, &from, Some(&end), 1000)?;
        let Some(last) = page.last() else {
            return Ok(unread);
        };
        from = [last.as_slice(), &[0]].concat();
        for key in page {
            let id = key.get(start.len()..).unwrap_or(&[]);
            match readable(tx.find::<AuthorizationRecord>(AUTHORIZATIONS, id))? {
                Some(Some(found)) => hold_keys(tx, id, found, hold)?,
                Some(None) => {}
                None => unread.push(String::from_utf8_lossy(id).into_owned()),
            }
        }
    }
}

fn hold_keys(
    tx: &mut ExtensionTx<'_, '_>,
    id: &[u8],
    mut found: AuthorizationRecord,
    hold: bool,
) -> Result<()> {
    let mut held = Vec::new();
    for (key, state) in lines(tx, &found)? {
        let Some(state) = state else {
            // A damaged one is granted nothing, also where memory still has it.
            if hold {
                tx.revoke(key, Reason::Cessation)?;
            }
            continue;
        };
        let named = key.to_string();
        let was_held = found.held.contains(&named);
        // One that is over is left as it is, and stays known as held.
        let is_over = state.revoked.is_some() || state.expired;
        match hold {
            true if !state.disabled && !is_over => {
                tx.set_disabled(key, true)?;
                held.push(named);
            }
            false if was_held && !is_over => drop(tx.set_disabled(key, false)?),
            _ if was_held => held.push(named),
            _ => {}
        }
    }
    if found.held != held {
        found.held = held;
        put(tx, AUTHORIZATIONS, id, &found)?;
    }
    Ok(())
}

/// The credentials that a request presents.
struct Presented {
    id: String,
    secret: Option<Zeroizing<String>>,
    by: ClientAuth,
}

/// `None`: none, or two at once, or what cannot be read.
fn presented(authorization: Option<&str>, params: &Params) -> Option<Presented> {
    let in_body = (params.get("client_id"), params.get("client_secret"));
    match (authorization, in_body) {
        (Some(header), (id_in_body, None)) => {
            let (scheme, text) = header.split_once(' ')?;
            if !scheme.eq_ignore_ascii_case("basic") {
                return None;
            }
            let pair = Zeroizing::new(STANDARD.decode(text).ok()?);
            let at = pair.iter().position(|byte| *byte == b':')?;
            let (id, secret) = pair.split_at(at);
            let id = decoded(id)?.as_str().to_owned();
            let agrees = id_in_body.is_none_or(|named| named == id);
            agrees.then_some(Presented {
                id,
                secret: Some(decoded(secret.get(1..)?)?),
                by: ClientAuth::ClientSecretBasic,
            })
        }
        (Some(_), (_, Some(_))) => None,
        (None, (Some(id), secret)) => Some(Presented {
            id: id.to_owned(),
            secret: secret.map(|secret| Zeroizing::new(secret.to_owned())),
            by: match secret {
                Some(_) => ClientAuth::ClientSecretPost,
                None => ClientAuth::None,
            },
        }),
        (None, (None, _)) => None,
    }
}

/// A client that has authenticated.
pub(super) struct Caller {
    pub(super) id: String,
    pub(super) record: ClientRecord,
    /// What it authenticated with; empty for a public client.
    pub(super) secret: Zeroizing<String>,
}

/// The client of a request, if it authenticates as it is registered to, and is not disabled.
pub(super) fn authenticated(
    extension: &Extension,
    authorization: Option<&str>,
    params: &Params,
) -> Result<Option<Caller>> {
    let Some(presented) = presented(authorization, params) else {
        return Ok(None);
    };
    if presented.id.is_empty() || presented.id.len() > 64 {
        return Ok(None);
    }
    let found =
        extension.read(|view| view.find::<ClientRecord>(CLIENTS, presented.id.as_bytes()))?;
    let secret = presented.secret.as_ref().map_or("", |it| it.as_str());
    // Hashed for an unknown client too, so that time tells them no further apart.
    let no_hash = [0; 32];
    let hash = found
        .as_ref()
        .and_then(|record| record.secret)
        .unwrap_or(no_hash);
    let is_right = extension.mac_is(SECRET, &[secret.as_bytes()], &hash);
    Ok(found
        .filter(|record| {
            let is_proven = is_right || record.auth == ClientAuth::None;
            record.auth == presented.by && is_proven && !record.disabled
        })
        .map(|record| Caller {
            id: presented.id,
            record,
            secret: presented.secret.unwrap_or_default(),
        }))
}
