//! Requests under idempotency keys that are damaged.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;

use super::Mender;
use crate::model::error::Error;
use crate::store::failure::OrStore;
use crate::store::tables::{REQUESTS, REQUESTS_BY_TIME};
use crate::store::tx::requests;

impl Mender<'_, '_> {
    /// Forgets requests that cannot be read whole: asked again, they are new ones.
    pub(super) fn requests(&mut self) -> Result<(), Error> {
        let table = self.tx.open_table(REQUESTS)?;
        let mut by_time = self.tx.open_table(REQUESTS_BY_TIME)?;
        let (mut whole, mut broken) = (BTreeMap::new(), BTreeSet::new());
        for entry in table.iter().or_store()? {
            let place = entry.or_store()?.0;
            let (name, number) = place.value();
            let read = requests::read_part(&table, self.tx.ring, name, number);
            match Error::or_damaged(read)? {
                Ok(Some(part)) if number < part.parts => {
                    let (_, _, count) = whole.entry(*name).or_insert((part.at, part.parts, 0));
                    *count += 1_u16;
                }
                _ => {
                    broken.insert(*name);
                }
            }
        }
        drop(table);
        broken.extend(
            whole
                .iter()
                .filter_map(|(name, (_, parts, count))| (parts != count).then_some(*name)),
        );
        whole.retain(|name, _| !broken.contains(name));
        let mut wrong = Vec::new();
        for entry in by_time.iter().or_store()? {
            let (place, parts) = entry.or_store()?;
            let (at, name) = place.value();
            match whole.get(name) {
                Some((first, count, _)) if first.unix_ms() == at && *count == parts.value() => {
                    whole.remove(name);
                }
                _ => wrong.push((at, *name)),
            }
        }
        for (at, name) in wrong {
            by_time.remove((at, &name)).or_store()?;
            let name = requests::shown(&name, 0);
            self.note_index(
                "requests_by_time",
                name,
                "it agrees with no request: removed",
            );
        }
        for (name, (at, parts, _)) in whole {
            by_time.insert((at.unix_ms(), &name), parts).or_store()?;
            let name = requests::shown(&name, 0);
            self.note_index("requests_by_time", name, "it was missing: made again");
        }
        drop(by_time);
        let mut table = self.tx.open_table(REQUESTS)?;
        for name in broken {
            table.remove_in((&name, 0)..=(&name, u16::MAX)).or_store()?;
            self.note(
                "requests",
                requests::shown(&name, 0),
                "it cannot be read: forgotten",
            );
        }
        Ok(())
    }
}
