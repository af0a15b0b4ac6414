//! Finding and listing keys.

use crate::engine::handle::Engine;
use crate::engine::time::is_over;
use crate::model::bounds;
use crate::model::error::{Error, Invalid, NotFound, Result};
use crate::model::filter::{Cursor, KeyFilter, KeyPage};
use crate::model::id::KeyId;
use crate::model::key::Key;
use crate::model::time::Present;
use crate::store::failure::guarded;

/// # Looking
impl Engine {
    /// Looks a key up by its id, in any state; `None` if there is none.
    /// [`key`](Engine::key) makes that an error.
    ///
    /// # Errors
    /// See [`Engine`]. An error of the store is never `None`.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let found = engine.find_key(issued.key.id)?;
    /// assert_eq!(found.map(|key| key.owner.to_string()), Some("acme".to_owned()));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn find_key(&self, key: KeyId) -> Result<Option<Key>> {
        match self.key(key) {
            Err(Error::NotFound(NotFound::Key(_))) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Returns the key with an id, in any state. [`find_key`](Engine::find_key) returns
    /// `None` where there is none.
    ///
    /// # Errors
    /// [`NotFound::Key`].
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// let key = engine.key(issued.key.id)?;
    /// println!("{} of {} is {}", key.id, key.owner, key.state);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn key(&self, key: KeyId) -> Result<Key> {
        let present = self.core.present();
        let key = self.core.read(|snapshot| snapshot.key(key, present.at))?;
        self.hold_if_over(&key, present);
        Ok(key)
    }

    /// Where the answer says that a key is over, time must not run behind that.
    fn hold_if_over(&self, key: &Key, present: Present) {
        if is_over(key, present.at) {
            self.core.hold(present);
        }
    }

    /// Finds the key of a token, in any state. `None` means an unknown id or a wrong
    /// secret; the answer does not say which. It is for a support desk that is shown a
    /// token, and for a client that asks what its key may do.
    ///
    /// This is not a verification: it charges nothing, counts no failed attempt, notes
    /// no use, and also returns revoked and expired keys. Never authenticate a request
    /// with it.
    ///
    /// An unknown id and a wrong secret cost the same work; a right token costs a few
    /// reads of the file more.
    ///
    /// # Errors
    /// See [`Engine`].
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace, Reason};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// # let token = issued.token.expose();
    /// engine.revoke(issued.key.id, Reason::Cessation)?;
    /// let found = engine.find_by_token(token)?;
    /// assert_eq!(found.map(|key| key.id), Some(issued.key.id));
    /// assert!(engine.find_by_token("acme_live_no_such_token")?.is_none());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn find_by_token(&self, token: impl AsRef<[u8]>) -> Result<Option<Key>> {
        match self.core.find_by_token(token.as_ref()) {
            Ok((id, snapshot)) => {
                let present = self.core.present();
                let key = guarded(|| snapshot.key(id, present.at))?;
                self.hold_if_over(&key, present);
                Ok(Some(key))
            }
            Err(Error::NotFound(NotFound::Token)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns a page of up to `limit` keys, at most [`bounds::PAGE_MAX`], from where
    /// an earlier page ended.
    ///
    /// # Errors
    /// [`Invalid::Malformed`] for a malformed cursor, for one of a listing in another
    /// order or of another owner, and for a limit of 0; [`Invalid::TooMany`] for a
    /// limit over the maximum; [`NotFound::Keyspace`]. The call does not compare the
    /// rest of the filter: continue with the same one.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::KeyFilter;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// let filter = KeyFilter::new().keyspace("acme_live".parse()?);
    /// let page = engine.keys_page(&filter, None, 100)?;
    /// assert_eq!(page.keys.len(), 1);
    /// assert!(page.next.is_none(), "with a cursor, ask for the next page");
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn keys_page(
        &self,
        filter: &KeyFilter,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<KeyPage> {
        validate_limit(limit)?;
        self.core
            .tell(|snapshot, now| snapshot.list(filter, after, limit, now))
    }

    /// Iterates over all keys that a filter selects, page by page. For each damaged
    /// record there is an [`Error::Corrupted`] after the keys of its page; any other
    /// error ends the iterator. `collect::<Result<Vec<_>, _>>()` misses neither.
    ///
    /// The iterator borrows nothing: it holds a handle of its own. It may be sent to
    /// another thread, and may outlive this handle.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace, KeyFilter};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// for key in engine.keys(KeyFilter::new().owner("acme".parse()?)) {
    ///     println!("{}", key?.id);
    /// }
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn keys(&self, filter: KeyFilter) -> impl Iterator<Item = Result<Key>> + Send + use<> {
        let engine = self.clone();
        each_of_pages(None, move |after: Option<Cursor>| {
            let page = engine.keys_page(&filter, after.as_ref(), PAGE)?;
            let damaged = page.damaged.into_iter().map(Error::Corrupted).map(Err);
            let items = page.keys.into_iter().map(Ok).chain(damaged).collect();
            Ok((items, page.next.map(Some)))
        })
    }
}

/// How many items an iterator fetches at once.
pub(super) const PAGE: usize = 256;

/// Iterates over the items of pages, from the page at `first` on. `fetch` returns a
/// page and the position of the next; its error is the last item.
pub(super) fn each_of_pages<C, T>(
    first: C,
    mut fetch: impl FnMut(C) -> Result<(Vec<Result<T>>, Option<C>)>,
) -> impl Iterator<Item = Result<T>> {
    let mut next = Some(first);
    std::iter::from_fn(move || {
        Some(match fetch(next.take()?) {
            Ok((items, following)) => {
                next = following;
                items
            }
            Err(error) => vec![Err(error)],
        })
    })
    .flatten()
}

pub(super) fn validate_limit(limit: usize) -> Result<()> {
    match limit {
        0 => Err(Invalid::malformed("limit", "0", "a page holds at least one").into()),
        _ => bounds::validate_count("items in a page", limit, bounds::PAGE_MAX),
    }
}
