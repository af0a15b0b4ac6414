//! Plans of a keyspace, and what owners of a level have by default.

use std::collections::BTreeMap;

use gatekey::{Keyspace, LevelDefaults, OwnerPath, Plan, bounds};
use gatekey_admin::Right;
use gatekey_admin::wire::KeyspaceChanges;

use super::rules::{again, change, keyspace, mark, reaching, typed, typing};
use super::{Ask, given, key};
use crate::fields::{Fields, query};
use crate::format;
use crate::reply::{Fault, Page, Reply, see};
use crate::view::{Blocks, Choice, Field, Form, Kind, Lead};

/// The plan that an address or a form names; none for a new one.
fn plan_in<'a>(fields: &Fields, of: &'a Keyspace) -> Result<Option<&'a Plan>, Fault> {
    match fields.one("plan")? {
        None => Ok(None),
        Some(name) => {
            let plan = of.plans.iter().find(|plan| plan.name == name);
            plan.map(Some).ok_or(Fault::NotFound)
        }
    }
}

fn planning(call: &Ask, of: &Keyspace, now: Option<&Plan>) -> Form {
    let at = call.at(&format!("/keyspaces/{}", of.prefix));
    let mut form = Form::post(format!("{at}/plan"), call.t("form.save"))
        .hidden("seen", mark(of))
        .cancel(at, call.t("form.cancel"));
    form = match now {
        Some(plan) => form.hidden("plan", plan.name.as_str()),
        None => form.field(
            Field::new(Kind::Text, "name", call.t("key.name"))
                .hint(call.t("plan.name_hint"))
                .value(given::sent(call, "name", ""))
                .required()
                .max(bounds::NAME_LEN_MAX),
        ),
    };
    let (shared, replaces) = now.map_or((false, false), |plan| {
        (plan.shared_by_owner, plan.replaces_levels_above)
    });
    let rule = |value: &str, now: bool| {
        let text = call.t(&format!("plan.{value}"));
        Choice::new(value, text).chosen(given::ticked(call, "rule", value, now))
    };
    for field in given::limits(call, now.map_or(&[], |plan| plan.limits.as_slice())) {
        form = form.field(field);
    }
    form = form.field(
        Field::new(Kind::Checks, "rule", call.t("plan.counting"))
            .choices(vec![rule("shared", shared), rule("replaces", replaces)]),
    );
    match now {
        Some(plan) => form.field(typing(call, &plan.name)),
        None => form,
    }
}

fn plan_title(call: &Ask, of: &Keyspace, now: Option<&Plan>) -> String {
    match now {
        Some(plan) => call.with("plan.edit", &[&plan.name, &of.prefix]),
        None => call.with("plan.new", &[&of.prefix]),
    }
}

fn plan_lead(call: &Ask, of: &Keyspace, now: Option<&Plan>) -> Result<Lead, Fault> {
    match now {
        Some(_) => reaching(call, of.prefix, "plan.reaches"),
        None => Ok(Lead {
            text: call.t("plan.lead"),
        }),
    }
}

pub(super) fn plan_form(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Administer)?;
    let of = keyspace(call)?;
    let now = plan_in(&call.query, &of)?;
    let blocks = Blocks::new()
        .with(&plan_lead(call, &of, now)?)
        .with(&planning(call, &of, now));
    Ok(Page::new(plan_title(call, &of, now), blocks).into())
}

pub(super) fn plan(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Administer)?;
    let of = keyspace(call)?;
    let now = plan_in(&call.form, &of)?;
    let confirmed = match now {
        Some(plan) => typed(call, &plan.name),
        None => Ok(()),
    };
    let done = confirmed.and_then(|()| {
        change(call, |of| {
            let name = match plan_in(&call.form, of)? {
                Some(plan) => plan.name.as_str(),
                None => call.form.one("name")?.unwrap_or_default().trim(),
            };
            // A new one does not take the place of one that is there.
            if now.is_none() && of.plans.iter().any(|plan| plan.name == name) {
                return Err(given::refuse(call, "plan.taken", "key.name"));
            }
            let mut plan = Plan::new(name);
            plan.limits = given::limits_in(call)?;
            plan.shared_by_owner = call.form.has("rule", "shared");
            plan.replaces_levels_above = call.form.has("rule", "replaces");
            Ok(KeyspaceChanges {
                plans: vec![plan],
                ..KeyspaceChanges::default()
            })
        })
    });
    match done {
        Ok(()) => see(format!("/keyspaces/{}?done=saved", of.prefix)),
        Err(fault) if fault.is_for_the_form() => Ok(again(
            plan_title(call, &of, now),
            Blocks::new().with(&plan_lead(call, &of, now)?),
            planning(call, &of, now),
            call,
            &fault,
        )),
        Err(fault) => Err(fault),
    }
}

fn depth_in(fields: &Fields) -> Result<usize, Fault> {
    let depth = fields.must("depth")?.parse().map_err(|_| Fault::NotFound)?;
    match (1..=OwnerPath::DEPTH_MAX).contains(&depth) {
        true => Ok(depth),
        false => Err(Fault::NotFound),
    }
}

/// A path of so many segments, to show what a level is.
pub(super) fn example(call: &Ask, depth: usize) -> String {
    format::first_segments(&call.t("level.example"), depth).to_owned()
}

fn titled(call: &Ask, of: &Keyspace, depth: usize) -> String {
    call.with("level.edit", &[&depth, &example(call, depth), &of.prefix])
}

fn levelling(call: &Ask, of: &Keyspace, depth: usize) -> Form {
    let at = call.at(&format!("/keyspaces/{}", of.prefix));
    let now = of.owner_defaults.get(&depth).cloned().unwrap_or_default();
    let none = std::iter::once(Choice::new("", call.t("key.no_plan")));
    let plans = of.plans.iter();
    let plans = plans.map(|plan| Choice::new(&plan.name, key::plan_text(call, plan)));
    let plan = given::sent(call, "plan", now.plan.unwrap_or_default());
    let plans = none.chain(plans).collect();
    Form::post(format!("{at}/level"), call.t("form.save"))
        .hidden("seen", mark(of))
        .hidden("depth", depth.to_string())
        .field(given::select("plan", call.t("key.plan"), plans, &plan))
        .field(given::quota(call, now.quota))
        .field(given::cap(call, now.cap).hint(call.t("level.cap_hint")))
        .field(typing(call, of.prefix.as_str()))
        .cancel(at, call.t("form.cancel"))
}

pub(super) fn level_form(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Administer)?;
    let of = keyspace(call)?;
    let title = call.with("level.choose", &[&of.prefix]);
    let Some(_) = call.query.one("depth")? else {
        let choices = (1..=OwnerPath::DEPTH_MAX).map(|depth| {
            let text = call.with("keyspaces.level", &[&depth, &example(call, depth)]);
            Choice::new(depth.to_string(), text)
        });
        let at = call.at(&format!("/keyspaces/{}/level", of.prefix));
        let field = given::select("depth", call.t("level.depth"), choices.collect(), "1");
        let form = Form::get(at, call.t("new.next")).field(field.hint(call.t("level.depth_hint")));
        return Ok(Page::new(title, Blocks::new().with(&form)).into());
    };
    let depth = depth_in(&call.query)?;
    let blocks = Blocks::new()
        .with(&reaching(call, of.prefix, "level.reaches")?)
        .with(&levelling(call, &of, depth));
    Ok(Page::new(titled(call, &of, depth), blocks).into())
}

pub(super) fn level(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Administer)?;
    let of = keyspace(call)?;
    let depth = depth_in(&call.form)?;
    let done = typed(call, of.prefix.as_str()).and_then(|()| {
        change(call, |_| {
            let mut defaults = LevelDefaults::new();
            if let Some(plan) = call.form.one("plan")? {
                defaults = defaults.plan(plan);
            }
            if let Some(quota) = given::quota_in(call)? {
                defaults = defaults.quota(quota);
            }
            if let Some(cap) = given::number(call, "cap", "owner.cap")? {
                defaults = defaults.cap(cap);
            }
            let is_nothing = defaults == LevelDefaults::new();
            let defaults = (!is_nothing).then_some(defaults);
            Ok(KeyspaceChanges {
                owner_defaults: BTreeMap::from([(depth.to_string(), defaults)]),
                ..KeyspaceChanges::default()
            })
        })
    });
    match done {
        Ok(()) => see(format!("/keyspaces/{}?done=saved", of.prefix)),
        Err(fault) if fault.is_for_the_form() => Ok(again(
            titled(call, &of, depth),
            Blocks::new().with(&reaching(call, of.prefix, "level.reaches")?),
            levelling(call, &of, depth),
            call,
            &fault,
        )),
        Err(fault) => Err(fault),
    }
}

/// The address of the form of a plan.
pub(super) fn plan_at(call: &Ask, of: &Keyspace, plan: &str) -> String {
    let query = query([("plan", plan)]);
    call.at(&format!("/keyspaces/{}/plan{query}", of.prefix))
}

/// The address of the form of a level.
pub(super) fn level_at(call: &Ask, of: &Keyspace, depth: usize) -> String {
    let depth = depth.to_string();
    let query = query([("depth", depth.as_str())]);
    call.at(&format!("/keyspaces/{}/level{query}", of.prefix))
}
