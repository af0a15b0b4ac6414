//! What imported keys cost a native token, and what a foreign token costs: over a store
//! with as many keys of another system as of its own, beside one without.

use gatekey::{Credential, Engine, ForeignHash, ForeignKey, ImportedKey, NewImport, NewKey};

use crate::limits::{KEYS, Place};
use crate::world::lay_out;
use crate::{BATCH, Run, compare, granted, print};

const NAMES: [&str; 2] = [
    "verify_native_beside_foreign_over_without",
    "verify_foreign_over_native",
];

/// Tokens of another system, which keeps them plain.
fn import(engine: &Engine) -> Vec<String> {
    let new = NewImport::new("old", ForeignHash::Plain).starts_with("sk_");
    engine.begin_import(new).unwrap();
    let token = |at: usize| format!("sk_of_the_old_system_{at:012}");
    for from in (0..KEYS).step_by(BATCH) {
        let row = |at: usize| {
            let owner = format!("imported-{}/etl-bot-{at}", at % 1_000);
            let key = NewKey::new("acme_live", owner).unwrap();
            let key = key.permissions(["read"]);
            ForeignKey::new(key, Credential::token(token(at)))
        };
        let rows = (from..KEYS.min(from + BATCH)).map(row).collect();
        let told = engine.import_keys("old", rows).unwrap();
        let is_in = |told: &ImportedKey| matches!(told, ImportedKey::Imported(_));
        assert!(told.iter().all(is_in), "a key was not imported");
    }
    (0..KEYS).map(token).collect()
}

pub(crate) fn foreign(run: &Run) {
    if !run.wants(&NAMES) {
        return;
    }
    let without = Place::new(1_000, |new| new, |key| key);
    let beside = Place::new(1_000, |new| new, |key| key);
    let tokens = import(&beside.engine);
    if run.wants(&NAMES[..1]) {
        let (_, _, ratio) = compare(
            run.rounds(),
            20_000,
            |at| beside.verify(at),
            |at| without.verify(at),
        );
        print(NAMES[0], ratio, "ratio");
    }
    if run.wants(&NAMES[1..]) {
        let pool = lay_out(&tokens, 12);
        let (_, _, ratio) = compare(
            run.rounds(),
            20_000,
            |at| granted(&beside.engine, pool[at % KEYS]),
            |at| beside.verify(at),
        );
        print(NAMES[1], ratio, "ratio");
    }
}
