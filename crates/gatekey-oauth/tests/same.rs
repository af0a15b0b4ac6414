//! A JWT that was seen before is answered as one that is seen for the first time, whatever
//! changed between.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use gatekey::{
    Clock as _, Engine, Issued, KeyUpdate, KeyspaceUpdate, ManualClock, NewKey, NewKeyspace,
    Options, Reason, Requirements, Rotation, SystemClock,
};
use gatekey_oauth::{JwtOptions, Jwts};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

const ISSUER: &str = "https://api.example.com";
const NAMES: [&str; 4] = ["read", "write", "list", "erase"];
const ASKED: [Requirements<'_>; 3] = [
    Requirements::new(),
    Requirements::new().permissions(&["read"]),
    Requirements::new().permissions(&["write", "list"]),
];

struct World {
    random: StdRng,
    engine: Engine,
    clock: ManualClock,
    /// Remembers what it has seen.
    seen: Jwts,
    /// Remembers nothing.
    first: Jwts,
    keys: Vec<Issued>,
    jwts: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let clock = ManualClock::at(SystemClock.now());
        let engine = Options::new().clock(clock.clone());
        let engine = engine.open_in_memory().unwrap();
        let keyspace = NewKeyspace::new("acme_live").unwrap().permissions(NAMES);
        engine.create_keyspace(keyspace).unwrap();
        let options = JwtOptions::new(ISSUER, ISSUER);
        let mut world = Self {
            random: StdRng::seed_from_u64(seed),
            seen: Jwts::open(&engine, options.clone()).unwrap(),
            first: Jwts::open(&engine, options.remembered(0)).unwrap(),
            engine,
            clock,
            keys: Vec::new(),
            jwts: Vec::new(),
        };
        (0..6).for_each(|_| world.issue());
        world
    }

    fn some_names(&mut self) -> Vec<&'static str> {
        let count = self.random.random_range(1..=NAMES.len());
        NAMES.sample(&mut self.random, count).copied().collect()
    }

    fn issue(&mut self) {
        let owner = ["acme/etl", "acme/web", "globex"].choose(&mut self.random);
        let names = self.some_names();
        let new = NewKey::new("acme_live", *owner.unwrap()).unwrap();
        // Of a permission that was retired none is issued.
        let Ok(key) = self.engine.issue(new.permissions(names)) else {
            return;
        };
        let scopes = (0..2).map(|_| self.some_names()).collect::<Vec<_>>();
        for scope in [None]
            .into_iter()
            .chain(scopes.iter().map(|scope| Some(&scope[..])))
        {
            let token = key.token.expose();
            if let Ok(Ok(jwt)) = self.seen.exchange(token, &ASKED[0], scope) {
                self.jwts.push(jwt.expose().to_owned());
            }
        }
        self.keys.push(key);
    }

    /// Changes something, where what was drawn can be.
    fn change(&mut self) -> String {
        let key = self.keys.choose(&mut self.random).unwrap().key.id;
        let names = self.some_names();
        let engine = &self.engine;
        let number = self.random.random_range(0..14);
        let owner = ["acme", "acme/etl", "globex"].choose(&mut self.random);
        let owner = *owner.unwrap();
        let done = match number {
            0 => engine.revoke(key, Reason::KeyCompromise).map(drop),
            1 => engine.disable(key).map(drop),
            2 => engine.enable(key).map(drop),
            3 | 4 => {
                let update = KeyUpdate::new().set_permissions(names);
                engine.update(key, update).map(drop)
            }
            5 => {
                let grace = Duration::from_secs(120);
                let rotation = Rotation::with_grace(grace);
                engine.rotate(key, rotation).map(drop)
            }
            6 => engine.suspend(owner, None).map(drop),
            7 => engine.resume(owner).map(drop),
            8 => {
                let retired = KeyspaceUpdate::new().retire_permissions(names.first().copied());
                engine.update_keyspace("acme_live", retired).map(drop)
            }
            9 => self.seen.rotate_signing_keys().map(drop),
            10 => {
                let kids = self.seen.signing_keys();
                let kid = kids.choose(&mut self.random).unwrap();
                self.first.revoke_signing_key(&kid.kid).map(drop)
            }
            11 | 12 => {
                self.clock
                    .advance(Duration::from_secs(self.random.random_range(1..200)));
                Ok(())
            }
            _ => {
                self.issue();
                Ok(())
            }
        };
        format!("change {number}: {done:?}")
    }

    /// What all JWTs come to, of which both handles say the same.
    fn compare(&self, changes: &[String]) -> (usize, usize) {
        let mut granted = 0;
        for jwt in &self.jwts {
            for asked in &ASKED {
                let seen = self.seen.verify(jwt, asked).unwrap();
                let first = self.first.verify(jwt, asked).unwrap();
                assert_eq!(format!("{seen:?}"), format!("{first:?}"), "{changes:#?}");
                granted += usize::from(seen.is_granted());
            }
        }
        (granted, self.jwts.len() * ASKED.len() - granted)
    }
}

#[test]
fn a_jwt_that_was_seen_is_answered_as_at_first_sight_after_any_changes() {
    let (mut granted, mut denied) = (0, 0);
    for seed in 0..24 {
        let mut world = World::new(seed);
        let mut changes = Vec::new();
        for _ in 0..40 {
            let (more, less) = world.compare(&changes);
            granted += more;
            denied += less;
            let change = world.change();
            changes.push(change);
        }
        world.compare(&changes);
        world.engine.close().unwrap();
    }
    // Both happen often enough to say something.
    assert!(granted > 1_000 && denied > 1_000, "{granted}, {denied}");
}
