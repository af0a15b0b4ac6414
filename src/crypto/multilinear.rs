//! The arithmetic of a universal hash: the sum of limbs, each multiplied by a number of a random
//! key, modulo the prime 2^61 - 1.
//!
//! Of two texts with a limb that differs, by less than the prime, one number in 2^61 - 1 for that
//! limb's key gives both the same hash, whatever the other limbs and numbers are. Source: J. L.
//! Carter and M. N. Wegman, "Universal Classes of Hash Functions", Journal of Computer and System
//! Sciences 18 (1979), proposition 7, in its multilinear form.

/// The prime.
pub(crate) const MODULUS: u64 = (1 << 61) - 1;
const BITS: u32 = MODULUS.count_ones();

/// A limb times a number of the key: below 2^121 for limbs of 60 bits, so that a sum has room
/// for 128 of them.
#[inline(always)]
pub(crate) fn product(limb: u64, number: u64) -> u128 {
    u128::from(limb) * u128::from(number)
}

/// A number below 2^63 that a sum makes, and that is the same as the sum modulo the prime. Of
/// sums that are the same modulo the prime, others may make another.
#[inline(always)]
pub(crate) fn folded(sum: u128) -> u64 {
    // 2^61 is 1 modulo the prime, so that what is above counts as if it stood below.
    let low = |word: u128| u64::try_from(word & u128::from(MODULUS)).unwrap_or_default();
    low(sum) + low(sum >> BITS) + low(sum >> (2 * BITS))
}

/// A sum modulo the prime.
#[inline(always)]
pub(crate) fn reduced(sum: u128) -> u64 {
    let folded = folded(sum);
    let folded = (folded & MODULUS) + (folded >> BITS);
    // The prime itself counts as 0.
    (folded + ((folded + 1) >> BITS)) & MODULUS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sum_is_reduced_to_its_remainder(sum in any::<u128>(), near in 0_u128..8, many in any::<u64>()) {
            let modulus = u128::from(MODULUS);
            let beside = (modulus * u128::from(many)).saturating_sub(4) + near;
            for sum in [sum, beside] {
                prop_assert_eq!(u128::from(reduced(sum)), sum % modulus);
                prop_assert_eq!(u128::from(folded(sum)) % modulus, sum % modulus);
            }
        }
    }
}
