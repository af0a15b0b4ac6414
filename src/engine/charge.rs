//! Charging a verification to the limits of its key's plan and to its quota.

use std::sync::Arc;

use crate::change::quota;
use crate::engine::shared::Core;
use crate::memory::limiter::{Admitted, OverLimit, Subject};
use crate::memory::registry::Once;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::keyspace::Keyspace;
use crate::model::time::Present;
use crate::model::verdict::{Denial, Standing};
use crate::store::quota::{Asked, Spent};
use crate::store::record::View;

/// What charging a request came to.
pub(super) enum Charged {
    /// With where its key stands in its limits, if it has any.
    Admitted(Option<Standing>),
    /// Charged to nothing.
    OverLimit(Denial),
    /// Charged to nothing: the key's quota was changed since its record was read.
    Gone,
}

impl Core {
    /// Charges a request that nothing else refuses to the limits of its key's plan and
    /// to its quota, to all of them or to none.
    pub(super) fn charge(
        &self,
        view: &View<'_>,
        keyspace: &Once<'_>,
        cost: u32,
        present: Present,
    ) -> Result<Charged, Error> {
        let key = view.id();
        let admitted = match view.plan() {
            0 => None,
            _ => match self.charge_plan(view, keyspace.get(), cost, present.at)? {
                Ok(admitted) => admitted,
                Err(refused) => {
                    return Ok(Charged::OverLimit(Denial::RateLimited {
                        key,
                        status: refused.status,
                        retry_after: refused.retry_after,
                    }));
                }
            },
        };
        let (standing, receipt) = match admitted {
            Some(admitted) => (Some(admitted.standing), admitted.receipt),
            None => (None, None),
        };
        // What costs nothing takes no slice either, and waits for no commit.
        if !view.has_quota() || cost == 0 {
            return Ok(Charged::Admitted(standing));
        }
        let spent = self.spend_quota(key, cost, present);
        if !matches!(spent, Ok(Spent::Covered))
            && let Some(receipt) = receipt
        {
            receipt.give_back();
        }
        Ok(match spent? {
            Spent::Covered => Charged::Admitted(standing),
            Spent::Exhausted { refills_at } => {
                Charged::OverLimit(Denial::QuotaExhausted { key, refills_at })
            }
            Spent::Gone => Charged::Gone,
        })
    }

    /// Charges a request to the limits of its key's plan.
    pub(super) fn charge_plan(
        &self,
        view: &View<'_>,
        keyspace: &Keyspace,
        cost: u32,
        now: Timestamp,
    ) -> Result<Result<Option<Admitted>, OverLimit>, Error> {
        let plan = keyspace
            .plan_numbered(view.plan())
            .ok_or_else(|| Error::corrupted("keys", view.id(), "its plan does not exist"))?;
        let subject = Subject {
            key: view.id(),
            keyspace: view.keyspace(),
            revision: keyspace.revision,
            owner: view.owner(),
            plan_number: view.plan(),
            plan,
        };
        Ok(self.limiter.charge(&subject, cost, now, view.has_quota()))
    }

    /// Spends a request's cost of its key's quota. Where too little of it is in
    /// memory, this waits for a durable commit.
    fn spend_quota(&self, key: KeyId, cost: u32, present: Present) -> Result<Spent, Error> {
        let (cost, now) = (u64::from(cost), present.at);
        if let Some(spent) = self.quotas.spend_from_memory(key, cost, now) {
            return Ok(spent);
        }
        // Before any lock: a thread that is not in a fork may have it there for ever.
        self.home.check()?;
        let take = |asked: &Arc<Asked>| {
            // The store must not be behind this request, or a refill that is due
            // for it would not be due there.
            self.time.hold(present);
            let (quotas, asked) = (self.quotas.clone(), Arc::downgrade(asked));
            self.mutate(move |tx| quota::take_slice(tx, &quotas, key, cost, &asked))
        };
        self.quotas.spend(key, cost, now, take)
    }

    pub(super) fn put_back(&self, numbers: Vec<u64>) -> Result<(), Error> {
        let quotas = self.quotas.clone();
        self.mutate(move |tx| quota::put_back(tx, &quotas, &numbers))
    }
}
