//! Tables and lines, for people.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

use crate::failure::Result;

/// Whether stdout takes colours: a terminal, where `NO_COLOR` is not set.
fn has_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::io::stdout().is_terminal()
}

/// One line of text: what would move the cursor is shown as its code.
pub(crate) fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{name}={}", shown(value));
            members.iter().map(member).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_control()
            || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            true => safe.extend(char.escape_default()),
            false => safe.push(char),
        }
    }
    match safe.is_empty() {
        true => "-".to_owned(),
        false => safe,
    }
}

fn colour(cell: &str) -> Option<&'static str> {
    match cell {
        "active" => Some("\x1b[32m"),
        "retiring" | "not_yet_valid" | "disabled" => Some("\x1b[33m"),
        "suspended" | "expired" | "revoked" => Some("\x1b[31m"),
        _ => None,
    }
}

/// Prints rows under a head, in columns that are aligned.
pub(crate) fn print(head: &[&str], rows: &[Vec<String>]) -> Result<()> {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let colours = has_colour();
    let mut out = std::io::stdout().lock();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (at, (width, cell)) in widths.iter().zip(row).enumerate() {
            let is_last = at + 1 == row.len();
            let padding = match is_last {
                true => 0,
                false => width + 2 - cell.chars().count(),
            };
            match colour(cell).filter(|_| colours) {
                Some(colour) => line.extend([colour, cell, "\x1b[0m"]),
                None => line.push_str(cell),
            }
            line.extend(std::iter::repeat_n(' ', padding));
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Prints the members of an object, one a line.
pub(crate) fn print_object(value: &Value) -> Result<()> {
    let mut lines = Vec::new();
    flatten("", value, &mut lines);
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let colours = has_colour();
    let mut out = std::io::stdout().lock();
    for (name, cell) in lines {
        match colour(&cell).filter(|_| colours) {
            Some(colour) => writeln!(out, "{name:width$}  {colour}{cell}\x1b[0m")?,
            None => writeln!(out, "{name:width$}  {cell}")?,
        }
    }
    Ok(())
}

/// What a person looks for first.
const FIRST: [&str; 8] = [
    "id", "key_id", "prefix", "keyspace", "owner", "state", "name", "is_sound",
];

/// Objects in objects have names with dots; what is absent is left out.
fn flatten(above: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let rank = |name: &str| FIRST.iter().position(|first| *first == name);
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by_key(|(name, _)| rank(name).unwrap_or(FIRST.len()));
            for (name, value) in members {
                let name = match above {
                    "" => name.clone(),
                    above => format!("{above}.{name}"),
                };
                flatten(&name, value, lines);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (at, item) in items.iter().enumerate() {
                lines.push((format!("{above}[{at}]"), shown(item)));
            }
        }
        Value::Null => {}
        Value::Array(items) if items.is_empty() => {}
        Value::Object(_) => {}
        other => lines.push((above.to_owned(), shown(other))),
    }
}

/// Prints one object, or one line of many.
pub(crate) fn print_json(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value).map_err(std::io::Error::from)?;
    Ok(writeln!(out)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_would_move_the_cursor_is_shown_as_its_code() {
        assert_eq!(
            shown(&json!("a\u{1b}[2Jb\nc\u{202e}")),
            r"a\u{1b}[2Jb\nc\u{202e}"
        );
        assert_eq!(shown(&json!(null)), "-");
        assert_eq!(shown(&json!(["a", "b"])), "a,b");
        assert_eq!(shown(&json!({"env": "prod"})), "env=prod");
    }
}
