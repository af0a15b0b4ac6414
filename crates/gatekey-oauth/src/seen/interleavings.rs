//! An entry under loom: every order of the steps of a reader and of a writer, with as many
//! preemptions as are said, and every value that the memory model allows a read.

use std::sync::Arc;

use loom::model::Builder;
use loom::thread;

use super::*;

/// The text that is looked for, of which an entry has what it has.
const HASH: Hash = [1, 1, 1];
const OTHER: Hash = [2, 2, 2];

fn proof(of: u64) -> Proof {
    Proof {
        expires_s: of,
        key: KeyId::try_from(of).unwrap(),
        within: Permissions::from_bits((u128::from(of) << 64) | u128::from(of)),
    }
}

/// Writes entries one after the other while a reader looks for `HASH` in the epoch 2.
fn read_beside(first: (Hash, u64, u64), second: (Hash, u64, u64), may_be: &'static [Option<u64>]) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let slot = Arc::new(Slot::default());
        let write = |slot: &Slot, (hash, of, epoch): (Hash, u64, u64)| {
            slot.write(&hash, &proof(of), Epoch(epoch));
        };
        write(&slot, first);
        let writer = {
            let slot = slot.clone();
            thread::spawn(move || write(&slot, second))
        };
        let found = slot.read(&HASH, Epoch(2));
        assert!(
            may_be.iter().any(|one| found == one.map(proof)),
            "{found:?}"
        );
        writer.join().unwrap();
    });
}

#[test]
fn what_is_read_of_an_entry_is_of_one_token() {
    read_beside((HASH, 1, 2), (OTHER, 2, 2), &[None, Some(1)]);
    read_beside((OTHER, 2, 2), (HASH, 1, 2), &[None, Some(1)]);
}

#[test]
fn what_was_proven_in_another_epoch_is_not_read() {
    read_beside((HASH, 1, 1), (HASH, 2, 2), &[None, Some(2)]);
    read_beside((HASH, 2, 2), (HASH, 3, 3), &[None, Some(2)]);
}
