//! The MAC by which memory knows a token again that was proven by its digest.
//!
//! It is a universal hash under a key that is drawn at random for one table in memory and never
//! leaves it: the [multilinear hash](crate::crypto::multilinear) of the token, twice with
//! independent keys.
//!
//! **Bound.** Two tokens that differ have a limb that differs, by less than the prime; whatever
//! the other limbs are, one number in 2^61 - 1 for that limb's key lets the sums be equal. So
//! another text than a key's token has its MAC with a probability of (2^61 - 1)^-2, below 2^-121,
//! whatever it was chosen by, since nobody is told a MAC: an answer tells whether a text was
//! accepted, and no more. After n texts that were refused it is n times as much at most. This
//! needs no assumption, as that a hash was not broken.

use zeroize::Zeroizing;

use crate::crypto::digest::words_equal;
use crate::crypto::multilinear::{MODULUS, product, reduced};
use crate::crypto::token::{Entropy, SIGNED_LEN, Signed};
use crate::model::error::Error;

/// How many bytes of a token are two limbs of 60 bits.
const PAIR_LEN: usize = 15;
const PAIRS: usize = SIGNED_LEN / PAIR_LEN;
const _: () = assert!(SIGNED_LEN.is_multiple_of(PAIR_LEN), "limbs cover a token");
const LIMB: u64 = (1 << 60) - 1;
pub(crate) const MAC_LEN: usize = 16;
/// The numbers of a key: one for each limb and sum.
#[cfg(any(test, feature = "proof"))]
pub(crate) const NUMBERS: usize = PAIRS * 4;

pub(crate) type Mac = [u8; MAC_LEN];

/// What no token has: both halves are above the prime.
pub(crate) const NO_MAC: Mac = [0xff; MAC_LEN];

/// The numbers for a pair of limbs: for the first and the second of each sum.
type PairKey = [[u64; 2]; 2];

/// The key of the MACs of a table. Wiped on drop.
pub(crate) struct MacKey(Box<Numbers>);

/// On cache lines that nothing else is on, which others might write.
#[repr(align(64))]
struct Numbers(Zeroizing<[PairKey; PAIRS]>);

impl Numbers {
    fn zeros() -> Box<Self> {
        Box::new(Self(Zeroizing::new([PairKey::default(); PAIRS])))
    }
}

impl MacKey {
    /// Draws a key from the operating system's generator.
    pub(crate) fn draw() -> Result<Self, Error> {
        let mut key = Numbers::zeros();
        let mut source = Entropy::new();
        for number in key.0.as_flattened_mut().as_flattened_mut() {
            *number = draw_number(&mut source)?;
        }
        Ok(Self(key))
    }

    /// The key of these numbers: for each pair of limbs those of the first sum, then those of the
    /// second.
    #[cfg(any(test, feature = "proof"))]
    pub(crate) fn of(numbers: &[u64; NUMBERS]) -> Self {
        let mut key = Numbers::zeros();
        let places = key.0.as_flattened_mut().as_flattened_mut();
        places.copy_from_slice(numbers);
        Self(key)
    }

    /// The MAC of a token.
    #[inline]
    pub(crate) fn mac(&self, signed: &Signed) -> Mac {
        let (mut first, mut second) = (0, 0);
        for (pair, key) in signed.as_chunks().0.iter().zip(self.0.0.iter()) {
            let [low, high] = limbs(pair);
            let [of_first, of_second] = key;
            first += product(low, of_first[0]) + product(high, of_first[1]);
            second += product(low, of_second[0]) + product(high, of_second[1]);
        }
        let (first, second) = (u128::from(reduced(first)), u128::from(reduced(second)));
        (first | second << 64).to_le_bytes()
    }
}

/// Whether two MACs are equal, in a time that does not depend on where they differ.
#[inline]
pub(crate) fn macs_equal(left: &Mac, right: &Mac) -> bool {
    words_equal(left, right)
}

/// A number below the prime, each with the same probability.
fn draw_number(source: &mut Entropy) -> Result<u64, Error> {
    loop {
        let halves = [source.u32()?, source.u32()?].map(u64::from);
        let number = (halves[0] | halves[1] << 32) & MODULUS;
        if number < MODULUS {
            return Ok(number);
        }
    }
}

#[inline(always)]
fn limbs(pair: &[u8; PAIR_LEN]) -> [u64; 2] {
    let low = pair.first_chunk().copied().unwrap_or_default();
    let high = pair.last_chunk().copied().unwrap_or_default();
    [
        u64::from_le_bytes(low) & LIMB,
        u64::from_le_bytes(high) >> 4,
    ]
}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey(withheld)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::digest::tests::bytes;
    use proptest::prelude::*;

    fn key_of(numbers: &[u8]) -> MacKey {
        let numbers = numbers.as_chunks().0.iter();
        let numbers: Vec<u64> = numbers.map(|number| u64::from_le_bytes(*number)).collect();
        MacKey::of(&numbers.try_into().unwrap())
    }

    #[test]
    fn macs_are_those_of_another_implementation() {
        let rows = include_str!("../../tests/vectors/macs.tsv").lines();
        let mut count = 0;
        for row in rows.filter(|row| !row.starts_with('#')) {
            let [numbers, text, mac] = row.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{row}");
            };
            let text = bytes(text).try_into().unwrap();
            assert_eq!(key_of(&bytes(numbers)).mac(&text).as_slice(), bytes(mac));
            count += 1;
        }
        assert_eq!(count, 7);
    }

    #[test]
    fn each_bit_of_a_token_counts_in_both_halves() {
        let key = MacKey::draw().unwrap();
        let signed = [b'x'; SIGNED_LEN];
        let mac = key.mac(&signed);
        assert!(macs_equal(&mac, &key.mac(&signed)));
        for bit in 0..SIGNED_LEN * 8 {
            let mut other = signed;
            other[bit / 8] ^= 1 << (bit % 8);
            let of_other = key.mac(&other);
            assert!(!macs_equal(&mac, &of_other), "bit {bit}");
            assert_ne!(mac[..8], of_other[..8], "bit {bit}");
            assert_ne!(mac[8..], of_other[8..], "bit {bit}");
        }
    }

    #[test]
    fn two_tables_have_keys_of_their_own_and_no_number_twice() {
        let numbers = |key: &MacKey| -> Vec<u64> {
            let pairs = key.0.0.as_flattened().as_flattened();
            pairs.to_vec()
        };
        let [first, second] = [(); 2].map(|()| MacKey::draw().unwrap());
        let mut all = numbers(&first);
        all.extend(numbers(&second));
        assert!(all.iter().all(|number| *number < MODULUS));
        let drawn = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!((drawn, all.len()), (32, 32));
        assert_eq!(format!("{first:?}"), "MacKey(withheld)");
    }

    proptest! {
        #[test]
        fn no_token_has_what_stands_for_none(signed in any::<[[u8; 30]; 2]>()) {
            let mac = MacKey::draw().unwrap().mac(signed.as_flattened().try_into().unwrap());
            prop_assert!(!macs_equal(&mac, &NO_MAC));
            for half in mac.as_chunks().0 {
                prop_assert!(u64::from_le_bytes(*half) < MODULUS);
            }
        }
    }
}
