//! The part of an OAuth 2.0 authorization server that keeps and decides: clients, codes with
//! PKCE, authorizations, refresh tokens, revocation and introspection.
//!
//! It speaks no HTTP and knows no login: it takes the parts of a request, and gives the
//! answer. Your server shows the login and the page for consent, and tells it who agreed
//! to what.
//!
//! An access token is a token of the engine's, of the client's keyspace, with the owner
//! who agreed: [`Engine::verify`], `AuthLayer`, limits, suspension and audit know it. Or it
//! is a JWT that stands for such a key: see [`AuthorizationServer::with_jwts`].
//!
//! ```
//! use gatekey::{Engine, NewKeyspace};
//! use gatekey_oauth::Params;
//! use gatekey_oauth::server::{
//!     Authorize, AuthorizationServer, ClientAuth, NewClient, ServerOptions, TokenRequest,
//! };
//!
//! let engine = Engine::open_in_memory()?;
//! let keyspace = engine.create_keyspace(NewKeyspace::new("acme_at")?.permissions(["read"]))?;
//! let options = ServerOptions::new("https://api.example.com");
//! let server = AuthorizationServer::open(&engine, options)?;
//! let new = NewClient::confidential(
//!     "Reports", ClientAuth::ClientSecretPost, keyspace.prefix, ["read"],
//! );
//! let new = new.redirect_uri("https://reports.example.com/cb").without_pkce();
//! let client = server.register(&new)?;
//!
//! // The browser comes with the client's request, in a session of your server's.
//! let query = format!(
//!     "response_type=code&client_id={}&redirect_uri=https%3A%2F%2Freports.example.com%2Fcb",
//!     client.client.id,
//! );
//! let Authorize::Consent(consent) =
//!     server.authorize(&Params::form(query.as_bytes()).unwrap(), b"session 7")?
//! else {
//!     panic!("refused");
//! };
//! // Who it is, your login knows; what was agreed, your page.
//! let url = server.approve(&consent.ticket, b"session 7", &"acme/alice".parse()?, &["read"])?;
//! let url = url.unwrap();
//! let code = url.split("code=").nth(1).unwrap().split('&').next().unwrap();
//!
//! // The client exchanges the code.
//! let body = format!(
//!     r#"{{"grant_type": "authorization_code", "code": "{code}", "client_id": "{}",
//!         "client_secret": "{}", "redirect_uri": "https://reports.example.com/cb"}}"#,
//!     client.client.id,
//!     client.expose_secret().unwrap(),
//! );
//! let params = Params::json(body.as_bytes()).unwrap();
//! let reply = server.token(TokenRequest { params: &params, authorization: None })?;
//! assert_eq!(reply.status, 200);
//! # engine.close()?;
//! # Ok::<(), gatekey::Error>(())
//! ```

mod authorize;
mod check;
mod clients;
mod introspect;
mod metadata;
mod records;
mod reply;
mod revocation;
mod service;
mod token;
mod trail;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gatekey::extension::Extension;
use gatekey::{Engine, Invalid, OwnerPath, Result, Timestamp};

pub use authorize::{Authorize, Consent, TICKET_LIFETIME};
pub use clients::{Client, ClientAuth, NewClient, RegisteredClient};
pub use reply::Reply;
pub use token::TokenRequest;
pub use trail::TrailApplied;

use crate::EXTENSION;
use crate::jwt::Jwts;
use crate::redirect;
use records::{AUTHORIZATIONS, AuthorizationRecord, CLIENTS, ClientRecord, Source as _, instant};

/// How an authorization server behaves.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    issuer: String,
    resource: String,
    access_lifetime: Duration,
    authorization_lifetime: Duration,
    code_lifetime: Duration,
    refresh_window: Duration,
}

impl ServerOptions {
    /// The longest window for retries of a refresh.
    pub const REFRESH_WINDOW_MAX: Duration = Duration::from_secs(3600);

    /// A server with an issuer: its URL, `https://`, or `http://` on a loopback address, without
    /// a query (RFC 8414, 2). The one
    /// resource that it gives access to has the same URL; see [`resource`](Self::resource).
    #[must_use]
    pub fn new(issuer: impl Into<String>) -> Self {
        let issuer = issuer.into();
        Self {
            resource: issuer.clone(),
            issuer,
            access_lifetime: Duration::from_secs(3600),
            authorization_lifetime: Duration::from_secs(30 * 86_400),
            code_lifetime: Duration::from_secs(60),
            refresh_window: Duration::from_secs(60),
        }
    }

    /// The URL of the API that access tokens are for (RFC 8707).
    #[must_use]
    pub fn resource(mut self, url: impl Into<String>) -> Self {
        self.resource = url.into();
        self
    }

    /// How long an access token is good; an hour by default. Not shorter than the window.
    #[must_use]
    pub fn access_lifetime(mut self, lifetime: Duration) -> Self {
        self.access_lifetime = lifetime;
        self
    }

    /// How long an authorization can be refreshed at most; 30 days by default.
    #[must_use]
    pub fn authorization_lifetime(mut self, lifetime: Duration) -> Self {
        self.authorization_lifetime = lifetime;
        self
    }

    /// How long a code is good; 60 s by default, ten minutes at most.
    #[must_use]
    pub fn code_lifetime(mut self, lifetime: Duration) -> Self {
        self.code_lifetime = lifetime;
        self
    }

    /// For how long after a refresh its retry gets the same answer; 60 s by default, an hour
    /// at most.
    ///
    /// Clients of several processes refresh at once, and answers get lost. Within the
    /// window, the newest refresh token and the one before it both give the newest, with
    /// its access token: all end at one head, and nothing is made twice. After it, one that
    /// was replaced revokes the authorization, since two have it. The price: for the
    /// window, a thief with the token before gets what the client gets.
    #[must_use]
    pub fn refresh_window(mut self, window: Duration) -> Self {
        self.refresh_window = window;
        self
    }

    fn validate(&self) -> Result<()> {
        let refuse = |what, value: &str, why| Err(Invalid::malformed(what, value, why).into());
        let is_url = |text: &str| {
            let is_http = text.starts_with("https://") || text.starts_with("http://");
            is_http && redirect::flaw(text).is_none() && !text.contains('?')
        };
        for (what, text) in [("issuer", &self.issuer), ("resource", &self.resource)] {
            if !is_url(text) {
                return refuse(what, text, "it is no https URL without a query");
            }
        }
        let second = Duration::from_secs(1);
        if self.code_lifetime < second || self.code_lifetime > 600 * second {
            let text = format!("{:?}", self.code_lifetime);
            return refuse("lifetime of a code", &text, "it is not 1 s to 10 minutes");
        }
        let is_window = self.refresh_window <= Self::REFRESH_WINDOW_MAX;
        let lifetimes = [
            self.refresh_window,
            self.access_lifetime,
            self.authorization_lifetime,
        ];
        if !is_window || self.access_lifetime < second || !lifetimes.is_sorted() {
            let why = "the window is at most an hour, and no longer than an access token is good, \
                       which is no longer than an authorization";
            return refuse("lifetimes", "", why);
        }
        Ok(())
    }
}

/// An authorization: what a person agreed to for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authorization {
    /// Its id.
    pub id: String,
    /// The client's id.
    pub client: String,
    /// Who agreed.
    pub owner: OwnerPath,
    /// To what.
    pub scope: Vec<String>,
    /// When.
    pub created_at: Timestamp,
    /// When it ends.
    pub ends_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// An authorization server over an engine. Cheap to clone. See the [module](self).
#[derive(Clone)]
pub struct AuthorizationServer {
    shared: Arc<Shared>,
}

struct Shared {
    extension: Extension,
    options: ServerOptions,
    jwts: Option<Jwts>,
    /// For as long as it is there, a check of the engine looks at the server's records.
    _check: Arc<check::Check>,
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServer")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl AuthorizationServer {
    /// A server whose access tokens are tokens of the engine's.
    ///
    /// # Errors
    /// [`Error::Invalid`](gatekey::Error::Invalid) for the options.
    pub fn open(engine: &Engine, options: ServerOptions) -> Result<Self> {
        Self::made(engine, options, None)
    }

    /// A server whose access tokens are JWTs: verify them with [`Jwts::verify`].
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`Error::Invalid`](gatekey::Error::Invalid) where the JWTs
    /// are of another issuer than the server, or for another audience than its resource.
    pub fn with_jwts(engine: &Engine, options: ServerOptions, jwts: Jwts) -> Result<Self> {
        let (issuer, audience) = jwts.parties();
        let differs = [
            ("issuer of JWTs", issuer, &options.issuer),
            ("audience of JWTs", audience, &options.resource),
        ];
        for (what, of_jwts, of_server) in differs {
            if of_jwts != of_server {
                return Err(Invalid::malformed(what, of_jwts, "the server has another").into());
            }
        }
        Self::made(engine, options, Some(jwts))
    }

    fn made(engine: &Engine, options: ServerOptions, jwts: Option<Jwts>) -> Result<Self> {
        options.validate()?;
        let (extension, check) = (engine.extension(EXTENSION)?, Arc::new(check::Check));
        extension.follow(&check)?;
        Ok(Self {
            shared: Arc::new(Shared {
                extension,
                options,
                jwts,
                _check: check,
            }),
        })
    }

    #[cfg(feature = "axum")]
    pub(crate) fn jwts(&self) -> Option<&Jwts> {
        self.shared.jwts.as_ref()
    }

    /// The issuer's origin and path.
    #[cfg(feature = "axum")]
    pub(crate) fn issuer_parts(&self) -> (&str, &str) {
        metadata::split(&self.shared.options.issuer)
    }

    /// Registers a client.
    ///
    /// # Errors
    /// [`Error::Invalid`](gatekey::Error::Invalid) for a redirect URI, a permission that the
    /// keyspace does not have, and a public client without PKCE.
    pub fn register(&self, new: &NewClient) -> Result<RegisteredClient> {
        clients::register(&self.shared.extension, new)
    }

    /// A client; `None` where there is none.
    ///
    /// # Errors
    /// See [`Engine`].
    pub fn client(&self, id: &str) -> Result<Option<Client>> {
        if id.is_empty() || id.len() > 64 {
            return Ok(None);
        }
        self.shared.extension.read(|view| {
            let found = view.find::<ClientRecord>(CLIENTS, id.as_bytes())?;
            Ok(found.map(|record| Client::of(id, &record)))
        })
    }

    /// Disables a client: from the return of the call on, nothing is granted to it or to its
    /// access tokens. `None` where there is none.
    ///
    /// An authorization that cannot be read does not stop it: its keys are revoked, which
    /// [`enable_client`](Self::enable_client) does not undo.
    ///
    /// # Errors
    /// See [`Engine`].
    pub fn disable_client(&self, id: &str) -> Result<Option<Client>> {
        clients::set_disabled(&self.shared.extension, id, true)
    }

    /// Enables a client, and those of its access tokens that it was disabled with.
    ///
    /// Meanwhile those keys are disabled already, so [`Engine::disable`] changes nothing about
    /// them, and this call enables them all the same. To keep one from coming back, revoke the
    /// key or its [authorization](Self::revoke_authorization).
    ///
    /// # Errors
    /// See [`Engine`].
    pub fn enable_client(&self, id: &str) -> Result<Option<Client>> {
        clients::set_disabled(&self.shared.extension, id, false)
    }

    /// An authorization, by the id that the key of each of its access tokens has in its label
    /// `oauth_authorization`; `None` where there is none.
    ///
    /// # Errors
    /// See [`Engine`].
    pub fn authorization(&self, id: &str) -> Result<Option<Authorization>> {
        if id.is_empty() || id.len() > 64 {
            return Ok(None);
        }
        self.shared.extension.read(|view| {
            let found = view.find::<AuthorizationRecord>(AUTHORIZATIONS, id.as_bytes())?;
            let Some(found) = found else {
                return Ok(None);
            };
            Ok(Some(Authorization {
                id: id.to_owned(),
                owner: found.owner()?,
                client: found.client,
                scope: found.scope,
                created_at: instant(found.created_at_ms),
                ends_at: instant(found.ends_at_ms),
                revoked_at: found.revoked_at_ms.map(instant),
            }))
        })
    }
}
