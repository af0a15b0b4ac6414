//! A server, and a client that speaks to it.

use std::time::Duration;

use gatekey::{Denial, Engine, ManualClock, NewKeyspace, Requirements, Result};
use gatekey_oauth::server::{
    AuthorizationServer, ClientAuth, NewClient, Reply, ServerOptions, TokenRequest,
};
use gatekey_oauth::{JwtOptions, Jwts, Params};
use serde_json::Value;

use crate::walk::{self, VERIFIER, params, part, with};

pub(crate) const ISSUER: &str = "https://api.example.com";
/// A second more than the window, and than a code is good.
pub(crate) const LATER: Duration = Duration::from_secs(61);
pub(crate) const READ: Requirements<'_> = Requirements::new().permissions(&["read"]);
pub(crate) const WRITE: Requirements<'_> = Requirements::new().permissions(&["write"]);

/// What an application is registered as.
#[derive(Clone)]
pub(crate) struct Registered {
    pub(crate) id: String,
    pub(crate) secret: Option<String>,
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) clock: ManualClock,
    pub(crate) server: AuthorizationServer,
    pub(crate) jwts: Option<Jwts>,
    pub(crate) app: Registered,
}

/// An access token and a refresh token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

/// So that a test that fails prints no secret.
impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair")
    }
}

/// What the token endpoint said: tokens, or the error's name.
pub(crate) type Said = std::result::Result<Pair, String>;

fn said(reply: &Reply) -> Said {
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    let of = |name: &str| body[name].as_str().unwrap_or("none").to_owned();
    match reply.status {
        200 => Ok(Pair {
            access: of("access_token"),
            refresh: of("refresh_token"),
        }),
        _ => Err(of("error")),
    }
}

impl World {
    /// A server over a new store, with one application.
    pub(crate) fn begin(
        engine: Engine,
        clock: ManualClock,
        jwts: Option<JwtOptions>,
        options: ServerOptions,
    ) -> Self {
        let keyspace = NewKeyspace::new("acme_at").unwrap();
        let keyspace = keyspace.permissions(["read", "write"]);
        let keyspace = engine.create_keyspace(keyspace).unwrap().prefix;
        let nobody = Registered {
            id: String::new(),
            secret: None,
        };
        let mut world = Self::again(engine, clock, jwts, options, nobody).unwrap();
        let by_post = ClientAuth::ClientSecretPost;
        let new = NewClient::confidential("App", by_post, keyspace, ["read", "write"]);
        let new = world.server.register(&new.redirect_uri(walk::CB)).unwrap();
        world.app = Registered {
            secret: new.expose_secret().map(str::to_owned),
            id: new.client.id,
        };
        world
    }

    /// A server over a store that has all of it.
    pub(crate) fn again(
        engine: Engine,
        clock: ManualClock,
        jwts: Option<JwtOptions>,
        options: ServerOptions,
        app: Registered,
    ) -> Result<Self> {
        let jwts = jwts.map(|jwts| Jwts::open(&engine, jwts)).transpose()?;
        let server = match &jwts {
            Some(jwts) => AuthorizationServer::with_jwts(&engine, options, jwts.clone())?,
            None => AuthorizationServer::open(&engine, options)?,
        };
        Ok(Self {
            engine,
            clock,
            server,
            jwts,
            app,
        })
    }

    pub(crate) fn ticket(&self) -> String {
        walk::ticket(&self.server, &self.app.id)
    }

    /// The code for a ticket, or `None` where the ticket is not good.
    pub(crate) fn approve(&self, ticket: &str) -> Result<Option<String>> {
        let url = walk::approve(&self.server, ticket, &["read", "write"])?;
        Ok(url.map(|url| part(&url, "code").unwrap().to_owned()))
    }

    pub(crate) fn code(&self) -> String {
        self.approve(&self.ticket()).unwrap().unwrap()
    }

    pub(crate) fn request(&self, more: &[(&str, &str)]) -> Params {
        let mut all = vec![("client_id", self.app.id.as_str())];
        all.extend(self.app.secret.as_deref().map(|it| ("client_secret", it)));
        all.extend(more);
        params(&all)
    }

    fn ask(&self, more: &[(&str, &str)]) -> Result<Said> {
        let params = self.request(more);
        let reply = self.server.token(TokenRequest {
            params: &params,
            authorization: None,
        })?;
        Ok(said(&reply))
    }

    pub(crate) fn redeem(&self, code: &str) -> Result<Said> {
        self.redeem_with(code, VERIFIER)
    }

    pub(crate) fn redeem_with(&self, code: &str, verifier: &str) -> Result<Said> {
        self.ask(&with(&walk::exchange(code), &[("code_verifier", verifier)]))
    }

    pub(crate) fn refresh(&self, token: &str) -> Result<Said> {
        self.ask(&[("grant_type", "refresh_token"), ("refresh_token", token)])
    }

    /// A refresh for less than was agreed, or for more.
    pub(crate) fn refresh_for(&self, token: &str, scope: &str) -> Result<Said> {
        self.ask(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
            ("scope", scope),
        ])
    }

    /// Revokes a token as its client does.
    pub(crate) fn revoke(&self, token: &str) -> Result<u16> {
        let params = self.request(&[("token", token)]);
        let reply = self.server.revoke(TokenRequest {
            params: &params,
            authorization: None,
        })?;
        Ok(reply.status)
    }

    pub(crate) fn tokens(&self) -> Pair {
        self.redeem(&self.code()).unwrap().unwrap()
    }

    pub(crate) fn denial_of(
        &self,
        access: &str,
        requirements: &Requirements<'_>,
    ) -> Option<&'static str> {
        let verdict = match &self.jwts {
            Some(jwts) => jwts.verify(access, requirements).unwrap(),
            None => self.engine.verify_with(access, requirements).unwrap(),
        };
        verdict.denial().map(Denial::code)
    }

    pub(crate) fn is_granted(&self, access: &str) -> bool {
        self.denial_of(access, &READ).is_none()
    }

    /// The id of the key that an access token is, or stands for.
    pub(crate) fn key_of(&self, access: &str) -> gatekey::KeyId {
        let verdict = match &self.jwts {
            Some(jwts) => jwts.verify(access, &READ).unwrap(),
            None => self.engine.verify_with(access, &READ).unwrap(),
        };
        verdict.grant().unwrap().key_id()
    }

    pub(crate) fn authorization_of(&self, access: &str) -> String {
        let key = self.engine.key(self.key_of(access)).unwrap();
        key.labels["oauth_authorization"].clone()
    }

    pub(crate) fn keys(&self) -> usize {
        self.engine.keys(gatekey::KeyFilter::new()).count()
    }

    /// How many records the server has in a table, up to 1000.
    pub(crate) fn count(&self, table: &str) -> usize {
        let extension = self.engine.extension("oauth").unwrap();
        let page = extension.read(|view| view.page(table, &[], None, 1000));
        page.unwrap().len()
    }
}
