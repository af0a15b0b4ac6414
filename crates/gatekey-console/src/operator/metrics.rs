//! What the engine has counted since it was opened, and how keyspaces were used lately.

use std::time::Duration;

use gatekey::{Metrics, OutcomeCounts, Prefix, Timings};

use super::Ask;
use crate::chart;
use crate::format;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Blocks, Cell, Facts, Row, Table};

/// Of how many keyspaces the page has a chart: those that were asked for most. The page of
/// a keyspace has its own.
const CHARTS_MAX: usize = 6;

pub(super) fn show(call: &Ask) -> Result<Reply, Fault> {
    let _ = call.engine().flush();
    let metrics = call.engine().metrics()?;
    let (texts, now) = (&call.site.look.texts, call.engine().now());
    let mut blocks = Blocks::new().with(&facts(call, &metrics));
    let since = chart::since_hours(now);
    let mut used = Vec::new();
    for (prefix, counts) in busiest(call, &metrics)? {
        let hours = call.engine().usage_of_keyspace(Some(prefix), since, now)?;
        used.push((prefix, counts, hours));
    }
    for (prefix, _, hours) in used {
        let heading = call.with("metrics.hours", &[&prefix, &chart::HOURS]);
        let id = format!("hours-{prefix}").replace('_', "-");
        blocks.push(&chart::of_hours(texts, &id, heading, hours, now));
    }
    let nobodys = call.engine().usage_of_keyspace(None, since, now)?;
    let heading = call.with("metrics.hours_of_none", &[&chart::HOURS]);
    blocks.push(&chart::of_hours(
        texts,
        "hours-of-none",
        heading,
        nobodys,
        now,
    ));
    blocks.push(&outcomes(call, &metrics));
    for (name, timings) in [
        ("metrics.memory_times", &metrics.memory_times),
        ("metrics.file_times", &metrics.file_times),
        ("metrics.queue_waits", &metrics.queue_waits),
        ("metrics.commits", &metrics.commits),
        ("metrics.syncs", &metrics.syncs),
    ] {
        blocks.push(&times(call, call.t(name), timings));
    }
    Ok(Page::new(call.t("nav.metrics"), blocks).into())
}

/// The keyspaces with the most verifications; those of a store that was just opened, in
/// the order of their prefixes.
fn busiest(call: &Ask, metrics: &Metrics) -> Result<Vec<(Prefix, OutcomeCounts)>, Fault> {
    let keyspaces = call.engine().keyspaces()?;
    let mut all: Vec<(Prefix, OutcomeCounts)> = keyspaces
        .iter()
        .map(|of| {
            let counts = metrics.verifications.get(&of.prefix).copied();
            (of.prefix, counts.unwrap_or_default())
        })
        .collect();
    all.sort_by_key(|(prefix, counts)| (std::cmp::Reverse(counts.total()), *prefix));
    all.truncate(CHARTS_MAX);
    Ok(all)
}

fn facts(call: &Ask, metrics: &Metrics) -> Facts {
    let now = call.engine().now();
    let texts = &call.site.look.texts;
    let number = |value: u64| Cell::Number(format::number(value));
    let share = |part: u64, all: u64| match all {
        0 => Cell::Text(call.t("metrics.nothing_yet")),
        all => Cell::Meter {
            percent: part.saturating_mul(100) / all,
            text: call.with(
                "metrics.share",
                &[&format::number(part), &format::number(all)],
            ),
        },
    };
    let lookups = metrics
        .resident_hits
        .saturating_add(metrics.resident_misses);
    let unflushed = Duration::from_secs(metrics.unflushed_for(now).as_secs());
    Facts {
        heading: call.t("metrics.facts"),
        rows: vec![
            (
                call.t("metrics.hits"),
                share(metrics.resident_hits, lookups),
            ),
            (call.t("metrics.errors"), number(metrics.errors)),
            (call.t("metrics.expiring_7d"), number(metrics.expiring_7d)),
            (call.t("metrics.expiring_30d"), number(metrics.expiring_30d)),
            (
                call.t("metrics.commits_failed"),
                number(metrics.commits_failed),
            ),
            (call.t("metrics.slices"), number(metrics.quota_slices)),
            (call.t("store.usage_lost"), number(metrics.uses_lost)),
            (call.t("metrics.denials_lost"), number(metrics.denials_lost)),
            (
                call.t("metrics.unflushed"),
                Cell::Text(format::span(texts, unflushed)),
            ),
            (
                call.t("metrics.history_bytes"),
                number(metrics.history_bytes),
            ),
            (
                call.t("metrics.history_skipped"),
                number(metrics.history_skipped),
            ),
            (
                call.t("metrics.last_backup"),
                format::time_or(texts, metrics.last_backup, now, "metrics.no_backup"),
            ),
        ],
    }
}

/// What verifications came to since the engine was opened, by keyspace.
fn outcomes(call: &Ask, metrics: &Metrics) -> Table {
    let texts = &call.site.look.texts;
    let row = |name: Cell, counts: &OutcomeCounts| -> Row {
        let all = counts.total();
        vec![
            name,
            Cell::Meter {
                percent: counts.granted().saturating_mul(100) / all.max(1),
                text: format::number(counts.granted()),
            },
            Cell::Number(format::number(counts.denied())),
            Cell::Chips(chart::reasons(texts, counts)),
        ]
        .into()
    };
    let mut rows: Vec<Row> = metrics
        .verifications
        .iter()
        .filter(|(_, counts)| counts.total() > 0)
        .map(|(prefix, counts)| {
            let name = Cell::Link {
                href: call.at(&format!("/keyspaces/{prefix}")),
                text: prefix.to_string(),
            };
            row(name, counts)
        })
        .collect();
    if metrics.unattributed.total() > 0 {
        let name = Cell::Text(call.t("metrics.of_none"));
        rows.push(row(name, &metrics.unattributed));
    }
    Table {
        caption: call.t("metrics.outcomes"),
        columns: [
            "key.keyspace",
            "chart.column_granted",
            "chart.column_denied",
            "chart.reasons",
        ]
        .map(|name| call.t(name))
        .to_vec(),
        rows,
        empty: call.t("metrics.nothing_yet"),
        ..Table::default()
    }
}

/// How long something took: a bar for each bucket that has any.
fn times(call: &Ask, caption: String, timings: &Timings) -> Table {
    let highest = timings.buckets().map(|(_, count)| count).max();
    let highest = highest.unwrap_or(0).max(1);
    let row = |(bound, count): (Option<Duration>, u64)| -> Row {
        let bound = match bound {
            Some(bound) => call.with("metrics.up_to", &[&short(bound)]),
            None => call.t("metrics.longer"),
        };
        vec![
            Cell::Text(bound),
            Cell::Meter {
                percent: count.saturating_mul(100) / highest,
                text: format::number(count),
            },
        ]
        .into()
    };
    Table {
        caption,
        columns: vec![call.t("metrics.time"), call.t("metrics.how_many")],
        rows: timings
            .buckets()
            .filter(|(_, count)| *count > 0)
            .map(row)
            .collect(),
        empty: call.t("metrics.nothing_yet"),
        ..Table::default()
    }
}

/// A short time, in the largest unit of which it is one or more: `500 ns`, `16 us`, `4 ms`, `2 s`.
pub(super) fn short(time: Duration) -> String {
    let ns = time.as_nanos();
    let (unit, name) = match ns {
        0..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    format!("{} {name}", ns / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_a_unit_that_fits() {
        for (ns, text) in [
            (820, "820 ns"),
            (8_000, "8 \u{b5}s"),
            (1_024_000, "1 ms"),
            (16_384, "16 \u{b5}s"),
            (33_554_432, "33 ms"),
            (68_719_476_736, "68 s"),
        ] {
            assert_eq!(short(Duration::from_nanos(ns)), text);
        }
    }
}
