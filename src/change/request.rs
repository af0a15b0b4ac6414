//! The digest of a request under an idempotency key: the same request has the same
//! digest.

use crate::crypto::digest::{Digest, Keyring, RequestHasher};
use crate::model::clock::Timestamp;
use crate::model::id::KeyId;
use crate::model::idempotency::IdempotencyKey;
use crate::model::key::{Expiry, KeyUpdate, NewKey, Rotation};
use crate::model::limit::Limit;
use crate::model::quota::{Quota, Refill};
use std::time::Duration;

/// The kinds of repeatable requests, and what names one.
const NAME: u8 = 1;
const ISSUE: u8 = 2;
const ROTATE: u8 = 3;

/// The name under which a request is remembered. Each actor has names of its own.
pub(crate) fn name(ring: &Keyring, actor: Option<&str>, key: &IdempotencyKey) -> Digest {
    let mut hash = Hash::new(ring, NAME);
    hash.option(actor, |hash, actor| hash.text(actor));
    hash.text(key.as_str());
    hash.finish()
}

/// The digest of the issue of a batch.
pub(crate) fn of_issue(ring: &Keyring, specs: &[NewKey]) -> Digest {
    let mut hash = Hash::new(ring, ISSUE);
    hash.list(specs, Hash::new_key);
    hash.finish()
}

/// The digest of a rotation.
pub(crate) fn of_rotation(ring: &Keyring, key: KeyId, rotation: &Rotation) -> Digest {
    let Rotation { grace, changes } = rotation;
    let mut hash = Hash::new(ring, ROTATE);
    hash.number(key.raw());
    hash.duration(*grace);
    hash.changes(changes);
    hash.finish()
}

/// Hashes a request field by field, each with its length. No field can be forgotten: a
/// new field of a request must be named here, or this does not compile.
struct Hash(RequestHasher);

impl Hash {
    fn new(ring: &Keyring, kind: u8) -> Self {
        let mut hash = Self(ring.request_hasher());
        hash.bytes(&[kind]);
        hash
    }

    fn finish(self) -> Digest {
        self.0.finish()
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.part(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn duration(&mut self, duration: Duration) {
        self.bytes(&duration.as_nanos().to_le_bytes());
    }

    fn option<T>(&mut self, value: Option<T>, some: impl FnOnce(&mut Self, T)) {
        self.number(u64::from(value.is_some()));
        if let Some(value) = value {
            some(self, value);
        }
    }

    fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        each: impl Fn(&mut Self, T),
    ) {
        let items = items.into_iter();
        self.number(items.len() as u64);
        items.for_each(|item| each(self, item));
    }

    fn instant(&mut self, at: Timestamp) {
        self.number(at.unix_ms());
    }

    fn expiry(&mut self, expiry: Expiry) {
        match expiry {
            Expiry::Default => self.number(0),
            Expiry::Never => self.number(1),
            Expiry::At(at) => {
                self.number(2);
                self.instant(at);
            }
            Expiry::After(lifetime) => {
                self.number(3);
                self.duration(lifetime);
            }
        }
    }

    fn limits(&mut self, limits: &[Limit]) {
        self.list(limits, |hash, limit| {
            hash.number(limit.requests().into());
            hash.duration(limit.window());
            // Whether it is for the fleet, too: one that is not hashes as it always did.
            hash.number(limit.algorithm() as u64 | u64::from(limit.is_for_fleet()) << 8);
            hash.number(limit.capacity().into());
        });
    }

    fn quota(&mut self, quota: Quota) {
        self.number(quota.requests());
        self.number(match quota.refill() {
            None => 0,
            Some(Refill::Daily) => 1,
            Some(Refill::Monthly) => 2,
            // Above the others.
            Some(Refill::MonthlyFrom(day)) => 2 + u64::from(day.get()),
        });
    }

    fn new_key(&mut self, new: &NewKey) {
        let NewKey {
            keyspace,
            owner,
            permission_names,
            permission_bits,
            name,
            description,
            labels,
            not_before,
            expiry,
            networks,
            plan,
            limits,
            quota,
        } = new;
        self.text(keyspace.as_str());
        self.text(owner.as_str());
        self.list(permission_names, |hash, name| hash.text(name));
        self.bytes(&permission_bits.bits().to_le_bytes());
        self.option(name.as_deref(), Self::text);
        self.option(description.as_deref(), Self::text);
        self.list(labels, |hash, (name, value)| {
            hash.text(name);
            hash.text(value);
        });
        self.option(*not_before, Self::instant);
        self.expiry(*expiry);
        self.list(networks, |hash, network| hash.bytes(&network.encode()));
        self.option(plan.as_deref(), Self::text);
        self.option(limits.as_deref(), Self::limits);
        self.option(*quota, Self::quota);
    }

    fn changes(&mut self, changes: &KeyUpdate) {
        let KeyUpdate {
            name,
            description,
            labels,
            replace,
            add,
            withdraw,
            expiry,
            networks,
            plan,
            limits,
            quota,
        } = changes;
        for text in [name, description, plan] {
            self.option(text.as_ref(), |hash, text| {
                hash.option(text.as_deref(), Self::text);
            });
        }
        self.list(labels, |hash, (name, value)| {
            hash.text(name);
            hash.option(value.as_deref(), Self::text);
        });
        self.option(replace.as_ref(), |hash, (names, bits)| {
            hash.list(names, |hash, name| hash.text(name));
            hash.bytes(&bits.bits().to_le_bytes());
        });
        for names in [add, withdraw] {
            self.list(names, |hash, name| hash.text(name));
        }
        self.option(*expiry, Self::expiry);
        self.option(networks.as_ref(), |hash, networks| {
            hash.list(networks, |hash, network| hash.bytes(&network.encode()));
        });
        self.option(limits.as_ref(), |hash, limits| {
            hash.option(limits.as_deref(), Self::limits);
        });
        self.option(*quota, |hash, quota| hash.option(quota, Self::quota));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::permissions::Permissions;
    use std::collections::BTreeSet;
    use zeroize::Zeroizing;

    fn ring() -> Keyring {
        Keyring::new(&Zeroizing::new([7; 32]), &[])
    }

    #[test]
    fn an_actor_and_a_key_do_not_run_into_each_other() {
        let named = |actor, key: &str| name(&ring(), actor, &key.parse().unwrap());
        let names = [
            named(None, "ab"),
            named(Some("a"), "b"),
            named(Some("ab"), "a"),
            named(Some("b"), "ab"),
            named(None, "ac"),
        ];
        assert_eq!(BTreeSet::from(names).len(), names.len());
        let other = Keyring::new(&Zeroizing::new([8; 32]), &[]);
        assert_ne!(name(&other, None, &"ab".parse().unwrap()), names[0]);
    }

    #[test]
    fn each_kind_of_request_and_of_expiry_says_which_it_is() {
        let ring = ring();
        let kinds = [NAME, ISSUE, ROTATE].map(|kind| Hash::new(&ring, kind).finish());
        assert_eq!(BTreeSet::from(kinds).len(), kinds.len());
        let hashed = |hash: &dyn Fn(&mut Hash)| {
            let mut hashed = Hash::new(&ring, ISSUE);
            hash(&mut hashed);
            hashed.finish()
        };
        let (at, lifetime) = (Timestamp::from_raw, Duration::from_nanos);
        let expiries = [
            hashed(&|_| {}),
            hashed(&|hash| hash.instant(at(5))),
            hashed(&|hash| hash.duration(lifetime(5))),
            hashed(&|hash| hash.expiry(Expiry::Default)),
            hashed(&|hash| hash.expiry(Expiry::Never)),
            hashed(&|hash| hash.expiry(Expiry::At(at(0)))),
            hashed(&|hash| hash.expiry(Expiry::At(at(1)))),
            hashed(&|hash| hash.expiry(Expiry::At(at(5)))),
            hashed(&|hash| hash.expiry(Expiry::After(lifetime(5)))),
            hashed(&|hash| hash.expiry(Expiry::After(lifetime(6)))),
        ];
        assert_eq!(BTreeSet::from(expiries).len(), expiries.len());
    }

    #[test]
    fn a_request_that_differs_in_anything_is_another() {
        let new = || NewKey::new("acme", "acme/a").unwrap();
        let network = |text: &str| text.parse().unwrap();
        let specs = [
            vec![new()],
            vec![new(), new()],
            vec![],
            vec![NewKey::new("acme", "acme/b").unwrap()],
            vec![NewKey::new("acm", "acme/a").unwrap()],
            vec![new().permissions(["read"])],
            vec![new().permissions(["re", "ad"])],
            vec![new().permission_mask(Permissions::from_bits(1))],
            vec![new().name("x")],
            vec![new().name("")],
            vec![new().description("x")],
            vec![new().label("x", "")],
            vec![new().label("", "x")],
            vec![new().label("x", "x")],
            vec![new().label("x", "y")],
            vec![new().label("y", "x")],
            vec![new().not_before(Timestamp::from_raw(5))],
            vec![new().not_before(Timestamp::from_raw(6))],
            vec![new().expires_at(Timestamp::from_raw(5))],
            vec![new().expires_in(Duration::from_millis(5))],
            vec![new().never_expires()],
            vec![new().allow_network(network("10.0.0.0/8"))],
            vec![new().allow_network(network("10.0.0.0/9"))],
            vec![new().plan("x")],
            vec![new().limits([])],
            vec![new().limits([Limit::per_minute(5)])],
            vec![new().limits([Limit::per_minute(6)])],
            vec![new().limits([Limit::per_hour(5)])],
            vec![new().limits([Limit::per_hour(5).fixed()])],
            vec![new().limits([Limit::per_hour(5).fixed().for_fleet()])],
            vec![new().limits([Limit::per_hour(5).bucket(5)])],
            vec![new().limits([Limit::per_hour(5).bucket(6)])],
            vec![new().limits([Limit::per_hour(6).bucket(5)])],
            vec![new().quota(Quota::new(5))],
            vec![new().quota(Quota::new(6))],
            vec![new().quota(Quota::new(5).refilled(Refill::Daily))],
            vec![new().quota(Quota::new(5).refilled(Refill::Monthly))],
            vec![new().quota(Quota::new(5).refilled(Refill::monthly_from(1).unwrap()))],
            vec![new().quota(Quota::new(5).refilled(Refill::monthly_from(2).unwrap()))],
        ];
        let count = specs.len();
        let issues = specs.map(|specs| of_issue(&ring(), &specs));
        assert_eq!(BTreeSet::from(issues).len(), count);

        let (one, two) = (KeyId::from_raw(1), KeyId::from_raw(2));
        let update = KeyUpdate::new;
        let updates = [
            update(),
            update().name("x"),
            update().name(None),
            update().description("x"),
            update().plan("x"),
            update().label("x", "y"),
            update().label("y", "y"),
            update().remove_label("x"),
            update().set_permissions(["x"]),
            update().set_permission_mask(Permissions::NONE),
            update().set_permission_mask(Permissions::from_bits(1)),
            update().add_permissions(["x"]),
            update().remove_permissions(["x"]),
            update().expiry(Expiry::Default),
            update().networks([]),
            update().networks([network("10.0.0.0/8")]),
            update().limits([]),
            update().limits([Limit::per_minute(5)]),
            update().limits_of_plan(),
            update().quota(None),
            update().quota(Quota::new(5)),
        ];
        let mut seen = BTreeSet::from(issues);
        let mut add = |key, rotation: &Rotation| {
            assert!(
                seen.insert(of_rotation(&ring(), key, rotation)),
                "{rotation:?}"
            );
        };
        for changes in updates {
            add(one, &Rotation::at_once().changing(changes));
        }
        add(two, &Rotation::at_once());
        add(one, &Rotation::with_grace(Duration::from_nanos(1)));
    }
}
