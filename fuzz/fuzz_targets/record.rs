//! What it checks: `src/proof/fuzz/record.rs`, and that no record takes more
//! memory than a few times the longest that there is.
#![no_main]

/// What serde sets aside at most for a sequence that says it is long is 1 MiB.
const BYTES_MAX: u64 = 4 << 20;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let taken = allocation_counter::measure(|| gatekey::proof::fuzz::record(bytes));
    assert!(taken.bytes_max <= BYTES_MAX, "{taken:?}");
});
