//! What a request requires of a token.

use std::net::IpAddr;
#[cfg(feature = "http")]
use std::sync::OnceLock;

#[cfg(feature = "http")]
use crate::model::allowances::Allowances;
use crate::model::id::{KeyId, Prefix};
#[cfg(feature = "tower")]
use crate::model::paid::Credit;
use crate::model::permissions::Permissions;

/// What a caller of [`Engine::verify_with`](crate::Engine::verify_with) requires of a
/// token. It is cheap to build and to copy, and can be a constant.
///
/// ```
/// use gatekey::Requirements;
///
/// const WRITE: Requirements = Requirements::new().permissions(&["write"]);
/// let here = WRITE.source("192.0.2.7".parse().unwrap());
/// # let _ = here;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Requirements<'a> {
    pub(crate) keyspace: Option<Prefix>,
    pub(crate) permissions: Permissions,
    pub(crate) permission_names: &'a [&'a str],
    pub(crate) source: Option<IpAddr>,
    pub(crate) cost: u32,
    pub(crate) is_settled_later: bool,
    /// Says that this request's use of its key is counted already.
    pub(crate) is_counted: bool,
    /// What others have charged the request's key.
    #[cfg(feature = "tower")]
    pub(crate) credit: Option<&'a Credit<'a>>,
    /// Where to tell what the request was charged to.
    #[cfg(feature = "http")]
    pub(crate) told: Option<&'a Told>,
}

/// What a request was charged to, or what refused it, for an answer to the key's holder.
#[cfg(feature = "http")]
#[derive(Debug)]
pub(crate) struct Told {
    /// Of a grant too, and not only of a denial.
    pub(crate) of_grants: bool,
    /// Empty where the key's levels have no limit and no quota.
    pub(crate) found: OnceLock<Allowances>,
}

impl Default for Requirements<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Requirements<'a> {
    /// No requirement beyond a good token.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            keyspace: None,
            permissions: Permissions::NONE,
            permission_names: &[],
            source: None,
            cost: 1,
            is_settled_later: false,
            is_counted: false,
            #[cfg(feature = "tower")]
            credit: None,
            #[cfg(feature = "http")]
            told: None,
        }
    }

    /// Requires a token of this keyspace; tokens of others are denied as unknown.
    #[must_use]
    pub const fn keyspace(mut self, prefix: Prefix) -> Self {
        self.keyspace = Some(prefix);
        self
    }

    /// Requires all of these permissions, by mask. A bit has a different meaning in
    /// each keyspace: set the [`keyspace`](Self::keyspace) too, or use names.
    #[must_use]
    pub const fn permission_mask(mut self, mask: Permissions) -> Self {
        self.permissions = mask;
        self
    }

    /// Requires all of these permissions, by name, in the key's keyspace. No key has a
    /// name that the keyspace does not have or has retired: a misspelt name denies
    /// every key. [`Keyspace::mask`](crate::Keyspace::mask) finds such a name when the
    /// server starts.
    #[must_use]
    pub const fn permissions(mut self, names: &'a [&'a str]) -> Self {
        self.permission_names = names;
        self
    }

    /// Sets the address that the request comes from. Without it, a key that is bound to
    /// networks is denied.
    #[must_use]
    pub const fn source(mut self, address: IpAddr) -> Self {
        self.source = Some(address);
        self
    }

    /// Sets how much the request costs, in the limits of the key's plan and in its
    /// quota; 1 by default. A cost of 0 charges nothing and passes every limit.
    #[must_use]
    pub const fn cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }

    /// Says that the cost is an estimate, since it is known only once the request is
    /// answered: the grant then has a [`charge`](crate::Grant::charge), which
    /// [`Engine::settle`](crate::Engine::settle) takes. It costs the grant an allocation.
    #[must_use]
    pub const fn settled_later(mut self) -> Self {
        self.is_settled_later = true;
        self
    }

    /// Whether what it is charged is told, or noted for it to be settled.
    pub(crate) fn asks_for_more(&self) -> bool {
        #[cfg(feature = "http")]
        if self.told.is_some_and(|told| told.of_grants) {
            return true;
        }
        self.is_settled_later
    }

    /// What is left to require of a key that an engine is about to charge.
    #[cfg(feature = "tower")]
    pub(crate) fn beyond_paid(mut self, engine: usize, key: KeyId) -> Self {
        let credit = self.credit.take();
        if let Some(credit) = credit.filter(|credit| credit.is_of(engine)) {
            if let Some(paid) = credit.take(key) {
                self.cost = self.cost.saturating_sub(paid);
                self.is_counted = true;
            }
            // Also of a clone, which pays anew: its handler settles what it is charged.
            let payment = credit.find(key);
            self.is_settled_later |= payment.is_some_and(|payment| payment.settled.is_some());
        }
        self
    }

    /// What is left to require of a key that an engine is about to charge.
    #[cfg(not(feature = "tower"))]
    pub(crate) fn beyond_paid(self, _: usize, _: KeyId) -> Self {
        self
    }

    /// Says that an engine has granted a key what is required, and has charged what was left.
    #[cfg(feature = "tower")]
    pub(crate) fn note_granted(&self, engine: usize, key: KeyId) {
        if let Some(credit) = self.credit.filter(|credit| credit.is_of(engine)) {
            credit.granted(key, self.cost);
        }
    }

    /// Says that an engine has granted a key what is required, and has charged what was left.
    #[cfg(not(feature = "tower"))]
    pub(crate) fn note_granted(&self, _: usize, _: KeyId) {}
}

#[cfg(all(test, feature = "tower"))]
mod tests {
    use super::*;
    use crate::model::paid::{Paid, Settled};

    #[test]
    fn what_was_paid_is_of_the_key_and_the_engine_that_charges_it() {
        let [a, b, c] = [1, 2, 3].map(KeyId::from_raw);
        let settled = Settled {
            charge: None,
            before: 0,
        };
        let paid = Paid::new(1, a, 5, Some(settled), None);
        let paid = Paid::new(1, b, 7, None, Some(paid));
        let required = |credit: &Credit<'_>, engine, key| {
            let mut requirements = Requirements::new().cost(9);
            requirements.credit = Some(credit);
            let left = requirements.beyond_paid(engine, key);
            assert!(left.credit.is_none());
            requirements.note_granted(engine, key);
            (left.cost, left.is_counted, left.is_settled_later)
        };
        let credit = Credit::new(Some(&paid), 1);
        assert_eq!(required(&credit, 1, c), (9, false, false));
        // A record that is read again is charged the same, also after another key was tried.
        for _ in 0..2 {
            assert_eq!(required(&credit, 1, a), (4, true, true));
            assert_eq!(required(&credit, 1, b), (2, true, false));
        }
        // A clone of the request pays anew.
        let clone = Credit::new(Some(&paid), 1);
        assert_eq!(required(&clone, 1, a), (9, false, true));
        drop(clone);
        let kept = credit.keep(a);
        assert_eq!((kept.is_paid, kept.before, kept.cost), (true, 5, 9));
        // An engine that has the same keys charges its own, and not those of the layer's.
        for (of, engine, cost) in [(1, 2, 7), (2, 1, 0), (2, 2, 9)] {
            let credit = Credit::new(Some(&paid), of);
            assert_eq!(required(&credit, engine, b), (9, false, false));
            assert_eq!(credit.keep(b).cost, cost);
        }
    }
}
