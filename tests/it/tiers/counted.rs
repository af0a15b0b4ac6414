//! What a limit admits, by what docs/LIMITS.md and docs/INTERNALS.md say of each algorithm,
//! and from all that was ever counted: nothing of how the engine counts is here.

use std::time::Duration;

use gatekey::Limit;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// The first request opens a window, and all that is counted goes with it.
    Fixed,
    /// Windows begin at multiples of their length. Of what the last one counted, the part
    /// counts that the window's length before now still covers.
    Sliding,
    /// GCRA, by the instant at which a bucket is empty again.
    Bucket,
}

/// What a limit is of: what was counted of another kind is not counted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) algorithm: Algorithm,
    pub(crate) window_ms: u64,
}

/// A limit; of a bucket, its burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) kind: Kind,
    pub(crate) number: u32,
}

/// How many requests a bucket drains in a window.
const DRAINED: u32 = 7;

impl Rate {
    pub(crate) fn new(kind: usize, number: u32) -> Self {
        let algorithm = [Algorithm::Fixed, Algorithm::Sliding, Algorithm::Bucket][kind % 3];
        let window_ms = [3_600_000, 60_000][kind / 3 % 2];
        let kind = Kind {
            algorithm,
            window_ms,
        };
        Self { kind, number }
    }

    pub(crate) fn limit(self) -> Limit {
        let window = Duration::from_millis(self.kind.window_ms);
        let limit = |requests| Limit::new(requests, window).unwrap();
        match self.kind.algorithm {
            Algorithm::Fixed => limit(self.number).fixed(),
            Algorithm::Sliding => limit(self.number),
            Algorithm::Bucket => limit(DRAINED).bucket(self.number),
        }
    }
}

/// A request, or a part of it, that was counted.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Of which part of a request.
    part: u64,
    at_ms: u64,
    cost: i64,
}

/// All that was counted of a kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    kind: Option<Kind>,
    entries: Vec<Entry>,
    /// Of a fixed window: when its first request came.
    opened_ms: Option<u64>,
    /// Of a bucket: when it is empty, in parts of a millisecond that are as many as it drains
    /// requests in a window.
    empty_at: u64,
}

impl Counted {
    /// Follows the limit that holds, when a request meets it.
    pub(crate) fn meet(&mut self, kind: Kind) {
        if self.kind != Some(kind) {
            *self = Self::default();
            self.kind = Some(kind);
        }
    }

    /// Forgets what counts no more.
    fn forget(&mut self, now_ms: u64) {
        let Some(kind) = self.kind else { return };
        let window = kind.window_ms;
        match kind.algorithm {
            Algorithm::Fixed => {
                let is_over = (self.opened_ms).is_none_or(|opened| now_ms >= opened + window);
                if is_over || self.entries.iter().all(|entry| entry.cost == 0) {
                    self.entries.clear();
                    self.opened_ms = None;
                }
            }
            Algorithm::Sliding => {
                let begun = now_ms - now_ms % window;
                self.entries.retain(|entry| entry.at_ms + window >= begun);
            }
            Algorithm::Bucket => {}
        }
    }

    /// How many more requests of this limit there may be, below zero where there were too many
    /// already.
    pub(crate) fn left(&self, rate: Rate, now_ms: u64) -> i64 {
        let mut counted = self.clone();
        counted.meet(rate.kind);
        counted.forget(now_ms);
        let number = i64::from(rate.number);
        let window = rate.kind.window_ms.cast_signed();
        match rate.kind.algorithm {
            Algorithm::Fixed => {
                number - counted.entries.iter().map(|entry| entry.cost).sum::<i64>()
            }
            Algorithm::Sliding => {
                let begun = now_ms - now_ms % rate.kind.window_ms;
                let covered = window - (now_ms - begun).cast_signed();
                let parts = counted
                    .entries
                    .iter()
                    .map(|entry| match entry.at_ms < begun {
                        true => entry.cost * covered,
                        false => entry.cost * window,
                    });
                (number * window - parts.sum::<i64>()).div_euclid(window)
            }
            Algorithm::Bucket => {
                let now = now_ms * u64::from(DRAINED);
                let level = counted.empty_at.saturating_sub(now).cast_signed();
                (number * window - level).div_euclid(window)
            }
        }
    }

    pub(crate) fn add(&mut self, part: u64, cost: i64, now_ms: u64) {
        self.forget(now_ms);
        let Some(kind) = self.kind.filter(|_| cost > 0) else {
            return;
        };
        let at_ms = now_ms;
        self.opened_ms.get_or_insert(now_ms);
        if kind.algorithm == Algorithm::Bucket {
            let now = now_ms * u64::from(DRAINED);
            self.empty_at = self.empty_at.max(now) + cost.cast_unsigned() * kind.window_ms;
        }
        self.entries.push(Entry { part, at_ms, cost });
    }

    /// Takes back some of a part, if it was counted here and counts still. What a bucket has
    /// drained since is taken for having been this.
    pub(crate) fn take_back(&mut self, part: u64, back: i64, now_ms: u64) {
        self.forget(now_ms);
        let Some(kind) = self.kind else { return };
        let Some(entry) = (self.entries.iter_mut()).find(|entry| entry.part == part) else {
            return;
        };
        entry.cost -= back;
        if kind.algorithm == Algorithm::Bucket {
            let drained = (now_ms - entry.at_ms) * u64::from(DRAINED);
            let parts = back.cast_unsigned() * kind.window_ms;
            self.empty_at = self.empty_at.saturating_sub(parts.saturating_sub(drained));
        }
    }
}
