mod damaged;
mod held;

use std::collections::BTreeSet;
use std::time::Duration;

use redb::ReadableTableMetadata;

use super::*;
use crate::change;
use crate::crypto::token::Entropy;
use crate::engine::options::Options;
use crate::engine::shared::Core;
use crate::model::bounds;
use crate::model::clock::ManualClock;
use crate::model::error::Conflict;
use crate::model::key::{KeyUpdate, NewKey, Revocation, Rotation};
use crate::model::keyspace::{KeysPerOwner, Keyspace, KeyspaceUpdate, NewKeyspace};
use crate::model::owner::OwnerPath;
use crate::model::owner_settings::OwnerUpdate;
use crate::model::quota::Quota;
use crate::model::reason::Reason;
use crate::model::requirements::Requirements;
use crate::store::lags::AT_ONCE;
use crate::store::place::Place;
use crate::store::quota::QuotaEvent;
use crate::store::reach::Reach;
use crate::store::record::KeyRecord;
use crate::store::snapshot::Snapshot;

const MINUTE: Duration = Duration::from_secs(60);

/// A store with the keyspace `acme`, and its clock.
fn store() -> (Core, ManualClock) {
    let clock = ManualClock::at(Timestamp::from_raw(1_767_225_600_000));
    let options = Options::new().clock(clock.clone()).cache_bytes(1 << 20);
    let core = Core::open(&options, Place::Memory).unwrap();
    create(&core, "acme").unwrap();
    (core, clock)
}

fn create(core: &Core, prefix: &str) -> Result<Keyspace, Error> {
    let new = NewKeyspace::new(prefix).unwrap();
    core.mutate(move |tx| change::keyspace::create(tx, &new, None))
}

fn issue(core: &Core, new: NewKey) -> KeyId {
    let new = [new];
    let issued = core.mutate(move |tx| change::issue::issue(tx, &new, None));
    issued.unwrap()[0].key.id
}

fn new_key() -> NewKey {
    NewKey::new("acme", "acme/etl").unwrap()
}

/// Rotates a key with a grace of a minute.
fn rotate(core: &Core, id: KeyId) -> KeyId {
    let rotation = Rotation::with_grace(MINUTE);
    let rotated = core.mutate(move |tx| change::rotate::rotate(tx, id, &rotation, None));
    rotated.unwrap().key.id
}

fn lineages(core: &Core, keys: &[KeyId]) -> Vec<KeyId> {
    let keys = keys.to_vec();
    look(core, move |tx| {
        keys.iter().map(|id| Ok(tx.key(*id)?.lineage)).collect()
    })
}

/// Asks for a key, or a rotation of one, under an idempotency key; as often as it is asked
/// the key of the answer before is replaced.
fn once(core: &Core, rotated: Option<KeyId>) -> KeyId {
    let mut once = change::once::Once {
        key: "again".parse().unwrap(),
        window: MINUTE,
        knows_uses: true,
        uses_written: None,
    };
    loop {
        let asked = once.clone();
        let attempt = core.mutate(move |tx| match rotated {
            Some(id) => {
                let rotation = Rotation::with_grace(MINUTE);
                let attempt = change::once::rotate_once(tx, &asked, id, &rotation, None)?;
                Ok(attempt.map(|rotated| rotated.key.id))
            }
            None => {
                let attempt = change::once::issue_once(tx, &asked, &[new_key()], None)?;
                Ok(attempt.map(|issued| issued[0].key.id))
            }
        });
        match attempt.unwrap() {
            change::once::Attempt::Done(id) => break id,
            change::once::Attempt::WriteUses(seq) => once.uses_written = Some(seq),
        }
    }
}

/// Two threads write their rows.
#[test]
fn keys_that_are_issued_in_a_large_batch_are_in_every_index() {
    let (core, _) = store();
    issue(&core, new_key());
    let count = rows::APART_MIN + 7;
    let new = (0..count).map(|at| {
        let new = NewKey::new("acme", format!("acme/{}/{at}", at % 9)).unwrap();
        new.expires_in(MINUTE * 60)
    });
    let new: Vec<_> = new.collect();
    let issued = core.mutate(move |tx| change::issue::issue(tx, &new, None));
    let issued = issued.unwrap();
    let snapshot = core.snapshot().unwrap();
    let report = crate::store::check::check(&snapshot, core.now()).unwrap();
    assert!(report.is_sound(), "{report:#?}");
    let (after, of_owner) = look(&core, move |tx| {
        let (ids, _) = tx.ids_below(&"acme/8".parse()?, None, count)?;
        Ok((tx.ends_before(Timestamp::MAX, None, 2 * count)?, ids))
    });
    assert_eq!(after.len(), count);
    let ids = (issued.iter()).filter(|issued| issued.key.owner.as_str().starts_with("acme/8/"));
    let ids: BTreeSet<KeyId> = ids.map(|issued| issued.key.id).collect();
    assert_eq!(of_owner.into_iter().collect::<BTreeSet<_>>(), ids);
}

#[test]
fn the_keys_of_a_line_of_rotations_have_the_id_of_the_first_for_their_lineage() {
    let (core, clock) = store();
    let first = issue(&core, new_key());
    let second = rotate(&core, first);
    let third = rotate(&core, second);
    let other = issue(&core, new_key());
    let keys = [first, second, third, other];
    assert_eq!(lineages(&core, &keys), [first, first, first, other]);
    // The first is gone, and its line goes on.
    clock.advance(MINUTE * 2);
    look(&core, move |tx| {
        let old = tx.key(first)?;
        tx.remove_key(&old)
    });
    let fourth = rotate(&core, third);
    assert_eq!(lineages(&core, &[fourth]), [first]);
    // What takes the place of a key that nobody has is of its line.
    let lost = once(&core, Some(fourth));
    let again = once(&core, Some(fourth));
    assert_ne!(lost, again);
    assert_eq!(lineages(&core, &[lost, again]), [first, first]);
    clock.advance(MINUTE);
    let (lost, again) = (once(&core, None), once(&core, None));
    assert_ne!(lost, again);
    assert_eq!(lineages(&core, &[lost, again]), [lost, lost]);
}

#[test]
fn a_lineage_that_is_not_of_the_keys_line_is_found_and_mended() {
    let (core, _) = store();
    let first = issue(&core, new_key());
    let second = rotate(&core, first);
    let third = rotate(&core, second);
    let give = |id: KeyId, lineage: KeyId| {
        look(&core, move |tx| {
            let old = tx.key(id)?;
            let new = KeyRecord {
                lineage,
                ..old.clone()
            };
            tx.replace_key(&old, &new)
        });
    };
    let found = || {
        let snapshot = core.snapshot().unwrap();
        let report = crate::store::check::check(&snapshot, core.now()).unwrap();
        let keys = report.findings.iter();
        keys.map(|found| found.record.clone()).collect::<Vec<_>>()
    };
    // As after a rotation by an older version.
    give(third, third);
    assert_eq!(found(), Vec::<String>::new());
    let stranger = KeyId::from_raw(7);
    give(second, stranger);
    give(third, stranger);
    assert_eq!(found(), [second.to_string()]);
    let mended = look(&core, |tx| tx.repair(&[], None));
    assert_eq!(mended.len(), 2, "{mended:?}");
    assert_eq!(found(), Vec::<String>::new());
    assert_eq!(lineages(&core, &[second, third]), [first, first]);
}

fn owner() -> OwnerPath {
    "acme/etl".parse().unwrap()
}

fn revoke(core: &Core, id: KeyId) {
    let why = Revocation::new(Reason::Cessation);
    core.mutate(move |tx| change::revoke::revoke(tx, id, &why, None).map(drop))
        .unwrap();
}

/// Looks into a transaction that writes nothing, or no more than `look` does.
fn look<T: Send + 'static>(
    core: &Core,
    look: impl Fn(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
) -> T {
    core.mutate(look).unwrap()
}

/// How many keys wait to be counted in the state that time has brought them into.
fn uncounted(core: &Core) -> usize {
    let now = core.now();
    let lags = |rows: usize| {
        core.read(|snapshot| snapshot.reach_lags(now, rows))
            .unwrap()
    };
    (0..2000).find(|rows| !lags(*rows)).unwrap()
}

#[test]
fn the_reach_follows_time_with_each_change_and_with_a_flush_where_many_keys_wait() {
    let (core, clock) = store();
    let end = core.now().saturating_add(MINUTE);
    let start = core.now().saturating_add(MINUTE / 2);
    let new = vec![new_key().not_before(start).expires_at(end); 700];
    core.mutate(move |tx| change::issue::issue(tx, &new, None).map(drop))
        .unwrap();
    let kept = issue(&core, new_key());
    assert_eq!(uncounted(&core), 0);
    clock.advance(MINUTE * 2);
    assert_eq!(uncounted(&core), 1400);
    let toggle = |disabled| {
        let changed = core.mutate(move |tx| change::update::set_disabled(tx, kept, disabled, None));
        changed.unwrap();
    };
    toggle(true);
    assert_eq!(uncounted(&core), 1400 - 256);
    // What the change itself has done is behind the reach of the next.
    toggle(false);
    assert_eq!(uncounted(&core), 1400 - 512);
    core.flush().unwrap();
    assert_eq!(uncounted(&core), 0);
    let commits = || core.read(Snapshot::state).unwrap().commits;
    let before = commits();
    core.flush().unwrap();
    assert_eq!(commits(), before, "there was nothing to write");
    // Few may wait until the next change.
    let end = core.now().saturating_add(MINUTE);
    let few = vec![new_key().expires_at(end); 200];
    core.mutate(move |tx| change::issue::issue(tx, &few, None).map(drop))
        .unwrap();
    clock.advance(MINUTE * 2);
    let before = commits();
    core.flush().unwrap();
    assert_eq!((commits(), uncounted(&core)), (before, 200));
    toggle(true);
    assert_eq!(uncounted(&core), 0);
    // A revocation leaves nothing to be counted later.
    revoke(&core, kept);
    clock.advance(MINUTE);
    assert_eq!(uncounted(&core), 0);
}

#[test]
fn where_time_is_set_back_the_reach_goes_back_with_it() {
    let (core, clock) = store();
    let end = core.now().saturating_add(MINUTE);
    let new = vec![new_key().expires_at(end); 5000];
    core.mutate(move |tx| change::issue::issue(tx, &new, None).map(drop))
        .unwrap();
    clock.advance(MINUTE * 2);
    issue(&core, new_key());
    core.flush().unwrap();
    let to = core.now().saturating_sub(MINUTE * 2);
    // An instant behind the reach is answered for as well.
    let counts = core.read(|snapshot| snapshot.key_counts(to)).unwrap();
    assert_eq!(counts.values().next().unwrap().active, 5001);
    clock.set(to);
    core.mutate(move |tx| change::time::set_back(tx, to, None))
        .unwrap();
    let state = core.read(Snapshot::state).unwrap();
    assert_eq!(state.reach, Reach::through(to));
    let counts = core.read(|snapshot| snapshot.key_counts(to)).unwrap();
    assert_eq!(counts.values().next().unwrap().active, 5001);
}

#[test]
fn numbers_of_keyspaces_are_not_used_twice_and_there_are_only_so_many() {
    let (core, _) = store();
    look(&core, |tx| {
        for number in 1..bounds::KEYSPACES_MAX {
            let new = NewKeyspace::new(format!("k{number}").as_str())?;
            change::keyspace::create(tx, &new, None)?;
        }
        Ok(())
    });
    let refused = create(&core, "more");
    assert!(
        matches!(
            refused,
            Err(Error::Conflict(Conflict::TooManyKeyspaces(
                bounds::KEYSPACES_MAX
            )))
        ),
        "{refused:?}"
    );
    let keyspaces = core.snapshot().unwrap().keyspaces().unwrap();
    let numbers: Vec<u32> = keyspaces.iter().map(|keyspace| keyspace.id).collect();
    let all: Vec<u32> = (0..).take(bounds::KEYSPACES_MAX).collect();
    assert_eq!(numbers, all);
}

#[test]
fn a_quota_is_there_as_long_as_keys_share_it() {
    let (core, clock) = store();
    let first = issue(&core, new_key().quota(Quota::new(10)));
    let number = look(&core, move |tx| Ok(tx.cold(first)?.quota.unwrap()));
    let sharers = |core: &Core| look(core, move |tx| Ok(tx.quota(number)?.keys));
    assert_eq!(sharers(&core), 1);

    let second = rotate(&core, first);
    assert_eq!(look(&core, move |tx| tx.cold(second)).quota, Some(number));
    assert_eq!(sharers(&core), 2);

    let told = |tx: &Tx<'_>| format!("{:?}", tx.delta.quota_events());
    let to = |quota: Option<Quota>| {
        move |tx: &mut Tx<'_>| {
            let update = KeyUpdate::new().quota(quota);
            change::update::update(tx, second, &update, None)?;
            Ok(told(tx))
        }
    };
    let changed = QuotaEvent::Changed(number);
    let moved = |key: KeyId| QuotaEvent::Moved(key.raw());
    // Another in its place holds for both.
    let quotas = look(&core, to(Some(Quota::new(20))));
    assert_eq!(quotas, format!("[{changed:?}]"));
    assert_eq!(sharers(&core), 2);
    let quota = look(&core, move |tx| tx.quota(number));
    assert_eq!((quota.quota, quota.remaining), (Quota::new(20), 20));

    // One leaves, and the other keeps it.
    let quotas = look(&core, to(None));
    let left = quota.left();
    let stays = QuotaEvent::Left { number, left };
    assert_eq!(quotas, format!("{:?}", [stays, moved(second)]));
    assert_eq!(sharers(&core), 1);

    // What another server puts back behind a slice of this one, in the same commit.
    let events = look(&core, move |tx| {
        let mut record = tx.quota(number)?;
        let slice = record.take_ahead(number, 0);
        tx.put_quota(number, &record)?;
        let taken = QuotaEvent::Ahead(slice);
        tx.note_slice(taken.clone());
        record.remaining += 1;
        tx.put_quota(number, &record)?;
        let left = record.left();
        let expected = format!("{:?}", [taken, QuotaEvent::Left { number, left }]);
        Ok((told(tx), expected))
    });
    assert_eq!(events.0, events.1);

    // It goes with the last.
    clock.advance(2 * MINUTE);
    let purged = look(&core, move |tx| {
        let purged = change::purge::purge(tx, tx.now(), None, None)?.purged.keys;
        Ok((purged, told(tx)))
    });
    assert_eq!(purged, (1, format!("{:?}", [changed, moved(first)])));
    assert!(look(&core, move |tx| tx.find_quota(number)).is_none());
}

#[test]
fn of_a_key_that_is_purged_nothing_is_left_and_its_digest_is_counted_no_more() {
    let (core, clock) = store();
    let revoked = issue(&core, new_key());
    let expires = issue(&core, new_key().expires_in(MINUTE));
    let keyspace = look(&core, |tx| tx.keyspace("acme".parse().unwrap())).id;
    let digests = |core: &Core| {
        let state = core.snapshot().unwrap().state().unwrap();
        state.digests.iter().map(|(_, count)| count).sum::<u64>()
    };
    assert_eq!(digests(&core), 2);
    let mut both = vec![revoked, expires];
    both.sort_unstable();
    let all = look(&core, move |tx| tx.ids_of_keyspace(keyspace, None, 10));
    assert_eq!(all, both);
    let after = both[0];
    let rest = look(&core, move |tx| {
        tx.ids_of_keyspace(keyspace, Some(after), 10)
    });
    assert_eq!(rest, both[1..]);

    revoke(&core, revoked);
    assert_eq!(digests(&core), 1);
    let why = look(&core, move |tx| {
        let key = tx.key(revoked)?;
        tx.revoked(&key)
    });
    assert_eq!(why.unwrap().reason, Reason::Cessation);
    clock.advance(Duration::from_secs(1));
    let purge = |core: &Core| {
        look(core, |tx| {
            change::purge::purge(tx, tx.now(), None, None).map(|step| step.purged.keys)
        })
    };
    assert_eq!(purge(&core), 1);
    assert_eq!(digests(&core), 1);

    // One that has expired had not been taken off.
    clock.advance(2 * MINUTE);
    let over = look(&core, |tx| tx.ends_before(tx.now(), None, 10));
    assert_eq!(over.len(), 1);
    assert_eq!(over[0].1, expires);
    let behind = look(&core, move |tx| tx.ends_before(tx.now(), Some(over[0]), 10));
    assert_eq!(behind, []);
    assert_eq!(purge(&core), 1);
    assert_eq!(digests(&core), 0);

    look(&core, move |tx| {
        for id in [revoked, expires] {
            assert!(!tx.id_is_taken(id)?);
            assert!(tx.find_key(id)?.is_none());
            assert!(tx.cold(id).is_err());
        }
        assert!(tx.ids_of_keyspace(keyspace, None, 10)?.is_empty());
        assert!(tx.ids_below(&owner(), None, 10)?.0.is_empty());
        assert!(tx.ends_before(tx.now(), None, 10)?.is_empty());
        Ok(())
    });
}

#[test]
fn uses_are_added_to_a_key_that_is_there_and_to_no_other() {
    let (core, _) = store();
    let key = issue(&core, new_key());
    let gone = KeyId::from_raw(key.raw() ^ 1);
    look(&core, move |tx| {
        assert!(tx.id_is_taken(key)?);
        assert!(!tx.id_is_taken(gone)?);
        let now = tx.now();
        tx.add_usage(gone, now, 3)?;
        assert!(!tx.wrote());
        tx.add_usage(key, now, 3)?;
        assert!(tx.wrote());
        // An older use that is told later adds to the count alone.
        tx.add_usage(key, Timestamp::MIN, 4)?;
        let usage = read::usage(&tx.usage, tx.ring, key)?;
        assert_eq!((usage.count, usage.last_used), (7, Some(now)));
        Ok(())
    });
}

#[test]
fn a_suspension_is_kept_until_it_is_taken_away() {
    let (core, _) = store();
    look(&core, |tx| {
        assert!(tx.owner("acme/etl")?.is_none());
        change::owner::suspend(tx, &owner(), Some("unpaid"), AT_ONCE, None)?;
        let kept = tx.owner("acme/etl")?.unwrap();
        assert_eq!(kept.note.as_deref(), Some("unpaid"));
        change::owner::resume(tx, &owner(), AT_ONCE, None)?;
        assert!(tx.owner("acme/etl")?.is_none());
        Ok(())
    });
}

/// A grace that is over is noted with the present, so that a clock that steps back does
/// not begin it again; of any other key there is nothing to note.
#[test]
fn the_present_is_kept_for_a_grace_that_is_over() {
    let (core, clock) = store();
    let first = issue(&core, new_key());
    let second = rotate(&core, first);
    clock.advance(2 * MINUTE);
    look(&core, move |tx| {
        let current = tx.key(second)?;
        tx.hold_time(&current);
        assert!(!tx.wrote());
        let retiring = tx.key(first)?;
        tx.hold_time(&retiring);
        assert!(tx.wrote());
        Ok(())
    });
    let state = core.snapshot().unwrap().state().unwrap();
    assert_eq!(state.clock, core.now());
}

/// Only a store that is open can have it: one whose keyspace is damaged does not open.
#[test]
fn a_keyspace_that_is_damaged_meanwhile_is_written_again_from_memory() {
    let (core, _) = store();
    let token = issue(&core, new_key());
    let known = core.registry().all();
    let damaged = look(&core, |tx| {
        tx.writing();
        tx.keyspaces.insert(0, b"?".as_slice()).or_store()?;
        tx.prefixes.remove("acme").or_store()?;
        Ok(tx.keyspace_numbered(0).is_err())
    });
    assert!(damaged);
    let repairs = look(&core, {
        let known = known.clone();
        move |tx| tx.repair(&known, None)
    });
    let tables: Vec<_> = repairs.iter().map(|repair| repair.table.as_str()).collect();
    assert_eq!(tables, ["keyspaces"]);
    look(&core, move |tx| {
        assert_eq!(tx.keyspace("acme".parse()?)?, known[0]);
        assert!(tx.find_key(token)?.is_some());
        Ok(())
    });
}

#[test]
fn where_the_ids_of_a_millisecond_are_taken_one_of_the_next_serves() {
    let (core, _) = store();
    let (at, id) = look(&core, |tx| {
        let now = tx.now().unix_ms();
        let is_taken = |id: KeyId| Ok(id.unix_ms() <= now);
        let prefix = "acme".parse()?;
        let drawn = change::issue::draw(tx, &prefix, &mut Entropy::new(), is_taken)?;
        Ok((now, drawn.id))
    });
    assert_eq!(id.unix_ms(), at + 1);
}

#[test]
fn requests_are_forgotten_the_oldest_first_to_keep_to_a_number_of_parts() {
    let (core, clock) = store();
    let put = |name: u8, keys: usize| {
        look(&core, move |tx| {
            let request = requests::Request {
                at: tx.now(),
                asked: [0; 32],
                last_seq: 1,
                keys: vec![KeyId::from_raw(7); keys],
            };
            tx.put_request(&[name; 32], &request, MINUTE)
        });
        clock.advance(Duration::from_secs(1));
    };
    let known = || {
        look(&core, |tx| {
            let all = 0..10_u8;
            let mut known = Vec::new();
            for name in all {
                if tx.request(&[name; 32])?.is_some() {
                    known.push(name);
                }
            }
            Ok(known)
        })
    };
    let bound = |parts_max| {
        look(&core, move |tx| {
            tx.forget_requests(Timestamp::MIN, parts_max)
        });
    };
    // One of three parts, then four of one.
    put(9, 2 * requests::KEYS_PER_PART + 1);
    (1..5).for_each(|name| put(name, 1));
    assert_eq!(known(), [1, 2, 3, 4, 9]);
    // There is to be room for one more.
    bound(8);
    assert_eq!(known(), [1, 2, 3, 4, 9]);
    bound(7);
    assert_eq!(known(), [1, 2, 3, 4]);
    bound(3);
    assert_eq!(known(), [3, 4]);
    let snapshot = core.snapshot().unwrap();
    let report = crate::store::check::check(&snapshot, core.now()).unwrap();
    assert!(report.is_sound(), "{report:#?}");
    // Those whose window is over go by themselves.
    clock.advance(MINUTE);
    put(5, 1);
    assert_eq!(known(), [5]);
}

#[test]
fn a_request_is_remembered_within_the_bound_of_all() {
    let (core, clock) = store();
    let count = |core: &Core| {
        look(core, |tx| {
            let table = tx.txn.open_table(tables::REQUESTS).or_store()?;
            table.len().or_store()
        })
    };
    look(&core, |tx| {
        let mut table = tx.txn.open_table(tables::REQUESTS).or_store()?;
        let mut by_time = tx.txn.open_table(tables::REQUESTS_BY_TIME).or_store()?;
        tx.wrote_ever = true;
        for number in 0..bounds::REQUESTS_MAX {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&number.to_be_bytes());
            table.insert((&name, 0), b"?".as_slice()).or_store()?;
            let at = tx.now.unix_ms();
            by_time.insert((at, &name), 1).or_store()?;
        }
        Ok(())
    });
    assert_eq!(count(&core), bounds::REQUESTS_MAX);
    clock.advance(Duration::from_secs(1));
    look(&core, |tx| {
        let request = requests::Request {
            at: tx.now(),
            asked: [0; 32],
            last_seq: 1,
            keys: vec![KeyId::from_raw(7)],
        };
        tx.put_request(&[255; 32], &request, MINUTE)
    });
    assert_eq!(count(&core), bounds::REQUESTS_MAX);
}
