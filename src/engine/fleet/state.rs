//! What a server of a fleet knows of it.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::fleet::reads::Choice;
use crate::engine::fleet::settings::{Freshness, Settings};
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::error::Error;
use crate::model::log::{Beaten, Head, Log, LogError, Node, Seal};
use crate::store::delta::Waiting;
use crate::store::entry::Place;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, lock};

/// How far a server's clock and the log's may be apart for the server to append, and how far ahead of the log's
/// clock an entry may be.
pub(super) const CLOCKS_APART_MAX: Duration = Duration::from_secs(5);

pub(crate) struct Fleet {
    pub(super) log: Arc<dyn Log>,
    pub(super) node: String,
    pub(super) freshness: Freshness,
    pub(super) waits_everywhere: bool,
    /// Until when this server grants, in nanoseconds of the steady clock.
    fresh_until: AtomicU64,
    pub(super) known: Mutex<Known>,
    /// The servers as they were last asked for, and when.
    pub(super) nodes: Mutex<Option<(Duration, Vec<Node>)>>,
    pub(super) shares: Mutex<Shares>,
    /// Held by who finds out what became of an append.
    pub(super) resolving: Mutex<()>,
    /// When the log was last asked for all that it has, by a caller whose file lacked something,
    /// and what came of it.
    pub(super) asked_all: Mutex<(Duration, Result<(), Error>)>,
    pub(super) stops: AtomicBool,
    /// Whether this server has applied what callers of others wait for, and not beaten since.
    pub(super) owes_beat: AtomicBool,
    /// Whether a request has waited for a slice of a quota since this was last asked.
    pub(super) has_waited: AtomicBool,
    /// The thread that takes slices ahead.
    pub(super) ahead: std::sync::OnceLock<std::thread::Thread>,
    /// Entries that were applied, and those among them that this server appended.
    pub(super) applied: AtomicU64,
    pub(super) appended: AtomicU64,
    /// Appends that came behind another's, and those without an answer.
    pub(super) overtaken: AtomicU64,
    pub(super) unknown: AtomicU64,
    /// Calls that failed.
    pub(super) failures: AtomicU64,
}

/// An entry that this server has appended, or may have.
pub(super) struct Own {
    pub(super) position: u64,
    pub(super) seal: Seal,
    /// Who waits for it in this process, until it is applied.
    pub(super) waiting: Option<Waiting>,
    /// What it has beside itself in the log.
    pub(super) body: Option<Arc<Vec<u8>>>,
    pub(super) is_applied: bool,
}

/// An entry that takes access away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) position: u64,
    /// The steady clock at a moment when the log had it.
    pub(super) at: Duration,
}

/// By how many servers the limits of the fleet are divided, and the steady clock before the
/// question that was answered so.
#[derive(Default)]
pub(super) struct Shares {
    servers: u64,
    heard_at: Duration,
}

impl Shares {
    /// Takes what an answer said; whether it is another number of servers. One whose question
    /// is older than that of the last says nothing.
    pub(super) fn hear(&mut self, servers: u64, t0: Duration) -> bool {
        if t0 < self.heard_at {
            return false;
        }
        self.heard_at = t0;
        std::mem::replace(&mut self.servers, servers) != servers
    }
}

pub(super) struct Known {
    /// What was published last. Before that, what the file had as it was opened.
    pub(super) place: Place,
    /// The newest that was ever published: the file may lose it as the store recovers.
    pub(super) had: Place,
    /// The newest position that was heard of.
    pub(super) newest: u64,
    /// How many servers beat, by the last heartbeat.
    pub(super) servers: u64,
    pub(super) pepper: Choice,
    /// Whether the log has an entry of the format that this server writes.
    pub(super) has_written: bool,
    /// The newest fence.
    pub(super) fence: Option<u64>,
    pub(super) own: Option<Own>,
    /// Whether it is not known if the own entry is in the log, or ever will be.
    pub(super) is_in_doubt: bool,
    /// The entry of which that was found out last, and whether it is there.
    pub(super) resolved: Option<(Seal, bool)>,
    /// The position up to which callers were answered, or something was published: nothing is
    /// granted before it is applied.
    pub(super) owed: u64,
    /// The last entry that this server has applied, or soon has, and that takes access away.
    pub(super) taken: Taken,
    /// What the log's clock said, with the steady clock before that.
    pub(super) clock: Option<(Timestamp, Duration)>,
    /// The steady clock before the last heartbeat that found nothing unknown.
    pub(super) fresh_at: Option<Duration>,
    /// The error of the last call, until one succeeds.
    pub(super) why: Option<LogError>,
}

impl Fleet {
    pub(crate) fn new(settings: &Settings, place: Place, clock: &dyn Clock) -> Self {
        Self {
            log: settings.log.clone(),
            node: settings.node.clone(),
            freshness: settings.freshness,
            waits_everywhere: settings.waits_everywhere,
            fresh_until: AtomicU64::new(0),
            known: Mutex::new(Known {
                place,
                had: place,
                newest: place.position,
                servers: 0,
                pepper: Choice::default(),
                has_written: false,
                fence: None,
                own: None,
                is_in_doubt: false,
                resolved: None,
                owed: 0,
                taken: Taken {
                    position: place.position,
                    at: steady(clock),
                },
                clock: None,
                fresh_at: None,
                why: None,
            }),
            nodes: Mutex::new(None),
            shares: Mutex::default(),
            resolving: Mutex::new(()),
            asked_all: Mutex::new((Duration::ZERO, Ok(()))),
            stops: AtomicBool::new(false),
            owes_beat: AtomicBool::new(false),
            has_waited: AtomicBool::new(false),
            ahead: std::sync::OnceLock::new(),
            applied: AtomicU64::new(0),
            appended: AtomicU64::new(0),
            overtaken: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// The entry that was published last.
    pub(super) fn place(&self) -> Place {
        lock(&self.known).place
    }

    /// The position of the entry that a caller's thread appends and will apply, if one does.
    pub(super) fn own_under_way(&self) -> Option<u64> {
        let known = lock(&self.known);
        let position = known.own.as_ref()?.position;
        let is_under_way = !known.is_in_doubt && known.owed < position;
        (is_under_way && known.place.position < position).then_some(position)
    }

    /// The position up to which this server has applied or must apply entries.
    pub(super) fn decided(&self) -> u64 {
        let known = lock(&self.known);
        known.place.position.max(known.owed)
    }

    /// Notes that an entry takes access away, which the log has.
    pub(super) fn takes_away(&self, position: u64, now: Duration) {
        let mut known = lock(&self.known);
        if position > known.taken.position {
            known.taken = Taken { position, at: now };
        }
    }

    /// The entry by which all is taken away of which callers of this server may know.
    pub(super) fn taken(&self, clock: &dyn Clock) -> Taken {
        let known = lock(&self.known);
        match known.place.position < known.owed {
            true => Taken {
                position: known.owed.max(known.taken.position),
                at: steady(clock),
            },
            false => known.taken,
        }
    }

    /// Whether something may be granted from a snapshot: no caller was answered beyond it.
    pub(crate) fn may_show(&self, place: Option<Place>) -> bool {
        let known = lock(&self.known);
        place.unwrap_or(known.place).position >= known.owed
    }

    /// Whether what a snapshot has was published before: the file had lost it.
    pub(crate) fn had_published(&self, place: Option<Place>) -> bool {
        let had = lock(&self.known).had;
        place.is_some_and(|place| place.position <= had.position)
    }

    /// Notes that a snapshot was published. Not before verifications see it: from here on
    /// this server counts as fresh with what it has, and others are told that it has it.
    pub(crate) fn published(&self, place: Option<Place>) {
        if let Some(place) = place {
            let mut known = lock(&self.known);
            known.place = place;
            if place.position > known.had.position {
                known.had = place;
                known.owed = known.owed.max(place.position);
            }
        }
    }

    /// Fails where this server may not know what was taken away. Gives the steady clock at the
    /// moment of which it knows everything.
    pub(crate) fn require_fresh(&self, clock: &dyn Clock) -> Result<Duration, Error> {
        let now = nanos(steady(clock));
        let until = self.fresh_until.load(Ordering::Acquire);
        match now < until {
            true => Ok(Duration::from_nanos(until).saturating_sub(self.freshness.lease())),
            false => Err(self.not_fresh()),
        }
    }

    #[cold]
    fn not_fresh(&self) -> Error {
        let why = lock(&self.known).why.clone();
        Error::NotFresh { why }
    }

    /// Grants from now on until the lease from `t0` on is over: at some moment after `t0`,
    /// this server had applied all that the log had at some moment after `t0`.
    pub(super) fn renew(&self, t0: Duration) {
        let until = nanos(t0.saturating_add(self.freshness.lease()));
        self.fresh_until.fetch_max(until, Ordering::AcqRel);
        let mut known = lock(&self.known);
        known.fresh_at = known.fresh_at.max(Some(t0));
        known.why = None;
    }

    /// Grants nothing until the next renewal: what this server knows was found to be wrong.
    pub(super) fn expire(&self, why: LogError) {
        self.fresh_until.store(0, Ordering::Release);
        lock(&self.known).why = Some(why);
    }

    /// Notes that a call failed.
    pub(super) fn failed(&self, error: &Error) {
        let why = match error {
            Error::Log(why) => why.clone(),
            other => LogError::new(other.to_string()),
        };
        self.failures.fetch_add(1, Ordering::Relaxed);
        lock(&self.known).why = Some(why);
    }

    /// The steady clock before the last heartbeat that was answered.
    pub(super) fn beaten_at(&self) -> Option<Duration> {
        lock(&self.known).clock.map(|(_, t0)| t0)
    }

    pub(super) fn heard(&self, beaten: &Beaten, t0: Duration) {
        self.saw(&beaten.head);
        let mut known = lock(&self.known);
        known.clock = Some((beaten.at, t0));
        known.servers = beaten.servers;
    }

    pub(super) fn saw(&self, head: &Head) {
        let mut known = lock(&self.known);
        known.fence = known.fence.max(Some(head.fence));
        known.newest = known.newest.max(head.position);
    }

    /// What the log's clock says at most, by the steady clock.
    pub(super) fn log_now(&self, clock: &dyn Clock) -> Option<Timestamp> {
        let (at, since) = lock(&self.known).clock?;
        Some(at.saturating_add(steady(clock).saturating_sub(since)))
    }
}

/// A clock that nobody sets, and that runs while the machine sleeps.
pub(in crate::engine) fn steady(clock: &dyn Clock) -> Duration {
    let own = clock.steady().or_else(|| SystemClock.steady());
    own.unwrap_or_default()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_overtaken_by_a_later_one_changes_no_share() {
        let at = Duration::from_secs;
        let mut shares = Shares::default();
        assert!(shares.hear(3, at(5)));
        assert!(!shares.hear(3, at(6)));
        assert!(shares.hear(2, at(9)));
        assert!(!shares.hear(3, at(8)));
        assert!(!shares.hear(2, at(10)));
        assert!(shares.hear(3, at(10)));
    }
}
