//! The audit trail: reading, exporting and trimming it.

use std::io::Write;
use std::sync::Arc;

use crate::change;
use crate::engine::handle::Engine;
use crate::engine::looking::{PAGE, each_of_pages, validate_limit};
use crate::model::audit::link::{AuditSpan, Trimmed};
use crate::model::audit::{AuditEntry, AuditPage};
use crate::model::error::Result;
use crate::store::export::{self, AuditKey, Lines};
use crate::store::snapshot::Snapshot;

/// How many entries an export reads from one snapshot.
const PER_SNAPSHOT: u64 = 1000;

/// # The audit trail
impl Engine {
    /// Returns a page of up to `limit` audit entries, at most
    /// [`bounds::PAGE_MAX`](crate::bounds::PAGE_MAX), from position `from` on; 0: from
    /// the first that is there. The very first entry has position 1. The call checks
    /// that each entry follows the one before it.
    ///
    /// # Errors
    /// [`Error::Corrupted`](crate::Error::Corrupted) names the first entry that does
    /// not follow the one before; [`NotFound::AuditEntry`](crate::NotFound::AuditEntry)
    /// for a position that was trimmed away;
    /// [`Invalid::Malformed`](crate::Invalid::Malformed) for a limit of 0,
    /// [`Invalid::TooMany`](crate::Invalid::TooMany) for one over the maximum.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # for prefix in ["a", "b", "c"] {
    /// #     engine.create_keyspace(NewKeyspace::new(prefix)?)?;
    /// # }
    /// let page = engine.audit_page(1, 2)?;
    /// assert_eq!((page.entries.len(), page.next), (2, Some(3)));
    /// let last = engine.audit_page(3, 2)?;
    /// assert_eq!((last.entries.len(), last.next), (1, None));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn audit_page(&self, from: u64, limit: usize) -> Result<AuditPage> {
        validate_limit(limit)?;
        self.core.read(|snapshot| snapshot.audit(from, limit))
    }

    /// Iterates over the audit entries from position `from` on (0: from the first that
    /// is there), page by page, up to the newest when the iterator reaches it. An error
    /// ends the iterator.
    ///
    /// The iterator borrows nothing: it holds a handle of its own, and may be sent to
    /// another thread.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// for entry in engine.audit(0) {
    ///     let entry = entry?;
    ///     println!("{} {:?} {}", entry.at, entry.actor, entry.event);
    /// }
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn audit(&self, from: u64) -> impl Iterator<Item = Result<AuditEntry>> + Send + use<> {
        let engine = self.clone();
        each_of_pages(from, move |from| {
            let page = engine.audit_page(from, PAGE)?;
            Ok((page.entries.into_iter().map(Ok).collect(), page.next))
        })
    }

    /// Returns where the audit trail begins and ends. It begins after position 0, or
    /// after the last trimmed entry.
    ///
    /// # Errors
    /// See [`Engine`].
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// let span = engine.audit_span()?;
    /// assert_eq!((span.after.seq, span.last.seq), (0, 1));
    /// // Save it where a thief of the file cannot change it: "1:9f86d081..."
    /// println!("{}", span.last);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn audit_span(&self) -> Result<AuditSpan> {
        let state = self.core.read(Snapshot::state)?;
        Ok(AuditSpan::new(state.floor(), state.head()))
    }

    /// Writes the audit trail from position `from` (0: from the first entry that is
    /// there) to its present end, in a form that
    /// [`verify_audit_export`](crate::verify_audit_export) verifies without the store,
    /// and returns the exported span. The next export continues at `span.last.seq + 1`.
    ///
    /// The form is lines of text: a heading, `after` and a link, one line an entry (its
    /// position, and its bytes with its hash in hexadecimal; or `broken` and a link),
    /// `last` and a link. Changes continue meanwhile; the export takes a new snapshot
    /// for each thousand entries.
    ///
    /// # Errors
    /// [`NotFound::AuditEntry`](crate::NotFound::AuditEntry) for a position that was
    /// trimmed away, [`Error::Corrupted`](crate::Error::Corrupted) for an entry that
    /// does not follow on the one before it (once [`repair`](Engine::repair) has marked
    /// it as broken, the export skips it and says so), and
    /// [`Error::Store`](crate::Error::Store) where `out` cannot be written. After an
    /// error the output is incomplete, and verifying it fails.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("trail.txt");
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    /// let span = engine.export_audit(0, &mut file)?;
    /// file.into_inner().unwrap().sync_all().unwrap();
    /// assert_eq!(span.entries(), 1);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn export_audit(&self, from: u64, mut out: impl Write) -> Result<AuditSpan> {
        let mut put = |lines: String| {
            let written = out.write_all(lines.as_bytes());
            written.map_err(|error| export::failed(&error))
        };
        let (after, through) = self
            .core
            .read(|snapshot| Ok((snapshot.link_before(from)?, snapshot.state()?.audit_seq)))?;
        put(Lines::first(after))?;
        let mut last = after;
        while last.seq < through {
            let export = |snapshot: &Snapshot| snapshot.export(last, through, PER_SNAPSHOT);
            let (lines, reached) = self.core.read(export)?;
            put(lines)?;
            last = reached;
        }
        put(Lines::last(last))?;
        out.flush().map_err(|error| export::failed(&error))?;
        Ok(AuditSpan::new(after, last))
    }

    /// Returns the key that verifies exports of this store's audit trail elsewhere.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// use gatekey::verify_audit_export;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(gatekey::NewKeyspace::new("acme_live")?)?;
    /// let mut export = Vec::new();
    /// engine.export_audit(0, &mut export)?;
    /// // Elsewhere, without the store:
    /// let key = engine.audit_key();
    /// let span = verify_audit_export(export.as_slice(), &key, |entry| {
    ///     println!("{entry}");
    ///     Ok(())
    /// })?;
    /// assert_eq!(span, engine.audit_span()?);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn audit_key(&self) -> AuditKey {
        AuditKey::of(self.core.ring().chain_key().clone())
    }

    /// Removes the audit entries up to and including position `through` from the file.
    /// Export them first: the export and the remaining trail still form one chain.
    ///
    /// The trail records the trim in an entry of its own, with the link after which the
    /// trail begins. The engine keeps the entries that a revoked key's record refers
    /// to, so that [`Engine::key`] still says who revoked it and why; a trim after the
    /// purge of the key removes them. [`Engine::check`] verifies the remaining trail.
    /// Without the removed entries it can no longer find an old copy of a record that
    /// an attacker put back.
    ///
    /// The call reads every key once, then removes ten thousand entries a transaction.
    /// After a crash or an error, the entries removed so far stay removed.
    ///
    /// # Errors
    /// [`Error::Corrupted`](crate::Error::Corrupted) for an entry that does not follow
    /// the one before it: the call removes neither that entry nor those after it, until
    /// [`repair`](Engine::repair) has marked it as broken. See [`Engine`].
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_test")?)?;
    /// let mut export = Vec::new();
    /// let span = engine.export_audit(0, &mut export)?;
    /// // Once the export is safe:
    /// let trimmed = engine.trim_audit(span.last.seq)?;
    /// assert_eq!((trimmed.removed, trimmed.through), (2, span.last));
    /// assert_eq!(engine.audit_page(0, 10)?.entries[0].seq, 3);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn trim_audit(&self, through: u64) -> Result<Trimmed> {
        let (through, pointed, floor) = self.core.read(|snapshot| {
            let state = snapshot.state()?;
            let through = through.min(state.audit_seq);
            Ok((through, snapshot.pointed(through)?, state.floor()))
        })?;
        let pointed = Arc::new(pointed);
        let mut trimmed = Trimmed {
            removed: 0,
            kept: 0,
            through: floor,
        };
        loop {
            let pointed = pointed.clone();
            let step =
                self.change(move |tx, actor| change::trim::trim(tx, through, &pointed, actor))?;
            let Some(change::trim::Step {
                trimmed: one,
                is_last,
            }) = step
            else {
                return Ok(trimmed);
            };
            trimmed.removed += one.removed;
            trimmed.kept += one.kept;
            trimmed.through = one.through;
            if is_last {
                return Ok(trimmed);
            }
        }
    }
}
