//! The keyspaces in memory, for verifications to read without a lock.

use std::cell::OnceCell;
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};

use crate::memory::limiter::Terms;
use crate::model::bounds;
use crate::model::error::Error;
use crate::model::id::Prefix;
use crate::model::keyspace::Keyspace;
use crate::model::owner::OwnerPath;
use crate::model::permissions::Permissions;
use crate::model::plan::Plan;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};

/// The keyspaces, in memory. A number is never reused and a prefix never changes, so
/// readers need no lock for either.
pub(crate) struct Registry {
    entries: Box<[OnceLock<Entry>]>,
    /// By how many servers limits of the fleet are divided. Held while a keyspace is published.
    servers: Mutex<u64>,
}

pub(crate) struct Entry {
    pub(crate) prefix: Prefix,
    current: ArcSwap<Published>,
    /// The low and the high half of the permissions that are not retired. Each
    /// bit stands for itself, so that halves of two ages do no harm.
    active: [AtomicU64; 2],
    /// A [`Charging`].
    charging: AtomicU64,
    /// How many owners have settings in the keyspace.
    owners: AtomicUsize,
    /// The names of the permissions, by bit, also of those that are retired: a bit is never
    /// given to another name.
    names: Box<[OnceLock<Box<str>>]>,
}

/// To what requests of a keyspace's keys are charged by default, without loading the keyspace:
/// its stamp, and below that bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charging(u64);

const _: () = assert!(OwnerPath::DEPTH_MAX <= 8, "a bit for each level");

impl Charging {
    const BITS: u32 = 16;
    /// Owners of some level have a plan or a quota. Below it is a bit for each level whose
    /// plan has limits.
    const OF_OWNERS: u64 = 1 << 8;
    /// Whoever has nothing of its own is charged to limits alone, and to those of every level
    /// that has some.
    const TO_LIMITS_ALONE: u64 = 1 << 9;
    /// Each plan has limits, and none is shared by the keys of an owner.
    const METERS_BY_PLAN: u64 = 1 << 10;

    fn of(published: &Published) -> Self {
        let Published {
            keyspace,
            plans,
            defaults,
            ..
        } = published;
        let has_limits = |plan: u16| {
            let terms = published.terms(plan);
            // Of a plan that does not exist, whoever looks for its limits says so.
            plan != 0 && terms.is_none_or(|terms| !terms.limits.is_empty())
        };
        let levels = (defaults.iter().enumerate())
            .filter(|(_, level)| has_limits(level.plan))
            .fold(0, |levels, (at, _)| levels | 1 << at);
        let of_owners = |level: &OwnerDefaults| level.plan != 0 || level.quota.is_some();
        let is_to_limits_alone = defaults.iter().all(|level| level.quota.is_none())
            && !keyspace.plans.iter().any(|plan| plan.replaces_levels_above);
        let has_meters_by_plan = !keyspace.plans.iter().any(|plan| plan.shared_by_owner)
            && plans.iter().all(|terms| !terms.limits.is_empty());
        let bit = |is_set: bool, bit: u64| if is_set { bit } else { 0 };
        Self(
            published.stamp << Self::BITS
                | bit(is_to_limits_alone, Self::TO_LIMITS_ALONE)
                | bit(has_meters_by_plan, Self::METERS_BY_PLAN)
                | bit(defaults.iter().any(of_owners), Self::OF_OWNERS)
                | levels,
        )
    }

    /// The stamp of the keyspace: what has this stamp is as the keyspace says.
    pub(crate) fn stamp(self) -> u64 {
        self.0 >> Self::BITS
    }

    pub(crate) fn is_to_limits_alone(self) -> bool {
        self.0 & Self::TO_LIMITS_ALONE != 0
    }

    /// Whether a key that has a plan and no limits of its own has a meter by both.
    pub(crate) fn has_meters_by_plan(self) -> bool {
        self.0 & Self::METERS_BY_PLAN != 0
    }

    /// Whether owners of a level, from 1, have limits.
    pub(crate) fn has_limits(self, level: u8) -> bool {
        self.0 & ((1 << level) >> 1) != 0
    }
}

/// What owners of a level have by default.
#[derive(Clone, Copy, Default)]
pub(crate) struct OwnerDefaults {
    /// The number of their plan; 0: none.
    pub(crate) plan: u16,
    /// The revision of the keyspace that gave them their quota, if they have one.
    pub(crate) quota: Option<u64>,
}

/// A keyspace, and the terms of its plans in their order.
struct Published {
    keyspace: Keyspace,
    plans: Box<[Arc<Terms>]>,
    /// Higher than that of any earlier state of the keyspace, and of its terms.
    stamp: u64,
    /// How often terms were divided anew while the keyspace stayed the same.
    divisions: u64,
    /// By depth, from 1: what owners have by default.
    defaults: [OwnerDefaults; OwnerPath::DEPTH_MAX],
}

impl Published {
    /// Terms that are as they were stay the same, so that whoever has them finds so by
    /// their place.
    fn after(before: Option<&Self>, keyspace: Keyspace, servers: u64) -> Arc<Self> {
        let known = before.map_or(&[][..], |before| &before.plans);
        let terms = |(at, plan): (usize, &Plan)| match known.get(at) {
            Some(known) if known.are(&plan.limits) => known.clone(),
            _ => Terms::new(&plan.limits, servers),
        };
        let divisions = before.map_or(0, |before| before.divisions);
        let plans = keyspace.plans.iter().enumerate().map(terms).collect();
        let mut defaults = [OwnerDefaults::default(); OwnerPath::DEPTH_MAX];
        for (depth, level) in &keyspace.owner_defaults {
            let plan = level.plan.as_deref();
            let place = depth.checked_sub(1).and_then(|at| defaults.get_mut(at));
            let Some(place) = place else { continue };
            let old = before.filter(|old| old.keyspace.default_quota(*depth) == level.quota);
            let old = old.and_then(|old| old.defaults(*depth).quota);
            *place = OwnerDefaults {
                // A plan that does not exist is a damage that `check` finds.
                plan: plan.map_or(0, |name| keyspace.plan_number(name).unwrap_or(u16::MAX)),
                quota: level.quota.map(|_| old.unwrap_or(keyspace.revision)),
            };
        }
        Arc::new(Self {
            stamp: keyspace.revision + divisions,
            keyspace,
            plans,
            divisions,
            defaults,
        })
    }

    /// The same, of one of so many servers; `None` where it stays as it is.
    fn divided(&self, servers: u64) -> Option<Arc<Self>> {
        let plans: Vec<_> = (self.plans.iter())
            .map(|terms| (terms.divided(servers), terms))
            .collect();
        if plans.iter().all(|(new, _)| new.is_none()) {
            return None;
        }
        let divisions = self.divisions + 1;
        Some(Arc::new(Self {
            keyspace: self.keyspace.clone(),
            plans: (plans.into_iter())
                .map(|(new, old)| new.unwrap_or_else(|| old.clone()))
                .collect(),
            stamp: self.keyspace.revision + divisions,
            divisions,
            defaults: self.defaults,
        }))
    }
}

impl Published {
    /// The terms of the plan of a number; `None` for 0.
    fn terms(&self, plan: u16) -> Option<&Arc<Terms>> {
        self.plans.get(usize::from(plan).checked_sub(1)?)
    }

    fn defaults(&self, depth: usize) -> OwnerDefaults {
        let at = depth.checked_sub(1).and_then(|at| self.defaults.get(at));
        at.copied().unwrap_or_default()
    }
}

/// Whether two names are the same. Those of permissions are a few bytes long, for which the
/// call of a comparison of any length costs more than the comparison.
#[inline(always)]
fn is_same(left: &str, right: &str) -> bool {
    fn ends<const N: usize>(text: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
        text.first_chunk().zip(text.last_chunk())
    }
    let (left, right) = (left.as_bytes(), right.as_bytes());
    left.len() == right.len()
        && match left.len() {
            4..=8 => ends::<4>(left) == ends(right),
            9..=16 => ends::<8>(left) == ends(right),
            _ => left == right,
        }
}

impl Entry {
    fn new(keyspace: Keyspace, servers: u64) -> Self {
        Self {
            prefix: keyspace.prefix,
            current: ArcSwap::new(Published::after(None, keyspace, servers)),
            active: [AtomicU64::new(0), AtomicU64::new(0)],
            charging: AtomicU64::new(0),
            owners: AtomicUsize::new(0),
            names: (0..Permissions::COUNT_MAX)
                .map(|_| OnceLock::new())
                .collect(),
        }
    }

    /// The keyspace as it is now.
    pub(crate) fn keyspace(&self) -> Keyspace {
        self.current.load().keyspace.clone()
    }

    pub(crate) fn active(&self) -> Permissions {
        let [low, high] = &self.active;
        let half = |half: &AtomicU64| u128::from(half.load(Ordering::Acquire));
        Permissions::from_bits(half(low) | half(high) << 64)
    }

    /// Whether a name is that of a permission among `held`, which are all
    /// [`active`](Self::active). Takes no lock, and loads no keyspace.
    pub(crate) fn holds(&self, held: Permissions, name: &str) -> bool {
        let names = self.names.iter().map_while(OnceLock::get);
        names
            .enumerate()
            .any(|(at, known)| is_same(known, name) && held.contains(Permissions::bit(at)))
    }

    /// The permission of a name, retired or not.
    pub(crate) fn permission(&self, name: &str) -> Option<Permissions> {
        let mut names = self.names.iter().map_while(OnceLock::get);
        names
            .position(|known| **known == *name)
            .map(Permissions::bit)
    }

    pub(crate) fn charging(&self) -> Charging {
        Charging(self.charging.load(Ordering::Acquire))
    }

    /// Whether requests of the keyspace's keys may be charged to owners. Where they are
    /// not, nothing else is looked at.
    pub(crate) fn charges_owners(&self) -> bool {
        self.has_owner_settings() || self.charging().0 & Charging::OF_OWNERS != 0
    }

    /// Whether any owner has settings in the keyspace.
    pub(crate) fn has_owner_settings(&self) -> bool {
        self.owners.load(Ordering::Acquire) > 0
    }

    /// Notes that so many more owners have settings than before.
    pub(crate) fn count_owners(&self, more: isize) {
        self.owners
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |owners| {
                owners.checked_add_signed(more)
            })
            .ok();
    }

    fn publish(&self, keyspace: Keyspace, servers: u64) {
        for (name, known) in self.names.iter().zip(&keyspace.permissions) {
            name.get_or_init(|| known.name.as_str().into());
        }
        let bits = keyspace.active_mask().bits();
        let [low, high] = &self.active;
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
        low.store(half(bits), Ordering::Release);
        high.store(half(bits >> 64), Ordering::Release);
        self.show(Published::after(
            Some(&self.current.load()),
            keyspace,
            servers,
        ));
    }

    fn show(&self, published: Arc<Published>) {
        let Charging(charging) = Charging::of(&published);
        self.current.store(published);
        // After the keyspace: whoever sees that its owners have something finds it.
        self.charging.store(charging, Ordering::Release);
    }
}

/// A keyspace, loaded at most once, at the first use. So a verification sees one
/// revision of it, and most verifications load none.
pub(crate) struct Once<'a> {
    entry: &'a Entry,
    loaded: OnceCell<Guard<Arc<Published>>>,
}

impl<'a> Once<'a> {
    pub(crate) fn new(entry: &'a Entry) -> Self {
        Self {
            entry,
            loaded: OnceCell::new(),
        }
    }

    pub(crate) fn get(&self) -> &Keyspace {
        &self.published().keyspace
    }

    /// The terms of the plan of a number, which a key has; `None` for 0.
    pub(crate) fn terms(&self, plan: u16) -> Option<&Arc<Terms>> {
        self.published().terms(plan)
    }

    /// Higher than that of any earlier state of the keyspace, and of the terms of its plans.
    pub(crate) fn stamp(&self) -> u64 {
        self.published().stamp
    }

    /// What owners of a level have by default.
    pub(crate) fn defaults(&self, depth: usize) -> OwnerDefaults {
        self.published().defaults(depth)
    }

    fn published(&self) -> &Published {
        self.loaded.get_or_init(|| self.entry.current.load())
    }
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            entries: (0..bounds::KEYSPACES_MAX)
                .map(|_| OnceLock::new())
                .collect(),
            servers: Mutex::new(1),
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(number).ok()?)?.get()
    }

    /// The keyspace of a prefix, where it is.
    pub(crate) fn entry(&self, prefix: Prefix) -> Option<&Entry> {
        self.iter().find(|entry| entry.prefix == prefix)
    }

    pub(crate) fn find(&self, prefix: Prefix) -> Option<Keyspace> {
        self.entry(prefix).map(Entry::keyspace)
    }

    /// All keyspaces, as they are in memory.
    pub(crate) fn all(&self) -> Vec<Keyspace> {
        self.iter().map(Entry::keyspace).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map_while(OnceLock::get)
    }

    pub(crate) fn publish(&self, keyspace: Keyspace) -> Result<(), Error> {
        let slot = usize::try_from(keyspace.id)
            .ok()
            .and_then(|number| self.entries.get(number))
            .ok_or_else(|| {
                Error::corrupted("keyspaces", keyspace.id, "its number is over the limit")
            })?;
        let servers = lock(&self.servers);
        slot.get_or_init(|| Entry::new(keyspace.clone(), *servers))
            .publish(keyspace, *servers);
        Ok(())
    }

    /// Divides the limits of the fleet by so many servers from now on.
    pub(crate) fn divide(&self, servers: u64) {
        let mut known = lock(&self.servers);
        *known = servers;
        for entry in self.iter() {
            let divided = entry.current.load().divided(servers);
            if let Some(divided) = divided {
                entry.show(divided);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Timestamp;
    use crate::model::keyspace::{KeysPerOwner, PermissionName};

    fn keyspace(names: &[(&str, bool)]) -> Keyspace {
        let names = names.iter().map(|(name, retired)| PermissionName {
            name: (*name).to_owned(),
            retired: *retired,
        });
        Keyspace {
            id: 0,
            revision: 1,
            prefix: "acme".parse().unwrap(),
            description: String::new(),
            permissions: names.collect(),
            keys_per_owner: KeysPerOwner::Many { cap: None },
            default_lifetime: None,
            max_lifetime: None,
            plans: Vec::new(),
            default_plan: None,
            owner_defaults: std::collections::BTreeMap::new(),
            max_grace: None,
            count_retiring: false,
            created_at: Timestamp::MIN,
            updated_at: Timestamp::MIN,
        }
    }

    #[test]
    fn names_that_differ_in_one_byte_are_not_the_same() {
        for len in 0..=40 {
            let name = "abcdefghij".repeat(4)[..len].to_owned();
            assert!(is_same(&name, &name.clone()), "{name}");
            assert!(!is_same(&name, &format!("{name}k")), "{name}");
            for at in 0..len {
                let mut other = name.clone();
                other.replace_range(at..=at, "_");
                assert!(!is_same(&name, &other), "{name} {other}");
            }
        }
    }

    #[test]
    fn a_name_is_held_where_its_bit_is() {
        let registry = Registry::new();
        registry
            .publish(keyspace(&[("read", false), ("write", false)]))
            .unwrap();
        let entry = registry.get(0).unwrap();
        let read = Permissions::bit(0);
        assert!(entry.holds(read, "read"));
        assert!(!entry.holds(read, "write") && !entry.holds(read, "list"));
        assert!(!entry.holds(Permissions::NONE, "read"));
        // Names come, and are retired, while the engine is open.
        registry
            .publish(keyspace(&[
                ("read", true),
                ("write", false),
                ("list", false),
            ]))
            .unwrap();
        let held = Permissions::from_bits(0b111) & entry.active();
        assert!(!entry.holds(held, "read"));
        assert!(entry.holds(held, "write") && entry.holds(held, "list"));
    }
}
