//! A log in memory, for tests and examples.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::fleet::state::steady;
use crate::model::clock::{Clock, SystemClock};
use crate::model::log::{
    Appended, Beat, Beaten, BodyId, Entries, Head, Log, LogError, LogResult, Node, Seal,
    SnapshotInfo,
};

/// A log in memory, for several engines in one process. It is gone with its last handle.
///
/// ```
/// use std::sync::Arc;
/// use gatekey::fleet::{Log, MemoryLog};
///
/// let log = Arc::new(MemoryLog::new());
/// assert!(log.founding()?.is_none());
/// # Ok::<(), gatekey::fleet::LogError>(())
/// ```
pub struct MemoryLog {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    grew: Condvar,
}

#[derive(Default)]
struct Inner {
    founding: Option<Vec<u8>>,
    /// By their positions.
    entries: BTreeMap<u64, Vec<u8>>,
    floor: u64,
    head: u64,
    fence: u64,
    nodes: BTreeMap<String, (Beat, Duration)>,
    /// Of bodies, by the position before their entry.
    bodies: BTreeMap<(u64, BodyId, u32), Vec<u8>>,
    parts: BTreeMap<(u64, u32), Vec<u8>>,
    sealed: BTreeMap<u64, u32>,
}

impl Inner {
    fn head(&self) -> LogResult<Head> {
        let last = self.entries.get(&self.head).or(self.founding.as_ref());
        let last = last.ok_or_else(|| LogError::new("there is no log"))?;
        Ok(Head {
            position: self.head,
            seal: Seal::of(last),
            fence: self.fence,
        })
    }
}

impl MemoryLog {
    /// An empty log, with the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty log with a clock of its own, for tests of servers whose clocks differ from it.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use gatekey::fleet::MemoryLog;
    /// use gatekey::{ManualClock, SystemClock};
    ///
    /// let log = MemoryLog::with_clock(Arc::new(ManualClock::at(gatekey::Clock::now(&SystemClock))));
    /// ```
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            inner: Mutex::default(),
            grew: Condvar::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server, as it is seen at an instant.
fn node_at((beat, at): &(Beat, Duration), now: Duration) -> Node {
    Node {
        beat: beat.clone(),
        age: now.saturating_sub(*at),
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryLog({} entries)", self.inner().entries.len())
    }
}

impl Log for MemoryLog {
    fn found(&self, first: &[u8]) -> LogResult<bool> {
        let mut inner = self.inner();
        let is_new = inner.founding.is_none();
        if is_new {
            inner.founding = Some(first.to_vec());
        }
        Ok(is_new)
    }

    fn founding(&self) -> LogResult<Option<Vec<u8>>> {
        Ok(self.inner().founding.clone())
    }

    fn append(&self, after: &Head, entry: &[u8]) -> Appended {
        let mut inner = self.inner();
        let head = match inner.head() {
            Ok(head) => head,
            Err(error) => return Appended::Failed(error),
        };
        if head != *after {
            return Appended::Overtaken(head);
        }
        inner.head += 1;
        let position = inner.head;
        inner.entries.insert(position, entry.to_vec());
        self.grew.notify_all();
        Appended::Done
    }

    fn put_body(&self, after: u64, id: &BodyId, part: u32, bytes: &[u8]) -> LogResult<()> {
        let mut inner = self.inner();
        let put = inner.bodies.entry((after, *id, part));
        put.or_insert_with(|| bytes.to_vec());
        Ok(())
    }

    fn body(&self, after: u64, id: &BodyId, part: u32) -> LogResult<Option<Vec<u8>>> {
        Ok(self.inner().bodies.get(&(after, *id, part)).cloned())
    }

    fn fence(&self) -> LogResult<Head> {
        let mut inner = self.inner();
        inner.fence += 1;
        inner.head()
    }

    fn read(&self, after: u64, at_most: usize) -> LogResult<Entries> {
        let inner = self.inner();
        if after < inner.floor {
            return Ok(Entries::Trimmed { floor: inner.floor });
        }
        let behind = inner.entries.range(after.saturating_add(1)..);
        let found = behind.take(at_most).map(|(_, entry)| entry.clone());
        Ok(Entries::Found(found.collect()))
    }

    fn wait(&self, after: u64, timeout: Duration) -> LogResult<()> {
        let inner = self.inner();
        let waits = |inner: &mut Inner| inner.head <= after;
        let waited = self.grew.wait_timeout_while(inner, timeout, waits);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    fn beat(&self, beat: &Beat) -> LogResult<Beaten> {
        let mut inner = self.inner();
        let head = inner.head()?;
        let at = steady(&*self.clock);
        inner.nodes.insert(beat.node.clone(), (beat.clone(), at));
        let beats = |(beat, since): &&(Beat, Duration)| at.saturating_sub(*since) <= beat.lease;
        Ok(Beaten {
            head,
            at: self.clock.now(),
            servers: inner.nodes.values().filter(beats).count() as u64,
        })
    }

    fn nodes(&self) -> LogResult<Vec<Node>> {
        let now = steady(&*self.clock);
        let inner = self.inner();
        let nodes = inner.nodes.values();
        Ok(nodes.map(|node| node_at(node, now)).collect())
    }

    fn forget(&self, node: &str) -> LogResult<()> {
        self.inner().nodes.remove(node);
        Ok(())
    }

    fn put_part(&self, position: u64, part: u32, bytes: &[u8]) -> LogResult<()> {
        self.inner().parts.insert((position, part), bytes.to_vec());
        Ok(())
    }

    fn seal_snapshot(&self, snapshot: &SnapshotInfo) -> LogResult<()> {
        let mut inner = self.inner();
        inner.sealed.insert(snapshot.position, snapshot.parts);
        Ok(())
    }

    fn snapshots(&self) -> LogResult<Vec<SnapshotInfo>> {
        let inner = self.inner();
        let sealed = inner.sealed.iter();
        let infos = sealed.map(|(position, parts)| SnapshotInfo {
            position: *position,
            parts: *parts,
        });
        Ok(infos.collect())
    }

    fn part(&self, position: u64, part: u32) -> LogResult<Option<Vec<u8>>> {
        let inner = self.inner();
        let is_there = inner
            .sealed
            .get(&position)
            .is_some_and(|parts| part < *parts);
        let found = inner.parts.get(&(position, part)).filter(|_| is_there);
        Ok(found.cloned())
    }

    fn trim(&self, through: u64) -> LogResult<()> {
        let now = steady(&*self.clock);
        let mut inner = self.inner();
        let through = through.min(inner.head.saturating_sub(1));
        inner.entries.retain(|position, _| *position > through);
        inner.floor = inner.floor.max(through);
        inner.bodies.retain(|(after, ..), _| *after >= through);
        inner.sealed.retain(|position, _| *position >= through);
        inner.parts.retain(|(position, _), _| *position >= through);
        let floor = inner.floor;
        inner
            .nodes
            .retain(|_, node| !node_at(node, now).is_lost(floor));
        Ok(())
    }
}
