//! The small numbers of a step, in the words of the public interface.

use std::collections::BTreeMap;
use std::time::Duration;

use gatekey::{
    Expiry, KeyUpdate, KeysPerOwner, KeyspaceUpdate, Network, NewKey, NewKeyspace, Permissions,
    Plan, Prefix, Quota, Refill, Timestamp,
};

use super::limits::Limit;
use super::op::{
    Edit, Forgery, Life, NAMES, NETWORKS, NameEdit, NewSpace, OWNERS, PLANS, PREFIXES, Period,
    Policy, QuotaSpec, Rights, RightsEdit, SpaceEdit, Spec, TOO_LONG, Ticks,
};
use super::plain::{TICK, names_in};
use crate::common;

/// Two minutes before the first midnight of February, so that quotas are refilled.
pub(crate) const START_MS: u64 = common::START_MS + 31 * 86_400_000 - 120_000;

pub(crate) fn ts(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(START_MS.checked_add_signed(ms).unwrap()).unwrap()
}

pub(crate) fn ms(instant: Timestamp) -> i64 {
    instant.unix_ms().wrapping_sub(START_MS).cast_signed()
}

pub(crate) fn prefix(at: u8) -> Prefix {
    PREFIXES[usize::from(at)].parse().unwrap()
}

pub(crate) fn policy(policy: Policy) -> KeysPerOwner {
    match policy {
        Policy::Superseding => KeysPerOwner::SingleSuperseding,
        Policy::Refusing => KeysPerOwner::SingleRefusing,
        Policy::Many => KeysPerOwner::Many { cap: None },
        Policy::Cap(cap) => KeysPerOwner::Many {
            cap: Some(cap.into()),
        },
    }
}
pub(crate) fn path(owner: u8) -> &'static str {
    OWNERS[usize::from(owner)]
}

pub(crate) fn duration(ticks: Ticks) -> Duration {
    length(i64::from(ticks) * TICK)
}

pub(crate) fn length(ms: i64) -> Duration {
    Duration::from_millis(ms.cast_unsigned())
}

pub(crate) fn name(text: u8) -> Option<String> {
    match text {
        0 => None,
        TOO_LONG => Some("x".repeat(gatekey::bounds::NAME_LEN_MAX + 1)),
        _ => Some(format!("name {text}")),
    }
}

pub(crate) fn networks(at: u8) -> Vec<Network> {
    let texts = NETWORKS[usize::from(at)].iter();
    texts.map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn names(mask: u8) -> impl Iterator<Item = &'static str> {
    names_in(mask).map(|name| NAMES[usize::from(name)])
}

pub(crate) fn expiry(life: Life, now: i64) -> Expiry {
    match life {
        Life::Default => Expiry::Default,
        Life::Never => Expiry::Never,
        Life::At(ticks) => Expiry::At(ts(now + i64::from(ticks) * TICK)),
        Life::After(ticks) => Expiry::After(duration(ticks)),
    }
}

/// What a keyspace begins with: of [`PLANS`], the first two.
pub(crate) fn plans() -> BTreeMap<u8, Vec<Limit>> {
    BTreeMap::from([(0, limits(0, 4)), (1, limits(1, 3))])
}

/// The limits of a plan that is for so many requests; of 0, there is no limit.
pub(crate) fn limits(plan: u8, requests: u32) -> Vec<Limit> {
    match (plan, requests) {
        (_, 0) => vec![],
        (0, _) => vec![(requests, 60_000), (2, 20_000), (requests * 2, 40_000)],
        _ => vec![(requests, 40_000)],
    }
}

/// Whether the keys of an owner that follow a plan are counted together.
pub(crate) fn is_shared(plan: u8) -> bool {
    plan == 1
}

pub(crate) fn limit(of: Limit) -> gatekey::Limit {
    gatekey::Limit::new(of.0, length(of.1)).unwrap()
}

pub(crate) fn plan(at: u8, limits: &[Limit]) -> Plan {
    let plan = limits.iter().copied().map(limit);
    let plan = plan.fold(Plan::new(plan_name(at)), Plan::limit);
    match is_shared(at) {
        false => plan,
        true => plan.shared_by_owner(),
    }
}

pub(crate) fn plan_name(plan: u8) -> &'static str {
    PLANS[usize::from(plan)]
}

pub(crate) fn quota(of: QuotaSpec) -> Quota {
    let quota = Quota::new(of.requests.into());
    match of.refill {
        Some(Period::Day) => quota.refilled(Refill::Daily),
        Some(Period::Month) => quota.refilled(Refill::Monthly),
        None => quota,
    }
}

pub(crate) fn new_keyspace(at: u8, asked: &NewSpace) -> NewKeyspace {
    let mut new = NewKeyspace::new(PREFIXES[usize::from(at)])
        .unwrap()
        .permissions(NAMES.into_iter().take(3))
        .keys_per_owner(policy(asked.policy));
    for (at, limits) in plans() {
        new = new.plan(plan(at, &limits));
    }
    if let Some(ticks) = asked.default {
        new = new.default_lifetime(duration(ticks));
    }
    if let Some(ticks) = asked.max {
        new = new.max_lifetime(duration(ticks));
    }
    new
}

pub(crate) fn keyspace_update(edit: &SpaceEdit) -> KeyspaceUpdate {
    let mut update = KeyspaceUpdate::new();
    if let Some(new) = edit.policy {
        update = update.keys_per_owner(policy(new));
    }
    match edit.name {
        Some(NameEdit::Append(name)) => {
            update = update.add_permissions([NAMES[usize::from(name)]]);
        }
        Some(NameEdit::Retire(name)) => {
            update = update.retire_permissions([NAMES[usize::from(name)]]);
        }
        None => {}
    }
    if let Some(default) = edit.default {
        update = update.default_lifetime(default.map(duration));
    }
    if let Some(max) = edit.max {
        update = update.max_lifetime(max.map(duration));
    }
    if let Some((at, requests)) = edit.plan {
        update = update.plan(plan(at, &limits(at, requests)));
    }
    if let Some(plan) = edit.default_plan {
        update = update.default_plan(plan.map(plan_name));
    }
    update
}

pub(crate) fn new_key(spec: &Spec, now: i64) -> NewKey {
    let mut new = NewKey::new(prefix(spec.keyspace), path(spec.owner))
        .unwrap()
        .expiry(expiry(spec.expiry, now))
        .allow_networks(networks(spec.network));
    new = match spec.rights {
        Rights::Names(mask) => new.permissions(names(mask)),
        Rights::Mask(mask) => new.permission_mask(Permissions::from_bits(mask.into())),
    };
    if let Some(ticks) = spec.not_before {
        new = new.not_before(ts(now + i64::from(ticks) * TICK));
    }
    if let Some(name) = name(spec.text) {
        new = new.name(name).label("text", spec.text.to_string());
    }
    if let Some(plan) = spec.plan {
        new = new.plan(plan_name(plan));
    }
    if let Some(of) = spec.quota {
        new = new.quota(quota(of));
    }
    new
}

pub(crate) fn key_update(edit: &Edit, now: i64) -> KeyUpdate {
    let mut update = KeyUpdate::new();
    if let Some(text) = edit.text {
        update = update.name(name(text).as_deref());
        update = match text {
            0 => update.remove_label("text"),
            _ => update.label("text", text.to_string()),
        };
    }
    update = match edit.rights {
        Some(RightsEdit::Replace(Rights::Names(mask))) => update.set_permissions(names(mask)),
        Some(RightsEdit::Replace(Rights::Mask(mask))) => {
            update.set_permission_mask(Permissions::from_bits(mask.into()))
        }
        Some(RightsEdit::Add(mask)) => update.add_permissions(names(mask)),
        Some(RightsEdit::Withdraw(mask)) => update.remove_permissions(names(mask)),
        None => update,
    };
    if let Some(life) = edit.expiry {
        update = update.expiry(expiry(life, now));
    }
    if let Some(at) = edit.network {
        update = update.networks(networks(at));
    }
    if let Some(plan) = edit.plan {
        update = update.plan(plan.map(plan_name));
    }
    if let Some(of) = edit.quota {
        update = update.quota(of.map(quota));
    }
    update
}
/// A token with one part changed, and a right check but for that of the check.
pub(crate) fn forge(token: &str, forgery: Forgery) -> String {
    let other = |digit: char| if digit == '7' { "8" } else { "7" };
    let changed = |at: usize| {
        let digit = token.chars().nth(at).unwrap();
        [&token[..at], other(digit), &token[at + 1..]].concat()
    };
    let forged = match forgery {
        Forgery::Check => return changed(token.len() - 1),
        Forgery::Secret => changed(token.len() - 20),
        Forgery::Id => changed(token.len() - 52),
        Forgery::Prefix => {
            let (prefix, rest) = token.split_at(token.len() - 61);
            let other = if prefix == "k" { "k_x" } else { "k" };
            [other, rest].concat()
        }
    };
    gatekey_testkit::forge::resealed(&forged, |_| {})
}
