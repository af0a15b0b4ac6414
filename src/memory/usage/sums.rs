//! What the notes of all threads add up to between two flushes.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;

use crate::memory::hash::IdHasher;
use crate::model::clock::Timestamp;
use crate::model::id::KeyId;
use crate::model::outcome::{Outcome, OutcomeCounts};
use crate::store::tx::uses::{Hour, Note, Used};

/// How many keys are added up between two flushes. Past that, the uses of keys
/// that are not among them yet are counted as lost.
pub(super) const KEYS_MAX: usize = 262_144;
/// How many kinds of denials of keys are added up beside them, for the usage history.
pub(super) const DENIALS_MAX: usize = 65_536;
/// In a log, what a verification came to stands above the id. A grant adds nothing.
const OUTCOME_SHIFT: u32 = 60;
const ID_MASK: u64 = (1 << OUTCOME_SHIFT) - 1;
pub(super) const MINUTE_MS: u64 = 60_000;

type Map = HashMap<u64, Used, BuildHasherDefault<IdHasher>>;

/// How many notes found no room.
#[derive(Default)]
pub(super) struct Lost {
    pub(super) uses: u64,
    pub(super) denials: u64,
}

/// What is added up, by the hour: the history tells them apart.
#[derive(Default)]
pub(super) struct Sums {
    /// Nearly always one.
    pub(super) hours: BTreeMap<Hour, Map>,
    uses: usize,
    denials: usize,
    /// What belongs to no key: how much of it was taken, ever, and what was put back.
    pub(super) unattributed_taken: OutcomeCounts,
    pub(super) unattributed: Vec<(Hour, Outcome, u64)>,
}

impl Sums {
    /// Where the notes of an hour are added up.
    pub(super) fn room(&mut self, hour: Hour) -> Room<'_> {
        Room {
            map: self.hours.entry(hour).or_default(),
            uses: &mut self.uses,
            denials: &mut self.denials,
        }
    }

    /// The minute of the oldest note.
    pub(super) fn since(&self) -> Option<Timestamp> {
        let oldest = |map: &Map| map.values().map(|used| used.last_used).min();
        let unattributed = self.unattributed.iter().map(|(hour, ..)| hour.begins_at());
        self.hours
            .values()
            .filter_map(oldest)
            .chain(unattributed)
            .min()
    }
}

/// Where the notes of an hour are added up, and how many there are of all hours.
pub(super) struct Room<'a> {
    map: &'a mut Map,
    uses: &'a mut usize,
    denials: &'a mut usize,
}

impl Room<'_> {
    /// Adds notes of a key, by the word that a log has, and counts those without room.
    #[inline]
    pub(super) fn add(&mut self, word: u64, used: Used, lost: &mut Lost) {
        match self.map.get_mut(&word) {
            Some(sum) => {
                sum.count += used.count;
                sum.last_used = sum.last_used.max(used.last_used);
            }
            None => self.insert(word, used, lost),
        }
    }

    #[cold]
    fn insert(&mut self, word: u64, used: Used, lost: &mut Lost) {
        let (taken, max, lost) = match word >> OUTCOME_SHIFT {
            0 => (&mut *self.uses, KEYS_MAX, &mut lost.uses),
            _ => (&mut *self.denials, DENIALS_MAX, &mut lost.denials),
        };
        if *taken < max {
            *taken += 1;
            self.map.insert(word, used);
        } else {
            *lost += used.count;
        }
    }
}

/// A note as a log has it.
pub(super) fn word_of(id: KeyId, outcome: Outcome) -> u64 {
    id.raw() | u64::from(outcome.number()) << OUTCOME_SHIFT
}

/// What a note in a log says.
pub(super) fn note_of(word: u64, used: Used) -> Note {
    Note {
        key: Some(KeyId::from_raw(word & ID_MASK)),
        outcome: u8::try_from(word >> OUTCOME_SHIFT)
            .ok()
            .and_then(Outcome::numbered)
            .unwrap_or(Outcome::Granted),
        used,
    }
}
