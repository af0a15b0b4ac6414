//! The options of an engine.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::fleet;
use crate::model::clock::{Clock, SystemClock};
use crate::model::error::OpenError;
use crate::model::expiring::OnExpiring;
use crate::model::health::{Failure, Hook};
use crate::model::key::Key;
use crate::model::limit::Limit;
use crate::model::secret::Pepper;
use crate::store::lags;
use crate::store::settings::{Intent, Settings};

/// The options with which an engine opens a store; each has a default.
///
/// ```
/// use gatekey::{Options, Pepper};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("keys.redb");
/// let engine = Options::new()
///     .pepper(Pepper::new(1, b"32 bytes from a secret manager..")?)
///     .resident_bytes(16 << 20)
///     .create(&path)?;
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
///
/// Opening consumes the options; clone them to open again, or to retry. Clones share
/// the clock. Each copy of a pepper is wiped when it is dropped.
#[derive(Debug, Clone)]
#[must_use]
pub struct Options {
    pub(crate) store: Settings,
    pub(crate) resident_bytes: usize,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) usage_interval: Option<Duration>,
    pub(crate) usage_history_bytes: u64,
    pub(crate) note_networks: bool,
    pub(crate) limited_keys: usize,
    pub(crate) failed_attempts: Option<Limit>,
    pub(crate) idempotency_window: Duration,
    pub(crate) fails_closed_after: Option<Duration>,
    pub(crate) hook: Option<Hook>,
    pub(crate) on_expiring: Option<OnExpiring>,
    pub(crate) clock_leap: Duration,
    pub(crate) fleet: Option<fleet::Settings>,
    /// Whether a file of a fleet may be opened without one, for a moment.
    pub(crate) ignores_fleet: bool,
    /// How many keys one transaction suspends, resumes or revokes together.
    pub(crate) at_once: usize,
    /// Whether the keys that lag are brought up without a flush.
    pub(crate) brings_up: bool,
    /// Whether a file that was not closed is read before it is repaired. `None`: where the
    /// engine has a thread, which then repairs it.
    pub(crate) reads_first: Option<bool>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            store: Settings {
                peppers: Vec::new(),
                cache_bytes: Self::CACHE_BYTES,
                intent: Intent::OpenOrCreate,
                verify_file: false,
                reads_first: false,
            },
            resident_bytes: Self::RESIDENT_BYTES,
            clock: Arc::new(SystemClock),
            usage_interval: Some(Self::USAGE_INTERVAL),
            usage_history_bytes: Self::USAGE_HISTORY_BYTES,
            note_networks: false,
            limited_keys: Self::LIMITED_KEYS,
            failed_attempts: None,
            idempotency_window: Self::IDEMPOTENCY_WINDOW,
            fails_closed_after: None,
            hook: None,
            on_expiring: None,
            clock_leap: Self::CLOCK_LEAP,
            fleet: None,
            ignores_fleet: false,
            at_once: lags::AT_ONCE,
            brings_up: true,
            reads_first: None,
        }
    }
}

impl Options {
    /// The default of [`resident_bytes`](Options::resident_bytes): 192 MiB, for two million
    /// keys. It is taken up as keys come into use.
    pub const RESIDENT_BYTES: usize = 192 << 20;
    /// The default of [`cache_bytes`](Options::cache_bytes): 64 MiB.
    pub const CACHE_BYTES: usize = 64 << 20;
    /// The default of [`usage_interval`](Options::usage_interval): 10 seconds.
    pub const USAGE_INTERVAL: Duration = Duration::from_secs(10);

    /// The default of [`usage_history_bytes`](Options::usage_history_bytes): 64 MiB.
    pub const USAGE_HISTORY_BYTES: u64 = 64 << 20;

    /// The default of [`limited_keys`](Options::limited_keys): 262,144.
    pub const LIMITED_KEYS: usize = 262_144;
    /// The most that [`limited_keys`](Options::limited_keys) can be.
    pub const LIMITED_KEYS_MAX: usize = 1 << 23;

    /// The default of [`clock_leap`](Options::clock_leap): 5 minutes.
    pub const CLOCK_LEAP: Duration = Duration::from_secs(300);

    /// The default of [`idempotency_window`](Options::idempotency_window): 24 hours.
    pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(86_400);

    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pepper. The one with the highest id signs new digests, in a
    /// [fleet](crate::fleet) the highest that all servers have. The others still
    /// verify, and a later batch renews the digests that they have verified under the
    /// newest. A store created without a pepper cannot get one later.
    pub fn pepper(mut self, pepper: Pepper) -> Self {
        self.store.peppers.push(pepper);
        self
    }

    /// Memory for keys in front of the file, in bytes; 0 reads every key from
    /// the file. Room for a key takes 98 bytes; what does not fill a set of eight keys
    /// is left unused. The memory is taken up as keys come into use: for 2,000 at first with the
    /// default, and for 1,000 at least where there is so much, then twice as much whenever keys
    /// crowd each other out, up to all of it: up to some 2.5 times what the keys in use need.
    ///
    /// Each time it grows, the table forgets its keys, which are read from the file again, at
    /// some 3.6 us each. In one run with the default, and 200,000 keys in use at random, 565,643 of
    /// the first 1,400,000 verifications read the file, of the last 200,000 of these 13,433.
    ///
    /// A key whose owner's path is longer than 40 bytes takes up the room of up to four. Of
    /// these 40, networks take 18 each, and 8 each the line of a key that came of a
    /// rotation, a "not before", an end of grace or a revocation, and permissions from the
    /// 65th on. Each more takes 88 bytes; a key with a path and networks that fill more than four is
    /// always read from the file.
    pub fn resident_bytes(mut self, bytes: usize) -> Self {
        self.resident_bytes = bytes;
        self
    }

    /// Memory for the storage engine's cache of pages, in bytes.
    ///
    /// ```
    /// use gatekey::Options;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// let engine = Options::new().cache_bytes(256 << 20).create(&path)?;
    /// assert!(engine.check()?.is_sound());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.store.cache_bytes = bytes;
        self
    }

    /// Replaces the system's clock.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Whether opening reads the whole file and verifies its checksums; `false` by
    /// default. Without it, damage done while the store was closed shows when a damaged
    /// record is read.
    ///
    /// ```
    /// use gatekey::{Engine, Options};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// Engine::create(&path)?.close()?;
    /// let engine = Options::new().verify_file(true).open(&path)?;
    /// assert!(engine.check()?.is_sound());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn verify_file(mut self, verify: bool) -> Self {
        self.store.verify_file = verify;
        self
    }

    /// How often the engine's thread writes the use of keys, and digests renewed under
    /// a new pepper. A crash loses the usage of one interval. `None` keeps no usage and
    /// starts no thread that stays: then only [`Engine::flush`](crate::Engine::flush) and closing
    /// renew digests, up to 262,144 keys at once, and only the next change recovers a
    /// store that has failed.
    ///
    /// ```
    /// # use gatekey::{NewKey, NewKeyspace};
    /// use std::time::Duration;
    /// use gatekey::Options;
    ///
    /// let often = Options::new().usage_interval(Duration::from_secs(1));
    /// let never = Options::new().usage_interval(None);
    /// for (options, is_kept) in [(often, true), (never, false)] {
    ///     let engine = options.open_in_memory()?;
    /// #     engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    ///     let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    ///     assert!(engine.verify(issued.token.expose())?.is_granted());
    ///     engine.flush()?; // rather than wait for the interval
    ///     assert_eq!(engine.key(issued.key.id)?.usage.last_used.is_some(), is_kept);
    ///     engine.close()?;
    /// }
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn usage_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.usage_interval = interval.into();
        self
    }

    /// How many bytes the usage history may have: the keys and values of its rows, of which
    /// the file takes about twice as much. A row has about 30 bytes, and the length of its
    /// path where it is an owner's: 64 MiB are the days of 8,000 keys in use, each of an
    /// owner of its own, for 90 days. 0 keeps no history.
    ///
    /// Keyspaces have a row for each hour, for 400 days; keys and owners one for each day on
    /// which they were used, for 90 days. Where there is no room, the oldest days of keys go
    /// first, then those of owners, then the oldest hours of keyspaces. Where only the
    /// present day is left, keys and owners without a row get none that day;
    /// [`Metrics::history_skipped`](crate::Metrics::history_skipped) counts how often.
    ///
    /// Needs a [`usage_interval`](Self::usage_interval).
    ///
    /// ```
    /// # use gatekey::{NewKey, NewKeyspace};
    /// use gatekey::{Options, Timestamp};
    ///
    /// let engine = Options::new().usage_history_bytes(0).open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// engine.verify(issued.token.expose())?;
    /// engine.flush()?;
    /// assert!(engine.usage_of_key(issued.key.id, Timestamp::MIN, engine.now())?.is_empty());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn usage_history_bytes(mut self, bytes: u64) -> Self {
        self.usage_history_bytes = bytes;
        self
    }

    /// Whether the networks that keys are used from are noted, for the hint
    /// [`HintRule::NewNetwork`](crate::HintRule::NewNetwork). Off by default: they are personal
    /// data where a key is a person's.
    ///
    /// A grant with a [source](crate::Requirements::source) is noted, as the `/24` of an IPv4
    /// address or the `/48` of an IPv6 address: the smallest networks that are routed by
    /// themselves, so that an address which a provider changes is not told as another. No
    /// address is kept. Of each network there are the instant of the first use and the day
    /// of the last.
    ///
    /// A key has up to 16. Where there are more, the one that was used least lately goes
    /// first; of those last used on the same day the one that came last. A network goes when
    /// the key was not used from it for 90 days, with a later flush, and all of a key's go
    /// with [`purge`](crate::Engine::purge). A backup has them, and a restored copy of it.
    /// With the option off, nothing is added, and what there is is kept for its 90 days.
    ///
    /// A [flush](crate::Engine::flush) writes them. Each thread has 64 KiB to know what it
    /// has noted. Between two flushes there is room for 65,536 networks of keys, and 16 of one
    /// key; others are noted at a later use. Needs a
    /// [`usage_interval`](Self::usage_interval).
    ///
    /// ```
    /// # use gatekey::{NewKey, NewKeyspace};
    /// use gatekey::{Options, Requirements};
    ///
    /// let engine = Options::new().note_networks(true).open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let from = Requirements::new().source("192.0.2.77".parse().unwrap());
    /// engine.verify_with(issued.token.expose(), &from)?;
    /// engine.flush()?; // rather than wait for the interval
    /// let networks = engine.networks_of(issued.key.id)?;
    /// assert_eq!(networks[0].network.to_string(), "192.0.2.0/24");
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn note_networks(mut self, note: bool) -> Self {
        self.note_networks = note;
        self
    }

    /// The most keys and owners whose requests are counted at a time, for limits; about
    /// 200 bytes each. A key and those that it is rotated to take one place. A place is free
    /// again when nothing of its windows counts any more: after two hours at most.
    ///
    /// Where there is no room, each organisation (the first segment of an owner's path) has
    /// an equal share. One that is below its share gets a place, for which those above
    /// theirs lose a few counters, which begin anew: of keys, of projects and below, and of
    /// plans that are shared by owner. One that is above its share is refused as rate
    /// limited: what cannot be counted is not let through. [`Stats`](crate::Stats) tells how
    /// often either happened: where it grows, raise this number.
    ///
    /// The same number bounds the keys with quotas, and the quotas, in memory, about
    /// 300 bytes each; there is room for 2,304 at least, since one request may need nine. While
    /// that is full, a request of a further key waits for a commit, which puts back up to 16
    /// quotas that were not used lately. More than
    /// [`LIMITED_KEYS_MAX`](Self::LIMITED_KEYS_MAX) is an error of opening.
    ///
    /// ```
    /// use gatekey::Options;
    ///
    /// // For a million callers at a time, each with a limit: 200 MB, if they all come.
    /// let engine = Options::new().limited_keys(1_000_000).open_in_memory()?;
    /// assert!(engine.health().is_well());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn limited_keys(mut self, keys: usize) -> Self {
        self.limited_keys = keys;
        self
    }

    /// Refuses, ahead of the lookup, what comes from an address from which so many
    /// attempts have failed: with a token that is malformed or unknown. An IPv6
    /// address counts by its network of 64 bits; of a network of 48 bits, eight of those
    /// count by themselves, and the rest together. One that carries an address of IPv4
    /// (NAT64, 6to4) counts as that. Good tokens from there are refused too, and a success
    /// resets nothing. Takes 2.1 MiB, and no more however many fail. Attempts under way at the same time do not see
    /// each other. Needs [`Requirements::source`](crate::Requirements::source), which
    /// behind a proxy must not be the proxy's; none by default.
    pub fn failed_attempts(mut self, limit: Limit) -> Self {
        self.failed_attempts = Some(limit);
        self
    }

    /// Makes every verification fail with
    /// [`Error::FailedClosed`](crate::Error::FailedClosed) once the store has taken no
    /// changes for this long, since nobody could revoke a key in that time. Without it,
    /// verifications continue to answer from the acknowledged state. The time starts
    /// with the first call that met the failure; see
    /// [`Engine::health`](crate::Engine::health).
    ///
    /// ```
    /// use gatekey::{Error, NewKey, NewKeyspace, Options, Reason};
    /// use std::time::Duration;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// let engine = Options::new().fail_closed_after(Duration::ZERO).create(&path)?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// std::fs::remove_file(&path).unwrap(); // the store takes no more changes
    /// assert!(engine.revoke(issued.key.id, Reason::KeyCompromise).is_err());
    /// let verdict = engine.verify(issued.token.expose());
    /// assert!(matches!(verdict, Err(Error::FailedClosed { .. })));
    /// # let _ = engine.close();
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn fail_closed_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.fails_closed_after = time.into();
        self
    }

    /// Sets a callback that the engine's thread calls when the store begins to fail,
    /// and after each failed attempt of that thread to write or to recover, at most ten
    /// seconds apart. The callback may use the engine, but must not close it. The
    /// engine catches a panic in it.
    ///
    /// With a callback, the engine starts its thread even if
    /// [`usage_interval`](Options::usage_interval) is `None`.
    ///
    /// ```
    /// use gatekey::{NewKeyspace, Options};
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// let (page, pager) = mpsc::channel();
    /// let options = Options::new().on_failure(move |failure| {
    ///     let _ = page.send(format!("{failure}; {}", failure.advice()));
    /// });
    /// let engine = options.create(&path)?;
    /// std::fs::remove_file(&path).unwrap(); // an operator's mistake
    /// assert!(engine.create_keyspace(NewKeyspace::new("acme_live")?).is_err());
    /// let told = pager.recv_timeout(Duration::from_secs(60)).unwrap();
    /// assert!(told.starts_with("the store takes no changes"));
    /// # let _ = engine.close();
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn on_failure(mut self, hook: impl Fn(&Failure) + Send + Sync + 'static) -> Self {
        self.hook = Some(Hook(Arc::new(hook)));
        self
    }

    /// Sets a callback that a [`flush`](crate::Engine::flush) calls, once it has written, for
    /// each key that has come so near to its end since the flush before: to its expiry, or to
    /// the end of its grace. The engine flushes by itself every
    /// [`usage_interval`](Options::usage_interval). `ahead` are the distances: a key that
    /// ends in 40 days is told for each, as it comes. A key that is issued with less to live
    /// than a distance is not told for it.
    ///
    /// A restart loses no notice: what fell due since the last commit is told by the first
    /// flush, for the nearest distance alone. So a notice may come twice after a restart. The
    /// callback gets the key and the
    /// distance, may use the engine, and must not close it; a panic in it is caught.
    ///
    /// ```
    /// # use gatekey::{ManualClock, NewKey, NewKeyspace};
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    /// use gatekey::Options;
    ///
    /// const DAY: Duration = Duration::from_secs(86_400);
    /// # let clock = ManualClock::at("2026-01-01T00:00:00Z".parse()?);
    /// let (mail, mails) = mpsc::channel();
    /// let options = Options::new().on_expiring([7 * DAY, DAY], move |key, ahead| {
    ///     let _ = mail.send(format!("{} ends within {ahead:?}", key.owner));
    /// });
    /// let engine = options.clock(clock.clone()).open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// engine.issue(NewKey::new("acme_live", "acme")?.expires_in(10 * DAY))?;
    /// engine.flush()?;
    /// clock.advance(4 * DAY);
    /// engine.flush()?;
    /// assert_eq!(mails.try_iter().collect::<Vec<_>>(), ["acme ends within 604800s"]);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn on_expiring(
        mut self,
        ahead: impl IntoIterator<Item = Duration>,
        hook: impl Fn(&Key, Duration) + Send + Sync + 'static,
    ) -> Self {
        let mut ahead: Vec<Duration> = ahead.into_iter().collect();
        ahead.sort_unstable();
        self.on_expiring = Some(OnExpiring {
            ahead,
            hook: Arc::new(hook),
        });
        self
    }

    /// How far the clock may leap, or lag behind the engine's present, before
    /// [`Engine::clock_status`](crate::Engine::clock_status) reports it; 5 minutes by
    /// default. The engine refuses nothing because of it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use gatekey::Options;
    ///
    /// let engine = Options::new().clock_leap(Duration::from_secs(60)).open_in_memory()?;
    /// assert!(!engine.clock_status()?.is_suspect());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn clock_leap(mut self, allowed: Duration) -> Self {
        self.clock_leap = allowed;
        self
    }

    /// How long after the first answer a caller can repeat a request under an
    /// idempotency key: see [`Engine::idempotent`](crate::Engine::idempotent).
    ///
    /// ```
    /// # use gatekey::{ManualClock, NewKey, NewKeyspace};
    /// use std::time::Duration;
    /// use gatekey::Options;
    ///
    /// # let clock = ManualClock::at("2026-01-01T00:00:00Z".parse()?);
    /// let hour = Duration::from_secs(3_600);
    /// let options = Options::new().idempotency_window(hour).clock(clock.clone());
    /// let engine = options.open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let ask = || engine.idempotent("6f1b6a0e")?.issue(NewKey::new("acme_live", "acme")?);
    /// let first = ask()?;
    /// clock.advance(2 * hour);
    /// ask()?; // a request of its own by now, which replaces no key
    /// assert!(engine.verify(first.token.expose())?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn idempotency_window(mut self, window: Duration) -> Self {
        self.idempotency_window = window;
        self
    }

    /// Sorts the peppers, the signing one first, and checks the rest.
    pub(crate) fn validate(&mut self) -> Result<(), OpenError> {
        self.store
            .peppers
            .sort_by_key(|pepper| std::cmp::Reverse(pepper.id()));
        for pair in self.store.peppers.windows(2) {
            if let [left, right] = pair
                && left.id() == right.id()
            {
                return Err(OpenError::Options(format!(
                    "two peppers have the id {}",
                    left.id()
                )));
            }
        }
        if self.limited_keys > Self::LIMITED_KEYS_MAX {
            return Err(OpenError::Options(format!(
                "room for {} limited keys: {} are the most",
                self.limited_keys,
                Self::LIMITED_KEYS_MAX
            )));
        }
        if let Some(limit) = self.failed_attempts
            && let Err(why) = limit.validate()
        {
            return Err(OpenError::Options(format!("failed attempts: {why}")));
        }
        if self.failed_attempts.is_some_and(Limit::is_for_fleet) {
            let why = "failed attempts are counted by each server by itself, and not for the fleet";
            return Err(OpenError::Options(why.to_owned()));
        }
        if self
            .usage_interval
            .is_some_and(|interval| interval.is_zero())
        {
            return Err(OpenError::Options("a usage interval of zero".to_owned()));
        }
        if let Some(fleet) = &self.fleet {
            fleet.validate()?;
        }
        Ok(())
    }
}
