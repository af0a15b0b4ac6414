//! Calls on the keys of an owner, drawn at random, and what they told.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use gatekey::{
    Engine, Error, KeyId, KeyUpdate, NewKey, Reason, Refusal, Requirements, Rotation, Verdict,
};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::history::{Call, KEYS, Key, Owner, Told, Verb};

pub(crate) const OWNER: &str = "acme/etl";

/// What [`Keys`] begins with.
pub(crate) const BEGIN: Owner = {
    let good = Key::Good {
        disabled: false,
        may_write: true,
    };
    Owner {
        suspended: false,
        keys: [good, good, Key::Absent, Key::Absent],
    }
};

/// A key with all that a history can take away.
pub(crate) fn new_key() -> NewKey {
    let key = NewKey::new("acme", OWNER).unwrap();
    key.permissions(["read", "write"])
}

/// Two keys of an owner, and room for what they are rotated to.
pub(crate) struct Keys {
    known: [OnceLock<(KeyId, String)>; KEYS],
    /// How many places are given away.
    taken: AtomicUsize,
    ticks: AtomicU64,
}

impl Keys {
    pub(crate) fn new(engine: &Engine) -> Self {
        let keys = Self {
            known: Default::default(),
            taken: AtomicUsize::new(2),
            ticks: AtomicU64::new(0),
        };
        let issued = engine.issue_batch(vec![new_key(); 2]).unwrap();
        for (place, issued) in keys.known.iter().zip(issued) {
            let token = issued.token.expose().to_owned();
            place.set((issued.key.id, token)).unwrap();
        }
        keys
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// The places of the keys that are known.
    fn known(&self) -> impl Iterator<Item = usize> {
        (0..KEYS).filter(|at| self.known[*at].get().is_some())
    }

    /// Draws a call on keys that are known.
    pub(crate) fn draw(&self, random: &mut StdRng) -> Verb {
        let known: Vec<usize> = self.known().collect();
        let key = known[random.random_range(0..known.len())];
        match random.random_range(0..20) {
            0 => Verb::Revoke(key),
            1 => match self.taken.fetch_add(1, Ordering::SeqCst) {
                place if place < KEYS => Verb::Rotate(key, place),
                _ => Verb::Revoke(key),
            },
            2 | 3 => Verb::Disable(key),
            4 | 5 => Verb::Enable(key),
            6 => Verb::Narrow(key),
            7 => Verb::Widen(key),
            8 => Verb::Suspend,
            9 => Verb::Resume,
            other => Verb::Verify {
                key,
                to_write: other % 2 == 0,
            },
        }
    }

    pub(crate) fn call(&self, engine: &Engine, verb: Verb) -> Call {
        let key = |at: usize| self.known[at].get().unwrap();
        let id = |at: usize| key(at).0;
        let begun = self.tick();
        let told = match verb {
            Verb::Verify { key: at, to_write } => {
                let names: &[&str] = if to_write { &["write"] } else { &[] };
                let asked = Requirements::new().permission_names(names);
                // Every other time, it is asked for in one call with all that are known.
                let verdict = if begun.is_multiple_of(2) {
                    let mut tokens: Vec<&str> = vec![&key(at).1];
                    tokens.extend(self.known().map(|at| key(at).1.as_str()));
                    let mut verdicts = engine.verify_many(&tokens, &asked).unwrap();
                    verdicts.swap_remove(0)
                } else {
                    engine.verify_with(&key(at).1, &asked).unwrap()
                };
                Told::Verdict(match verdict {
                    Verdict::Granted(_) => "granted",
                    Verdict::Denied(denial) => denial.code(),
                })
            }
            Verb::Revoke(at) => told(engine.revoke(id(at), Reason::KeyCompromise)),
            Verb::Rotate(at, new) => {
                let rotated = engine.rotate(id(at), Rotation::at_once());
                if let Ok(rotated) = &rotated {
                    let token = rotated.token.expose().to_owned();
                    self.known[new].set((rotated.key.id, token)).unwrap();
                }
                told(rotated)
            }
            Verb::Disable(at) => told(engine.disable(id(at))),
            Verb::Enable(at) => told(engine.enable(id(at))),
            Verb::Narrow(at) => {
                let narrow = KeyUpdate::new().withdraw_permissions(["write"]);
                told(engine.update(id(at), narrow))
            }
            Verb::Widen(at) => {
                let widen = KeyUpdate::new().add_permissions(["write"]);
                told(engine.update(id(at), widen))
            }
            Verb::Suspend => told(engine.suspend(OWNER, None)),
            Verb::Resume => told(engine.resume(OWNER)),
        };
        Call {
            verb,
            told,
            begun,
            ended: self.tick(),
        }
    }
}

fn told<T>(result: Result<T, Error>) -> Told {
    match result {
        Ok(_) => Told::Done,
        Err(Error::Refused(Refusal::Revoked { .. } | Refusal::Disabled(_))) => Told::Refused,
        Err(error) => panic!("{error:?}"),
    }
}
