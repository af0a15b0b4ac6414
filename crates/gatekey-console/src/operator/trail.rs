//! Who did what.

use gatekey::{AuditEntry, AuditEvent, Change, KeyId, OwnerPath, Prefix, Scope, Timestamp};

use super::key::reason_text;
use super::{Ask, keys};
use crate::fields::query;
use crate::format;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Blocks, Cell, Link, Row, Table};

const PAGE: u64 = 50;

/// Who did something. Of an operator who logs in by an admin key, the trail has the key's
/// id: its name and its owner are said beside.
pub(super) fn who(call: &Ask, actor: Option<&str>) -> Cell {
    let Some(actor) = actor else {
        return Cell::Text(call.t("trail.nobody"));
    };
    let id = actor.strip_prefix("key:").and_then(|id| id.parse().ok());
    match id.map(|id: KeyId| call.engine().find_key(id)) {
        Some(Ok(Some(key))) => Cell::Entry {
            href: call.at(&format!("/keys/{}", key.id)),
            text: match &key.name {
                Some(name) => call.with("trail.named", &[name, &key.owner]),
                None => key.owner.to_string(),
            },
            below: actor.to_owned(),
        },
        _ => Cell::Text(actor.to_owned()),
    }
}

/// Entries, in the order that they come; `about` where they are of the history of a key.
pub(super) fn table<'a>(
    call: &Ask,
    caption: String,
    entries: impl Iterator<Item = &'a AuditEntry>,
    about: Option<KeyId>,
) -> Table {
    let (texts, now) = (&call.site.look.texts, call.engine().now());
    let row = |entry: &AuditEntry| -> Row {
        let text = sentence(call, &entry.event, about);
        let of = subject(call, &entry.event).filter(|_| about.is_none());
        let what = match of {
            Some((href, name)) => Cell::Entry {
                href,
                text,
                below: name,
            },
            None => Cell::Text(text),
        };
        vec![
            Cell::Number(entry.seq.to_string()),
            format::time(texts, entry.at, now),
            who(call, entry.actor.as_deref()),
            what,
        ]
        .into()
    };
    Table {
        caption,
        columns: ["trail.seq", "history.when", "history.who", "history.what"]
            .map(|name| call.t(name))
            .to_vec(),
        rows: entries.map(row).collect(),
        empty: call.t("history.empty"),
        ..Table::default()
    }
}

/// The page of what an entry is about, and what that is called.
fn subject(call: &Ask, event: &AuditEvent) -> Option<(String, String)> {
    let owner = |owner: &OwnerPath| {
        let href = keys::owner_address(call, owner.as_str());
        Some((href, owner.to_string()))
    };
    let keyspace = |prefix: &Prefix| {
        let href = call.at(&format!("/keyspaces/{prefix}"));
        Some((href, prefix.to_string()))
    };
    match event {
        AuditEvent::KeyspaceCreated { keyspace: of }
        | AuditEvent::KeyspaceUpdated { keyspace: of, .. }
        | AuditEvent::KeysRevoked {
            scope: Scope::Keyspace(of),
            ..
        }
        | AuditEvent::KeysRevokedUnnamed {
            scope: Scope::Keyspace(of),
            ..
        }
        | AuditEvent::RevokedKeysNamed {
            scope: Scope::Keyspace(of),
            ..
        } => keyspace(of),
        AuditEvent::OwnerSuspended { owner: of, .. }
        | AuditEvent::OwnerResumed { owner: of, .. }
        | AuditEvent::OwnerUpdated { owner: of, .. }
        | AuditEvent::OwnerQuotaBegun { owner: of, .. }
        | AuditEvent::KeysRevoked {
            scope: Scope::Owner(of),
            ..
        }
        | AuditEvent::KeysRevokedUnnamed {
            scope: Scope::Owner(of),
            ..
        }
        | AuditEvent::RevokedKeysNamed {
            scope: Scope::Owner(of),
            ..
        } => owner(of),
        AuditEvent::KeysPurged { .. } => None,
        event => event.keys().first().map(|id| {
            let href = call.at(&format!("/keys/{id}"));
            (href, id.to_string())
        }),
    }
}

/// A change in a sentence, without what it is about, which stands beside it.
fn sentence(call: &Ask, event: &AuditEvent, about: Option<KeyId>) -> String {
    let ids = |keys: &[KeyId]| {
        let ids: Vec<String> = keys.iter().map(ToString::to_string).collect();
        ids.join(", ")
    };
    let is_among = |keys: &[KeyId]| about.is_some_and(|id| keys.contains(&id));
    let also_ended = |text: String, keys: &[KeyId]| match keys {
        [] => text,
        keys => call.with("audit.superseding", &[&text, &ids(keys)]),
    };
    let noted = |text: String, note: &Option<String>| match note {
        Some(note) => call.with("audit.noted", &[&text, note]),
        None => text,
    };
    match event {
        AuditEvent::KeyspaceCreated { .. } => call.t("audit.keyspace_created"),
        AuditEvent::KeyspaceUpdated { changes, .. } | AuditEvent::KeyUpdated { changes, .. } => {
            call.with("audit.updated", &[&changed(call, changes)])
        }
        AuditEvent::KeyIssued {
            superseded, key, ..
        } if is_among(superseded) => call.with("audit.superseded", &[key]),
        AuditEvent::KeyIssued {
            keyspace,
            owner,
            superseded,
            ..
        } => also_ended(call.with("audit.issued", &[owner, keyspace]), superseded),
        AuditEvent::KeyRotated {
            superseded, new, ..
        } if is_among(superseded) => call.with("audit.superseded", &[new]),
        AuditEvent::KeyRotated {
            old,
            new,
            retiring_until,
            superseded,
        } => {
            let is_new = about == Some(*new);
            let until = retiring_until.map(format::instant);
            let text = match (is_new, &until) {
                (true, Some(until)) => call.with("audit.made_by_rotation", &[old, until]),
                (true, None) => call.with("audit.made_by_rotation_at_once", &[old]),
                (false, Some(until)) => call.with("audit.rotated", &[new, until]),
                (false, None) => call.with("audit.rotated_at_once", &[new]),
            };
            also_ended(text, superseded)
        }
        AuditEvent::KeyReissued { old, new } => match about == Some(*new) {
            true => call.with("audit.made_again", &[old]),
            false => call.with("audit.reissued", &[new]),
        },
        AuditEvent::KeyRevoked { reason, note, .. } => noted(
            call.with("audit.revoked", &[&reason_text(call, *reason)]),
            note,
        ),
        AuditEvent::KeysRevoked {
            keys, reason, note, ..
        } => match about {
            Some(_) => noted(
                call.with("audit.revoked_with_all", &[&reason_text(call, *reason)]),
                note,
            ),
            None => {
                let count = format::number(keys.len() as u64);
                noted(
                    call.with("audit.keys_revoked", &[&count, &reason_text(call, *reason)]),
                    note,
                )
            }
        },
        AuditEvent::KeysRevokedUnnamed {
            keys, reason, note, ..
        } => {
            let why = reason_text(call, *reason);
            let text = match about {
                Some(_) => call.with("audit.revoked_with_all", &[&why]),
                None => call.with("audit.keys_revoked", &[&counted(*keys), &why]),
            };
            noted(text, note)
        }
        AuditEvent::RevokedKeysNamed { entry, keys, .. } => match about {
            Some(_) => call.with("audit.revoked_by_entry", &[entry]),
            None => {
                let count = format::number(keys.len() as u64);
                call.with("audit.keys_revoked_by_entry", &[&count, entry])
            }
        },
        AuditEvent::KeyDisabled { .. } => call.t("audit.disabled"),
        AuditEvent::KeyEnabled { .. } => call.t("audit.enabled"),
        AuditEvent::OwnerSuspended { keys, note, .. } => {
            noted(call.with("audit.suspended", &[&counted(*keys)]), note)
        }
        AuditEvent::OwnerResumed { keys, .. } => call.with("audit.resumed", &[&counted(*keys)]),
        AuditEvent::OwnerUpdated {
            keyspace, changes, ..
        } => call.with("audit.owner_updated", &[keyspace, &changed(call, changes)]),
        AuditEvent::OwnerQuotaBegun { keyspace, .. } => {
            call.with("audit.owner_quota_begun", &[keyspace])
        }
        AuditEvent::KeysPurged { keys } => {
            let count = format::number(keys.len() as u64);
            call.with("audit.purged", &[&count])
        }
        AuditEvent::DigestsRenewed { pepper, keys } => {
            let count = format::number(keys.len() as u64);
            call.with("audit.digests_renewed", &[&count, pepper])
        }
        AuditEvent::AuditTrimmed { through, .. } => {
            call.with("audit.trimmed", &[&through.seq.to_string()])
        }
        AuditEvent::StoreRestored { backup, trail } => {
            call.with("audit.restored", &[&backup.seq, &trail.seq])
        }
        AuditEvent::TimeSetBack { from, to, revived } => {
            let (from, to) = (format::instant(*from), format::instant(*to));
            call.with(
                "audit.time_set_back",
                &[&from, &to, &format::number(*revived)],
            )
        }
        AuditEvent::ExtensionChanged {
            extension,
            event,
            subject,
            note,
        } => {
            let event = event.replace('_', " ");
            let parts: [&dyn std::fmt::Display; 3] = [extension, &event, subject];
            noted(call.with("audit.extension", &parts), note)
        }
        AuditEvent::ImportChanged { import, changes } if changes.is_empty() => {
            call.with("audit.import_begun", &[import])
        }
        AuditEvent::ImportChanged { import, changes } => {
            call.with("audit.import_updated", &[import, &changed(call, changes)])
        }
        AuditEvent::KeysImported { import, keys } => match about {
            Some(_) => call.with("audit.imported", &[import]),
            None => {
                let count = format::number(keys.len() as u64);
                call.with("audit.keys_imported", &[import, &count])
            }
        },
        AuditEvent::KeyClaimed { import, .. } => call.with("audit.claimed", &[import]),
        AuditEvent::ImportEnded { import, .. } => call.with("audit.import_ended", &[import]),
        // What is repaired is told in the words of the repair.
        event => event.to_string(),
    }
}

/// How many keys a change reached, which is not counted for many.
fn counted(keys: u64) -> String {
    match AuditEvent::keys_counted(keys) {
        Some(keys) => format::number(keys),
        None => format!("> {}", format::number(AuditEvent::KEYS_COUNTED_MAX)),
    }
}

/// The values of a change: of a list, the items that the other does not have. A keyspace may
/// have many plans, of which one was changed.
fn differing(change: &Change) -> (String, String) {
    let between = match change.field.as_str() {
        "plans" | "owner defaults" => "; ",
        "permissions" | "networks" => ", ",
        _ => return (change.before.clone(), change.after.clone()),
    };
    let items = |text: &str| -> Vec<String> { text.split(between).map(str::to_owned).collect() };
    let (before, after) = (items(&change.before), items(&change.after));
    let without = |of: &[String], other: &[String]| {
        let left: Vec<&str> = of
            .iter()
            .filter(|item| !other.contains(item))
            .map(String::as_str)
            .collect();
        left.join(between)
    };
    (without(&before, &after), without(&after, &before))
}

/// What changed, and how: an instant as people write it.
fn changed(call: &Ask, changes: &[Change]) -> String {
    let value = |text: &str| match text.parse::<Timestamp>() {
        Ok(at) => format::instant(at),
        Err(_) if text.is_empty() => call.t("audit.nothing"),
        Err(_) => text.to_owned(),
    };
    let one = |change: &Change| {
        let field = change.field.replace('_', " ");
        let (before, after) = differing(change);
        let (before, after) = (value(&before), value(&after));
        call.with("audit.change", &[&field, &before, &after])
    };
    let all: Vec<String> = changes.iter().map(one).collect();
    all.join("; ")
}

/// The newest entries before a position.
pub(super) fn newest(
    call: &Ask,
    before: Option<u64>,
    count: u64,
) -> Result<Vec<AuditEntry>, Fault> {
    let span = call.engine().audit_span()?;
    let first = span.after.seq.saturating_add(1);
    let end = before
        .unwrap_or(u64::MAX)
        .min(span.last.seq.saturating_add(1));
    let from = end.saturating_sub(count).max(first);
    let wanted = usize::try_from(end.saturating_sub(from)).unwrap_or(0);
    if wanted == 0 {
        return Ok(Vec::new());
    }
    let mut entries = call.engine().audit_page(from, wanted)?.entries;
    entries.retain(|entry| entry.seq < end);
    entries.reverse();
    Ok(entries)
}

pub(super) fn list(call: &Ask) -> Result<Reply, Fault> {
    let before = match call.query.one("before")? {
        Some(before) => Some(before.parse().map_err(|_| Fault::Tampered)?),
        None => None,
    };
    let entries = newest(call, before, PAGE)?;
    let mut table = table(call, call.t("trail.caption"), entries.iter(), None);
    let oldest = entries.last().map_or(0, |entry| entry.seq);
    if oldest > call.engine().audit_span()?.after.seq.saturating_add(1) {
        let oldest = oldest.to_string();
        let href = call.at(&format!("/trail{}", query([("before", oldest.as_str())])));
        table.next = Some(Link::new(href, call.t("trail.older")));
    }
    Ok(Page::new(call.t("nav.trail"), Blocks::new().with(&table)).into())
}
