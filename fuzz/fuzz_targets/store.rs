//! What it checks: `src/proof/fuzz/store.rs`.
#![no_main]

use std::collections::BTreeSet;
use std::sync::Mutex;

/// Where the storage engine has panicked so far.
static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

libfuzzer_sys::fuzz_target!(
    // In the place of libFuzzer's hook, which ends the process: a panic that
    // gatekey turns into an error is told once, and one that it lets out ends the
    // process all the same.
    init: std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if SEEN.lock().is_ok_and(|mut seen| seen.insert(place)) {
            eprintln!("PANIC {panic}");
        }
    })),
    |bytes: &[u8]| gatekey::proof::fuzz::store(bytes)
);
