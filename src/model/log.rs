//! The log that the servers of a fleet share: what the engine asks of it.

use std::fmt;
use std::time::Duration;

use crate::model::clock::Timestamp;

/// The largest entry that an engine appends, in bytes. What is longer has a *body*, which is put
/// in parts before the entry: see [`Log::put_body`].
pub const ENTRY_LEN_MAX: usize = 512 << 10;
/// The largest part of a snapshot or of a body that an engine puts, in bytes.
pub const PART_LEN_MAX: usize = 1 << 20;
/// The longest body that an engine reads, in bytes: no change is larger. A log may take less
/// ([`Log::body_len_max`]).
pub const BODY_LEN_MAX: usize = 1 << 30;
/// The most bytes that [`Beat::reads`] has.
pub const READS_LEN_MAX: usize = 4096;
/// The length of a [`Seal`], in bytes: that of the end of each entry which is its seal.
pub const SEAL_LEN: usize = 32;

/// What a body is named by, beside the position of its entry: random bytes, drawn for each.
pub type BodyId = [u8; 16];

/// The last 32 bytes of an entry, which name its content and all before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seal([u8; SEAL_LEN]);

impl Seal {
    /// A seal of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; SEAL_LEN]) -> Self {
        Self(bytes)
    }

    /// The seal at the end of an entry. Of one that is shorter than a seal, it is all
    /// zeros, which no entry of an engine has.
    ///
    /// ```
    /// use gatekey::fleet::Seal;
    ///
    /// assert_eq!(Seal::of(&[7; 100]), Seal::new([7; 32]));
    /// ```
    #[must_use]
    pub fn of(entry: &[u8]) -> Self {
        Self(entry.last_chunk().copied().unwrap_or_default())
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SEAL_LEN] {
        &self.0
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Seal({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// Where a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "each log makes it")]
pub struct Head {
    /// The position of the last entry. That of the first, which founds the log, is 0.
    pub position: u64,
    /// The seal of that entry.
    pub seal: Seal,
    /// How often an append was fenced off. An append that was sent with a lower fence
    /// cannot land any more.
    pub fence: u64,
}

/// What became of an append.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_enums, reason = "each log makes it")]
pub enum Appended {
    /// It is the entry right behind the head that was named, and durable.
    Done,
    /// The log's head is another, or its fence is higher. Nothing was appended.
    Overtaken(Head),
    /// Nothing was appended, and nothing can be any more: it was not sent, say.
    Failed(LogError),
    /// It may be appended, now or later: the connection broke, or the deadline passed,
    /// before the answer.
    Unknown(LogError),
}

/// What a log gives of its entries.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_enums, reason = "each log makes it")]
pub enum Entries {
    /// The entries right behind the position, in order, without gaps. Empty: there are
    /// none yet.
    Found(Vec<Vec<u8>>),
    /// Entries behind the position were trimmed away. What is left begins behind `floor`.
    Trimmed {
        /// The last position that was trimmed away.
        floor: u64,
    },
}

/// What a server says of itself with each heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "each log reads it")]
pub struct Beat {
    /// The server's name, of which a fleet has no two.
    pub node: String,
    /// The position that the server has applied.
    pub position: u64,
    /// For how long after a heartbeat the server may go on granting by what it knew.
    pub lease: Duration,
    /// What the server can read, for the other servers: at most [`READS_LEN_MAX`] bytes,
    /// which a log keeps as they are.
    pub reads: Vec<u8>,
}

/// What a heartbeat found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "each log makes it")]
pub struct Beaten {
    /// The head at some moment after the heartbeat began.
    pub head: Head,
    /// What the log's clock said at some moment after the heartbeat began.
    pub at: Timestamp,
    /// How many servers have beaten within their leases, this one included. By so many it
    /// divides the limits that are for the fleet; it decides nothing else.
    pub servers: u64,
}

/// A server, as its last heartbeat left it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "each log makes it")]
pub struct Node {
    /// What it said.
    pub beat: Beat,
    /// How long ago that was, by the log's clock.
    pub age: Duration,
}

impl Node {
    /// Whether the server can grant nothing any more by what it knew at its last heartbeat.
    pub(crate) fn is_over(&self) -> bool {
        self.age > with_margin(self.beat.lease)
    }

    /// Whether the server has been gone for twice its lease, and by its last heartbeat is behind
    /// what a log has trimmed away: it grants nothing before it has beaten again, and as a rule has
    /// to join anew.
    ///
    /// ```
    /// use std::time::Duration;
    /// use gatekey::fleet::{Beat, Node};
    ///
    /// let lease = Duration::from_secs(10);
    /// let beat = Beat { node: "eu-1".to_owned(), position: 6, lease, reads: Vec::new() };
    /// let node = |age| Node { beat: beat.clone(), age: Duration::from_secs(age) };
    /// assert!(node(21).is_lost(7));
    /// assert!(!node(20).is_lost(7) && !node(21).is_lost(6));
    /// ```
    #[must_use]
    pub fn is_lost(&self, floor: u64) -> bool {
        self.age > self.beat.lease.saturating_mul(2) && self.beat.position < floor
    }
}

/// A lease, by the clock of another server: their rates differ by less than a hundredth.
pub(crate) fn with_margin(lease: Duration) -> Duration {
    lease.saturating_add(lease / 64)
}

/// A snapshot that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[allow(clippy::exhaustive_structs, reason = "each log makes it")]
pub struct SnapshotInfo {
    /// The position of the last entry that is in it.
    pub position: u64,
    /// How many parts it has.
    pub parts: u32,
}

/// Why a log did not answer.
///
/// ```
/// use gatekey::fleet::LogError;
///
/// let error = LogError::new("the database does not answer");
/// assert_eq!(error.to_string(), "the database does not answer");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[error("{0}")]
pub struct LogError(String);

impl LogError {
    /// An error with this text, which must not have secrets.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The result of a call of a [`Log`].
pub type LogResult<T> = Result<T, LogError>;

/// A log that several servers share: a list of entries that only grows at its end.
///
/// An engine appends the delta of each of its transactions, and applies those of the
/// others. Whoever implements this has nothing to know of what an entry says.
/// `gatekey-postgres` keeps a log in PostgreSQL, and [`MemoryLog`](crate::fleet::MemoryLog) in
/// memory, for tests. The package `gatekey-logkit` has the tests that every
/// implementation must pass.
///
/// All calls can come from several threads at once. **Each has a deadline of its own**,
/// of some seconds: a call that never returns stops the engine's changes. None may panic.
///
/// The promises below are what the guarantee of a fleet stands on, in particular:
/// an entry that was `Done` is never lost, and a server that was deposed (a former primary
/// of a database) can neither append nor answer [`beat`](Log::beat).
///
/// A log that stands before another, and counts what its server appends:
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
/// use gatekey::fleet::{
///     Appended, Beat, Beaten, BodyId, Entries, Head, Log, LogResult, MemoryLog, Node, SnapshotInfo,
/// };
///
/// #[derive(Debug)]
/// struct Counting(Arc<MemoryLog>, AtomicU64);
///
/// impl Log for Counting {
///     fn append(&self, after: &Head, entry: &[u8]) -> Appended {
///         self.1.fetch_add(1, Ordering::Relaxed);
///         self.0.append(after, entry)
///     }
///     // All others are the other's.
///     fn put_body(&self, after: u64, id: &BodyId, part: u32, bytes: &[u8]) -> LogResult<()> {
///         self.0.put_body(after, id, part, bytes)
///     }
///     fn body(&self, after: u64, id: &BodyId, part: u32) -> LogResult<Option<Vec<u8>>> {
///         self.0.body(after, id, part)
///     }
///     fn body_len_max(&self) -> usize { self.0.body_len_max() }
///     fn found(&self, first: &[u8]) -> LogResult<bool> { self.0.found(first) }
///     fn founding(&self) -> LogResult<Option<Vec<u8>>> { self.0.founding() }
///     fn fence(&self) -> LogResult<Head> { self.0.fence() }
///     fn read(&self, after: u64, at_most: usize) -> LogResult<Entries> { self.0.read(after, at_most) }
///     fn wait(&self, after: u64, timeout: Duration) -> LogResult<()> { self.0.wait(after, timeout) }
///     fn beat(&self, beat: &Beat) -> LogResult<Beaten> { self.0.beat(beat) }
///     fn nodes(&self) -> LogResult<Vec<Node>> { self.0.nodes() }
///     fn forget(&self, node: &str) -> LogResult<()> { self.0.forget(node) }
///     fn put_part(&self, position: u64, part: u32, bytes: &[u8]) -> LogResult<()> {
///         self.0.put_part(position, part, bytes)
///     }
///     fn seal_snapshot(&self, snapshot: &SnapshotInfo) -> LogResult<()> { self.0.seal_snapshot(snapshot) }
///     fn snapshots(&self) -> LogResult<Vec<SnapshotInfo>> { self.0.snapshots() }
///     fn part(&self, position: u64, part: u32) -> LogResult<Option<Vec<u8>>> { self.0.part(position, part) }
///     fn trim(&self, through: u64) -> LogResult<()> { self.0.trim(through) }
/// }
///
/// let log = Counting(Arc::new(MemoryLog::new()), AtomicU64::new(0));
/// assert!(log.found(&[0; 40])?);
/// let beat = Beat { node: "eu-1".to_owned(), position: 0, lease: Duration::from_secs(10), reads: Vec::new() };
/// let head = log.beat(&beat)?.head;
/// assert!(matches!(log.append(&head, &[1; 40]), Appended::Done));
/// assert!(matches!(log.append(&head, &[2; 40]), Appended::Overtaken(now) if now.position == 1));
/// // The body of the entry that comes next.
/// log.put_body(1, &[7; 16], 0, b"part")?;
/// assert_eq!(log.body(1, &[7; 16], 0)?.as_deref(), Some(&b"part"[..]));
/// assert_eq!(log.body_len_max(), gatekey::fleet::BODY_LEN_MAX);
/// # Ok::<(), gatekey::fleet::LogError>(())
/// ```
pub trait Log: Send + Sync + fmt::Debug {
    /// Makes the log, with its first entry at position 0. `false`: there is one already,
    /// and nothing was changed.
    ///
    /// # Errors
    /// The outcome is unknown: call it again.
    fn found(&self, first: &[u8]) -> LogResult<bool>;

    /// The entry at position 0, which stays when others are trimmed; `None` where there
    /// is no log.
    ///
    /// # Errors
    /// The log does not answer.
    fn founding(&self) -> LogResult<Option<Vec<u8>>>;

    /// Appends an entry on the condition that the log ends with `after`, and with its
    /// fence. The entry, of at most [`ENTRY_LEN_MAX`] bytes, is durable when the call returns
    /// [`Appended::Done`].
    fn append(&self, after: &Head, entry: &[u8]) -> Appended;

    /// Puts one part, counted from 0, of the body of an entry that is too large to be appended
    /// whole and is about to be, right behind the position `after`. The part, of at most
    /// [`PART_LEN_MAX`] bytes, is durable when the call returns, and is there for whoever
    /// reads the entry. A part that is there already stays as it is.
    ///
    /// An append that is overtaken leaves its body to [`trim`](Log::trim). Where it runs again, the
    /// body has another id.
    ///
    /// # Errors
    /// The log does not answer. The part may be there.
    fn put_body(&self, after: u64, id: &BodyId, part: u32, bytes: &[u8]) -> LogResult<()>;

    /// One part of a body that was put behind a position; `None` where there is none.
    ///
    /// # Errors
    /// The log does not answer.
    fn body(&self, after: u64, id: &BodyId, part: u32) -> LogResult<Option<Vec<u8>>>;

    /// The longest body that this log takes, in bytes. An engine refuses a change that is larger,
    /// and one that is longer than [`BODY_LEN_MAX`] anyway.
    fn body_len_max(&self) -> usize {
        BODY_LEN_MAX
    }

    /// Raises the fence by one, durably, and gives the head that is then. An append that was
    /// sent before with a lower fence is in the log by then, or never will be.
    ///
    /// # Errors
    /// The log does not answer. The fence may have been raised.
    fn fence(&self) -> LogResult<Head>;

    /// Reads entries behind a position, at most so many. It may give fewer, and gives at
    /// least one where there is one.
    ///
    /// # Errors
    /// The log does not answer.
    fn read(&self, after: u64, at_most: usize) -> LogResult<Entries>;

    /// Waits until there is an entry behind a position, or until the timeout, or for any
    /// other reason: it promises nothing, and only spares readers the asking.
    ///
    /// # Errors
    /// The log does not answer.
    fn wait(&self, after: u64, timeout: Duration) -> LogResult<()>;

    /// Notes that a server is there. It must write, so that only the log's present primary
    /// can answer, and it gives the head as of a moment after the call began.
    ///
    /// # Errors
    /// The log does not answer.
    fn beat(&self, beat: &Beat) -> LogResult<Beaten>;

    /// All servers that were heard of, as of a moment after the call began. Once a server has
    /// beaten by this handle, only the log's present primary may answer: by an answer of a
    /// former one, servers that beat elsewhere would be gone.
    ///
    /// # Errors
    /// The log does not answer.
    fn nodes(&self) -> LogResult<Vec<Node>>;

    /// Forgets a server. One that beats again is there again.
    ///
    /// # Errors
    /// The log does not answer.
    fn forget(&self, node: &str) -> LogResult<()>;

    /// Puts one part of a snapshot at a position, counted from 0, in the place of what is
    /// there. Nobody sees it before [`seal_snapshot`](Log::seal_snapshot).
    ///
    /// # Errors
    /// The log does not answer.
    fn put_part(&self, position: u64, part: u32, bytes: &[u8]) -> LogResult<()>;

    /// Completes a snapshot, of which all parts were put.
    ///
    /// # Errors
    /// The log does not answer.
    fn seal_snapshot(&self, snapshot: &SnapshotInfo) -> LogResult<()>;

    /// The snapshots that are complete, in the order of their positions.
    ///
    /// # Errors
    /// The log does not answer.
    fn snapshots(&self) -> LogResult<Vec<SnapshotInfo>>;

    /// One part of a complete snapshot; `None` where it is gone.
    ///
    /// # Errors
    /// The log does not answer.
    fn part(&self, position: u64, part: u32) -> LogResult<Option<Vec<u8>>>;

    /// Removes the entries up to a position, but for the founding one and the last, and
    /// all snapshots below it. A snapshot at the position stays.
    ///
    /// Bodies go with the entries that they can be of: what was put behind p is of the entry at
    /// p + 1, or of none. So the bodies behind the last entry that was removed, and behind all
    /// later ones, stay.
    ///
    /// Then forgets the servers that [are lost](Node::is_lost): each by a condition that is
    /// checked as it is removed, so that no heartbeat is forgotten that came meanwhile. The
    /// entries may be removed where this fails.
    ///
    /// # Errors
    /// The log does not answer.
    fn trim(&self, through: u64) -> LogResult<()>;
}
