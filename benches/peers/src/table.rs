//! The figures as an aligned table, with notes below it, and as CSV.

use std::fmt::Write;

use crate::measure::{Figures, Stale};
use crate::peer::About;

/// A peer in the table: measured, or why it is not.
pub(crate) enum Row {
    Measured(About, Figures),
    Missing(&'static str, String),
}

impl Row {
    fn name(&self) -> &str {
        match self {
            Row::Measured(about, _) => about.name,
            Row::Missing(name, _) => name,
        }
    }
}

const HEAD: [&str; 11] = [
    "peer",
    "1 thread: 1/s",
    "p50 us",
    "p99 us",
    "2 threads: 1/s",
    "p50 us",
    "p99 us",
    "revokes 1/s",
    "stale, own ms",
    "stale, other ms",
    "constant time",
];

const CSV_HEAD: &str = "peer,verify_1_thread_per_s,verify_1_thread_p50_us,\
verify_1_thread_p99_us,verify_2_threads_per_s,verify_2_threads_p50_us,\
verify_2_threads_p99_us,revoke_durable_per_s,stale_own_max_ms,stale_own_granted,\
stale_own_trials,stale_elsewhere_max_ms,stale_elsewhere_granted,\
stale_elsewhere_trials,constant_time,how,memory,durable,lacks";

/// Widths by content; the first and the last column to the left, numbers to
/// the right.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut lines: Vec<Vec<String>> = vec![HEAD.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(cells));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|at| {
            let cells = lines.iter().filter_map(|line| line.get(at));
            cells.map(String::len).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        push_line(&mut out, line, &widths);
        if at == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            push_line(&mut out, &rules, &widths);
        }
    }
    out
}

fn push_line(out: &mut String, cells: &[String], widths: &[usize]) {
    let mut line = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let gap = if at == 0 { "" } else { "  " };
        let left = at == 0 || at + 1 == HEAD.len() || cells.len() < HEAD.len();
        // Writing to a string does not fail.
        let _ = match left {
            true => write!(line, "{gap}{cell:<width$}"),
            false => write!(line, "{gap}{cell:>width$}"),
        };
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

fn cells(row: &Row) -> Vec<String> {
    let (about, figures) = match row {
        Row::Measured(about, figures) => (about, figures),
        Row::Missing(name, _) => return vec![(*name).to_owned(), "not available".to_owned()],
    };
    let mut cells = vec![about.name.to_owned()];
    for reads in [figures.one, figures.two] {
        cells.push(grouped(reads.per_s));
        cells.push(format!("{:.2}", reads.p50_us));
        cells.push(format!("{:.2}", reads.p99_us));
    }
    cells.push(grouped(figures.revokes_per_s));
    cells.push(stale(&figures.stale_own));
    cells.push(match &figures.stale_elsewhere {
        Some(elsewhere) => stale(elsewhere),
        None => "one process".to_owned(),
    });
    cells.push(about.constant_time.to_owned());
    cells
}

fn stale(stale: &Stale) -> String {
    match stale.granted {
        0 => "0".to_owned(),
        _ => format!("{:.1}", stale.max_ms),
    }
}

/// A whole number with commas.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// What the columns cannot say, a paragraph a peer.
pub(crate) fn notes(rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows {
        let _ = match row {
            Row::Missing(name, why) => writeln!(out, "{name}\n  not available: {why}"),
            Row::Measured(about, figures) => writeln!(
                out,
                "{}\n  check:    {}\n  memory:   {}\n  durable:  {}\n  stale:    {}\n  lacks:    {}",
                about.name,
                about.how,
                about.memory,
                about.durable,
                stale_note(figures),
                about.lacks,
            ),
        };
    }
    out
}

fn stale_note(figures: &Figures) -> String {
    let counted = |stale: &Stale| format!("{} of {}", stale.granted, stale.trials);
    let own = counted(&figures.stale_own);
    match &figures.stale_elsewhere {
        Some(elsewhere) => format!(
            "granted after a revoke here {own}, in another process {}",
            counted(elsewhere)
        ),
        None => format!("granted after a revoke here {own}"),
    }
}

pub(crate) fn csv(header: &[String], rows: &[Row]) -> String {
    let mut out = String::new();
    for line in header {
        let _ = writeln!(out, "# {line}");
    }
    let _ = writeln!(out, "{CSV_HEAD}");
    for row in rows {
        let fields = match row {
            Row::Measured(about, figures) => csv_fields(about, figures),
            Row::Missing(_, why) => {
                let mut fields = vec![String::new(); CSV_HEAD.split(',').count() - 1];
                if let Some(last) = fields.last_mut() {
                    *last = format!("not available: {why}");
                }
                fields
            }
        };
        let _ = write!(out, "{}", quoted(row.name()));
        for field in fields {
            let _ = write!(out, ",{}", quoted(&field));
        }
        out.push('\n');
    }
    out
}

fn csv_fields(about: &About, figures: &Figures) -> Vec<String> {
    let mut fields = Vec::new();
    for reads in [figures.one, figures.two] {
        fields.push(format!("{:.0}", reads.per_s));
        fields.push(format!("{:.3}", reads.p50_us));
        fields.push(format!("{:.3}", reads.p99_us));
    }
    fields.push(format!("{:.0}", figures.revokes_per_s));
    for stale in [Some(figures.stale_own), figures.stale_elsewhere] {
        match stale {
            Some(stale) => {
                fields.push(format!("{:.1}", stale.max_ms));
                fields.push(stale.granted.to_string());
                fields.push(stale.trials.to_string());
            }
            None => fields.extend(std::iter::repeat_n(String::new(), 3)),
        }
    }
    let notes = [
        about.constant_time,
        about.how,
        about.memory,
        about.durable,
        about.lacks,
    ];
    fields.extend(notes.map(str::to_owned));
    fields
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let cases = [
            (0.4, "0"),
            (999.0, "999"),
            (1e3, "1,000"),
            (1234567.8, "1,234,568"),
        ];
        for (value, expected) in cases {
            assert_eq!(grouped(value), expected);
        }
    }

    #[test]
    fn every_csv_row_has_a_field_a_column() {
        let rows = [Row::Missing("Redis", "not installed, \"yet\"".to_owned())];
        let csv = csv(&["date: today".to_owned()], &rows);
        let last = csv.lines().last().unwrap_or_default();
        assert!(last.starts_with("Redis,,"));
        assert!(last.ends_with("\"not available: not installed, \"\"yet\"\"\""));
        assert_eq!(last.split(',').count() - 1, CSV_HEAD.split(',').count());
    }
}
