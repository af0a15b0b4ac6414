//! Suspending and resuming owners.

use crate::change;
use crate::engine::handle::Engine;
use crate::engine::looking::validate_limit;
use crate::model::audit::Scope;
use crate::model::error::{Error, Result};
use crate::model::filter::Cursor;
use crate::model::owner::{OwnerPath, OwnerState};
use crate::model::owner_page::OwnerPage;

/// # Owners
impl Engine {
    /// Suspends an owner and all owners below it, at once. Keys issued to them while
    /// the suspension lasts are suspended too. An owner that is suspended already stays
    /// as it is.
    ///
    /// One transaction, in which the records of up to 256 keys change. Those of more follow in
    /// later transactions, by the engine's own thread, without a difference in any answer: the
    /// suspension takes effect for all keys with the call, which takes as long for a million keys
    /// as for 257. Other calls are slower meanwhile: [`stats`](Self::stats) counts the rest one by
    /// one, another change took seven times as long (a test build), keys below the owner are
    /// verified from the file, new ones too, and a 17th change of so many keys waits for the
    /// first of 16. An engine without a thread of its own (see
    /// [`Options::usage_interval`](crate::Options::usage_interval)) does that work before
    /// the call returns.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the path, or for a note of more than
    /// [`bounds::NOTE_LEN_MAX`](crate::bounds::NOTE_LEN_MAX) bytes.
    ///
    /// ```
    /// # use gatekey::{Denial, Engine, NewKey, NewKeyspace, Verdict};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// engine.suspend("acme", "unpaid since May")?;
    /// let verdict = engine.verify(issued.token.expose())?;
    /// assert!(matches!(verdict, Verdict::Denied(Denial::Suspended { .. })));
    ///
    /// engine.resume("acme")?;
    /// assert!(engine.verify(issued.token.expose())?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn suspend<'n>(
        &self,
        owner: impl TryInto<OwnerPath, Error: Into<Error>>,
        note: impl Into<Option<&'n str>>,
    ) -> Result<OwnerState> {
        let owner: OwnerPath = owner.try_into().map_err(Into::into)?;
        let note = note.into().map(str::to_owned);
        let at_once = self.core.keys_at_once();
        self.change_many(&Scope::Owner(owner.clone()), true, move |tx, actor| {
            change::owner::suspend(tx, &owner, note.as_deref(), at_once, actor)
        })
    }

    /// Lifts an owner's suspension. Paths suspended separately, below or above it, stay
    /// suspended. An owner that is not suspended stays as it is. It takes as long as
    /// [`suspend`](Self::suspend).
    ///
    /// # Errors
    /// [`Error::Invalid`] for the path.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// engine.suspend("acme", Some("unpaid"))?;
    /// assert!(!engine.verify(issued.token.expose())?.is_granted());
    /// engine.resume("acme")?;
    /// assert!(engine.verify(issued.token.expose())?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn resume(&self, owner: impl TryInto<OwnerPath, Error: Into<Error>>) -> Result<OwnerState> {
        let owner: OwnerPath = owner.try_into().map_err(Into::into)?;
        let at_once = self.core.keys_at_once();
        self.change_many(&Scope::Owner(owner.clone()), true, move |tx, actor| {
            change::owner::resume(tx, &owner, at_once, actor)
        })
    }

    /// Reports whether an owner is suspended, itself or through a path above it. The
    /// owner need not have keys.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the path.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// engine.suspend("acme", Some("unpaid"))?;
    /// let state = engine.owner("acme/ingest")?;
    /// assert!(state.is_suspended() && state.suspended.is_none());
    /// assert_eq!(state.suspended_above, Some("acme".parse()?));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn owner(&self, owner: impl TryInto<OwnerPath, Error: Into<Error>>) -> Result<OwnerState> {
        let owner: OwnerPath = owner.try_into().map_err(Into::into)?;
        self.core.read(|snapshot| snapshot.owner(&owner))
    }

    /// A page of up to `limit` owners that are suspended themselves, at most
    /// [`bounds::PAGE_MAX`](crate::bounds::PAGE_MAX), from where an earlier page ended, in
    /// the order of the paths as text. Owners below them are not listed.
    ///
    /// It reads a record for each owner of the page, and no key.
    ///
    /// # Errors
    /// [`Invalid::Malformed`](crate::Invalid::Malformed) for what is no cursor, for one of
    /// another listing, and for a limit of 0; [`Invalid::TooMany`](crate::Invalid::TooMany)
    /// for a limit over the maximum.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// engine.suspend("acme", "unpaid")?;
    /// engine.suspend("globex/ingest", None)?;
    /// let page = engine.suspended_owners_page(None, 100)?;
    /// assert_eq!(page.owners.len(), 2);
    /// let since = page.owners[0].suspended.as_ref();
    /// assert_eq!(since.and_then(|since| since.note.as_deref()), Some("unpaid"));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn suspended_owners_page(&self, after: Option<&Cursor>, limit: usize) -> Result<OwnerPage> {
        validate_limit(limit)?;
        self.core
            .read(|snapshot| snapshot.suspended_page(after, limit))
    }
}
