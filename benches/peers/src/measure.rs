//! The measuring: turns of the peers, interleaved over rounds; a figure is the
//! median over the rounds.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use hdrhistogram::Histogram;

use crate::peer::{Peer, Session};
use crate::world::{Tokens, World};

/// How long the caches believe what they have read.
pub(crate) const TTL: Duration = Duration::from_secs(1);
/// One measurement. As long as the TTL, so that each entry of a cache expires
/// once in it: no more and no fewer misses than a server would see.
const SLICE: Duration = TTL;
/// At most so long, what a peer keeps in memory is brought back before its turn.
const WARM_UP: Duration = Duration::from_millis(500);
const THREADS: usize = 2;
/// Where the second thread starts in the pool.
const STRIDE: usize = 30_011;
/// Keys revoked while they are verified: through the same process, where the
/// race is short, and through another one, where the whole TTL shows.
const TRIALS_OWN: usize = 200;
const TRIALS_ELSEWHERE: usize = 6;
const TRIALS_TIME: Duration = Duration::from_secs(20);
/// A key that is still granted so long after its revocation is an error.
const STALE_MAX: Duration = Duration::from_secs(10);

type Sessions<'p> = [Box<dyn Session + 'p>];

/// Verifications by a number of threads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reads {
    pub(crate) per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// How long a revoked key was still granted after the revoke had returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stale {
    pub(crate) max_ms: f64,
    pub(crate) trials: usize,
    /// How many of them were granted at all after that.
    pub(crate) granted: usize,
}

/// What was measured of a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) one: Reads,
    pub(crate) two: Reads,
    pub(crate) revokes_per_s: f64,
    pub(crate) stale_own: Stale,
    /// `None` where only one process may have the store open.
    pub(crate) stale_elsewhere: Option<Stale>,
}

/// A peer with its sessions, which last for the run as a server's would.
pub(crate) struct Lane<'p> {
    sessions: Vec<Box<dyn Session + 'p>>,
    elsewhere: Option<Box<dyn Session + 'p>>,
    tokens: &'p Tokens,
    revoked: usize,
    one: Vec<Reads>,
    two: Vec<Reads>,
    revokes_per_s: Vec<f64>,
}

impl<'p> Lane<'p> {
    /// Opens the sessions, and sees that the peer does what it is compared for.
    pub(crate) fn open(peer: &'p dyn Peer, world: &'p World) -> Result<Self> {
        let mut lane = Self {
            sessions: (0..THREADS)
                .map(|_| peer.session())
                .collect::<Result<_>>()?,
            elsewhere: peer.elsewhere()?,
            tokens: peer.tokens(world),
            revoked: 0,
            one: Vec::new(),
            two: Vec::new(),
            revokes_per_s: Vec::new(),
        };
        lane.check()?;
        Ok(lane)
    }

    fn check(&mut self) -> Result<()> {
        let session = self.sessions.first_mut().context("no session")?;
        for token in self.tokens.pool.iter().take(8) {
            ensure!(session.verify(token)?, "a good token is refused");
            ensure!(
                !session.verify(&with_other_secret(token))?,
                "a wrong secret is granted"
            );
        }
        let trial = self.tokens.trials.last().context("no trials")?;
        ensure!(session.verify(trial)?, "a good token is refused");
        session.revoke(trial)?;
        ensure!(!session.verify(trial)?, "a revoked token is granted");
        Ok(())
    }

    /// One turn of verifications: with one thread, then with two.
    pub(crate) fn read(&mut self) -> Result<()> {
        let pool = &self.tokens.pool;
        for session in &mut self.sessions {
            let until = Instant::now() + WARM_UP;
            for token in pool.iter().take_while(|_| Instant::now() < until) {
                granted(session.as_mut(), token)?;
            }
        }
        let one = self.sessions.get_mut(..1).context("no session")?;
        self.one.push(reads(one, pool)?);
        self.two.push(reads(&mut self.sessions, pool)?);
        Ok(())
    }

    /// One turn of revocations, each of another key.
    pub(crate) fn write(&mut self) -> Result<()> {
        let session = self.sessions.first_mut().context("no session")?;
        let victims = self.tokens.victims.get(self.revoked..).unwrap_or_default();
        let start = Instant::now();
        let mut count = 0;
        for token in victims {
            session.revoke(token)?;
            count += 1;
            if start.elapsed() >= SLICE {
                break;
            }
        }
        self.revoked += count;
        if count > 0 {
            let rate = count as f64 / start.elapsed().as_secs_f64();
            self.revokes_per_s.push(rate);
        }
        Ok(())
    }

    /// The staleness, at the end: it uses up the trials.
    pub(crate) fn finish(mut self) -> Result<Figures> {
        let [reader, revoker] = self.sessions.as_mut_slice() else {
            return Err(anyhow!("not two sessions"));
        };
        // The last one went in the check.
        let trials = self.tokens.trials.split_last().context("no trials")?.1;
        let elsewhere = trials.len().min(TRIALS_ELSEWHERE);
        let (elsewhere, own) = trials.split_at(elsewhere.min(trials.len() / 2));
        let revoke_time = 1.0 / median(&self.revokes_per_s).max(1.0);
        let stale_elsewhere = match self.elsewhere.as_deref_mut() {
            Some(other) => Some(stale(reader.as_mut(), other, elsewhere, revoke_time)?),
            None => None,
        };
        let own = own.get(..TRIALS_OWN).unwrap_or(own);
        Ok(Figures {
            one: middle(&self.one),
            two: middle(&self.two),
            revokes_per_s: median(&self.revokes_per_s),
            stale_own: stale(reader.as_mut(), revoker.as_mut(), own, revoke_time)?,
            stale_elsewhere,
        })
    }
}

/// How long a clock takes to read twice, which every latency includes.
pub(crate) fn clock_us() -> f64 {
    let mut histogram = Latencies::new();
    for _ in 0..100_000 {
        histogram.time(|| ());
    }
    histogram.us(0.5)
}

fn granted(session: &mut dyn Session, token: &str) -> Result<()> {
    let granted = session.verify(black_box(token))?;
    ensure!(black_box(granted), "a good token is refused");
    Ok(())
}

/// The same token with another secret: its last character but the check is
/// another, and what check it has is left as it is.
fn with_other_secret(token: &str) -> String {
    let mut bytes = token.as_bytes().to_vec();
    let at = bytes.len() - 20;
    bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
    String::from_utf8_lossy(&bytes).into_owned()
}

fn reads(sessions: &mut Sessions<'_>, pool: &[String]) -> Result<Reads> {
    // In slices of their own: reading the clock would slow down the rate.
    let rates = run(sessions, pool, |session, tokens, stop| {
        let start = Instant::now();
        let mut count = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            granted(session, tokens.next())?;
            count += 1;
        }
        Ok(count as f64 / start.elapsed().as_secs_f64())
    })?;
    let latencies = run(sessions, pool, |session, tokens, stop| {
        let mut latencies = Latencies::new();
        while !stop.load(Ordering::Relaxed) {
            let token = tokens.next();
            latencies.time(|| granted(session, token))?;
        }
        Ok(latencies)
    })?;
    let mut all = Latencies::new();
    for one in &latencies {
        all.0.add(&one.0)?;
    }
    Ok(Reads {
        per_s: rates.iter().sum(),
        p50_us: all.us(0.5),
        p99_us: all.us(0.99),
    })
}

/// Runs `work` in a thread a session, for a slice.
fn run<T: Send>(
    sessions: &mut Sessions<'_>,
    pool: &[String],
    work: impl Fn(&mut dyn Session, &mut Around<'_>, &AtomicBool) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let stop = AtomicBool::new(false);
    let ready = Barrier::new(sessions.len() + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = sessions
            .iter_mut()
            .enumerate()
            .map(|(thread, session)| {
                let (stop, ready, work) = (&stop, &ready, &work);
                let mut tokens = Around::new(pool, thread * STRIDE);
                scope.spawn(move || {
                    ready.wait();
                    work(session.as_mut(), &mut tokens, stop)
                })
            })
            .collect();
        ready.wait();
        thread::sleep(SLICE);
        stop.store(true, Ordering::Relaxed);
        workers
            .into_iter()
            .map(|worker| worker.join().map_err(|_| anyhow!("a thread panicked"))?)
            .collect()
    })
}

/// The tokens of a pool, over and over.
struct Around<'a> {
    pool: &'a [String],
    at: usize,
}

impl<'a> Around<'a> {
    fn new(pool: &'a [String], from: usize) -> Self {
        let at = from % pool.len();
        Self { pool, at }
    }

    fn next(&mut self) -> &'a str {
        let token = &self.pool[self.at];
        self.at += 1;
        if self.at == self.pool.len() {
            self.at = 0;
        }
        token
    }
}

/// Revokes keys by one session while the other verifies them, which starts at
/// one moment or another of the revocation: a cache that is filled just then
/// may keep what was true before.
fn stale(
    reader: &mut dyn Session,
    revoker: &mut dyn Session,
    trials: &[String],
    revoke_time_s: f64,
) -> Result<Stale> {
    let start = Instant::now();
    let mut stale = Stale {
        max_ms: 0.0,
        trials: 0,
        granted: 0,
    };
    for (at, token) in trials.iter().enumerate() {
        if start.elapsed() > TRIALS_TIME {
            break;
        }
        let delay = Duration::from_secs_f64(revoke_time_s * (at % 16) as f64 / 16.0);
        let after = trial(reader, revoker, token, delay)?;
        stale.trials += 1;
        if let Some(after) = after {
            stale.granted += 1;
            stale.max_ms = stale.max_ms.max(after.as_secs_f64() * 1e3);
        }
    }
    Ok(stale)
}

/// How long after the revoke had returned the last verification began that
/// granted, if one did.
fn trial(
    reader: &mut dyn Session,
    revoker: &mut dyn Session,
    token: &str,
    delay: Duration,
) -> Result<Option<Duration>> {
    let returned = AtomicBool::new(false);
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        let reading = scope.spawn(|| -> Result<Option<Instant>> {
            ready.wait();
            let begin = Instant::now();
            while begin.elapsed() < delay {
                std::hint::spin_loop();
            }
            let mut last_granted = None;
            loop {
                // Before the verification starts, so that only one that started
                // after the return can end the trial.
                let over = returned.load(Ordering::Acquire);
                let started = Instant::now();
                if reader.verify(token)? {
                    last_granted = Some(started);
                } else if over {
                    return Ok(last_granted);
                }
                ensure!(begin.elapsed() < STALE_MAX, "a revoked key stays granted");
            }
        });
        ready.wait();
        let outcome = revoker.revoke(token);
        let at = Instant::now();
        returned.store(true, Ordering::Release);
        let last = reading
            .join()
            .map_err(|_| anyhow!("the reader panicked"))??;
        outcome?;
        Ok(last.and_then(|last| last.checked_duration_since(at)))
    })
}

/// Latencies in nanoseconds, up to ten seconds.
struct Latencies(Histogram<u64>);

impl Latencies {
    #[allow(clippy::expect_used)]
    fn new() -> Self {
        // Three digits and this range are among what it can hold.
        Self(Histogram::new_with_max(10_000_000_000, 3).expect("fixed bounds"))
    }

    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let out = work();
        let time = start.elapsed().as_nanos() as u64;
        self.0.saturating_record(time);
        out
    }

    fn us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }
}

fn middle(rounds: &[Reads]) -> Reads {
    let of = |what: fn(&Reads) -> f64| median(&rounds.iter().map(what).collect::<Vec<_>>());
    Reads {
        per_s: of(|reads| reads.per_s),
        p50_us: of(|reads| reads.p50_us),
        p99_us: of(|reads| reads.p99_us),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
