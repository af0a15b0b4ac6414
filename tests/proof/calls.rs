//! Calls on the keys of an owner, drawn at random, and what they told.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use gatekey::{
    Conflict, Engine, Error, KeyFilter, KeyId, KeyState, KeyUpdate, NewKey, NewKeyspace, OwnerPath,
    Reason, Requirements, Rotation, Token, Verdict,
};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::history::{Call, KEYS, Owner, Told, Verb};

/// Longer than any history.
const GRACE: Duration = Duration::from_secs(3600);

/// Makes the keyspaces that histories are of: `many`, and `one`, which is single-active.
pub(crate) fn create_keyspaces(engine: &Engine) {
    let new = |prefix| {
        let keyspace = NewKeyspace::new(prefix).unwrap();
        keyspace.permissions(["read", "write"])
    };
    for keyspace in [new("many"), new("one").single_active()] {
        engine.create_keyspace(keyspace).unwrap();
    }
}

/// A key with all that a history can take away.
pub(crate) fn new_key(keyspace: &str, owner: &str) -> NewKey {
    let key = NewKey::new(keyspace, owner).unwrap();
    key.permissions(["read", "write"])
}

/// The keys of an owner in one keyspace, and room for those that are to come.
pub(crate) struct Keys {
    single: bool,
    pub(crate) owner: OwnerPath,
    known: [OnceLock<(KeyId, String)>; KEYS],
    /// How many places are given away.
    taken: AtomicUsize,
    ticks: AtomicU64,
}

impl Keys {
    /// Of an owner that nothing was done to yet: one key in a single-active keyspace, or
    /// two in one that is not.
    pub(crate) fn new(engine: &Engine, history: u64, single: bool) -> Self {
        // Of some, the records are longer than a slot of memory.
        let owner = match history % 5 {
            3.. => format!("acme/{}/{history}", "x".repeat(64)),
            _ => format!("acme/{history}"),
        };
        let count = if single { 1 } else { 2 };
        let keys = Self {
            single,
            owner: owner.parse().unwrap(),
            known: Default::default(),
            taken: AtomicUsize::new(count),
            ticks: AtomicU64::new(0),
        };
        for place in 0..count {
            let issued = engine.issue(keys.new_key()).unwrap();
            keys.keep(place, issued.key.id, &issued.token);
        }
        keys
    }

    /// What they begin with, before anything was done to them.
    pub(crate) fn begin(&self) -> Owner {
        Owner::holding(self.known().count(), self.single)
    }

    /// The place of a key that somebody was told of.
    pub(crate) fn place(&self, id: KeyId) -> Option<usize> {
        let mut told_of = self.told_of();
        told_of.find_map(|(at, (of, _))| (*of == id).then_some(at))
    }

    /// All that somebody was told of, by their places, with their tokens.
    pub(crate) fn told_of(&self) -> impl Iterator<Item = (usize, &(KeyId, String))> {
        let known = self.known.iter().enumerate();
        known.filter_map(|(at, key)| Some((at, key.get()?)))
    }

    fn new_key(&self) -> NewKey {
        let keyspace = if self.single { "one" } else { "many" };
        new_key(keyspace, self.owner.as_ref())
    }

    fn keep(&self, place: usize, id: KeyId, token: &Token) {
        self.known[place]
            .set((id, token.expose().to_owned()))
            .unwrap();
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// The places of the keys that are known.
    fn known(&self) -> impl Iterator<Item = usize> {
        self.told_of().map(|(at, _)| at)
    }

    /// Draws a call on keys that are known.
    pub(crate) fn draw(&self, random: &mut StdRng) -> Verb {
        let known: Vec<usize> = self.known().collect();
        let any = known[random.random_range(0..known.len())];
        // Most of the others are over soon: every other call is on the newest.
        let key = match random.random_range(0..2) {
            0 => any,
            _ => known[known.len() - 1],
        };
        let place = || {
            let place = self.taken.fetch_add(1, Ordering::SeqCst);
            (place < KEYS).then_some(place)
        };
        match random.random_range(0..27) {
            0 => Verb::Revoke(key),
            1 => place().map_or(Verb::List, Verb::Issue),
            grace @ (2 | 3) => place().map_or(Verb::List, |new| Verb::Rotate {
                old: key,
                new,
                grace: grace == 3,
            }),
            4 | 5 => Verb::Disable(key),
            6 | 7 => Verb::Enable(key),
            8 => Verb::Narrow(key),
            9 => Verb::Widen(key),
            10 => Verb::Suspend,
            11 => Verb::Resume,
            12 | 13 => Verb::List,
            14 => Verb::RevokeAll,
            other => Verb::Verify {
                key,
                to_write: other % 2 == 0,
            },
        }
    }

    /// Calls an engine, which may be a server of a fleet. `None`: it did nothing, for want of
    /// the log.
    pub(crate) fn ask(&self, engine: &Engine, server: usize, verb: Verb) -> Option<Made> {
        let mut listed = Vec::new();
        let key = |at: usize| self.known[at].get().unwrap();
        let id = |at: usize| key(at).0;
        let begun = self.tick();
        let told = match verb {
            Verb::Verify { key: at, to_write } => {
                let names: &[&str] = if to_write { &["write"] } else { &[] };
                let asked = Requirements::new().permissions(names);
                // Every other time, it is asked for in one call with all that are known.
                let verdict = if begun.is_multiple_of(2) {
                    let mut tokens: Vec<&str> = vec![&key(at).1];
                    tokens.extend(self.known().map(|at| key(at).1.as_str()));
                    engine.verify_many(&tokens, &asked).swap_remove(0)
                } else {
                    engine.verify_with(&key(at).1, &asked)
                };
                match verdict {
                    Ok(Verdict::Granted(_)) => Some(Told::Verdict("granted")),
                    Ok(Verdict::Denied(denial)) => Some(Told::Verdict(denial.code())),
                    Err(Error::NotFresh { .. }) => None,
                    Err(error) => panic!("{error:?}"),
                }
            }
            Verb::Revoke(at) => told(engine.revoke(id(at), Reason::KeyCompromise)),
            Verb::Rotate { old, new, grace } => {
                let rotation = match grace {
                    true => Rotation::with_grace(GRACE),
                    false => Rotation::at_once(),
                };
                let rotated = engine.rotate(id(old), rotation);
                if let Ok(rotated) = &rotated {
                    self.keep(new, rotated.key.id, &rotated.token);
                }
                told(rotated)
            }
            Verb::Issue(new) => {
                let issued = engine.issue(self.new_key());
                if let Ok(issued) = &issued {
                    self.keep(new, issued.key.id, &issued.token);
                }
                told(issued)
            }
            Verb::List => {
                let all = KeyFilter::new().owner(self.owner.clone());
                let page = engine.keys_page(&all, None, KEYS + 1).unwrap();
                listed.extend(page.keys.iter().map(|key| (key.id, key.state)));
                Some(NOTHING_LISTED)
            }
            Verb::Disable(at) => told(engine.disable(id(at))),
            Verb::Enable(at) => told(engine.enable(id(at))),
            Verb::Narrow(at) => {
                let narrow = KeyUpdate::new().remove_permissions(["write"]);
                told(engine.update(id(at), narrow))
            }
            Verb::Widen(at) => {
                let widen = KeyUpdate::new().add_permissions(["write"]);
                told(engine.update(id(at), widen))
            }
            Verb::Suspend => told(engine.suspend(self.owner.clone(), None)),
            Verb::Resume => told(engine.resume(self.owner.clone())),
            Verb::RevokeAll => told(engine.revoke_owner(self.owner.clone(), Reason::Cessation)),
        };
        let told = told?;
        let call = Call {
            verb,
            told,
            begun,
            ended: match told {
                Told::Unknown => u64::MAX,
                _ => self.tick(),
            },
            server,
        };
        Some(Made { call, listed })
    }

    /// The calls by their beginning, once all have returned: a key may be listed before
    /// it is known which place is its.
    pub(crate) fn history(&self, made: Vec<Made>) -> Vec<Call> {
        let mut calls: Vec<Call> = made
            .into_iter()
            .map(|Made { mut call, listed }| {
                for (id, state) in listed {
                    let place = self.place(id);
                    let bit = 1 << place.expect("a key is listed that nobody has");
                    if let Told::Listed { active, retiring } = &mut call.told {
                        match state {
                            KeyState::Active => *active |= bit,
                            KeyState::Retiring => *retiring |= bit,
                            _ => {}
                        }
                    }
                }
                call
            })
            .collect();
        calls.sort_by_key(|call| call.begun);
        calls
    }
}

const NOTHING_LISTED: Told = Told::Listed {
    active: 0,
    retiring: 0,
};

/// A call, and what it listed.
pub(crate) struct Made {
    pub(crate) call: Call,
    listed: Vec<(KeyId, KeyState)>,
}

fn told<T>(result: Result<T, Error>) -> Option<Told> {
    Some(match result {
        Ok(_) => Told::Done,
        Err(Error::Conflict(Conflict::Revoked { .. })) => Told::Refused("revoked"),
        Err(Error::Conflict(Conflict::Disabled(_))) => Told::Refused("disabled"),
        Err(Error::Conflict(Conflict::AlreadyRotated { .. })) => Told::Refused("rotated"),
        Err(Error::Conflict(Conflict::OwnerHasKey { .. })) => Told::Refused("held"),
        Err(Error::OutcomeUnknown(_)) => Told::Unknown,
        Err(Error::Log(_)) => return None,
        Err(error) => panic!("{error:?}"),
    })
}
