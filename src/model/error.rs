//! Errors. A denial is not an error: see [`Denial`](crate::Denial).

mod conflict;
mod invalid;
mod store_failure;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::clock::Timestamp;
use crate::model::log::LogError;
use crate::model::parse::ParseError;

pub use conflict::{Conflict, Difference, NotFound};
pub use invalid::Invalid;
pub use store_failure::StoreFailure;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// The variants differ by what a caller can do about them: correct the input
/// ([`Invalid`](Error::Invalid), [`NotFound`](Error::NotFound)), accept that the
/// store's state forbids the change ([`Conflict`](Error::Conflict)), or look at the
/// disk (most others). No error carries a token, a secret or a digest.
///
/// ```
/// use gatekey::{Engine, Error, Invalid, NewKeyspace};
///
/// let error = NewKeyspace::new("Acme Live").unwrap_err();
/// assert!(matches!(&error, Error::Invalid(Invalid::Malformed(error)) if error.what == "prefix"));
/// assert!(error.to_string().contains("Acme Live"));
/// ```
///
/// `Debug` prints the same sentence as `Display`, so that a `main` that returns this
/// error prints a sentence.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store could not be opened; the file is as it was.
    #[error("cannot open the store at {}: {reason}", path.display())]
    Open {
        /// The path as the caller gave it; empty for a store in memory.
        path: PathBuf,
        /// The reason.
        #[source]
        reason: OpenError,
    },
    /// The caller's input is not acceptable. Nothing was applied.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// What the call names does not exist. Nothing was applied.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The state of the store forbids the change. Nothing was applied.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// One item of a batch was not acceptable. Nothing of the batch was applied.
    #[error("item {index} of the batch: {source}; nothing of the batch was applied")]
    Batch {
        /// The position of the item, from 0.
        index: usize,
        /// What was wrong with it.
        #[source]
        source: Box<Error>,
    },
    /// A record is damaged, was tampered with, or is of an unknown version.
    /// It grants nothing. Run [`Engine::check`](crate::Engine::check), and
    /// restore from a backup.
    #[error("the store is corrupted: {0}; run a check, and restore from a backup")]
    Corrupted(Corruption),
    /// The commit failed, and the engine could not find out whether the change has
    /// reached the disk. It takes no further change before it knows. Until then,
    /// verifications answer as before the change. Read the state again once
    /// [`Engine::health`](crate::Engine::health) reports that the store takes changes.
    #[error(
        "the commit failed ({0}), and its outcome is unknown; read the state again once the store takes changes"
    )]
    OutcomeUnknown(StoreFailure),
    /// The store could not be read or written. The change was not applied.
    #[error("the store failed: {0}")]
    Store(StoreFailure),
    /// The store's file was removed or replaced while the engine was open. The engine
    /// takes no more changes, since the next engine to open the path would not find
    /// them.
    #[error(
        "the store's file was removed or replaced, so the engine takes no more changes; put the file back, or close the engine and open the store again"
    )]
    NeedsReopen,
    /// The store has taken no changes for longer than
    /// [`Options::fail_closed_after`](crate::Options::fail_closed_after) allows. No
    /// token is verified until it does.
    #[error(
        "the store has taken no changes since {since}, longer than fail_closed_after allows, so no token is verified"
    )]
    FailedClosed {
        /// When the store began to fail.
        since: Timestamp,
    },
    /// The log of the fleet that this server is of did not take the change, or holds what
    /// this server cannot apply. The change was not applied.
    #[error("the fleet's log failed: {0}")]
    Log(LogError),
    /// This server cannot know whether another one has taken access away since, longer than
    /// [`fleet::Settings`](crate::fleet::Settings) allow. No token is verified until the
    /// log answers again.
    #[error(
        "this server has had no news of the fleet's log for longer than its lease, so no token is verified{}",
        why.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
    )]
    NotFresh {
        /// The last error of the log, if there was one.
        why: Option<LogError>,
    },
    /// The engine was closed.
    #[error("the engine is closed; open the store again")]
    Closed,
    /// This process is a fork of the one that opened the engine: a daemon after it
    /// has detached, or a worker of a server that forks. Nothing was applied. The
    /// engine stays with the process that opened it.
    #[error(
        "this process is a fork of the one that opened the engine, and cannot use it; open the store after forking or daemonizing, in one process"
    )]
    Forked,
    /// The operating system gave no random bytes. The change was not applied.
    #[error("the operating system's random generator failed: {0}")]
    Entropy(String),
    /// The system would not start the maintenance thread.
    #[error("cannot start the maintenance thread: {0}")]
    Thread(#[source] Arc<std::io::Error>),
    /// A fault of this crate. Please report it.
    #[error("internal fault of gatekey, please report it: {0}")]
    Internal(&'static str),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Self::Invalid(Invalid::Malformed(error))
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// Why a store could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another engine of this process, has the store open. The call
    /// retried for about 30 ms, since the other may hold the file only for a moment.
    #[error("another engine, in this process or another, has the store open; close that one first")]
    InUse,
    /// The file exists but was not written by gatekey.
    #[error("the file is not a gatekey store: {0}")]
    NotAStore(String),
    /// The file was written by a later gatekey.
    #[error(
        "its format is version {found}, and this gatekey reads up to version {supported}; use a newer gatekey"
    )]
    NewerFormat {
        /// The version in the file.
        found: u32,
        /// The newest version that this crate reads.
        supported: u32,
    },
    /// The file may not be written.
    #[error("the file is read-only; let the engine write to it and to its directory")]
    ReadOnly,
    /// The directory that should hold the file does not exist.
    #[error("the directory {} does not exist; create it, or correct the path", .0.display())]
    MissingDirectory(PathBuf),
    /// The file does not exist, or is empty.
    #[error(
        "the file does not exist or is empty; if its volume is mounted and a new store is wanted, call create or open_or_create"
    )]
    Missing,
    /// The call would create a store, and a file exists that is not empty. The call
    /// left it as it is.
    #[error("the file exists already; call open to open it")]
    Exists,
    /// A pepper has the right id but not the bytes that this store knows.
    #[error(
        "the pepper with id {id} has not the bytes that this store knows; give those, or another id to a new pepper"
    )]
    WrongPepper {
        /// The id of the pepper.
        id: u8,
    },
    /// None of the peppers given is known to this store.
    #[error(
        "none of the peppers given (ids {given:?}) is known to this store (ids {known:?}); give one that is"
    )]
    UnknownPepper {
        /// The ids that were given.
        given: Vec<u8>,
        /// The ids that the store knows.
        known: Vec<u8>,
    },
    /// Keys are still hashed under a pepper that was not given;
    /// [`Engine::peppers`](crate::Engine::peppers) lists them beforehand. A key moves
    /// to the newest pepper when its token is used. Expired keys and those out of grace
    /// do not: [`Engine::purge`](crate::Engine::purge) removes them. Rotate or revoke
    /// keys that nobody uses.
    #[error(
        "{keys} keys are still hashed under the pepper with id {id}, which was not given; give it as well"
    )]
    MissingPepper {
        /// The id of the pepper.
        id: u8,
        /// How many keys need it.
        keys: u64,
    },
    /// The store was made with a pepper, and none was given.
    #[error("the store was made with a pepper (ids {known:?}), and none was given; give it")]
    PepperRequired {
        /// The ids that the store knows.
        known: Vec<u8>,
    },
    /// The store was made without a pepper, and one was given. Accepting it would
    /// accept a store that an attacker put in place of yours.
    #[error(
        "the store was made without a pepper, and one was given; make sure that it is your store, and give none"
    )]
    PepperNotExpected,
    /// The file is of a fleet, and the options name no log. Changed without the log, it
    /// would differ from the others' for ever.
    #[error(
        "the store is of a fleet; open it with the fleet's log, or let it leave the fleet first"
    )]
    InFleet,
    /// The options name a fleet's log, and the file is of no fleet, or of another.
    #[error(
        "the store is not of this fleet; found the fleet with it, or join with a path at which there is no file"
    )]
    NotInFleet,
    /// The options contradict each other or are out of range.
    #[error("invalid option: {0}")]
    Options(String),
    /// A part of the store that opening must read is corrupt. This is also what happens
    /// to a copy that another program made while the store was open: it mixes pages of
    /// several commits. [`Engine::backup`](crate::Engine::backup) makes copies that
    /// open.
    #[error(
        "the store is corrupted: {0}; if the file is a copy made while the store was open, it mixes pages of several commits: make copies with Engine::backup"
    )]
    Corrupted(String),
    /// The file could not be read or written.
    #[error("{0}")]
    Io(#[source] Arc<std::io::Error>),
    /// The file could not be opened for another reason.
    #[error("{0}")]
    Store(StoreFailure),
}

impl OpenError {
    pub(crate) fn io(error: std::io::Error) -> Self {
        Self::Io(Arc::new(error))
    }

    pub(crate) fn not_a_store(why: &str) -> Self {
        Self::NotAStore(why.to_owned())
    }

    /// An error of reading the store, as one of opening it.
    pub(crate) fn reading(error: Error) -> Self {
        match error {
            Error::Corrupted(corruption) => Self::Corrupted(corruption.to_string()),
            Error::Store(failure) | Error::OutcomeUnknown(failure) => Self::Store(failure),
            other => Self::Corrupted(other.to_string()),
        }
    }
}

/// What stands for a list without items.
fn or_none(text: &str) -> &str {
    match text {
        "" => "none",
        text => text,
    }
}

/// A damaged record, or the damaged file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Corruption {
    /// The table of the store.
    pub table: &'static str,
    /// The key of the record, in a readable form.
    pub record: String,
    /// What is wrong with it.
    pub why: String,
}

impl Corruption {
    /// Stands for the table where the file itself cannot be read.
    pub(crate) const FILE: &'static str = "file";
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "record {} of table {}: {}",
            self.record, self.table, self.why
        )
    }
}

impl std::error::Error for Corruption {}

impl Error {
    /// A failure to open a store; without a path, one in memory.
    pub(crate) fn open(path: Option<&Path>, reason: OpenError) -> Self {
        Self::Open {
            path: path.map(Path::to_owned).unwrap_or_default(),
            reason,
        }
    }

    pub(crate) fn corrupted(
        table: &'static str,
        record: impl fmt::Display,
        why: impl Into<String>,
    ) -> Self {
        Self::Corrupted(Corruption {
            table,
            record: record.to_string(),
            why: why.into(),
        })
    }

    /// Separates damage of one record, which a walk can skip, from a failure of the
    /// file, which ends the walk.
    pub(crate) fn or_damaged<T>(
        result: Result<T, Self>,
    ) -> Result<std::result::Result<T, Corruption>, Self> {
        match result {
            Ok(value) => Ok(Ok(value)),
            Err(Self::Corrupted(damage)) if damage.table != Corruption::FILE => Ok(Err(damage)),
            Err(error) => Err(error),
        }
    }

    /// Whether a caller may retry the call unchanged once the cause is gone: `true` for
    /// errors of the disk or the system, `false` for those of the input or the store's
    /// state.
    ///
    /// ```
    /// use gatekey::{Error, KeyId, NotFound};
    ///
    /// let id: KeyId = "01ABcdEFgh".parse()?;
    /// assert!(!Error::NotFound(NotFound::Key(id)).is_retryable());
    /// assert!(Error::NeedsReopen.is_retryable(), "once the file is back");
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Batch { source, .. } => source.is_retryable(),
            _ => matches!(
                self,
                Self::OutcomeUnknown(_)
                    | Self::Store(_)
                    | Self::NeedsReopen
                    | Self::FailedClosed { .. }
                    | Self::Entropy(_)
                    | Self::Thread(_)
            ),
        }
    }
}

#[cfg(test)]
mod tests;
