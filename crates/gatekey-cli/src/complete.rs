//! Completing what a store has: ids, owners, keyspaces. It says nothing where it fails.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use clap_complete::CompletionCandidate;
use serde_json::Value;

use crate::args::Global;
use crate::door::{Ask, Door};

/// The most that is offered.
const OFFERED_MAX: usize = 200;

pub(crate) fn keys(current: &OsStr) -> Vec<CompletionCandidate> {
    let told = |key: &Value| {
        let id = key["id"].as_str()?.to_owned();
        let about = format!("{} {}", key["owner"].as_str()?, key["state"].as_str()?);
        Some((id, about))
    };
    offer(current, "/v1/keys?limit=1000", "keys", told)
}

pub(crate) fn owners(current: &OsStr) -> Vec<CompletionCandidate> {
    let told = |key: &Value| Some((key["owner"].as_str()?.to_owned(), String::new()));
    offer(current, "/v1/keys?limit=1000", "keys", told)
}

pub(crate) fn keyspaces(current: &OsStr) -> Vec<CompletionCandidate> {
    let told = |of: &Value| {
        let prefix = of["prefix"].as_str()?.to_owned();
        Some((prefix, of["description"].as_str()?.to_owned()))
    };
    offer(current, "/v1/keyspaces", "keyspaces", told)
}

fn offer(
    current: &OsStr,
    path: &str,
    list: &str,
    told: impl Fn(&Value) -> Option<(String, String)>,
) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let found = Door::open(&global(), None).and_then(|door| {
        let answer = door.ask(&Ask::get(path))?;
        door.close()?;
        Ok(answer)
    });
    let answer = found.unwrap_or_default();
    let items = answer[list].as_array().cloned().unwrap_or_default();
    let offered: BTreeSet<(String, String)> = items
        .iter()
        .filter_map(told)
        .filter(|(value, _)| value.starts_with(&*current))
        .take(OFFERED_MAX)
        .collect();
    let candidate = |(value, about): (String, String)| {
        let candidate = CompletionCandidate::new(value);
        match about.is_empty() {
            true => candidate,
            false => candidate.help(Some(about.into())),
        }
    };
    offered.into_iter().map(candidate).collect()
}

/// Which store is meant: by the words of the line so far, or by the environment.
fn global() -> Global {
    let words: Vec<OsString> = std::env::args_os().collect();
    let flag = |name: &str| {
        let after = words.windows(2).find_map(|pair| match pair {
            [flag, value] if flag == name => Some(value.clone()),
            _ => None,
        });
        let joined = || {
            let head = format!("{name}=");
            words.iter().find_map(|word| {
                let value = word.to_str()?.strip_prefix(&head)?;
                Some(OsString::from(value))
            })
        };
        after.or_else(joined)
    };
    let of = |name: &str, variable: &str| flag(name).or_else(|| std::env::var_os(variable));
    let store = of("--store", "GATEKEY_STORE").map(Into::into);
    let url = match store {
        None => of("--url", "GATEKEY_URL").and_then(|url| url.into_string().ok()),
        Some(_) => None,
    };
    let peppers = of("--pepper", "GATEKEY_PEPPERS").unwrap_or_default();
    Global {
        store,
        url,
        admin_key_file: flag("--admin-key-file").map(Into::into),
        ca_file: of("--ca-file", "GATEKEY_CA_FILE").map(Into::into),
        allow_plain_http: words.iter().any(|word| word == "--allow-plain-http"),
        socket: flag("--socket").map(Into::into),
        pepper: peppers
            .to_string_lossy()
            .split(',')
            .filter_map(|one| one.parse().ok())
            .collect(),
        json: true,
        // Who completes a word becomes no server: a file of a fleet is asked by its socket.
        #[cfg(feature = "postgres")]
        log: Default::default(),
    }
}
