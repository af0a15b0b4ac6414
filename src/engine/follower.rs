//! Extensions that follow the changes of their records, and look at them in a check.

use std::sync::{Arc, Weak};

use crate::model::clock::Timestamp;
use crate::model::error::{Error, NotFound, Result};
use crate::model::id::KeyId;
use crate::model::key::Key;
use crate::store::check::{CheckReport, Finding};
use crate::store::delta::Delta;
use crate::store::extension::{self, Damaged, ExtensionRecord, REPORTED};
use crate::store::failure::guarded;
use crate::store::snapshot::Snapshot;
use crate::sync::{Mutex, lock};

/// A record of an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The version of its form, as the extension wrote it.
    pub version: u8,
    /// What the extension wrote.
    pub bytes: Vec<u8>,
}

impl From<ExtensionRecord> for Record {
    fn from(record: ExtensionRecord) -> Self {
        Self {
            version: record.version,
            bytes: record.bytes,
        }
    }
}

/// A record that a transaction changed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Changed<'a> {
    /// The extension's table.
    pub table: &'a str,
    /// The key of the record.
    pub key: &'a [u8],
    /// The record now; `None` where it was removed.
    pub new: Option<Record>,
}

/// A record of an extension with which something is wrong, for
/// [`Engine::check`](crate::Engine::check).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The table and the record, in readable form. Never a secret.
    pub record: String,
    /// What is wrong.
    pub problem: String,
}

/// The part of an extension that is in memory. The engine calls it.
///
/// A follower is told of each committed change of the extension's records before any
/// caller of that transaction gets its answer, and before any reader sees the change in
/// the file. So what it keeps in memory is never older than an acknowledged change: this
/// is how an extension keeps records resident.
///
/// The methods run while nobody else can write. They must be brief, and must not change
/// anything through the engine, which would wait for ever. One that panics, panics again
/// as the engine recovers, and until it does not, every verification is an error; where a
/// fleet's other server made the change, at the latest once the lease is over.
///
/// ```
/// # use gatekey::{Engine, Result};
/// use gatekey::extension::{Changed, ExtensionView, Follower};
/// use std::collections::BTreeSet;
/// use std::sync::{Arc, Mutex};
///
/// /// The serial numbers of all devices, in memory.
/// #[derive(Default)]
/// struct Serials(Mutex<BTreeSet<Vec<u8>>>);
///
/// impl Follower for Serials {
///     fn begin(&self, view: &ExtensionView<'_>) -> Result<()> {
///         // With more records than one page has: page by page.
///         let page = view.page("devices", b"", None, 1_000)?;
///         self.0.lock().unwrap().extend(page.into_iter().map(|(serial, _)| serial));
///         Ok(())
///     }
///     fn follow(&self, changes: &[Changed<'_>]) {
///         let mut serials = self.0.lock().unwrap();
///         for change in changes {
///             match change.new {
///                 Some(_) => serials.insert(change.key.to_vec()),
///                 None => serials.remove(change.key),
///             };
///         }
///     }
/// }
///
/// # let engine = Engine::open_in_memory()?;
/// let devices = engine.extension("devices")?;
/// devices.change(|tx| tx.put("devices", b"7", 1, b"in the hall"))?;
/// let serials = Arc::new(Serials::default());
/// devices.follow(&serials)?;
/// devices.change(|tx| tx.put("devices", b"8", 1, b"at the door"))?;
/// assert_eq!(serials.0.lock().unwrap().len(), 2);
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
pub trait Follower: Send + Sync {
    /// Reads what the extension keeps in memory. Called once, before the first change is
    /// followed.
    ///
    /// # Errors
    /// Those of reading, and of records that do not decode. Then nothing is followed.
    fn begin(&self, view: &ExtensionView<'_>) -> Result<()>;

    /// Follows a committed transaction. After a commit whose outcome was not known at first, it
    /// may be told the same changes twice.
    fn follow(&self, changes: &[Changed<'_>]);

    /// Looks at whether the extension's records agree with each other and with the keys
    /// that they name. [`Engine::check`](crate::Engine::check) has found before which
    /// records are damaged: a page of this view leaves them out, and to get one is
    /// [`Error::Corrupted`].
    ///
    /// # Errors
    /// Those of reading.
    fn check(&self, view: &ExtensionView<'_>) -> Result<Vec<Flaw>> {
        let _ = view;
        Ok(Vec::new())
    }
}

/// The records of an extension as one commit left them, and the keys beside them.
pub struct ExtensionView<'a> {
    snapshot: &'a Snapshot,
    extension: &'a str,
    now: Timestamp,
    damaged: Damaged,
}

impl<'a> ExtensionView<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, extension: &'a str, now: Timestamp) -> Self {
        Self {
            snapshot,
            extension,
            now,
            damaged: Damaged::Refused,
        }
    }

    /// The engine's present.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// A record; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Corrupted`] for a damaged record.
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<Record>> {
        let name = extension::table_name(self.extension, table)?;
        let record = self.snapshot.extension_record(&name, key)?;
        Ok(record.map(Record::from))
    }

    /// Up to `limit` records, at most a thousand, in the order of their keys: from a key
    /// on, and before another one.
    ///
    /// # Errors
    /// [`Error::Corrupted`] for a damaged record.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let engine = Engine::open_in_memory()?;
    /// let devices = engine.extension("devices")?;
    /// devices.change(|tx| {
    ///     (b'1'..=b'5').try_for_each(|serial| tx.put("devices", &[serial], 1, b""))
    /// })?;
    /// let page = devices.read(|view| view.page("devices", b"2", Some(b"5"), 1_000))?;
    /// let serials: Vec<_> = page.into_iter().map(|(serial, _)| serial).collect();
    /// assert_eq!(serials, [b"2", b"3", b"4"]);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn page(
        &self,
        table: &str,
        from: &[u8],
        before: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Record)>> {
        let name = extension::table_name(self.extension, table)?;
        let page = (from, before, limit);
        let page = self.snapshot.extension_page(&name, page, self.damaged)?;
        Ok(to_records(page))
    }

    /// The keys of up to `limit` records, at most a thousand, in their order: from a key on,
    /// and before another one. Also the keys of damaged records: for what one damaged record
    /// must not stop, such as [`Follower::begin`].
    ///
    /// # Errors
    /// See [`Engine`](crate::Engine).
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let engine = Engine::open_in_memory()?;
    /// let devices = engine.extension("devices")?;
    /// devices.change(|tx| tx.put("devices", b"7", 1, b"in the hall"))?;
    /// let serials = devices.read(|view| view.record_keys("devices", b"", None, 1_000))?;
    /// assert_eq!(serials, [b"7"]);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn record_keys(
        &self,
        table: &str,
        from: &[u8],
        before: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        let name = extension::table_name(self.extension, table)?;
        self.snapshot.extension_keys(&name, (from, before, limit))
    }

    /// A key, in any state.
    ///
    /// # Errors
    /// See [`Engine`](crate::Engine).
    pub fn find_key(&self, key: KeyId) -> Result<Option<Key>> {
        match guarded(|| self.snapshot.key(key, self.now)) {
            Err(Error::NotFound(NotFound::Key(_))) => Ok(None),
            found => found.map(Some),
        }
    }
}

pub(super) fn to_records(page: extension::Page) -> Vec<(Vec<u8>, Record)> {
    let page = page.into_iter();
    page.map(|(key, record)| (key, record.into())).collect()
}

/// The followers of all extensions of an engine.
#[derive(Default)]
pub(crate) struct Followers(Mutex<Vec<Following>>);

/// A follower, and the extension whose changes it follows.
type Following = (Arc<str>, Weak<dyn Follower>);

impl Followers {
    pub(super) fn add(&self, extension: Arc<str>, follower: Weak<dyn Follower>) {
        lock(&self.0).push((extension, follower));
    }

    fn living(&self) -> Vec<(Arc<str>, Arc<dyn Follower>)> {
        let mut followers = lock(&self.0);
        followers.retain(|(_, follower)| follower.strong_count() > 0);
        let living = followers.iter();
        living
            .filter_map(|(name, follower)| Some((name.clone(), follower.upgrade()?)))
            .collect()
    }

    /// Tells the followers of a delta.
    pub(super) fn publish(&self, delta: &Delta) {
        if delta.extensions.is_empty() {
            return;
        }
        for (name, follower) in self.living() {
            let mut changes = Vec::new();
            for ((table, key), change) in delta.extensions.each() {
                if let Some((extension, table)) = extension::parts_of(table)
                    && extension == &*name
                {
                    let new = change.new.clone().map(Record::from);
                    changes.push(Changed { table, key, new });
                }
            }
            if !changes.is_empty() {
                follower.follow(&changes);
            }
        }
    }

    /// Adds to a report what the followers find.
    pub(super) fn check(
        &self,
        snapshot: &Snapshot,
        now: Timestamp,
        report: &mut CheckReport,
    ) -> Result<()> {
        for (name, follower) in self.living() {
            let view = ExtensionView {
                damaged: Damaged::LeftOut,
                ..ExtensionView::new(snapshot, &name, now)
            };
            for flaw in follower.check(&view)? {
                report.find(Finding {
                    table: REPORTED,
                    record: format!("{name} {}", flaw.record),
                    problem: flaw.problem,
                });
            }
        }
        Ok(())
    }
}
