//! What it checks: `src/proof/fuzz/entry.rs`, and that no entry takes more memory than
//! follows from its length.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let taken = allocation_counter::measure(|| gatekey::proof::fuzz::entry(bytes));
    let most = gatekey::proof::fuzz::entry_bytes_max(bytes.len());
    assert!(taken.bytes_max <= most, "{taken:?}");
});
