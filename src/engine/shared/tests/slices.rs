//! Slices of quotas, as a batch takes and returns them.

use super::*;

/// A key with a quota of which a slice is out, and the quota's number.
fn spending(quota: Quota) -> (Core, String, KeyId, u64) {
    let core = core();
    create(&core, "acme").unwrap();
    let new = NewKey::new("acme", "acme").unwrap().quota(quota);
    let new = [new];
    let issued = core.mutate(move |tx| change::issue::issue(tx, &new, None));
    let issued = issued.unwrap().remove(0);
    let token = issued.token.expose().to_owned();
    let id = issued.key.id;
    assert_eq!(granted(&core, &token, 1), 1);
    let number = core.mutate(move |tx| Ok(tx.cold(id)?.quota)).unwrap();
    (core, token, id, number.unwrap())
}

#[test]
fn slices_that_a_batch_called_in_are_not_lost_with_it() {
    let (core, token, id, number) = spending(Quota::new(15));
    let in_store = || {
        let quota = core.mutate(move |tx| Ok(tx.quota(number)?.remaining));
        quota.unwrap()
    };
    assert_eq!(in_store(), 5);
    // It fails after it has called the slice in and written, and is thrown away; once
    // beside another, for which the batch is run again.
    let fails = |core: &Core| {
        let quotas = core.quotas.clone();
        core.mutate(move |tx| {
            quota::put_back(tx, &quotas, &[number])?;
            Err::<(), Error>(Conflict::Disabled(id).into())
        })
    };
    let goes_on = |core: &Core| core.mutate(move |tx| tx.put_quota(number, &tx.quota(number)?));
    for mutations in [
        &[&fails as &(dyn Fn(&Core) -> _ + Sync)][..],
        &[&goes_on, &fails],
    ] {
        let results = in_one_batch(&core, mutations);
        assert!(results.last().unwrap().is_err());
        assert_eq!(in_store(), 5);
    }
    // And once it is committed.
    let quotas = core.quotas.clone();
    core.mutate(move |tx| quota::put_back(tx, &quotas, &[number]))
        .unwrap();
    assert_eq!(in_store(), 14);
    assert_eq!(granted(&core, &token, 20), 14);
}

/// A request that another level refused gives back what it took, and meanwhile a
/// settlement used more than there was.
#[test]
fn what_comes_back_to_a_quota_that_owes_pays_that_and_the_rest_is_spent() {
    let (core, token, id, number) = spending(Quota::new(10));
    let use_up = |requests| {
        let quotas = core.quotas.clone();
        let of = [quota::Charged {
            name: id.raw(),
            of: quota::Of::Key(id),
        }];
        let now = core.now();
        core.mutate(move |tx| quota::use_up(tx, &quotas, &of, requests, now))
            .unwrap()
    };
    use_up(11);
    let owed = || {
        core.quotas
            .status_numbered(number, core.now())
            .unwrap()
            .owed
    };
    assert_eq!((owed(), granted(&core, &token, 3)), (2, 0));
    core.quotas.put_in(id.raw(), 5);
    assert_eq!(granted(&core, &token, 9), 3);
    assert_eq!(owed(), 0);
}

/// What comes back while a transaction puts a slice into the store stays in memory, and the
/// store is not taken for empty.
#[test]
fn what_comes_back_while_a_slice_is_called_in_is_spent_with_what_the_store_has() {
    let (core, token, id, number) = spending(Quota::new(30));
    let quotas = core.quotas.clone();
    let called_in = core.mutate(move |tx| {
        quota::put_back(tx, &quotas, &[number])?;
        quotas.put_in(id.raw(), 1);
        Ok(())
    });
    called_in.unwrap();
    assert_eq!(granted(&core, &token, 40), 30);
}

#[test]
fn an_exhausted_quota_is_found_without_a_commit() {
    let (core, token, id, number) = spending(Quota::new(10));
    assert_eq!(granted(&core, &token, 9), 9);
    let written = |core: &Core| {
        let snapshot = core.snapshot().unwrap();
        Arc::as_ptr(&snapshot)
    };
    let before = written(&core);
    let held = core.snapshot().unwrap();
    // From memory, and from the store for a key that memory does not know.
    assert_eq!(granted(&core, &token, 3), 0);
    core.quotas.publish(&[QuotaEvent::Moved(id.raw())]);
    assert_eq!(granted(&core, &token, 3), 0);
    core.quotas.publish(&[QuotaEvent::Changed(number)]);
    assert_eq!(granted(&core, &token, 3), 0);
    assert_eq!(written(&core), before, "no snapshot is newer");
    drop(held);
}

/// A slice that was taken of a quota which is gone by the end of the same batch, is of no
/// later one.
#[test]
fn a_slice_of_a_quota_that_its_batch_makes_and_removes_is_not_spent() {
    use crate::model::level::LevelDefaults;
    use crate::{OwnerUpdate, Quota, Requirements, Setting};

    let options = Options::new().usage_interval(None);
    let engine = options.open_in_memory().unwrap();
    let defaults = LevelDefaults::new().quota(Quota::new(100_000));
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    let keyspace = engine.create_keyspace(keyspace.owner_defaults(1, defaults));
    let number = keyspace.unwrap().id;
    let issued = engine.issue(NewKey::new("acme_live", "acme").unwrap());
    let text = issued.unwrap().token;
    let core = &engine.core;
    let owner: OwnerPath = "acme".parse().unwrap();
    let purse = {
        let entry = core.registry.get(number).unwrap();
        let of_revision = crate::memory::registry::Once::new(entry).defaults(1).quota;
        let name = core.limiter.names().of_owner(number, &owner);
        name.purse(Some(of_revision.unwrap()))
    };
    let (quotas, clock) = (core.quotas.clone(), core.now());
    let unlimited = OwnerUpdate::new().quota(Setting::Unlimited);
    core.mutate(move |tx| {
        let of = (number, &owner, purse);
        let asked = std::sync::Weak::new();
        let take = quota::take_slice_of_owner;
        assert!(take(tx, &quotas, of, 1, clock, &asked)?);
        change::owner_settings::update(tx, "acme_live".parse()?, &owner, &unlimited, None)
    })
    .unwrap();
    let by_default = OwnerUpdate::new().quota(Setting::Default);
    engine
        .update_owner("acme_live", "acme", by_default)
        .unwrap();
    let thousand = Requirements::new().cost(1_000);
    for _ in 0..100 {
        let verdict = engine.verify_with(text.expose(), &thousand).unwrap();
        assert!(verdict.is_granted(), "{verdict:?}");
    }
    let one_more = engine.verify(text.expose()).unwrap();
    assert!(!one_more.is_granted(), "{one_more:?}");
}
