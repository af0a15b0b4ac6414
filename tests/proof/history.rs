//! Whether a history of calls that overlapped can be explained by one order of them, in
//! which each takes effect at one instant between its beginning and its end.
//!
//! The algorithm is Wing and Gong's, "Testing and verifying concurrent objects" (1993),
//! with Lowe's memory of what was tried, "Testing for linearizability" (2017).

use std::collections::HashSet;

/// The most keys of an owner, and the most calls of a history.
pub(crate) const KEYS: usize = 6;
pub(crate) const CALLS_MAX: usize = 128;

/// What a key is, at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// Not issued yet.
    Absent,
    Good {
        disabled: bool,
        may_write: bool,
        /// In the grace of its rotation, which no history outlives.
        retiring: bool,
        /// The key that was rotated to it.
        predecessor: Option<usize>,
    },
    Revoked,
}

impl Key {
    /// As it is issued.
    const NEW: Self = Self::Good {
        disabled: false,
        may_write: true,
        retiring: false,
        predecessor: None,
    };
}

/// An owner and its keys of one keyspace, at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// Whether the keyspace is single-active: a new key supersedes the others.
    pub(crate) single: bool,
    pub(crate) suspended: bool,
    pub(crate) keys: [Key; KEYS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Of a key's token; with the permission to write, or without.
    Verify {
        key: usize,
        to_write: bool,
    },
    /// Of all keys of the owner, in one page.
    List,
    Issue(usize),
    Revoke(usize),
    Rotate {
        old: usize,
        new: usize,
        grace: bool,
    },
    Disable(usize),
    Enable(usize),
    /// Takes the permission to write away, or gives it.
    Narrow(usize),
    Widen(usize),
    Suspend,
    Resume,
    /// All keys that the owner has.
    RevokeAll,
}

/// What a call told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Done,
    /// A change that the key's state forbade: what it was.
    Refused(&'static str),
    Verdict(&'static str),
    /// The places of the keys in these states, as bits.
    Listed {
        active: u8,
        retiring: u8,
    },
}

/// A call, from when to when, in ticks that all threads share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) verb: Verb,
    pub(crate) told: Told,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
}

impl Owner {
    /// With so many keys, to which nothing was done yet, in the first places.
    pub(crate) fn holding(count: usize, single: bool) -> Self {
        let mut keys = [Key::Absent; KEYS];
        keys[..count].fill(Key::NEW);
        Self {
            single,
            suspended: false,
            keys,
        }
    }

    /// What a call tells at this instant, and what it leaves.
    pub(crate) fn after(mut self, verb: Verb) -> (Told, Self) {
        let told = match verb {
            Verb::Verify { key, to_write } => Told::Verdict(self.verdict(key, to_write)),
            Verb::List => Told::Listed {
                active: self.listed(false),
                retiring: self.listed(true),
            },
            Verb::Issue(new) => {
                if self.single {
                    self.revoke_where(|key| matches!(key, Key::Good { .. }));
                }
                self.keys[new] = Key::NEW;
                Told::Done
            }
            Verb::Revoke(key) => {
                self.keys[key] = Key::Revoked;
                Told::Done
            }
            Verb::Rotate { old, new, grace } => self.rotate(old, new, grace),
            Verb::Disable(key) | Verb::Enable(key) | Verb::Narrow(key) | Verb::Widen(key) => {
                match &mut self.keys[key] {
                    Key::Good {
                        disabled,
                        may_write,
                        ..
                    } => {
                        match verb {
                            Verb::Disable(_) => *disabled = true,
                            Verb::Enable(_) => *disabled = false,
                            Verb::Narrow(_) => *may_write = false,
                            _ => *may_write = true,
                        }
                        Told::Done
                    }
                    Key::Revoked => Told::Refused("revoked"),
                    Key::Absent => Told::Refused("unknown"),
                }
            }
            Verb::RevokeAll => {
                self.revoke_where(|key| matches!(key, Key::Good { .. }));
                Told::Done
            }
            Verb::Suspend | Verb::Resume => {
                self.suspended = verb == Verb::Suspend;
                Told::Done
            }
        };
        (told, self)
    }

    fn rotate(&mut self, old: usize, new: usize, grace: bool) -> Told {
        let (may_write, predecessor) = match self.keys[old] {
            Key::Absent => return Told::Refused("unknown"),
            Key::Revoked => return Told::Refused("revoked"),
            Key::Good { disabled: true, .. } => return Told::Refused("disabled"),
            Key::Good { retiring: true, .. } if self.has_successor(old) => {
                return Told::Refused("rotated");
            }
            // What it was rotated to is over: it may be again, where there is room.
            Key::Good { retiring: true, .. } if self.single && self.holds_current() => {
                return Told::Refused("held");
            }
            Key::Good {
                may_write,
                predecessor,
                ..
            } => (may_write, predecessor),
        };
        // At most one predecessor retires; in a single-active keyspace, at most one key.
        let is_retiring = |key: &Key| matches!(key, Key::Good { retiring: true, .. });
        if self.single {
            self.revoke_where(is_retiring);
        } else if let Some(predecessor) = predecessor.filter(|at| is_retiring(&self.keys[*at])) {
            self.keys[predecessor] = Key::Revoked;
        }
        self.keys[old] = match grace {
            false => Key::Revoked,
            true => Key::Good {
                disabled: false,
                retiring: true,
                may_write,
                predecessor,
            },
        };
        self.keys[new] = Key::Good {
            disabled: false,
            retiring: false,
            may_write,
            predecessor: Some(old),
        };
        Told::Done
    }

    /// Whether a key was rotated to one that is not over.
    fn has_successor(&self, old: usize) -> bool {
        let succeeds =
            |key: &Key| matches!(key, Key::Good { predecessor, .. } if *predecessor == Some(old));
        self.keys.iter().any(succeeds)
    }

    fn holds_current(&self) -> bool {
        let is_current = |key: &Key| {
            matches!(
                key,
                Key::Good {
                    retiring: false,
                    ..
                }
            )
        };
        self.keys.iter().any(is_current)
    }

    fn revoke_where(&mut self, is_meant: impl Fn(&Key) -> bool) {
        for key in self.keys.iter_mut().filter(|key| is_meant(key)) {
            *key = Key::Revoked;
        }
    }

    /// The places of the keys that are retiring, or of those that are active.
    fn listed(&self, is_retiring: bool) -> u8 {
        let is_meant = |key: &Key| {
            let Key::Good {
                disabled, retiring, ..
            } = key
            else {
                return false;
            };
            !self.suspended && !disabled && *retiring == is_retiring
        };
        let keys = self.keys.iter().enumerate();
        keys.filter(|(_, key)| is_meant(key))
            .fold(0, |places, (at, _)| places | 1 << at)
    }

    fn verdict(&self, key: usize, to_write: bool) -> &'static str {
        match self.keys[key] {
            Key::Absent => "unknown",
            Key::Revoked => "revoked",
            Key::Good { .. } if self.suspended => "suspended",
            Key::Good { disabled: true, .. } => "disabled",
            Key::Good {
                may_write: false, ..
            } if to_write => "permission_missing",
            Key::Good { .. } => "granted",
        }
    }
}

/// Whether one order of the calls explains what they told.
pub(crate) fn is_linearizable(begin: Owner, calls: &[Call]) -> bool {
    assert!(calls.len() <= CALLS_MAX, "a call is a bit");
    let mut tried = HashSet::new();
    // Where the search stands: which calls have taken effect, and what they left.
    let mut stack = vec![(0_u128, begin)];
    let all = match calls.len() {
        CALLS_MAX => u128::MAX,
        count => (1 << count) - 1,
    };
    while let Some((done, owner)) = stack.pop() {
        if done == all {
            return true;
        }
        if !tried.insert((done, owner)) {
            continue;
        }
        let left = || (0..calls.len()).filter(|at| done & (1 << at) == 0);
        // What began after another had ended cannot come before it.
        let Some(first_end) = left().map(|at| calls[at].ended).min() else {
            return true;
        };
        for at in left().filter(|at| calls[*at].begun < first_end) {
            let (told, next) = owner.after(calls[at].verb);
            if told == calls[at].told {
                stack.push((done | 1 << at, next));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(begun: u64, ended: u64, verb: Verb, told: Told) -> Call {
        Call {
            verb,
            told,
            begun,
            ended,
        }
    }

    fn verify(begun: u64, ended: u64, key: usize, told: &'static str) -> Call {
        let verb = Verb::Verify {
            key,
            to_write: false,
        };
        call(begun, ended, verb, Told::Verdict(told))
    }

    fn rotate(old: usize, new: usize, grace: bool) -> Verb {
        Verb::Rotate { old, new, grace }
    }

    fn listed(begun: u64, ended: u64, active: u8, retiring: u8) -> Call {
        call(begun, ended, Verb::List, Told::Listed { active, retiring })
    }

    fn done(begun: u64, ended: u64, verb: Verb) -> Call {
        call(begun, ended, verb, Told::Done)
    }

    #[test]
    fn histories_that_an_order_explains_are_accepted() {
        let right: [&[Call]; 10] = [
            &[],
            &[done(0, 1, Verb::Revoke(0)), verify(2, 3, 0, "revoked")],
            // While the call is under way, either.
            &[done(0, 5, Verb::Revoke(0)), verify(1, 2, 0, "granted")],
            &[done(0, 5, Verb::Revoke(0)), verify(1, 2, 0, "revoked")],
            &[
                done(0, 9, Verb::Suspend),
                verify(1, 2, 0, "granted"),
                verify(3, 4, 1, "suspended"),
                verify(5, 6, 0, "suspended"),
            ],
            &[
                done(0, 1, rotate(0, 2, false)),
                verify(2, 3, 2, "granted"),
                verify(4, 5, 0, "revoked"),
                call(6, 7, Verb::Enable(0), Told::Refused("revoked")),
            ],
            // Two that overlap, in either order.
            &[
                done(0, 9, Verb::Disable(0)),
                done(1, 8, Verb::Enable(0)),
                verify(10, 11, 0, "disabled"),
            ],
            &[
                done(0, 1, rotate(0, 2, true)),
                verify(2, 3, 0, "granted"),
                listed(4, 5, 0b110, 0b001),
                call(6, 7, rotate(0, 3, true), Told::Refused("rotated")),
                done(8, 9, rotate(2, 3, true)),
                verify(10, 11, 0, "revoked"),
                verify(12, 13, 2, "granted"),
            ],
            &[done(0, 1, Verb::Issue(2)), listed(2, 3, 0b111, 0)],
            &[
                done(0, 1, rotate(0, 2, true)),
                done(2, 3, Verb::Disable(0)),
                verify(4, 5, 0, "disabled"),
                listed(6, 7, 0b110, 0),
                done(8, 9, Verb::Suspend),
                listed(10, 11, 0, 0),
            ],
        ];
        for calls in right {
            assert!(
                is_linearizable(Owner::holding(2, false), calls),
                "{calls:?}"
            );
        }
        let single: [&[Call]; 3] = [
            &[
                done(0, 1, Verb::Issue(1)),
                verify(2, 3, 0, "revoked"),
                verify(4, 5, 1, "granted"),
                listed(6, 7, 0b010, 0),
            ],
            // Rivals: either may be the last.
            &[
                done(0, 9, Verb::Issue(1)),
                done(1, 8, Verb::Issue(2)),
                verify(10, 11, 1, "granted"),
                verify(12, 13, 2, "revoked"),
            ],
            &[
                done(0, 1, rotate(0, 1, true)),
                verify(2, 3, 0, "granted"),
                listed(4, 5, 0b010, 0b001),
                done(6, 7, Verb::Issue(2)),
                verify(8, 9, 0, "revoked"),
                verify(10, 11, 1, "revoked"),
            ],
        ];
        for calls in single {
            assert!(is_linearizable(Owner::holding(1, true), calls), "{calls:?}");
        }
    }

    #[test]
    fn histories_that_no_order_explains_are_rejected() {
        let wrong: [(&str, &[Call]); 12] = [
            (
                "a grant after the revocation had returned",
                &[done(0, 1, Verb::Revoke(0)), verify(2, 3, 0, "granted")],
            ),
            (
                "a grant after another had seen the revocation",
                &[
                    done(0, 9, Verb::Revoke(0)),
                    verify(1, 2, 0, "revoked"),
                    verify(3, 4, 0, "granted"),
                ],
            ),
            (
                "a suspension seen for one key and then not for another",
                &[
                    done(0, 9, Verb::Suspend),
                    verify(1, 2, 0, "suspended"),
                    verify(3, 4, 1, "granted"),
                ],
            ),
            (
                "an update that is lost",
                &[
                    done(0, 1, Verb::Disable(0)),
                    done(2, 3, Verb::Enable(0)),
                    verify(4, 5, 0, "disabled"),
                ],
            ),
            (
                "a verdict that nothing caused",
                &[verify(0, 1, 0, "disabled")],
            ),
            (
                "a revoked key that is enabled",
                &[done(0, 1, Verb::Revoke(0)), done(2, 3, Verb::Enable(0))],
            ),
            (
                "two rotations of one key",
                &[
                    done(0, 5, rotate(0, 2, false)),
                    done(1, 4, rotate(0, 3, false)),
                ],
            ),
            (
                "a new key that does not know what the old one lost",
                &[
                    done(0, 1, Verb::Narrow(0)),
                    done(2, 3, rotate(0, 2, false)),
                    call(
                        4,
                        5,
                        Verb::Verify {
                            key: 2,
                            to_write: true,
                        },
                        Told::Verdict("granted"),
                    ),
                ],
            ),
            (
                "two keys of one line in their grace",
                &[
                    done(0, 1, rotate(0, 2, true)),
                    done(2, 3, rotate(2, 3, true)),
                    verify(4, 5, 0, "granted"),
                ],
            ),
            (
                "a listing that is older than a change that has returned",
                &[done(0, 1, Verb::Disable(0)), listed(2, 3, 0b011, 0)],
            ),
            (
                "a change refused for another state than the key's",
                &[
                    done(0, 1, Verb::Revoke(0)),
                    call(2, 3, rotate(0, 2, false), Told::Refused("disabled")),
                ],
            ),
            (
                "a change refused for what comes after it",
                &[
                    call(0, 1, Verb::Enable(0), Told::Refused("revoked")),
                    done(2, 3, Verb::Revoke(0)),
                ],
            ),
        ];
        for (what, calls) in wrong {
            assert!(!is_linearizable(Owner::holding(2, false), calls), "{what}");
        }
        let single: [(&str, &[Call]); 6] = [
            (
                "a key that is granted after another took its place",
                &[done(0, 1, Verb::Issue(1)), verify(2, 3, 0, "granted")],
            ),
            (
                "two active keys of rivals",
                &[
                    done(0, 9, Verb::Issue(1)),
                    done(1, 8, Verb::Issue(2)),
                    verify(10, 11, 1, "granted"),
                    verify(12, 13, 2, "granted"),
                ],
            ),
            (
                "a listing that shows two active keys while one takes the other's place",
                &[done(0, 9, rotate(0, 1, false)), listed(1, 2, 0b011, 0)],
            ),
            (
                "a listing that shows the old key after the new one was granted",
                &[
                    done(0, 9, Verb::Issue(1)),
                    verify(1, 2, 1, "granted"),
                    listed(3, 4, 0b001, 0),
                ],
            ),
            (
                "a key in its grace that outlives a new issue",
                &[
                    done(0, 1, rotate(0, 1, true)),
                    done(2, 3, Verb::Issue(2)),
                    verify(4, 5, 0, "granted"),
                ],
            ),
            (
                "two keys in their grace",
                &[
                    done(0, 1, rotate(0, 1, true)),
                    done(2, 3, rotate(1, 2, true)),
                    verify(4, 5, 0, "granted"),
                ],
            ),
        ];
        for (what, calls) in single {
            assert!(!is_linearizable(Owner::holding(1, true), calls), "{what}");
        }
    }
}
