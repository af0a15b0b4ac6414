//! What it checks: `src/proof/fuzz/headers.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gatekey::proof::fuzz::headers(bytes));
