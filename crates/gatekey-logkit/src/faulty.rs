//! A log that fails on request.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gatekey::fleet::{
    Appended, BODY_LEN_MAX, Beat, Beaten, BodyId, Entries, Head, Log, LogError, LogResult, Node,
    SnapshotInfo,
};

/// What becomes of an append whose answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostAppend {
    /// It never reaches the log.
    Before,
    /// It is in the log.
    After,
    /// It is on the way, and reaches the log with [`FaultyLog::land`].
    Late,
    /// It is on the way, and reaches the log just before the server's next append.
    Overdue,
}

/// What a log says to those who wait for it to grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notified {
    /// What is so.
    Rightly,
    /// Nothing: a wait ends with its time.
    Never,
    /// That it has grown, whether or not it has.
    Always,
}

/// How often a log was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Asked {
    /// Waits that have ended.
    pub waits: u64,
    /// Questions for entries.
    pub reads: u64,
    /// Heartbeats.
    pub beats: u64,
    /// The longest time that was to be waited at once.
    pub longest_wait: Duration,
}

/// Stands between one engine and a log that several share, and fails on request: give
/// each server one of its own.
///
/// ```
/// use std::sync::Arc;
/// use gatekey::fleet::{Log, MemoryLog};
/// use gatekey_logkit::FaultyLog;
///
/// let log = FaultyLog::new(Arc::new(MemoryLog::new()));
/// log.cut(true);
/// assert!(log.founding().is_err());
/// ```
#[derive(Debug)]
pub struct FaultyLog {
    log: Arc<dyn Log>,
    is_cut: AtomicBool,
    delay_us: AtomicU64,
    faults_in_1000: AtomicU64,
    random: AtomicU64,
    lost: Mutex<Vec<LostAppend>>,
    cuts_as_it_loses: AtomicBool,
    on_the_way: Mutex<Vec<(Head, Vec<u8>)>>,
    overdue: Mutex<Vec<(Head, Vec<u8>)>>,
    before_it_is_seen: Mutex<Option<Then>>,
    before_appends: Mutex<Option<Each<()>>>,
    before_bodies: Mutex<Option<Each<u32>>>,
    puts_no_bodies: AtomicBool,
    notified: Mutex<Notified>,
    asked: Mutex<Asked>,
    body_len_max: AtomicUsize,
}

/// What is done within a call.
struct Then(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Then")
    }
}

/// What is done within calls.
struct Each<T>(Box<dyn Fn(T) + Send>);

impl<T> std::fmt::Debug for Each<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Each")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FaultyLog {
    /// One that does not fail yet.
    #[must_use]
    pub fn new(log: Arc<dyn Log>) -> Arc<Self> {
        Arc::new(Self {
            log,
            is_cut: AtomicBool::new(false),
            delay_us: AtomicU64::new(0),
            faults_in_1000: AtomicU64::new(0),
            random: AtomicU64::new(1),
            lost: Mutex::default(),
            cuts_as_it_loses: AtomicBool::new(false),
            on_the_way: Mutex::default(),
            overdue: Mutex::default(),
            before_it_is_seen: Mutex::default(),
            before_appends: Mutex::default(),
            before_bodies: Mutex::default(),
            puts_no_bodies: AtomicBool::new(false),
            notified: Mutex::new(Notified::Rightly),
            asked: Mutex::default(),
            body_len_max: AtomicUsize::new(BODY_LEN_MAX),
        })
    }

    /// Lets the next heartbeat take its answer, and others see it after something else is done,
    /// until when they see none: as a database may whose statement reads, and then waits.
    pub fn before_it_is_seen(&self, then: impl FnOnce() + Send + 'static) {
        *lock(&self.before_it_is_seen) = Some(Then(Box::new(then)));
    }

    /// Does something right before each append reaches the log: lets another server overtake
    /// it, say.
    pub fn before_appends(&self, each: impl Fn() + Send + 'static) {
        *lock(&self.before_appends) = Some(Each(Box::new(move |()| each())));
    }

    /// Does something right before each part of a body reaches the log, with its number.
    pub fn before_bodies(&self, each: impl Fn(u32) + Send + 'static) {
        *lock(&self.before_bodies) = Some(Each(Box::new(each)));
    }

    /// Lets the server put no bodies, and reach the log with all else; or lets it put them again.
    pub fn cut_bodies(&self, is_cut: bool) {
        self.puts_no_bodies.store(is_cut, Ordering::SeqCst);
    }

    /// Takes no longer bodies than these, in bytes.
    pub fn limit_bodies(&self, len_max: usize) {
        self.body_len_max.store(len_max, Ordering::SeqCst);
    }

    /// Says to the server from now on that the log has grown, or not.
    pub fn notify(&self, notified: Notified) {
        *lock(&self.notified) = notified;
    }

    /// How often the server has asked.
    #[must_use]
    pub fn asked(&self) -> Asked {
        *lock(&self.asked)
    }

    /// Cuts the server off, or lets it reach the log again.
    pub fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }

    /// Lets each call take this much longer, before and after it reaches the log.
    pub fn delay(&self, delay: Duration) {
        let us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.delay_us.store(us, Ordering::SeqCst);
    }

    /// Loses the answer of the next append that is not lost yet.
    pub fn lose(&self, append: LostAppend) {
        lock(&self.lost).push(append);
    }

    /// As [`lose`](Self::lose), and cuts the server off with it.
    pub fn lose_and_cut(&self, append: LostAppend) {
        self.cuts_as_it_loses.store(true, Ordering::SeqCst);
        self.lose(append);
    }

    /// Takes back what [`lose`](Self::lose) and [`lose_and_cut`](Self::lose_and_cut) have asked
    /// for, and nobody has met yet.
    pub fn lose_no_more(&self) {
        self.cuts_as_it_loses.store(false, Ordering::SeqCst);
        lock(&self.lost).clear();
    }

    /// Lets so many of a thousand calls fail, drawn from a seed: of an append, the answer is
    /// lost.
    pub fn fail_at_random(&self, in_1000: u64, seed: u64) {
        self.random.store(seed | 1, Ordering::SeqCst);
        self.faults_in_1000.store(in_1000, Ordering::SeqCst);
    }

    /// Lets what is on the way reach the log, and says what became of each.
    pub fn land(&self) -> Vec<Appended> {
        self.land_all(&self.on_the_way)
    }

    fn land_all(&self, late: &Mutex<Vec<(Head, Vec<u8>)>>) -> Vec<Appended> {
        let late = std::mem::take(&mut *lock(late));
        late.iter()
            .map(|(head, entry)| self.log.append(head, entry))
            .collect()
    }

    /// A number below a thousand.
    fn draw(&self) -> u64 {
        let step = |word: u64| {
            let mut word = word;
            word ^= word << 13;
            word ^= word >> 7;
            Some(word ^ (word << 17))
        };
        let drawn = self
            .random
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, step);
        (drawn.unwrap_or(1) >> 20) % 1000
    }

    fn fails(&self) -> bool {
        self.draw() < self.faults_in_1000.load(Ordering::SeqCst)
    }

    fn rest(&self) {
        let us = self.delay_us.load(Ordering::SeqCst);
        if us > 0 {
            std::thread::sleep(Duration::from_micros(us));
        }
    }

    fn reach(&self) -> LogResult<&dyn Log> {
        self.rest();
        match self.is_cut.load(Ordering::SeqCst) || self.fails() {
            true => Err(LogError::new("it is cut off")),
            false => Ok(&*self.log),
        }
    }

    /// As an answer comes: it may be lost on the way.
    fn answer<T>(&self, answer: LogResult<T>) -> LogResult<T> {
        self.rest();
        match self.is_cut.load(Ordering::SeqCst) {
            true => Err(LogError::new("it is cut off")),
            false => answer,
        }
    }
}

impl Log for FaultyLog {
    fn found(&self, first: &[u8]) -> LogResult<bool> {
        let answer = self.reach()?.found(first);
        self.answer(answer)
    }

    fn founding(&self) -> LogResult<Option<Vec<u8>>> {
        let answer = self.reach()?.founding();
        self.answer(answer)
    }

    fn append(&self, after: &Head, entry: &[u8]) -> Appended {
        self.rest();
        if self.is_cut.load(Ordering::SeqCst) {
            return Appended::Failed(LogError::new("it is cut off"));
        }
        if let Some(Each(each)) = &*lock(&self.before_appends) {
            each(());
        }
        self.land_all(&self.overdue);
        let lost = lock(&self.lost).pop().or_else(|| match self.fails() {
            false => None,
            true => Some(match self.draw() % 3 {
                0 => LostAppend::Before,
                1 => LostAppend::After,
                _ => LostAppend::Late,
            }),
        });
        let unknown = || {
            if self.cuts_as_it_loses.swap(false, Ordering::SeqCst) {
                self.cut(true);
            }
            Appended::Unknown(LogError::new("its answer was lost"))
        };
        match lost {
            Some(LostAppend::Before) => return unknown(),
            Some(LostAppend::Late) => {
                lock(&self.on_the_way).push((*after, entry.to_vec()));
                return unknown();
            }
            Some(LostAppend::Overdue) => {
                lock(&self.overdue).push((*after, entry.to_vec()));
                return unknown();
            }
            _ => {}
        }
        let appended = self.log.append(after, entry);
        self.rest();
        match lost.is_some() || self.is_cut.load(Ordering::SeqCst) {
            true => unknown(),
            false => appended,
        }
    }

    fn put_body(&self, after: u64, id: &BodyId, part: u32, bytes: &[u8]) -> LogResult<()> {
        if self.puts_no_bodies.load(Ordering::SeqCst) {
            return Err(LogError::new("it takes no bodies"));
        }
        if let Some(Each(each)) = &*lock(&self.before_bodies) {
            each(part);
        }
        let answer = self.reach()?.put_body(after, id, part, bytes);
        self.answer(answer)
    }

    fn body(&self, after: u64, id: &BodyId, part: u32) -> LogResult<Option<Vec<u8>>> {
        let answer = self.reach()?.body(after, id, part);
        self.answer(answer)
    }

    fn body_len_max(&self) -> usize {
        let own = self.body_len_max.load(Ordering::SeqCst);
        own.min(self.log.body_len_max())
    }

    fn fence(&self) -> LogResult<Head> {
        let answer = self.reach()?.fence();
        self.answer(answer)
    }

    fn read(&self, after: u64, at_most: usize) -> LogResult<Entries> {
        lock(&self.asked).reads += 1;
        let answer = self.reach()?.read(after, at_most);
        self.answer(answer)
    }

    fn wait(&self, after: u64, timeout: Duration) -> LogResult<()> {
        {
            let mut asked = lock(&self.asked);
            asked.longest_wait = asked.longest_wait.max(timeout);
        }
        let notified = *lock(&self.notified);
        let log = self.reach()?;
        let answer = match notified {
            Notified::Rightly => log.wait(after, timeout),
            Notified::Never => {
                std::thread::sleep(timeout);
                Ok(())
            }
            Notified::Always => Ok(()),
        };
        lock(&self.asked).waits += 1;
        self.answer(answer)
    }

    fn beat(&self, beat: &Beat) -> LogResult<Beaten> {
        lock(&self.asked).beats += 1;
        let log = self.reach()?;
        let answer = log.beat(beat);
        let then = lock(&self.before_it_is_seen).take();
        if let Some(Then(then)) = then {
            log.forget(&beat.node)?;
            then();
            log.beat(beat)?;
        }
        self.answer(answer)
    }

    fn nodes(&self) -> LogResult<Vec<Node>> {
        let answer = self.reach()?.nodes();
        self.answer(answer)
    }

    fn forget(&self, node: &str) -> LogResult<()> {
        let answer = self.reach()?.forget(node);
        self.answer(answer)
    }

    fn put_part(&self, position: u64, part: u32, bytes: &[u8]) -> LogResult<()> {
        let answer = self.reach()?.put_part(position, part, bytes);
        self.answer(answer)
    }

    fn seal_snapshot(&self, snapshot: &SnapshotInfo) -> LogResult<()> {
        let answer = self.reach()?.seal_snapshot(snapshot);
        self.answer(answer)
    }

    fn snapshots(&self) -> LogResult<Vec<SnapshotInfo>> {
        let answer = self.reach()?.snapshots();
        self.answer(answer)
    }

    fn part(&self, position: u64, part: u32) -> LogResult<Option<Vec<u8>>> {
        let answer = self.reach()?.part(position, part);
        self.answer(answer)
    }

    fn trim(&self, through: u64) -> LogResult<()> {
        let answer = self.reach()?.trim(through);
        self.answer(answer)
    }
}
