//! Keyspaces, their plans and rules.

use gatekey::Keyspace;
use gatekey_admin::Right;

use super::{Ask, given, plans, rules};
use crate::chart;
use crate::fields::query;
use crate::format;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Actions, Blocks, Cell, Facts, Link, Row, Table};

pub(super) fn list(call: &Ask) -> Result<Reply, Fault> {
    let mut blocks = Blocks::new();
    if call.who.may(Right::Administer) {
        blocks.push(&Actions {
            label: call.t("nav.actions"),
            links: vec![
                Link::new(call.at("/keyspaces/new"), call.t("rules.create")).class("primary"),
            ],
        });
    }
    blocks.push(&table(call)?);
    Ok(Page::new(call.t("nav.keyspaces"), blocks).into())
}

/// All keyspaces, with how many keys of each state they have.
pub(super) fn table(call: &Ask) -> Result<Table, Fault> {
    let stats = call.engine().stats()?;
    let row = |keyspace: &Keyspace| -> Row {
        let counts = stats
            .keyspaces
            .get(&keyspace.prefix)
            .copied()
            .unwrap_or_default();
        let number = |value: u64| Cell::Number(format::number(value));
        vec![
            Cell::Entry {
                href: call.at(&format!("/keyspaces/{}", keyspace.prefix)),
                text: keyspace.prefix.to_string(),
                below: keyspace.description.clone(),
            },
            number(counts.total()),
            number(counts.active),
            number(counts.retiring),
            number(counts.disabled),
            number(counts.suspended),
            number(counts.over_by_expiry),
            number(counts.revoked),
        ]
        .into()
    };
    Ok(Table {
        caption: call.t("keyspaces.caption"),
        columns: [
            "key.keyspace",
            "keyspaces.keys",
            "state.active",
            "state.retiring",
            "state.disabled",
            "state.suspended",
            "state.expired",
            "state.revoked",
        ]
        .map(|name| call.t(name))
        .to_vec(),
        rows: call.engine().keyspaces()?.iter().map(row).collect(),
        empty: call.t("keyspaces.empty"),
        ..Table::default()
    })
}

pub(super) fn show(call: &Ask) -> Result<Reply, Fault> {
    let keyspace = rules::keyspace(call)?;
    let prefix = keyspace.prefix;
    let may_administer = call.who.may(Right::Administer);
    let texts = &call.site.look.texts;
    let span = |time: Option<std::time::Duration>| {
        Cell::Text(time.map_or_else(|| call.t("keyspaces.any"), |time| format::span(texts, time)))
    };
    let names = keyspace.permissions.iter().map(|of| match of.retired {
        true => call.with("keyspaces.retired", &[&of.name]),
        false => of.name.clone(),
    });
    let per_owner = match keyspace.keys_per_owner {
        gatekey::KeysPerOwner::SingleSuperseding => call.t("keyspaces.single"),
        gatekey::KeysPerOwner::SingleRefusing => call.t("keyspaces.refusing"),
        gatekey::KeysPerOwner::Many { cap: Some(cap) } => call.with("keyspaces.cap", &[&cap]),
        _ => call.t("keyspaces.any"),
    };
    let mut rows = vec![
        (call.t("key.permissions"), Cell::Chips(names.collect())),
        (call.t("keyspaces.per_owner"), Cell::Text(per_owner)),
        (
            call.t("keyspaces.default_life"),
            span(keyspace.default_lifetime),
        ),
        (call.t("keyspaces.max_life"), span(keyspace.max_lifetime)),
        (call.t("keyspaces.max_grace"), span(keyspace.max_grace)),
        (
            call.t("keyspaces.default_plan"),
            Cell::Text(
                keyspace
                    .default_plan
                    .clone()
                    .unwrap_or_else(|| call.t("key.no_plan")),
            ),
        ),
    ];
    for (depth, of) in &keyspace.owner_defaults {
        let quota = of.quota.map_or_else(
            || call.t("key.no_quota"),
            |quota| given::quota_text(call, quota),
        );
        let plan = of.plan.clone().unwrap_or_else(|| call.t("key.no_plan"));
        let cap = of
            .cap
            .map_or_else(|| call.t("keyspaces.any"), |cap| cap.to_string());
        let text = call.with("keyspaces.level_text", &[&plan, &quota, &cap]);
        let cell = match may_administer {
            true => Cell::Link {
                href: plans::level_at(call, &keyspace, *depth),
                text,
            },
            false => Cell::Text(text),
        };
        let example = plans::example(call, *depth);
        rows.push((call.with("keyspaces.level", &[depth, &example]), cell));
    }
    let plans = keyspace.plans.iter().map(|plan| -> Row {
        let limits = plan.limits.iter();
        let mut limits: Vec<String> = limits.map(|of| format::one_limit(texts, *of)).collect();
        for (is_so, text) in [
            (limits.is_empty(), "plan.no_limit"),
            (plan.shared_by_owner, "plan.shared"),
            (plan.replaces_levels_above, "plan.replaces"),
        ] {
            if is_so {
                limits.push(call.t(text));
            }
        }
        let text = plan.name.clone();
        let name = match may_administer {
            true => Cell::Link {
                href: plans::plan_at(call, &keyspace, &plan.name),
                text,
            },
            false => Cell::Text(text),
        };
        vec![name, Cell::Chips(limits)].into()
    });
    let plans = Table {
        caption: call.t("keyspaces.plans"),
        columns: vec![call.t("key.plan"), call.t("keyspaces.limits")],
        rows: plans.collect(),
        empty: call.t("keyspaces.no_plans"),
        ..Table::default()
    };
    let now = call.engine().now();
    let _ = call.engine().flush();
    let since = chart::since_days(now);
    let used = call.engine().usage_of_keyspace(Some(prefix), since, now)?;
    let mut blocks = Blocks::new();
    if let Some(done) = call.done() {
        blocks.push(&done);
    }
    blocks.push(&Actions {
        label: call.t("nav.actions"),
        links: links(call, &keyspace),
    });
    blocks.push(&Facts {
        heading: keyspace.description.clone(),
        rows,
    });
    blocks.push(&plans);
    blocks.push(&chart::of_days(texts, "usage", used, now));
    Ok(Page::new(prefix.to_string(), blocks).into())
}

fn links(call: &Ask, keyspace: &Keyspace) -> Vec<Link> {
    let prefix = keyspace.prefix;
    let all = call.at(&format!("/keys{}", query([("keyspace", prefix.as_str())])));
    let mut links = vec![Link::new(all, call.t("owner.keys"))];
    let at = |page: &str| call.at(&format!("/keyspaces/{prefix}/{page}"));
    if call.who.may(Right::Administer) {
        links.push(Link::new(at("edit"), call.t("rules.edit_link")));
        links.push(Link::new(at("plan"), call.t("plan.add")));
        links.push(Link::new(at("level"), call.t("level.link")));
        if keyspace.permissions.iter().any(|of| !of.retired) {
            links.push(Link::new(at("retire"), call.t("retire.link")));
        }
    }
    if call.who.may(Right::Revoke) {
        links.push(Link::new(at("revoke"), call.t("owner.revoke")));
    }
    links
}
