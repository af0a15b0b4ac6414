//! What a server knows of its fleet.

use std::time::Duration;

use crate::model::log::LogError;

/// What a server knows of its fleet, from [`Engine::fleet_status`](crate::Engine::fleet_status).
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status {
    /// The name of this server.
    pub node: String,
    /// The position of the entry that it has applied last.
    pub position: u64,
    /// The newest position that it has heard of, whose entry it may not have applied yet.
    pub newest: u64,
    /// How old its knowledge is: the time since before the last heartbeat that found nothing
    /// which it had not applied. `None` before the first.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialized::maybe_duration")
    )]
    pub age: Option<Duration>,
    /// How old its knowledge may be for it to verify tokens.
    #[cfg_attr(feature = "serde", serde(with = "crate::model::serialized::duration"))]
    pub lease: Duration,
    /// Whether it verifies tokens.
    pub is_fresh: bool,
    /// How many servers beat within their leases, this one included, as its last heartbeat
    /// found.
    pub servers: u64,
    /// How many entries it has applied since it was opened, its own included.
    pub applied: u64,
    /// How many entries it has appended since.
    pub appended: u64,
    /// How many of its appends came behind one of another server, and ran again.
    pub overtaken: u64,
    /// How many of its appends got no answer, so that it had to find out what became of them.
    pub unknown: u64,
    /// How many calls of the log failed, or gave what it could not apply.
    pub failures: u64,
    /// The last error, until a heartbeat succeeds.
    pub error: Option<LogError>,
}

impl Status {
    /// How many entries the log has, as far as this server has heard, that it has not
    /// applied.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use gatekey::fleet::{MemoryLog, Settings};
    /// # use gatekey::{Options, Pepper};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// # let options = || Ok::<_, gatekey::Error>(Options::new()
    /// #     .pepper(Pepper::new(1, b"32 bytes from a secret manager..")?));
    /// # options()?.create(&path)?.close()?;
    /// # let settings = Settings::new(Arc::new(MemoryLog::new()), "eu-1");
    /// # let engine = options()?.fleet(settings).found_fleet(&path)?;
    /// let status = engine.fleet_status().expect("it is of a fleet");
    /// assert_eq!(status.behind(), 0);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub const fn behind(&self) -> u64 {
        self.newest.saturating_sub(self.position)
    }
}

/// A server of a fleet, from [`Engine::fleet_servers`](crate::Engine::fleet_servers).
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Server {
    /// Its name.
    pub node: String,
    /// The position that it had applied at its last heartbeat; of the server that answers,
    /// the one that it has applied now.
    pub position: u64,
    /// How many entries it had not applied then, of those that any server is known to have
    /// applied or that the server that answers has heard of.
    pub behind: u64,
    /// How long ago its last heartbeat was, by the log's clock.
    #[cfg_attr(feature = "serde", serde(with = "crate::model::serialized::duration"))]
    pub age: Duration,
    /// For how long after a heartbeat it grants.
    #[cfg_attr(feature = "serde", serde(with = "crate::model::serialized::duration"))]
    pub lease: Duration,
    /// Whether that time is over, so that it grants nothing.
    pub is_gone: bool,
    /// The ids of the peppers that it was given, the newest first; `None` where it does not
    /// say.
    pub peppers: Option<Vec<u8>>,
}
