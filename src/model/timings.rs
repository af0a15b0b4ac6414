//! How long something took, as counts in buckets.

use std::time::Duration;

// The standard library's, also under a model checker: nothing is ordered by them.
use std::sync::atomic::{AtomicU64, Ordering};

/// The first bucket holds what took up to so many nanoseconds, each next one twice that.
const FIRST_NS: u64 = 125;
/// The last has no bound: all that took more than 8.4 s.
const BUCKETS: usize = 28;

/// How long something took, each time: a histogram, whose buckets begin at 125 ns and
/// double up to 8.4 s.
///
/// ```
/// # use gatekey::{Engine, NewKeyspace};
/// # let engine = Engine::open_in_memory()?;
/// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
/// let commits = engine.metrics()?.commits;
/// assert_eq!(commits.count(), 1);
/// let counted: u64 = commits.buckets().map(|(_, count)| count).sum();
/// assert_eq!(counted, 1);
/// assert!(commits.quantile(0.5) > Some(commits.sum() / 2));
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    buckets: [u64; BUCKETS],
    sum_ns: u64,
}

impl Timings {
    /// How many were timed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How long they took together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// Each bucket: the longest time in it (`None`: there is no longest), and how many took
    /// that long and longer than the bucket before.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bound = |at| (at + 1 < BUCKETS).then(|| Duration::from_nanos(FIRST_NS << at));
        self.buckets
            .into_iter()
            .enumerate()
            .map(move |(at, count)| (bound(at), count))
    }

    /// A time that a share of them, 0 to 1, did not exceed: the bound of its bucket. `None`
    /// of none, and where it is beyond the last bound.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        // Counts beyond 2^52 lose their last digits, which do not matter here.
        #[allow(clippy::cast_precision_loss)]
        let wanted = self.count() as f64 * share;
        let mut seen = 0;
        let found = self.buckets().find(|(_, count)| {
            seen += count;
            #[allow(clippy::cast_precision_loss)]
            let reached = seen as f64 >= wanted;
            seen > 0 && reached
        });
        found.and_then(|(bound, _)| bound)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(other.buckets) {
            *count = count.saturating_add(more);
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Timings {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let ns = |time: Option<Duration>| time.map(|time| time.as_nanos());
        let buckets: Vec<_> = self
            .buckets()
            .filter(|(_, count)| *count > 0)
            .map(|(bound, count)| (ns(bound), count))
            .collect();
        let mut timings = serializer.serialize_struct("Timings", 3)?;
        timings.serialize_field("count", &self.count())?;
        timings.serialize_field("sum_ns", &self.sum_ns)?;
        timings.serialize_field("buckets_ns", &buckets)?;
        timings.end()
    }
}

/// Timings that are being taken.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Recorder {
    pub(crate) fn note(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket_of(ns)) {
            bucket.fetch_add(1, Ordering::Relaxed);
            self.sum_ns.fetch_add(ns, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> Timings {
        Timings {
            buckets: std::array::from_fn(|at| {
                let bucket = self.buckets.get(at);
                bucket.map_or(0, |bucket| bucket.load(Ordering::Relaxed))
            }),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }
}

fn bucket_of(ns: u64) -> usize {
    let firsts = ns.div_ceil(FIRST_NS).max(1);
    let doubled = u64::BITS - (firsts - 1).leading_zeros();
    (BUCKETS - 1).min(usize::try_from(doubled).unwrap_or(BUCKETS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_has_room_for_it() {
        for (ns, bucket) in [
            (0, 0),
            (1, 0),
            (125, 0),
            (126, 1),
            (250, 1),
            (251, 2),
            (500, 2),
            (501, 3),
            (8_388_608_000, 26),
            (8_388_608_001, 27),
            (u64::MAX, 27),
        ] {
            assert_eq!(bucket_of(ns), bucket, "{ns}");
        }
        let recorder = Recorder::default();
        for ns in 1..=2000 {
            recorder.note(Duration::from_nanos(ns));
        }
        let timings = recorder.read();
        assert_eq!(timings.count(), 2000);
        assert_eq!(timings.sum(), Duration::from_nanos(2000 * 2001 / 2));
        let mut below = 0;
        for (bound, count) in timings.buckets() {
            below += count;
            let bound = bound.map_or(u64::MAX, |bound| u64::try_from(bound.as_nanos()).unwrap());
            assert_eq!(below, bound.min(2000));
        }
        assert_eq!(timings.quantile(0.5), Some(Duration::from_nanos(1000)));
        assert_eq!(timings.quantile(0.51), Some(Duration::from_nanos(2000)));
        assert_eq!(timings.quantile(0.0), Some(Duration::from_nanos(125)));
        assert_eq!(Timings::default().quantile(0.5), None);
    }
}
