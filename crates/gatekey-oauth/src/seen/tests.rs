#![allow(clippy::unwrap_used)]

use super::*;

const EPOCH: Epoch = Epoch(1);
const NOW_S: u64 = 1_000;

fn proof(of: u64, expires_s: u64) -> Proof {
    Proof {
        expires_s,
        key: KeyId::try_from(of).unwrap(),
        within: Permissions::from_bits((u128::from(of) << 64) | u128::from(of + 1)),
    }
}

/// A token of a table of one set, whose own way is the first.
fn token(of: u64) -> Token {
    Token {
        set: 0,
        way: 0,
        hash: [of, of, of],
    }
}

#[test]
fn a_token_is_found_by_all_of_its_hash() {
    let seen = Seen::new(64);
    for text in ["one", "two", "three"] {
        let token = seen.token(&blake3::hash(text.as_bytes()));
        assert_eq!(seen.find(&token, EPOCH), None);
        let proof = proof(text.len() as u64, 2 * NOW_S);
        seen.put(&token, &proof, EPOCH, NOW_S);
        assert_eq!(seen.find(&token, EPOCH), Some(proof));
        for word in 0..3 {
            let mut other = seen.token(&blake3::hash(text.as_bytes()));
            other.hash[word] ^= 1 << 63;
            assert_eq!(seen.find(&other, EPOCH), None, "{text}, word {word}");
        }
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn what_was_proven_before_a_key_was_removed_proves_nothing() {
    let seen = Seen::new(4);
    let [before, after] = [4, 5].map(Epoch::after);
    seen.put(&token(1), &proof(1, 2 * NOW_S), before, NOW_S);
    assert!(seen.find(&token(1), before).is_some());
    assert_eq!(seen.find(&token(1), after), None);
    // It is the first to go.
    for of in 2..=5 {
        seen.put(&token(of), &proof(of, 2 * NOW_S), after, NOW_S);
    }
    assert!((2..=5).all(|of| seen.find(&token(of), after).is_some()));
    // A proof that comes late does not bring its epoch back.
    seen.put(&token(2), &proof(2, 2 * NOW_S), before, NOW_S);
    assert_eq!(seen.find(&token(2), after), None);
}

#[test]
fn a_token_takes_the_place_of_itself_of_an_ended_one_or_of_any() {
    let seen = Seen::new(4);
    for of in 1..=4 {
        seen.put(&token(of), &proof(of, 2 * NOW_S), EPOCH, NOW_S);
    }
    seen.put(&token(3), &proof(9, NOW_S), EPOCH, NOW_S);
    assert_eq!(seen.find(&token(3), EPOCH), Some(proof(9, NOW_S)));
    seen.put(&token(5), &proof(5, 2 * NOW_S), EPOCH, NOW_S);
    assert_eq!(seen.find(&token(3), EPOCH), None);
    assert!(
        [1, 2, 4, 5]
            .iter()
            .all(|of| seen.find(&token(*of), EPOCH).is_some())
    );
    seen.put(&token(6), &proof(6, 2 * NOW_S), EPOCH, NOW_S);
    let left = [1, 2, 4, 5]
        .iter()
        .filter(|of| seen.find(&token(**of), EPOCH).is_some());
    assert_eq!(left.count(), 3);
    assert!(seen.find(&token(6), EPOCH).is_some());
    assert_eq!(seen.len(), 4);
}

#[test]
fn the_tokens_of_all_sets_and_ways_are_kept() {
    let seen = Seen::new(256);
    let tokens: Vec<_> = (0..128_u64)
        .map(|of| seen.token(&blake3::hash(&of.to_le_bytes())))
        .collect();
    for (of, token) in (0..).zip(&tokens) {
        seen.put(token, &proof(of, 2 * NOW_S), EPOCH, NOW_S);
    }
    // Of 64 sets half full nearly none overflows.
    let found = tokens
        .iter()
        .filter(|token| seen.find(token, EPOCH).is_some());
    assert!(found.count() > 110);
    let mut sets: Vec<_> = tokens.iter().map(|token| token.set / WAYS).collect();
    sets.sort_unstable();
    sets.dedup();
    assert!(sets.len() > 40 && sets.iter().all(|set| *set < 64));
}

#[test]
fn a_table_of_none_finds_none() {
    let seen = Seen::new(0);
    let token = seen.token(&blake3::hash(b"one"));
    seen.put(&token, &proof(1, 2 * NOW_S), EPOCH, NOW_S);
    assert_eq!(seen.find(&token, EPOCH), None);
    assert_eq!(seen.len(), 0);
}
