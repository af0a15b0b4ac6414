use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::change;
use crate::engine::options::Options;
use crate::engine::shared::Core;
use crate::model::clock::ManualClock;
use crate::model::key::{KeyUpdate, NewKey, Revocation, Rotation};
use crate::model::keyspace::{KeyspaceUpdate, NewKeyspace};
use crate::model::level::LevelDefaults;
use crate::model::owner_settings::OwnerUpdate;
use crate::model::quota::Quota;
use crate::model::reason::Reason;
use crate::store::extension::Damaged;
use crate::store::owner_settings::find_quota;
use crate::store::place::Place;
use crate::store::tables::{self, COLD, KEYS, OWNER_QUOTAS, QUOTAS, Tagged};
use crate::store::tx::Tx;
use crate::sync::lock;
use redb::ReadableTable as _;

/// What of a snapshot something in memory depends on.
struct State {
    keys: BTreeMap<KeyId, Tag>,
    keyspaces: BTreeMap<u32, Keyspace>,
    quotas: BTreeMap<u64, QuotaRecord>,
    quota_of: BTreeMap<KeyId, u64>,
    limits_of: BTreeMap<KeyId, Vec<Limit>>,
    owner_settings: BTreeMap<OwnerName, OwnerSettingsRecord>,
    owner_quota_of: BTreeMap<OwnerName, u64>,
    extensions: BTreeMap<(String, Vec<u8>), ExtensionRecord>,
}

const TABLES: [&str; 2] = ["ext/oauth/clients", "ext/oauth/codes"];

impl State {
    fn of(snapshot: &Snapshot) -> Self {
        let keyspaces = snapshot.keyspaces().unwrap();
        let mut state = Self {
            keys: BTreeMap::new(),
            keyspaces: keyspaces.into_iter().map(|it| (it.id, it)).collect(),
            quotas: BTreeMap::new(),
            quota_of: BTreeMap::new(),
            limits_of: BTreeMap::new(),
            owner_settings: BTreeMap::new(),
            owner_quota_of: BTreeMap::new(),
            extensions: BTreeMap::new(),
        };
        for table in TABLES {
            let page = snapshot
                .extension_page(table, (&[], None, 1000), Damaged::Refused)
                .unwrap();
            let page = page.into_iter();
            let named = page.map(|(key, record)| ((table.to_owned(), key), record));
            state.extensions.extend(named);
        }
        for entry in snapshot.table(KEYS).unwrap().iter().unwrap() {
            let (id, record) = entry.unwrap();
            let tag = tag_of(record.value());
            state.keys.insert(KeyId::from_raw(id.value()), tag);
        }
        for entry in snapshot.table(QUOTAS).unwrap().iter().unwrap() {
            let (number, record) = entry.unwrap();
            let (number, ring) = (number.value(), snapshot.ring());
            let quota = tables::unseal(ring, Tagged::Quota, &number.to_le_bytes(), record.value());
            state.quotas.insert(number, quota.unwrap());
        }
        for entry in snapshot.table(COLD).unwrap().iter().unwrap() {
            let (id, record) = entry.unwrap();
            let (id, ring) = (id.value(), snapshot.ring());
            let cold = tables::unseal(ring, Tagged::Cold, &id.to_le_bytes(), record.value());
            let cold: crate::model::key::ColdRecord = cold.unwrap();
            if let Some(number) = cold.quota {
                state.quota_of.insert(KeyId::from_raw(id), number);
            }
            if let Some(limits) = cold.limits {
                state.limits_of.insert(KeyId::from_raw(id), limits);
            }
        }
        let of_owners = |name, settings: Result<_, _>| {
            state.owner_settings.insert(name, settings.unwrap());
        };
        snapshot.each_owner_settings(of_owners).unwrap();
        let quotas = snapshot.table(OWNER_QUOTAS).unwrap();
        for entry in quotas.iter().unwrap() {
            let name = entry.unwrap().0;
            let (keyspace, path) = name.value();
            let found = find_quota(&quotas, snapshot.ring(), keyspace, path).unwrap();
            let name = (keyspace, path.parse().unwrap());
            state.owner_quota_of.insert(name, found.unwrap().number);
        }
        state
    }
}

/// What differs between two states of a table.
fn differences<K: Ord + Clone, T: PartialEq + Clone>(
    old: &BTreeMap<K, T>,
    new: &BTreeMap<K, T>,
) -> Changes<K, T> {
    let mut changes = Changes::new();
    for key in old.keys().chain(new.keys()) {
        let (old, new) = (old.get(key).cloned(), new.get(key).cloned());
        changes.note(key.clone(), Ok(old), new);
    }
    changes.settle();
    changes
}

fn verb(tx: &mut Tx<'_>, keys: &mut Vec<KeyId>, random: &mut StdRng) -> Result<(), Error> {
    let owners = ["acme", "acme/etl", "globex"];
    let owner = owners[random.random_range(0..owners.len())];
    let prefix = ["many", "one"][random.random_range(0..2)];
    let quota = (random.random_range(0..2) == 0).then(|| Quota::new(random.random_range(1..50)));
    let why = Revocation::from(Reason::Superseded);
    let key = match keys.is_empty() {
        true => KeyId::from_raw(1),
        false => keys[random.random_range(0..keys.len())],
    };
    let limits = [Limit::per_minute(random.random_range(1..9))];
    match random.random_range(0..27) {
        0..4 => {
            let mut new = NewKey::new(prefix, owner)?;
            if random.random_range(0..2) == 0 {
                new = new.limits(limits);
            }
            if let Some(quota) = quota {
                new = new.quota(quota);
            }
            let issued = change::issue::issue(tx, &[new], None)?;
            keys.extend(issued.iter().map(|issued| issued.key.id));
        }
        4..6 => {
            let grace = Duration::from_secs(random.random_range(0..90));
            let rotated = change::rotate::rotate(tx, key, &Rotation::with_grace(grace), None)?;
            keys.push(rotated.key.id);
        }
        6 => drop(change::revoke::revoke(tx, key, &why, None)?),
        7 => drop(change::revoke::revoke_owner(
            tx,
            &owner.parse()?,
            &why,
            [0, usize::MAX][random.random_range(0..2)],
            None,
        )?),
        8 => drop(change::update::set_disabled(
            tx,
            key,
            quota.is_some(),
            None,
        )?),
        9..11 => drop(change::update::update(
            tx,
            key,
            &KeyUpdate::new().quota(quota),
            None,
        )?),
        11 => drop(change::owner::suspend(tx, &owner.parse()?, None, 2, None)?),
        12 => drop(change::owner::resume(tx, &owner.parse()?, 2, None)?),
        13 => {
            let update = KeyspaceUpdate::new().description(format!("{key}"));
            change::keyspace::update(tx, prefix.parse()?, &update, None)?;
        }
        14 => {
            let update = match quota {
                Some(_) => KeyUpdate::new().limits(limits),
                None => KeyUpdate::new().limits_of_plan(),
            };
            change::update::update(tx, key, &update, None)?;
        }
        15..20 => {
            let update = match random.random_range(0..4) {
                0 => OwnerUpdate::nothing(),
                1 => OwnerUpdate::new()
                    .limits(limits)
                    .cap(random.random_range(1..4)),
                _ => OwnerUpdate::new().quota(quota),
            };
            change::owner_settings::update(tx, prefix.parse()?, &owner.parse()?, &update, None)?;
        }
        20..22 => {
            let keyspace = tx.keyspace(prefix.parse()?)?;
            tx.owner_quota(&keyspace, &owner.parse()?)?;
        }
        22 => {
            let defaults = quota.map(|quota| LevelDefaults::new().quota(quota));
            let update = KeyspaceUpdate::new().owner_defaults(1, defaults);
            change::keyspace::update(tx, prefix.parse()?, &update, None)?;
        }
        24..26 => {
            let table = TABLES[random.random_range(0..2)];
            let record = ExtensionRecord {
                version: 1,
                bytes: vec![random.random_range(0..3)],
            };
            tx.put_extension(table, &[random.random_range(1..9)], record)?;
        }
        26 => {
            let table = TABLES[random.random_range(0..2)];
            tx.remove_extension(table, &[random.random_range(1..9)])?;
        }
        23 => change::purge::purge(tx, tx.now(), None, None).map(|_| ())?,
        _ => tx.bring_refills_near()?,
    }
    Ok(())
}

/// Between the snapshots before and after any transaction, exactly the records differ that
/// its delta names, with what they were and what they are.
#[test]
fn a_delta_is_what_differs_between_the_snapshots_before_and_after() {
    let clock = ManualClock::at(Timestamp::from_raw(1_767_225_600_000));
    let options = Options::new().clock(clock.clone()).cache_bytes(1 << 20);
    let core = Core::open(&options, Place::Memory).unwrap();
    *lock(&core.published_deltas) = Some(Vec::new());
    let one = NewKeyspace::new("one").unwrap().single_active();
    for new in [NewKeyspace::new("many").unwrap(), one] {
        core.mutate(move |tx| change::keyspace::create(tx, &new, None))
            .unwrap();
    }
    let (mut changed, mut removed) = ([0; 8], [0; 8]);
    for seed in 0..150 {
        let snapshot = core.snapshot().unwrap();
        let known: Vec<KeyId> = State::of(&snapshot).keys.into_keys().collect();
        core.mutate(move |tx| {
            let (mut random, mut keys) = (StdRng::seed_from_u64(seed), known.clone());
            // One that is refused has written nothing, and the others go on.
            for _ in 0..random.random_range(1..8) {
                let _ = verb(tx, &mut keys, &mut random);
            }
            Ok(())
        })
        .unwrap();
        // Slices are taken, and put back.
        let mut random = StdRng::seed_from_u64(seed);
        let with_quota = State::of(&core.snapshot().unwrap()).quota_of;
        if let Some((key, number)) = with_quota.iter().next() {
            let (key, number, quotas) = (*key, *number, core.quotas.clone());
            let asked = Arc::new(crate::store::quota::Asked::new(1, true));
            let asked = Arc::downgrade(&asked);
            core.mutate(move |tx| {
                change::quota::take_slice(tx, &quotas, key, 1, tx.clock(), &asked)?;
                change::quota::put_back(tx, &quotas, &[number])
            })
            .unwrap();
        }
        clock.advance(Duration::from_secs(random.random_range(0..40)));
        let deltas = lock(&core.published_deltas).replace(Vec::new());
        for (before, delta, after) in deltas.unwrap() {
            let (old, new) = (State::of(&before), State::of(&after));
            assert_eq!(delta.keys, differences(&old.keys, &new.keys), "{seed}");
            let keyspaces = differences(&old.keyspaces, &new.keyspaces);
            assert_eq!(delta.keyspaces, keyspaces, "{seed}");
            assert_eq!(
                delta.quotas,
                differences(&old.quotas, &new.quotas),
                "{seed}"
            );
            let quota_of = differences(&old.quota_of, &new.quota_of);
            assert_eq!(delta.quota_of, quota_of, "{seed}");
            let limits_of = differences(&old.limits_of, &new.limits_of);
            assert_eq!(delta.limits_of, limits_of, "{seed}");
            let settings = differences(&old.owner_settings, &new.owner_settings);
            assert_eq!(delta.owner_settings, settings, "{seed}");
            let of_owners = differences(&old.owner_quota_of, &new.owner_quota_of);
            assert_eq!(delta.owner_quota_of, of_owners, "{seed}");
            let of_extensions = differences(&old.extensions, &new.extensions);
            assert_eq!(delta.extensions, of_extensions, "{seed}");
            assert_eq!(delta.commits, after.state().unwrap().commits);
            fn count<K: Ord + Clone, T: PartialEq>(changes: &Changes<K, T>) -> (usize, usize) {
                let gone = changes.iter().filter(|(_, change)| change.new.is_none());
                (changes.iter().count(), gone.count())
            }
            let counts = [
                count(&delta.keys),
                count(&delta.keyspaces),
                count(&delta.quotas),
                count(&delta.quota_of),
                count(&delta.limits_of),
                count(&delta.owner_settings),
                count(&delta.owner_quota_of),
                count(&delta.extensions),
            ];
            for (at, (all, gone)) in counts.into_iter().enumerate() {
                changed[at] += all;
                removed[at] += gone;
            }
        }
    }
    let report = crate::store::check::check(&core.snapshot().unwrap(), core.now()).unwrap();
    assert!(report.is_sound(), "{report:#?}");
    // Of each there were many, and of each that can be removed, removals.
    assert!(changed.iter().all(|count| *count > 15), "{changed:?}");
    let removable = [0, 2, 3, 4, 5, 6, 7];
    assert!(removable.iter().all(|at| removed[*at] > 5), "{removed:?}");
}
