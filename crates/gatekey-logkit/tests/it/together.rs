//! Servers that change and verify the same keys.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gatekey::{
    Clock, Credential, Engine, Error, ForeignHash, ForeignKey, KeyUpdate, NewImport, NewKey,
    NewKeyspace, NotFound, Quota, Reason, Rotation, Timestamp,
};

use crate::common::{LONG, Servers, granted, keys_of, position, until};

#[test]
fn what_one_server_issues_every_other_grants() {
    let servers = Servers::new(3, LONG);
    let issued = servers.issue(1, "acme/etl").unwrap();
    assert_eq!(granted(&servers.engines[1], &issued), Some(true));
    servers.settle();
    for engine in &servers.engines {
        assert_eq!(granted(engine, &issued), Some(true));
    }
    servers.close_equal();
}

#[test]
fn a_revocation_that_returned_is_granted_nowhere() {
    let servers = Servers::new(4, LONG);
    for round in 0..50 {
        let issued = servers.issue(round % 4, "acme").unwrap();
        servers.settle();
        for engine in &servers.engines {
            // Also from memory.
            assert_eq!(granted(engine, &issued), Some(true));
        }
        let revoker = &servers.engines[(round + 1) % 4];
        revoker
            .revoke(issued.key.id, Reason::KeyCompromise)
            .unwrap();
        for engine in &servers.engines {
            assert_eq!(granted(engine, &issued), Some(false), "round {round}");
        }
    }
    servers.close_equal();
}

/// Others answer their callers as soon as a server says that it has an entry.
#[test]
fn a_server_says_that_it_has_an_entry_once_it_verifies_by_it() {
    const KEYS: usize = 400;
    let settings = |settings: gatekey::fleet::Settings| settings.locally();
    let servers = Servers::with(2, LONG, |options| options, settings);
    let keys: Vec<_> = (0..KEYS)
        .map(|_| servers.issue(0, "acme").unwrap())
        .collect();
    servers.settle();
    let [revoker, server] = &servers.engines[..] else {
        panic!("there are two");
    };
    // From memory too.
    assert!(keys.iter().all(|key| granted(server, key) == Some(true)));
    let before = position(server);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for key in &keys {
                revoker.revoke(key.key.id, Reason::Cessation).unwrap();
            }
        });
        let mut known = 0;
        until("all are revoked", || {
            for _ in 0..10_000 {
                let revoked = usize::try_from(position(server) - before).unwrap();
                for key in &keys[known..revoked] {
                    assert_eq!(granted(server, key), Some(false), "key {revoked} of {KEYS}");
                }
                known = revoked;
            }
            known == KEYS
        });
    });
    servers.close_equal();
}

/// More keys than change with the owner, so that their records follow in other entries.
#[test]
fn an_owner_of_many_keys_that_is_suspended_is_granted_nowhere() {
    const KEYS: usize = 600;
    let servers = Servers::new(3, LONG);
    let new = vec![NewKey::new("acme_live", "acme/etl").unwrap(); KEYS];
    let issued = servers.engines[0].issue_batch(new).unwrap();
    servers.settle();
    let all = |node: usize| {
        let engine = &servers.engines[node];
        let is_granted = |issued| granted(engine, issued).unwrap();
        let count = issued.iter().filter(|issued| is_granted(issued)).count();
        assert!(engine.check().unwrap().is_sound(), "server {node}");
        count
    };
    // Also from memory.
    assert_eq!([0, 1, 2].map(all), [KEYS; 3]);
    for _ in 0..3 {
        servers.engines[0].suspend("acme", None).unwrap();
        assert_eq!([0, 1, 2].map(all), [0; 3]);
        servers.engines[1].resume("acme").unwrap();
        servers.settle();
        assert_eq!([0, 1, 2].map(all), [KEYS; 3]);
    }
    servers.close_equal();
}

/// Without a wait for the others, the bound holds all the same.
#[test]
fn a_revocation_that_does_not_wait_is_granted_nowhere_soon() {
    let settings = |settings: gatekey::fleet::Settings| settings.locally();
    let servers = Servers::with(3, LONG, |options| options, settings);
    let issued = servers.issue(0, "acme").unwrap();
    servers.settle();
    servers.engines[0]
        .revoke(issued.key.id, Reason::KeyCompromise)
        .unwrap();
    for engine in &servers.engines {
        until("it is denied", || granted(engine, &issued) == Some(false));
    }
    servers.close_equal();
}

#[test]
fn all_changes_of_servers_that_overtake_each_other_succeed() {
    const EACH: usize = 40;
    let servers = Servers::new(4, LONG);
    std::thread::scope(|scope| {
        for (node, engine) in servers.engines.iter().enumerate() {
            for thread in 0..2 {
                scope.spawn(move || {
                    for _ in 0..EACH {
                        let owner = format!("acme/{node}/{thread}");
                        engine
                            .issue(NewKey::new("acme_live", &owner).unwrap())
                            .unwrap();
                    }
                });
            }
        }
    });
    servers.settle();
    let keys = keys_of(&servers.engines[2]);
    assert_eq!(keys.len(), 4 * 2 * EACH);
    servers.close_equal();
}

/// A single-active keyspace has one active key, whoever issues it.
#[test]
fn rules_of_one_server_hold_for_all() {
    let servers = Servers::new(3, LONG);
    let single = NewKeyspace::new("one_live").unwrap().single_active();
    servers.engines[0].create_keyspace(single).unwrap();
    std::thread::scope(|scope| {
        for engine in &servers.engines {
            scope.spawn(move || {
                for _ in 0..20 {
                    engine
                        .issue(NewKey::new("one_live", "acme").unwrap())
                        .unwrap();
                }
            });
        }
    });
    servers.settle();
    let keys = keys_of(&servers.engines[1]);
    let active = keys
        .iter()
        .filter(|key| key.state == gatekey::KeyState::Active);
    assert_eq!((keys.len(), active.count()), (60, 1));
    servers.close_equal();
}

/// A refusal is an answer too: what one server has issued, another finds at once.
#[test]
fn a_change_never_meets_a_state_of_before_another_that_returned() {
    let servers = Servers::new(2, LONG);
    servers.logs[1].delay(Duration::from_millis(1));
    for _ in 0..30 {
        let issued = servers.issue(0, "acme").unwrap();
        let update = KeyUpdate::new().name("seen");
        servers.engines[1].update(issued.key.id, update).unwrap();
        let rotated = servers.engines[1]
            .rotate(issued.key.id, Rotation::default())
            .unwrap();
        servers.engines[0]
            .revoke(rotated.key.id, Reason::KeyCompromise)
            .unwrap();
    }
    let unknown: gatekey::KeyId = "0000000000".parse().unwrap();
    let refused = servers.engines[1].revoke(unknown, Reason::KeyCompromise);
    assert!(matches!(refused, Err(Error::NotFound(NotFound::Key(_)))));
    servers.close_equal();
}

/// Whoever revokes by a token need not know which server has issued it.
#[test]
fn a_token_that_another_server_has_just_issued_is_revoked() {
    let servers = Servers::new(2, LONG);
    servers.logs[1].delay(Duration::from_millis(5));
    for _ in 0..20 {
        let issued = servers.issue(0, "acme").unwrap();
        let token = issued.token.expose();
        let revoked = servers.engines[1].revoke_token(token, Reason::KeyCompromise);
        assert_eq!(revoked.unwrap().key, issued.key.id);
        assert_eq!(granted(&servers.engines[0], &issued), Some(false));
    }
    let refused = servers.engines[1].revoke_token("no token", Reason::KeyCompromise);
    assert!(matches!(refused, Err(Error::NotFound(NotFound::Token))));
    // It does not know that there is none.
    servers.logs[1].cut(true);
    let refused = servers.engines[1].revoke_token("no token", Reason::KeyCompromise);
    assert!(matches!(refused, Err(Error::Log(_))));
    servers.close_equal();
}

/// By one that has not heard of what another has just done, and would refuse it.
#[test]
fn a_change_is_refused_by_the_newest_state_alone() {
    let servers = Servers::new(2, LONG);
    servers.logs[1].delay(Duration::from_millis(5));
    let [one, two] = &servers.engines[..] else {
        panic!("there are two");
    };
    for _ in 0..20 {
        let key = servers.issue(0, "acme").unwrap().key.id;
        let described = KeyUpdate::default().name("etl");
        assert_eq!(two.update(key, described).unwrap().id, key);
        one.disable(key).unwrap();
        two.enable(key).unwrap();
        one.revoke(key, Reason::KeyCompromise).unwrap();
        assert!(matches!(two.disable(key), Err(Error::Conflict(_))), "{key}");
    }
    servers.close_equal();
}

#[test]
fn a_quota_is_spent_once_for_all_servers() {
    let servers = Servers::new(3, LONG);
    spend_a_quota(&servers);
    servers.close_equal();
}

/// A clock that stands still for two seconds.
#[derive(Debug)]
struct Coarse;

impl Clock for Coarse {
    fn now(&self) -> Timestamp {
        let now = gatekey::SystemClock.now().unix_ms();
        Timestamp::from_unix_ms(now - now % 2_000).unwrap()
    }
}

/// Entries of the same content at the same instant are of their servers all the same.
#[test]
fn a_quota_is_spent_once_by_servers_that_ask_at_one_instant() {
    let servers = Servers::with(
        3,
        LONG,
        |options| options.clock(Coarse),
        |settings| settings,
    );
    for log in &servers.logs {
        log.delay(Duration::from_millis(1));
    }
    spend_a_quota(&servers);
    for log in &servers.logs {
        log.delay(Duration::ZERO);
    }
    servers.close_equal();
}

fn spend_a_quota(servers: &Servers) {
    const QUOTA: u64 = 300;
    let new = NewKey::new("acme_live", "acme")
        .unwrap()
        .quota(Quota::new(QUOTA));
    let issued = servers.engines[0].issue(new).unwrap();
    servers.settle();
    let spent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for engine in &servers.engines {
            let (issued, spent) = (&issued, &spent);
            scope.spawn(move || {
                for _ in 0..QUOTA {
                    if granted(engine, issued) == Some(true) {
                        spent.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    // A slice that a server holds is spent by it alone.
    let spent = spent.load(Ordering::SeqCst);
    assert!((QUOTA / 2..=QUOTA).contains(&spent), "{spent}");
}

/// The keys of another system are imported by one server, and good on every one: by the hash
/// that the source kept, by the digest of the token after the first use, and once claimed.
#[test]
fn what_one_server_imports_every_other_grants() {
    let servers = Servers::new(2, LONG);
    let [first, second] = &servers.engines[..] else {
        panic!("two");
    };
    let (used, other, claimed) = ("uk_first_token", "uk_other_token", "gitea_token_of_17");
    first
        .begin_import(NewImport::new("old", ForeignHash::Plain))
        .unwrap();
    first
        .begin_import(NewImport::new("gitea", ForeignHash::Other))
        .unwrap();
    let key = |credential| {
        let key = NewKey::new("acme_live", "acme/moved").unwrap();
        ForeignKey::new(key, credential)
    };
    let tokens = [used, other].map(|token| key(Credential::token(token)));
    first.import_keys("old", tokens.to_vec()).unwrap();
    let waits = key(Credential::claimed()).id("17");
    first.import_keys("gitea", vec![waits]).unwrap();
    servers.settle();

    let grants = |engine: &Engine, token: &str| engine.verify(token).unwrap().is_granted();
    assert!(grants(second, used) && !grants(second, claimed));
    second.flush().unwrap();
    second.claim("gitea", "17", claimed).unwrap();
    servers.settle();
    for engine in [first, second] {
        assert!(grants(engine, used) && grants(engine, claimed));
        let unseen: Vec<u64> = engine
            .imports()
            .unwrap()
            .iter()
            .map(|it| it.unseen)
            .collect();
        assert_eq!(unseen, [1, 0]);
    }
    // The sunset ends the one that nobody used, on both.
    let sunset = Some(Timestamp::MIN);
    second.set_sunset("old", sunset).unwrap();
    assert!(!grants(first, other) && grants(first, used));
    first.flush().unwrap();
    servers.settle();
    assert!(!grants(second, other));
    servers.close_equal();
}
