//! One key, as operators see it. What they do with it is in the files beside.

mod edit;
mod end;
mod issue;
mod limits;
mod rotate;

use gatekey::{Key, KeyState, Keyspace};
use gatekey_admin::Right;

use super::{Ask, hints, keys, trail};
use crate::chart;
use crate::desk::{counts, is_over, mark};
use crate::format;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Actions, Blocks, Cell, Facts, Form, Link};

pub(super) use edit::{edit, update};
pub(super) use end::{disable, enable, note, reason_of, reasons, revoke, revoke_form};
pub(super) use issue::{issue, new_for, new_form};
pub(super) use limits::{limits, limits_form};
pub(super) use rotate::{rotate, rotate_form};

const DAY: u64 = 86_400;

pub(super) fn show(call: &Ask) -> Result<Reply, Fault> {
    let _ = call.engine().flush();
    let key = call.key()?;
    let keyspace = call.engine().keyspace(key.keyspace)?;
    let at = |page: &str| call.at(&format!("/keys/{}{page}", key.id));
    let mut blocks = Blocks::new();
    if let Some(done) = call.done() {
        blocks.push(&done);
    }
    let (may_issue, may_revoke) = (call.who.may(Right::Issue), call.who.may(Right::Revoke));
    let mut links = Vec::new();
    if may_issue && counts(&key) && key.state != KeyState::Disabled {
        links.push(Link::new(at("/rotate"), call.t("act.rotate")));
    }
    if may_issue && !is_over(&key) {
        links.push(Link::new(at("/edit"), call.t("act.edit")));
        links.push(Link::new(at("/limits"), call.t("act.limits")));
    }
    if may_revoke && key.revoked.is_none() {
        links.push(Link::new(at("/revoke"), call.t("act.revoke")));
    }
    links.push(Link::new(
        keys::owner_address(call, key.owner.as_str()),
        call.t("key.to_owner"),
    ));
    // What can be undone stands before what cannot.
    if !is_over(&key) {
        if key.disabled && may_issue {
            let form = Form::post(at("/enable"), call.t("key.enable"));
            blocks.push(&form.inline().hidden("seen", mark(&key)));
        } else if !key.disabled && may_revoke {
            let form = Form::post(at("/disable"), call.t("key.disable")).plain();
            blocks.push(&form.inline().hidden("seen", mark(&key)));
        }
    }
    blocks.push(&Actions {
        label: call.t("nav.actions"),
        links,
    });
    if let Some(note) = hints::note(call, &key)? {
        blocks.push(&note);
    }
    blocks.push(&facts(call, &key, &keyspace)?);
    blocks.push(&usage(call, &key)?);
    let now = call.engine().now();
    let days = call
        .engine()
        .usage_of_key(key.id, chart::since_days(now), now)?;
    blocks.push(&chart::of_days(&call.site.look.texts, "usage", days, now));
    let entries = call.engine().history(key.id, 0, 200)?;
    blocks.push(&trail::table(
        call,
        call.t("history.title"),
        entries.iter().rev(),
    ));
    Ok(Page::new(format::name_of(&key), blocks).into())
}

fn facts(call: &Ask, key: &Key, keyspace: &Keyspace) -> Result<Facts, Fault> {
    let (texts, now) = (&call.site.look.texts, call.engine().now());
    let names: Vec<String> = keyspace
        .names(key.permissions)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let permissions = match names.is_empty() {
        true => Cell::Text(call.t("key.no_permissions")),
        false => Cell::Chips(names),
    };
    let owner = call.engine().owner(key.owner.clone())?;
    let mut rows = vec![
        (call.t("key.state"), format::state(texts, key.state)),
        (call.t("key.id"), Cell::Code(key.id.to_string())),
        (
            call.t("key.owner"),
            Cell::Link {
                href: keys::owner_address(call, key.owner.as_str()),
                text: key.owner.to_string(),
            },
        ),
        (
            call.t("key.keyspace"),
            Cell::Link {
                href: call.at(&format!("/keyspaces/{}", key.keyspace)),
                text: key.keyspace.to_string(),
            },
        ),
        (call.t("key.permissions"), permissions),
        (
            call.t("key.created"),
            format::time(texts, key.created_at, now),
        ),
        (call.t("key.ends"), format::expiry(texts, key, now)),
    ];
    if let Some(by) = &key.created_by {
        rows.push((call.t("key.created_by"), Cell::Text(by.clone())));
    }
    if owner.is_suspended() {
        rows.push((
            call.t("key.owner_state"),
            Cell::State {
                class: "suspended",
                word: call.t("state.suspended"),
            },
        ));
    }
    if let Some(revoked) = &key.revoked {
        let by = revoked.by.clone().unwrap_or_default();
        let note = revoked.note.clone().unwrap_or_default();
        let text = call.with("key.revoked_text", &[&revoked.reason, &by, &note]);
        rows.push((call.t("key.revoked"), Cell::Text(text)));
    }
    let plan = key.plan.clone().unwrap_or_else(|| call.t("key.no_plan"));
    rows.push((call.t("key.plan"), Cell::Text(plan)));
    rows.extend(limits::rows(call, key));
    if !key.networks.is_empty() {
        let networks = key.networks.iter().map(ToString::to_string).collect();
        rows.push((call.t("key.networks"), Cell::Chips(networks)));
    }
    if !key.labels.is_empty() {
        let labels = key
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        rows.push((call.t("key.labels"), Cell::Chips(labels)));
    }
    if let Some(text) = &key.description {
        rows.push((call.t("key.description"), Cell::Text(text.clone())));
    }
    for (id, name) in [
        (key.successor, "key.successor"),
        (key.predecessor, "key.predecessor"),
    ] {
        if let Some(id) = id {
            let href = call.at(&format!("/keys/{id}"));
            let text = id.to_string();
            rows.push((call.t(name), Cell::Link { href, text }));
        }
    }
    Ok(Facts {
        heading: call.t("key.facts"),
        rows,
    })
}

fn usage(call: &Ask, key: &Key) -> Result<Facts, Fault> {
    let (texts, now) = (&call.site.look.texts, call.engine().now());
    let mut rows = vec![
        (
            call.t("key.last_used"),
            format::time_or(texts, key.usage.last_used, now, "key.never_used"),
        ),
        (
            call.t("key.requests"),
            Cell::Number(format::number(key.usage.count)),
        ),
    ];
    if !is_over(key) {
        let quotas = call.engine().quotas_left(key.id)?;
        let limits = call.engine().limits_left(key.id)?;
        rows.extend(
            quotas
                .iter()
                .map(|left| format::quota(texts, &key.owner, left)),
        );
        rows.extend(
            limits
                .iter()
                .map(|status| format::limit(texts, &key.owner, status)),
        );
    }
    Ok(Facts {
        heading: call.t("key.usage"),
        rows,
    })
}

/// A form that comes back with what was wrong.
pub(super) fn back(call: &Ask, title: &str, form: Form, fault: &Fault) -> Reply {
    let (heading, text) = call.problem(fault);
    let page = Page::new(
        call.t(title),
        Blocks::new().with(&form.problem(heading, text)),
    );
    page.status(fault.status()).into()
}
