//! How a server takes part in a fleet.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::options::Options;
use crate::model::error::OpenError;
use crate::model::log::Log;
use crate::model::text;

/// What a server does once it may no longer know what other servers have changed.
///
/// A server counts from before the last heartbeat that found nothing which it had not
/// applied. All servers of a fleet should be given the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// After this time, every verification is an error
    /// ([`Error::NotFresh`](crate::Error::NotFresh)), and none grants or denies. A
    /// revocation that returned is granted by no verification that starts this much
    /// later, whatever the network does.
    FailClosed(Duration),
    /// Goes on granting by what the server knew for this time, which may be much longer.
    /// Calls that take access away wait as long for a server that they do not reach.
    ServeStale(Duration),
}

impl Freshness {
    /// For how long a server grants after it last knew everything.
    ///
    /// ```
    /// use gatekey::fleet::Freshness;
    ///
    /// assert_eq!(Freshness::default().lease().as_secs(), 10);
    /// ```
    #[must_use]
    pub const fn lease(&self) -> Duration {
        match self {
            Self::FailClosed(lease) | Self::ServeStale(lease) => *lease,
        }
    }
}

impl Default for Freshness {
    /// Fails closed after 10 seconds.
    fn default() -> Self {
        Self::FailClosed(Duration::from_secs(10))
    }
}

/// How a server takes part in a fleet, for [`Options::fleet`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Settings {
    pub(super) log: Arc<dyn Log>,
    pub(super) node: String,
    pub(super) freshness: Freshness,
    pub(super) waits_everywhere: bool,
}

impl Settings {
    /// A server of this name, of which the fleet has no other. A host's name will do.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use gatekey::fleet::{MemoryLog, Settings};
    ///
    /// let settings = Settings::new(Arc::new(MemoryLog::new()), "eu-1");
    /// ```
    pub fn new(log: Arc<dyn Log>, node: impl Into<String>) -> Self {
        Self {
            log,
            node: node.into(),
            freshness: Freshness::default(),
            waits_everywhere: true,
        }
    }

    /// What the server does without news; by default it fails closed after 10 seconds.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use std::time::Duration;
    /// use gatekey::fleet::{Freshness, MemoryLog, Settings};
    ///
    /// let settings = Settings::new(Arc::new(MemoryLog::new()), "eu-1")
    ///     .freshness(Freshness::FailClosed(Duration::from_secs(3)));
    /// ```
    pub fn freshness(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }

    /// Lets calls that take access away return as soon as the log and this server have the
    /// change. By default they wait until every server that beats has applied it, or can
    /// grant nothing any more. Without waiting, the bound of [`Freshness`] holds from the
    /// return of the call.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use gatekey::fleet::{MemoryLog, Settings};
    ///
    /// let settings = Settings::new(Arc::new(MemoryLog::new()), "eu-1").locally();
    /// ```
    pub fn locally(mut self) -> Self {
        self.waits_everywhere = false;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), OpenError> {
        let refuse = |why: &str| Err(OpenError::Options(why.to_owned()));
        if self.node.is_empty() || self.node.len() > 64 || text::flaw(&self.node).is_some() {
            return refuse("the name of a server in a fleet is 1 to 64 bytes of text");
        }
        let lease = self.freshness.lease();
        if lease < Duration::from_millis(100) || lease > Duration::from_secs(30 * 86_400) {
            return refuse("the freshness of a fleet is between 100 ms and 30 days");
        }
        Ok(())
    }
}

/// # A fleet
impl Options {
    /// Makes the engine a server of a fleet: see [`fleet`](crate::fleet). Its file must be
    /// of the fleet already; [`Options::found_fleet`] and [`Options::join_fleet`] make it so.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use gatekey::fleet::{MemoryLog, Settings};
    /// use gatekey::{Error, OpenError, Options};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// Options::new().create(&path)?.close()?;
    /// let settings = Settings::new(Arc::new(MemoryLog::new()), "eu-1");
    /// let refused = Options::new().fleet(settings).open(&path);
    /// assert!(matches!(refused, Err(Error::Open { reason: OpenError::NotInFleet, .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn fleet(mut self, settings: Settings) -> Self {
        self.fleet = Some(settings);
        self
    }
}
