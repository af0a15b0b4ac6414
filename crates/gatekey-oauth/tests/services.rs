//! Services with `client_credentials`, introspection, and access tokens that end before the
//! window for retries does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
mod walk;

use std::sync::Barrier;
use std::time::Duration;

use gatekey::{
    Clock as _, Denial, Engine, KeyFilter, ManualClock, NewKey, NewKeyspace, Options, Reason,
    Requirements, SystemClock,
};
use gatekey_oauth::server::{
    AuthorizationServer, Authorize, ClientAuth, NewClient, RegisteredClient, Reply, ServerOptions,
    TokenRequest,
};
use gatekey_oauth::{JwtOptions, Jwts};
use serde_json::{Value, json};

use walk::{CB, params};

const ISSUER: &str = "https://api.example.com/v1";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const POST: ClientAuth = ClientAuth::ClientSecretPost;

struct World {
    engine: Engine,
    clock: ManualClock,
    server: AuthorizationServer,
    jwts: Option<Jwts>,
    app: RegisteredClient,
    nightly: RegisteredClient,
    api: RegisteredClient,
}

/// With JWTs of a lifetime, or with tokens of the engine's.
fn world(jwts: Option<Duration>) -> World {
    let clock = ManualClock::at(SystemClock.now());
    let engine = Options::new()
        .clock(clock.clone())
        .open_in_memory()
        .unwrap();
    for prefix in ["acme_at", "other_at"] {
        let keyspace = NewKeyspace::new(prefix)
            .unwrap()
            .permissions(["read", "write"]);
        engine.create_keyspace(keyspace).unwrap();
    }
    let options = JwtOptions::new(ISSUER, ISSUER);
    let jwts = jwts.map(|life| Jwts::open(&engine, options.lifetime(life)).unwrap());
    let options = ServerOptions::new(ISSUER);
    let server = match &jwts {
        Some(jwts) => AuthorizationServer::with_jwts(&engine, options, jwts.clone()),
        None => AuthorizationServer::open(&engine, options),
    };
    let server = server.unwrap();
    let keyspace = "acme_at".parse().unwrap();
    let scope = ["read", "write"];
    let app = NewClient::confidential("App", POST, keyspace, scope).redirect_uri(CB);
    let owner = |owner: &str| owner.parse().unwrap();
    let nightly = NewClient::service("Nightly", POST, keyspace, scope, owner("acme/nightly"));
    let api = NewClient::service("API", POST, keyspace, ["read"], owner("acme/api"));
    World {
        app: server.register(&app).unwrap(),
        nightly: server.register(&nightly).unwrap(),
        api: server.register(&api.introspecting()).unwrap(),
        server,
        jwts,
        clock,
        engine,
    }
}

type Said = (u16, Value);

fn said(reply: &Reply) -> Said {
    let no_store = ("cache-control", "no-store".to_owned());
    assert!(reply.headers.contains(&no_store));
    (reply.status, serde_json::from_str(&reply.body).unwrap())
}

fn error(said: &Said) -> &str {
    said.1["error"].as_str().unwrap_or("none")
}

fn token(said: &Said) -> String {
    assert_eq!(said.0, 200, "{said:?}");
    said.1["access_token"].as_str().unwrap().to_owned()
}

impl World {
    fn ask(&self, client: &RegisteredClient, more: &[(&str, &str)]) -> Said {
        let secret = client.expose_secret().unwrap();
        let mut pairs = vec![
            ("client_id", client.client.id.as_str()),
            ("client_secret", secret),
        ];
        pairs.extend(more);
        let params = params(&pairs);
        let request = TokenRequest {
            params: &params,
            authorization: None,
        };
        said(&self.server.token(request).unwrap())
    }

    fn serve(&self, client: &RegisteredClient, scope: &str) -> Said {
        self.ask(
            client,
            &[("grant_type", "client_credentials"), ("scope", scope)],
        )
    }

    fn introspect(&self, client: &RegisteredClient, token: &str) -> Value {
        let said = said(&self.of_token(client, token, AuthorizationServer::introspect));
        assert_eq!(said.0, 200);
        said.1
    }

    fn revoke(&self, client: &RegisteredClient, token: &str) -> u16 {
        self.of_token(client, token, AuthorizationServer::revoke)
            .status
    }

    /// What a client that authenticates is answered about a token.
    fn of_token(
        &self,
        client: &RegisteredClient,
        token: &str,
        ask: impl Fn(&AuthorizationServer, TokenRequest<'_>) -> gatekey::Result<Reply>,
    ) -> Reply {
        let params = params(&[
            ("client_id", &client.client.id),
            ("client_secret", client.expose_secret().unwrap()),
            ("token", token),
        ]);
        let request = TokenRequest {
            params: &params,
            authorization: None,
        };
        ask(&self.server, request).unwrap()
    }

    /// An access token and a refresh token of the app.
    fn tokens(&self) -> (String, String) {
        let code = walk::code(&self.server, &self.app.client.id, &["read", "write"]);
        both(&self.ask(&self.app, &walk::exchange(&code)))
    }

    fn refresh(&self, token: &str) -> Said {
        self.ask(
            &self.app,
            &[("grant_type", "refresh_token"), ("refresh_token", token)],
        )
    }

    fn denial(&self, access: &str) -> Option<&'static str> {
        const READ: Requirements<'_> = Requirements::new().permissions(&["read"]);
        let verdict = match &self.jwts {
            Some(jwts) => jwts.verify(access, &READ).unwrap(),
            None => self.engine.verify_with(access, &READ).unwrap(),
        };
        verdict.denial().map(Denial::code)
    }

    fn keys(&self) -> usize {
        self.engine.keys(KeyFilter::new()).count()
    }
}

fn both(said: &Said) -> (String, String) {
    let refresh = said.1["refresh_token"].as_str().map(str::to_owned);
    (token(said), refresh.unwrap())
}

#[test]
fn a_service_gets_an_access_token_for_its_secret() {
    for jwts in [None, Some(10 * MINUTE)] {
        let w = world(jwts);
        let said = w.serve(&w.nightly, "read");
        let access = token(&said);
        assert_eq!(
            (&said.1["scope"], &said.1["token_type"]),
            (&json!("read"), &json!("Bearer"))
        );
        assert_eq!(said.1["refresh_token"], Value::Null);
        let lifetime = if jwts.is_some() {
            599..=600
        } else {
            3599..=3600
        };
        assert!(
            lifetime.contains(&said.1["expires_in"].as_u64().unwrap()),
            "{said:?}"
        );
        assert_eq!(w.denial(&access), None);
        let write = Requirements::new().permissions(&["write"]);
        let verdict = match &w.jwts {
            Some(jwts) => jwts.verify(&access, &write).unwrap(),
            None => w.engine.verify_with(&access, &write).unwrap(),
        };
        assert!(!verdict.is_granted());
        let told = w.introspect(&w.nightly, &access);
        assert_eq!(
            (&told["active"], &told["sub"]),
            (&json!(true), &json!("acme/nightly"))
        );
        // Without a scope, all that it may have.
        let all = w.ask(&w.nightly, &[("grant_type", "client_credentials")]);
        assert_eq!(all.1["scope"], "read write");
    }
}

#[test]
fn a_service_that_asks_again_gets_the_same_token_until_half_of_its_life_is_over() {
    for jwts in [None, Some(10 * MINUTE)] {
        let w = world(jwts);
        let life = jwts.unwrap_or(HOUR);
        let first = token(&w.serve(&w.nightly, "write read"));
        for _ in 0..50 {
            assert_eq!(token(&w.serve(&w.nightly, "read write")), first);
        }
        w.clock.advance(life / 2 - MINUTE);
        assert_eq!(token(&w.serve(&w.nightly, "read write")), first);
        w.clock.advance(2 * MINUTE);
        let second = token(&w.serve(&w.nightly, "read write"));
        assert_ne!(second, first);
        // Whoever has the first keeps it to its end.
        assert_eq!((w.denial(&first), w.denial(&second)), (None, None));
        for _ in 0..20 {
            w.clock.advance(life / 2 + MINUTE);
            let next = token(&w.serve(&w.nightly, "read write"));
            assert_eq!(w.denial(&next), None);
        }
        assert!(w.keys() <= 2, "{}", w.keys());
        assert!(w.engine.check().unwrap().is_sound());
        // All goes once it has ended, and somebody writes.
        w.clock.advance(2 * HOUR);
        token(&w.serve(&w.api, "read"));
        assert_eq!(w.keys(), 1);
    }
}

#[test]
fn of_64_processes_of_a_service_that_ask_at_once_all_get_one_token() {
    let w = world(None);
    let barrier = Barrier::new(64);
    let tokens: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    token(&w.serve(&w.nightly, "read"))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(w.keys(), 1);
}

#[test]
fn a_service_has_so_many_sets_of_permissions_at_most() {
    let w = world(None);
    let names: Vec<String> = (0..6).map(|n| format!("p{n}")).collect();
    let keyspace = NewKeyspace::new("many_at").unwrap().permissions(&names);
    let keyspace = w.engine.create_keyspace(keyspace).unwrap().prefix;
    let owner = "acme/many".parse().unwrap();
    let many = NewClient::service("Many", POST, keyspace, names.clone(), owner);
    let many = w.server.register(&many).unwrap();
    let set = |bits: usize| {
        let of = |at: &usize| bits & (1 << at) != 0;
        let names: Vec<String> = (0..6).filter(of).map(|at| names[at].clone()).collect();
        names.join(" ")
    };
    let refused = (1..64).filter(|bits| error(&w.serve(&many, &set(*bits))) == "invalid_scope");
    assert_eq!(refused.count(), 63 - 32);
    assert_eq!(w.keys(), 32);
    // Those that it has go on, and others have room once they have ended.
    token(&w.serve(&many, "p0"));
    w.clock.advance(2 * HOUR);
    token(&w.serve(&many, &set(63)));
}

#[test]
fn what_takes_access_away_from_a_service_holds_at_once() {
    for jwts in [None, Some(10 * MINUTE)] {
        let w = world(jwts);
        let first = token(&w.serve(&w.nightly, "read"));
        assert_eq!(w.revoke(&w.api, &first), 400, "another's");
        assert_eq!(w.denial(&first), None);
        assert_eq!(w.revoke(&w.nightly, &first), 200);
        assert_eq!(w.denial(&first), Some("revoked"));
        assert_eq!(w.introspect(&w.nightly, &first), json!({ "active": false }));
        // It has its secret still, and gets another.
        let second = token(&w.serve(&w.nightly, "read"));
        assert_ne!(second, first);
        assert_eq!(w.denial(&second), None);
        w.engine.suspend("acme/nightly", None).unwrap();
        assert_eq!(w.denial(&second), Some("suspended"));
        assert_eq!(error(&w.serve(&w.nightly, "read")), "unauthorized_client");
        w.engine.resume("acme/nightly").unwrap();
        assert_eq!(token(&w.serve(&w.nightly, "read")), second);
        let id = &w.nightly.client.id;
        w.server.disable_client(id).unwrap();
        assert_eq!(w.denial(&second), Some("disabled"));
        assert_eq!(error(&w.serve(&w.nightly, "read")), "invalid_client");
        w.server.enable_client(id).unwrap();
        assert_eq!(w.denial(&second), None);
        assert!(w.engine.check().unwrap().is_sound());
    }
}

/// A key that its record no longer names would outlive the client.
#[test]
fn no_key_of_a_service_outlives_what_knows_of_it() {
    let w = world(None);
    let first = token(&w.serve(&w.nightly, "read"));
    w.clock.advance(31 * MINUTE);
    let second = token(&w.serve(&w.nightly, "read"));
    w.engine
        .revoke_token(&second, Reason::KeyCompromise)
        .unwrap();
    let third = token(&w.serve(&w.nightly, "read"));
    assert_eq!(w.denial(&third), None);
    w.server.disable_client(&w.nightly.client.id).unwrap();
    for access in [&first, &second, &third] {
        assert!(w.denial(access).is_some());
    }
    assert_eq!(w.keys(), 2);
}

#[test]
fn a_service_is_a_client_of_its_own_kind() {
    let w = world(None);
    for (client, grant) in [
        (&w.nightly, "authorization_code"),
        (&w.nightly, "refresh_token"),
        (&w.app, "client_credentials"),
    ] {
        let said = w.ask(
            client,
            &[("grant_type", grant), ("code", "x"), ("refresh_token", "x")],
        );
        assert_eq!(
            (said.0, error(&said)),
            (400, "unauthorized_client"),
            "{grant}"
        );
    }
    assert_eq!(error(&w.serve(&w.nightly, "read admin")), "invalid_scope");
    let elsewhere = [
        ("grant_type", "client_credentials"),
        ("resource", "https://other.example"),
    ];
    assert_eq!(error(&w.ask(&w.nightly, &elsewhere)), "invalid_target");
    let asked = params(&[
        ("client_id", &w.nightly.client.id),
        ("redirect_uri", CB),
        ("response_type", "code"),
    ]);
    assert!(matches!(
        w.server.authorize(&asked, b"s").unwrap(),
        Authorize::Page(_)
    ));
    assert_eq!(w.keys(), 0);
    // What cannot work is refused as it is registered.
    let keyspace = "acme_at".parse().unwrap();
    let owner = || "acme/x".parse().unwrap();
    for new in [
        NewClient::service("X", ClientAuth::None, keyspace, ["read"], owner()),
        NewClient::service("X", POST, keyspace, ["read"], owner()).redirect_uri(CB),
        NewClient::service("X", POST, keyspace, ["nothing"], owner()),
        NewClient::public("X", keyspace, ["read"])
            .redirect_uri(CB)
            .introspecting(),
        // Names that show as another's.
        NewClient::public("App\u{202e}ppA", keyspace, ["read"]).redirect_uri(CB),
        NewClient::public("App\u{200b}", keyspace, ["read"]).redirect_uri(CB),
    ] {
        assert!(w.server.register(&new).is_err(), "{new:?}");
    }
    let found = w.server.client(&w.nightly.client.id).unwrap().unwrap();
    assert_eq!(found.owner, Some("acme/nightly".parse().unwrap()));
    assert!(!found.introspects && w.api.client.introspects);
}

#[test]
fn a_token_is_active_while_it_is_granted_and_not_a_moment_longer() {
    for jwts in [None, Some(10 * MINUTE)] {
        let w = world(jwts);
        let off = json!({ "active": false });
        let (access, refresh) = w.tokens();
        for asks in [&w.app, &w.api] {
            let told = w.introspect(asks, &access);
            let exp = told["exp"].as_u64().unwrap();
            let life = exp - w.clock.now().unix_seconds();
            let expected = if jwts.is_some() {
                599..=600
            } else {
                3599..=3600
            };
            assert!(expected.contains(&life), "{told}");
            assert_eq!(
                json!([
                    told["active"],
                    told["scope"],
                    told["client_id"],
                    told["sub"]
                ]),
                json!([true, "read write", w.app.client.id, "acme/alice"])
            );
            assert_eq!(json!([told["iss"], told["aud"]]), json!([ISSUER, ISSUER]));
            assert_eq!(told["token_type"], "Bearer");
        }
        // It charges nothing, whoever asks how often.
        let told = w.introspect(&w.app, &refresh);
        assert_eq!(
            (&told["active"], &told["token_type"]),
            (&json!(true), &Value::Null)
        );
        // A refresh token is its client's business alone, and of another client neither is.
        assert_eq!(w.introspect(&w.api, &refresh), off);
        assert_eq!(w.introspect(&w.nightly, &access), off);
        for forged in [
            "",
            "x",
            &refresh[..50],
            &access[..30],
            &format!("{access}A"),
        ] {
            if !forged.is_empty() {
                assert_eq!(w.introspect(&w.app, forged), off, "{forged}");
            }
        }
        w.engine.suspend("acme", None).unwrap();
        assert_eq!(
            (
                w.introspect(&w.app, &access),
                w.introspect(&w.app, &refresh)
            ),
            (off.clone(), off.clone())
        );
        w.engine.resume("acme").unwrap();
        w.server.disable_client(&w.app.client.id).unwrap();
        assert_eq!(w.introspect(&w.api, &access), off);
        w.server.enable_client(&w.app.client.id).unwrap();
        assert_ne!(w.introspect(&w.api, &access), off);
        // A replaced refresh token is accepted for the window, and reads so.
        w.clock.advance(2 * MINUTE);
        let (next_access, next) = both(&w.refresh(&refresh));
        assert_ne!(w.introspect(&w.app, &refresh), off);
        assert_ne!(w.introspect(&w.app, &access), off);
        w.clock.advance(MINUTE);
        assert_eq!(w.introspect(&w.app, &refresh), off);
        assert_eq!(w.introspect(&w.app, &access), off);
        assert_ne!(w.introspect(&w.app, &next), off);
        w.clock.advance(jwts.unwrap_or(HOUR));
        assert_eq!(
            (w.introspect(&w.api, &next_access), w.denial(&next_access)),
            (off.clone(), Some("expired"))
        );
        assert_eq!(w.revoke(&w.app, &next), 200);
        assert_eq!(w.introspect(&w.app, &next), off);
    }
}

#[test]
fn introspection_tells_nobody_what_is_not_theirs() {
    let w = world(None);
    let off = json!({ "active": false });
    let (access, _) = w.tokens();
    let other = "other_at".parse().unwrap();
    let elsewhere = NewClient::service("Other", POST, other, ["read"], "x".parse().unwrap());
    let elsewhere = w.server.register(&elsewhere.introspecting()).unwrap();
    assert_eq!(
        w.introspect(&elsewhere, &access),
        off,
        "of another keyspace"
    );
    // A key of no authorization, and one that only says so.
    let id =
        w.engine.find_by_token(&access).unwrap().unwrap().labels["oauth_authorization"].clone();
    for new in [
        NewKey::new("acme_at", "acme/bob").unwrap(),
        NewKey::new("acme_at", "acme/bob")
            .unwrap()
            .label("oauth_authorization", id),
    ] {
        let key = w.engine.issue(new).unwrap();
        assert_eq!(w.introspect(&w.api, key.token.expose()), off);
    }
    // Nobody asks without a secret.
    let keyspace = "acme_at".parse().unwrap();
    let public = NewClient::public("Public", keyspace, ["read"]).redirect_uri(CB);
    let public = w.server.register(&public).unwrap().client.id;
    for pairs in [
        vec![("token", access.as_str())],
        vec![("token", &access), ("client_id", &public)],
        vec![("token", &access), ("client_id", &w.app.client.id)],
        vec![
            ("token", &access),
            ("client_id", &w.app.client.id),
            ("client_secret", "no"),
        ],
    ] {
        let params = params(&pairs);
        let request = TokenRequest {
            params: &params,
            authorization: None,
        };
        let told = said(&w.server.introspect(request).unwrap());
        assert_eq!((told.0, error(&told)), (401, "invalid_client"));
    }
    // It is charged to nobody.
    for _ in 0..10 {
        w.introspect(&w.api, &access);
    }
    let key = w.engine.find_by_token(&access).unwrap().unwrap();
    assert_eq!(key.usage.count, 0);
}

/// A retry in the window may come after the end of the access token that it would get.
#[test]
fn a_retry_gets_an_access_token_that_has_not_ended() {
    let life = Duration::from_secs(10);
    let by_jwt = world(Some(life));
    let by_keyspace = world(None);
    let max = gatekey::KeyspaceUpdate::new().max_lifetime(life);
    by_keyspace.engine.update_keyspace("acme_at", max).unwrap();
    for w in [by_jwt, by_keyspace] {
        let (_, first) = w.tokens();
        w.clock.advance(2 * MINUTE);
        let (access, second) = both(&w.refresh(&first));
        w.clock.advance(life / 2);
        let said = w.refresh(&first);
        assert_eq!(both(&said), (access.clone(), second.clone()));
        assert!(said.1["expires_in"].as_u64().unwrap() <= 5, "{said:?}");
        w.clock.advance(life);
        assert_eq!(w.denial(&access), Some("expired"));
        // By either token, and the head stays.
        for presented in [&first, &second] {
            let (next, head) = both(&w.refresh(presented));
            assert_ne!(next, access);
            assert_eq!((w.denial(&next), head.as_str()), (None, second.as_str()));
        }
        // The head is good for the next, and the one before it is over.
        w.clock.advance(MINUTE);
        let (last, third) = both(&w.refresh(&second));
        assert_eq!(w.denial(&last), None);
        w.clock.advance(life / 2);
        assert_eq!(both(&w.refresh(&second)), (last, third));
        assert!(w.keys() <= 2, "{}", w.keys());
        assert!(w.engine.check().unwrap().is_sound());
    }
}

#[test]
fn metadata_is_where_its_rfcs_say() {
    let w = world(None);
    assert_eq!(
        w.server.metadata_path(),
        "/.well-known/oauth-authorization-server/v1"
    );
    let at = "https://api.example.com/.well-known/oauth-protected-resource/v1";
    assert_eq!(w.server.resource_metadata_url(), at);
    let open = |options| AuthorizationServer::open(&w.engine, options).unwrap();
    let bare =
        open(ServerOptions::new("https://a.example/").resource("https://b.example:8443/x/y/"));
    assert_eq!(
        bare.metadata_path(),
        "/.well-known/oauth-authorization-server"
    );
    let at = "https://b.example:8443/.well-known/oauth-protected-resource/x/y";
    assert_eq!(bare.resource_metadata_url(), at);
    let metadata: Value = serde_json::from_str(&w.server.metadata()).unwrap();
    let endpoint = "https://api.example.com/v1/oauth/introspect";
    assert_eq!(metadata["introspection_endpoint"], endpoint);
    let methods = &metadata["introspection_endpoint_auth_methods_supported"];
    assert_eq!(
        *methods,
        json!(["client_secret_basic", "client_secret_post"])
    );
    let grants = metadata["grant_types_supported"].as_array().unwrap();
    assert!(grants.contains(&json!("client_credentials")));
    for issuer in [
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example/",
        "https://user@a.example",
        "https://a.example/#x",
        "https://a.example;x",
        "com.example.app:/x",
        "https://",
    ] {
        let refused = AuthorizationServer::open(&w.engine, ServerOptions::new(issuer));
        assert!(refused.is_err(), "{issuer}");
    }
    open(ServerOptions::new("http://[::1]:8080/x"));
}
