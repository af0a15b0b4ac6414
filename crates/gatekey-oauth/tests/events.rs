//! What `tracing` is told while clients register, get tokens, refresh, fail and lose them: no
//! secret. Alone in a process, since what is logged at all is decided once for all threads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
mod walk;

use std::time::Duration;

use gatekey::{Clock as _, ManualClock, NewKeyspace, Options, Requirements, SystemClock};
use gatekey_oauth::server::{
    AuthorizationServer, ClientAuth, NewClient, Reply, ServerOptions, TokenRequest,
};
use gatekey_oauth::{JwtOptions, Jwts};
use gatekey_testkit::events::Lines;
use serde_json::Value;

use walk::{CB, params, with};

const ISSUER: &str = "https://api.example.com";

#[test]
fn events_hold_no_code_token_or_secret() {
    let log = Lines::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let clock = ManualClock::at(SystemClock.now());
    let options = Options::new().clock(clock.clone()).usage_interval(None);
    let engine = options.create(&path).unwrap();
    let keyspace = NewKeyspace::new("acme_at").unwrap().permissions(["read"]);
    let keyspace = engine.create_keyspace(keyspace).unwrap().prefix;
    let jwts = Jwts::open(&engine, JwtOptions::new(ISSUER, ISSUER)).unwrap();
    let options = ServerOptions::new(ISSUER);
    let server = AuthorizationServer::with_jwts(&engine, options, jwts.clone()).unwrap();
    let by_post = ClientAuth::ClientSecretPost;
    let new = NewClient::confidential("App", by_post, keyspace, ["read"]);
    let client = server.register(&new.redirect_uri(CB)).unwrap();
    let (id, secret) = (&client.client.id, client.expose_secret().unwrap());
    let ask = |call: fn(&AuthorizationServer, TokenRequest<'_>) -> gatekey::Result<Reply>,
               more: &walk::Pairs<'_>| {
        let own = [("client_id", id.as_str()), ("client_secret", secret)];
        let params = params(&with(&own, more));
        let request = TokenRequest {
            params: &params,
            authorization: None,
        };
        call(&server, request)
    };
    let mut secrets = vec![secret.to_owned()];
    let tokens = |reply: Reply| {
        let body: Value = serde_json::from_str(&reply.body).unwrap();
        ["access_token", "refresh_token"].map(|name| body[name].as_str().unwrap().to_owned())
    };
    let code = walk::code(&server, id, &["read"]);
    let [access, refresh] =
        tokens(ask(AuthorizationServer::token, &walk::exchange(&code)).unwrap());
    let grant = jwts.verify(&access, &Requirements::new()).unwrap();
    secrets.extend([jwts
        .issue(grant.grant().unwrap(), None)
        .unwrap()
        .expose()
        .to_owned()]);
    clock.advance(Duration::from_secs(61));
    let again = [("grant_type", "refresh_token"), ("refresh_token", &refresh)];
    let [next_access, next] = tokens(ask(AuthorizationServer::token, &again).unwrap());
    // Refusals, a replay, a revocation, a rotation, and a disk that is no more.
    for wrong in [&code, &next, &access, &secrets[0].clone()] {
        let reply = ask(AuthorizationServer::token, &walk::exchange(wrong)).unwrap();
        assert_eq!(reply.status, 400);
    }
    ask(AuthorizationServer::revoke, &[("token", &next)]).unwrap();
    jwts.rotate_signing_keys().unwrap();
    let unused = walk::code(&server, id, &["read"]);
    std::fs::remove_file(&path).unwrap();
    assert!(ask(AuthorizationServer::token, &walk::exchange(&unused)).is_err());
    secrets.extend([code, unused, access, refresh, next_access, next]);
    let _ = engine.close();

    let log = log.text();
    let changes = log.lines().filter(|line| line.contains("message=changed"));
    assert!(
        changes.count() > 8 && log.contains("took no change"),
        "{log}"
    );
    for secret in &secrets {
        // Of a JWT its signature; of a refresh token what is behind its id and generation.
        let part = match (secret.rsplit_once('.'), secret.strip_prefix("gkr_")) {
            (Some((_, signature)), _) => signature,
            (_, Some(refresh)) => &refresh[32..],
            _ => &secret[4..],
        };
        for at in 0..part.len() - 12 {
            assert!(!log.contains(&part[at..at + 12]), "a secret in the log");
        }
    }
}
