//! What operators do and meet: damaged records, keys that they change or rotate, a restore.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "../walk/mod.rs"]
mod walk;

mod damage;
mod terms;
mod trail;

use std::path::PathBuf;
use std::time::Duration;

use gatekey::{
    Clock as _, Engine, Key, ManualClock, NewKeyspace, Options, Requirements, SystemClock,
};
use gatekey_oauth::server::{
    AuthorizationServer, ClientAuth, NewClient, RegisteredClient, ServerOptions, TokenRequest,
};
use gatekey_oauth::{JwtOptions, Jwts};
use serde_json::Value;

use walk::{CB, Pairs, params, with};

const ISSUER: &str = "https://api.example.com";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const READ: Requirements<'_> = Requirements::new().permissions(&["read"]);

struct World {
    engine: Engine,
    clock: ManualClock,
    server: AuthorizationServer,
    client: String,
    dir: tempfile::TempDir,
    path: PathBuf,
}

/// A token endpoint's answer: the status, and the body.
type Said = (u16, Value);

/// An access token and a refresh token.
fn both(said: &Said) -> (String, String) {
    assert_eq!(said.0, 200, "{said:?}");
    let of = |name: &str| said.1[name].as_str().unwrap().to_owned();
    (of("access_token"), of("refresh_token"))
}

fn error(said: &Said) -> &str {
    said.1["error"].as_str().unwrap_or("none")
}

fn options() -> ServerOptions {
    ServerOptions::new(ISSUER)
}

fn open_jwts(engine: &Engine) -> Jwts {
    Jwts::open(engine, JwtOptions::new(ISSUER, ISSUER)).unwrap()
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(SystemClock.now());
    let opened = Options::new().clock(clock.clone());
    let path = dir.path().join("keys.redb");
    let engine = opened.create(&path).unwrap();
    let keyspace = NewKeyspace::new("acme_at")
        .unwrap()
        .permissions(["read", "write"]);
    let keyspace = engine.create_keyspace(keyspace).unwrap().prefix;
    let server = AuthorizationServer::open(&engine, options()).unwrap();
    let new = NewClient::public("App", keyspace, ["read", "write"]).redirect_uri(CB);
    let client = server.register(&new).unwrap().client.id;
    World {
        engine,
        clock,
        server,
        client,
        dir,
        path,
    }
}

impl World {
    /// Closes, edits the file behind the engine's back, and opens again.
    fn edit(&mut self, edit: impl FnOnce(&redb::WriteTransaction)) {
        self.engine.clone().close().unwrap();
        let db = redb::Database::open(&self.path).unwrap();
        let txn = db.begin_write().unwrap();
        edit(&txn);
        txn.commit().unwrap();
        drop(db);
        self.open(self.path.clone());
    }

    fn open(&mut self, path: PathBuf) {
        let opened = Options::new().clock(self.clock.clone());
        self.engine = opened.open(&path).unwrap();
        self.path = path;
        self.server = AuthorizationServer::open(&self.engine, options()).unwrap();
    }

    fn ask(&self, pairs: &Pairs<'_>) -> Said {
        let params = params(pairs);
        let request = TokenRequest {
            params: &params,
            authorization: None,
        };
        let reply = self.server.token(request).unwrap();
        (reply.status, serde_json::from_str(&reply.body).unwrap())
    }

    /// The tokens of a new authorization.
    fn tokens(&self) -> (String, String) {
        let code = walk::code(&self.server, &self.client, &["read", "write"]);
        both(&self.redeem(&code))
    }

    fn redeem(&self, code: &str) -> Said {
        let client = [("client_id", self.client.as_str())];
        self.ask(&with(&client, &walk::exchange(code)))
    }

    fn refresh(&self, token: &str) -> Said {
        self.refresh_with(token, &[])
    }

    fn refresh_with(&self, token: &str, more: &Pairs<'_>) -> Said {
        let usual = [
            ("client_id", self.client.as_str()),
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
        ];
        self.ask(&with(&usual, more))
    }

    /// Revokes a token as its client does: the status.
    fn revoke(&self, token: &str) -> u16 {
        let pairs = [("client_id", self.client.as_str()), ("token", token)];
        let params = params(&pairs);
        let request = TokenRequest {
            params: &params,
            authorization: None,
        };
        self.server.revoke(request).unwrap().status
    }

    /// A service, and what it sends.
    fn service(&self) -> RegisteredClient {
        let keyspace = "acme_at".parse().unwrap();
        let by = ClientAuth::ClientSecretPost;
        let owner = "acme/nightly".parse().unwrap();
        let new = NewClient::service("Nightly", by, keyspace, ["read"], owner);
        self.server.register(&new).unwrap()
    }

    /// A service's access token.
    fn serve(&self, service: &RegisteredClient) -> String {
        let said = self.ask(&[
            ("client_id", &service.client.id),
            ("client_secret", service.expose_secret().unwrap()),
            ("grant_type", "client_credentials"),
        ]);
        assert_eq!(said.0, 200, "{said:?}");
        said.1["access_token"].as_str().unwrap().to_owned()
    }

    fn key(&self, access: &str) -> Key {
        self.engine.find_by_token(access).unwrap().unwrap()
    }

    fn authorization(&self, access: &str) -> String {
        self.key(access).labels["oauth_authorization"].clone()
    }

    /// `granted`, or the code of the denial, or `error`.
    fn verdict(&self, access: &str) -> &'static str {
        match self.engine.verify_with(access, &READ) {
            Ok(verdict) => verdict.denial().map_or("granted", gatekey::Denial::code),
            Err(_) => "error",
        }
    }

    fn assert_sound(&self) {
        let report = self.engine.check().unwrap();
        assert!(report.is_sound(), "{report:#?}");
    }
}
