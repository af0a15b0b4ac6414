//! Who did what.

use gatekey::{AuditEntry, KeyId};

use super::Ask;
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

/// Entries, in the order that they come.
pub(super) fn table<'a>(
    call: &Ask,
    caption: String,
    entries: impl Iterator<Item = &'a AuditEntry>,
) -> Table {
    let (texts, now) = (&call.site.look.texts, call.engine().now());
    let row = |entry: &AuditEntry| -> Row {
        let text = entry.event.to_string();
        let what = match entry.event.keys().first() {
            Some(id) => Cell::Entry {
                href: call.at(&format!("/keys/{id}")),
                text: id.to_string(),
                below: text,
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
    let mut table = table(call, call.t("trail.caption"), entries.iter());
    let oldest = entries.last().map_or(0, |entry| entry.seq);
    if oldest > call.engine().audit_span()?.after.seq.saturating_add(1) {
        let oldest = oldest.to_string();
        let href = call.at(&format!("/trail{}", query([("before", oldest.as_str())])));
        table.next = Some(Link::new(href, call.t("trail.older")));
    }
    Ok(Page::new(call.t("nav.trail"), Blocks::new().with(&table)).into())
}
