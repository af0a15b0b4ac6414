//! The keys that an owner holds, as they are counted for a cap.

use super::*;

#[test]
fn what_is_over_leaves_the_index_of_held_keys_and_comes_back_with_the_time() {
    let (core, clock) = store();
    let begin = core.now();
    issue(&core, new_key().expires_in(MINUTE));
    let good = issue(&core, new_key());
    let old = issue(&core, new_key());
    let rotated = rotate(&core, old);
    let revoked = issue(&core, new_key());
    let held = || {
        look(&core, move |tx| {
            let keyspace = tx.keyspace("acme".parse().unwrap())?.id;
            let holdings = tx.holdings(&owner(), keyspace)?;
            let good: BTreeSet<_> = holdings.good.iter().map(|key| key.id).collect();
            Ok((good, holdings.lapsed.len(), tx.held.len().or_store()?))
        })
    };
    assert_eq!((held().0.len(), held().1, held().2), (5, 0, 5));
    // A revocation leaves the row to the next that meets it.
    revoke(&core, revoked);
    assert_eq!((held().0.len(), held().1, held().2), (4, 1, 5));
    clock.advance(2 * MINUTE);
    let left = BTreeSet::from([good, rotated]);
    assert_eq!(held(), (left.clone(), 3, 5));
    look(&core, |tx| {
        let keyspace = tx.keyspace("acme".parse().unwrap())?.id;
        let lapsed = tx.holdings(&owner(), keyspace)?.lapsed;
        tx.forget_lapsed(&lapsed)
    });
    assert_eq!(held(), (left, 0, 2));
    // Time was wrong, and what it ended is held again.
    look(&core, move |tx| {
        change::time::set_back(tx, begin, None).map(drop)
    });
    clock.set(begin);
    assert_eq!((held().0.len(), held().1, held().2), (4, 0, 4));
}

#[test]
fn an_owner_that_was_issued_many_keys_has_rows_of_those_it_holds() {
    let (core, clock) = store();
    let single = NewKeyspace::new("one").unwrap().single_active();
    core.mutate(move |tx| change::keyspace::create(tx, &single, None))
        .unwrap();
    let capped = KeysPerOwner::Many { cap: Some(3) };
    let capped = NewKeyspace::new("few").unwrap().keys_per_owner(capped);
    core.mutate(move |tx| change::keyspace::create(tx, &capped, None))
        .unwrap();
    let rows = || look(&core, |tx| tx.held.len().or_store());
    for round in 0..50 {
        issue(&core, NewKey::new("one", "acme/etl").unwrap());
        assert_eq!(rows(), 1, "round {round}");
    }
    // One is revoked in each round and one expires, and no row is left of either for long.
    for round in 0..50 {
        let mortal = NewKey::new("few", "acme/etl").unwrap().expires_in(MINUTE);
        issue(&core, mortal);
        let revoked = issue(&core, NewKey::new("few", "acme/etl").unwrap());
        revoke(&core, revoked);
        clock.advance(MINUTE);
        assert!(rows() <= 1 + 4, "round {round}: {}", rows());
    }
    // Nor of those that were rotated, whether at once or with a grace that is over.
    let mut last = issue(&core, NewKey::new("acme", "other").unwrap());
    for round in 0..50 {
        last = match round % 2 {
            0 => rotate(&core, last),
            _ => look(&core, move |tx| {
                let at_once = Rotation::at_once();
                change::rotate::rotate(tx, last, &at_once, None).map(|rotated| rotated.key.id)
            }),
        };
        clock.advance(2 * MINUTE);
        assert!(rows() <= 1 + 4 + 3, "round {round}: {}", rows());
    }
}

#[test]
fn a_key_whose_record_is_damaged_takes_up_no_room_at_a_cap() {
    let (core, _) = store();
    for (prefix, policy) in [
        ("one", KeysPerOwner::SingleRefusing),
        ("few", KeysPerOwner::Many { cap: Some(1) }),
    ] {
        let keyspace = NewKeyspace::new(prefix).unwrap().keys_per_owner(policy);
        core.mutate(move |tx| change::keyspace::create(tx, &keyspace, None))
            .unwrap();
        let new = || NewKey::new(prefix, "acme/etl").unwrap();
        let damaged = issue(&core, new());
        let another = || {
            let new = [new()];
            core.mutate(move |tx| change::issue::issue(tx, &new, None).map(drop))
        };
        assert!(another().is_err(), "{prefix}");
        look(&core, move |tx| {
            tx.writing();
            tx.keys.insert(damaged.raw(), b"?".as_slice()).or_store()?;
            Ok(())
        });
        another().unwrap();
        assert!(another().is_err(), "{prefix}");
    }
}

#[test]
fn a_cap_that_the_same_transaction_gave_holds() {
    let (core, _) = store();
    let denied = core.mutate(|tx| {
        let prefix = "acme".parse()?;
        change::issue::issue(tx, &[new_key()], None)?;
        let cap = OwnerUpdate::new().cap(1);
        change::owner_settings::update(tx, prefix, &"acme".parse()?, &cap, None)?;
        change::issue::issue(tx, &[new_key()], None).map(drop)
    });
    let told = denied.unwrap_err().to_string();
    assert!(told.contains("holds 1 key and may hold 1"), "{told}");
}

#[test]
fn a_damaged_index_of_held_keys_is_found_and_made_again() {
    let (core, clock) = store();
    issue(&core, new_key().expires_in(MINUTE));
    let good = issue(&core, new_key());
    let revoked = issue(&core, new_key());
    revoke(&core, revoked);
    clock.advance(2 * MINUTE);
    // Rows of what is over are no damage.
    let found = || {
        let snapshot = core.snapshot().unwrap();
        let report = crate::store::check::check(&snapshot, core.now()).unwrap();
        let tables = report.findings.iter().map(|found| found.table);
        tables.collect::<Vec<_>>()
    };
    let place = |id: KeyId| tables::held_key(0, &owner(), id);
    type Harm = Box<dyn Fn(&mut Noted<'_, Bytes, (u64, u64)>) + Send + Sync>;
    let harms: [(&str, Harm); 5] = [
        (
            "missing",
            Box::new(move |held| drop(held.remove(&*place(good)).unwrap())),
        ),
        (
            "an end",
            Box::new(move |held| drop(held.insert(&*place(good), (7, good.raw())).unwrap())),
        ),
        (
            "a lineage",
            Box::new(move |held| drop(held.insert(&*place(good), (u64::MAX, 7)).unwrap())),
        ),
        (
            "of no key",
            Box::new(move |held| drop(held.insert(&*place(KeyId::from_raw(7)), (9, 9)).unwrap())),
        ),
        (
            "short",
            Box::new(move |held| drop(held.insert(b"x".as_slice(), (9, 9)).unwrap())),
        ),
    ];
    for (name, harm) in harms {
        assert_eq!(found(), Vec::<&str>::new(), "{name}");
        core.mutate(move |tx| {
            harm(&mut tx.held);
            tx.writing();
            Ok(())
        })
        .unwrap();
        assert_eq!(found(), ["held"], "{name}");
        let done = look(&core, |tx| tx.repair(&[], None));
        assert!(
            done.iter().all(|done| done.table == "held"),
            "{name}: {done:?}"
        );
    }
    assert_eq!(found(), Vec::<&str>::new());
}

#[test]
fn an_owner_that_holds_several_is_found_in_its_keyspace_alone() {
    let (core, _) = store();
    issue(&core, new_key());
    issue(&core, new_key());
    let other = create(&core, "other").unwrap().id;
    issue(&core, NewKey::new("other", "acme/etl").unwrap());
    look(&core, move |tx| {
        let acme = tx.keyspace("acme".parse().unwrap())?.id;
        assert_eq!(tx.owner_with_several(acme)?.0, Some(owner()));
        assert_eq!(tx.owner_with_several(other)?.0, None);
        Ok(())
    });
}
