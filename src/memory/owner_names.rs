//! Names of meters, made of owners' paths: keyed hashes of 127 bits.
//!
//! The key is the process's own and the hashes are never shown, so that nobody can choose
//! two owners that share a name. By chance two of a million do once in 10^26 stores.

use std::hash::{BuildHasher as _, RandomState};

use crate::model::id::KeyId;
use crate::model::owner::OwnerPath;

/// The name of a meter: two numbers, of which the first is random or a keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name(pub(crate) u64, pub(crate) u64);

/// The second number of a key's meter has it, an owner's has not.
const OF_A_KEY: u64 = 1 << 63;

pub(crate) struct OwnerNames([u64; 2]);

/// A hash as far as it has come: two lanes of multiplications folded to 64 bits.
#[derive(Clone, Copy)]
struct Lanes(u64, u64);

impl OwnerNames {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|at| RandomState::new().hash_one(at)))
    }

    /// The names of an owner's levels in a keyspace: of its path, and of those above it,
    /// the shortest first.
    pub(crate) fn levels(&self, keyspace: u32, owner: &[u8]) -> impl Iterator<Item = Name> {
        let mut lanes = self.start(keyspace.into());
        owner.split(|byte| *byte == b'/').map(move |segment| {
            lanes = self.absorb(lanes, segment);
            Name(lanes.0, lanes.1 & !OF_A_KEY)
        })
    }

    /// The name of an owner in a keyspace.
    pub(crate) fn of_owner(&self, keyspace: u32, owner: &OwnerPath) -> Name {
        let levels = self.levels(keyspace, owner.as_str().as_bytes());
        // A path has a segment at least.
        levels.last().unwrap_or(Name(0, 0))
    }

    /// The name of an owner's whole path under a plan, where its keys share one.
    pub(crate) fn shared(&self, keyspace: u32, plan: u16, owner: &[u8]) -> Name {
        let start = self.start(u64::from(keyspace) << 32 | 1 << 16 | u64::from(plan));
        let lanes = self.absorb(start, owner);
        Name(lanes.0, lanes.1 | OF_A_KEY)
    }

    /// The hash of an owner's first segment.
    pub(crate) fn organisation(&self, owner: &[u8]) -> u64 {
        let first = owner.split(|byte| *byte == b'/').next();
        self.absorb(self.start(u64::MAX), first.unwrap_or_default())
            .0
    }

    /// A number that names this process's engine: of its keys, and none of them.
    pub(crate) fn identity(&self) -> u64 {
        self.absorb(self.start(u64::MAX - 1), b"engine").0
    }

    fn start(&self, domain: u64) -> Lanes {
        let [first, second] = self.0;
        Lanes(first ^ domain, second ^ domain.rotate_left(32))
    }

    /// Takes a segment in, with its length, so that no two paths are taken in alike.
    fn absorb(&self, mut lanes: Lanes, segment: &[u8]) -> Lanes {
        let words = segment.as_chunks().0;
        // What is behind the whole words; with some of them again, where there is one: the
        // length says which.
        let last = segment.last_chunk().copied().unwrap_or_else(|| {
            let mut last = [0; 8];
            for (to, from) in last.iter_mut().zip(segment) {
                *to = *from;
            }
            last
        });
        let words = words.iter().copied().chain([last]);
        let len = u64::try_from(segment.len()).unwrap_or(u64::MAX);
        for word in words.map(u64::from_le_bytes).chain([len]) {
            let [first, second] = self.0;
            lanes = Lanes(
                fold(lanes.0 ^ word, first | 1) ^ lanes.1.rotate_left(17),
                fold(lanes.1 ^ word.rotate_left(31), second | 1).wrapping_add(lanes.0),
            );
        }
        lanes
    }
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

fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
    half(product) ^ half(product >> 64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_level_of_each_owner_has_a_name_of_its_own() {
        let names = OwnerNames::new();
        let mut seen = HashSet::new();
        for keyspace in 0..3 {
            for owner in 0..20_000_u32 {
                let path = format!("org-{owner}/p/{owner}");
                let all: Vec<Name> = names.levels(keyspace, path.as_bytes()).collect();
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
        let last = |path: &str| names.levels(1, path.as_bytes()).last().unwrap();
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
        let above: Vec<Name> = names.levels(1, b"a/b").collect();
        assert_eq!(above[0], last("a"), "whoever is below has the same above");
        assert_eq!(names.organisation(b"a/b"), names.organisation(b"a"));
    }
}
