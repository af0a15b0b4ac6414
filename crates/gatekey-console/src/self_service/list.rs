//! The keys of a keyspace.

use gatekey::{Key, Keyspace};

use super::{Ask, cannot_reveal};
use crate::desk::{Found, counts, has_one, is_over, is_retiring, may_rotate};
use crate::fields::query;
use crate::format;
use crate::member::Ceiling;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Actions, Blocks, Cell, Facts, Lead, Link, Note, Row, Table};

/// The address of the list of a keyspace.
pub(super) fn address(call: &Ask, prefix: &str) -> String {
    let path = call.at("/");
    match call.desk().member.ceilings.len() {
        0 | 1 => path,
        _ => format!("{path}{}", query([("keyspace", prefix)])),
    }
}

/// The address of the page about the use of a keyspace.
fn used(call: &Ask, prefix: &str) -> String {
    call.at(&format!("/usage{}", query([("keyspace", prefix)])))
}

/// The address of the form for a new key of a keyspace.
fn new_at(call: &Ask, prefix: &str) -> String {
    call.at(&format!("/new{}", query([("keyspace", prefix)])))
}

/// The way to a new key, where another has ended.
pub(super) fn new_link(call: &Ask, found: &Found) -> Link {
    let text = match found.is_the_only_one() {
        true => call.t("one.request"),
        false => call.t("keys.new"),
    };
    Link::new(new_at(call, found.key.keyspace.as_str()), text).class("primary")
}

/// What the end of a key is called: of one whose place another has, as in the steps.
pub(super) fn end_text(call: &Ask, takes_over: Option<&Found>) -> String {
    match takes_over {
        Some(_) => call.t("steps.delete_act"),
        None => call.t("act.revoke"),
    }
}

fn title_of(call: &Ask, ceiling: &Ceiling, keyspace: &Keyspace) -> String {
    match (ceiling.title.as_str(), keyspace.description.as_str()) {
        ("", "") => call.t("keys.title"),
        ("", text) | (text, _) => text.to_owned(),
    }
}

/// Which keyspace a page is about.
pub(super) enum Asked {
    One(Box<(Ceiling, Keyspace)>),
    /// None was named, and there is not just one: a page to choose on.
    Choice(Reply),
}

/// The keyspace that the address names, or the only one that there is.
pub(super) fn asked(call: &Ask, path: &str, title: &str) -> Result<Asked, Fault> {
    let ceilings = &call.desk().member.ceilings;
    let named = call.query.one("keyspace")?;
    let prefix = match (named, ceilings.as_slice()) {
        (Some(prefix), _) => prefix,
        (None, [one]) => one.keyspace.as_str(),
        (None, []) => return Ok(Asked::Choice(nothing_to_manage(call).into())),
        (None, many) => {
            let mut links = Vec::new();
            for ceiling in many {
                let prefix = ceiling.keyspace.as_str();
                let (ceiling, keyspace) = call.desk().ceiling(prefix)?;
                let href = call.at(&format!("{path}{}", query([("keyspace", prefix)])));
                links.push(Link::new(href, title_of(call, &ceiling, &keyspace)));
            }
            let blocks = Blocks::new()
                .with(&Lead {
                    text: call.t("choose.lead"),
                })
                .with(&Actions {
                    label: call.t("nav.actions"),
                    links,
                });
            return Ok(Asked::Choice(Page::new(call.t(title), blocks).into()));
        }
    };
    Ok(Asked::One(Box::new(call.desk().ceiling(prefix)?)))
}

fn nothing_to_manage(call: &Ask) -> Page {
    let note = Note::new("info", call.t("keys.none_title"), call.t("keys.none_text"));
    Page::new(call.t("keys.title"), Blocks::new().with(&note))
}

pub(super) fn list(call: &Ask) -> Result<Reply, Fault> {
    let member = &call.desk().member;
    let asked = call.query.one("keyspace")?;
    let first = member.ceilings.first().map(|first| first.keyspace);
    let Some(prefix) = asked.or(first.as_ref().map(gatekey::Prefix::as_str)) else {
        return Ok(nothing_to_manage(call).into());
    };
    let (ceiling, keyspace) = call.desk().ceiling(prefix)?;
    call.desk().write_usage();
    let (keys, more) = call.desk().list(ceiling.keyspace)?;
    let title = title_of(call, &ceiling, &keyspace);
    let mut blocks = Blocks::new();
    if let Some(done) = call.done() {
        blocks.push(&done);
    }
    match has_one(&ceiling, &keyspace) {
        true => one(call, &mut blocks, &ceiling, &keys)?,
        false => many(call, &mut blocks, &ceiling, &keys, more),
    }
    Ok(Page::new(title, blocks).into())
}

/// One key at a time: the card of it, and a button that replaces it.
fn one(call: &Ask, blocks: &mut Blocks, ceiling: &Ceiling, keys: &[Key]) -> Result<(), Fault> {
    blocks.push(&Lead {
        text: call.t("one.lead"),
    });
    let new = new_at(call, ceiling.keyspace.as_str());
    let (texts, now) = (&call.site.look.texts, call.desk().now());
    let mut current = keys.iter().filter(|key| !is_over(key)).peekable();
    if current.peek().is_none() {
        let mut links = vec![Link::new(new, call.t("one.request")).class("primary")];
        let note = match keys.iter().max_by_key(|key| key.created_at) {
            // Whose requests fail has to hear why.
            Some(last) => {
                let at = call.at(&format!("/keys/{}", last.id));
                links.push(Link::new(at, call.t("one.details")));
                Note::new("warn", call.t("one.ended"), call.t("one.ended_text"))
            }
            None => Note::new("info", call.t("one.none"), call.t("one.none_text")),
        };
        blocks.push(&note);
        blocks.push(&Actions {
            label: call.t("nav.actions"),
            links,
        });
        return Ok(());
    }
    for key in current {
        let at = |page: &str| call.at(&format!("/keys/{}{page}", key.id));
        blocks.push(&Facts {
            heading: format::name_of(key),
            rows: vec![
                (call.t("key.state"), format::state(texts, key.state)),
                (call.t("key.id"), Cell::Code(key.id.to_string())),
                (
                    call.t("key.created"),
                    format::time(texts, key.created_at, now),
                ),
                (call.t("key.last_used"), format::used(texts, key, now)),
                (call.t("key.ends"), format::expiry(texts, key, now)),
                (
                    call.t("key.requests"),
                    Cell::Number(format::number(key.usage.count)),
                ),
            ],
        });
        let takes_over = call.desk().takes_over(key)?;
        let mut links = vec![
            Link::new(at(""), call.t("one.details")),
            Link::new(at("/revoke"), end_text(call, takes_over.as_ref())),
        ];
        if may_rotate(key) {
            let again = Link::new(at("/rotate"), call.t("one.regenerate"));
            links.insert(0, again.class("primary"));
        }
        blocks.push(&Actions {
            label: call.with("one.actions", &[&format::name_of(key)]),
            links,
        });
    }
    if keys.iter().any(may_rotate) {
        blocks.push(&cannot_reveal(call, true));
    }
    Ok(())
}

fn many(call: &Ask, blocks: &mut Blocks, ceiling: &Ceiling, keys: &[Key], more: bool) {
    let held = keys.iter().filter(|key| counts(key)).count() as u64;
    let lead = match ceiling.keys_max {
        Some(max) => call.with("keys.held_of", &[&held, &max]),
        None => call.with("keys.held", &[&held]),
    };
    // They stand in the list, and do not count.
    let lead = match keys.iter().filter(|key| is_retiring(key)).count() {
        0 => lead,
        retiring => call.with("keys.held_besides", &[&lead, &retiring]),
    };
    blocks.push(&Lead { text: lead });
    if more {
        blocks.push(&Note::new(
            "warn",
            call.t("keys.more_title"),
            call.t("keys.more_text"),
        ));
    }
    let prefix = ceiling.keyspace.as_str();
    let all = call.query.has("show", "all");
    let list = address(call, prefix);
    let joint = if list.contains('?') { '&' } else { '?' };
    let other = match all {
        true => Link::new(list, call.t("keys.show_current")),
        false => Link::new(format!("{list}{joint}show=all"), call.t("keys.show_all")),
    };
    let new = new_at(call, prefix);
    blocks.push(&Actions {
        label: call.t("nav.actions"),
        links: vec![
            Link::new(new, call.t("keys.new")).class("primary"),
            Link::new(used(call, prefix), call.t("usage.title")),
            other,
        ],
    });
    let shown: Vec<&Key> = keys.iter().filter(|key| all || !is_over(key)).collect();
    if shown.is_empty() && !keys.is_empty() {
        let (title, text) = (call.t("keys.ended"), call.t("keys.ended_text"));
        blocks.push(&Note::new("warn", title, text));
        return;
    }
    if ceiling.levels.is_empty() {
        blocks.push(&table(call, call.t("keys.caption"), &shown));
        return;
    }
    // A table for each owner below.
    let mut rest = shown.as_slice();
    if rest.is_empty() {
        blocks.push(&table(call, call.t("keys.caption"), &[]));
    }
    // In the order of owners, whatever their states.
    let mut sorted = rest.to_vec();
    sorted.sort_by(|a, b| a.owner.cmp(&b.owner));
    rest = &sorted;
    while let Some(first) = rest.first() {
        let count = rest
            .iter()
            .take_while(|key| key.owner == first.owner)
            .count();
        let (group, behind) = rest.split_at(count);
        let owner = first.owner.as_str();
        let below = owner
            .strip_prefix(call.desk().member.owner.as_str())
            .unwrap_or(owner);
        let below = below.trim_start_matches('/').replace('/', " / ");
        let caption = match below.is_empty() {
            true => first.owner.to_string(),
            false => below,
        };
        blocks.push(&table(call, caption, group));
        rest = behind;
    }
}

fn table(call: &Ask, caption: String, keys: &[&Key]) -> Table {
    let (texts, now) = (&call.site.look.texts, call.desk().now());
    let have_plans = keys.iter().any(|key| key.plan.is_some());
    let row = |key: &&Key| -> Row {
        let below = match (&key.name, key.labels.get("purpose")) {
            (Some(_), Some(purpose)) => format!("{} - {purpose}", key.id),
            (Some(_), None) => key.id.to_string(),
            (None, Some(purpose)) => purpose.clone(),
            (None, None) => String::new(),
        };
        let name = Cell::Entry {
            href: call.at(&format!("/keys/{}", key.id)),
            text: format::name_of(key),
            below,
        };
        let mut cells = vec![
            name,
            format::state(texts, key.state),
            format::used(texts, key, now),
            format::expiry(texts, key, now),
        ];
        if have_plans {
            let plan = key.plan.clone().unwrap_or_else(|| call.t("key.no_plan"));
            cells.insert(2, Cell::Text(plan));
        }
        cells.into()
    };
    let mut columns = vec!["key.name", "key.state", "key.last_used", "key.ends"];
    if have_plans {
        columns.insert(2, "key.plan");
    }
    Table {
        caption,
        columns: columns.into_iter().map(|name| call.t(name)).collect(),
        rows: keys.iter().map(row).collect(),
        empty: call.t("keys.empty"),
        ..Table::default()
    }
}
