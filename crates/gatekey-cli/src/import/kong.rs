//! Kong's declarative YAML: consumers with their credentials, or a list of credentials.

use serde_json::{Value, json};
use yaml_rust2::{Yaml, YamlLoader};

use super::source::{Row, Rows};
use crate::failure::{Failure, Result};

pub(super) fn rows(text: &str) -> Result<Rows> {
    let broken = |error: yaml_rust2::ScanError| {
        Failure::usage(format!(
            "the file is not YAML: line {}",
            error.marker().line()
        ))
    };
    // An alias is copied wherever it stands: a small file can say a giant one.
    if text
        .lines()
        .any(|line| line.contains(": *") || line.trim_start().starts_with("- *"))
    {
        return Err(Failure::usage(
            "the YAML has aliases, which Kong's does not",
        ));
    }
    let documents = YamlLoader::load_from_str(text).map_err(broken)?;
    let mut rows: Vec<Row> = Vec::new();
    for document in &documents {
        for credential in list(&document["keyauth_credentials"]) {
            rows.push(row(credential, &credential["consumer"]));
        }
        for consumer in list(&document["consumers"]) {
            let username = &consumer["username"];
            for credential in list(&consumer["keyauth_credentials"]) {
                rows.push(row(credential, username));
            }
        }
    }
    Ok(Box::new((1..).zip(rows).map(Ok)))
}

fn list(yaml: &Yaml) -> impl Iterator<Item = &Yaml> {
    yaml.as_vec().into_iter().flatten()
}

fn text(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::String(text) => json!(text),
        Yaml::Integer(number) => json!(number.to_string()),
        // As it was written: a key may read as a number.
        Yaml::Real(text) => json!(text),
        Yaml::Boolean(yes) => json!(yes.to_string()),
        _ => Value::Null,
    }
}

fn row(credential: &Yaml, consumer: &Yaml) -> Row {
    // A consumer is a name, or an object with one.
    let consumer = match consumer {
        Yaml::Hash(_) => [&consumer["username"], &consumer["id"]]
            .into_iter()
            .map(text)
            .find(|name| !name.is_null())
            .unwrap_or(Value::Null),
        name => text(name),
    };
    let mut row = Row::new();
    for name in ["id", "key", "ttl", "created_at"] {
        let value = text(&credential[name]);
        if !value.is_null() {
            row.insert(name.to_owned(), value);
        }
    }
    row.insert("consumer".to_owned(), consumer);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_below_their_consumers_and_beside_them() {
        let text = "_format_version: \"3.0\"\nconsumers:\n- username: alice\n  \
                    keyauth_credentials:\n  - key: first-key-of-alice\n    id: c1\n  - key: 12345678901234567890\n\
                    keyauth_credentials:\n- consumer:\n    username: bob\n  key: key-of-bob\n  ttl: 60\n";
        let rows: Vec<Value> = rows(text)
            .unwrap()
            .map(|row| Value::Object(row.unwrap().1))
            .collect();
        assert_eq!(
            rows,
            [
                json!({"consumer": "bob", "key": "key-of-bob", "ttl": "60"}),
                json!({"consumer": "alice", "id": "c1", "key": "first-key-of-alice"}),
                json!({"consumer": "alice", "key": "12345678901234567890"}),
            ]
        );
        assert!(super::rows("a: &a [x]\nb: *a\n").is_err());
        assert!(super::rows("a: [x\n").is_err());
    }
}
