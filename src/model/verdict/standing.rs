//! Where a request that is granted leaves the limits that it was charged to.

use std::cmp::Ordering;

use crate::model::clock::Timestamp;
use crate::model::counter::{Counted, Counter};
use crate::model::limit::{Left, Level, Limit, LimitStatus};

/// The same, to be worked out: most who verify a token never ask.
#[derive(Clone, Copy, Default)]
pub(crate) enum Stands {
    /// There is no limit.
    #[default]
    Nowhere,
    In(Few),
}

impl Stands {
    /// As of the charge, whenever it is asked for.
    pub(crate) fn told(&self) -> Option<Standing> {
        match self {
            Self::Nowhere => None,
            Self::In(few) => few.told(),
        }
    }
}

impl From<Option<Standing<Counted>>> for Stands {
    #[inline(always)]
    fn from(standing: Option<Standing<Counted>>) -> Self {
        standing.map_or(Self::Nowhere, |standing| Self::In(standing.into()))
    }
}

impl PartialEq for Stands {
    fn eq(&self, other: &Self) -> bool {
        self.told() == other.told()
    }
}

impl Eq for Stands {}

/// What was counted of one limit or two, at an instant.
#[derive(Clone, Copy)]
pub(crate) struct Few {
    at: Timestamp,
    /// Where there is one, it stands here twice, which comes to the same.
    limits: [Limit; 2],
    levels: [Level; 2],
    counters: [Counter; 2],
}

impl Few {
    /// Of one limit or two of a level.
    #[inline(always)]
    pub(crate) fn of<'a>(
        mut each: impl Iterator<Item = (&'a Limit, Counter)>,
        level: Level,
        at: Timestamp,
    ) -> Option<Self> {
        let first = each.next()?;
        let second = each.next().unwrap_or(first);
        each.next().is_none().then_some(Self {
            at,
            limits: [*first.0, *second.0],
            levels: [level; 2],
            counters: [first.1, second.1],
        })
    }

    fn told(&self) -> Option<Standing> {
        let each = self.limits.into_iter().zip(self.levels).zip(self.counters);
        let counted = each.map(|((limit, level), counter)| counter.counted(limit, level, self.at));
        Standing::of_all(counted).map(|standing| standing.told())
    }
}

impl From<Standing<Counted>> for Few {
    #[inline(always)]
    fn from(Standing { tightest, longest }: Standing<Counted>) -> Self {
        Self {
            at: tightest.at,
            limits: [tightest.limit, longest.limit],
            levels: [tightest.level, longest.level],
            counters: [tightest.counter, longest.counter],
        }
    }
}

/// Of the limits that a request was charged to, the two that are told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing<L = LimitStatus> {
    pub(crate) tightest: L,
    pub(crate) longest: L,
}

impl Standing<Counted> {
    /// The same, with when there will be more.
    pub(crate) fn told(&self) -> Standing {
        let tightest = self.tightest.status();
        let is_one = self.longest == self.tightest;
        Standing {
            tightest,
            longest: if is_one {
                tightest
            } else {
                self.longest.status()
            },
        }
    }
}

impl<L: Left> Standing<L> {
    pub(crate) fn of(one: L) -> Self {
        Self {
            tightest: one,
            longest: one,
        }
    }

    /// Of several; `None` of none.
    pub(crate) fn of_all(limits: impl IntoIterator<Item = L>) -> Option<Self> {
        let mut limits = limits.into_iter();
        let mut standing = Self::of(limits.next()?);
        limits.for_each(|other| standing.take_in(other));
        Some(standing)
    }

    /// Takes another limit in. Of two that are as tight, the tightest is the one that
    /// resets later, and of those the one of the shorter path, in whichever order they come;
    /// of two that are as long, the longest is the tighter.
    pub(crate) fn take_in(&mut self, other: L) {
        if is_tighter(&other, &self.tightest) {
            self.tightest = other;
        }
        let longest = &self.longest;
        let is_longer = match other.limit().window().cmp(&longest.limit().window()) {
            Ordering::Equal => is_tighter(&other, longest),
            order => order.is_gt(),
        };
        if is_longer {
            self.longest = other;
        }
    }
}

fn is_tighter<L: Left>(one: &L, other: &L) -> bool {
    match one.remaining().cmp(&other.remaining()) {
        Ordering::Equal if one.level() < other.level() => !other.resets_later_than(one),
        Ordering::Equal => one.resets_later_than(other),
        order => order.is_lt(),
    }
}
