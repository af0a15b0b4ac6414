//! What operators do to the keys of access tokens: it goes on with what comes of them.

use std::time::Duration;

use gatekey::{
    Conflict, Error, KeyUpdate, KeysPerOwner, Limit, NewKey, NewKeyspace, Quota, Reason, Rotation,
};
use gatekey_oauth::server::{AuthorizationServer, TokenRequest};
use gatekey_oauth::{JwtOptions, Jwts, Params};

use super::{
    DAY, HOUR, ISSUER, MINUTE, World, both, error, open_jwts, options, params, walk, world,
};

/// Rotates a key as an operator does: the new token.
fn rotated(w: &World, access: &str, grace: Duration) -> String {
    let key = w.key(access).id;
    let rotated = w.engine.rotate(key, Rotation::with_grace(grace)).unwrap();
    rotated.token.expose().to_owned()
}

type Take = fn(&World, &str, &str, &str);

#[test]
fn a_key_that_an_operator_rotated_is_taken_away_with_its_authorization() {
    let takes: [(&str, Take); 4] = [
        ("revoked", |w, id, _, _| {
            assert!(w.server.revoke_authorization(id).unwrap());
        }),
        ("disabled", |w, _, _, _| {
            w.server.disable_client(&w.client).unwrap();
        }),
        ("revoked", |w, _, code, _| {
            assert_eq!(error(&w.redeem(code)), "invalid_grant");
        }),
        ("revoked", |w, _, _, refresh| {
            assert_eq!(w.revoke(refresh), 200);
        }),
    ];
    for (number, (verdict, take)) in takes.into_iter().enumerate() {
        let w = world();
        let code = walk::code(&w.server, &w.client, &["read", "write"]);
        let (access, refresh) = both(&w.redeem(&code));
        let id = w.authorization(&access);
        let next = rotated(&w, &access, MINUTE);
        let last = rotated(&w, &next, MINUTE);
        assert_eq!(w.verdict(&last), "granted");
        take(&w, &id, &code, &refresh);
        for access in [&access, &next, &last] {
            assert_ne!(w.verdict(access), "granted", "{number}");
        }
        assert_eq!(w.verdict(&last), verdict, "{number}");
        w.assert_sound();
    }
}

#[test]
fn a_client_that_is_enabled_has_what_an_operator_rotated_again() {
    let w = world();
    let (access, _) = w.tokens();
    let next = rotated(&w, &access, MINUTE);
    w.server.disable_client(&w.client).unwrap();
    assert_eq!(w.verdict(&next), "disabled");
    w.server.enable_client(&w.client).unwrap();
    assert_eq!(w.verdict(&next), "granted");
}

/// Also where the key before it was purged, so that nothing leads to it.
#[test]
fn a_client_revokes_the_token_that_it_presents() {
    let w = world();
    let (access, _) = w.tokens();
    let (old, next) = (w.key(&access).id, rotated(&w, &access, Duration::ZERO));
    let extension = w.engine.extension("oauth").unwrap();
    assert!(extension.change(move |tx| tx.purge(old)).unwrap());
    assert_eq!(w.verdict(&next), "granted");
    assert_eq!(w.revoke(&next), 200);
    assert_eq!(w.verdict(&next), "revoked");
}

/// A key that an operator rotated goes with its authorization's end, not only those that the
/// authorization names.
#[test]
fn a_sweep_takes_the_whole_line() {
    let w = world();
    let (access, _) = w.tokens();
    let key = w.key(&access).id;
    let longer = KeyUpdate::new().expires_in(90 * DAY);
    let rotation = Rotation::with_grace(MINUTE).changing(longer);
    let next = w.engine.rotate(key, rotation).unwrap();
    w.clock.advance(31 * DAY);
    assert_eq!(w.verdict(next.token.expose()), "granted");
    w.tokens();
    assert_eq!(w.verdict(next.token.expose()), "unknown");
}

/// What an operator sets for a key, and uses up of its quota.
fn bind(w: &World, access: &str) {
    let changes = KeyUpdate::new()
        .networks(["10.0.0.0/8".parse().unwrap()])
        .limits([Limit::per_minute(1000)])
        .name("watched")
        .quota(Quota::new(5));
    w.engine.update(w.key(access).id, changes).unwrap();
    let from = "10.1.2.3".parse().unwrap();
    let from = super::READ.source(from);
    for _ in 0..2 {
        let verdict = w.engine.verify_with(access, &from).unwrap();
        assert!(verdict.is_granted(), "{verdict:?}");
    }
}

fn assert_bound(w: &World, access: &str, why: &str) {
    let key = w.key(access);
    assert_eq!(key.networks, ["10.0.0.0/8".parse().unwrap()], "{why}");
    assert_eq!(key.limits, Some(vec![Limit::per_minute(1000)]), "{why}");
    assert_eq!(key.name.as_deref(), Some("watched"), "{why}");
    assert_eq!(w.verdict(access), "network_not_allowed", "{why}");
    let from = "10.1.2.3".parse().unwrap();
    let from = super::READ.source(from);
    for left in [true, true, true, false] {
        let verdict = w.engine.verify_with(access, &from).unwrap();
        assert_eq!(verdict.is_granted(), left, "{why}: {verdict:?}");
    }
}

#[test]
fn what_an_operator_set_for_a_key_outlives_its_end() {
    for (idle, why) in [(2 * MINUTE, "good"), (5 * HOUR, "expired")] {
        let w = world();
        let (access, refresh) = w.tokens();
        bind(&w, &access);
        w.clock.advance(idle);
        let (access, _) = both(&w.refresh(&refresh));
        assert_bound(&w, &access, why);
        w.assert_sound();
    }
}

#[test]
fn what_an_operator_set_for_a_services_key_goes_on() {
    let w = world();
    let service = w.service();
    let access = w.serve(&service);
    bind(&w, &access);
    w.clock.advance(40 * MINUTE);
    let next = w.serve(&service);
    assert_ne!(next, access);
    assert_bound(&w, &next, "good");
    w.assert_sound();
    // Also what an operator rotated.
    let w = world();
    let service = w.service();
    let access = w.serve(&service);
    let rotated = rotated(&w, &access, HOUR);
    bind(&w, &rotated);
    let next = w.serve(&service);
    assert_ne!(next, access);
    assert_bound(&w, &next, "rotated");
    w.assert_sound();
}

/// The one before is good for as long as its answer said.
#[test]
fn a_service_gets_a_new_token_and_the_one_before_stays_good_to_its_end() {
    let w = world();
    let service = w.service();
    let access = w.serve(&service);
    w.clock.advance(40 * MINUTE);
    let next = w.serve(&service);
    w.clock.advance(19 * MINUTE);
    assert_eq!(
        (w.verdict(&access), w.verdict(&next)),
        ("granted", "granted")
    );
    w.clock.advance(2 * MINUTE);
    assert_ne!(w.verdict(&access), "granted");
    assert_eq!(w.verdict(&next), "granted");
}

#[test]
fn a_client_that_was_disabled_while_its_token_expired_refreshes_when_it_is_enabled() {
    let w = world();
    let (_, refresh) = w.tokens();
    w.server.disable_client(&w.client).unwrap();
    w.clock.advance(5 * HOUR);
    w.server.enable_client(&w.client).unwrap();
    let (access, _) = both(&w.refresh(&refresh));
    assert_eq!(w.verdict(&access), "granted");
    w.assert_sound();
}

/// A key that has expired counts for no cap, and what it is renewed to does.
#[test]
fn an_expired_key_is_renewed_within_the_cap() {
    let w = world();
    let keyspace = NewKeyspace::new("few_at").unwrap();
    let few = KeysPerOwner::Many { cap: Some(1) };
    w.engine
        .create_keyspace(keyspace.keys_per_owner(few))
        .unwrap();
    let issue = || {
        let new = NewKey::new("few_at", "acme").unwrap().expires_in(HOUR);
        w.engine.issue(new).map(|issued| issued.key.id)
    };
    let devices = w.engine.extension("devices").unwrap();
    let renew = |key| {
        let rotation = Rotation::at_once().changing(KeyUpdate::new().expires_in(HOUR));
        devices.change(move |tx| tx.renew(key, &rotation))
    };
    let old = issue().unwrap();
    // Before its end it is a rotation.
    let old = renew(old).unwrap().key.id;
    w.clock.advance(2 * HOUR);
    let at_once = Rotation::at_once();
    let kept = devices.change(move |tx| tx.renew(old, &at_once));
    assert!(matches!(
        kept,
        Err(Error::Conflict(Conflict::Expired { .. }))
    ));
    assert!(w.engine.rotate(old, Rotation::at_once()).is_err());
    let new = renew(old).unwrap();
    assert_eq!(
        (new.key.predecessor, new.old.successor),
        (Some(old), Some(new.key.id))
    );
    assert!(w.engine.verify(new.token.expose()).unwrap().is_granted());
    let revoked = renew(old);
    assert!(matches!(
        revoked,
        Err(Error::Conflict(Conflict::Revoked { .. }))
    ));
    let refused = issue();
    assert!(matches!(
        refused,
        Err(Error::Conflict(Conflict::OwnerAtCap { .. }))
    ));
    w.assert_sound();
    w.clock.advance(2 * HOUR);
    issue().unwrap();
    let refused = renew(new.key.id);
    assert!(matches!(
        refused,
        Err(Error::Conflict(Conflict::OwnerAtCap { .. }))
    ));
    w.assert_sound();
}

/// One that an operator disabled does not come back by a refresh, before its end or after.
#[test]
fn a_key_that_an_operator_disabled_is_not_renewed() {
    let w = world();
    let (access, refresh) = w.tokens();
    w.engine.disable(w.key(&access).id).unwrap();
    w.clock.advance(5 * HOUR);
    assert_eq!(error(&w.refresh(&refresh)), "invalid_grant");
    w.engine
        .revoke(w.key(&access).id, Reason::KeyCompromise)
        .ok();
    assert_eq!(error(&w.refresh(&refresh)), "invalid_grant");
}

#[test]
fn a_server_refuses_jwts_of_others() {
    let w = world();
    for (issuer, audience, works) in [
        (ISSUER, ISSUER, true),
        ("https://other.example", ISSUER, false),
        (ISSUER, "https://other.example", false),
    ] {
        let jwts = Jwts::open(&w.engine, JwtOptions::new(issuer, audience)).unwrap();
        let server = AuthorizationServer::with_jwts(&w.engine, options(), jwts);
        assert_eq!(server.is_ok(), works, "{issuer} {audience}");
    }
}

/// A retry within the window, which is longer than the JWT was good.
#[test]
fn a_retry_without_jwts_gets_an_access_token() {
    let mut w = world();
    let jwts = open_jwts(&w.engine);
    let window = || options().refresh_window(HOUR);
    w.server = AuthorizationServer::with_jwts(&w.engine, window(), jwts).unwrap();
    let (_, refresh) = w.tokens();
    w.server = AuthorizationServer::open(&w.engine, window()).unwrap();
    w.clock.advance(20 * MINUTE);
    let (access, _) = both(&w.refresh(&refresh));
    assert_eq!(w.verdict(&access), "granted");
}

#[test]
fn a_retry_may_name_its_scope_in_any_order() {
    let w = world();
    let (_, refresh) = w.tokens();
    w.clock.advance(2 * MINUTE);
    let ask = |scope| w.refresh_with(&refresh, &[("scope", scope)]);
    let first = both(&ask("read write"));
    assert_eq!(both(&ask("write read")), first);
    assert_eq!(error(&ask("read")), "invalid_scope");
}

/// A token, a code or an authorization of another client's.
#[test]
fn what_is_another_clients_is_refused_and_stays_good() {
    let w = world();
    let (access, refresh) = w.tokens();
    let other = w.service();
    let secret = other.expose_secret().unwrap();
    let keyspace = "acme_at".parse().unwrap();
    let app = gatekey_oauth::server::NewClient::public("Other", keyspace, ["read", "write"]);
    let app = w.server.register(&app.redirect_uri(walk::CB)).unwrap();
    let said = w.refresh_with(&refresh, &[("client_id", &app.client.id)]);
    assert_eq!(error(&said), "invalid_grant");
    for token in [&access, &refresh] {
        for (client, secret) in [(&other, Some(secret)), (&app, None)] {
            let mut pairs = vec![("client_id", client.client.id.as_str()), ("token", token)];
            pairs.extend(secret.map(|secret| ("client_secret", secret)));
            let params = params(&pairs);
            let request = TokenRequest {
                params: &params,
                authorization: None,
            };
            assert_eq!(w.server.revoke(request).unwrap().status, 400);
        }
    }
    assert_eq!(w.verdict(&access), "granted");
    both(&w.refresh(&refresh));
}

/// RFC 8707: one that the server does not know, or that was not asked for at first.
#[test]
fn another_resource_is_refused_at_each_step() {
    let w = world();
    let other = [("resource", "https://other.example")];
    let own = [("resource", ISSUER)];
    let asked = walk::authorize(&w.server, &w.client, &other);
    let gatekey_oauth::server::Authorize::Redirect(url) = asked else {
        panic!("{asked:?}");
    };
    assert_eq!(walk::part(&url, "error"), Some("invalid_target"));
    let code = walk::code(&w.server, &w.client, &["read", "write"]);
    let redeem = |more: &[(&str, &str)]| {
        let usual = [("client_id", w.client.as_str())];
        let usual = walk::with(&usual, &walk::exchange(&code));
        w.ask(&walk::with(&usual, more))
    };
    assert_eq!(error(&redeem(&other)), "invalid_target");
    // It was not in the request.
    assert_eq!(error(&redeem(&own)), "invalid_target");
    let (access, refresh) = both(&redeem(&[]));
    for more in [&other, &own] {
        assert_eq!(error(&w.refresh_with(&refresh, more)), "invalid_target");
    }
    assert_eq!(w.verdict(&access), "granted");
    both(&w.refresh(&refresh));
}

#[test]
fn debug_of_a_request_shows_no_secret() {
    let params = Params::form(b"token=hidden-value&client_secret=hidden-too").unwrap();
    let request = TokenRequest {
        params: &params,
        authorization: Some("Basic aGlkZGVuOmFsc28="),
    };
    let text = format!("{request:?}");
    assert!(text.contains("client_secret"), "{text}");
    for secret in ["hidden", "aGlkZGVu"] {
        assert!(!text.contains(secret), "{text}");
    }
}
