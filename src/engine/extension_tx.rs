//! A transaction of an extension.

use crate::change;
use crate::engine::follower::{Record, to_records};
use crate::engine::issuing::only;
use crate::model::audit::AuditEvent;
use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::Result;
use crate::model::id::{KeyId, Prefix};
use crate::model::key::{Issued, Key, KeyUpdate, NewKey, Revocation, Revoked, Rotated, Rotation};
use crate::model::keyspace::Keyspace;
use crate::model::owner::{OwnerPath, OwnerState};
use crate::store::extension::{self, ExtensionRecord};
use crate::store::life::Life;
use crate::store::tx::Tx;

/// A transaction, in which an extension changes its records and keys together: see
/// [`Extension::change`](crate::extension::Extension::change).
///
/// The verbs for keys do what those of [`Engine`](crate::Engine) do, with their audit
/// entries, and fail as they do.
pub struct ExtensionTx<'a, 't> {
    tx: &'a mut Tx<'t>,
    extension: &'a str,
    actor: Option<&'a str>,
}

impl<'a, 't> ExtensionTx<'a, 't> {
    pub(super) fn new(tx: &'a mut Tx<'t>, extension: &'a str, actor: Option<&'a str>) -> Self {
        Self {
            tx,
            extension,
            actor,
        }
    }

    /// The engine's present, the same for the whole transaction.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.tx.now()
    }
}

/// # Records
impl ExtensionTx<'_, '_> {
    fn table(&self, table: &str) -> Result<String> {
        extension::table_name(self.extension, table)
    }

    /// A record, as this transaction has left it; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Corrupted`](crate::Error::Corrupted) for a damaged record.
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<Record>> {
        let record = self.tx.extension_record(&self.table(table)?, key)?;
        Ok(record.map(Record::from))
    }

    /// Up to `limit` records, at most a thousand, in the order of their keys: from a key
    /// on, and before another one.
    ///
    /// # Errors
    /// [`Error::Corrupted`](crate::Error::Corrupted) for a damaged record.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let engine = Engine::open_in_memory()?;
    /// let devices = engine.extension("devices")?;
    /// // A serial number, drawn in the transaction that uses it: no two devices have the same.
    /// let add = || {
    ///     devices.change(|tx| {
    ///         let all = tx.page("devices", b"", None, 1_000)?;
    ///         let serial = u8::try_from(all.len()).unwrap_or(u8::MAX);
    ///         tx.put("devices", &[serial], 1, b"in the hall")?;
    ///         Ok(serial)
    ///     })
    /// };
    /// assert_eq!((add()?, add()?), (0, 1));
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
        let name = self.table(table)?;
        let page = self.tx.extension_page(&name, (from, before), limit)?;
        Ok(to_records(page))
    }

    /// The keys of up to `limit` records, at most a thousand, in their order: from a key on,
    /// and before another one. Also the keys of damaged records: for work that one damaged
    /// record must not stop. [`get`](Self::get) then tells which are.
    ///
    /// # Errors
    /// See [`Engine`](crate::Engine).
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let engine = Engine::open_in_memory()?;
    /// let devices = engine.extension("devices")?;
    /// let serials = devices.change(|tx| {
    ///     tx.put("devices", b"7", 1, b"in the hall")?;
    ///     tx.put("devices", b"8", 1, b"at the door")?;
    ///     tx.record_keys("devices", b"", None, 1_000)
    /// })?;
    /// assert_eq!(serials, [b"7", b"8"]);
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
        let name = self.table(table)?;
        self.tx.extension_keys(&name, (from, before, limit))
    }

    /// Puts a record in the place of what is there, also of what is damaged.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for an empty key or one over
    /// [`KEY_LEN_MAX`](crate::extension::KEY_LEN_MAX), a record over
    /// [`RECORD_LEN_MAX`](crate::extension::RECORD_LEN_MAX), and the name of the table.
    pub fn put(&mut self, table: &str, key: &[u8], version: u8, bytes: &[u8]) -> Result<()> {
        let name = self.table(table)?;
        let bytes = bytes.to_vec();
        self.tx
            .put_extension(&name, key, ExtensionRecord { version, bytes })
    }

    /// Removes a record, and says whether there was one.
    ///
    /// # Errors
    /// See [`Engine`](crate::Engine).
    pub fn remove(&mut self, table: &str, key: &[u8]) -> Result<bool> {
        let name = self.table(table)?;
        self.tx.remove_extension(&name, key)
    }

    /// Writes an entry in the audit trail: see
    /// [`AuditEvent::ExtensionChanged`](crate::AuditEvent::ExtensionChanged). A transaction of an extension that changes a right
    /// should write one.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for an event that is no identifier, a subject of more than
    /// [`bounds::NAME_LEN_MAX`] bytes, and a note.
    pub fn audit(&mut self, event: &str, subject: &str, note: Option<&str>) -> Result<()> {
        bounds::validate_identifier("event", event)?;
        bounds::validate_text("subject", subject, bounds::NAME_LEN_MAX)?;
        bounds::validate_text("note", note.unwrap_or(""), bounds::NOTE_LEN_MAX)?;
        let event = AuditEvent::ExtensionChanged {
            extension: self.extension.to_owned(),
            event: event.to_owned(),
            subject: subject.to_owned(),
            note: note.map(str::to_owned),
        };
        self.tx.audit(self.actor, event)
    }
}

/// # Keys
impl ExtensionTx<'_, '_> {
    /// Issues a key.
    ///
    /// # Errors
    /// As [`Engine::issue`](crate::Engine::issue).
    pub fn issue(&mut self, new: &NewKey) -> Result<Issued> {
        let specs = std::slice::from_ref(new);
        only(change::issue::issue(self.tx, specs, self.actor))
    }

    /// Replaces a key.
    ///
    /// # Errors
    /// As [`Engine::rotate`](crate::Engine::rotate).
    pub fn rotate(&mut self, key: KeyId, rotation: &Rotation) -> Result<Rotated> {
        change::rotate::rotate(self.tx, key, rotation, self.actor)
    }

    /// Replaces a key, also one that has expired, where the rotation says when the new key
    /// does. So what an operator has set for the key goes on: networks, plan, limits, and a
    /// quota with what is left of it; counters go on too. The new key is disabled if the old
    /// one was. For extensions whose keys are short-lived and come again and again.
    ///
    /// # Errors
    /// As [`Engine::rotate`](crate::Engine::rotate), but for that of an expired key, and
    /// [`Conflict::OwnerAtCap`](crate::Conflict::OwnerAtCap): an expired key did not count.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use gatekey::{Clock, ManualClock, NewKey, NewKeyspace, Options};
    /// use gatekey::{KeyUpdate, Limit, Rotation};
    ///
    /// # let clock = ManualClock::at("2026-01-01T00:00:00Z".parse()?);
    /// # let engine = Options::new().clock(clock.clone()).open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let devices = engine.extension("devices")?;
    /// let hour = Duration::from_secs(3600);
    /// let issued = engine.issue(NewKey::new("acme_live", "acme/device-7")?.expires_in(hour))?;
    /// let id = issued.key.id;
    /// engine.update(id, KeyUpdate::new().limits([Limit::per_minute(10)]))?;
    /// clock.advance(2 * hour);
    /// let rotation = Rotation::at_once().changing(KeyUpdate::new().expires_in(hour));
    /// let renewed = devices.change(move |tx| tx.renew(id, &rotation))?;
    /// assert_eq!(renewed.key.limits, Some(vec![Limit::per_minute(10)]));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn renew(&mut self, key: KeyId, rotation: &Rotation) -> Result<Rotated> {
        change::rotate::renew(self.tx, key, rotation, self.actor)
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// As [`Engine::revoke`](crate::Engine::revoke).
    pub fn revoke(&mut self, key: KeyId, revocation: impl Into<Revocation>) -> Result<Revoked> {
        let revocation = revocation.into();
        revocation.validate()?;
        change::revoke::revoke(self.tx, key, &revocation, self.actor)
    }

    /// Changes a key.
    ///
    /// # Errors
    /// As [`Engine::update`](crate::Engine::update).
    pub fn update(&mut self, key: KeyId, update: &KeyUpdate) -> Result<Key> {
        change::update::update(self.tx, key, update, self.actor)
    }

    /// Disables or enables a key.
    ///
    /// # Errors
    /// As [`Engine::disable`](crate::Engine::disable).
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let devices = engine.extension("devices")?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme/device-7")?)?;
    /// let id = issued.key.id;
    /// // A device that is away has no key, and is marked as away.
    /// devices.change(move |tx| {
    ///     tx.set_disabled(id, true)?;
    ///     tx.put("away", b"7", 1, b"")
    /// })?;
    /// assert!(!engine.verify(issued.token.expose())?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn set_disabled(&mut self, key: KeyId, disabled: bool) -> Result<Key> {
        change::update::set_disabled(self.tx, key, disabled, self.actor)
    }

    /// Removes a key that is over, and says whether there was one. One that is not over
    /// stays, and is not there to the answer.
    ///
    /// # Errors
    /// See [`Engine`](crate::Engine).
    pub fn purge(&mut self, key: KeyId) -> Result<bool> {
        change::purge::purge_one(self.tx, key, self.actor)
    }

    /// A key, in any state, as this transaction has left it.
    ///
    /// # Errors
    /// [`Error::Corrupted`](crate::Error::Corrupted) for a damaged record.
    pub fn find_key(&mut self, key: KeyId) -> Result<Option<Key>> {
        let Some(record) = self.tx.find_key(key)? else {
            return Ok(None);
        };
        if Life::from(&record).is_over(self.tx.now()) {
            self.tx.tell_over();
        }
        let cold = self.tx.cold(key)?;
        self.tx.describe(&record, cold).map(Some)
    }

    /// A keyspace.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`](crate::NotFound::Keyspace).
    pub fn keyspace(&self, prefix: Prefix) -> Result<Keyspace> {
        self.tx.keyspace(prefix)
    }

    /// Whether an owner is suspended, by itself or with one above it.
    ///
    /// # Errors
    /// [`Error::Corrupted`](crate::Error::Corrupted) for a damaged record.
    pub fn owner(&self, owner: &OwnerPath) -> Result<OwnerState> {
        self.tx.owner_state(owner)
    }
}
