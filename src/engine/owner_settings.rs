//! Settings of owners: plans, limits, quotas and caps at any level.

use crate::change;
use crate::engine::handle::Engine;
use crate::engine::looking::{PAGE, each_of_pages, validate_limit};
use crate::model::error::{Error, Result};
use crate::model::filter::Cursor;
use crate::model::id::Prefix;
use crate::model::owner::OwnerPath;
use crate::model::owner_settings::{OwnerSettings, OwnerSettingsPage, OwnerUpdate};

/// # Settings of owners
impl Engine {
    /// Changes what an owner has of its own in a keyspace: its plan, limits, quota and
    /// cap. A change that changes nothing is not written.
    ///
    /// The owner may be at any level, and need not have keys. Settings stay when its last
    /// key is purged; they go when nothing is left of them. The subtree of an owner cannot
    /// be moved to another path, and neither can its settings.
    ///
    /// One transaction, which touches no key: it takes as long for an owner of a million
    /// keys as for one without.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`](crate::NotFound::Keyspace),
    /// [`Conflict::TooManyOwnerSettings`](crate::Conflict::TooManyOwnerSettings), and
    /// [`Error::Invalid`] for the path and for what the update was given.
    ///
    /// ```
    /// use gatekey::{Engine, Limit, NewKeyspace, OwnerUpdate, Plan, Setting};
    ///
    /// let engine = Engine::open_in_memory()?;
    /// engine.create_keyspace(
    ///     NewKeyspace::new("acme_live")?
    ///         .plan(Plan::new("free").limit(Limit::per_minute(60)))
    ///         .plan(Plan::new("pro").limit(Limit::per_second(50))),
    /// )?;
    /// engine.update_owner("acme_live", "acme", OwnerUpdate::new().plan("free").cap(3))?;
    /// // The customer upgrades:
    /// let acme = engine.update_owner("acme_live", "acme", OwnerUpdate::new().plan("pro"))?;
    /// assert_eq!((acme.plan.as_deref(), acme.cap), (Some("pro"), Setting::Own(3)));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn update_owner(
        &self,
        keyspace: impl TryInto<Prefix, Error: Into<Error>>,
        owner: impl TryInto<OwnerPath, Error: Into<Error>>,
        update: OwnerUpdate,
    ) -> Result<OwnerSettings> {
        let keyspace = keyspace.try_into().map_err(Into::into)?;
        let owner: OwnerPath = owner.try_into().map_err(Into::into)?;
        self.take_away(move |tx, actor| {
            change::owner_settings::update(tx, keyspace, &owner, &update, actor)
        })
    }

    /// What an owner has of its own in a keyspace. An owner without settings has none of
    /// the fields; what the defaults of its level say, the keyspace tells.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`](crate::NotFound::Keyspace), and [`Error::Invalid`] for the
    /// path.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace, OwnerUpdate, Setting};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// assert!(engine.owner_settings("acme_live", "acme")?.is_empty());
    /// engine.update_owner("acme_live", "acme", OwnerUpdate::new().cap(3))?;
    /// assert_eq!(engine.owner_settings("acme_live", "acme")?.cap, Setting::Own(3));
    /// // Those of an owner are not those of the owners below it.
    /// assert!(engine.owner_settings("acme_live", "acme/ingest")?.is_empty());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn owner_settings(
        &self,
        keyspace: impl TryInto<Prefix, Error: Into<Error>>,
        owner: impl TryInto<OwnerPath, Error: Into<Error>>,
    ) -> Result<OwnerSettings> {
        let keyspace = keyspace.try_into().map_err(Into::into)?;
        let owner: OwnerPath = owner.try_into().map_err(Into::into)?;
        let now = self.core.now();
        self.core
            .read(|snapshot| snapshot.owner_settings(keyspace, &owner, now))
    }

    /// A page of up to `limit` owners that have settings in a keyspace, at most
    /// [`bounds::PAGE_MAX`](crate::bounds::PAGE_MAX), from where an earlier page ended, in
    /// the order of the paths as text.
    ///
    /// # Errors
    /// [`Invalid::Malformed`](crate::Invalid::Malformed) for what is no cursor, for one of
    /// another listing or keyspace, and for a limit of 0;
    /// [`Invalid::TooMany`](crate::Invalid::TooMany) for a limit over the maximum;
    /// [`NotFound::Keyspace`](crate::NotFound::Keyspace).
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace, OwnerUpdate};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// for owner in ["acme", "globex", "umbrella"] {
    ///     engine.update_owner("acme_live", owner, OwnerUpdate::new().cap(3))?;
    /// }
    /// let first = engine.owner_settings_page("acme_live", None, 2)?;
    /// assert_eq!(first.owners.len(), 2);
    /// let rest = engine.owner_settings_page("acme_live", first.next.as_ref(), 2)?;
    /// assert_eq!(rest.owners.len(), 1);
    /// assert!(rest.next.is_none());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn owner_settings_page(
        &self,
        keyspace: impl TryInto<Prefix, Error: Into<Error>>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<OwnerSettingsPage> {
        let keyspace = keyspace.try_into().map_err(Into::into)?;
        validate_limit(limit)?;
        let now = self.core.now();
        self.core
            .read(|snapshot| snapshot.owner_settings_page(keyspace, after, limit, now))
    }

    /// All owners that have settings in a keyspace, fetched page by page, and an
    /// [`Error::Corrupted`] for each record that is damaged, behind the owners of its
    /// page. After any other error there is no more.
    ///
    /// The iterator borrows nothing: it holds a handle of its own, and may be sent to
    /// another thread and outlive this one.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace, OwnerUpdate};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// for owner in ["acme", "acme/ingest", "globex"] {
    ///     engine.update_owner("acme_live", owner, OwnerUpdate::new().cap(3))?;
    /// }
    /// for settings in engine.owners_with_settings("acme_live".parse()?) {
    ///     let settings = settings?;
    ///     println!("{}: at most {:?} keys", settings.owner, settings.cap);
    /// }
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn owners_with_settings(
        &self,
        keyspace: Prefix,
    ) -> impl Iterator<Item = Result<OwnerSettings>> + Send + use<> {
        let engine = self.clone();
        each_of_pages(None, move |after: Option<Cursor>| {
            let page = engine.owner_settings_page(keyspace, after.as_ref(), PAGE)?;
            let damaged = page.damaged.into_iter().map(Error::Corrupted).map(Err);
            let items = page.owners.into_iter().map(Ok).chain(damaged).collect();
            Ok((items, page.next.map(Some)))
        })
    }
}
