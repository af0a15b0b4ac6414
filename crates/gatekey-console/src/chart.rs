//! Usage, as a chart with its numbers in words and in a table.

use std::time::Duration;

use gatekey::{Outcome, OutcomeCounts, Timestamp, UsageBin};
use gatekey_admin::UsageChart;

use crate::format::{day, instant, number};
use crate::texts::Texts;
use crate::view::{Cell, Chart, Row, Table};

/// How many days the pages show.
pub(crate) const DAYS: u64 = 30;
/// How many hours.
pub(crate) const HOURS: u64 = 48;

/// Since when days are shown.
pub(crate) fn since_days(now: Timestamp) -> Timestamp {
    now.saturating_sub(Duration::from_secs((DAYS - 1) * 86_400))
}

/// Since when hours are shown.
pub(crate) fn since_hours(now: Timestamp) -> Timestamp {
    now.saturating_sub(Duration::from_secs((HOURS - 1) * 3_600))
}

/// The last days, of the bins of one or of several.
pub(crate) fn of_days(texts: &Texts, id: &str, bins: Vec<UsageBin>, now: Timestamp) -> Chart {
    let chart = UsageChart::by_day(bins, since_days(now), now);
    let heading = texts.with("chart.days", &[&DAYS]);
    draw(texts, id, heading, &chart, day)
}

/// The last hours.
pub(crate) fn of_hours(
    texts: &Texts,
    id: &str,
    heading: String,
    bins: Vec<UsageBin>,
    now: Timestamp,
) -> Chart {
    let chart = UsageChart::by_hour(bins, since_hours(now), now);
    draw(texts, id, heading, &chart, instant)
}

fn draw(
    texts: &Texts,
    id: &str,
    heading: String,
    chart: &UsageChart,
    when: fn(Timestamp) -> String,
) -> Chart {
    let total = chart.total();
    let row = |bin: &UsageBin| -> Row {
        vec![
            Cell::Time {
                iso: bin.begins_at.to_string(),
                text: when(bin.begins_at),
                hint: String::new(),
            },
            Cell::Number(number(bin.counts.granted())),
            Cell::Number(number(bin.counts.denied())),
        ]
        .into()
    };
    Chart {
        empty: texts.get("chart.empty"),
        bars: chart.bars(id),
        granted: texts.with("chart.granted", &[&number(total.granted())]),
        denied: texts.with("chart.denied", &[&number(total.denied())]),
        highest: texts.with("chart.highest", &[&number(chart.highest())]),
        from: when(chart.from()),
        to: when(chart.to()),
        reasons: reasons(texts, &total),
        reasons_label: texts.get("chart.reasons"),
        as_table: texts.get("chart.as_table"),
        table: Table {
            caption: heading.clone(),
            columns: [
                "history.when",
                "chart.column_granted",
                "chart.column_denied",
            ]
            .map(|name| texts.get(name))
            .to_vec(),
            // The newest first, as everywhere.
            rows: chart.bins().iter().rev().map(row).collect(),
            bare: true,
            ..Table::default()
        },
        heading,
    }
}

/// Why verifications were denied, and how often.
pub(crate) fn reasons(texts: &Texts, counts: &OutcomeCounts) -> Vec<String> {
    counts
        .iter()
        .filter(|(outcome, count)| *outcome != Outcome::Granted && *count > 0)
        .map(|(outcome, count)| {
            let word = texts.get(&format!("outcome.{}", outcome.code()));
            texts.with("chart.reason", &[&word, &number(count)])
        })
        .collect()
}
