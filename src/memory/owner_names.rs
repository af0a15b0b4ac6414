//! Names of meters, made of owners' paths: keyed hashes of 122 bits.
//!
//! The key is the process's own and the hashes are never shown, so that nobody can choose
//! two owners that share a name. By chance two of a million do once in 10^25 stores.

use std::hash::{BuildHasher as _, RandomState};

use crate::crypto::multilinear::{MODULUS, folded, product};
use crate::model::id::KeyId;
use crate::model::owner::OwnerPath;

/// The name of a meter: two numbers, of which the first is random or a keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(pub(crate) u64, pub(crate) u64);

/// The second number of a key's meter has it, an owner's has not.
const OF_A_KEY: u64 = 1 << 63;

/// A path is hashed up to each of its levels by the [multilinear hash](crate::crypto::multilinear),
/// twice with independent numbers.
pub(crate) struct OwnerNames {
    /// For each limb of a path, and at the end for what the path is hashed for.
    numbers: Box<[[u64; 2]; LIMBS + 1]>,
    identity: u64,
}

/// How many bytes of a path are a limb.
const LIMB_LEN: usize = 7;
/// The limbs of the longest path with the byte that ends it.
const LIMBS: usize = (OwnerPath::LEN_MAX + 1).div_ceil(LIMB_LEN);
/// The byte that ends what is hashed, which is in no path: so no two paths have the same
/// limbs, though one may begin as the other.
const END: u64 = 1;

/// What a path is hashed for: a number below 2^56, as limbs are.
#[derive(Clone, Copy)]
struct Domain(u64);

impl Domain {
    const ORGANISATIONS: Self = Self(1 << 55);

    fn owners(keyspace: u32) -> Self {
        Self(keyspace.into())
    }

    /// Owners as those whose keys share the limits of a plan.
    fn sharing(keyspace: u32, plan: u16) -> Self {
        Self(1 << 48 | u64::from(plan) << 32 | u64::from(keyspace))
    }
}

/// Both hashes as far as they have come.
#[derive(Clone, Copy)]
struct Sums(u128, u128);

impl Sums {
    #[inline(always)]
    fn with(self, limb: u64, [first, second]: &[u64; 2]) -> Self {
        Self(
            self.0 + product(limb, *first),
            self.1 + product(limb, *second),
        )
    }

    #[inline(always)]
    fn name(self) -> Name {
        let (first, second) = (folded(self.0), folded(self.1));
        // Two names have both numbers alike where both hashes are. The hash of a number that
        // counts up counts up too; this does not.
        Name(first ^ second.rotate_left(32), second)
    }
}

impl OwnerNames {
    pub(crate) fn new() -> Self {
        let number = |at: usize| RandomState::new().hash_one(at);
        let pair = |_| [number(0) & MODULUS, number(1) & MODULUS];
        Self {
            numbers: Box::new(std::array::from_fn(pair)),
            identity: number(2),
        }
    }

    /// The names of an owner's levels in a keyspace: of its path, and of those above it,
    /// the shortest first.
    #[inline(always)]
    pub(crate) fn levels(&self, keyspace: u32, owner: &[u8], each: impl FnMut(Name)) {
        self.hash(Domain::owners(keyspace), owner, each);
    }

    /// The name of an owner in a keyspace.
    pub(crate) fn of_owner(&self, keyspace: u32, owner: &OwnerPath) -> Name {
        self.of_whole(Domain::owners(keyspace), owner.as_str().as_bytes())
    }

    /// The name of an owner's whole path under a plan, where its keys share one.
    pub(crate) fn shared(&self, keyspace: u32, plan: u16, owner: &[u8]) -> Name {
        let Name(first, second) = self.of_whole(Domain::sharing(keyspace, plan), owner);
        Name(first, second | OF_A_KEY)
    }

    /// The hash of an owner's first segment.
    pub(crate) fn organisation(&self, owner: &[u8]) -> u64 {
        let first = owner.split(|byte| *byte == b'/').next();
        self.of_whole(Domain::ORGANISATIONS, first.unwrap_or_default())
            .0
    }

    /// A number that names this process's engine: of its keys, and none of them.
    pub(crate) fn identity(&self) -> u64 {
        self.identity
    }

    /// The hash of a path.
    fn of_whole(&self, domain: Domain, path: &[u8]) -> Name {
        let mut last = Name(0, 0);
        self.hash(domain, path, |name| last = name);
        last
    }

    /// The hashes of a path's levels, the shortest first.
    #[inline(always)]
    fn hash(&self, Domain(domain): Domain, path: &[u8], mut each: impl FnMut(Name)) {
        let [of_limbs @ .., of_domain] = &*self.numbers;
        let mut sums = Sums(0, 0).with(domain, of_domain);
        for (at, numbers) in (0..).step_by(LIMB_LEN).zip(of_limbs) {
            let limb = limb(path, at);
            let mut ends = slashes(limb);
            while ends != 0 {
                let bits = ends.trailing_zeros() / 8 * 8;
                each(sums.with(ended(limb, bits), numbers).name());
                ends &= ends - 1;
            }
            let left = path.len() - at;
            if left < LIMB_LEN {
                let bits = u32::try_from(left * 8).unwrap_or_default();
                return each(sums.with(ended(limb, bits), numbers).name());
            }
            sums = sums.with(limb, numbers);
        }
    }
}

/// The limb of a path from a byte on; behind its end there are zeros.
#[inline(always)]
fn limb(path: &[u8], from: usize) -> u64 {
    let rest = path.get(from..).unwrap_or_default();
    if let Some(word) = rest.first_chunk() {
        return u64::from_le_bytes(*word) & ((1 << (8 * LIMB_LEN)) - 1);
    }
    match path.last_chunk::<8>() {
        Some(last) if !rest.is_empty() => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
        _ => (rest.iter().rev()).fold(0, |limb, byte| limb << 8 | u64::from(*byte)),
    }
}

/// The first bits of a limb, with what ends a path behind them.
#[inline(always)]
fn ended(limb: u64, bits: u32) -> u64 {
    limb & ((1 << bits) - 1) | END << bits
}

/// The highest bit of each byte that is a slash.
#[inline(always)]
fn slashes(limb: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xFF;
    const LOW: u64 = ONES * 0x7F;
    let differing = limb ^ (ONES * b'/' as u64);
    !(((differing & LOW) + LOW) | differing) & !LOW
}

impl Name {
    /// Under what the purse of the owner's quota is found: of its own, or of the defaults
    /// that a revision of the keyspace gave. No key's id is as large.
    pub(crate) fn purse(self, defaults: Option<u64>) -> u64 {
        let of_defaults = |revision: u64| (revision + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (self.0 ^ defaults.map_or(0, of_defaults)) | 1 << 63
    }
}

/// The name of the meter of a key, and of those that it is rotated to, under a plan.
pub(crate) fn of_key(lineage: KeyId, plan: u16) -> Name {
    Name(lineage.raw(), OF_A_KEY | u64::from(plan))
}

/// The name of the meter of a key with limits of its own, of certain kinds. Keys of one
/// lineage may have limits of different kinds, which must not be counted in one place.
pub(crate) fn of_own_limits(lineage: KeyId, kinds: u64) -> Name {
    // Above all numbers of plans.
    Name(lineage.raw(), OF_A_KEY | 1 << 62 | kinds >> 2)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn levels(names: &OwnerNames, keyspace: u32, path: &str) -> Vec<Name> {
        let mut all = Vec::new();
        names.levels(keyspace, path.as_bytes(), |name| all.push(name));
        all
    }

    #[test]
    fn each_level_of_each_owner_has_a_name_of_its_own() {
        let names = OwnerNames::new();
        let mut seen = HashSet::new();
        for keyspace in 0..3 {
            for owner in 0..20_000_u32 {
                let path = format!("org-{owner}/p/{owner}");
                let all = levels(&names, keyspace, &path);
                assert_eq!(all.len(), 3);
                assert!(seen.insert(all[0]) && seen.insert(all[1]) && seen.insert(all[2]));
            }
        }
        let halves: HashSet<u64> = seen.iter().map(|name| name.0).collect();
        assert_eq!(halves.len(), seen.len());
        let halves: HashSet<u64> = seen.iter().map(|name| name.1).collect();
        assert_eq!(halves.len(), seen.len());
    }

    #[test]
    fn paths_that_read_alike_have_different_names() {
        let names = OwnerNames::new();
        let last = |path: &str| *levels(&names, 1, path).last().unwrap();
        let paths = [
            "a",
            "a/a",
            "aa",
            "aaaaaaaa",
            "aaaaaaa/a",
            "a/aaaaaaa",
            "aaaaaaaaa",
        ];
        let all: HashSet<Name> = paths.iter().map(|path| last(path)).collect();
        assert_eq!(all.len(), paths.len());
        assert_ne!(names.shared(1, 1, b"a"), names.shared(1, 2, b"a"));
        let above = levels(&names, 1, "a/b");
        assert_eq!(above[0], last("a"), "whoever is below has the same above");
        assert_eq!(names.organisation(b"a/b"), names.organisation(b"a"));
    }

    /// The definition, a byte at a time.
    #[test]
    fn a_name_is_the_hash_of_its_path_twice() {
        let names = OwnerNames::new();
        let [of_limbs @ .., of_domain] = &*names.numbers;
        let modulus = u128::from(MODULUS);
        let hash = |domain: u64, path: &str, at: usize| {
            let start = u128::from(domain) * u128::from(of_domain[at]);
            let bytes = path.bytes().chain([1]).enumerate();
            let term = |(byte, value): (usize, u8)| {
                let limb = u128::from(value) << (8 * (byte % 7));
                limb * u128::from(of_limbs[byte / 7][at]) % modulus
            };
            (start + bytes.map(term).sum::<u128>()) % modulus
        };
        for len in 1..=OwnerPath::LEN_MAX {
            let letters = (0..len).map(|at| match at % 64 % (len % 19 + 2) {
                1 if at + 1 < len => '/',
                digit => char::from(b'a' + u8::try_from(digit).unwrap()),
            });
            // As deep as paths are.
            let mut depth = 1;
            let path: String = letters
                .map(
                    |letter| match letter == '/' && depth == OwnerPath::DEPTH_MAX {
                        true => 'z',
                        false => {
                            depth += usize::from(letter == '/');
                            letter
                        }
                    },
                )
                .collect();
            let ends = path.match_indices('/').map(|(at, _)| at).chain([len]);
            let all = levels(&names, 5, &path);
            assert_eq!(all.len(), depth, "{path}");
            for (Name(first, second), end) in all.iter().zip(ends) {
                let hashes = [first ^ second.rotate_left(32), *second];
                for (at, found) in hashes.into_iter().enumerate() {
                    let expected = hash(5, &path[..end], at);
                    assert_eq!(u128::from(found) % modulus, expected, "{path}");
                }
            }
            let Name(_, second) = names.shared(5, 3, path.as_bytes());
            let domain = 1 << 48 | 3 << 32 | 5;
            let expected = hash(domain, &path, 1);
            assert_eq!(u128::from(second & !OF_A_KEY) % modulus, expected);
        }
    }
}
