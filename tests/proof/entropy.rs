//! What is drawn at random: the characters of secrets, and ids.

use std::collections::HashSet;

use gatekey::{Engine, ManualClock, NewKey, NewKeyspace, Options, bounds, proof};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::rounds;

const DIGITS: usize = 62;
const ALPHABET: &[u8; DIGITS] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SECRET_LEN: usize = 43;
type Secret = [u8; SECRET_LEN];

/// What chi-square with 61 degrees of freedom is over with a chance of 1.2e-13. It
/// is asked for 44 times a run.
const DIGITS_MAX: f64 = 180.0;
/// What it is over with 3,843 degrees of freedom with a chance of 1.3e-14. Asked
/// for once a run.
const PAIRS_MAX: f64 = 4550.0;

/// How often each digit stood at each position, and each pair of neighbours that
/// share no digit with another pair.
struct Counts {
    at: Vec<[u64; DIGITS]>,
    pairs: Vec<u64>,
}

impl Counts {
    fn new() -> Self {
        Self {
            at: vec![[0; DIGITS]; SECRET_LEN],
            pairs: vec![0; DIGITS * DIGITS],
        }
    }

    fn add(&mut self, secret: &Secret) {
        let value = |byte: u8| ALPHABET.binary_search(&byte).expect("a base62 digit");
        for (counts, byte) in self.at.iter_mut().zip(secret) {
            counts[value(*byte)] += 1;
        }
        for pair in secret.as_chunks::<2>().0 {
            self.pairs[value(pair[0]) * DIGITS + value(pair[1])] += 1;
        }
    }

    fn overall(&self) -> f64 {
        let sum = |digit: usize| self.at.iter().map(|counts| counts[digit]).sum();
        chi_square(&std::array::from_fn::<u64, DIGITS, _>(sum))
    }

    fn worst_position(&self) -> f64 {
        let all = self.at.iter().map(|counts| chi_square(counts));
        all.fold(0.0, f64::max)
    }

    /// What is not as of a fair generator.
    fn faults(&self) -> Vec<&'static str> {
        let mut faults = Vec::new();
        if self.overall() > DIGITS_MAX {
            faults.push("overall");
        }
        if self.worst_position() > DIGITS_MAX {
            faults.push("position");
        }
        if chi_square(&self.pairs) > PAIRS_MAX {
            faults.push("pairs");
        }
        faults
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn chi_square(counts: &[u64]) -> f64 {
    let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    let squares = counts
        .iter()
        .map(|count| (*count as f64 - expected).powi(2));
    squares.sum::<f64>() / expected
}

/// As many secrets of another generator: `digit` is given a source of bytes.
fn counts_of(count: u64, mut digit: impl FnMut(&mut StdRng, u8) -> u8) -> Counts {
    let mut source = StdRng::seed_from_u64(62);
    let mut counts = Counts::new();
    for _ in 0..count {
        let mut secret: Secret = [0; SECRET_LEN];
        let mut last = 0;
        for at in &mut secret {
            last = digit(&mut source, last);
            *at = ALPHABET[usize::from(last)];
        }
        counts.add(&secret);
    }
    counts
}

fn byte_below(source: &mut StdRng, limit: u16) -> u8 {
    loop {
        let byte = source.random::<u8>();
        if u16::from(byte) < limit {
            break byte;
        }
    }
}

/// Invariant 1 rests on it: whoever could say more of a secret than that it is
/// one of 62^43 would have less to guess.
#[test]
fn the_characters_of_secrets_are_even_and_independent() {
    let count = rounds(100_000, 10_000_000);
    let mut counts = Counts::new();
    let mut seen = HashSet::new();
    let each = |secret: &Secret| {
        counts.add(secret);
        if seen.len() < 100_000 {
            assert!(seen.insert(*secret), "the same secret twice");
        }
    };
    proof::draw_secrets(usize::try_from(count).unwrap(), each).unwrap();
    println!(
        "chi-square of {count} secrets: overall {:.1}, worst position {:.1} (61 degrees of \
         freedom, at most {DIGITS_MAX}), pairs {:.1} (3843, at most {PAIRS_MAX})",
        counts.overall(),
        counts.worst_position(),
        chi_square(&counts.pairs),
    );
    assert!(counts.faults().is_empty(), "{:?}", counts.faults());
}

/// The same statistic, at the size of the short form, on generators that are
/// known to be wrong, and on one that is known to be right.
#[test]
fn a_biased_generator_would_be_noticed() {
    let count = 100_000;
    let fair = counts_of(count, |source, _| byte_below(source, 248) % 62);
    assert!(fair.faults().is_empty(), "{:?}", fair.faults());

    let modulo = counts_of(count, |source, _| byte_below(source, 256) % 62);
    assert_eq!(modulo.faults(), ["overall", "position", "pairs"]);
    // One byte too many is let through.
    let off_by_one = counts_of(count, |source, _| byte_below(source, 249) % 62);
    assert!(off_by_one.faults().contains(&"overall"));
    // One digit in fifty is that before it.
    let sticky = counts_of(count, |source, last| match source.random_range(0..50) {
        0 => last,
        _ => byte_below(source, 248) % 62,
    });
    assert!(sticky.faults().contains(&"pairs"));
}

/// The low bits of an id; above them is the millisecond.
const RANDOM_BITS: u32 = 18;

/// Issues so many keys, and gives back their ids as numbers, and how many were
/// drawn again: such an id is of a later millisecond than its key.
fn issue(engine: &Engine, count: u64) -> (Vec<u64>, u64) {
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(keyspace).unwrap();
    let (mut ids, mut again) = (Vec::new(), 0);
    let value = |byte: u8| ALPHABET.binary_search(&byte).unwrap() as u64;
    while (ids.len() as u64) < count {
        let left = usize::try_from(count).unwrap() - ids.len();
        let spec = || NewKey::new("acme_live", "acme/bot").unwrap();
        let specs = (0..left.min(bounds::BATCH_MAX)).map(|_| spec()).collect();
        for issued in engine.issue_batch(specs).unwrap() {
            let text = issued.key.id.to_string();
            let id = text.bytes().fold(0, |id, byte| id * 62 + value(byte));
            // From the first millisecond of 2024 on.
            let created = issued.key.created_at.unix_ms() - 1_704_067_200_000;
            again += u64::from(id >> RANDOM_BITS != created);
            ids.push(id);
        }
    }
    (ids, again)
}

fn count_duplicates(mut ids: Vec<u64>) -> usize {
    ids.sort_unstable();
    ids.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

/// The long form issues ten million, of which many are drawn again: a batch is
/// issued within one millisecond, that has 2^18 ids.
#[test]
fn no_id_is_given_twice() {
    assert_eq!(count_duplicates(vec![3, 1, 2, 1]), 1);
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().usage_interval(None).resident_bytes(0);
    let engine = options.create(dir.path().join("keys.redb")).unwrap();
    let (ids, again) = issue(&engine, rounds(20_000, 10_000_000));
    println!("{} ids, {again} of them drawn again", ids.len());
    assert_eq!(count_duplicates(ids), 0);
    engine.close().unwrap();
}

/// A clock that stands still makes a collision of every tenth draw: so many that
/// a draw that is not repeated would show.
#[test]
fn ids_that_are_taken_are_drawn_again() {
    let clock = ManualClock::at(gatekey::Timestamp::from_unix_ms(1_800_000_000_000).unwrap());
    let options = Options::new().usage_interval(None).clock(clock);
    let engine = options.open_in_memory().unwrap();
    let (ids, again) = issue(&engine, 20_000);
    // Expected are 20,000^2 / 2 / 2^18 = 763, with a deviation of 27.
    assert!((500..1000).contains(&again), "{again}");
    assert_eq!(count_duplicates(ids), 0);
    engine.close().unwrap();
}
