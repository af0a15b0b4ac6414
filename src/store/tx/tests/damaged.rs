//! Keys whose records are damaged or gone, of which memory has a good copy.

use super::*;
use crate::model::key::Issued;

/// Damages a key's record as a disk does: nobody is told.
fn damage(core: &Core, id: KeyId, harm: &'static str) {
    look(core, move |tx| {
        tx.writing();
        if harm == "damaged" {
            tx.keys.insert(id.raw(), b"?".as_slice()).or_store()?;
        } else {
            tx.keys.remove(id.raw()).or_store()?;
        }
        if harm == "gone" {
            tx.cold.remove(id.raw()).or_store()?;
        }
        Ok(())
    });
}

/// Whether a key is granted, from memory where it was before.
fn is_granted(core: &Core, issued: &Issued) -> bool {
    let verdict = core.verify_text(issued.token.expose().as_bytes(), &Requirements::new());
    verdict.is_ok_and(|verdict| verdict.is_granted())
}

#[test]
fn whoever_takes_a_damaged_key_away_takes_its_copy_in_memory_too() {
    for harm in ["damaged", "missing", "gone"] {
        for verb in ["revoke", "disable", "narrow", "rotate"] {
            let (core, _) = store();
            let new = [new_key()];
            let issued = core
                .mutate(move |tx| change::issue::issue(tx, &new, None))
                .unwrap();
            let id = issued[0].key.id;
            let granted = || is_granted(&core, &issued[0]);
            assert!(granted() && granted());
            damage(&core, id, harm);
            assert!(granted(), "the copy in memory is as it was");
            let done = core.mutate(move |tx| match verb {
                "revoke" => {
                    let why = Revocation::new(Reason::KeyCompromise);
                    change::revoke::revoke(tx, id, &why, None).map(drop)
                }
                "disable" => change::update::set_disabled(tx, id, true, None).map(drop),
                "narrow" => {
                    let update = KeyUpdate::new().expires_in(MINUTE);
                    change::update::update(tx, id, &update, None).map(drop)
                }
                _ => change::rotate::rotate(tx, id, &Rotation::at_once(), None).map(drop),
            });
            assert_eq!(
                done.is_ok(),
                verb == "revoke" && harm != "gone",
                "{verb}, {harm}: {done:?}"
            );
            assert!(!granted(), "{verb}, {harm}");
        }
    }
}

/// What cannot be read is not counted: so what is in memory of it must not be good either.
#[test]
fn whoever_counts_around_a_damaged_key_takes_its_copy_in_memory_too() {
    for harm in ["damaged", "missing", "gone"] {
        for verb in ["supersede", "cap", "become single"] {
            let (core, _) = store();
            let policy = match verb {
                "supersede" => KeysPerOwner::SingleSuperseding,
                "cap" => KeysPerOwner::Many { cap: Some(1) },
                _ => KeysPerOwner::Many { cap: None },
            };
            let keyspace = NewKeyspace::new("few").unwrap().keys_per_owner(policy);
            core.mutate(move |tx| change::keyspace::create(tx, &keyspace, None))
                .unwrap();
            let new = || [NewKey::new("few", "acme/etl").unwrap()];
            let first = new();
            let issued = core.mutate(move |tx| change::issue::issue(tx, &first, None));
            let issued = issued.unwrap();
            let granted = || is_granted(&core, &issued[0]);
            assert!(granted() && granted());
            damage(&core, issued[0].key.id, harm);
            assert!(granted(), "the copy in memory is as it was");
            let second = new();
            let done = core.mutate(move |tx| match verb {
                "become single" => {
                    let update =
                        KeyspaceUpdate::new().keys_per_owner(KeysPerOwner::SingleSuperseding);
                    let prefix = "few".parse()?;
                    change::keyspace::update(tx, prefix, &update, None).map(drop)
                }
                _ => change::issue::issue(tx, &second, None).map(drop),
            });
            assert!(done.is_ok(), "{verb}, {harm}: {done:?}");
            assert!(!granted(), "{verb}, {harm}");
        }
    }
}
