//! A file that a disk has damaged: bits flip, pages are lost. The storage engine
//! does not verify its checksums on ordinary reads, so that this does.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use gatekey::{Error, NewKey, NewKeyspace, OpenError, Reason};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::common::code;
use crate::opening::small;

const PAGE: usize = 4096;

struct Sample {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
    whole: Vec<u8>,
    good: Vec<String>,
    revoked: Vec<String>,
}

fn sample() -> Sample {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let engine = small().create(&path).unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(keyspace).unwrap();
    let batch = |owner: &str| {
        let keys = vec![NewKey::new("acme_live", owner).unwrap(); 60];
        let issued = engine.issue_batch(keys).unwrap().into_iter();
        issued.map(|key| key.token.expose().to_owned()).collect()
    };
    let (good, revoked) = (batch("acme/good"), batch("acme/revoked"));
    let revocation = engine.revoke_owner("acme/revoked", Reason::KeyCompromise);
    assert_eq!(revocation.unwrap().newly, 60);
    engine.close().unwrap();
    let whole = fs::read(&path).unwrap();
    Sample {
        _dir: dir,
        path,
        whole,
        good,
        revoked,
    }
}

/// What the tokens of damaged files came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answers {
    /// Other answers than of the whole file.
    changed: usize,
    /// Calls that panicked.
    panicked: usize,
}

/// Opens the sample with other bytes and asks for every token. No answer is
/// ever one that was not due: at most, a key is not found.
fn ask_all(sample: &Sample, bytes: &[u8], answers: &mut Answers) {
    fs::write(&sample.path, bytes).unwrap();
    let engine = match small().usage_interval(None).open(&sample.path) {
        Ok(engine) => engine,
        Err(_) => {
            answers.changed += 1;
            return;
        }
    };
    let good = sample.good.iter().map(|token| (token, "granted"));
    let revoked = sample.revoked.iter().map(|token| (token, "revoked"));
    for (token, due) in good.chain(revoked) {
        match catch_unwind(AssertUnwindSafe(|| engine.verify(token))) {
            Ok(Ok(verdict)) if code(&verdict) == due => {}
            Ok(Ok(verdict)) => {
                assert_eq!(code(&verdict), "unknown");
                answers.changed += 1;
            }
            Ok(Err(error)) => {
                assert!(
                    matches!(error, Error::Corrupted(_) | Error::Store(_)),
                    "{error:?}"
                );
                answers.changed += 1;
            }
            Err(_) => answers.panicked += 1,
        }
    }
}

/// The offsets of every copy of a text in the file.
fn places_of(sample: &Sample, text: &str) -> Vec<usize> {
    let windows = sample.whole.windows(text.len()).enumerate();
    windows
        .filter(|(_, window)| *window == text.as_bytes())
        .map(|(at, _)| at)
        .collect()
}

/// Flips bits in the pages that hold records, not in the empty rest of the file.
fn flip_bits(sample: &Sample) -> Answers {
    let mut random = StdRng::seed_from_u64(20_260_101);
    let places = places_of(sample, "acme/");
    let mut answers = Answers::default();
    for _ in 0..60 {
        let page = places[random.random_range(0..places.len())] / PAGE * PAGE;
        // Half of them in the head of a page, which says where its records are.
        let at = match random.random_bool(0.5) {
            true => page + random.random_range(0..512),
            false => page + random.random_range(0..PAGE),
        };
        let mut bytes = sample.whole.clone();
        bytes[at] ^= 1 << random.random_range(0..8_u32);
        ask_all(sample, &bytes, &mut answers);
    }
    answers
}

#[test]
fn a_bit_that_flips_grants_nothing_that_was_not_due() {
    let sample = sample();
    let mut whole = Answers::default();
    ask_all(&sample, &sample.whole, &mut whole);
    assert_eq!(whole, Answers::default());
    let answers = flip_bits(&sample);
    assert!(answers.changed > 10, "the flips hit something: {answers:?}");
}

#[test]
fn a_bit_that_flips_does_not_make_a_verification_panic() {
    let sample = sample();
    let places = places_of(&sample, "acme/");
    let pages: BTreeSet<usize> = places.iter().map(|at| at / PAGE * PAGE).collect();
    let mut answers = Answers::default();
    // In the head of a page: how many records it has, and where they end.
    for at in 0..40 {
        let mut bytes = sample.whole.clone();
        pages.iter().for_each(|page| bytes[page + at] ^= 0x20);
        ask_all(&sample, &bytes, &mut answers);
    }
    assert_eq!(answers.panicked, 0);
}

#[test]
fn a_page_that_is_lost_grants_nothing_that_was_not_due() {
    let sample = sample();
    let mut answers = Answers::default();
    let places = places_of(&sample, "acme/");
    let pages: BTreeSet<usize> = places.iter().map(|at| at / PAGE * PAGE).collect();
    for page in pages {
        let mut bytes = sample.whole.clone();
        bytes[page..page + PAGE].fill(0);
        ask_all(&sample, &bytes, &mut answers);
    }
    assert!(answers.changed + answers.panicked > 0);
}

#[test]
fn damage_is_found_at_opening_where_the_options_ask_for_it() {
    let sample = sample();
    let mut bytes = sample.whole.clone();
    for at in places_of(&sample, "acme/good") {
        bytes[at] ^= 1;
    }
    fs::write(&sample.path, &bytes).unwrap();
    let engine = small().open(&sample.path).unwrap();
    let verdict = engine.verify(&sample.good[0]);
    assert!(matches!(verdict, Err(Error::Corrupted(_))), "{verdict:?}");
    assert!(!engine.check().unwrap().is_sound());
    drop(engine);

    fs::write(&sample.path, &bytes).unwrap();
    let opened = small().verify_file(true).open(&sample.path);
    assert!(
        matches!(
            &opened,
            Err(Error::Open {
                reason: OpenError::Corrupted(_),
                ..
            })
        ),
        "{opened:?}"
    );
    assert!(fs::read(&sample.path).unwrap() == bytes, "it is untouched");

    fs::write(&sample.path, &sample.whole).unwrap();
    let engine = small().verify_file(true).open(&sample.path).unwrap();
    assert!(engine.verify(&sample.good[0]).unwrap().is_granted());
}
