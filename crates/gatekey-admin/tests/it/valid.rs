//! Whether a value has the form that a schema of the document says: strictly, a member
//! that the document does not name is a failure.

use serde_json::{Map, Value};

/// `Err` says what does not fit.
pub(crate) fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let Some(rules) = schema.as_object() else {
        return match schema.as_bool() {
            Some(true) => Ok(()),
            _ => Err(format!("nothing fits {schema}")),
        };
    };
    if let Some(link) = rules.get("$ref").and_then(Value::as_str) {
        let found = document.pointer(link.trim_start_matches('#'));
        check(document, found.ok_or_else(|| format!("no {link}"))?, value)?;
    }
    for (many, all) in [("anyOf", 1..=99), ("oneOf", 1..=1)] {
        if let Some(options) = rules.get(many).and_then(Value::as_array) {
            let fits = options
                .iter()
                .filter(|option| check(document, option, value).is_ok())
                .count();
            if !all.contains(&fits) {
                return Err(format!("{value} fits {fits} of {options:?}"));
            }
        }
    }
    if let Some(known) = rules.get("enum").and_then(Value::as_array)
        && !known.contains(value)
    {
        return Err(format!("{value} is none of {known:?}"));
    }
    if let Some(known) = rules.get("const")
        && known != value
    {
        return Err(format!("{value} is not {known}"));
    }
    check_type(rules, value)?;
    check_bounds(rules, value)?;
    if let (Some(items), Some(values)) = (rules.get("items"), value.as_array()) {
        for value in values {
            check(document, items, value)?;
        }
    }
    match value.as_object() {
        Some(members) => check_members(document, rules, members),
        None => Ok(()),
    }
}

fn check_type(rules: &Map<String, Value>, value: &Value) -> Result<(), String> {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = match rules.get("type") {
        None => true,
        Some(Value::String(one)) => one == kind,
        Some(several) => several.as_array().unwrap().contains(&kind.into()),
    };
    match fits {
        true => Ok(()),
        false => Err(format!("{value} is not of type {}", rules["type"])),
    }
}

fn check_bounds(rules: &Map<String, Value>, value: &Value) -> Result<(), String> {
    let number = value.as_f64();
    let at_least = rules.get("minimum").and_then(Value::as_f64);
    let at_most = rules.get("maximum").and_then(Value::as_f64);
    let is_within = number.is_none_or(|number| {
        at_least.is_none_or(|least| number >= least) && at_most.is_none_or(|most| number <= most)
    });
    match is_within {
        true => Ok(()),
        false => Err(format!("{value} is out of {at_least:?} to {at_most:?}")),
    }
}

fn check_members(
    document: &Value,
    rules: &Map<String, Value>,
    members: &Map<String, Value>,
) -> Result<(), String> {
    let none = Map::new();
    let known = rules.get("properties").and_then(Value::as_object);
    let known = known.unwrap_or(&none);
    for name in rules
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if !members.contains_key(name.as_str().unwrap()) {
            return Err(format!("{name} is missing"));
        }
    }
    for (name, value) in members {
        match (known.get(name), rules.get("additionalProperties")) {
            (Some(schema), _) => {
                check(document, schema, value).map_err(|why| format!("{name}: {why}"))?;
            }
            (None, Some(schema)) => {
                check(document, schema, value).map_err(|why| format!("{name}: {why}"))?;
            }
            (None, None) if known.is_empty() => {}
            (None, None) => return Err(format!("{name} is not documented")),
        }
    }
    Ok(())
}
