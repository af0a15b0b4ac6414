//! The places of counters go with the keys that they count for.

use std::time::Duration;

use gatekey::{
    Conflict, Denial, Engine, Error, Issued, KeyId, KeyUpdate, KeyspaceUpdate, LevelDefaults,
    Limit, ManualClock, NewKey, Options, Plan, Reason, Requirements, Rotation, Verdict,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::common::{engine_with, granted};

const HOUR: Duration = Duration::from_secs(3_600);

fn engine_with_room(plan: Plan, limited_keys: usize) -> (Engine, ManualClock) {
    engine_with(plan, Options::new().limited_keys(limited_keys))
}

fn hourly() -> Plan {
    Plan::new("p").limit(Limit::per_hour(3).fixed())
}

fn key_of(owner: &str) -> NewKey {
    NewKey::new("acme_live", owner).unwrap()
}

fn used(engine: &Engine, spec: NewKey) -> Issued {
    let issued = engine.issue(spec).unwrap();
    assert_eq!(granted(engine, issued.token.expose(), 1), 1);
    issued
}

fn counted(engine: &Engine) -> usize {
    engine.stats().unwrap().limited_keys
}

fn revoke(engine: &Engine, key: KeyId) {
    engine.revoke(key, Reason::Cessation).unwrap();
}

#[test]
fn keys_that_come_and_go_use_up_no_room() {
    let (engine, _clock) = engine_with_room(hourly(), 50);
    for _ in 0..500 {
        let issued = used(&engine, key_of("acme"));
        assert_eq!(counted(&engine), 1);
        revoke(&engine, issued.key.id);
        assert_eq!(counted(&engine), 0);
        let verdict = engine.verify(issued.token.expose()).unwrap();
        assert!(matches!(verdict, Verdict::Denied(Denial::Revoked { .. })));
        assert_eq!(counted(&engine), 0);
    }
    used(&engine, key_of("other"));
    let stats = engine.stats().unwrap();
    assert_eq!(
        (stats.limits_refused_for_room, stats.limits_evicted),
        (0, 0)
    );
}

#[test]
fn a_lineage_keeps_its_counter_while_one_of_its_keys_is_good() {
    for newest_first in [true, false] {
        let (engine, _clock) = engine_with_room(hourly(), 50);
        let old = used(&engine, key_of("acme"));
        let new = engine
            .rotate(old.key.id, Rotation::with_grace(HOUR))
            .unwrap();
        assert_eq!(granted(&engine, new.token.expose(), 1), 1);
        let (first, last) = match newest_first {
            true => (new.key.id, old.key.id),
            false => (old.key.id, new.key.id),
        };
        let left = match newest_first {
            true => &old.token,
            false => &new.token,
        };
        revoke(&engine, first);
        assert_eq!(granted(&engine, left.expose(), 5), 1, "of 3 two were used");
        assert_eq!(counted(&engine), 1);
        revoke(&engine, last);
        assert_eq!(counted(&engine), 0);
    }
}

/// The key that has expired is none of those that the good one was rotated from, and leads to it.
#[test]
fn a_key_beside_the_line_of_the_good_one_takes_no_counter_with_it() {
    let (engine, clock) = engine_with_room(hourly(), 50);
    let old = used(&engine, key_of("acme"));
    let short = KeyUpdate::new().expires_in(Duration::from_secs(60));
    let rotation = Rotation::with_grace(HOUR).changing(short);
    let expired = engine.rotate(old.key.id, rotation).unwrap();
    clock.advance(Duration::from_secs(61));
    let again = KeyUpdate::new().expires_in(HOUR);
    let rotation = Rotation::with_grace(HOUR).changing(again);
    let good = engine.rotate(old.key.id, rotation).unwrap();
    revoke(&engine, old.key.id);
    revoke(&engine, expired.key.id);
    assert_eq!(counted(&engine), 1);
    assert_eq!(granted(&engine, good.token.expose(), 5), 2);
}

#[test]
fn keys_that_replace_each_other_are_counted_on() {
    let (engine, _clock) = engine_with_room(hourly(), 50);
    let mut last = used(&engine, key_of("acme")).key.id;
    for round in 0..80 {
        let rotated = engine.rotate(last, Rotation::at_once()).unwrap();
        let expected = u32::from(round < 2);
        assert_eq!(granted(&engine, rotated.token.expose(), 1), expected);
        assert_eq!(counted(&engine), 1);
        last = rotated.key.id;
    }
}

#[test]
fn a_key_that_can_be_resumed_keeps_its_counter() {
    let (engine, _clock) = engine_with_room(hourly(), 50);
    let issued = used(&engine, key_of("acme"));
    engine.suspend("acme", None).unwrap();
    engine.flush().unwrap();
    assert_eq!(counted(&engine), 1);
    engine.resume("acme").unwrap();
    assert_eq!(granted(&engine, issued.token.expose(), 5), 2);
}

#[test]
fn keys_with_limits_of_their_own_give_their_place_back() {
    let (engine, _clock) = engine_with_room(hourly(), 50);
    let own = key_of("acme").limits([Limit::per_minute(5).bucket(2)]);
    let issued = used(&engine, own);
    assert_eq!(counted(&engine), 1);
    revoke(&engine, issued.key.id);
    assert_eq!(counted(&engine), 0);
}

/// Of organisations that have more keys than there is room for, at random.
#[test]
fn a_wait_for_room_that_is_obeyed_is_the_last() {
    let mut waits = 0;
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let plans = [
            Plan::new("a").limit(Limit::per_minute(100).fixed()),
            Plan::new("b").limit(Limit::per_second(5)),
            Plan::new("c").limit(Limit::per_minute(60).bucket(10)),
        ];
        let of_projects = plans[random.random_range(0..3)].clone();
        let room = random.random_range(3..9);
        let (engine, clock) = engine_with_room(of_projects.clone(), room);
        let update = plans
            .iter()
            .cloned()
            .fold(KeyspaceUpdate::new(), KeyspaceUpdate::plan);
        let defaults = LevelDefaults::new().plan(&of_projects.name);
        engine
            .update_keyspace("acme_live", update.owner_defaults(2, defaults))
            .unwrap();
        let keys: Vec<_> = (0..12)
            .map(|at| {
                let owner = format!("{}/p{}", ["x", "y", "z"][at % 3], at / 3);
                let plan = &plans[random.random_range(0..3)].name;
                engine.issue(key_of(&owner).plan(plan)).unwrap()
            })
            .collect();
        for _ in 0..60 {
            let token = keys[random.random_range(0..keys.len())].token.expose();
            let asked = Requirements::new().cost(random.random_range(0..4));
            clock.advance(Duration::from_millis(random.random_range(1_001..3_000)));
            match engine.verify_with(token, &asked).unwrap() {
                Verdict::Granted(_) => {}
                Verdict::Denied(Denial::RateLimited { retry_after, .. }) => {
                    // A moment more, by which the engine's clock is late here.
                    clock.advance(retry_after.unwrap());
                    let again = engine.verify_with(token, &asked).unwrap();
                    assert!(again.is_granted(), "{seed}: {again:?}");
                    waits += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(waits > 1_000, "{waits}");
}

#[test]
fn a_counter_that_keys_of_an_owner_share_stays() {
    let (engine, _clock) = engine_with_room(hourly().shared_by_owner(), 50);
    let keys = [0; 2].map(|_| used(&engine, key_of("acme")));
    revoke(&engine, keys[0].key.id);
    assert_eq!(counted(&engine), 1);
    assert_eq!(granted(&engine, keys[1].token.expose(), 5), 1);
}

/// The keys are behind their owner for a while: their places are free once they are brought
/// up.
#[test]
fn the_places_of_an_owner_s_or_a_keyspace_s_keys_are_free_once_they_are_brought_up() {
    for of_keyspace in [false, true] {
        let (engine, _clock) = engine_with_room(hourly(), 5_000);
        for _ in 0..2_500 {
            used(&engine, key_of("acme/ingest"));
        }
        used(&engine, key_of("other"));
        match of_keyspace {
            true => drop(
                engine
                    .revoke_keyspace("acme_live", Reason::Cessation)
                    .unwrap(),
            ),
            false => drop(engine.revoke_owner("acme", Reason::Cessation).unwrap()),
        }
        engine.flush().unwrap();
        assert_eq!(counted(&engine), usize::from(!of_keyspace));
    }
}

/// B expires in the grace of A, which is rotated to C; then A and C are revoked.
#[test]
fn a_key_beside_the_line_is_not_renewed_and_gets_no_counter_of_its_own() {
    for is_revoked in [false, true] {
        let (engine, clock) = engine_with_room(hourly(), 50);
        let devices = engine.extension("devices").unwrap();
        let first = used(&engine, key_of("acme"));
        let rotated = |seconds| {
            let expiry = KeyUpdate::new().expires_in(Duration::from_secs(seconds));
            let rotation = Rotation::with_grace(HOUR).changing(expiry);
            engine.rotate(first.key.id, rotation).unwrap()
        };
        let expired = rotated(60);
        clock.advance(Duration::from_secs(61));
        let last = rotated(3_600);
        assert_eq!(granted(&engine, last.token.expose(), 9), 2);
        if is_revoked {
            revoke(&engine, first.key.id);
            revoke(&engine, last.key.id);
        }
        let id = expired.key.id;
        let rotation = Rotation::at_once().changing(KeyUpdate::new().expires_in(HOUR));
        let renewed = devices.change(move |tx| tx.renew(id, &rotation));
        assert_eq!(
            renewed.unwrap_err().to_string(),
            Error::from(Conflict::AlreadyRotated {
                key: id,
                successor: last.key.id
            })
            .to_string()
        );
        assert_eq!(counted(&engine), usize::from(!is_revoked));
    }
}

/// However keys are rotated, renewed, revoked and end, those of a line are counted together.
#[test]
fn a_line_of_keys_has_one_counter_whatever_is_done_to_it() {
    let plan = || Plan::new("p").limit(Limit::per_hour(50).fixed());
    for seed in 0..150 {
        let mut random = StdRng::seed_from_u64(seed);
        let (engine, clock) = engine_with_room(plan(), 500);
        let devices = engine.extension("devices").unwrap();
        let first = used(&engine, key_of("acme"));
        let (mut keys, mut uses) = (vec![(first.key.id, first.token)], 1);
        let mut told = String::new();
        for _ in 0..40 {
            let at = random.random_range(0..keys.len());
            let (id, token) = &keys[at];
            let id = *id;
            let expiry = |seconds| KeyUpdate::new().expires_in(Duration::from_secs(seconds));
            let seconds = [60, 300, 18_000][random.random_range(0..3)];
            let rotated = match random.random_range(0..6) {
                0 | 1 => {
                    let grace = Duration::from_secs(random.random_range(0..3) * 300);
                    let rotation = Rotation::with_grace(grace).changing(expiry(seconds));
                    engine.rotate(id, rotation).ok()
                }
                2 => {
                    let rotation = Rotation::at_once().changing(expiry(seconds));
                    devices.change(move |tx| tx.renew(id, &rotation)).ok()
                }
                3 => {
                    let _ = engine.revoke(id, Reason::Cessation);
                    None
                }
                4 => {
                    clock.advance(Duration::from_secs(61));
                    None
                }
                _ => {
                    uses += granted(&engine, token.expose(), 1);
                    None
                }
            };
            if let Some(rotated) = rotated {
                told.push_str(&format!("{at} -> {}; ", keys.len()));
                keys.push((rotated.key.id, rotated.token));
            }
            for (id, token) in &keys {
                let asked = Requirements::new();
                let dry = engine.dry_run(token.expose(), &asked).unwrap();
                if dry.is_granted() {
                    let left = engine.limits_left(*id).unwrap()[0].remaining();
                    assert_eq!(left, 50 - uses, "seed {seed}: {told}");
                }
            }
        }
    }
}
