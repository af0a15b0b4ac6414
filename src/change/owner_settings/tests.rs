use std::time::Duration;

use super::*;
use crate::change;
use crate::engine::options::Options;
use crate::engine::shared::Core;
use crate::model::clock::{ManualClock, Timestamp};
use crate::model::keyspace::{KeyspaceUpdate, NewKeyspace};
use crate::model::level::LevelDefaults;
use crate::model::quota::Quota;
use crate::store::place::Place;

fn core() -> (Core, ManualClock) {
    let clock = ManualClock::at(Timestamp::from_raw(1_767_225_600_000));
    let options = Options::new().clock(clock.clone()).cache_bytes(1 << 20);
    let core = Core::open(&options, Place::Memory).unwrap();
    let new = NewKeyspace::new("acme_live").unwrap();
    core.mutate(move |tx| change::keyspace::create(tx, &new, None))
        .unwrap();
    (core, clock)
}

fn set_default(core: &Core, quota: Option<u64>) {
    let defaults = quota.map(|quota| LevelDefaults::new().quota(Quota::new(quota)));
    let update = KeyspaceUpdate::new().owner_defaults(1, defaults);
    core.mutate(move |tx| {
        change::keyspace::update(tx, "acme_live".parse()?, &update, None).map(drop)
    })
    .unwrap();
}

fn set(core: &Core, owner: &str, changes: OwnerUpdate) -> OwnerSettings {
    let owner: OwnerPath = owner.parse().unwrap();
    core.mutate(move |tx| update(tx, "acme_live".parse()?, &owner, &changes, None))
        .unwrap()
}

/// The number of the quota that a request of an owner is charged to, and what is left of
/// it; three requests are spent of it.
fn spend(core: &Core, owner: &str) -> Option<(u64, u64)> {
    let owner: OwnerPath = owner.parse().unwrap();
    core.mutate(move |tx| {
        let keyspace = tx.keyspace("acme_live".parse()?)?;
        let Some(number) = tx.owner_quota(&keyspace, &owner)? else {
            return Ok(None);
        };
        let mut record = tx.quota(number)?;
        let left = record.remaining;
        record.remaining -= 3;
        tx.put_quota(number, &record)?;
        Ok(Some((number, left)))
    })
    .unwrap()
}

fn assert_sound(core: &Core) {
    let report = crate::store::check::check(&core.snapshot().unwrap(), core.now()).unwrap();
    assert!(report.is_sound(), "{report:#?}");
}

#[test]
fn an_owner_spends_its_own_quota_or_that_of_its_level_each_for_itself() {
    let (core, clock) = core();
    assert_eq!(spend(&core, "acme"), None);
    set_default(&core, Some(100));
    let (number, left) = spend(&core, "acme").unwrap();
    assert_eq!(left, 100);
    assert_eq!(spend(&core, "acme"), Some((number, 97)));
    let (other, left) = spend(&core, "globex").unwrap();
    assert_eq!(left, 100);
    assert_ne!(other, number);
    // Another level has none.
    assert_eq!(spend(&core, "acme/ingest"), None);
    assert_sound(&core);

    // One that the level has since is another, full, for each.
    clock.advance(Duration::from_secs(60));
    set_default(&core, Some(50));
    assert_eq!(spend(&core, "acme"), Some((number, 50)));
    assert_eq!(spend(&core, "acme"), Some((number, 47)));
    // Where the level has none, there is none, and no full one for who asks later.
    set_default(&core, None);
    assert_eq!(spend(&core, "acme"), None);
    assert_sound(&core);
    set_default(&core, Some(50));
    assert_eq!(spend(&core, "acme"), Some((number, 44)));

    // Its own wins, at once and full, and the level's begins anew behind it.
    let own = set(&core, "acme", OwnerUpdate::new().quota(Quota::new(9)));
    assert_eq!(own.quota.own().map(|status| status.remaining), Some(9));
    assert_eq!(spend(&core, "acme"), Some((number, 9)));
    assert_eq!(spend(&core, "globex"), Some((other, 50)));
    let none = set(&core, "acme", OwnerUpdate::new().quota(None));
    assert!(none.is_empty());
    // By the first request that spends of it, with an entry of its own.
    let gone = core.mutate(|tx| tx.find_owner_quota(0, &"acme".parse()?));
    assert_eq!(gone.unwrap(), None);
    let (again, left) = spend(&core, "acme").unwrap();
    assert_eq!(left, 50);
    assert_ne!(again, number);
    assert_eq!(spend(&core, "acme"), Some((again, 47)));
    assert_sound(&core);

    // Without either, nothing is left of it.
    set(&core, "bolt", OwnerUpdate::new().quota(Quota::new(9)));
    set_default(&core, None);
    set(&core, "bolt", OwnerUpdate::new().quota(None));
    let gone = core.mutate(|tx| tx.find_owner_quota(0, &"bolt".parse()?));
    assert_eq!(gone.unwrap(), None);
    assert_sound(&core);
}

#[test]
fn a_quota_that_is_changed_is_another() {
    let (core, _) = core();
    let revision = |core: &Core| {
        core.mutate(|tx| {
            let number = tx.find_owner_quota(0, &"acme".parse()?)?.unwrap();
            Ok((number, tx.quota(number)?.revision))
        })
        .unwrap()
    };
    let mut seen = Vec::new();
    for requests in [9, 9, 20] {
        set(
            &core,
            "acme",
            OwnerUpdate::new().quota(Quota::new(requests)),
        );
        seen.push(revision(&core));
    }
    assert!(seen.iter().all(|(number, _)| *number == seen[0].0));
    set(&core, "acme", OwnerUpdate::new().quota(None));
    for requests in [20, 30] {
        set_default(&core, Some(requests));
        spend(&core, "acme").unwrap();
        seen.push(revision(&core));
    }
    assert_ne!(seen[3].0, seen[2].0);
    assert_eq!(seen[4].0, seen[3].0);
    assert!(seen.is_sorted_by(|one, next| one.1 < next.1), "{seen:?}");
}

#[test]
fn settings_are_refused_at_their_bound() {
    assert!(refuse_at_bound(0).is_ok());
    assert!(refuse_at_bound(bounds::OWNER_SETTINGS_MAX - 1).is_ok());
    let refused = refuse_at_bound(bounds::OWNER_SETTINGS_MAX).unwrap_err();
    assert!(refused.to_string().contains("1000000"), "{refused}");
}

#[test]
fn what_is_in_memory_is_told_of_each_change() {
    let (core, _) = core();
    *crate::sync::lock(&core.published_deltas) = Some(Vec::new());
    set(&core, "acme", OwnerUpdate::new().cap(3));
    set(&core, "acme", OwnerUpdate::nothing());
    let deltas = crate::sync::lock(&core.published_deltas).take().unwrap();
    let name = (0, "acme".parse().unwrap());
    let told: Vec<_> = deltas
        .iter()
        .map(|(_, delta, _)| {
            let change = delta.owner_settings.get(&name).unwrap();
            let cap = |record: &Option<OwnerSettingsRecord>| record.as_ref()?.cap.own();
            (cap(&change.old), cap(&change.new), change.new.is_none())
        })
        .collect();
    assert_eq!(told, [(None, Some(3), false), (Some(3), None, true)]);
}
