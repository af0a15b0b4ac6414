//! Runs under valgrind's memcheck with secrets marked as undefined: memcheck then
//! reports each branch, and each address, that depends on one (Langley's ctgrind).
//!
//! `run.sh` runs every case and says which reports there must be.

use std::env::args;
use std::hint::black_box;

use crabgrind::RunMode;
use crabgrind::memcheck::{MemState, mark_mem};
use gatekey::{Engine, NewKey, NewKeyspace, Options, Pepper, proof};

/// The length of a token's end, which is hashed: id, `_`, secret, check.
const SIGNED_LEN: usize = 60;
const SECRET: std::ops::Range<usize> = 11..54;

fn main() {
    assert!(crabgrind::run_mode() != RunMode::Native, "run me under valgrind");
    match args().nth(1).as_deref() {
        Some("compare") => compare(proof::digests_equal),
        Some("compare-early-exit") => compare(equal_early_exit),
        Some("digest") => digest(),
        Some("mac") => mac(),
        Some("verify-resident") => verify(Options::RESIDENT_BYTES),
        Some("verify-file") => verify(0),
        other => panic!("{other:?} is not a case"),
    }
}

fn hide(bytes: &mut [u8]) {
    mark(bytes, MemState::Undefined);
}

fn show(bytes: &mut [u8]) {
    mark(bytes, MemState::Defined);
}

fn mark(bytes: &mut [u8], state: MemState) {
    // Its result is of no use: it tells the one success from the other kind. That
    // marks are made is shown by the case that must be reported.
    let _ = mark_mem(bytes.as_mut_ptr().cast(), bytes.len(), state);
    black_box(bytes);
}

/// A comparison's result may be branched on: it is the answer.
fn is_true(mut answer: [u8; 1]) -> bool {
    show(&mut answer);
    black_box(answer) == [1]
}

/// Of digests that are equal, and differ in the first, the last and every byte.
fn compare(equal: fn(&[u8; 32], &[u8; 32]) -> bool) {
    let stored = [7; 32];
    for at in [None, Some(0..1), Some(31..32), Some(0..32)] {
        let mut presented = stored;
        presented[at.clone().unwrap_or(0..0)].fill(8);
        let mut stored = stored;
        hide(&mut stored);
        hide(&mut presented);
        let answer = [u8::from(equal(black_box(&stored), black_box(&presented)))];
        assert_eq!(is_true(answer), at.is_none());
    }
}

/// What `==` is where the compiler does not make one wide comparison of it, as on
/// some processors it does of 32 bytes.
#[inline(never)]
fn equal_early_exit(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.iter().zip(right).all(|(left, right)| left == black_box(right))
}

/// The way from a token to its digest and to the answer, with everything secret:
/// the store's key, the pepper, the token's secret and what is stored.
fn digest() {
    let mut key = [9; 32];
    let mut pepper = [5; 32];
    let mut signed = *b"1lRk2Pq9Zx_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ123456";
    let with_pepper = [Pepper::new(1, pepper).unwrap()];
    let mut stored = [
        proof::digest(&key, &[], &signed),
        proof::digest(&key, &with_pepper, &signed),
    ];
    hide(&mut key);
    hide(&mut pepper);
    hide(&mut signed[SECRET]);
    hide(stored.as_flattened_mut());
    let with_pepper = [Pepper::new(1, pepper).unwrap()];
    for (peppers, stored) in [&[][..], &with_pepper].into_iter().zip(&stored) {
        let digest = proof::digest(&key, peppers, black_box(&signed));
        assert!(is_true([u8::from(proof::digests_equal(&digest, stored))]));
        let digest = proof::digest(&key, peppers, &black_box([b'x'; SIGNED_LEN]));
        assert!(!is_true([u8::from(proof::digests_equal(&digest, stored))]));
    }
}

/// The way from a token to its MAC and to the answer, with everything secret: the key, the token's
/// secret and what memory has.
fn mac() {
    let mut numbers: [u64; 16] = std::array::from_fn(|at| (1 << 60) + at as u64);
    let mut signed = *b"1lRk2Pq9Zx_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ123456";
    let mut stored = proof::mac(&numbers, &signed);
    let of_numbers = size_of_val(&numbers);
    // Its result is of no use: see `mark`.
    let _ = mark_mem(numbers.as_mut_ptr().cast(), of_numbers, MemState::Undefined);
    hide(&mut signed[SECRET]);
    hide(&mut stored);
    let mac = proof::mac(black_box(&numbers), black_box(&signed));
    assert!(is_true([u8::from(proof::macs_equal(&mac, &stored))]));
    let mac = proof::mac(&numbers, &black_box([b'x'; SIGNED_LEN]));
    assert!(!is_true([u8::from(proof::macs_equal(&mac, &stored))]));
}

/// Whole verifications, whose tokens' secrets are secret.
fn verify(resident_bytes: usize) {
    let options = Options::new().usage_interval(None);
    let engine = options.resident_bytes(resident_bytes).open_in_memory();
    let engine = engine.unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(keyspace).unwrap();
    let spec = NewKey::new("acme_live", "acme/bot").unwrap();
    let issued = engine.issue(spec).unwrap();
    let mut token = issued.token.expose().as_bytes().to_vec();
    assert!(is_granted(&engine, &token));
    let at = token.len() - SIGNED_LEN;
    hide(&mut token[at + SECRET.start..at + SECRET.end]);
    assert!(is_granted(&engine, &token));
}

fn is_granted(engine: &Engine, token: &[u8]) -> bool {
    engine.verify(black_box(token)).unwrap().is_granted()
}
