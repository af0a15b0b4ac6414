//! The model's verbs, each in two halves: the faults for which it may be
//! refused, and what it does where there are none.

use std::collections::BTreeMap;

use gatekey::{AuditEvent, Conflict, KeyId, NotFound, Reason};

use super::limits::Quota;
use super::op::{
    Edit, NETWORKS, NameEdit, NewSpace, OWNERS, Policy, Rights, RightsEdit, SpaceEdit, Spec,
    TOO_LONG, Ticks, each_of,
};
use super::plain::{Key, Model, Revoked, Space, TICK, Why, is_single, names_in, whys_of_order};
use super::text::{limits, plans, prefix, ts};

impl Model {
    // Keyspaces

    pub(crate) fn whys_of_create(&self, at: u8, new: &NewSpace) -> Vec<Why> {
        let mut whys = whys_of_lifetimes(new.default, new.max);
        if self.spaces.contains_key(&at) {
            whys.push(Why::Refused(Conflict::PrefixTaken(prefix(at))));
        }
        whys
    }

    pub(crate) fn create(&mut self, at: u8, new: &NewSpace) {
        let space = Space {
            names: (0..3).map(|name| (name, false)).collect(),
            policy: new.policy,
            default: new.default.map(|ticks| i64::from(ticks) * TICK),
            max: new.max.map(|ticks| i64::from(ticks) * TICK),
            plans: plans(),
            default_plan: None,
            created_at: self.now(),
            updated_at: self.now(),
        };
        self.spaces.insert(at, space);
        self.wrote("keyspace created", []);
    }

    pub(crate) fn whys_of_space_update(&self, at: u8, edit: &SpaceEdit) -> Vec<Why> {
        let Some(space) = self.spaces.get(&at) else {
            return vec![no_keyspace(at)];
        };
        let ticks = |ms: Option<i64>| ms.map(|ms| Ticks::try_from(ms / TICK).unwrap());
        let mut whys = whys_of_lifetimes(
            edit.default.unwrap_or(ticks(space.default)),
            edit.max.unwrap_or(ticks(space.max)),
        );
        match edit.name {
            Some(NameEdit::Append(name)) if space.names.iter().any(|known| known.0 == name) => {
                whys.push(Why::Invalid("Duplicate"));
            }
            Some(NameEdit::Retire(name)) => whys.extend(space.whys_of_name(name)),
            Some(NameEdit::Append(_)) | None => {}
        }
        // A plan that the same change adds can be the default.
        let added = edit.plan.map(|(plan, _)| plan);
        let default = edit
            .default_plan
            .flatten()
            .filter(|plan| Some(*plan) != added);
        whys.extend(space.whys_of_plan(default));
        match edit.policy {
            Some(Policy::Cap(0)) => whys.push(Why::Invalid("Malformed")),
            Some(new) if is_single(new) && !is_single(space.policy) => {
                whys.extend(self.crowded(at).map(|owner| {
                    Why::Refused(Conflict::OwnerHoldsSeveral {
                        keyspace: prefix(at),
                        owner: OWNERS[usize::from(owner)].parse().unwrap(),
                    })
                }));
            }
            _ => {}
        }
        whys
    }

    /// The owners that hold what a single-active keyspace does not let them.
    pub(crate) fn crowded(&self, keyspace: u8) -> impl Iterator<Item = u8> {
        let now = self.now();
        each_of(&OWNERS).filter(move |owner| {
            let held = || self.held_by(*owner, keyspace).map(|(_, key)| key);
            held().filter(|key| key.is_current(now)).count() > 1
                || held().filter(|key| key.is_retiring(now)).count() > 1
        })
    }

    fn held_by(&self, owner: u8, keyspace: u8) -> impl Iterator<Item = (KeyId, &Key)> {
        let keys = self.keys.iter().map(|(id, key)| (*id, key));
        keys.filter(move |(_, key)| key.owner == owner && key.keyspace == keyspace)
    }

    pub(crate) fn update_space(&mut self, at: u8, edit: &SpaceEdit) {
        let now = self.now();
        let space = self.spaces.get_mut(&at).unwrap();
        let old = space.clone();
        match edit.name {
            Some(NameEdit::Append(name)) => space.names.push((name, false)),
            Some(NameEdit::Retire(name)) => {
                let known = space.names.iter_mut().find(|known| known.0 == name);
                known.unwrap().1 = true;
            }
            None => {}
        }
        space.policy = edit.policy.unwrap_or(space.policy);
        if let Some(default) = edit.default {
            space.default = default.map(|ticks| i64::from(ticks) * TICK);
        }
        if let Some(max) = edit.max {
            space.max = max.map(|ticks| i64::from(ticks) * TICK);
        }
        if let Some((at, requests)) = edit.plan {
            space.plans.insert(at, limits(at, requests));
        }
        space.default_plan = edit.default_plan.unwrap_or(space.default_plan);
        if *space != old {
            space.updated_at = now;
            self.wrote("keyspace updated", []);
        }
    }

    // Issuing

    /// The first item of a batch that is not acceptable, and its faults.
    pub(crate) fn whys_of_issue(&self, specs: &[Spec]) -> Option<(usize, Vec<Why>)> {
        let faults = (0..specs.len()).map(|at| (at, self.whys_of_item(&specs[..=at])));
        faults.into_iter().find(|(_, whys)| !whys.is_empty())
    }

    /// The faults of the last of some items; those before it are good.
    fn whys_of_item(&self, items: &[Spec]) -> Vec<Why> {
        let (spec, before) = items.split_last().unwrap();
        let now = self.now();
        let mut whys = whys_of_looks(Some(spec.text), Some(spec.network));
        let Some(space) = self.spaces.get(&spec.keyspace) else {
            whys.push(no_keyspace(spec.keyspace));
            return whys;
        };
        whys.extend(space.whys_of_rights(spec.rights));
        whys.extend(space.whys_of_plan(spec.plan));
        let begin = spec.not_before.map(|ticks| now + i64::from(ticks) * TICK);
        whys.extend(space.whys_of_life(spec.expiry, now, begin, now));

        let planned = before
            .iter()
            .filter(|item| item.owner == spec.owner && item.keyspace == spec.keyspace)
            .count();
        if is_single(space.policy) && planned > 0 {
            whys.push(Why::Invalid("Duplicate"));
        }
        let held: Vec<KeyId> = self
            .held_by(spec.owner, spec.keyspace)
            .filter(|(_, key)| key.is_current(now))
            .map(|(id, _)| id)
            .collect();
        let owner = || OWNERS[usize::from(spec.owner)].parse().unwrap();
        match space.policy {
            Policy::Refusing => whys.extend(held.into_iter().map(|key| {
                Why::Refused(Conflict::OwnerHasKey {
                    owner: owner(),
                    key,
                })
            })),
            Policy::Cap(cap) => {
                let counted = self.counted(spec.owner, spec.keyspace);
                // It is counted no further than one above the cap.
                let held = counted.min(usize::from(cap) + 1) + planned;
                if held >= cap.into() {
                    whys.push(Why::Refused(Conflict::OwnerAtCap {
                        owner: owner(),
                        held: held as u64,
                        cap: cap.into(),
                    }));
                }
            }
            _ => {}
        }
        whys
    }

    /// How many keys count towards an owner's cap: of the keys of one line that are not
    /// over, two count as one.
    fn counted(&self, owner: u8, keyspace: u8) -> usize {
        let mut lines: BTreeMap<KeyId, usize> = BTreeMap::new();
        for (_, key) in self.held_by(owner, keyspace) {
            if !key.is_over(self.now()) {
                *lines.entry(key.lineage).or_default() += 1;
            }
        }
        lines.values().map(|keys| (keys - 1).max(1)).sum()
    }

    pub(crate) fn issue(&mut self, spec: &Spec, id: KeyId) {
        let now = self.now();
        let space = &self.spaces[&spec.keyspace];
        let superseded: Vec<KeyId> = match space.policy {
            Policy::Superseding => self
                .held_by(spec.owner, spec.keyspace)
                .filter(|(_, key)| !key.is_over(now))
                .map(|(id, _)| id)
                .collect(),
            _ => vec![],
        };
        let key = Key {
            keyspace: spec.keyspace,
            owner: spec.owner,
            permissions: space.resolve(spec.rights),
            text: spec.text,
            network: spec.network,
            not_before: spec.not_before.map(|ticks| now + i64::from(ticks) * TICK),
            expires_at: space.expiry(spec.expiry, now, now),
            grace_end: None,
            disabled: false,
            revoked: None,
            created_at: now,
            created_by: self.actor.clone(),
            predecessor: None,
            lineage: id,
            successor: None,
            last_used: None,
            uses: 0,
            pepper: self.pepper,
            plan: spec.plan.or(space.default_plan),
            quota: spec
                .quota
                .map(|spec| self.meters.new_quota(spec, self.clock)),
        };
        self.revoke_all(&superseded, Reason::Superseded, None);
        self.keys.insert(id, key);
        self.wrote("issued", superseded.into_iter().chain([id]));
    }

    fn revoke_all(&mut self, ids: &[KeyId], reason: Reason, note: Option<&str>) {
        let revoked = Revoked {
            at: self.now(),
            reason,
            note: note.map(str::to_owned),
            by: self.actor.clone(),
        };
        for id in ids {
            let key = self.keys.get_mut(id).unwrap();
            key.revoked = Some(revoked.clone());
            key.grace_end = None;
        }
    }

    // Changing

    /// The faults of any change to a key but its revocation: over is over.
    pub(crate) fn whys_of_change(&self, id: KeyId) -> Vec<Why> {
        let now = self.now();
        let Some(key) = self.keys.get(&id) else {
            return vec![Why::NotFound(NotFound::Key(id))];
        };
        if let Some(revoked) = key.revoked(now) {
            let at = ts(revoked.at);
            return vec![Why::Refused(Conflict::Revoked { key: id, at })];
        }
        if key.is_expired(now) {
            let expired_at = ts(key.expires_at.unwrap());
            return vec![Why::Refused(Conflict::Expired {
                key: id,
                expired_at,
            })];
        }
        vec![]
    }

    /// The faults of an edit, for a key that was or will be born at an instant.
    fn whys_of_edit(&self, id: KeyId, edit: &Edit, born: Option<i64>) -> Vec<Why> {
        let Some(key) = self.keys.get(&id) else {
            return vec![];
        };
        let space = &self.spaces[&key.keyspace];
        let mut whys = whys_of_looks(edit.text, edit.network);
        whys.extend(space.whys_of_plan(edit.plan.flatten()));
        match edit.rights {
            Some(RightsEdit::Replace(rights)) => whys.extend(space.whys_of_rights(rights)),
            Some(RightsEdit::Add(mask)) => {
                whys.extend(space.whys_of_rights(Rights::Names(mask)));
            }
            Some(RightsEdit::Withdraw(mask)) => {
                // A retired permission can be withdrawn.
                let whys_of_name = names_in(mask).filter_map(|name| space.whys_of_name(name));
                whys.extend(whys_of_name.filter(|why| *why == Why::Invalid("UnknownPermission")));
            }
            None => {}
        }
        if let Some(life) = edit.expiry {
            let born = born.unwrap_or(key.created_at);
            whys.extend(space.whys_of_life(life, born, key.not_before, self.now()));
        }
        whys
    }

    /// The key as an edit makes it, where it was or will be born at an instant.
    fn edited(&self, key: &Key, edit: &Edit, born: i64) -> Key {
        let mut key = key.clone();
        let space = &self.spaces[&key.keyspace];
        key.text = edit.text.unwrap_or(key.text);
        key.network = edit.network.unwrap_or(key.network);
        key.plan = edit.plan.unwrap_or(key.plan);
        match edit.rights {
            Some(RightsEdit::Replace(rights)) => key.permissions = space.resolve(rights),
            Some(RightsEdit::Add(mask)) => key.permissions |= space.resolve(Rights::Names(mask)),
            Some(RightsEdit::Withdraw(mask)) => {
                for (at, (name, _)) in space.names.iter().enumerate() {
                    if mask & (1 << name) != 0 {
                        key.permissions &= !(1 << at);
                    }
                }
            }
            None => {}
        }
        if let Some(life) = edit.expiry {
            key.expires_at = space.expiry(life, born, self.now());
        }
        key
    }

    pub(crate) fn whys_of_update(&self, id: KeyId, edit: &Edit) -> Vec<Why> {
        let mut whys = self.whys_of_change(id);
        whys.extend(self.whys_of_edit(id, edit, None));
        whys
    }

    pub(crate) fn update(&mut self, id: KeyId, edit: &Edit) {
        let old = &self.keys[&id];
        let mut new = self.edited(old, edit, old.created_at);
        let facts = |key: &Key| {
            let facts = (key.text, key.permissions, key.network, key.expires_at);
            (facts, key.plan, key.quota)
        };
        let old = facts(old);
        match (edit.quota, new.quota) {
            // Also of those that share it, and full where it is the same again.
            (Some(Some(spec)), Some(at)) => self.meters.quotas[at] = Quota::new(spec, self.clock),
            (Some(Some(spec)), None) => new.quota = Some(self.meters.new_quota(spec, self.clock)),
            (Some(None), _) => new.quota = None,
            (None, _) => {}
        }
        let is_refilled = matches!(edit.quota, Some(Some(_)));
        if old != facts(&new) || is_refilled {
            self.keys.insert(id, new);
            self.wrote("updated", [id]);
        }
    }

    pub(crate) fn whys_of_rotate(&self, id: KeyId, edit: &Edit) -> Vec<Why> {
        let mut whys = self.whys_of_change(id);
        let Some(key) = self.keys.get(&id) else {
            return whys;
        };
        // A maximum lifetime counts from the issue, which is now.
        whys.extend(self.whys_of_edit(id, edit, Some(self.now())));
        if edit.expiry.is_none() {
            whys.extend(whys_of_order(key.not_before, self.inherited_expiry(key)));
        }
        if key.disabled {
            whys.push(Why::Refused(Conflict::Disabled(id)));
        }
        if key.is_retiring(self.now()) {
            let successor = key.successor.unwrap();
            match self.keys.get(&successor) {
                Some(next) if !next.is_over(self.now()) => {
                    whys.push(Why::Refused(Conflict::AlreadyRotated {
                        key: id,
                        successor,
                    }));
                }
                // What it was rotated to is over: it is rotated again, where its owner
                // may hold one key more.
                _ => whys.extend(self.whys_of_room(key.owner, key.keyspace)),
            }
        }
        whys
    }

    /// Why an owner may hold no further key, which supersedes none.
    fn whys_of_room(&self, owner: u8, keyspace: u8) -> Option<Why> {
        let path = || OWNERS[usize::from(owner)].parse().unwrap();
        let now = self.now();
        let held: Vec<KeyId> = self
            .held_by(owner, keyspace)
            .filter(|(_, key)| key.is_current(now))
            .map(|(id, _)| id)
            .collect();
        match (self.spaces[&keyspace].policy, held.first()) {
            (Policy::Superseding | Policy::Refusing, Some(key)) => {
                Some(Why::Refused(Conflict::OwnerHasKey {
                    owner: path(),
                    key: *key,
                }))
            }
            _ => None,
        }
    }

    /// A maximum that the keyspace was given since holds for the new key.
    fn inherited_expiry(&self, old: &Key) -> Option<i64> {
        let max = self.spaces[&old.keyspace].max;
        let latest = max.map(|max| self.now() + max);
        [old.expires_at, latest].into_iter().flatten().min()
    }

    pub(crate) fn rotate(&mut self, id: KeyId, grace: Ticks, edit: &Edit, new_id: KeyId) {
        let now = self.now();
        let old = &self.keys[&id];
        let space = &self.spaces[&old.keyspace];
        let mut new = self.edited(old, edit, now);
        new.permissions &= space.active_bits();
        if edit.expiry.is_none() {
            new.expires_at = self.inherited_expiry(old);
        }
        new.created_at = now;
        new.created_by = self.actor.clone();
        new.predecessor = Some(id);
        new.successor = None;
        new.grace_end = None;
        new.last_used = None;
        new.uses = 0;
        new.pepper = self.pepper;

        // At most one predecessor retires; an older one is revoked.
        let ending: Vec<KeyId> = self
            .held_by(old.owner, old.keyspace)
            .filter(|(other, key)| {
                *other != id
                    && key.is_retiring(now)
                    && (is_single(space.policy) || old.predecessor == Some(*other))
            })
            .map(|(other, _)| other)
            .collect();
        let grace_end = now + i64::from(grace) * TICK;
        // A grace that runs already is not lengthened.
        let grace_end = old.end().map_or(grace_end, |end| end.min(grace_end));
        let replaced = old.successor;

        self.revoke_all(&ending, Reason::Superseded, None);
        if grace_end > now {
            self.keys.get_mut(&id).unwrap().grace_end = Some(grace_end);
        } else {
            self.revoke_all(&[id], Reason::Superseded, None);
        }
        self.keys.get_mut(&id).unwrap().successor = Some(new_id);
        if let Some(replaced) = replaced.and_then(|id| self.keys.get_mut(&id)) {
            replaced.successor = Some(new_id);
        }
        // They share a quota, unless the new key is given one of its own, or none.
        if let Some(own) = edit.quota {
            new.quota = own.map(|spec| self.meters.new_quota(spec, self.clock));
        }
        self.keys.insert(new_id, new);
        self.wrote("rotated", ending.into_iter().chain([id, new_id]));
    }

    pub(crate) fn switch(&mut self, id: KeyId, disabled: bool) {
        let key = self.keys.get_mut(&id).unwrap();
        if key.disabled != disabled {
            key.disabled = disabled;
            self.wrote(if disabled { "disabled" } else { "enabled" }, [id]);
        }
    }

    // Revoking and purging

    pub(crate) fn whys_of_revoke(&self, id: KeyId) -> Vec<Why> {
        match self.keys.contains_key(&id) {
            true => vec![],
            false => vec![Why::NotFound(NotFound::Key(id))],
        }
    }

    /// The same answer each time.
    pub(crate) fn revoke(&mut self, id: KeyId, reason: Reason, note: Option<&str>) -> Revoked {
        if self.keys[&id].revoked(self.now()).is_none() {
            self.revoke_all(&[id], reason, note);
            self.wrote("revoked", [id]);
        }
        self.keys[&id].revoked(self.now()).unwrap()
    }

    /// Revokes many, and says how many there are and how many are new.
    /// Of more than `at_once` in all, none is counted, and the trail names them later.
    pub(crate) fn revoke_many(
        &mut self,
        at_once: usize,
        reason: Reason,
        note: Option<&str>,
        is_meant: impl Fn(&Key) -> bool,
    ) -> (u64, u64) {
        let now = self.now();
        let meant = || self.keys.iter().filter(|(_, key)| is_meant(key));
        let all = meant().count() as u64;
        let newly: Vec<KeyId> = meant()
            .filter(|(_, key)| key.revoked(now).is_none())
            .map(|(id, _)| *id)
            .collect();
        if all > at_once as u64 {
            self.revoke_all(&newly, reason, note);
            self.wrote("many revoked, unnamed", []);
            self.unnamed.extend(newly);
            let more = AuditEvent::KEYS_COUNTED_MAX + 1;
            return (more, more);
        }
        if !newly.is_empty() {
            self.revoke_all(&newly, reason, note);
            self.wrote("many revoked", newly.iter().copied());
        }
        (all, newly.len() as u64)
    }

    /// Removes what has been over for longer than `age`.
    pub(crate) fn purge(&mut self, age: Ticks) -> u64 {
        let now = self.now();
        let is_old = |key: &Key| {
            let over_for = key.end().map_or(-1, |end| now - end);
            over_for > i64::from(age) * TICK
        };
        let old = self.keys.iter().filter(|(_, key)| is_old(key));
        let old: Vec<KeyId> = old.map(|(id, _)| *id).collect();
        if !old.is_empty() {
            self.keys.retain(|id, _| !old.contains(id));
            self.wrote("purged", old.iter().copied());
        }
        old.len() as u64
    }

    // Owners

    pub(crate) fn suspend(&mut self, owner: u8) {
        let path = OWNERS[usize::from(owner)];
        if !self.suspended.contains_key(path) {
            self.suspended
                .insert(path, (self.now(), self.actor.clone()));
            self.wrote("suspended", []);
        }
    }

    pub(crate) fn resume(&mut self, owner: u8) {
        if self.suspended.remove(OWNERS[usize::from(owner)]).is_some() {
            self.wrote("resumed", []);
        }
    }
}

fn no_keyspace(at: u8) -> Why {
    Why::NotFound(NotFound::Keyspace(prefix(at)))
}

fn whys_of_lifetimes(default: Option<Ticks>, max: Option<Ticks>) -> Vec<Why> {
    let mut whys = vec![];
    if default == Some(0) || max == Some(0) {
        whys.push(Why::Invalid("Malformed"));
    }
    if default.zip(max).is_some_and(|(default, max)| default > max) {
        whys.push(Why::Invalid("LifetimeTooLong"));
    }
    whys
}

fn whys_of_looks(text: Option<u8>, network: Option<u8>) -> Vec<Why> {
    let mut whys = vec![];
    if text == Some(TOO_LONG) {
        whys.push(Why::Invalid("Malformed"));
    }
    if network.is_some_and(|at| usize::from(at) == NETWORKS.len() - 1) {
        whys.push(Why::Invalid("Duplicate"));
    }
    whys
}
