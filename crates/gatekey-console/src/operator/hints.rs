//! What a person should look at.

use gatekey::{Cursor, Hint, HintRule};

use super::{Ask, keys};
use crate::fields::query;
use crate::format;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Actions, Blocks, Cell, Lead, Link, Note, Row, Table};

/// How many keys are looked at for one page. Less in tests, which have fewer keys.
const KEYS_MAX: usize = if cfg!(test) { 50 } else { 2_000 };
/// How many at once: a page of the engine's.
const KEYS: usize = KEYS_MAX / 10;
/// With so many hints, a page ends before.
const HINTS: usize = 100;

/// A hint in a sentence.
fn text(call: &Ask, hint: &Hint) -> String {
    let count = format::number(hint.count);
    let since = match hint.since {
        Some(at) => format::instant(at),
        None => call.t("key.never_used"),
    };
    let usual = format::number(hint.usual);
    let network = hint.network.map(|network| network.to_string());
    call.with(
        &format!("hint.{}", hint.rule.code()),
        &[&count, &since, &usual, &network.unwrap_or_default()],
    )
}

/// How soon a person should look, the least first.
const fn weight(rule: HintRule) -> u8 {
    match rule {
        HintRule::RevokedKeyTried => 0,
        HintRule::DormantKeyUsed => 1,
        HintRule::UnusualRate => 2,
        HintRule::OldKeyInUse => 3,
        _ => 4,
    }
}

/// The hints about one key, as a note.
pub(super) fn note(call: &Ask, key: &gatekey::Key) -> Result<Option<Note>, Fault> {
    let hints = call.engine().hints_of(key.id)?;
    if hints.is_empty() {
        return Ok(None);
    }
    let mut note = Note::new("warn", call.t("hint.title"), "");
    note.items = hints.iter().map(|hint| text(call, hint)).collect();
    Ok(Some(note))
}

pub(super) fn list(call: &Ask) -> Result<Reply, Fault> {
    let mut after: Option<Cursor> = match call.query.one("after")? {
        Some(after) => Some(after.parse().map_err(|_| Fault::Tampered)?),
        None => None,
    };
    // There may be many keys that nobody uses, which wait for no one: they are a list of
    // their own, so that what looks like an attack does not stand behind them.
    let of_unused = call.query.has("of", "unused");
    let is_further = after.is_some();
    let _ = call.engine().flush();
    let mut hints = Vec::new();
    let mut looked_at = 0;
    while looked_at < KEYS_MAX {
        let page = call.engine().hints(after.as_ref(), KEYS)?;
        looked_at += KEYS;
        let hints_here = page.hints.into_iter();
        hints.extend(hints_here.filter(|hint| (hint.rule == HintRule::Unused) == of_unused));
        after = page.next;
        if after.is_none() || hints.len() >= HINTS {
            break;
        }
    }
    // Those that look most like an attack first, and of the same kind, the most.
    hints.sort_by_key(|hint| (weight(hint.rule), std::cmp::Reverse(hint.count)));
    let row = |hint: &Hint| -> Row {
        vec![
            Cell::Id {
                href: call.at(&format!("/keys/{}", hint.key)),
                text: hint.key.to_string(),
            },
            Cell::Link {
                href: keys::owner_address(call, hint.owner.as_str()),
                text: hint.owner.to_string(),
            },
            Cell::Text(hint.keyspace.to_string()),
            Cell::Text(text(call, hint)),
        ]
        .into()
    };
    let is_part = after.is_some() || is_further;
    let empty = match after {
        Some(_) => "hint.none_here",
        None => "hint.none",
    };
    let next = after.map(|next| {
        let next = next.to_string();
        let mut pairs = vec![("after", next.as_str())];
        if of_unused {
            pairs.push(("of", "unused"));
        }
        let href = call.at(&format!("/hints{}", query(pairs)));
        Link::new(href, call.t("hint.next"))
    });
    let caption = match of_unused {
        true => "hint.only_unused",
        false => "hint.caption",
    };
    let table = Table {
        caption: call.t(caption),
        columns: ["key.id", "key.owner", "key.keyspace", "hint.what"]
            .map(|name| call.t(name))
            .to_vec(),
        rows: hints.iter().map(row).collect(),
        empty: call.t(empty),
        next,
        ..Table::default()
    };
    let other = match of_unused {
        true => Link::new(call.at("/hints"), call.t("hint.all_else")),
        false => Link::new(call.at("/hints?of=unused"), call.t("hint.only_unused")),
    };
    let mut blocks = Blocks::new()
        .with(&Lead {
            text: call.t("hint.lead"),
        })
        .with(&Actions {
            label: call.t("nav.actions"),
            links: vec![other],
        });
    if is_part {
        let text = call.with("hint.part_text", &[&format::number(looked_at as u64)]);
        blocks.push(&Note::new("info", call.t("hint.part"), text));
    }
    blocks.push(&table);
    Ok(Page::new(call.t("nav.hints"), blocks).into())
}
