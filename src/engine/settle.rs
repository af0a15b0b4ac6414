//! Settling a request whose cost is known only after its answer.

use crate::change::quota::{self, Charged, Of};
use crate::engine::charge::{Levels, Who, path_of};
use crate::engine::handle::Engine;
use crate::engine::shared::Core;
use crate::memory::owner_names::Name;
use crate::model::charge::{Charge, Part};
use crate::model::error::{Error, Invalid, Result};
use crate::model::quota::Period;
use crate::model::time::Present;
use crate::store::hot::HotCopy;
use crate::store::quota::is_due;
use crate::store::record::View;

/// # Settling
impl Engine {
    /// Says what a request cost in all, once that is known: the tokens of an AI model, the
    /// bytes of an answer. The request was verified with an estimate, and with
    /// [`Requirements::settled_later`](crate::Requirements::settled_later).
    ///
    /// What it cost more is charged, now, to the limits and quotas of all levels, and is
    /// never refused: it can push a level below zero. Then the level admits nothing until
    /// what was used beyond the limit is over, or what is owed of the quota is refilled.
    /// What it cost less is given back where it was charged.
    ///
    /// The call can be repeated: it says the cost in all, and only the difference to what
    /// was said last is charged or given back. So a long answer can be settled as it goes.
    ///
    /// | meanwhile | then |
    /// |---|---|
    /// | limits or plans were changed | more is charged to those that hold now; less is given back to limits that have counted it, which those of the same algorithm and window have |
    /// | the window has passed, or the quota was refilled or replaced | more is charged to the present one; nothing is given back |
    /// | the key was revoked, disabled, or has expired | nothing differs |
    /// | the key was rotated | the key and its successor are counted together, so nothing differs |
    /// | the key was purged | its owners are charged, and given back |
    ///
    /// # Durability
    /// What a quota covers from memory was taken from the file before. What it does not is
    /// durable when the call returns, and so is what is owed: a restart hands nothing out
    /// twice. An engine that stops before the call leaves the estimate charged.
    ///
    /// # Cost
    /// Some hundred nanoseconds, and a commit where a quota has too little in memory.
    ///
    /// # Errors
    /// [`Invalid::Malformed`] for a charge of another engine. An error of the store: if the
    /// request cost more, nothing was charged, and the call can be repeated, except after
    /// [`Error::OutcomeUnknown`], when its quotas may have been charged. If it cost less,
    /// some of it stays charged.
    ///
    /// ```
    /// use gatekey::{Engine, Limit, NewKey, NewKeyspace, OwnerUpdate, Quota, Requirements};
    ///
    /// let engine = Engine::open_in_memory()?;
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let tier = OwnerUpdate::new()
    ///     .limits([Limit::per_minute(10_000).bucket(10_000)])
    ///     .quota(Quota::new(1_000_000));
    /// engine.update_owner("acme_live", "acme", tier)?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme/chat")?)?;
    ///
    /// // An answer has at most 4,000 tokens.
    /// let estimate = Requirements::new().cost(4_000).settled_later();
    /// let grant = engine.verify_with(issued.token.expose(), &estimate)?.into_result().unwrap();
    /// // It had 730.
    /// if let Some(charge) = grant.charge() {
    ///     engine.settle(charge, 730)?;
    ///     assert_eq!(charge.cost(), 730);
    /// }
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn settle(&self, charge: &Charge, cost: u32) -> Result<()> {
        self.core.settle(charge, cost)
    }

    /// What names it in its charges.
    #[cfg(feature = "tower")]
    pub(crate) fn charges_as(&self) -> u64 {
        self.core.limiter.names().identity()
    }
}

impl Core {
    /// What a request was charged, for it to be settled.
    #[cold]
    pub(super) fn charge_of(
        &self,
        view: &View<'_>,
        cost: u32,
        part: Option<Part>,
        present: Present,
    ) -> Charge {
        let nothing = || Part {
            cost,
            ..Part::nothing(present.clock)
        };
        Charge::new(
            self.limiter.names().identity(),
            view.id(),
            (view.keyspace(), view.owner()),
            part.unwrap_or_else(nothing),
        )
    }

    fn settle(&self, charge: &Charge, cost: u32) -> Result<()> {
        // Before any lock: a thread that is not in a fork may have it there for ever.
        self.home.refuse_fork()?;
        self.must_be_open()?;
        let charged = charge.charged();
        if charged.engine != self.limiter.names().identity() {
            let why = "it is of another engine, or of this one before it was opened again";
            return Err(Invalid::malformed("charge", &charged.key.to_string(), why).into());
        }
        let mut parts = charged.parts();
        let before = parts.cost();
        if cost > before {
            let more = self.charge_beyond(charge, cost - before)?;
            parts.push(more);
        }
        for (less, part) in parts.take(before.saturating_sub(cost)) {
            self.give_back(&part, less)?;
        }
        Ok(())
    }

    /// Charges what a request cost beyond what it was charged.
    fn charge_beyond(&self, charge: &Charge, more: u32) -> Result<Part> {
        let charged = charge.charged();
        let mut copy = HotCopy::new();
        self.read(|snapshot| snapshot.hot(charged.key, &mut copy))?;
        let who = Who {
            keyspace: charged.keyspace,
            owner: &charged.owner,
            key: copy.view(),
        };
        let entry = self
            .registry
            .get(charged.keyspace)
            .ok_or_else(|| Error::corrupted("keys", charged.key, "its keyspace does not exist"))?;
        let present = self.present();
        self.with_levels(who, entry, |levels| {
            self.charge_levels_beyond(charge, levels, more, present)
        })
    }

    fn charge_levels_beyond(
        &self,
        charge: &Charge,
        levels: &Levels<'_>,
        more: u32,
        present: Present,
    ) -> Result<Part> {
        let now = present.clock;
        let mut part = Part {
            cost: more,
            ..Part::nothing(now)
        };
        let mut is_in_store = false;
        loop {
            let mut quotas = Vec::new();
            let beyond = self.limiter.charge_beyond(
                (&levels.limits, &levels.quota_names),
                more,
                (now, &self.home),
                || {
                    if !is_in_store {
                        let note = |name, period| quotas.push((name, period));
                        self.spend(levels, more, now, note)?;
                    }
                    self.note_meters(&mut part, levels);
                    Ok(())
                },
            )?;
            match beyond {
                Ok(()) if is_in_store => return Ok(part),
                Ok(()) => return Ok(Part { quotas, ..part }),
                Err::<(), super::charge::NotSpent>(_) => {
                    part.quotas = self.use_up(charge, levels, more, present)?;
                    is_in_store = true;
                }
            }
        }
    }

    /// Uses up quotas of which memory has too little: in one commit, and with what they
    /// owe.
    fn use_up(
        &self,
        charge: &Charge,
        levels: &Levels<'_>,
        more: u32,
        present: Present,
    ) -> Result<Vec<(u64, Period)>> {
        let charged = charge.charged();
        let each = levels.quotas.iter().map(|quota| {
            let of = match quota.depth {
                0 => Of::Key(charged.key),
                depth => Of::Owner(charged.keyspace, path_of(&charged.owner, depth)?),
            };
            let name = quota.purse;
            Ok(Charged { name, of })
        });
        let each = each.collect::<Result<Vec<_>>>()?;
        let (quotas, clock) = (self.quotas.clone(), present.clock);
        self.mutate(move |tx| quota::use_up(tx, &quotas, &each, more.into(), clock))
    }

    /// Gives back what a request was charged at one instant and did not cost.
    fn give_back(&self, part: &Part, less: u32) -> Result<()> {
        let now = self.present().clock;
        for (first, second) in &part.meters {
            let name = Name(*first, *second);
            let counted = (part.at, part.counters);
            self.limiter
                .take_back(name, less, counted, now, &self.home)?;
        }
        let mut rest = Vec::new();
        for (name, period) in part.quotas.iter().copied() {
            let is_over = is_due(period.refills_at, now);
            if !is_over && !self.quotas.give_back(name, period, less.into()) {
                rest.push(period);
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        let quotas = less.into();
        self.mutate(move |tx| quota::give_back(tx, &rest, quotas, now))
    }
}
