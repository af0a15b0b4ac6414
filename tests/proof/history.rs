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
    /// Nothing, since the outcome is not known: it may take effect at any time from its
    /// beginning on, or never. It has no end.
    Unknown,
}

/// A call, from when to when, in ticks that all threads share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) verb: Verb,
    pub(crate) told: Told,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    /// Which server of a fleet was asked.
    #[allow(dead_code, reason = "an engine alone is no server of a fleet")]
    pub(crate) server: usize,
}

/// Whether one call comes before another in each order that may explain them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Either may come first.
    Any,
    /// It comes first if it takes away what was granted.
    FirstIfItTakes,
    First,
}

impl Verb {
    /// Whether it changes nothing.
    pub(crate) fn is_read(self) -> bool {
        matches!(self, Self::Verify { .. } | Self::List)
    }
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

    /// Whether what comes next no longer grants what this does.
    fn loses(&self, next: &Self) -> bool {
        let grants = |owner: &Self, key, to_write| owner.verdict(key, to_write) == "granted";
        let is_lost = |key, to_write| grants(self, key, to_write) && !grants(next, key, to_write);
        (0..KEYS).any(|key| is_lost(key, false) || is_lost(key, true))
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

/// Whether one order of the calls explains what they told, in which each takes effect
/// between its beginning and its end.
pub(crate) fn is_linearizable(begin: Owner, calls: &[Call]) -> bool {
    let order = |one: &Call, other: &Call| match one.ended < other.begun {
        true => Order::First,
        false => Order::Any,
    };
    is_explained(begin, calls, order, |_| true)
}

/// Whether one order of the calls explains what they told and what they left, and keeps to
/// the order in which some of them come.
pub(crate) fn is_explained(
    begin: Owner,
    calls: &[Call],
    order: impl Fn(&Call, &Call) -> Order,
    is_end: impl Fn(&Owner) -> bool,
) -> bool {
    assert!(calls.len() <= CALLS_MAX, "a call is a bit");
    let those = |is_meant: &dyn Fn(&Call) -> bool| {
        let calls = calls.iter().enumerate();
        calls
            .filter(|(_, call)| is_meant(call))
            .fold(0_u128, |bits, (at, _)| bits | 1 << at)
    };
    // Of each call: what must have taken effect before, what that takes away, and what that
    // begins later must not have if it takes away.
    let first: Vec<u128> = (calls.iter())
        .map(|call| those(&|other| order(other, call) == Order::First))
        .collect();
    let takers: Vec<u128> = (calls.iter())
        .map(|call| those(&|other| order(other, call) == Order::FirstIfItTakes))
        .collect();
    let later: Vec<u128> = (calls.iter())
        .map(|call| those(&|other| order(call, other) == Order::FirstIfItTakes))
        .collect();
    let told = those(&|call| call.told != Told::Unknown);
    let mut tried = HashSet::new();
    // Where the search stands: which calls have taken effect, and what they left.
    let mut stack = vec![(0_u128, begin)];
    while let Some((mut done, owner)) = stack.pop() {
        let is_next = |at: usize, done: u128| done & (1 << at) == 0 && first[at] & !done == 0;
        // What reads, and may be next whatever comes, is: it changes nothing for the others.
        while let Some(at) = (0..calls.len()).find(|at| {
            let call = &calls[*at];
            let is_free = is_next(*at, done) && takers[*at] & !done == 0;
            is_free && call.verb.is_read() && owner.after(call.verb).0 == call.told
        }) {
            done |= 1 << at;
        }
        if done & told == told && is_end(&owner) {
            return true;
        }
        if !tried.insert((done, owner)) {
            continue;
        }
        for at in (0..calls.len()).filter(|at| is_next(*at, done)) {
            let (tells, next) = owner.after(calls[at].verb);
            let is_told = match calls[at].told {
                // One that was refused made nothing, and may as well be left out.
                Told::Unknown => tells == Told::Done,
                told => tells == told,
            };
            if is_told && (later[at] & done == 0 || !owner.loses(&next)) {
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
            server: 0,
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

    fn unknown(begun: u64, verb: Verb) -> Call {
        call(begun, u64::MAX, verb, Told::Unknown)
    }

    #[test]
    fn a_call_without_an_outcome_takes_effect_after_its_beginning_or_never_and_once() {
        let right: [&[Call]; 3] = [
            // Never, at once, and long after.
            &[unknown(0, Verb::Revoke(0)), verify(1, 2, 0, "granted")],
            &[unknown(0, Verb::Revoke(0)), verify(1, 2, 0, "revoked")],
            &[
                unknown(0, Verb::Revoke(0)),
                done(1, 2, Verb::Disable(0)),
                verify(3, 4, 0, "disabled"),
                verify(5, 6, 0, "revoked"),
            ],
        ];
        for calls in right {
            assert!(
                is_linearizable(Owner::holding(2, false), calls),
                "{calls:?}"
            );
        }
        let wrong: [(&str, &[Call]); 2] = [
            (
                "it takes effect before it was begun",
                &[verify(0, 1, 0, "revoked"), unknown(2, Verb::Revoke(0))],
            ),
            (
                "it takes effect twice",
                &[
                    unknown(0, Verb::Disable(0)),
                    verify(1, 2, 0, "disabled"),
                    done(3, 4, Verb::Enable(0)),
                    verify(5, 6, 0, "disabled"),
                ],
            ),
        ];
        for (what, calls) in wrong {
            assert!(!is_linearizable(Owner::holding(2, false), calls), "{what}");
        }
    }

    #[test]
    fn a_call_may_come_late_but_for_those_that_are_told_to_come_first() {
        let begin = Owner::holding(1, true);
        let stale = [done(0, 1, Verb::Issue(1)), verify(2, 3, 0, "granted")];
        let takes_nothing = [
            done(0, 1, Verb::Revoke(0)),
            done(2, 3, Verb::Issue(1)),
            verify(4, 5, 1, "unknown"),
        ];
        let is = |order: Order, calls: &[Call]| {
            let of = |one: &Call, other: &Call| match (one.verb, one.ended < other.begun) {
                (_, false) => Order::Any,
                (Verb::Issue(_), true) if other.verb.is_read() => order,
                (_, true) => Order::First,
            };
            is_explained(begin, calls, of, |_| true)
        };
        assert!(is(Order::Any, &stale) && is(Order::Any, &takes_nothing));
        assert!(!is(Order::FirstIfItTakes, &stale));
        assert!(is(Order::FirstIfItTakes, &takes_nothing));
        assert!(!is(Order::First, &takes_nothing));
    }

    #[test]
    fn a_history_that_ends_otherwise_is_rejected() {
        let begin = Owner::holding(2, false);
        let calls = [
            done(0, 1, Verb::Disable(0)),
            unknown(2, Verb::Enable(0)),
            unknown(3, Verb::Revoke(1)),
        ];
        let ends = |verdicts: [&str; 2]| {
            let is_end = |owner: &Owner| [0, 1].map(|key| owner.verdict(key, false)) == verdicts;
            is_explained(begin, &calls, |_, _| Order::Any, is_end)
        };
        for first in ["disabled", "granted"] {
            assert!(ends([first, "granted"]) && ends([first, "revoked"]));
        }
        assert!(!ends(["revoked", "granted"]) && !ends(["granted", "disabled"]));
    }
}
