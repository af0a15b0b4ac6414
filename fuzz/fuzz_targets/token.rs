//! What it checks: `src/proof/fuzz/token.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gatekey::proof::fuzz::token(bytes));
