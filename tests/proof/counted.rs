//! Whether what calls told of one limit, or of one quota, can be explained by one order of
//! them, in which each takes effect between its beginning and its end.
//!
//! While the clock stands still, a limit of any algorithm counts as a quota does: there may be
//! so many requests, and so many were used. Each limit and each quota is looked at by itself.
//! So a request that another level refused is in no history but that level's: nothing that is
//! told here may be owed to it.

use std::collections::HashSet;

/// The most charges of a history that are settled later, and the most calls of one.
pub(crate) const CHARGES: usize = 4;
const CALLS_MAX: usize = 128;

/// What is counted, at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Counted {
    /// How many requests there may be.
    of: u32,
    /// Which of two counters holds: those of two plans of a key, or of two kinds.
    by: usize,
    used: [i64; 2],
    /// What each charge that is settled later is charged by now.
    charges: [u32; CHARGES],
}

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A request that all levels admitted.
    Admitted { cost: u32, charge: Option<usize> },
    /// A request that this limit or quota refused.
    Refused { cost: u32 },
    /// A request that was said to cost so much in all.
    Settled { charge: usize, cost: u32 },
    /// Another number of requests, from which what was used is taken.
    Changed { of: u32 },
    /// Another counter, of which nothing is used if it is `anew`.
    Switched { to: usize, of: u32, anew: bool },
}

/// What a call did, from when to when, in ticks that all threads share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) step: Step,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
}

impl Counted {
    /// Of which nothing is used.
    pub(crate) fn new(of: u32) -> Self {
        Self {
            of,
            by: 0,
            used: [0; 2],
            charges: [0; CHARGES],
        }
    }

    /// How much is left; below zero where a settlement charged more than there was.
    pub(crate) fn left(&self) -> i64 {
        i64::from(self.of) - self.used[self.by]
    }

    /// What a charge that is settled later is charged by now.
    pub(crate) fn charged(&self, charge: usize) -> u32 {
        self.charges[charge]
    }

    /// What a step leaves, if it can be taken at this instant.
    fn after(mut self, step: Step) -> Option<Self> {
        match step {
            Step::Admitted { cost, .. } if i64::from(cost) > self.left() => return None,
            Step::Admitted { cost, charge } => {
                self.used[self.by] += i64::from(cost);
                if let Some(charge) = charge {
                    self.charges[charge] = cost;
                }
            }
            Step::Refused { cost } if i64::from(cost) <= self.left() => return None,
            Step::Refused { .. } => {}
            Step::Settled { charge, cost } => {
                let was = std::mem::replace(&mut self.charges[charge], cost);
                self.used[self.by] += i64::from(cost) - i64::from(was);
            }
            Step::Changed { of } => self.of = of,
            Step::Switched { to, of, anew } => {
                (self.by, self.of) = (to, of);
                if anew {
                    self.used[to] = 0;
                }
            }
        }
        Some(self)
    }

    /// What a settlement that is under way may have left so far: what it gives back was charged
    /// in parts, which are given back one after the other.
    fn on_the_way(self, step: Step) -> impl Iterator<Item = Self> {
        let parts = match step {
            Step::Settled { charge, cost } => (cost + 1..self.charges[charge]).rev(),
            _ => (0..0).rev(),
        };
        parts.filter_map(move |cost| match step {
            Step::Settled { charge, .. } => self.after(Step::Settled { charge, cost }),
            _ => None,
        })
    }
}

/// Whether one order of the calls explains what they told, and what they left.
pub(crate) fn is_explained(
    begin: Counted,
    calls: &[Call],
    is_end: impl Fn(&Counted) -> bool,
) -> bool {
    assert!(calls.len() < CALLS_MAX, "a call is a bit");
    let all = (1_u128 << calls.len()) - 1;
    // Of each call, those that have ended before it begins.
    let before = |call: &Call| {
        let calls = calls.iter().enumerate();
        calls
            .filter(|(_, other)| other.ended < call.begun)
            .fold(0_u128, |bits, (at, _)| bits | 1 << at)
    };
    let first: Vec<u128> = calls.iter().map(before).collect();
    let is_next = |at: usize, done: u128| done & (1 << at) == 0 && first[at] & !done == 0;
    let mut tried = HashSet::new();
    let mut stack = vec![(0_u128, begin)];
    while let Some((mut done, counted)) = stack.pop() {
        // A refusal that is due changes nothing for the others.
        while let Some(at) = (0..calls.len()).find(|at| {
            let step = calls[*at].step;
            let is_refusal = matches!(step, Step::Refused { .. });
            is_next(*at, done) && is_refusal && counted.after(step).is_some()
        }) {
            done |= 1 << at;
        }
        if done == all && is_end(&counted) {
            return true;
        }
        if !tried.insert((done, counted)) {
            continue;
        }
        // Those that began first are tried first.
        for at in (0..calls.len()).rev().filter(|at| is_next(*at, done)) {
            let on_the_way = counted.on_the_way(calls[at].step);
            stack.extend(on_the_way.map(|counted| (done, counted)));
            if let Some(next) = counted.after(calls[at].step) {
                stack.push((done | 1 << at, next));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(begun: u64, ended: u64, step: Step) -> Call {
        Call { step, begun, ended }
    }

    fn admitted(begun: u64, ended: u64, cost: u32) -> Call {
        let charge = None;
        call(begun, ended, Step::Admitted { cost, charge })
    }

    fn later(begun: u64, ended: u64, cost: u32) -> Call {
        let charge = Some(0);
        call(begun, ended, Step::Admitted { cost, charge })
    }

    fn refused(begun: u64, ended: u64, cost: u32) -> Call {
        call(begun, ended, Step::Refused { cost })
    }

    fn settled(begun: u64, ended: u64, cost: u32) -> Call {
        call(begun, ended, Step::Settled { charge: 0, cost })
    }

    fn changed(begun: u64, ended: u64, of: u32) -> Call {
        call(begun, ended, Step::Changed { of })
    }

    fn switched(begun: u64, ended: u64, anew: bool) -> Call {
        let (to, of) = (1, 9);
        call(begun, ended, Step::Switched { to, of, anew })
    }

    #[test]
    fn histories_of_counters_that_an_order_explains_are_accepted() {
        let right: [(&[Call], i64); 9] = [
            // What is given back, in two parts.
            (
                &[
                    later(0, 1, 9),
                    settled(2, 9, 1),
                    admitted(3, 4, 4),
                    refused(5, 6, 1),
                ],
                4,
            ),
            (&[], 9),
            (&[admitted(0, 1, 9), refused(2, 3, 1)], 0),
            // While one that fills it is under way, either.
            (&[admitted(0, 9, 9), refused(1, 2, 1)], 0),
            (&[admitted(0, 9, 4), admitted(1, 2, 5), refused(3, 4, 4)], 0),
            (&[changed(0, 9, 3), admitted(1, 2, 5), refused(3, 4, 1)], -2),
            (&[later(0, 1, 2), settled(2, 9, 11), refused(3, 4, 1)], -2),
            (
                &[
                    later(0, 1, 9),
                    settled(2, 9, 1),
                    refused(3, 4, 1),
                    admitted(5, 6, 8),
                ],
                0,
            ),
            (
                &[admitted(0, 1, 9), switched(2, 9, true), admitted(3, 4, 9)],
                0,
            ),
        ];
        for (calls, left) in right {
            let is_end = |end: &Counted| end.left() == left;
            assert!(is_explained(Counted::new(9), calls, is_end), "{calls:?}");
        }
    }

    #[test]
    fn histories_of_counters_that_no_order_explains_are_rejected() {
        let wrong: [&[Call]; 9] = [
            // Over the limit; one that did not begin yet; one that is refused for nothing.
            &[admitted(0, 9, 5), admitted(0, 9, 5)],
            &[refused(0, 1, 1), admitted(2, 3, 9)],
            &[admitted(0, 9, 8), refused(0, 9, 1)],
            // A change that has returned, and one that has not begun.
            &[changed(0, 1, 3), admitted(2, 3, 4)],
            &[refused(0, 1, 4), changed(2, 3, 3)],
            // What was given back, and what was charged more.
            &[later(0, 1, 9), settled(2, 3, 1), refused(4, 5, 1)],
            &[later(0, 1, 1), settled(2, 3, 9), admitted(4, 5, 1)],
            // Of another counter, and of one that counts on.
            &[admitted(0, 1, 9), switched(2, 3, true), refused(4, 5, 9)],
            &[switched(0, 1, false), admitted(2, 3, 9), admitted(4, 5, 1)],
        ];
        for calls in wrong {
            assert!(!is_explained(Counted::new(9), calls, |_| true), "{calls:?}");
        }
        let left = |end: &Counted| end.left() == 9;
        assert!(!is_explained(Counted::new(9), &[admitted(0, 1, 1)], left));
    }
}
