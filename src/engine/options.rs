//! How an engine is opened.

use std::sync::Arc;
use std::time::Duration;

use crate::model::clock::{Clock, SystemClock};
use crate::model::error::OpenError;
use crate::model::health::{Failure, Hook};
use crate::model::limit::Limit;
use crate::model::secret::Pepper;
use crate::store::settings::{Intent, Settings};

/// The choices of an engine, with their defaults.
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
/// Opening takes the options; a clone of them can open again, or try again what failed.
/// Clones share the clock. Each copy of a pepper is wiped as it is dropped.
#[derive(Debug, Clone)]
#[must_use]
pub struct Options {
    pub(crate) store: Settings,
    pub(crate) resident_bytes: usize,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) usage_interval: Option<Duration>,
    pub(crate) limited_keys: usize,
    pub(crate) failed_attempts: Option<Limit>,
    pub(crate) idempotency_window: Duration,
    pub(crate) fails_closed_after: Option<Duration>,
    pub(crate) hook: Option<Hook>,
    pub(crate) clock_leap: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            store: Settings {
                peppers: Vec::new(),
                cache_bytes: Self::CACHE_BYTES,
                intent: Intent::OpenOrCreate,
                verify_file: false,
            },
            resident_bytes: Self::RESIDENT_BYTES,
            clock: Arc::new(SystemClock),
            usage_interval: Some(Self::USAGE_INTERVAL),
            limited_keys: Self::LIMITED_KEYS,
            failed_attempts: None,
            idempotency_window: Self::IDEMPOTENCY_WINDOW,
            fails_closed_after: None,
            hook: None,
            clock_leap: Self::CLOCK_LEAP,
        }
    }
}

impl Options {
    /// The default of [`resident_bytes`](Options::resident_bytes): 64 MiB.
    pub const RESIDENT_BYTES: usize = 64 << 20;
    /// The default of [`cache_bytes`](Options::cache_bytes): 64 MiB.
    pub const CACHE_BYTES: usize = 64 << 20;
    /// The default of [`usage_interval`](Options::usage_interval): 10 seconds.
    pub const USAGE_INTERVAL: Duration = Duration::from_secs(10);

    /// The default of [`limited_keys`](Options::limited_keys): 262,144.
    pub const LIMITED_KEYS: usize = 262_144;

    /// The default of [`clock_leap`](Options::clock_leap): 5 minutes.
    pub const CLOCK_LEAP: Duration = Duration::from_secs(300);

    /// The default of [`idempotency_window`](Options::idempotency_window): 24 hours.
    pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(86_400);

    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pepper. The one with the highest id signs; the others still
    /// verify, and what they verify is renewed under the newest in a later
    /// batch. A store made without a pepper does not take one later.
    pub fn pepper(mut self, pepper: Pepper) -> Self {
        self.store.peppers.push(pepper);
        self
    }

    /// Memory for keys in front of the file, in bytes; 0 reads every key from
    /// the file. A key takes 153 bytes; what does not fill a set of eight keys
    /// is left unused. A key whose owner's path is longer than 48 bytes is always
    /// read from the file; 8 of the 48 are taken up in a key that another was rotated
    /// to, and 18 by each of a key's networks.
    pub fn resident_bytes(mut self, bytes: usize) -> Self {
        self.resident_bytes = bytes;
        self
    }

    /// Memory for the pages of the file, in bytes: the storage engine's cache.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.store.cache_bytes = bytes;
        self
    }

    /// Another clock than the system's.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Whether the whole file is read and its checksums verified at opening;
    /// `false` by default. Without it, a file that was damaged while closed is
    /// noticed when a damaged record is read.
    pub fn verify_file(mut self, verify: bool) -> Self {
        self.store.verify_file = verify;
        self
    }

    /// How often the use of keys, and digests renewed under a new pepper, are
    /// written, from a thread of the engine's. `None` keeps no usage at all and
    /// starts no thread: digests are renewed by [`Engine::flush`](crate::Engine::flush) and as the engine
    /// closes, those of up to 262,144 keys at a time, and a store that has failed recovers
    /// at the next change alone. A crash loses the usage of one interval.
    pub fn usage_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.usage_interval = interval.into();
        self
    }

    /// The most keys whose requests are counted at a time, for the limits of their
    /// plans; about 150 bytes each. A key is forgotten when nothing of its limits'
    /// windows counts any more. Where there is no room, the requests of further keys
    /// are refused as rate limited: what cannot be counted is not let through.
    ///
    /// As many keys, and as many quotas, are spent from memory at a time; about 200 bytes
    /// each. Where there is no room, a request of a further key puts back what is in memory
    /// of up to 16 quotas that were not used lately, in the commit that it waits for.
    pub fn limited_keys(mut self, keys: usize) -> Self {
        self.limited_keys = keys;
        self
    }

    /// Refuses, ahead of the lookup, what comes from an address from which so many
    /// attempts have failed: with a token that is malformed or unknown. An IPv6
    /// address counts by its network of 64 bits; of a network of 48 bits, eight of those
    /// count by themselves, and the rest together. One that carries an address of IPv4
    /// (NAT64, 6to4) counts as that. Good tokens from there are refused too, and a success
    /// resets nothing. Takes 1.6 MiB, and no more however many fail. Attempts under way at the same time do not see
    /// each other. Needs [`Requirements::source`](crate::Requirements::source), which
    /// behind a proxy must not be the proxy's; none by default.
    pub fn failed_attempts(mut self, limit: Limit) -> Self {
        self.failed_attempts = Some(limit);
        self
    }

    /// Lets every verification be an error, [`Error::FailedClosed`](crate::Error::FailedClosed), once the store has
    /// taken no changes for so long: then nobody could have taken access away. Without
    /// it, verifications go on with what was acknowledged. The time runs from the first
    /// call that met the failure; see [`Engine::health`](crate::Engine::health).
    pub fn fail_closed_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.fails_closed_after = time.into();
        self
    }

    /// Calls back, from the engine's own thread, when the store begins to fail, and
    /// after each attempt of that thread to write or to recover that is in vain: ten
    /// seconds apart at the most. The engine may be used in it, and must not be closed. A
    /// panic in it goes no further.
    ///
    /// With it, the engine has its thread also where
    /// [`usage_interval`](Options::usage_interval) is `None`.
    pub fn on_failure(mut self, hook: impl Fn(&Failure) + Send + Sync + 'static) -> Self {
        self.hook = Some(Hook(Arc::new(hook)));
        self
    }

    /// By how much the clock may leap, or be behind the engine's present, before
    /// [`Engine::clock_status`](crate::Engine::clock_status) says that somebody should look at it; 5 minutes by
    /// default. Nothing is refused for it: see there.
    pub fn clock_leap(mut self, allowed: Duration) -> Self {
        self.clock_leap = allowed;
        self
    }

    /// How long a request under an idempotency key can be asked again, from when it was
    /// first answered: see [`Engine::idempotent`](crate::Engine::idempotent).
    pub fn idempotency_window(mut self, window: Duration) -> Self {
        self.idempotency_window = window;
        self
    }

    /// Sorts the peppers, the signing one first, and checks the rest.
    pub(crate) fn check(&mut self) -> Result<(), OpenError> {
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
        if let Some(limit) = self.failed_attempts
            && let Err(why) = limit.validate()
        {
            return Err(OpenError::Options(format!("failed attempts: {why}")));
        }
        if self
            .usage_interval
            .is_some_and(|interval| interval.is_zero())
        {
            return Err(OpenError::Options("a usage interval of zero".to_owned()));
        }
        Ok(())
    }
}
