//! After a restore, what was taken away since the backup is taken away again.

use gatekey::{Error, Options, Restore};
use gatekey_oauth::server::{AuthorizationServer, NewClient};

use super::damage::damage;
use super::{DAY, HOUR, MINUTE, World, both, error, open_jwts, options, walk, world};

/// What was lost and restored: the world of the restored store, and the trail.
fn restored(w: World, backup: &str, trail: &[Vec<u8>]) -> World {
    let mut w = w;
    w.engine.clone().close().unwrap();
    let backup = w.dir.path().join(backup);
    let target = w.dir.path().join("restored.redb");
    let opened = Options::new().clock(w.clock.clone());
    let restore = trail.iter().fold(Restore::new(backup, opened), |all, one| {
        all.trail(one.as_slice())
    });
    restore.to(&target).unwrap();
    w.open(target);
    w
}

fn back_up(w: &World) -> u64 {
    let to = w.dir.path().join("backup.redb");
    w.engine.backup(to).unwrap().audit_seq
}

fn export(w: &World, from: u64) -> Vec<u8> {
    let mut trail = Vec::new();
    w.engine.export_audit(from, &mut trail).unwrap();
    trail
}

#[test]
fn what_was_taken_away_since_the_backup_is_taken_away_again() {
    let w = world();
    let keyspace = "acme_at".parse().unwrap();
    let other = NewClient::public("Other", keyspace, ["read"]).redirect_uri(walk::CB);
    let other = w.server.register(&other).unwrap().client.id;
    let enabled = NewClient::public("Enabled", keyspace, ["read"]).redirect_uri(walk::CB);
    let enabled = w.server.register(&enabled).unwrap().client.id;
    let by_operator = w.tokens();
    let by_client = w.tokens();
    let by_refresh = w.tokens();
    let moved_on = w.tokens();
    let untouched = w.tokens();
    w.clock.advance(2 * MINUTE);
    let (_, newer) = both(&w.refresh(&by_refresh.1));
    let code = walk::code(&w.server, &w.client, &["read", "write"]);
    let by_code = both(&w.redeem(&code));
    let seq = back_up(&w);

    w.server.disable_client(&other).unwrap();
    w.server.disable_client(&enabled).unwrap();
    w.server.enable_client(&enabled).unwrap();
    let id = w.authorization(&by_operator.0);
    assert!(w.server.revoke_authorization(&id).unwrap());
    assert_eq!(w.revoke(&by_client.1), 200);
    assert_eq!(error(&w.redeem(&code)), "invalid_grant");
    w.clock.advance(2 * HOUR);
    assert_eq!(error(&w.refresh(&by_refresh.1)), "invalid_grant");
    both(&w.refresh(&moved_on.1));
    let trail = [export(&w, seq + 1)];

    let w = restored(w, "backup.redb", &trail);
    let applied = w
        .server
        .apply_trail(trail.iter().map(Vec::as_slice))
        .unwrap();
    assert_eq!((applied.clients_disabled, applied.unread), (1, 0));
    assert_eq!(applied.authorizations_revoked, 5);
    let is_disabled = |id| w.server.client(id).unwrap().unwrap().disabled;
    assert!(is_disabled(&other));
    assert!(!is_disabled(&enabled) && !is_disabled(&w.client));
    for token in [
        &by_operator.1,
        &by_client.1,
        &by_code.1,
        &by_refresh.1,
        &newer,
        &moved_on.1,
    ] {
        assert_eq!(error(&w.refresh(token)), "invalid_grant");
    }
    both(&w.refresh(&untouched.1));
    w.assert_sound();
    // A second time there is nothing left to do, and nothing is given back.
    let again = w
        .server
        .apply_trail(trail.iter().map(Vec::as_slice))
        .unwrap();
    assert_eq!(again, gatekey_oauth::server::TrailApplied::default());
    assert!(is_disabled(&other));
}

#[test]
fn exports_are_applied_in_their_order_and_nothing_is_given() {
    let w = world();
    let (_, refresh) = w.tokens();
    w.clock.advance(2 * MINUTE);
    let (_, refresh) = both(&w.refresh(&refresh));
    let seq = back_up(&w);
    w.server.disable_client(&w.client).unwrap();
    let first = export(&w, seq + 1);
    let middle = w.engine.audit_span().unwrap().last.seq;
    w.server.enable_client(&w.client).unwrap();
    let second = export(&w, middle + 1);
    let whole = export(&w, 0);
    w.clock.advance(DAY);

    let w = restored(w, "backup.redb", &[first.clone(), second.clone()]);
    let all = [first.as_slice(), &second];
    let applied = w.server.apply_trail(all).unwrap();
    assert_eq!(applied.clients_disabled, 0);
    // They may overlap.
    let applied = w.server.apply_trail([whole.as_slice(), &first]).unwrap();
    assert_eq!(applied.clients_disabled, 0);
    // The backup has the refresh that stands before it in the trail.
    assert_eq!(applied.authorizations_revoked, 0);
    both(&w.refresh(&refresh));
    // What was enabled in the trail is not enabled here.
    w.server.disable_client(&w.client).unwrap();
    w.server.apply_trail(all).unwrap();
    assert!(w.server.client(&w.client).unwrap().unwrap().disabled);
    w.server.enable_client(&w.client).unwrap();
    let applied = w.server.apply_trail([first.as_slice()]).unwrap();
    assert_eq!(applied.clients_disabled, 1);
}

/// What another extension notes, in the same words.
#[test]
fn what_another_extension_notes_takes_nothing_away() {
    let w = world();
    let client = w.client.clone();
    let devices = w.engine.extension("devices").unwrap();
    devices
        .change(move |tx| tx.audit("client_disabled", &client, None))
        .unwrap();
    let whole = export(&w, 0);
    let applied = w.server.apply_trail([whole.as_slice()]).unwrap();
    assert_eq!(applied, gatekey_oauth::server::TrailApplied::default());
    assert!(!w.server.client(&w.client).unwrap().unwrap().disabled);
}

#[test]
fn a_trail_is_applied_around_what_is_damaged() {
    let mut w = world();
    let (access, _) = w.tokens();
    let (good, refresh) = w.tokens();
    let (id, good) = (w.authorization(&access), w.authorization(&good));
    let service = w.service().client.id;
    let seq = back_up(&w);
    assert!(w.server.revoke_authorization(&id).unwrap());
    assert!(w.server.revoke_authorization(&good).unwrap());
    w.server.disable_client(&service).unwrap();
    w.server.disable_client(&w.client).unwrap();
    let trail = [export(&w, seq + 1)];
    w = restored(w, "backup.redb", &trail);
    w.edit(|txn| {
        damage(txn, "authorizations", Some(&id));
        damage(txn, "clients", Some(&service));
    });
    let exports = trail.iter().map(Vec::as_slice);
    let applied = w.server.apply_trail(exports).unwrap();
    assert_eq!((applied.clients_disabled, applied.unread), (1, 2));
    assert_eq!(applied.authorizations_revoked, 1);
    w.server.enable_client(&w.client).unwrap();
    assert_eq!(error(&w.refresh(&refresh)), "invalid_grant");
}

#[test]
fn a_trail_with_a_gap_or_an_altered_one_changes_nothing() {
    let w = world();
    let (access, _) = w.tokens();
    w.server.disable_client(&w.client).unwrap();
    let first = export(&w, 0);
    let seq = w.engine.audit_span().unwrap().last.seq;
    w.server.enable_client(&w.client).unwrap();
    w.server.disable_client(&w.client).unwrap();
    let beyond = export(&w, seq + 2);
    w.server.enable_client(&w.client).unwrap();
    let refused = w.server.apply_trail([first.as_slice(), &beyond]);
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    let text = String::from_utf8(first.clone()).unwrap();
    // One digit of the last line.
    let (kept, last) = text.trim_end().rsplit_once('\n').unwrap();
    let at = last.rfind(|letter: char| letter.is_ascii_digit()).unwrap();
    let mut last = last.to_owned();
    let other = if last[at..].starts_with('7') {
        "8"
    } else {
        "7"
    };
    last.replace_range(at..=at, other);
    let altered = format!("{kept}\n{last}\n");
    assert!(w.server.apply_trail([altered.as_bytes()]).is_err());
    assert!(
        w.server
            .apply_trail([&text.as_bytes()[..text.len() - 1]])
            .is_err()
    );
    assert!(!w.server.client(&w.client).unwrap().unwrap().disabled);
    assert_eq!(w.verdict(&access), "granted");
}

#[test]
fn a_signing_key_that_was_revoked_since_the_backup_is_removed_again() {
    for by_server in [false, true] {
        let w = world();
        let jwts = open_jwts(&w.engine);
        let (access, _) = w.tokens();
        let jwt = jwts.exchange(&access, &super::READ, None).unwrap().unwrap();
        let seq = back_up(&w);
        let current = jwts.signing_keys().into_iter();
        let current = current
            .filter(|key| key.usage == gatekey_oauth::KeyUse::Current)
            .map(|key| key.kid)
            .next()
            .unwrap();
        assert!(jwts.revoke_signing_key(&current).unwrap());
        let trail = [export(&w, seq + 1)];
        drop(jwts);
        let w = restored(w, "backup.redb", &trail);
        let jwts = open_jwts(&w.engine);
        let is_good = || {
            jwts.verify(jwt.expose(), &super::READ)
                .unwrap()
                .is_granted()
        };
        assert!(is_good());
        let exports = trail.iter().map(Vec::as_slice);
        let revoked = match by_server {
            true => {
                let server = AuthorizationServer::with_jwts(&w.engine, options(), jwts.clone());
                let applied = server.unwrap().apply_trail(exports).unwrap();
                applied.signing_keys_revoked
            }
            false => jwts.apply_trail(exports).unwrap(),
        };
        assert_eq!(revoked, 1);
        assert!(!is_good());
        w.assert_sound();
    }
}
