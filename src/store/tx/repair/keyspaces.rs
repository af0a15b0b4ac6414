//! Keyspaces, and the index of their prefixes.

use std::collections::BTreeMap;

use redb::ReadableTable;

use super::Mender;
use crate::model::error::Error;
use crate::model::keyspace::Keyspace;
use crate::store::failure::OrStore;
use crate::store::read;

impl Mender<'_, '_> {
    /// Writes keyspaces from memory where they are damaged, and their prefixes anew. One
    /// that is not in memory is left: its permissions are nowhere else.
    pub(super) fn keyspaces(&mut self, known: &[Keyspace]) -> Result<(), Error> {
        for keyspace in known {
            let read = read::keyspace(&self.tx.keyspaces, self.tx.ring, keyspace.id);
            if let Err(damage) = Error::or_damaged(read)? {
                self.tx.put_keyspace(keyspace)?;
                self.note_damage(&damage, "written again from memory");
            }
        }
        let mut numbers = BTreeMap::new();
        for entry in self.tx.keyspaces.iter().or_store()? {
            let number = entry.or_store()?.0.value();
            let read = read::keyspace(&self.tx.keyspaces, self.tx.ring, number);
            if let Ok(keyspace) = Error::or_damaged(read)? {
                numbers.insert(keyspace.prefix.as_str().to_owned(), number);
            }
        }
        let next = numbers.values().max().map_or(0, |number| number + 1);
        if self.tx.state.next_keyspace < next {
            self.tx.state.next_keyspace = next;
            self.note(
                "gatekey",
                "state",
                "it would give a keyspace's number again",
            );
        }
        let mut wrong = Vec::new();
        for entry in self.tx.prefixes.iter().or_store()? {
            let (prefix, number) = entry.or_store()?;
            let (prefix, number) = (prefix.value(), number.value());
            match numbers.get(prefix) {
                Some(found) if *found == number => {
                    numbers.remove(prefix);
                }
                // It may be that of a keyspace that cannot be read.
                None if self.tx.keyspaces.get(number).or_store()?.is_some()
                    && Error::or_damaged(self.tx.keyspace_numbered(number))?.is_err() => {}
                _ => wrong.push(prefix.to_owned()),
            }
        }
        for prefix in wrong {
            self.tx.prefixes.remove(prefix.as_str()).or_store()?;
            self.note_index("prefixes", &prefix, "it names another keyspace: removed");
        }
        for (prefix, number) in numbers {
            self.tx
                .prefixes
                .insert(prefix.as_str(), number)
                .or_store()?;
            self.note_index("prefixes", &prefix, "it was missing: made again");
        }
        Ok(())
    }
}
