//! What a key has of its own of limits, and its quota.

use gatekey::Key;
use gatekey_admin::Right;
use gatekey_admin::wire::KeyChanges;

use super::back;
use crate::desk::{is_over, mark};
use crate::format;
use crate::operator::{Ask, given};
use crate::reply::{Fault, Page, Reply, see};
use crate::view::{Blocks, Cell, Form, Lead};

/// What a key has of its own, beside its name.
pub(super) fn rows(call: &Ask, key: &Key) -> [(String, Cell); 2] {
    let limits = match (&key.limits, &key.plan) {
        (Some(limits), _) => format::limits(&call.site.look.texts, limits),
        (None, Some(_)) => call.t("whose_limits.plan"),
        (None, None) => call.t("plan.no_limit"),
    };
    let quota = match key.quota {
        Some(status) => given::quota_text(call, status.quota),
        None => call.t("key.no_quota"),
    };
    [
        (call.t("keyspaces.limits"), Cell::Text(limits)),
        (call.t("owner.quota"), Cell::Text(quota)),
    ]
}

fn limiting(call: &Ask, key: &Key) -> Form {
    let address = format!("/keys/{}", key.id);
    let mut form = Form::post(call.at(&format!("{address}/limits")), call.t("form.save"))
        .hidden("seen", mark(key))
        .cancel(call.at(&address), call.t("form.cancel"));
    for field in given::own_limits(call, key.limits.as_deref()) {
        form = form.field(field);
    }
    form.field(given::quota(call, key.quota.map(|status| status.quota)))
}

pub(in crate::operator) fn limits_form(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Issue)?;
    let key = call.key()?;
    let lead = Lead {
        text: call.with("limits.lead", &[&format::name_of(&key), &key.keyspace]),
    };
    let blocks = Blocks::new().with(&lead).with(&limiting(call, &key));
    Ok(Page::new(call.t("limits.title"), blocks).into())
}

pub(in crate::operator) fn limits(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Issue)?;
    let turn = call.key()?;
    let _turn = call.who.turns.take(&turn.owner);
    let key = call.seen()?;
    if is_over(&key) {
        return Err(Fault::Changed);
    }
    match changes(call, &key)
        .and_then(|changes| call.api("PATCH", &format!("/v1/keys/{}", key.id), &changes, None))
    {
        Ok(_) => see(format!("/keys/{}?done=saved", key.id)),
        Err(fault) if fault.is_for_the_form() => {
            Ok(back(call, "limits.title", limiting(call, &key), &fault))
        }
        Err(fault) => Err(fault),
    }
}

fn changes(call: &Ask, key: &Key) -> Result<KeyChanges, Fault> {
    let quota = key.quota.map(|status| status.quota);
    Ok(KeyChanges {
        limits: given::own_limits_in(call, key.limits.as_deref())?,
        quota: given::quota_change(call, quota)?,
        ..KeyChanges::default()
    })
}
