//! Codes, refresh tokens and revocation, by way of a client's requests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
mod walk;

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64};
use gatekey::{
    Clock as _, Denial, Engine, KeyFilter, KeyspaceUpdate, ManualClock, NewKeyspace, Options,
    Pepper, Reason, Requirements, SystemClock,
};
use gatekey_oauth::server::{
    AuthorizationServer, Authorize, ClientAuth, NewClient, RegisteredClient, ServerOptions,
    TICKET_LIFETIME, TokenRequest,
};
use gatekey_oauth::{JwtOptions, Jwts};
use serde_json::{Value, json};

use walk::{CB, Pairs, VERIFIER, params, part, with};

const ISSUER: &str = "https://api.example.com";
const SECOND: Duration = Duration::from_secs(1);

struct World {
    engine: Engine,
    clock: ManualClock,
    server: AuthorizationServer,
    jwts: Option<Jwts>,
    app: RegisteredClient,
    web: RegisteredClient,
}

fn on(options: Options, with_jwts: bool, path: Option<&Path>) -> World {
    let clock = ManualClock::at(SystemClock.now());
    let options = options.clock(clock.clone());
    let engine = match path {
        Some(path) => options.open_or_create(path).unwrap(),
        None => options.open_in_memory().unwrap(),
    };
    let keyspace = NewKeyspace::new("acme_at").unwrap();
    let keyspace = keyspace.permissions(["read", "write", "admin"]);
    let keyspace = engine.ensure_keyspace(keyspace).unwrap().prefix;
    let jwts = with_jwts.then(|| Jwts::open(&engine, JwtOptions::new(ISSUER, ISSUER)).unwrap());
    let options = ServerOptions::new(ISSUER);
    let server = match &jwts {
        Some(jwts) => AuthorizationServer::with_jwts(&engine, options, jwts.clone()),
        None => AuthorizationServer::open(&engine, options),
    };
    let server = server.unwrap();
    let scope = ["read", "write"];
    let app = NewClient::public("App", keyspace, scope).redirect_uri(CB);
    let by_post = ClientAuth::ClientSecretPost;
    let web = NewClient::confidential("Web", by_post, keyspace, scope).redirect_uri(CB);
    World {
        app: server.register(&app).unwrap(),
        web: server.register(&web.without_pkce()).unwrap(),
        server,
        jwts,
        clock,
        engine,
    }
}

fn world() -> World {
    on(Options::new(), false, None)
}

/// A token endpoint's answer: the status, and the body.
type Said = (u16, Value);

fn code_of(said: &Said) -> &str {
    said.1["error"].as_str().unwrap_or("none")
}

impl World {
    fn authorize(&self, more: &Pairs<'_>) -> Authorize {
        let usual = [("scope", "read write"), ("state", "s 1")];
        walk::authorize(&self.server, &self.app.client.id, &with(&usual, more))
    }

    fn ticket(&self) -> String {
        walk::ticket(&self.server, &self.app.client.id)
    }

    fn approve(&self, ticket: &str) -> Option<String> {
        walk::approve(&self.server, ticket, &["read", "write"]).unwrap()
    }

    fn code(&self) -> String {
        walk::code(&self.server, &self.app.client.id, &["read", "write"])
    }

    fn ask(&self, pairs: &[(&str, &str)]) -> Said {
        let params = params(pairs);
        let request = TokenRequest {
            params: &params,
            authorization: None,
        };
        let reply = self.server.token(request).unwrap();
        assert!(
            reply
                .headers
                .contains(&("cache-control", "no-store".to_owned()))
        );
        (reply.status, serde_json::from_str(&reply.body).unwrap())
    }

    fn redeem_with(&self, code: &str, more: &Pairs<'_>) -> Said {
        let usual = [("client_id", self.app.client.id.as_str())];
        let usual = with(&usual, &walk::exchange(code));
        self.ask(&with(&usual, more))
    }

    fn redeem(&self, code: &str) -> Said {
        self.redeem_with(code, &[])
    }

    fn refresh(&self, token: &str) -> Said {
        self.refresh_with(token, &[])
    }

    fn refresh_with(&self, token: &str, more: &[(&str, &str)]) -> Said {
        let client = self.app.client.id.as_str();
        let mut pairs = vec![("grant_type", "refresh_token"), ("refresh_token", token)];
        if !more.iter().any(|(name, _)| *name == "client_id") {
            pairs.push(("client_id", client));
        }
        pairs.extend(more);
        self.ask(&pairs)
    }

    /// Revokes a token as its client does.
    fn revoke(&self, token: &str) {
        let client = [("client_id", self.app.client.id.as_str()), ("token", token)];
        let params = params(&client);
        let request = TokenRequest {
            params: &params,
            authorization: None,
        };
        assert_eq!(self.server.revoke(request).unwrap().status, 200);
    }

    /// An access token and a refresh token.
    fn tokens(&self) -> (String, String) {
        both(&self.redeem(&self.code()))
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

    fn authorization_of(&self, access: &str) -> String {
        let key = self.engine.find_by_token(access).unwrap().unwrap();
        key.labels["oauth_authorization"].clone()
    }
}

fn both(said: &Said) -> (String, String) {
    assert_eq!(said.0, 200, "{said:?}");
    let of = |name: &str| said.1[name].as_str().unwrap().to_owned();
    (of("access_token"), of("refresh_token"))
}

#[test]
fn a_code_is_exchanged_and_refreshed_as_the_rfc_says() {
    for with_jwts in [false, true] {
        let w = on(Options::new(), with_jwts, None);
        let Authorize::Consent(consent) = w.authorize(&[]) else {
            panic!("refused");
        };
        assert_eq!(consent.client, "App");
        assert_eq!(consent.redirect_host, "https://app.example.com");
        assert_eq!(consent.scope, ["read", "write"]);
        let url = w.approve(&consent.ticket).unwrap();
        assert!(url.starts_with(&format!("{CB}?code=")));
        assert_eq!(part(&url, "state"), Some("s%201"));
        assert_eq!(part(&url, "iss"), Some("https%3A%2F%2Fapi.example.com"));
        let said = w.redeem(part(&url, "code").unwrap());
        assert_eq!(said.1["token_type"], "Bearer");
        assert_eq!(said.1["scope"], "read write");
        let lifetime = if with_jwts { 598..=600 } else { 3598..=3600 };
        assert!(
            lifetime.contains(&said.1["expires_in"].as_u64().unwrap()),
            "{said:?}"
        );
        let (access, refresh) = both(&said);
        assert_eq!(access.contains('.'), with_jwts);
        assert_eq!(w.denial(&access), None);

        w.clock.advance(61 * SECOND);
        let (next_access, next) = both(&w.refresh(&refresh));
        assert_ne!((&next_access, &next), (&access, &refresh));
        // The one before is good for the window longer.
        assert_eq!((w.denial(&access), w.denial(&next_access)), (None, None));
        w.clock.advance(61 * SECOND);
        assert_eq!(
            (w.denial(&access), w.denial(&next_access)),
            (Some("revoked"), None)
        );
        // Long after the access token has ended, too.
        w.clock.advance(5 * 3600 * SECOND);
        assert_eq!(w.denial(&next_access), Some("expired"));
        let (access, _) = both(&w.refresh(&next));
        assert_eq!(w.denial(&access), None);
        assert!(w.engine.check().unwrap().is_sound());
    }
}

#[test]
fn of_64_threads_with_one_code_one_succeeds() {
    let w = Arc::new(world());
    let code = w.code();
    let barrier = Barrier::new(64);
    let said: Vec<Said> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    w.redeem(&code)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let won: Vec<_> = said.iter().filter(|said| said.0 == 200).collect();
    assert_eq!(won.len(), 1);
    assert!(
        said.iter()
            .filter(|said| said.0 != 200)
            .all(|said| code_of(said) == "invalid_grant")
    );
    // The others presented it again, and passed all checks.
    assert_eq!(w.denial(&both(won[0]).0), Some("revoked"));
    assert_eq!(w.keys(), 1);
}

#[test]
fn what_fails_a_check_consumes_nothing() {
    let w = world();
    let code = w.code();
    let other = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let web = w.web.client.id.as_str();
    let secret = w.web.expose_secret().unwrap();
    for _ in 0..100 {
        assert_eq!(
            code_of(&w.redeem_with(&code, &[("code_verifier", other)])),
            "invalid_grant"
        );
    }
    let wrong: [(&[(&str, &str)], &str); 8] = [
        (&[("code_verifier", "")], "invalid_grant"),
        (&[("code_verifier", "short")], "invalid_grant"),
        (&[("redirect_uri", "")], "invalid_grant"),
        (
            &[("redirect_uri", "https://app.example.com/cb/")],
            "invalid_grant",
        ),
        (
            &[("client_id", web), ("client_secret", secret)],
            "invalid_grant",
        ),
        (&[("client_id", "c_unknown")], "invalid_client"),
        (&[("resource", "https://other.example")], "invalid_target"),
        (&[("grant_type", "password")], "unsupported_grant_type"),
    ];
    for (more, error) in wrong {
        assert_eq!(code_of(&w.redeem_with(&code, more)), error, "{more:?}");
    }
    assert_eq!(code_of(&w.redeem("gkc_unknown")), "invalid_grant");
    let (access, _) = both(&w.redeem(&code));
    assert_eq!(w.denial(&access), None);
    // Nor does a replay that fails one.
    for (more, _) in wrong {
        assert_ne!(w.redeem_with(&code, more).0, 200);
        assert_eq!(w.denial(&access), None, "{more:?}");
    }
    // A suspended owner gets nothing, and has the code still.
    let code = w.code();
    w.engine.suspend("acme", None).unwrap();
    assert_eq!(code_of(&w.redeem(&code)), "invalid_grant");
    w.engine.resume("acme").unwrap();
    both(&w.redeem(&code));
    // A code is good while now < its end.
    let code = w.code();
    w.clock.advance(60 * SECOND);
    assert_eq!(code_of(&w.redeem(&code)), "invalid_grant");
    let code = w.code();
    w.clock.advance(60 * SECOND - Duration::from_millis(1));
    both(&w.redeem(&code));
}

#[test]
fn a_code_that_is_presented_again_revokes_all_that_came_of_it() {
    let w = world();
    let code = w.code();
    let (access, refresh) = both(&w.redeem(&code));
    let id = w.authorization_of(&access);
    assert_eq!(code_of(&w.redeem(&code)), "invalid_grant");
    assert_eq!(w.denial(&access), Some("revoked"));
    assert_eq!(code_of(&w.refresh(&refresh)), "invalid_grant");
    assert!(
        w.server
            .authorization(&id)
            .unwrap()
            .unwrap()
            .revoked_at
            .is_some()
    );
    let told = w.engine.audit_page(0, 100).unwrap().entries;
    assert!(
        told.iter()
            .any(|entry| entry.event.to_string().starts_with("oauth code_replayed"))
    );
}

/// Of a code without a challenge, and one with.
#[test]
fn pkce_cannot_be_left_out_or_added() {
    let w = world();
    let web = ("client_id", w.web.client.id.as_str());
    let secret = ("client_secret", w.web.expose_secret().unwrap());
    let none = [web, ("code_challenge", ""), ("code_challenge_method", "")];
    let Authorize::Consent(consent) = w.authorize(&none) else {
        panic!("refused");
    };
    let url = w.approve(&consent.ticket).unwrap();
    let code = part(&url, "code").unwrap();
    assert_eq!(
        code_of(&w.redeem_with(code, &[web, secret])),
        "invalid_grant"
    );
    both(&w.redeem_with(code, &[web, secret, ("code_verifier", "")]));
    // A public client needs one, of S256, and nothing else is one.
    for more in [
        [("code_challenge", ""), ("code_challenge_method", "")],
        [
            ("code_challenge", VERIFIER),
            ("code_challenge_method", "plain"),
        ],
        [("code_challenge", VERIFIER), ("code_challenge_method", "")],
        [
            ("code_challenge", "short"),
            ("code_challenge_method", "S256"),
        ],
        // It decodes, and is no hash.
        [
            ("code_challenge", "c2hvcnQ"),
            ("code_challenge_method", "S256"),
        ],
        [("code_challenge", ""), ("code_challenge_method", "S256")],
    ] {
        let Authorize::Redirect(url) = w.authorize(&more) else {
            panic!("{more:?}");
        };
        assert_eq!(part(&url, "error"), Some("invalid_request"));
        assert_eq!(part(&url, "state"), Some("s%201"));
    }
}

#[test]
fn of_64_concurrent_refreshes_all_end_at_one_head() {
    let w = Arc::new(world());
    let (_, refresh) = w.tokens();
    w.clock.advance(61 * SECOND);
    let before = w.keys();
    let barrier = Barrier::new(64);
    let heads: Vec<(String, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    both(&w.refresh(&refresh))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(heads.iter().all(|head| *head == heads[0]));
    // One access token was made.
    assert_eq!(w.keys(), before + 1);
    assert_eq!(w.denial(&heads[0].0), None);
}

#[test]
fn within_the_window_a_head_and_the_one_before_give_the_same_and_no_other_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let w = on(Options::new(), false, Some(&path));
    let first = w.tokens();
    // A young head is returned, not rotated.
    assert_eq!(both(&w.refresh(&first.1)), first);
    w.clock.advance(60 * SECOND);
    let second = both(&w.refresh(&first.1));
    assert_ne!(second.1, first.1);
    w.clock.advance(59 * SECOND);
    for _ in 0..3 {
        assert_eq!(both(&w.refresh(&first.1)), second);
        assert_eq!(both(&w.refresh(&second.1)), second);
    }
    // Also after a restart.
    let client = w.app.client.id.clone();
    w.engine.close().unwrap();
    let engine = Options::new().clock(w.clock.clone()).open(&path).unwrap();
    let server = AuthorizationServer::open(&engine, ServerOptions::new(ISSUER)).unwrap();
    let w = World {
        engine,
        server,
        ..w
    };
    assert_eq!(w.app.client.id, client);
    assert_eq!(both(&w.refresh(&first.1)), second);
    // Another scope is another token, and none is made in the window.
    assert_eq!(
        code_of(&w.refresh_with(&second.1, &[("scope", "read")])),
        "invalid_scope"
    );
    w.clock.advance(SECOND);
    let said = w.refresh_with(&second.1, &[("scope", "read")]);
    assert_eq!(said.1["scope"], "read");
    let third = both(&said);
    let write = Requirements::new().permissions(&["write"]);
    assert!(!w.engine.verify_with(&third.0, &write).unwrap().is_granted());
    // The first was replaced twice: two have it.
    assert_eq!(code_of(&w.refresh(&first.1)), "invalid_grant");
    assert_eq!(w.denial(&third.0), Some("revoked"));
    assert_eq!(code_of(&w.refresh(&third.1)), "invalid_grant");
}

#[test]
fn the_one_before_revokes_all_once_the_window_is_over() {
    let w = world();
    let (_, first) = w.tokens();
    w.clock.advance(61 * SECOND);
    let (access, second) = both(&w.refresh(&first));
    w.clock.advance(60 * SECOND);
    assert_eq!(code_of(&w.refresh(&first)), "invalid_grant");
    assert_eq!(w.denial(&access), Some("revoked"));
    assert_eq!(code_of(&w.refresh(&second)), "invalid_grant");
}

#[test]
fn any_older_generation_revokes_in_constant_space() {
    for presented in [0, 7, 18] {
        let w = world();
        let mut made = vec![w.tokens()];
        for _ in 0..20 {
            w.clock.advance(61 * SECOND);
            let last = made.last().unwrap().1.clone();
            made.push(both(&w.refresh(&last)));
        }
        // Two keys are there, however many there were.
        assert_eq!(w.keys(), 2);
        assert_eq!(code_of(&w.refresh(&made[presented].1)), "invalid_grant");
        assert_eq!(w.denial(&made.last().unwrap().0), Some("revoked"));
        assert!(w.engine.check().unwrap().is_sound());
    }
}

#[test]
fn a_forged_refresh_token_changes_nothing() {
    let w = world();
    let (access, refresh) = w.tokens();
    w.clock.advance(61 * SECOND);
    let before = w.engine.audit_span().unwrap().last;
    let body = BASE64
        .decode(refresh.strip_prefix("gkr_").unwrap())
        .unwrap();
    for bit in 0..body.len() * 8 {
        let mut forged = body.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        let forged = format!("gkr_{}", BASE64.encode(forged));
        assert_eq!(code_of(&w.refresh(&forged)), "invalid_grant", "bit {bit}");
    }
    for forged in ["gkr_", "", &refresh[4..], &format!("{refresh}A"), &access] {
        assert_ne!(w.refresh(forged).0, 200);
    }
    // Another client's.
    let web = [
        ("client_id", w.web.client.id.as_str()),
        ("client_secret", w.web.expose_secret().unwrap()),
    ];
    assert_eq!(code_of(&w.refresh_with(&refresh, &web)), "invalid_grant");
    assert_eq!(
        code_of(&w.refresh_with(&refresh, &[("scope", "read admin")])),
        "invalid_scope"
    );
    assert_eq!(w.engine.audit_span().unwrap().last, before);
    assert_eq!(w.denial(&access), None);
    both(&w.refresh(&refresh));
}

/// Whatever takes the access token away ends the authorization with it.
#[test]
fn what_takes_access_away_holds_for_the_access_token_and_the_refresh_token() {
    type Takes = fn(&World, &str, &str);
    let all: [(Takes, &str, bool); 7] = [
        (
            |w, access, _| {
                let id = w.authorization_of(access);
                assert!(w.server.revoke_authorization(&id).unwrap());
                assert!(!w.server.revoke_authorization(&id).unwrap());
            },
            "revoked",
            false,
        ),
        (
            |w, access, _| drop(w.engine.revoke_token(access, Reason::KeyCompromise)),
            "revoked",
            false,
        ),
        (
            |w, _, _| drop(w.engine.revoke_owner("acme", Reason::Cessation)),
            "revoked",
            false,
        ),
        (
            |w, _, _| drop(w.engine.suspend("acme", None)),
            "suspended",
            true,
        ),
        (
            |w, _, _| drop(w.server.disable_client(&w.app.client.id)),
            "disabled",
            true,
        ),
        (|w, access, _| w.revoke(access), "revoked", false),
        (|w, _, refresh| w.revoke(refresh), "revoked", false),
    ];
    for (takes, code, is_undone) in all {
        let w = world();
        let (access, refresh) = w.tokens();
        assert_eq!(w.denial(&access), None);
        takes(&w, &access, &refresh);
        assert_eq!(w.denial(&access), Some(code));
        assert_ne!(w.refresh(&refresh).0, 200);
        w.clock.advance(61 * SECOND);
        assert_ne!(w.refresh(&refresh).0, 200);
        w.engine.resume("acme").unwrap();
        w.server.enable_client(&w.app.client.id).unwrap();
        assert_eq!(w.denial(&access).is_none(), is_undone, "{code}");
        assert_eq!(w.refresh(&refresh).0 == 200, is_undone, "{code}");
        assert!(w.engine.check().unwrap().is_sound());
    }
}

#[test]
fn a_client_that_is_enabled_again_gets_back_what_it_was_disabled_with() {
    let w = world();
    let (access, _) = w.tokens();
    let (other, other_refresh) = w.tokens();
    let key = w.engine.find_by_token(&other).unwrap().unwrap().id;
    w.engine.disable(key).unwrap();
    w.server.disable_client(&w.app.client.id).unwrap();
    assert!(matches!(w.authorize(&[]), Authorize::Page(_)));
    w.server.enable_client(&w.app.client.id).unwrap();
    // What an operator disabled stays so.
    assert_eq!(
        (w.denial(&access), w.denial(&other)),
        (None, Some("disabled"))
    );
    assert_eq!(code_of(&w.refresh(&other_refresh)), "invalid_grant");
    // An access token that ends meanwhile does not end its authorization.
    let (_, refresh) = w.tokens();
    w.server.disable_client(&w.app.client.id).unwrap();
    w.clock.advance(2 * 3600 * SECOND);
    w.server.enable_client(&w.app.client.id).unwrap();
    both(&w.refresh(&refresh));
}

#[test]
fn jwts_of_an_authorization_are_revoked_at_once() {
    let w = on(Options::new(), true, None);
    let (access, refresh) = w.tokens();
    assert_eq!(w.denial(&access), None);
    let client = [("client_id", w.app.client.id.as_str()), ("token", &access)];
    let params = params(&client);
    let reply = w
        .server
        .revoke(TokenRequest {
            params: &params,
            authorization: None,
        })
        .unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    assert_eq!(w.denial(&access), Some("revoked"));
    assert_eq!(code_of(&w.refresh(&refresh)), "invalid_grant");
}

#[test]
fn revocation_is_200_for_what_is_unknown_and_leaves_what_is_anothers() {
    let w = world();
    let (access, refresh) = w.tokens();
    let web = [
        ("client_id", w.web.client.id.as_str()),
        ("client_secret", w.web.expose_secret().unwrap()),
    ];
    let revoke = |token: &str| {
        let params = params(&[web[0], web[1], ("token", token)]);
        w.server
            .revoke(TokenRequest {
                params: &params,
                authorization: None,
            })
            .unwrap()
            .status
    };
    assert_eq!((revoke("unknown"), revoke("gkr_x")), (200, 200));
    assert_eq!((revoke(&access), revoke(&refresh)), (400, 400));
    assert_eq!(w.denial(&access), None);
    let params = params(&[("token", &access)]);
    let reply = w
        .server
        .revoke(TokenRequest {
            params: &params,
            authorization: None,
        })
        .unwrap();
    assert_eq!(reply.status, 401);
    assert!(
        reply
            .headers
            .iter()
            .any(|(name, _)| *name == "www-authenticate")
    );
}

#[test]
fn a_client_authenticates_as_it_is_registered_and_in_no_other_way() {
    let w = world();
    let keyspace = "acme_at".parse().unwrap();
    let by_basic = ClientAuth::ClientSecretBasic;
    let basic = NewClient::confidential("Basic", by_basic, keyspace, ["read"]).redirect_uri(CB);
    let basic = w.server.register(&basic).unwrap();
    let status = |client: &RegisteredClient, way: &str, secret: &str| {
        let id = client.client.id.as_str();
        let other = w.app.client.id.as_str();
        let header = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
        let (pairs, header) = match way {
            "basic" => (vec![], Some(header.as_str())),
            "basic, named" => (vec![("client_id", id)], Some(header.as_str())),
            "basic, named otherwise" => (vec![("client_id", other)], Some(header.as_str())),
            "post" => (vec![("client_id", id), ("client_secret", secret)], None),
            "both" => (
                vec![("client_id", id), ("client_secret", secret)],
                Some(header.as_str()),
            ),
            _ => (vec![("client_id", id)], None),
        };
        let params = params(&pairs);
        let request = TokenRequest {
            params: &params,
            authorization: header,
        };
        w.server.token(request).unwrap().status
    };
    let all = [(&w.app, "none"), (&w.web, "post"), (&basic, "basic")];
    for (client, registered) in all {
        let secret = client.expose_secret().unwrap_or("");
        for way in ["none", "post", "basic", "both"] {
            // 400: authenticated, and without a grant type.
            let expected = if way == registered { 400 } else { 401 };
            // An empty secret counts as none.
            let is_none = secret.is_empty() && way == "post";
            let expected = if is_none { 400 } else { expected };
            assert_eq!(
                status(client, way, secret),
                expected,
                "{registered} by {way}"
            );
        }
        if registered != "none" {
            assert_eq!(status(client, registered, &format!("{secret}A")), 401);
            assert_eq!(
                status(client, registered, w.web.expose_secret().unwrap()) == 400,
                registered == "post"
            );
        }
        assert!(!format!("{client:?}").contains("gks_"));
    }
    // A body may name the client that the header proves, and no other.
    let secret = basic.expose_secret().unwrap();
    assert_eq!(status(&basic, "basic, named", secret), 400);
    assert_eq!(status(&basic, "basic, named otherwise", secret), 401);
}

/// RFC 9700, 4.1 and 4.11: nobody is sent anywhere that is not registered.
#[test]
fn an_unknown_client_or_redirect_uri_gets_a_page_and_is_sent_nowhere() {
    let w = world();
    for uri in [
        "",
        "https://app.example.com/cb/",
        "https://app.example.com/CB",
        "https://APP.example.com/cb",
        "https://app.example.com:443/cb",
        "https://app.example.com/%63b",
        "https://app.example.com/cb%2e",
        "https://app.example.com/cb#x",
        "https://app.example.com/cb?x",
        "https://u@app.example.com/cb",
        "https://app.example.com@evil.example/cb",
        "https://evil.example/cb",
        "http://app.example.com/cb",
        "http://[::1]/cb",
        "http://127.0.0.1/cb",
        "javascript:alert(1)",
        "//app.example.com/cb",
    ] {
        // Also where something else is wrong.
        for more in [
            ("state", "s"),
            ("response_type", "token"),
            ("scope", "nothing"),
        ] {
            let asked = w.authorize(&[("redirect_uri", uri), more]);
            assert!(matches!(asked, Authorize::Page(_)), "{uri}: {asked:?}");
        }
    }
    for id in ["", "c_unknown", &"c".repeat(1000)] {
        assert!(matches!(
            w.authorize(&[("client_id", id)]),
            Authorize::Page(_)
        ));
    }
    // What is wrong beside, the client is told.
    for (name, value, error) in [
        ("response_type", "token", "unsupported_response_type"),
        ("response_type", "", "unsupported_response_type"),
        ("scope", "read admin", "invalid_scope"),
        ("resource", "https://other.example", "invalid_target"),
    ] {
        let Authorize::Redirect(url) = w.authorize(&[(name, value)]) else {
            panic!("{name} {value}");
        };
        assert!(
            url.starts_with(&format!("{CB}?error={error}&iss=")),
            "{url}"
        );
    }
    // A loopback address has any port.
    let keyspace = "acme_at".parse().unwrap();
    let local = NewClient::public("Tool", keyspace, ["read"]).redirect_uri("http://127.0.0.1/cb");
    let local = w.server.register(&local).unwrap();
    let id = ("client_id", local.client.id.as_str());
    let asked = w.authorize(&[
        id,
        ("redirect_uri", "http://127.0.0.1:51234/cb"),
        ("scope", "read"),
    ]);
    assert!(matches!(asked, Authorize::Consent(_)), "{asked:?}");
}

#[test]
fn a_ticket_is_good_once_in_its_session_and_for_ten_minutes() {
    let w = world();
    let owner = "acme/alice".parse().unwrap();
    let ticket = w.ticket();
    let approve = |ticket: &str, session: &[u8], scope: &[&str]| {
        w.server.approve(ticket, session, &owner, scope).unwrap()
    };
    assert_eq!(approve(&ticket, b"another", &["read"]), None);
    assert_eq!(
        approve(&ticket, b"session", &["read", "admin"]),
        None,
        "wider"
    );
    assert_eq!(approve(&format!("{ticket}A"), b"session", &["read"]), None);
    assert_eq!(w.server.deny(&ticket, b"another").unwrap(), None);
    assert!(approve(&ticket, b"session", &["read"]).is_some());
    assert_eq!(approve(&ticket, b"session", &["read"]), None, "twice");
    assert_eq!(w.server.deny(&ticket, b"session").unwrap(), None);

    let ticket = w.ticket();
    let url = w.server.deny(&ticket, b"session").unwrap().unwrap();
    assert_eq!(part(&url, "error"), Some("access_denied"));
    assert_eq!(approve(&ticket, b"session", &["read"]), None);

    let ticket = w.ticket();
    w.clock.advance(TICKET_LIFETIME);
    assert_eq!(approve(&ticket, b"session", &["read"]), None);
}

/// With less than was asked for.
#[test]
fn an_authorization_is_no_wider_than_what_was_agreed() {
    let w = world();
    let owner = "acme/alice".parse().unwrap();
    let url = w
        .server
        .approve(&w.ticket(), b"session", &owner, &["read"])
        .unwrap()
        .unwrap();
    let said = w.redeem(part(&url, "code").unwrap());
    assert_eq!(said.1["scope"], "read");
    let (access, refresh) = both(&said);
    let write = Requirements::new().permissions(&["write"]);
    assert!(!w.engine.verify_with(&access, &write).unwrap().is_granted());
    w.clock.advance(61 * SECOND);
    assert_eq!(
        code_of(&w.refresh_with(&refresh, &[("scope", "read write")])),
        "invalid_scope"
    );
    // A permission that was retired is not had any more, and nothing is consumed.
    let retired = KeyspaceUpdate::new().retire_permissions(["read"]);
    w.engine.update_keyspace("acme_at", retired).unwrap();
    assert_eq!(code_of(&w.refresh(&refresh)), "invalid_scope");
}

#[test]
fn a_flood_leaves_the_file_bounded_by_what_is_alive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let w = on(Options::new(), false, Some(&path));
    // Requests write nothing, however many.
    let before = w.engine.audit_span().unwrap().last;
    let ticket = w.ticket();
    for _ in 0..500 {
        w.ticket();
        w.refresh("gkr_no");
        w.redeem("gkc_no");
    }
    assert_eq!(w.engine.audit_span().unwrap().last, before);
    w.approve(&ticket).unwrap();
    // Codes, used or not, and authorizations go once they have ended.
    let extension = w.engine.extension("oauth").unwrap();
    let count = |table: &str| {
        extension
            .read(|view| view.page(table, &[], None, 1000))
            .unwrap()
            .len()
    };
    for round in 0..40 {
        let code = w.code();
        if round % 2 == 0 {
            both(&w.redeem(&code));
        }
        w.clock.advance(31 * 86_400 * SECOND);
    }
    for table in ["codes", "tickets", "authorizations", "by_client", "ends"] {
        assert!(count(table) <= 6, "{table}: {}", count(table));
    }
    assert!(w.keys() <= 3, "{}", w.keys());
    assert!(w.engine.check().unwrap().is_sound());
}

#[test]
fn no_secret_is_in_the_file_in_the_clear() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let pepper = Pepper::new(1, [1; 32]).unwrap();
    let w = on(Options::new().pepper(pepper), false, Some(&path));
    let unused = w.code();
    let code = w.code();
    let (access, refresh) = both(&w.redeem(&code));
    w.clock.advance(61 * SECOND);
    let (next_access, next) = both(&w.refresh(&refresh));
    let secret = w.web.expose_secret().unwrap().to_owned();
    w.engine.close().unwrap();
    let file = std::fs::read(&path).unwrap();
    for secret in [
        unused,
        code,
        access,
        refresh.clone(),
        next_access,
        next.clone(),
        secret,
    ] {
        let tail = &secret.as_bytes()[secret.len() - 20..];
        assert!(!file.windows(20).any(|window| window == tail), "{secret}");
    }
    for token in [refresh, next] {
        let body = BASE64.decode(&token[4..]).unwrap();
        assert!(!file.windows(32).any(|window| window == &body[24..56]));
    }
}

#[test]
fn metadata_names_what_there_is() {
    let w = world();
    let metadata: Value = serde_json::from_str(&w.server.metadata()).unwrap();
    assert_eq!(metadata["issuer"], ISSUER);
    assert_eq!(
        metadata["token_endpoint"],
        "https://api.example.com/oauth/token"
    );
    assert_eq!(
        metadata["code_challenge_methods_supported"],
        json!(["S256"])
    );
    assert_eq!(metadata["jwks_uri"], Value::Null);
    let resource: Value = serde_json::from_str(&w.server.resource_metadata()).unwrap();
    assert_eq!(resource["authorization_servers"], json!([ISSUER]));
}

#[test]
fn what_cannot_work_is_refused_as_it_is_registered_or_opened() {
    let w = world();
    let keyspace = "acme_at".parse().unwrap();
    let public = || NewClient::public("App", keyspace, ["read"]);
    let many = (0..17).fold(public(), |new, n| new.redirect_uri(format!("{CB}{n}")));
    for new in [
        public(),
        many,
        public().redirect_uri("http://app.example.com/cb"),
        public().redirect_uri(CB).without_pkce(),
        NewClient::public("App", keyspace, ["nothing"]).redirect_uri(CB),
        NewClient::public("", keyspace, ["read"]).redirect_uri(CB),
        NewClient::public("App", "nowhere".parse().unwrap(), ["read"]).redirect_uri(CB),
    ] {
        assert!(w.server.register(&new).is_err(), "{new:?}");
    }
    let single = NewKeyspace::new("single").unwrap().single_active();
    let single = w.engine.create_keyspace(single).unwrap().prefix;
    let new = NewClient::public("App", single, [""; 0]).redirect_uri(CB);
    assert!(w.server.register(&new).is_err());
    for options in [
        ServerOptions::new("http://api.example.com"),
        ServerOptions::new("https://api.example.com?x"),
        ServerOptions::new(ISSUER).code_lifetime(601 * SECOND),
        ServerOptions::new(ISSUER).refresh_window(3601 * SECOND),
        ServerOptions::new(ISSUER).access_lifetime(59 * SECOND),
    ] {
        assert!(AuthorizationServer::open(&w.engine, options).is_err());
    }
}
