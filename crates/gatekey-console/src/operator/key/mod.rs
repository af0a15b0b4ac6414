//! One key, as operators see it. What they do with it is in the files beside.

mod edit;
mod end;
mod issue;
mod limits;
mod rotate;

use gatekey::{Key, Keyspace};
use gatekey_admin::Right;

use super::{Ask, Clerk, hints, keys, trail};
use crate::chart;
use crate::desk::{is_over, mark, may_rotate};
use crate::facts;
use crate::format;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Actions, Blocks, Cell, Facts, Form, Link};

pub(super) use edit::{edit, plan_text, update};
pub(super) use end::{disable, enable, note, reason_of, reason_text, reasons, revoke, revoke_form};
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
    if may_issue && may_rotate(&key) {
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
    blocks.push(&usage(call, &key, &keyspace)?);
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
        Some(key.id),
    ));
    Ok(Page::new(format::name_of(&key), blocks).into())
}

/// A key, as pages tell of it.
fn of<'a>(call: &'a Ask, key: &'a Key, keyspace: &'a Keyspace) -> facts::Of<'a, Clerk> {
    let now = call.engine().now();
    facts::Of {
        call,
        key,
        keyspace,
        now,
    }
}

fn facts(call: &Ask, key: &Key, keyspace: &Keyspace) -> Result<Facts, Fault> {
    let owner = Cell::Link {
        href: keys::owner_address(call, key.owner.as_str()),
        text: key.owner.to_string(),
    };
    let place = Cell::Link {
        href: call.at(&format!("/keyspaces/{}", key.keyspace)),
        text: key.keyspace.to_string(),
    };
    let of = of(call, key, keyspace);
    let mut rows = of.first([
        (call.t("key.owner"), owner),
        (call.t("key.keyspace"), place),
    ]);
    if let Some(by) = &key.created_by {
        rows.push((call.t("key.created_by"), trail::who(call, Some(by))));
    }
    if call.engine().owner(key.owner.clone())?.is_suspended() {
        rows.push((
            call.t("key.owner_state"),
            Cell::State {
                class: "suspended",
                word: call.t("state.suspended"),
            },
        ));
    }
    if let Some(revoked) = &key.revoked {
        let mut text = reason_text(call, revoked.reason);
        if let Some(note) = &revoked.note {
            text = call.with("key.revoked_text", &[&text, note]);
        }
        rows.push((call.t("key.revoked"), Cell::Text(text)));
        let by = trail::who(call, revoked.by.as_deref());
        rows.push((call.t("key.revoked_by"), by));
    }
    let plan = key.plan.clone().unwrap_or_else(|| call.t("key.no_plan"));
    rows.push((call.t("key.plan"), Cell::Text(plan)));
    rows.extend(limits::rows(call, key));
    rows.extend(of.last());
    Ok(Facts {
        heading: call.t("key.facts"),
        rows,
    })
}

fn usage(call: &Ask, key: &Key, keyspace: &Keyspace) -> Result<Facts, Fault> {
    let (limits, quotas) = match is_over(key) {
        true => (Vec::new(), Vec::new()),
        false => (
            call.engine().limits_left(key.id)?,
            call.engine().quotas_left(key.id)?,
        ),
    };
    Ok(of(call, key, keyspace).used(&limits, &quotas))
}

/// A form that comes back with what was wrong.
pub(super) fn back(call: &Ask, title: &str, form: Form, fault: &Fault) -> Reply {
    let blocks = Blocks::new().with(&call.again(form, fault));
    let page = Page::new(call.t(title), blocks);
    page.status(fault.status()).into()
}
