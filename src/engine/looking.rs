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
    /// The key with an id, whatever its state, or `None`: see [`key`](Engine::key).
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

    /// A key, whatever its state. [`find_key`](Engine::find_key) asks whether there is
    /// one.
    ///
    /// # Errors
    /// [`NotFound::Key`].
    pub fn key(&self, key: KeyId) -> Result<Key> {
        let present = self.core.present();
        let key = self.core.read(|snapshot| snapshot.key(key, present.at))?;
        self.hold_if_over(&key, present);
        Ok(key)
    }

    /// Where a key that is told is over, time does not run behind that.
    fn hold_if_over(&self, key: &Key, present: Present) {
        if is_over(key, present.at) {
            self.core.hold(present);
        }
    }

    /// The key whose token is at hand, whatever its state; `None` where there is none,
    /// or the secret is not right, which are not told apart. For a support desk that is
    /// shown a token, or a client that asks what it holds.
    ///
    /// This is no verification: it charges nothing, counts no failed attempt and notes
    /// no use, and a key is given that is revoked or expired. Do not let a caller in by it.
    ///
    /// Takes the same work for an unknown id as for a wrong secret; a token that is
    /// right costs a few reads of the file more.
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

    /// A page of up to `limit` keys, at most [`bounds::PAGE_MAX`], from where
    /// an earlier page ended.
    ///
    /// # Errors
    /// [`Invalid::Malformed`] for what is no cursor, for one of a listing in
    /// another order or of another owner, and for a limit of 0;
    /// [`Invalid::TooMany`] for a limit over the maximum;
    /// [`NotFound::Keyspace`]. The rest of the filter is not compared: go on
    /// with the same one.
    pub fn keys_page(
        &self,
        filter: &KeyFilter,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<KeyPage> {
        check_limit(limit)?;
        self.core
            .tell(|snapshot, now| snapshot.list(filter, after, limit, now))
    }

    /// All keys that a filter asks for, fetched page by page, and an
    /// [`Error::Corrupted`] for each record that is damaged, behind the keys of its
    /// page. After any other error there is no more;
    /// `collect::<Result<Vec<_>, _>>()` overlooks neither.
    ///
    /// The iterator borrows nothing: it holds a handle of its own, and may be sent to
    /// another thread and outlive this one.
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

/// How many items an iterator fetches at a time.
pub(super) const PAGE: usize = 256;

/// The items of pages, from the one that `first` leads to. `fetch` gives a page, and what
/// leads to the next; its error is the last item.
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

pub(super) fn check_limit(limit: usize) -> Result<()> {
    match limit {
        0 => Err(Invalid::malformed("limit", "0", "a page holds at least one").into()),
        _ => bounds::check_count("items in a page", limit, bounds::PAGE_MAX),
    }
}
