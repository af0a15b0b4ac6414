//! Charging a request by the coarse clock, where that is exact enough: most requests.

use crate::engine::charge::{Charged, Levels, Owners, Receipt, Who};
use crate::engine::shared::Core;
use crate::memory::levels::PerLevel;
use crate::memory::limiter::Known;
use crate::memory::owner_names::{self, Name};
use crate::memory::quota::Name as PurseName;
use crate::memory::registry::{Charging, Entry};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::limit::Level;
use crate::model::requirements::Requirements;
use crate::model::time::When;
use crate::store::record::View;

/// What charging a request by the coarse clock came to.
pub(in crate::engine) enum Coarsely {
    Admitted,
    /// Charged to nothing: [`Core::charge`] says what there is to say.
    Undecided,
    /// Its levels were looked up, and were asked by the exact clock then. In a box, since
    /// what is nearly always the answer is a word.
    Refused(Box<Charged>),
}

impl Core {
    /// Charges a request where memory admits it and the coarse clock is exact enough to say
    /// so, or where its levels were looked up.
    #[inline(never)]
    pub(in crate::engine) fn charge_coarsely(
        &self,
        view: &View<'_>,
        entry: &Entry,
        requirements: &Requirements<'_>,
        coarse: Timestamp,
        receipt: &mut Receipt,
    ) -> Result<Coarsely, Error> {
        let when = When::coarse(coarse);
        if entry.charges_owners() {
            return self.charge_levels_coarsely(view, entry, requirements, when, receipt);
        }
        match self.charge_key_alone(view, entry, requirements, when, receipt)? {
            true => Ok(Coarsely::Admitted),
            false => Ok(Coarsely::Undecided),
        }
    }

    /// Charges a request at whichever levels it has: by the coarse clock where one of them at
    /// most has a quota and memory admits it, else by the exact one.
    #[inline(never)]
    fn charge_levels_coarsely(
        &self,
        view: &View<'_>,
        entry: &Entry,
        requirements: &Requirements<'_>,
        when: When,
        receipt: &mut Receipt,
    ) -> Result<Coarsely, Error> {
        if requirements.asks_for_more() {
            return Ok(Coarsely::Undecided);
        }
        let settings;
        let mut owners = self.no_owners();
        let charging = entry.charging();
        settings = entry.has_owner_settings().then(|| self.owner_terms.pin());
        self.find_owners(&mut owners, &Who::has(view), settings.as_ref());
        let mut levels = PerLevel::default();
        // The same after settings were looked for as before: so both were so at one instant.
        let are_known = Self::knows_levels(&mut levels, view, charging, &owners)
            && entry.charging() == charging;
        let quota = view.has_quota().then(|| view.id().raw());
        if are_known
            && self.charge_steadily(view, &levels, quota, requirements.cost, when, receipt)?
        {
            return Ok(Coarsely::Admitted);
        }
        self.with_levels_of(Who::has(view), entry, &owners, |levels| {
            if !are_known && levels.quotas.len() <= 1 {
                let mut known = PerLevel::default();
                (levels.limits.iter()).for_each(|ask| known.push(ask.known()));
                let quota = levels.quotas.first().map(|quota| quota.purse);
                if self.charge_steadily(view, &known, quota, requirements.cost, when, receipt)? {
                    return Ok(Coarsely::Admitted);
                }
            }
            self.charge_exactly(view, levels, requirements, receipt)
        })
    }

    /// Charges a request to its levels, and to the one quota that it may have, where memory
    /// admits it.
    #[inline(always)]
    fn charge_steadily(
        &self,
        view: &View<'_>,
        levels: &[Known<'_>],
        quota: Option<PurseName>,
        cost: u32,
        when: When,
        receipt: &mut Receipt,
    ) -> Result<bool, Error> {
        let stands = (&mut receipt.standing, view.id().raw());
        let at = (when, &self.home);
        self.limiter.charge_steadily(levels, cost, at, stands, || {
            let is_spent = |purse| self.quotas.spend_one(purse, cost.into(), when);
            cost == 0 || quota.is_none_or(is_spent)
        })
    }

    /// Finds which levels of a key have limits, where its keyspace need not be loaded for it;
    /// `false`: it must be.
    #[inline(always)]
    fn knows_levels(
        levels: &mut PerLevel<Known<'_>>,
        view: &View<'_>,
        charging: Charging,
        owners: &Owners<'_>,
    ) -> bool {
        let is_plan_known = view.plan() == 0 || charging.has_meters_by_plan();
        if !charging.is_to_limits_alone() || view.has_own_limits() || !is_plan_known {
            return false;
        }
        let mut add = |name: Name, level: Level, stamp: u64| {
            let stamp = stamp + charging.stamp();
            levels.push(Known {
                name,
                level,
                stamp,
                terms: None,
            });
        };
        for (depth, (name, own)) in (1..).zip(owners.each.iter()) {
            if own.is_some() {
                return false;
            }
            if charging.has_limits(depth) {
                add(*name, Level::Owner(depth), owners.stamp_of_none);
            }
        }
        if view.plan() != 0 {
            let name = owner_names::of_key(view.lineage(), view.plan());
            add(name, Level::Key, 0);
        }
        true
    }

    /// Charges a request whose levels were looked up for the coarse clock: to look them up
    /// again would cost more than to read the exact one.
    #[inline(never)]
    fn charge_exactly(
        &self,
        view: &View<'_>,
        levels: &Levels<'_>,
        requirements: &Requirements<'_>,
        receipt: &mut Receipt,
    ) -> Result<Coarsely, Error> {
        let present = self.present();
        let charged = self.charge_and_tell(view, levels, requirements, receipt, present)?;
        Ok(match charged {
            Charged::Admitted => Coarsely::Admitted,
            refused => Coarsely::Refused(Box::new(refused)),
        })
    }
}

#[cfg(test)]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
mod tests {
    use super::*;
    use crate::engine::options::Options;
    use crate::model::key::NewKey;
    use crate::model::keyspace::NewKeyspace;
    use crate::model::level::LevelDefaults;
    use crate::model::limit::Limit;
    use crate::model::owner_settings::OwnerUpdate;
    use crate::model::plan::Plan;
    use crate::model::quota::Quota;
    use crate::store::hot::HotCopy;

    /// What a world has, by the digits of a number.
    struct Digits(usize);

    impl Digits {
        fn next(&mut self, base: usize) -> usize {
            let digit = self.0 % base;
            self.0 /= base;
            digit
        }
    }

    /// Plans at three levels and the key's, and what is special.
    const WORLDS: usize = 3 * 3 * 3 * 3 * SPECIAL.len();
    const SPECIAL: [&str; 8] = [
        "nothing",
        "settings of another owner",
        "a quota of the key",
        "settings",
        "a quota by default",
        "limits of the key",
        "a plan that is shared",
        "a plan that stands alone",
    ];

    /// Where levels are known without the keyspace, they are those that it gives.
    #[test]
    fn levels_are_those_that_are_found_by_the_keyspace() {
        let mut known_of = [0; SPECIAL.len()];
        for world in 0..WORLDS {
            let mut digits = Digits(world);
            let plans = [(); 4].map(|()| [None, Some("tier"), Some("free")][digits.next(3)]);
            let special = SPECIAL[digits.next(SPECIAL.len())];
            let mut new = NewKeyspace::new("acme_live")
                .unwrap()
                .plan(Plan::new("tier").limit(Limit::per_hour(5)));
            if plans.contains(&Some("free")) {
                new = new.plan(Plan::new("free"));
            }
            let other = Plan::new("other").limit(Limit::per_minute(5));
            new = match special {
                "a plan that is shared" => new.plan(other.shared_by_owner()),
                "a plan that stands alone" => new.plan(other.replaces_levels_above()),
                _ => new,
            };
            let [of_levels @ .., of_key] = plans;
            for (depth, plan) in (1..).zip(of_levels) {
                if let Some(plan) = plan {
                    new = new.owner_defaults(depth, LevelDefaults::new().plan(plan));
                }
            }
            if special == "a quota by default" {
                new = new.owner_defaults(4, LevelDefaults::new().quota(Quota::new(5)));
            }
            let engine = Options::new().open_in_memory().unwrap();
            engine.create_keyspace(new).unwrap();
            let mut key = NewKey::new("acme_live", "acme/b/c").unwrap();
            if let Some(plan) = of_key {
                key = key.plan(plan);
            }
            let settings = |owner: &str| {
                let update = OwnerUpdate::new().plan("tier");
                engine.update_owner("acme_live", owner, update).unwrap();
            };
            match special {
                "settings of another owner" => settings("acme/b/d"),
                "settings" => settings("acme/b"),
                "limits of the key" => key = key.limits([Limit::per_minute(7)]),
                "a quota of the key" => key = key.quota(Quota::new(7)),
                _ => {}
            }
            let id = engine.issue(key).unwrap().key.id;
            let core = &engine.core;
            let mut copy = HotCopy::new();
            core.read(|snapshot| snapshot.hot(id, &mut copy)).unwrap();
            let view = copy.view().unwrap();
            let entry = core.registry.get(view.keyspace()).unwrap();
            let (settings, who) = (core.owner_terms.pin(), Who::has(&view));
            let mut owners = core.no_owners();
            core.find_owners(&mut owners, &who, Some(&settings));
            let mut known = PerLevel::default();
            let (charging, told) = (entry.charging(), format!("{plans:?}, {special}"));
            if !Core::knows_levels(&mut known, &view, charging, &owners) {
                continue;
            }
            known_of[world / 81] += 1;
            core.with_levels_of(who, entry, &owners, |levels| {
                let known = (known.iter()).map(|known| (known.name, known.level, known.stamp));
                let asks = levels.limits.iter();
                let asked: Vec<_> = asks.map(|ask| (ask.name, ask.level, ask.stamp)).collect();
                assert_eq!(known.collect::<Vec<_>>(), asked, "{told}");
                assert_eq!(levels.quotas.len(), usize::from(view.has_quota()), "{told}");
                Ok(())
            })
            .unwrap();
        }
        // All but those of keys with a plan, where one has no limits, or, with the shared one,
        // of any plan.
        let all = 81 - (27 + 19);
        assert_eq!(known_of, [all, all, all, 0, 0, 0, 27, 0]);
    }

    /// Settings that change after they were found, and before the keyspace is loaded.
    #[test]
    fn levels_are_found_anew_where_settings_changed_meanwhile() {
        let engine = Options::new().open_in_memory().unwrap();
        let new = NewKeyspace::new("acme_live").unwrap();
        engine.create_keyspace(new).unwrap();
        let limits = |requests| OwnerUpdate::new().limits([Limit::per_hour(requests)]);
        engine.update_owner("acme_live", "acme", limits(5)).unwrap();
        let key = NewKey::new("acme_live", "acme/b").unwrap();
        let id = engine.issue(key).unwrap().key.id;
        let core = &engine.core;
        let mut copy = HotCopy::new();
        core.read(|snapshot| snapshot.hot(id, &mut copy)).unwrap();
        let view = copy.view().unwrap();
        let (entry, who) = (core.registry.get(0).unwrap(), Who::has(&view));
        let settings = core.owner_terms.pin();
        let mut owners = core.no_owners();
        core.find_owners(&mut owners, &who, Some(&settings));
        engine.update_owner("acme_live", "acme", limits(7)).unwrap();
        let requests = |levels: &Levels<'_>| Ok(levels.limits[0].terms.limits[0].requests());
        let found = core.with_levels_of(who, entry, &owners, requests);
        assert_eq!(found.unwrap(), 7);
    }
}
