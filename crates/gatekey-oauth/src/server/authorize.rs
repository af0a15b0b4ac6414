//! From a client's request to a code: the ticket that the host's own login and consent
//! work with, and the answer to the client.

use std::time::Duration;

use gatekey::extension::ExtensionTx;
use gatekey::{Error, OwnerPath, Result};
use serde::{Deserialize, Serialize};

use crate::encoding::{decode, encode, encode_secret};
use crate::params::{Params, encoded};
use crate::redirect;
use crate::server::AuthorizationServer;
use crate::server::records::{
    CLIENTS, CODE, CODES, ClientRecord, CodeRecord, Source, TICKET, TICKETS, note_end, put, sweep,
};

/// How long a ticket is good: for login and consent.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(600);
/// The longest `state` that is handed back, in bytes.
const STATE_LEN_MAX: usize = 1024;

const SEEN_TICKET: &str = "ticket";
const SEEN_CODE: &str = "code";

/// What to do with a request for an authorization.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Authorize {
    /// Show a page with this message, status 400, and **do not redirect**: the client or its
    /// redirect URI is not known, so nobody may be sent there.
    Page(&'static str),
    /// Redirect (303) to this URL, which tells the client of an error.
    Redirect(String),
    /// Log the person in and ask for consent, then call
    /// [`approve`](AuthorizationServer::approve) or [`deny`](AuthorizationServer::deny).
    Consent(Consent),
}

/// What to ask for, and the ticket to answer with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Consent {
    /// The ticket, for a field of the page's form. It is good once, in the session that it
    /// was made in, and is no secret to the person.
    pub ticket: String,
    /// The client's name, which the client chose: show the host beside it.
    pub client: String,
    /// Scheme and host that the answer goes to.
    pub redirect_host: String,
    /// The permissions that are asked for.
    pub scope: Vec<String>,
}

/// What a ticket says. It is not stored: a flood of requests writes nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ticket {
    id: String,
    client: String,
    redirect_uri: String,
    state: Option<String>,
    scope: Vec<String>,
    challenge: Option<String>,
    resource: Option<String>,
    ends_at_ms: u64,
}

impl AuthorizationServer {
    /// Judges a request to the authorization endpoint. `session` names the session of the
    /// person's browser, to which the ticket is bound: give the id of your session's cookie.
    /// Nothing is written.
    ///
    /// # Errors
    /// See [`Engine`](gatekey::Engine).
    pub fn authorize(&self, params: &Params, session: &[u8]) -> Result<Authorize> {
        let extension = &self.shared.extension;
        let id = params.get("client_id").unwrap_or("");
        let client = match id.len() {
            1..=64 => extension.read(|view| view.find::<ClientRecord>(CLIENTS, id.as_bytes()))?,
            _ => None,
        };
        let Some(client) = client.filter(|client| !client.disabled) else {
            return Ok(Authorize::Page("This application is not known here."));
        };
        let Some(redirect_uri) = params.get("redirect_uri").filter(|uri| {
            let mut registered = client.redirect_uris.iter();
            uri.len() <= redirect::LEN_MAX && registered.any(|known| redirect::is(known, uri))
        }) else {
            let why = "The application did not name an address that it is registered with.";
            return Ok(Authorize::Page(why));
        };
        let state = params.get("state");
        if state.is_some_and(|state| state.len() > STATE_LEN_MAX) {
            return Ok(Authorize::Page("The application's request is too long."));
        }
        let refused = |code| {
            Ok(Authorize::Redirect(self.error_url(
                redirect_uri,
                state,
                code,
            )))
        };
        if params.get("response_type") != Some("code") {
            return refused("unsupported_response_type");
        }
        let challenge = match (
            params.get("code_challenge"),
            params.get("code_challenge_method"),
        ) {
            (Some(challenge), Some("S256"))
                if decode(challenge).is_some_and(|it| it.len() == 32) =>
            {
                Some(challenge.to_owned())
            }
            (None, None) if !client.requires_pkce => None,
            _ => return refused("invalid_request"),
        };
        let Ok(scope) = asked_scope(params, &client.scope) else {
            return refused("invalid_scope");
        };
        let resource = params.get("resource");
        if !self.is_resource(resource) {
            return refused("invalid_target");
        }
        let now = extension.engine().now();
        let ticket = Ticket {
            id: encode(&extension.random::<16>()?[..]),
            client: id.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            state: state.map(str::to_owned),
            scope: scope.clone(),
            challenge,
            resource: resource.map(str::to_owned),
            ends_at_ms: now.saturating_add(TICKET_LIFETIME).unix_ms(),
        };
        let said = serde_json::to_vec(&ticket);
        let said = said.map_err(|_| Error::Internal("a ticket does not encode"))?;
        let mac = extension.mac(SEEN_TICKET, &[&said, session]);
        Ok(Authorize::Consent(Consent {
            ticket: format!("{}.{}", encode(&said), encode(&mac)),
            client: client.name,
            redirect_host: redirect::shown(redirect_uri).to_owned(),
            scope,
        }))
    }

    /// Approves a ticket: the person with this owner's path agreed to these permissions, all
    /// or some of those asked for. Returns the URL to redirect (303) the browser to, with a
    /// code for the client; `None` for a ticket that is not good, of another session, or was
    /// used: begin anew. Durable.
    ///
    /// # Errors
    /// See [`Engine`](gatekey::Engine).
    pub fn approve(
        &self,
        ticket: &str,
        session: &[u8],
        owner: &OwnerPath,
        scope: &[&str],
    ) -> Result<Option<String>> {
        let Some(ticket) = self.read_ticket(ticket, session) else {
            return Ok(None);
        };
        let agreed: Vec<String> = scope.iter().map(|name| (*name).to_owned()).collect();
        if !agreed.iter().all(|name| ticket.scope.contains(name)) {
            return Ok(None);
        }
        let extension = &self.shared.extension;
        let code = encode_secret("gkc_", &extension.random::<32>()?[..]);
        let hash = extension.mac(SEEN_CODE, &[code.as_bytes()]);
        let record = CodeRecord {
            client: ticket.client.clone(),
            redirect_uri: ticket.redirect_uri.clone(),
            challenge: ticket.challenge.clone(),
            scope: agreed,
            owner: owner.to_string(),
            resource: ticket.resource.clone(),
            ends_at_ms: 0,
            authorization: None,
        };
        let lifetime = self.shared.options.code_lifetime;
        let (id, ends_at_ms) = (ticket.id.clone(), ticket.ends_at_ms);
        let is_first = extension.change(move |tx| {
            if !use_ticket(tx, &id, ends_at_ms)? {
                return Ok(false);
            }
            let record = CodeRecord {
                ends_at_ms: tx.now().saturating_add(lifetime).unix_ms(),
                ..record.clone()
            };
            put(tx, CODES, &hash, &record)?;
            note_end(tx, record.ends_at_ms, CODE, &hash)?;
            tx.audit("code_issued", &record.client, Some(&record.owner))?;
            Ok(true)
        })?;
        Ok(is_first.then(|| {
            let state = ticket.state.as_deref();
            self.answer_url(&ticket.redirect_uri, ("code", &code), state)
        }))
    }

    /// Denies a ticket: the URL that tells the client so (303), or `None` as with
    /// [`approve`](Self::approve). Durable: a ticket is good once.
    ///
    /// # Errors
    /// See [`Engine`](gatekey::Engine).
    pub fn deny(&self, ticket: &str, session: &[u8]) -> Result<Option<String>> {
        let Some(ticket) = self.read_ticket(ticket, session) else {
            return Ok(None);
        };
        let (id, ends_at_ms) = (ticket.id.clone(), ticket.ends_at_ms);
        let extension = &self.shared.extension;
        let is_first = extension.change(move |tx| use_ticket(tx, &id, ends_at_ms))?;
        let state = ticket.state.as_deref();
        Ok(is_first.then(|| self.error_url(&ticket.redirect_uri, state, "access_denied")))
    }

    /// What a ticket asks for: to show the page again, say. `None` for one that is not good, or
    /// of another session. It does not tell whether it was used.
    ///
    /// # Errors
    /// See [`Engine`](gatekey::Engine).
    pub fn consent(&self, ticket: &str, session: &[u8]) -> Result<Option<Consent>> {
        let Some(read) = self.read_ticket(ticket, session) else {
            return Ok(None);
        };
        let client = self.client(&read.client)?;
        Ok(client.map(|client| Consent {
            ticket: ticket.to_owned(),
            client: client.name,
            redirect_host: redirect::shown(&read.redirect_uri).to_owned(),
            scope: read.scope,
        }))
    }

    fn read_ticket(&self, text: &str, session: &[u8]) -> Option<Ticket> {
        let extension = &self.shared.extension;
        let (said, mac) = text.split_once('.')?;
        let (said, mac) = (decode(said)?, decode(mac)?);
        if !extension.mac_is(SEEN_TICKET, &[&said, session], &mac) {
            return None;
        }
        let ticket: Ticket = serde_json::from_slice(&said).ok()?;
        (extension.engine().now().unix_ms() < ticket.ends_at_ms).then_some(ticket)
    }

    fn error_url(&self, redirect_uri: &str, state: Option<&str>, code: &str) -> String {
        self.answer_url(redirect_uri, ("error", code), state)
    }

    /// An answer with what is in each of them (RFC 9207: who it is from). A code and an
    /// error's name need no encoding. Put together at once, so that no copy of a code stays.
    fn answer_url(
        &self,
        redirect_uri: &str,
        (name, value): (&str, &str),
        state: Option<&str>,
    ) -> String {
        let joint = if redirect_uri.contains('?') { "&" } else { "?" };
        let issuer = encoded(&self.shared.options.issuer);
        let state = state.map(|state| format!("&state={}", encoded(state)));
        let state = state.as_deref().unwrap_or("");
        [
            redirect_uri,
            joint,
            name,
            "=",
            value,
            "&iss=",
            &issuer,
            state,
        ]
        .concat()
    }

    pub(super) fn is_resource(&self, resource: Option<&str>) -> bool {
        resource.is_none_or(|resource| resource == self.shared.options.resource)
    }

    pub(super) fn code_hash(&self, code: &str) -> [u8; 32] {
        self.shared.extension.mac(SEEN_CODE, &[code.as_bytes()])
    }
}

/// Uses a ticket up, and says whether it was the first time.
fn use_ticket(tx: &mut ExtensionTx<'_, '_>, id: &str, ends_at_ms: u64) -> Result<bool> {
    let is_over = tx.now().unix_ms() >= ends_at_ms;
    if is_over || tx.get(TICKETS, id.as_bytes())?.is_some() {
        return Ok(false);
    }
    sweep(tx)?;
    tx.put(TICKETS, id.as_bytes(), 1, &[])?;
    note_end(tx, ends_at_ms, TICKET, id.as_bytes())?;
    Ok(true)
}

/// The permissions that a request asks for: all that may be had, where it names none.
pub(super) fn asked_scope(
    params: &Params,
    allowed: &[String],
) -> std::result::Result<Vec<String>, ()> {
    let Some(asked) = params.get("scope") else {
        return Ok(allowed.to_vec());
    };
    let mut scope: Vec<String> = Vec::new();
    for name in asked.split(' ').filter(|name| !name.is_empty()) {
        if !allowed.iter().any(|known| known == name) {
            return Err(());
        }
        if !scope.iter().any(|known| known == name) {
            scope.push(name.to_owned());
        }
    }
    Ok(scope)
}
