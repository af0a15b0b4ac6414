//! What the engine tells, against what the model says.

use std::fmt::Debug;

use gatekey::{
    AuditEntry, AuditEvent, Conflict, Error, Invalid, Key, KeyFilter, KeyId, KeyState, NotFound,
    Plan,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::limits::SLICE;
use super::op::{Ask, NAMES, OWNERS, PLANS, PREFIXES, each_of};
use super::plain::{Entry, Revoked, STATES, Why, is_single};
use super::text::{length, ms, name, networks, path, plan, plan_name, policy, prefix, quota};
use super::world::{Checked, World, failed};

impl World<'_> {
    /// Whether the engine refused where it should, and for a reason it should.
    pub(crate) fn agree<T: Debug>(
        &self,
        verb: &str,
        result: Result<T, Error>,
        whys: &[Why],
    ) -> Checked<Option<T>> {
        let error = match (result, whys) {
            (Ok(done), []) => {
                self.note(verb);
                return Ok(Some(done));
            }
            (Ok(done), whys) => {
                return Err(TestCaseError::fail(format!(
                    "{verb} must be refused for one of {whys:?}, and gave {done:?}"
                )));
            }
            (Err(error), _) => error,
        };
        let (why, name) = match &error {
            Error::Invalid(invalid) => (Why::Invalid(name_of(invalid)), name_of(invalid)),
            Error::NotFound(what) => {
                let name = match what {
                    NotFound::Key(_) => "not found: key",
                    NotFound::Keyspace(_) => "not found: keyspace",
                    NotFound::Token => "not found: token",
                    _ => "not found: another",
                };
                (Why::NotFound(what.clone()), name)
            }
            Error::Conflict(refusal) => (Why::Refused(refusal.clone()), name_of_refusal(refusal)),
            other => return Err(TestCaseError::fail(format!("{verb} failed: {other:?}"))),
        };
        prop_assert!(
            whys.contains(&why),
            "{} at {} was refused ({:?}), and should have been for one of {:?} (none: done)",
            verb,
            self.at(),
            why,
            whys
        );
        self.note(name);
        Ok(None)
    }

    /// A key as the engine tells it, against the model.
    pub(crate) fn compare(&self, told: &Key) -> Checked {
        let now = self.model.now();
        let Some(key) = self.model.keys.get(&told.id) else {
            return Err(TestCaseError::fail(format!("the model has no {told:?}")));
        };
        let at = self.at();
        let id = told.id;
        prop_assert_eq!(
            told.state,
            self.model.state(key),
            "state of {} at {}",
            id,
            at
        );
        prop_assert_eq!(told.keyspace, prefix(key.keyspace));
        prop_assert_eq!(told.owner.as_str(), path(key.owner));
        prop_assert_eq!(told.permissions.bits(), key.permissions, "bits of {}", id);
        prop_assert_eq!(&told.name, &name(key.text));
        let label = told.labels.get("text").cloned();
        prop_assert_eq!(label, (key.text > 0).then(|| key.text.to_string()));
        prop_assert_eq!(&told.networks, &networks(key.network));
        prop_assert_eq!(told.not_before.map(ms), key.not_before);
        prop_assert_eq!(told.expires_at.map(ms), key.expires_at, "expiry of {}", id);
        prop_assert_eq!(
            told.retiring_until.map(ms),
            key.grace_end,
            "grace of {}",
            id
        );
        prop_assert_eq!(ms(told.created_at), key.created_at);
        prop_assert_eq!(&told.created_by, &key.created_by);
        prop_assert_eq!(told.predecessor, key.predecessor);
        prop_assert_eq!(told.successor, key.successor);
        let expected = key.revoked(now);
        prop_assert_eq!(
            revoked(told.revoked.as_ref()),
            expected,
            "of {} at {}",
            id,
            at
        );
        prop_assert_eq!(told.plan.as_deref(), key.plan.map(plan_name));
        let expected = key.quota.map(|at| self.model.meters.quotas[at].at(now));
        let told_quota = told.quota.as_ref();
        prop_assert_eq!(told_quota.is_some(), expected.is_some(), "quota of {}", id);
        if let (Some(told), Some(expected)) = (told_quota, &expected) {
            prop_assert_eq!(told.quota, quota(expected.spec));
            prop_assert_eq!(told.refills_at.map(ms), expected.refills_at);
            // What is in memory is not told.
            let (least, most) = (expected.remaining.saturating_sub(SLICE), expected.remaining);
            prop_assert!(
                (least..=most).contains(&told.remaining),
                "{} of {:?} left of {}",
                told.remaining,
                expected,
                id
            );
        }
        let usage = (told.usage.last_used.map(ms), told.usage.count);
        prop_assert_eq!(usage, (key.last_used, key.uses), "usage of {}", id);
        Ok(())
    }

    /// What is left of quotas once nothing of them is in memory: all but what was, where
    /// that is lost.
    pub(crate) fn look_at_quotas(&mut self, lost_max: u64) -> Checked {
        let now = self.model.now();
        for (id, key) in &self.model.keys {
            let Some(at) = key.quota else { continue };
            let told = self.engine.key(*id).map_err(failed)?.quota.unwrap();
            let expected = self.model.meters.quotas[at].at(now);
            let lost = expected.remaining.checked_sub(told.remaining);
            prop_assert!(
                lost.is_some_and(|lost| lost <= lost_max),
                "{told:?} of {id}, and there were {expected:?}"
            );
            if lost > Some(0) {
                self.note("a crash lost a slice");
            }
            // What was told of a refill that the clock has not come to is told alone.
            let quota = &mut self.model.meters.quotas[at];
            quota.remaining -= lost.unwrap_or(0).min(quota.remaining);
        }
        Ok(())
    }

    /// The verdict on every token that was ever issued.
    pub(crate) fn sweep(&mut self) -> Checked {
        let ask = Ask {
            source: Some(0),
            cost: 1,
            ..Ask::default()
        };
        for at in 0..self.issued.len() {
            let (id, token) = self.issued[at].clone();
            self.verdict(id, &token, &ask)?;
        }
        Ok(())
    }

    /// The present is the engine's to tell, within what it promises.
    pub(crate) fn read_the_time(&mut self) -> Checked {
        let now = ms(self.engine.now());
        let model = &mut self.model;
        let floor = model.clock.max(model.floor);
        prop_assert!(now >= floor, "time at {}, must be {} or later", now, floor);
        let latest = model.clock_max;
        prop_assert!(now <= latest, "time at {}, {} is yet to come", now, latest);
        model.now = now;
        Ok(())
    }

    /// The audit entries since the last look.
    pub(crate) fn look_at_audit(&mut self) -> Checked {
        let from = (self.audit_seen + self.naming) as u64 + 1;
        let told = self.engine.audit_page(from, 1000).map_err(failed)?;
        let is_naming = |it: &AuditEntry| matches!(it.event, AuditEvent::RevokedKeysNamed { .. });
        let (naming, told): (Vec<_>, Vec<_>) = told.entries.into_iter().partition(is_naming);
        self.naming += naming.len();
        for key in naming.iter().flat_map(|entry| entry.event.keys()) {
            let is_unnamed = self.model.unnamed.remove(&key);
            prop_assert!(is_unnamed, "key {} is named twice, or was not revoked", key);
        }
        let mut told: Vec<Entry> = told
            .into_iter()
            .map(|entry| Entry {
                what: name_of_event(&entry.event),
                keys: entry.event.keys().into_iter().collect(),
                at: ms(entry.at),
                actor: entry.actor,
            })
            .collect();
        let mut expected = self.model.audit[self.audit_seen..].to_vec();
        // A batch is written in the order of its ids.
        told.sort();
        expected.sort();
        prop_assert_eq!(told, expected, "audit entries from {} on", from);
        self.audit_seen = self.model.audit.len();
        Ok(())
    }

    pub(crate) fn look_at_owner(&self, owner: u8) -> Checked {
        let told = self.engine.owner(path(owner)).map_err(failed)?;
        let own = told
            .suspended
            .as_ref()
            .map(|suspension| (ms(suspension.at), suspension.by.clone()));
        prop_assert_eq!(
            own.as_ref(),
            self.model.suspended.get(path(owner)),
            "suspension of {}",
            path(owner)
        );
        let above = self
            .model
            .suspended_path(owner)
            .filter(|above| *above != path(owner));
        prop_assert_eq!(
            told.suspended_above.as_ref().map(|path| path.as_str()),
            above
        );
        Ok(())
    }

    pub(crate) fn look_at_all(&mut self) -> Checked {
        self.sweep()?;
        let told: Vec<Key> = self
            .engine
            .keys(KeyFilter::new())
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let ids: Vec<KeyId> = told.iter().map(|key| key.id).collect();
        let expected: Vec<KeyId> = self.model.keys.keys().copied().collect();
        prop_assert_eq!(ids, expected, "all keys, the oldest first");
        told.iter().try_for_each(|key| self.compare(key))?;
        self.look_at_keyspaces(&told)?;
        each_of(&OWNERS).try_for_each(|owner| self.look_at_owner(owner))?;
        let report = self.engine.check().map_err(failed)?;
        prop_assert!(report.is_sound(), "at {}: {:#?}", self.at(), report);
        prop_assert_eq!(report.keys, told.len() as u64);
        let entries = (self.model.audit.len() + self.naming) as u64;
        prop_assert_eq!(report.audit_entries, entries);
        Ok(())
    }

    fn look_at_keyspaces(&self, keys: &[Key]) -> Checked {
        let told = self.engine.keyspaces().map_err(failed)?;
        prop_assert_eq!(told.len(), self.model.spaces.len());
        let stats = self.engine.stats().map_err(failed)?;
        let entries = (self.model.audit.len() + self.naming) as u64;
        prop_assert_eq!(stats.audit_entries, entries);
        for (at, space) in &self.model.spaces {
            let told = self.engine.keyspace(prefix(*at)).map_err(failed)?;
            let names: Vec<(&str, bool)> = told
                .permissions
                .iter()
                .map(|known| (known.name.as_str(), known.retired))
                .collect();
            let expected: Vec<(&str, bool)> = space
                .names
                .iter()
                .map(|(name, retired)| (NAMES[usize::from(*name)], *retired))
                .collect();
            prop_assert_eq!(names, expected);
            prop_assert_eq!(told.keys_per_owner, policy(space.policy));
            prop_assert_eq!(told.default_lifetime, space.default.map(length));
            prop_assert_eq!(told.max_lifetime, space.max.map(length));
            let mut plans = told.plans.clone();
            plans.sort_by_key(|plan| PLANS.iter().position(|name| *name == plan.name));
            let expected: Vec<Plan> = space
                .plans
                .iter()
                .map(|(at, limits)| plan(*at, limits))
                .collect();
            prop_assert_eq!(plans, expected);
            let default = space.default_plan.map(plan_name);
            prop_assert_eq!(told.default_plan.as_deref(), default);
            prop_assert_eq!(ms(told.created_at), space.created_at);
            prop_assert_eq!(ms(told.updated_at), space.updated_at);

            let of_it = || keys.iter().filter(|key| key.keyspace == told.prefix);
            let count = |state| of_it().filter(|key| key.state == state).count() as u64;
            let counts = stats.keyspaces[&told.prefix];
            let told = [
                counts.revoked,
                counts.suspended,
                counts.disabled,
                counts.not_yet_valid,
                counts.expired,
                counts.retiring,
                counts.active,
            ];
            prop_assert_eq!(
                told,
                STATES.map(count),
                "counts of {}",
                PREFIXES[usize::from(*at)]
            );
            let expired = of_it().filter(|key| key.expired).count() as u64;
            prop_assert_eq!(counts.over_by_expiry, expired);

            if is_single(space.policy) {
                let crowded: Vec<u8> = self.model.crowded(*at).collect();
                prop_assert!(crowded.is_empty(), "the model itself: {:?}", crowded);
                for owner in OWNERS {
                    let held = |state| {
                        of_it()
                            .filter(|key| key.owner.as_str() == owner && key.state == state)
                            .count()
                    };
                    prop_assert!(held(KeyState::Active) <= 1, "{} has two active keys", owner);
                    prop_assert!(held(KeyState::Retiring) <= 1, "{} has two retiring", owner);
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn revoked(told: Option<&gatekey::Revoked>) -> Option<Revoked> {
    told.map(|told| Revoked {
        at: ms(told.at),
        reason: told.reason,
        note: told.note.clone(),
        by: told.by.clone(),
    })
}
fn name_of(invalid: &Invalid) -> &'static str {
    match invalid {
        Invalid::Malformed(_) => "Malformed",
        Invalid::TooMany { .. } => "TooMany",
        Invalid::Duplicate { .. } => "Duplicate",
        Invalid::UnknownPermission { .. } => "UnknownPermission",
        Invalid::RetiredPermission { .. } => "RetiredPermission",
        Invalid::UnknownBits { .. } => "UnknownBits",
        Invalid::ExpiryInPast { .. } => "ExpiryInPast",
        Invalid::NotBeforeAfterExpiry { .. } => "NotBeforeAfterExpiry",
        Invalid::LifetimeTooLong { .. } => "LifetimeTooLong",
        Invalid::UnknownPlan { .. } => "UnknownPlan",
        Invalid::TimeOutOfRange(_) => "TimeOutOfRange",
        _ => "another",
    }
}
fn name_of_refusal(refusal: &Conflict) -> &'static str {
    match refusal {
        Conflict::PrefixTaken(_) => "refused: prefix taken",
        Conflict::Revoked { .. } => "refused: revoked",
        Conflict::Expired { .. } => "refused: expired",
        Conflict::Disabled(_) => "refused: disabled",
        Conflict::AlreadyRotated { .. } => "refused: already rotated",
        Conflict::OwnerHasKey { .. } => "refused: owner has key",
        Conflict::OwnerAtCap { .. } => "refused: owner at cap",
        Conflict::OwnerHoldsSeveral { .. } => "refused: owner holds several",
        _ => "refused: another",
    }
}

fn name_of_event(event: &AuditEvent) -> &'static str {
    match event {
        AuditEvent::KeyspaceCreated { .. } => "keyspace created",
        AuditEvent::KeyspaceUpdated { .. } => "keyspace updated",
        AuditEvent::KeyIssued { .. } => "issued",
        AuditEvent::KeyRotated { .. } => "rotated",
        AuditEvent::KeyRevoked { .. } => "revoked",
        AuditEvent::KeysRevoked { .. } => "many revoked",
        AuditEvent::KeysRevokedUnnamed { .. } => "many revoked, unnamed",
        AuditEvent::KeyUpdated { .. } => "updated",
        AuditEvent::KeyDisabled { .. } => "disabled",
        AuditEvent::KeyEnabled { .. } => "enabled",
        AuditEvent::OwnerSuspended { .. } => "suspended",
        AuditEvent::OwnerResumed { .. } => "resumed",
        AuditEvent::KeysPurged { .. } => "purged",
        AuditEvent::DigestsRenewed { .. } => "digests renewed",
        _ => "another",
    }
}
