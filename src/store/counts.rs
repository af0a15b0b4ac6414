//! How many keys each keyspace has, by state. Every change updates the counts.
//!
//! Time alone also changes the state of a key. So the counts are those as of one place
//! in time, the *reach*, and say nothing of what comes after it. **The invariant**: a
//! count is the sum over the keys of a keyspace, each in the state that it has as of
//! the reach. It holds wherever the reach is. A change of a key takes it out of the
//! counts as it was and puts it in as it is, both as of the reach; moving the reach
//! does the same for the keys that have an instant in between, of which the indexes
//! `by_end` and `by_turn` name all.
//!
//! A caller that asks for the counts moves a copy of them from the reach to the
//! present. So the answer is right wherever the reach is; the nearer it is, the less
//! there is to read. Changes and flushes move the stored reach: see [`super::tx`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use redb::{ReadOnlyTable, ReadableTable, WriteTransaction};

use crate::crypto::digest::Keyring;
use crate::model::clock::Timestamp;
use crate::model::error::{Corruption, Error};
use crate::model::id::{KeyId, Prefix};
use crate::model::key::KeyState;
use crate::model::stats::KeyCounts;
use crate::store::failure::OrStore;
use crate::store::lags::Lags;
use crate::store::life::Life;
use crate::store::reach::Reach;
use crate::store::read;
use crate::store::record::{KeyRecord, Phase, View};
use crate::store::snapshot::Snapshot;
use crate::store::tables::{
    BY_END, BY_TURN, Bytes, KEYS, KEYSPACES, META, PREFIXES, State, Tagged, seal, unseal,
};

/// How many rows lie between the reach and the present before a flush moves it.
pub(crate) const LAG: usize = 256;
/// How many rows of each index one step of the reach passes over, but for a change's.
pub(super) const PER_STEP: usize = 4096;

/// The keys of a keyspace by state, as stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(super) active: u64,
    pub(super) retiring: u64,
    pub(super) not_yet_valid: u64,
    pub(super) disabled: u64,
    pub(super) suspended: u64,
    pub(super) expired: u64,
    pub(super) revoked: u64,
    pub(super) over_by_expiry: u64,
}

impl Counted {
    /// Counts a key so many times more, in the state that it has at an instant.
    ///
    /// A count may be below zero for a while, and wraps around then: on the way back, a
    /// key is taken out of the state that it has at the end of a step before the next
    /// step puts it in there.
    pub(crate) fn count(&mut self, key: &KeyRecord, at: Timestamp, by: i64) {
        let life = Life::from(key);
        let add = |count: &mut u64| *count = count.wrapping_add_signed(by);
        if life.is_over_by_expiry(at) {
            add(&mut self.over_by_expiry);
        }
        add(match life.state(at) {
            KeyState::Active => &mut self.active,
            KeyState::Retiring => &mut self.retiring,
            KeyState::NotYetValid => &mut self.not_yet_valid,
            KeyState::Disabled => &mut self.disabled,
            KeyState::Suspended => &mut self.suspended,
            KeyState::Expired => &mut self.expired,
            KeyState::Revoked => &mut self.revoked,
        });
    }
}

impl From<Counted> for KeyCounts {
    fn from(counted: Counted) -> Self {
        // One that is below zero is wrong, and a check says so.
        let told = |count: u64| match i64::try_from(count) {
            Ok(_) => count,
            Err(_) => 0,
        };
        Self {
            active: told(counted.active),
            retiring: told(counted.retiring),
            not_yet_valid: told(counted.not_yet_valid),
            disabled: told(counted.disabled),
            suspended: told(counted.suspended),
            expired: told(counted.expired),
            revoked: told(counted.revoked),
            over_by_expiry: told(counted.over_by_expiry),
        }
    }
}

/// What a keyspace's counts begin with in [`META`].
pub(super) const NAME: &str = "counts/";

/// The name of a keyspace's counts in [`META`].
pub(super) fn name_of(keyspace: u32) -> String {
    format!("{NAME}{keyspace}")
}

/// The counts of a keyspace. Every keyspace has some from its creation on.
pub(super) fn stored(
    meta: &impl ReadableTable<&'static str, Bytes>,
    ring: &Keyring,
    keyspace: u32,
) -> Result<Counted, Error> {
    let name = name_of(keyspace);
    match meta.get(name.as_str()).or_store()? {
        Some(bytes) => unseal(ring, Tagged::Counts, name.as_bytes(), bytes.value()),
        None => Err(Error::corrupted("gatekey", name, "it is missing")),
    }
}

/// Counts the keys of every keyspace, as of a reach and brought up to their owners, and those
/// that cannot be read as none.
pub(super) fn count_all(
    keys: &impl ReadableTable<u64, Bytes>,
    ring: &Keyring,
    reach: Reach,
    lags: &Lags,
    mut each: impl FnMut(&KeyRecord) -> Result<(), Error>,
) -> Result<BTreeMap<u32, Counted>, Error> {
    let mut counts: BTreeMap<u32, Counted> = BTreeMap::new();
    for entry in keys.iter().or_store()? {
        let (id, record) = entry.or_store()?;
        let id = KeyId::from_raw(id.value());
        let read =
            View::open(record.value(), id, ring).and_then(|(view, _)| KeyRecord::from_view(&view));
        if let Ok(mut key) = Error::or_damaged(read)? {
            lags.bring_up(&mut key);
            let counted = counts.entry(key.keyspace).or_default();
            counted.count(&key, reach.instant_of(id), 1);
            each(&key)?;
        }
    }
    Ok(counts)
}

/// A step of the reach: where it ends, and the keys whose state may differ behind it.
pub(super) struct Step {
    pub(super) to: Reach,
    pub(super) keys: BTreeSet<KeyId>,
}

/// The first step from one reach towards a later one, over up to so many rows of each index.
pub(super) fn step(
    by_end: &impl ReadableTable<(u64, u64), ()>,
    by_turn: &impl ReadableTable<(u64, u64), ()>,
    from: Reach,
    to: Reach,
    rows_max: usize,
) -> Result<Step, Error> {
    let mut step = Step {
        to,
        keys: BTreeSet::new(),
    };
    let ends = rows(by_end, from, to, rows_max)?;
    let turns = rows(by_turn, from, to, rows_max)?;
    for rows in [&ends, &turns] {
        if let Some(last) = rows.last().filter(|_| rows.len() == rows_max) {
            step.to = step.to.min(*last);
        }
    }
    let within = ends.into_iter().chain(turns).filter(|row| *row <= step.to);
    step.keys = within.map(|row| KeyId::from_raw(row.id)).collect();
    Ok(step)
}

fn rows(
    index: &impl ReadableTable<(u64, u64), ()>,
    from: Reach,
    to: Reach,
    rows_max: usize,
) -> Result<Vec<Reach>, Error> {
    let range = (
        Bound::Excluded((from.at.unix_ms(), from.id)),
        Bound::Included((to.at.unix_ms(), to.id)),
    );
    if from >= to {
        return Ok(Vec::new());
    }
    index
        .range::<(u64, u64)>(range)
        .or_store()?
        .take(rows_max)
        .map(|entry| {
            let (at, id) = entry.or_store()?.0.value();
            let at = Timestamp::from_raw(at);
            Ok(Reach { at, id })
        })
        .collect()
}

/// The rows of a key in the index by turn.
pub(super) fn turn_rows(key: &KeyRecord) -> impl Iterator<Item = (u64, u64)> + use<> {
    let id = key.id.raw();
    let turns = key.turns_at().into_iter().flatten();
    turns.map(move |at| (at.unix_ms(), id))
}

/// Whether time alone may still change a key's state.
pub(super) fn may_turn(key: &KeyRecord) -> bool {
    !matches!(key.phase, Phase::Revoked { .. })
}

/// Makes the counts and the index by turn of a store that has neither, as of the last
/// instant that was committed to it.
pub(super) fn build(
    txn: &WriteTransaction,
    ring: &Keyring,
    state: &mut State,
) -> Result<(), Error> {
    state.reach = Reach::through(state.clock);
    let keys = txn.open_table(KEYS).or_store()?;
    let mut by_turn = txn.open_table(BY_TURN).or_store()?;
    let mut counts = count_all(&keys, ring, state.reach, &Lags::default(), |key| {
        for row in turn_rows(key) {
            by_turn.insert(row, ()).or_store()?;
        }
        Ok(())
    })?;
    for entry in txn.open_table(KEYSPACES).or_store()?.iter().or_store()? {
        counts.entry(entry.or_store()?.0.value()).or_default();
    }
    let mut meta = txn.open_table(META).or_store()?;
    for (keyspace, counted) in counts {
        let name = name_of(keyspace);
        let sealed = seal(ring, Tagged::Counts, name.as_bytes(), &counted)?;
        meta.insert(name.as_str(), sealed.as_slice()).or_store()?;
    }
    Ok(())
}

impl Snapshot {
    /// How many keys each keyspace has, by their states at an instant.
    ///
    /// Where counts are missing or damaged, the keys are counted.
    pub(crate) fn key_counts(&self, now: Timestamp) -> Result<BTreeMap<Prefix, KeyCounts>, Error> {
        let counts = match self.kept_counts(now)? {
            Ok(counts) => counts,
            Err(_) => {
                let keys = self.table(KEYS)?;
                let reach = Reach::through(now);
                count_all(&keys, self.ring(), reach, self.lags(), |_| Ok(()))?
            }
        };
        let told = self.keyspace_numbers()?.into_iter();
        Ok(told
            .map(|(prefix, number)| {
                let counted = counts.get(&number).copied().unwrap_or_default();
                (prefix, counted.into())
            })
            .collect())
    }

    /// The keyspaces by their prefixes.
    fn keyspace_numbers(&self) -> Result<Vec<(Prefix, u32)>, Error> {
        let mut numbers = Vec::new();
        for entry in ReadableTable::iter(&self.table(PREFIXES)?).or_store()? {
            let (prefix, number) = entry.or_store()?;
            // A malformed prefix belongs to no keyspace.
            if let Ok(prefix) = prefix.value().parse() {
                numbers.push((prefix, number.value()));
            }
        }
        Ok(numbers)
    }

    /// The counts that are kept, moved to an instant. `Err` where some cannot be read.
    fn kept_counts(
        &self,
        now: Timestamp,
    ) -> Result<Result<BTreeMap<u32, Counted>, Corruption>, Error> {
        let meta = self.table(META)?;
        let mut counts = BTreeMap::new();
        for (_, number) in self.keyspace_numbers()? {
            match Error::or_damaged(stored(&meta, self.ring(), number))? {
                Ok(counted) => drop(counts.insert(number, counted)),
                Err(damage) => return Ok(Err(damage)),
            }
        }
        // Where the reach is behind the instant, since another instant was committed since
        // it was asked for, what it has passed over is taken back.
        let (reach, present) = (self.state()?.reach, Reach::through(now));
        let (mut from, to, by) = match reach <= present {
            true => (reach, present, 1),
            false => (present, reach, -1),
        };
        let (ends, turns) = self.time_indexes()?;
        while from < to {
            let step = step(&ends, &turns, from, to, PER_STEP)?;
            for id in step.keys {
                let Ok(Some(key)) = Error::or_damaged(self.record_as_it_stands(id))? else {
                    continue;
                };
                if let Some(counted) = counts.get_mut(&key.keyspace).filter(|_| may_turn(&key)) {
                    counted.count(&key, from.instant_of(id), -by);
                    counted.count(&key, step.to.instant_of(id), by);
                }
            }
            from = step.to;
        }
        self.count_lagging(&mut counts, present)?;
        Ok(Ok(counts))
    }

    /// Counts the keys that lag as what they are.
    fn count_lagging(
        &self,
        counts: &mut BTreeMap<u32, Counted>,
        present: Reach,
    ) -> Result<(), Error> {
        self.each_difference(|key, next| {
            if let Some(counted) = counts.get_mut(&key.keyspace) {
                let instant = present.instant_of(key.id);
                counted.count(key, instant, -1);
                counted.count(next, instant, 1);
            }
        })
    }

    /// Whether more rows than so many lie between the reach and an instant.
    pub(crate) fn reach_lags(&self, now: Timestamp, rows_max: usize) -> Result<bool, Error> {
        let (reach, present) = (self.state()?.reach, Reach::through(now));
        let (ends, turns) = self.time_indexes()?;
        let ends = rows(&ends, reach, present, rows_max + 1)?.len();
        Ok(ends + rows(&turns, reach, present, rows_max + 1)?.len() > rows_max)
    }

    fn time_indexes(&self) -> Result<(TimeIndex, TimeIndex), Error> {
        Ok((self.table(BY_END)?, self.table(BY_TURN)?))
    }
}

type TimeIndex = ReadOnlyTable<(u64, u64), ()>;

/// As [`read::key`], for a key that time may still change.
pub(super) fn turning_key(
    keys: &impl ReadableTable<u64, Bytes>,
    ring: &Keyring,
    id: KeyId,
) -> Result<Option<KeyRecord>, Error> {
    let read = Error::or_damaged(read::key(keys, ring, id))?;
    Ok(read.ok().flatten().filter(may_turn))
}
