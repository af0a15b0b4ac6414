//! How keys, owners and keyspaces were used, by the day and by the hour.

use crate::engine::handle::Engine;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::id::{KeyId, Prefix};
use crate::model::owner::OwnerPath;
use crate::model::usage_history::UsageBin;
use crate::store::tx::uses::Hour;

/// # Usage
impl Engine {
    /// How a key was used on the days that begin in a span of time, UTC: the days on which
    /// there was something, the oldest first. 90 days are kept.
    ///
    /// A [`flush`](Engine::flush) writes the history, in the transaction that writes the
    /// uses; the days are as of the last one. Verifications that are denied count by their
    /// reason. See [`Options::usage_history_bytes`](crate::Options::usage_history_bytes)
    /// for what is kept. The call reads a record for each day.
    ///
    /// # Errors
    /// See [`Engine`]. A key that is unknown has no days.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::Timestamp;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// engine.verify(issued.token.expose())?;
    /// engine.disable(issued.key.id)?;
    /// engine.verify(issued.token.expose())?;
    /// engine.flush()?;
    /// let days = engine.usage_of_key(issued.key.id, Timestamp::MIN, engine.now())?;
    /// assert_eq!((days[0].counts.granted(), days[0].counts.denied()), (1, 1));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn usage_of_key(
        &self,
        key: KeyId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<UsageBin>> {
        let span = (days_before(from), days_before(to));
        self.core.read(|snapshot| snapshot.usage_days(key, span))
    }

    /// As [`usage_of_key`](Engine::usage_of_key), for the keys of an owner and of all below
    /// it, in all keyspaces, together.
    ///
    /// # Errors
    /// See [`Engine`]; [`Error::Invalid`](crate::Error::Invalid) for the path.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace, Timestamp};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// engine.verify(issued.token.expose())?;
    /// engine.flush()?;
    /// let days = engine.usage_of_owner("acme", Timestamp::MIN, engine.now())?;
    /// assert_eq!(days[0].counts.granted(), 1);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn usage_of_owner(
        &self,
        owner: impl TryInto<OwnerPath, Error: Into<Error>>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<UsageBin>> {
        let owner = owner.try_into().map_err(Into::into)?;
        let span = (days_before(from), days_before(to));
        self.core
            .read(|snapshot| snapshot.usage_owner_days(&owner, span))
    }

    /// How the keys of a keyspace were used in the hours that begin in a span of time: the
    /// hours in which there was something, the oldest first. 400 days are kept. `None`:
    /// what belongs to no keyspace, since it was malformed or unknown; it counts in the
    /// hour of the flush.
    ///
    /// # Errors
    /// See [`Engine`]; [`NotFound::Keyspace`](crate::NotFound::Keyspace).
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::{Outcome, Timestamp};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// engine.verify(issued.token.expose())?;
    /// engine.verify("not a token")?;
    /// engine.flush()?;
    /// let acme = Some("acme_live".parse()?);
    /// let hours = engine.usage_of_keyspace(acme, Timestamp::MIN, engine.now())?;
    /// assert_eq!(hours[0].counts.granted(), 1);
    /// let nobodys = engine.usage_of_keyspace(None, Timestamp::MIN, engine.now())?;
    /// assert_eq!(nobodys[0].counts.get(Outcome::Malformed), 1);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn usage_of_keyspace(
        &self,
        keyspace: Option<Prefix>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<UsageBin>> {
        let span = (hours_before(from), hours_before(to));
        self.core
            .read(|snapshot| snapshot.usage_hours(keyspace, span))
    }
}

/// How many hours begin before an instant.
fn hours_before(instant: Timestamp) -> u32 {
    let hour = Hour::of(instant);
    hour.0 + u32::from(hour.begins_at() < instant)
}

fn days_before(instant: Timestamp) -> u32 {
    hours_before(instant).div_ceil(24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_the_days_and_hours_that_begin_in_it() {
        let hour = 3_600_000;
        for (ms, hours, days) in [
            (0, 0, 0),
            (1, 1, 1),
            (hour, 1, 1),
            (hour + 1, 2, 1),
            (24 * hour, 24, 1),
            (24 * hour + 1, 25, 2),
        ] {
            let instant = Timestamp::from_raw(ms);
            assert_eq!(
                (hours_before(instant), days_before(instant)),
                (hours, days),
                "{ms}"
            );
        }
    }
}
