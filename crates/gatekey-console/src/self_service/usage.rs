//! How the keys of a keyspace were used: by the day, by plan, by key.

use std::collections::BTreeMap;

use gatekey::{Key, Level, OutcomeCounts};

use super::Ask;
use super::list::{self, Asked};
use crate::chart;
use crate::desk::is_over;
use crate::format;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Actions, Blocks, Cell, Facts, Link, Note, Row, Table};

/// The most keys that the table names.
const ROWS_MAX: usize = 100;

pub(super) fn show(call: &Ask) -> Result<Reply, Fault> {
    let ceiling = match list::asked(call, "/usage", "usage.title")? {
        Asked::One(of) => of.0,
        Asked::Choice(page) => return Ok(page),
    };
    call.desk().write_usage();
    let (keys, more) = call.desk().list(ceiling.keyspace)?;
    let (texts, now) = (&call.site.look.texts, call.desk().now());
    let mut all = Vec::new();
    let mut by_plan: BTreeMap<Option<&str>, (u64, OutcomeCounts)> = BTreeMap::new();
    let mut by_key: Vec<(&Key, OutcomeCounts)> = Vec::new();
    for key in &keys {
        let days = call.desk().days(key)?;
        let mut sum = OutcomeCounts::default();
        for day in &days {
            sum += day.counts;
        }
        let plan = by_plan.entry(key.plan.as_deref()).or_default();
        plan.0 += u64::from(!is_over(key));
        plan.1 += sum;
        if sum.total() > 0 {
            by_key.push((key, sum));
        }
        all.extend(days);
    }
    by_key.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.total()));
    by_key.truncate(ROWS_MAX);
    let mut blocks = Blocks::new().with(&Actions {
        label: call.t("nav.actions"),
        links: vec![Link::new(
            list::address(call, ceiling.keyspace.as_str()),
            call.t("nav.back_to_keys"),
        )],
    });
    if more {
        blocks.push(&Note::new(
            "warn",
            call.t("keys.more_title"),
            call.t("keys.more_text"),
        ));
    }
    left(call, &keys, &mut blocks)?;
    blocks.push(&chart::of_days(texts, "usage", all, now));
    let plans = by_plan.iter().map(|(plan, (keys, sum))| -> Row {
        vec![
            Cell::Text(plan.map_or_else(|| call.t("key.no_plan"), str::to_owned)),
            Cell::Number(format::number(*keys)),
            Cell::Number(format::number(sum.granted())),
            Cell::Number(format::number(sum.denied())),
        ]
        .into()
    });
    blocks.push(&Table {
        caption: call.with("usage.by_plan", &[&chart::DAYS]),
        columns: [
            "key.plan",
            "usage.keys",
            "chart.column_granted",
            "chart.column_denied",
        ]
        .map(|name| call.t(name))
        .to_vec(),
        rows: plans.collect(),
        empty: call.t("keys.empty"),
        ..Table::default()
    });
    let rows = by_key.iter().map(|(key, sum)| -> Row {
        vec![
            Cell::Entry {
                href: call.at(&format!("/keys/{}", key.id)),
                text: format::name_of(key),
                below: key.id.to_string(),
            },
            format::state(texts, key.state),
            Cell::Number(format::number(sum.granted())),
            Cell::Number(format::number(sum.denied())),
            format::used(texts, key, now),
        ]
        .into()
    });
    blocks.push(&Table {
        caption: call.with("usage.by_key", &[&chart::DAYS]),
        columns: [
            "key.name",
            "key.state",
            "chart.column_granted",
            "chart.column_denied",
            "key.last_used",
        ]
        .map(|name| call.t(name))
        .to_vec(),
        rows: rows.collect(),
        empty: call.t("chart.empty"),
        ..Table::default()
    });
    Ok(Page::new(call.t("usage.title"), blocks).into())
}

/// What is left of the limits and quotas that all keys of the customer share.
fn left(call: &Ask, keys: &[Key], blocks: &mut Blocks) -> Result<(), Fault> {
    let texts = &call.site.look.texts;
    let depth = call.desk().member.owner.depth();
    let is_shared = |level: Level| match level {
        Level::Owner(at) => usize::from(at) <= depth,
        _ => false,
    };
    let Some(key) = keys.iter().find(|key| !is_over(key)) else {
        return Ok(());
    };
    let (limits, quotas) = call.desk().left(key)?;
    let quotas = quotas.iter().filter(|left| is_shared(left.level()));
    let mut rows: Vec<(String, Cell)> = quotas
        .map(|left| format::quota(texts, &key.owner, left))
        .collect();
    let limits = limits.iter().filter(|status| is_shared(status.level()));
    rows.extend(limits.map(|status| format::limit(texts, &key.owner, status)));
    if !rows.is_empty() {
        blocks.push(&Facts {
            heading: call.t("usage.shared"),
            rows,
        });
    }
    Ok(())
}
