//! Reading rows: objects with the names of the source's columns, each with its number.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::failure::{Failure, Result};

/// A row of the source.
pub(crate) type Row = Map<String, Value>;
/// Rows, each with its number from 1.
pub(crate) type Rows = Box<dyn Iterator<Item = Result<(u64, Row)>>>;

/// The longest line, and the longest file that is not read line by line.
const LINE_MAX: u64 = 64 << 20;
const WHOLE_MAX: u64 = 1 << 30;
/// How much of the beginning says what a file is.
const HEAD: usize = 64 << 10;

/// The rows of a file. `bare` is the name of the column of a file that has one value a line.
pub(crate) fn rows(file: &Path, bare: Option<&str>) -> Result<Rows> {
    let named = |error: std::io::Error| Failure::usage(format!("{}: {error}", file.display()));
    let input: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(file).map_err(named)?),
    };
    let mut input = BufReader::with_capacity(HEAD, input);
    let head = input.fill_buf().map_err(named)?;
    let head = String::from_utf8_lossy(head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(head))
        .into_owned();
    let first = head.lines().map(str::trim).find(|line| !line.is_empty());
    let Some(first) = first else {
        return Ok(Box::new(std::iter::empty()));
    };
    let is_sql = |line: &str| {
        let line = line.trim_start().to_ascii_uppercase();
        ["COPY ", "INSERT INTO ", "CREATE TABLE ", "PRAGMA ", "/*!"]
            .iter()
            .any(|word| line.starts_with(word))
    };
    if first.starts_with('[') {
        return json_array(&whole(input)?);
    }
    if first.starts_with('{') {
        return Ok(json_lines(input));
    }
    if first.starts_with("_format_version")
        || first.starts_with("keyauth_credentials:")
        || first.starts_with("consumers:")
        || first.starts_with("---")
    {
        return super::kong::rows(&whole(input)?);
    }
    if first.starts_with("--") || head.lines().any(is_sql) {
        return sql(&whole(input)?);
    }
    // A row of names is what CSV begins with; a hash or a token has no comma.
    match (bare, first.contains([',', ';', '\t'])) {
        (Some(column), false) if !is_a_name(first) => Ok(bare_lines(input, column)),
        _ => csv(input, first),
    }
}

fn is_a_name(text: &str) -> bool {
    let text = text.trim_matches('"');
    ["hash", "digest", "sha256", "token", "key"].contains(&text.to_ascii_lowercase().as_str())
}

fn whole(input: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    let read = input.take(WHOLE_MAX + 1).read_to_end(&mut bytes)?;
    if read as u64 > WHOLE_MAX {
        return Err(Failure::usage(
            "the file is over 1 GiB: export it as CSV or NDJSON, which is read line by line",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage("the file is not UTF-8"))?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text))
}

/// Lines, without their ends.
fn lines(mut input: impl BufRead + 'static) -> impl Iterator<Item = Result<String>> {
    let mut is_first = true;
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) if line.len() as u64 == LINE_MAX => {
                Some(Err(Failure::usage("a line is too long")))
            }
            Ok(_) => {
                while matches!(line.last(), Some(b'\n' | b'\r')) {
                    line.pop();
                }
                let line = String::from_utf8(line);
                let line = line.map_err(|_| Failure::usage("the file is not UTF-8"));
                let first = std::mem::replace(&mut is_first, false);
                Some(line.map(|line| match line.strip_prefix('\u{feff}') {
                    Some(rest) if first => rest.to_owned(),
                    _ => line,
                }))
            }
            Err(error) => Some(Err(error.into())),
        }
    })
}

fn object(number: u64, value: Value) -> Result<(u64, Row)> {
    match value {
        Value::Object(row) => Ok((number, row)),
        _ => Err(Failure::usage(format!("row {number} is not a JSON object"))),
    }
}

fn json_array(text: &str) -> Result<Rows> {
    let values: Vec<Value> = serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("the file is not JSON: {}", place(&error))))?;
    let rows = (1..)
        .zip(values)
        .map(|(number, value)| object(number, value));
    Ok(Box::new(rows))
}

/// Where JSON is wrong, without what stands there: it may be a token.
fn place(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

fn json_lines(input: impl BufRead + 'static) -> Rows {
    let lines = (1_u64..).zip(lines(input));
    let lines = lines.filter(|(_, line)| !matches!(line, Ok(line) if line.trim().is_empty()));
    Box::new(lines.map(|(number, line)| {
        let value = serde_json::from_str(&line?).map_err(|error: serde_json::Error| {
            Failure::usage(format!(
                "line {number} is not JSON: column {}",
                error.column()
            ))
        })?;
        object(number, value)
    }))
}

fn bare_lines(input: impl BufRead + 'static, column: &str) -> Rows {
    let column = column.to_owned();
    let lines = (1_u64..).zip(lines(input));
    let lines = lines.filter(|(_, line)| !matches!(line, Ok(line) if line.trim().is_empty()));
    Box::new(lines.map(move |(number, line)| {
        let value = Value::String(line?.trim().to_owned());
        Ok((number, Row::from_iter([(column.clone(), value)])))
    }))
}

/// CSV (RFC 4180) with a head. What is between quotes may have ends of lines.
fn csv(input: impl BufRead + 'static, head: &str) -> Result<Rows> {
    let most = |separator: &char| head.matches(*separator).count();
    let separator = [',', ';', '\t'].into_iter().max_by_key(most).unwrap_or(',');
    let mut lines = lines(input);
    let mut number = 0_u64;
    let mut record = move || -> Option<Result<Vec<String>>> {
        loop {
            let mut text = match lines.next()? {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            while text.matches('"').count() % 2 == 1 {
                match lines.next() {
                    Some(Ok(more)) if (text.len() as u64) < LINE_MAX => {
                        text.push('\n');
                        text.push_str(&more);
                    }
                    Some(Err(error)) => return Some(Err(error)),
                    _ => return Some(Err(Failure::usage("a quote is not closed"))),
                }
            }
            if !text.trim().is_empty() {
                return Some(Ok(fields(&text, separator)));
            }
        }
    };
    let names = record().unwrap_or_else(|| Ok(Vec::new()))?;
    Ok(Box::new(std::iter::from_fn(move || {
        let record = record()?;
        number += 1;
        Some(record.and_then(|fields| match fields.len() == names.len() {
            true => {
                let named = names
                    .iter()
                    .cloned()
                    .zip(fields.into_iter().map(Value::String));
                Ok((number, named.collect()))
            }
            false => Err(Failure::usage(format!(
                "row {number} has {} fields, and the head has {}",
                fields.len(),
                names.len()
            ))),
        }))
    })))
}

fn fields(text: &str, separator: char) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                push(&mut fields, '"');
            }
            '"' => is_quoted = !is_quoted,
            char if char == separator && !is_quoted => fields.push(String::new()),
            char => push(&mut fields, char),
        }
    }
    fields
}

fn push(fields: &mut [String], char: char) {
    if let Some(last) = fields.last_mut() {
        last.push(char);
    }
}

/// The rows of a dump: `COPY ... FROM stdin` of PostgreSQL, and `INSERT INTO` of it, of MySQL and
/// of SQLite, with the columns that the statement or `CREATE TABLE` names.
fn sql(text: &str) -> Result<Rows> {
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut rows: Vec<Row> = Vec::new();
    // Dumps of MySQL alone have such comments, and such names.
    let escapes = text
        .lines()
        .any(|line| line.starts_with("/*!") || line.starts_with("INSERT INTO `"));
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let upper = line.trim_start().to_ascii_uppercase();
        if upper.starts_with("CREATE TABLE ") {
            let mut statement = line.to_owned();
            while !statement.trim_end().ends_with(';') {
                let Some(more) = lines.next() else { break };
                statement.push('\n');
                statement.push_str(more);
            }
            if let Some((table, names)) = created(&statement) {
                columns.insert(table, names);
            }
        } else if upper.starts_with("COPY ") {
            let names = listed(line).unwrap_or_default();
            for line in lines.by_ref() {
                if line == "\\." {
                    break;
                }
                let fields = line.split('\t').map(copied);
                rows.push(names.iter().cloned().zip(fields).collect());
            }
        } else if upper.starts_with("INSERT INTO ") || upper.starts_with("INSERT IGNORE INTO ") {
            let mut statement = line.to_owned();
            let mut quotes = Quotes {
                escapes,
                ..Quotes::default()
            };
            quotes.read(line);
            while quotes.is_quoted || !statement.trim_end().ends_with(';') {
                let Some(more) = lines.next() else { break };
                statement.push('\n');
                statement.push_str(more);
                quotes.read("\n");
                quotes.read(more);
            }
            inserted(&statement, escapes, &columns, &mut rows)?;
        }
    }
    Ok(Box::new((1..).zip(rows).map(Ok)))
}

/// Follows the quotes of a statement, from line to line.
#[derive(Default)]
struct Quotes {
    /// Whether a backslash hides what follows on it: in MySQL it does.
    escapes: bool,
    is_quoted: bool,
    is_escaped: bool,
}

impl Quotes {
    fn read(&mut self, text: &str) {
        for char in text.chars() {
            match char {
                _ if self.is_escaped => self.is_escaped = false,
                '\\' if self.is_quoted && self.escapes => self.is_escaped = true,
                '\'' => self.is_quoted = !self.is_quoted,
                _ => {}
            }
        }
    }
}

fn unquoted(name: &str) -> String {
    let name = name.trim().rsplit('.').next().unwrap_or("");
    name.trim_matches(['`', '"', '[', ']', ' ']).to_owned()
}

/// The names in the first brackets.
fn listed(line: &str) -> Option<Vec<String>> {
    let (_, rest) = line.split_once('(')?;
    let (names, _) = rest.split_once(')')?;
    Some(names.split(',').map(unquoted).collect())
}

/// The table and the columns of a `CREATE TABLE`.
fn created(statement: &str) -> Option<(String, Vec<String>)> {
    let (head, body) = statement.split_once('(')?;
    let table = head.split_whitespace().last().map(unquoted)?;
    let (mut depth, mut quote, mut names, mut part) = (1, None, Vec::new(), String::new());
    for char in body.chars() {
        match (quote, char) {
            // A quote that stands twice closes and opens again.
            (Some(open), _) if char == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(char),
            (None, '(') => depth += 1,
            (None, ')') if depth == 1 => break,
            (None, ')') => depth -= 1,
            (None, ',') if depth == 1 => {
                names.extend(column(&part));
                part.clear();
                continue;
            }
            (None, _) => {}
        }
        part.push(char);
    }
    names.extend(column(&part));
    Some((table, names))
}

/// The column that a part of a `CREATE TABLE` is about; `None` for a rule of the table.
fn column(part: &str) -> Option<String> {
    let part = part.trim_start();
    let quoted = |open: char, close: char| {
        let rest = part.strip_prefix(open)?;
        rest.split_once(close).map(|(name, _)| name.to_owned())
    };
    if let Some(name) = quoted('`', '`')
        .or_else(|| quoted('"', '"'))
        .or_else(|| quoted('[', ']'))
    {
        return Some(name);
    }
    let word = part.split_whitespace().next()?;
    let is_rule = match word.to_ascii_uppercase().as_str() {
        "PRIMARY" | "UNIQUE" | "CONSTRAINT" | "FOREIGN" | "CHECK" | "FULLTEXT" | "SPATIAL"
        | "EXCLUDE" => true,
        // Only MySQL has rules of these names, and quotes the columns in its dumps; elsewhere
        // they are names of columns.
        "KEY" | "INDEX" => part.contains('`'),
        _ => false,
    };
    (!is_rule).then(|| unquoted(word))
}

/// A field of `COPY`.
fn copied(field: &str) -> Value {
    if field == "\\N" {
        return Value::Null;
    }
    let mut text = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => text.push(match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            }),
            char => text.push(char),
        }
    }
    Value::String(text)
}

fn inserted(
    statement: &str,
    escapes: bool,
    columns: &BTreeMap<String, Vec<String>>,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let values = statement.to_ascii_uppercase().find("VALUES");
    let (head, body) = values
        .and_then(|at| Some((statement.get(..at)?, statement.get(at + "VALUES".len()..)?)))
        .ok_or_else(|| Failure::usage("an INSERT has no VALUES"))?;
    let table = head
        .split('(')
        .next()
        .and_then(|head| head.split_whitespace().last());
    let names = listed(head)
        .or_else(|| columns.get(&unquoted(table?)).cloned())
        .ok_or_else(|| {
            Failure::usage("an INSERT does not name its columns: dump it with the table, or with --complete-insert")
        })?;
    let mut chars = body.chars().peekable();
    while let Some(char) = chars.next() {
        if char != '(' {
            continue;
        }
        let mut fields: Vec<Value> = Vec::new();
        let (mut word, mut text) = (String::new(), None::<String>);
        while let Some(char) = chars.next() {
            match char {
                '\'' => {
                    let mut quoted = String::new();
                    while let Some(char) = chars.next() {
                        match char {
                            '\'' if chars.peek() == Some(&'\'') => {
                                chars.next();
                                quoted.push('\'');
                            }
                            '\'' => break,
                            '\\' if escapes => quoted.push(match chars.next() {
                                Some('n') => '\n',
                                Some('r') => '\r',
                                Some('t') => '\t',
                                Some('0') => '\0',
                                Some(other) => other,
                                None => '\\',
                            }),
                            char => quoted.push(char),
                        }
                    }
                    text = Some(quoted);
                }
                ',' | ')' => {
                    let word = std::mem::take(&mut word);
                    fields.push(match (text.take(), word.trim()) {
                        (Some(text), _) => Value::String(text),
                        (None, word) if word.eq_ignore_ascii_case("null") => Value::Null,
                        (None, word) => Value::String(word.to_owned()),
                    });
                    if char == ')' {
                        break;
                    }
                }
                char => word.push(char),
            }
        }
        if fields.len() != names.len() {
            let number = rows.len() + 1;
            return Err(Failure::usage(format!(
                "row {number} has {} values for {} columns",
                fields.len(),
                names.len()
            )));
        }
        rows.push(names.iter().cloned().zip(fields).collect());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str, bare: Option<&str>) -> Vec<Value> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let rows = rows(file.path(), bare).unwrap();
        rows.map(|row| Value::Object(row.unwrap().1)).collect()
    }

    #[test]
    fn the_same_rows_are_read_from_each_form() {
        let rows = vec![
            json!({"id": "1", "name": "it's, \"so\"", "token": "ab"}),
            json!({"id": "2", "name": null, "token": "cd"}),
        ];
        let csv = "id,name,token\r\n1,\"it's, \"\"so\"\"\",ab\r\n\r\n2,,cd\r\n";
        let mut of_csv = rows.clone();
        of_csv[1]["name"] = json!("");
        assert_eq!(read(csv, None), of_csv);
        assert_eq!(read(&csv.replace("e\r\n1", "e\n1"), Some("token")), of_csv);
        let array = serde_json::to_string(&rows).unwrap();
        assert_eq!(read(&array, None), rows);
        let lines = format!("{}\n\n{}\n", rows[0], rows[1]);
        assert_eq!(read(&lines, None), rows);
        let copy = "--\n-- PostgreSQL database dump\n--\n\nCOPY public.tokens (id, name, token) \
                    FROM stdin;\n1\tit's, \"so\"\tab\n2\t\\N\tcd\n\\.\n\nSELECT 1;\n";
        assert_eq!(read(copy, None), rows);
        let mysql = "/*!40101 SET NAMES utf8 */;\nCREATE TABLE `tokens` (\n  `id` bigint(20) \
                     unsigned NOT NULL,\n  `name` varchar(255) DEFAULT 'x,y',\n  `token` \
                     varchar(64) NOT NULL,\n  PRIMARY KEY (`id`),\n  UNIQUE KEY `t` (`token`)\n) \
                     ENGINE=InnoDB;\nINSERT INTO `tokens` VALUES (1,'it\\'s, \\\"so\\\"','ab'),\
                     (2,NULL,'cd');\n";
        assert_eq!(read(mysql, None), rows);
        let sqlite = "PRAGMA foreign_keys=OFF;\nCREATE TABLE tokens (id integer primary key, name \
                      text, token text);\nINSERT INTO tokens VALUES(1,'it''s, \"so\"','ab');\nINSERT \
                      INTO tokens VALUES(2,NULL,'cd');\n";
        assert_eq!(read(sqlite, None), rows);
        // A dump of PostgreSQL with INSERT: a column may be called so, and a backslash is one.
        let inserts = "--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE public.tokens (\n    \
                       key character varying(40) DEFAULT 'a, (b'::character varying NOT NULL,\n    \
                       cost numeric(5, 2),\n    \"user\" text,\n    CONSTRAINT tokens_check \
                       CHECK ((cost > 0))\n);\n\nINSERT INTO public.tokens VALUES ('ab', 1.5, \
                       'x\\');\nINSERT INTO public.tokens VALUES ('c\nd', NULL, '');\n";
        assert_eq!(
            read(inserts, None),
            [
                json!({"key": "ab", "cost": "1.5", "user": "x\\"}),
                json!({"key": "c\nd", "cost": null, "user": ""}),
            ]
        );
        assert_eq!(
            read("ab\n\ncd\n", Some("token")),
            [json!({"token": "ab"}), json!({"token": "cd"})]
        );
        assert_eq!(read("", None), Vec::<Value>::new());
    }

    #[test]
    fn what_is_cut_off_or_of_another_form_is_told_and_not_guessed() {
        let fails = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let read = rows(file.path(), None).and_then(Iterator::collect::<Result<Vec<_>>>);
            read.unwrap_err().text
        };
        assert!(fails("id,token\n1\n").contains("row 1 has 1 fields"));
        assert!(fails("id,token\n1,\"a\n").contains("not closed"));
        assert!(fails("[{\"token\": \"s3cr3t").contains("not JSON"));
        assert!(!fails("{\"token\": \"s3cr3t\" x}").contains("s3cr3t"));
        assert!(fails("INSERT INTO t VALUES (1,2);").contains("columns"));
        assert!(fails("INSERT INTO t (a) VALUES (1,2);").contains("2 values"));
        assert!(fails("[1]").contains("not a JSON object"));
    }
}
