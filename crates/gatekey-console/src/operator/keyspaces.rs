//! Keyspaces, their plans and rules.

use gatekey::{Keyspace, Prefix};

use super::Ask;
use crate::fields::query;
use crate::format;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Actions, Blocks, Cell, Facts, Link, Row, Table};

pub(super) fn list(call: &Ask) -> Result<Reply, Fault> {
    let blocks = Blocks::new().with(&table(call)?);
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
    let prefix: Prefix = call.segment.parse().map_err(|_| Fault::NotFound)?;
    let keyspace = call.engine().keyspace(prefix)?;
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
            || call.t("key.no_plan"),
            |quota| format::number(quota.requests()),
        );
        let plan = of.plan.clone().unwrap_or_else(|| call.t("key.no_plan"));
        let cap = of
            .cap
            .map_or_else(|| call.t("keyspaces.any"), |cap| cap.to_string());
        let text = call.with("keyspaces.level_text", &[&plan, &quota, &cap]);
        rows.push((call.with("keyspaces.level", &[depth]), Cell::Text(text)));
    }
    let plans = keyspace.plans.iter().map(|plan| -> Row {
        let limits = plan.limits.iter().map(|limit| {
            let window = format::span(texts, limit.window());
            call.with(
                "keyspaces.limit",
                &[&format::number(u64::from(limit.requests())), &window],
            )
        });
        vec![Cell::Text(plan.name.clone()), Cell::Chips(limits.collect())].into()
    });
    let plans = Table {
        caption: call.t("keyspaces.plans"),
        columns: vec![call.t("key.plan"), call.t("keyspaces.limits")],
        rows: plans.collect(),
        empty: call.t("keyspaces.no_plans"),
        ..Table::default()
    };
    let all = call.at(&format!("/keys{}", query([("keyspace", prefix.as_str())])));
    let blocks = Blocks::new()
        .with(&Actions {
            label: call.t("nav.actions"),
            links: vec![Link::new(all, call.t("owner.keys"))],
        })
        .with(&Facts {
            heading: keyspace.description.clone(),
            rows,
        })
        .with(&plans);
    Ok(Page::new(prefix.to_string(), blocks).into())
}
