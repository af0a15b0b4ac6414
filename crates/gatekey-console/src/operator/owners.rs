//! Owners: their state, their keys, what they have of their own.

use gatekey::{
    Cursor, Error, Key, KeyFilter, OwnerPath, OwnerSettings, OwnerState, Prefix, Quota, Setting,
};
use gatekey_admin::Right;
use gatekey_admin::wire::{OwnerChanges, ResumeRequest, RevokeOwnerRequest, SuspendRequest};
use serde_json::Value;

use super::{Ask, given, key, keys, trail};
use crate::chart;
use crate::desk::is_over;
use crate::fields::{Fields, query};
use crate::format;
use crate::reply::{Fault, Page, Reply, see};
use crate::view::{
    Actions, Blocks, Cell, Choice, Facts, Field, Form, Kind, Lead, Link, Note, Row, Table,
};

/// How many owners a table has.
const PAGE: usize = 50;

fn owner_in(fields: &Fields) -> Result<OwnerPath, Fault> {
    fields
        .must("owner")?
        .trim()
        .parse()
        .map_err(|_| Fault::NotFound)
}

pub(super) fn list(call: &Ask) -> Result<Reply, Fault> {
    let mut blocks = Blocks::new();
    if let Some(done) = call.done() {
        blocks.push(&done);
    }
    let field = Field::new(Kind::Text, "owner", call.t("key.owner"));
    let form = Form::get(call.at("/owners/one"), call.t("owner.show")).inline();
    blocks.push(&form.field(field.hint(call.t("owner.hint")).required()));
    blocks.push(&suspended(call)?);
    // One keyspace, where a page goes on; else the first owners of each.
    let only = match call.query.one("keyspace")? {
        Some(prefix) => Some(prefix.parse::<Prefix>().map_err(|_| Fault::NotFound)?),
        None => None,
    };
    let after = after_in(call, "after")?;
    for keyspace in call.engine().keyspaces()? {
        let prefix = keyspace.prefix;
        if only.is_some_and(|only| only != prefix) {
            continue;
        }
        let page = call
            .engine()
            .owner_settings_page(prefix, after.as_ref(), PAGE)?;
        if page.owners.is_empty() {
            continue;
        }
        let rows = page.owners.iter().map(|of| settings_row(call, of));
        blocks.push(&Table {
            caption: call.with("owner.with_settings", &[&prefix]),
            columns: SETTINGS.map(|name| call.t(name)).to_vec(),
            rows: rows.collect(),
            next: page.next.map(|next| {
                let next = next.to_string();
                let pairs = [("keyspace", prefix.as_str()), ("after", next.as_str())];
                let href = call.at(&format!("/owners{}", query(pairs)));
                Link::new(href, call.t("allkeys.next"))
            }),
            ..Table::default()
        });
    }
    Ok(Page::new(call.t("nav.owners"), blocks).into())
}

fn link(call: &Ask, owner: &str) -> Cell {
    Cell::Link {
        href: keys::owner_address(call, owner),
        text: owner.to_owned(),
    }
}

/// The columns of what owners have of their own.
const SETTINGS: [&str; 5] = [
    "key.owner",
    "key.plan",
    "keyspaces.limits",
    "owner.cap",
    "owner.quota",
];

fn settings_row(call: &Ask, of: &OwnerSettings) -> Row {
    let none = || call.t("owner.default");
    let quota = of.quota.map(|status| {
        let left = format::number(status.remaining);
        let text = given::quota_text(call, status.quota);
        call.with("owner.quota_left", &[&text, &left])
    });
    let said = |setting: Setting<String>| match setting {
        Setting::Default => none(),
        Setting::Unlimited => call.t("owner.unlimited"),
        Setting::Own(own) => own,
    };
    let limits = of.limits.as_ref();
    let limits = limits.map(|limits| format::limits(&call.site.look.texts, limits));
    vec![
        link(call, of.owner.as_str()),
        Cell::Text(of.plan.clone().unwrap_or_else(none)),
        Cell::Text(limits.unwrap_or_else(none)),
        Cell::Text(said(of.cap.map(|cap| cap.to_string()))),
        Cell::Text(said(quota)),
    ]
    .into()
}

/// A page of the owners that are suspended themselves.
fn suspended(call: &Ask) -> Result<Table, Fault> {
    let after = after_in(call, "suspended")?;
    let page = call.engine().suspended_owners_page(after.as_ref(), PAGE)?;
    let (texts, now) = (&call.site.look.texts, call.engine().now());
    let rows = page.owners.iter().filter_map(|state| {
        let of = state.suspended.as_ref()?;
        let row: Row = vec![
            link(call, state.owner.as_str()),
            format::time(texts, of.at, now),
            trail::who(call, of.by.as_deref()),
            Cell::Text(of.note.clone().unwrap_or_default()),
        ]
        .into();
        Some(row)
    });
    Ok(Table {
        caption: call.t("owner.suspended"),
        columns: ["key.owner", "history.when", "history.who", "revoke.note"]
            .map(|name| call.t(name))
            .to_vec(),
        rows: rows.collect(),
        empty: call.t("owner.none_suspended"),
        next: page.next.map(|next| {
            let next = next.to_string();
            let query = query([("suspended", next.as_str())]);
            Link::new(call.at(&format!("/owners{query}")), call.t("allkeys.next"))
        }),
        ..Table::default()
    })
}

fn after_in(call: &Ask, name: &str) -> Result<Option<Cursor>, Fault> {
    match call.query.one(name)? {
        Some(after) => Ok(Some(after.parse().map_err(|_| Fault::Tampered)?)),
        None => Ok(None),
    }
}

pub(super) fn show(call: &Ask) -> Result<Reply, Fault> {
    let owner = owner_in(&call.query)?;
    let state = call.engine().owner(owner.clone())?;
    let filter = KeyFilter::new().owner_and_below(owner.clone());
    let page = call.engine().keys_page(&filter, None, 20)?;
    let mut settings = Vec::new();
    let mut has_settings = false;
    for keyspace in call.engine().keyspaces()? {
        let of = call
            .engine()
            .owner_settings(keyspace.prefix, owner.clone())?;
        has_settings |= !of.is_empty();
        settings.push((keyspace.prefix, of));
    }
    // Any path may be an owner; nothing but keys and settings shows that one is.
    let is_known = !page.keys.is_empty()
        || !page.damaged.is_empty()
        || has_settings
        || state.suspended.is_some();
    let mut blocks = Blocks::new();
    if let Some(done) = call.done() {
        blocks.push(&done);
    }
    revoked_note(call, &state, &mut blocks)?;
    if is_known {
        blocks.push(&Actions {
            label: call.t("nav.actions"),
            links: links(call, &state),
        });
        known(call, &state, &page.keys, &mut blocks);
    } else {
        let (title, text) = (
            call.with("owner.unknown", &[&owner]),
            call.t("owner.unknown_text"),
        );
        blocks.push(&Note::new("warn", title, text));
        let mut links = vec![Link::new(call.at("/owners"), call.t("owner.other"))];
        if call.who.may(Right::Issue) {
            let new = key::new_for(call, owner.as_str());
            links.push(Link::new(new, call.t("keys.new")));
        }
        blocks.push(&Actions {
            label: call.t("nav.actions"),
            links,
        });
    }
    if is_known || call.who.may(Right::Administer) {
        blocks.push(&settings_table(call, &owner, &settings));
    }
    if is_known {
        let now = call.engine().now();
        let _ = call.engine().flush();
        let since = chart::since_days(now);
        let used = call.engine().usage_of_owner(owner.clone(), since, now)?;
        let texts = &call.site.look.texts;
        blocks.push(&chart::of_days(texts, "usage", used, now));
    }
    Ok(Page::new(owner.to_string(), blocks).into())
}

/// Beside a revocation that is done: what it does not hold for.
fn revoked_note(call: &Ask, state: &OwnerState, blocks: &mut Blocks) -> Result<(), Fault> {
    let is_done = call.query.one("done")? == Some("owner_revoke");
    if is_done && !state.is_suspended() {
        let text = call.t("owner.may_create_text");
        blocks.push(&Note::new("info", call.t("owner.may_create"), text));
    }
    Ok(())
}

/// The address of a page about an owner.
fn address(call: &Ask, page: &str, owner: &OwnerPath) -> String {
    let query = query([("owner", owner.as_str())]);
    call.at(&format!("/owners/{page}{query}"))
}

fn links(call: &Ask, state: &OwnerState) -> Vec<Link> {
    let owner = &state.owner;
    let mut links = Vec::new();
    if call.who.may(Right::Issue) {
        let new = Link::new(key::new_for(call, owner.as_str()), call.t("keys.new"));
        // A new key of one that is suspended is good for nothing yet.
        links.push(match state.is_suspended() {
            true => new,
            false => new.class("primary"),
        });
    }
    let all = call.at(&format!("/keys{}", query([("owner", owner.as_str())])));
    links.push(Link::new(all, call.t("owner.keys")));
    if call.who.may(Right::Revoke) {
        if state.suspended.is_none() {
            let suspend = address(call, "suspend", owner);
            links.push(Link::new(suspend, call.t("owner.suspend")));
        }
        let revoke = address(call, "revoke", owner);
        links.push(Link::new(revoke, call.t("owner.revoke")));
    }
    links
}

/// The state of an owner that there is, and its first keys.
fn known(call: &Ask, state: &OwnerState, first: &[Key], blocks: &mut Blocks) {
    let (texts, now) = (&call.site.look.texts, call.engine().now());
    let (class, word) = match state.is_suspended() {
        true => ("suspended", call.t("state.suspended")),
        false => ("active", call.t("state.active")),
    };
    let mut rows = vec![(call.t("key.state"), Cell::State { class, word })];
    if let Some(of) = &state.suspended {
        rows.push((call.t("owner.since"), format::time(texts, of.at, now)));
        rows.push((call.t("owner.by"), trail::who(call, of.by.as_deref())));
        rows.push((
            call.t("revoke.note"),
            Cell::Text(of.note.clone().unwrap_or_default()),
        ));
    }
    if let Some(above) = &state.suspended_above {
        rows.push((call.t("owner.above"), link(call, above.as_str())));
    }
    blocks.push(&Facts {
        heading: call.t("owner.facts"),
        rows,
    });
    if state.suspended.is_some() && call.who.may(Right::Issue) {
        let form = Form::post(call.at("/owners/resume"), call.t("owner.resume")).inline();
        blocks.push(&form.hidden("owner", state.owner.as_str()));
    }
    let mut table = keys::table(call, call.t("owner.first_keys"), first);
    table.empty = call.t("allkeys.empty");
    blocks.push(&table);
}

/// What an owner has of its own in each keyspace, with the way to change it.
fn settings_table(call: &Ask, owner: &OwnerPath, settings: &[(Prefix, OwnerSettings)]) -> Table {
    let row = |(prefix, of): &(Prefix, OwnerSettings)| -> Row {
        let mut row = settings_row(call, of);
        let pairs = [("owner", owner.as_str()), ("keyspace", prefix.as_str())];
        if let Some(first) = row.cells.first_mut() {
            let text = prefix.to_string();
            *first = match call.who.may(Right::Administer) {
                true => {
                    let href = call.at(&format!("/owners/settings{}", query(pairs)));
                    Cell::Link { href, text }
                }
                false => Cell::Text(text),
            };
        }
        row
    };
    Table {
        caption: call.t("owner.settings"),
        columns: ["key.keyspace"]
            .iter()
            .chain(&SETTINGS[1..])
            .map(|name| call.t(name))
            .collect(),
        rows: settings.iter().map(row).collect(),
        empty: call.t("keyspaces.empty"),
        ..Table::default()
    }
}

/// How many keys a verb would reach: those that have not ended.
fn reached(call: &Ask, owner: &OwnerPath) -> Result<u64, Fault> {
    let filter = KeyFilter::new().owner_and_below(owner.clone());
    let mut keys = 0;
    for key in call.engine().keys(filter) {
        match key {
            Ok(key) => keys += u64::from(!is_over(&key)),
            // It grants nothing; whether it has ended is not known.
            Err(Error::Corrupted(_)) => keys += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(keys)
}

fn confirming(call: &Ask, verb: &str, owner: &OwnerPath) -> Form {
    let back = keys::owner_address(call, owner.as_str());
    let mut form = Form::post(
        call.at(&format!("/owners/{verb}")),
        call.t(&format!("owner.{verb}")),
    )
    .danger()
    .hidden("owner", owner.as_str());
    if verb == "revoke" {
        form = form.field(key::reasons(call));
    }
    form = form
        .field(key::note(call))
        .field(
            Field::new(Kind::Text, "typed", call.with("owner.typed", &[owner]))
                .required()
                .expect(owner.as_str()),
        )
        .cancel(back, call.t("form.cancel"));
    match verb {
        "revoke" => call.proving(form),
        _ => form,
    }
}

fn page(call: &Ask, verb: &str, owner: &OwnerPath, fault: Option<&Fault>) -> Result<Page, Fault> {
    let keys = reached(call, owner)?;
    let title = call.with(&format!("owner.title_{verb}"), &[owner]);
    if keys == 0 && verb == "revoke" {
        let note = Note::new(
            "info",
            call.t("owner.none_to_revoke"),
            call.t("owner.may_create_text"),
        );
        let suspend = Link::new(address(call, "suspend", owner), call.t("owner.suspend"));
        let back = keys::owner_address(call, owner.as_str());
        let blocks = Blocks::new().with(&note).with(&Actions {
            label: call.t("nav.actions"),
            links: vec![suspend, Link::new(back, call.t("key.to_owner"))],
        });
        return Ok(Page::new(title, blocks));
    }
    let mut form = confirming(call, verb, owner);
    if let Some(fault) = fault {
        form = call.again(form, fault);
    }
    let count = call.with("owner.reaches", &[&format::number(keys)]);
    let mut blocks = Blocks::new().with(&Lead {
        text: call.t(&format!("owner.lead_{verb}")),
    });
    blocks.push(&Note::new("warn", count, ""));
    blocks.push(&form);
    Ok(Page::new(title, blocks))
}

pub(super) fn suspend_form(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Revoke)?;
    Ok(page(call, "suspend", &owner_in(&call.query)?, None)?.into())
}

pub(super) fn revoke_form(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Revoke)?;
    Ok(page(call, "revoke", &owner_in(&call.query)?, None)?.into())
}

/// Does what was typed, or shows the form again.
fn act(
    call: &Ask,
    verb: &str,
    run: impl FnOnce(&OwnerPath) -> Result<Value, Fault>,
) -> Result<Reply, Fault> {
    call.need(Right::Revoke)?;
    let owner = owner_in(&call.form)?;
    let proven = match call.form.one("typed")? == Some(owner.as_str()) {
        true if verb == "revoke" => call.prove(),
        true => Ok(()),
        false => Err(Fault::Mistyped),
    };
    match proven.and_then(|()| run(&owner)) {
        Ok(_) => {
            let done = format!("owner_{verb}");
            let pairs = [("owner", owner.as_str()), ("done", done.as_str())];
            see(format!("/owners/one{}", query(pairs)))
        }
        Err(fault) if fault.is_for_the_form() => {
            let page = page(call, verb, &owner, Some(&fault))?;
            Ok(page.status(fault.status()).into())
        }
        Err(fault) => Err(fault),
    }
}

pub(super) fn suspend(call: &Ask) -> Result<Reply, Fault> {
    let note = call.form.one("note")?.map(str::to_owned);
    act(call, "suspend", |owner| {
        let request = SuspendRequest {
            owner: owner.to_string(),
            note,
            dry_run: false,
        };
        call.api("POST", "/v1/owners/suspend", &request, None)
    })
}

pub(super) fn revoke(call: &Ask) -> Result<Reply, Fault> {
    let (reason, note) = (
        key::reason_of(call)?,
        call.form.one("note")?.map(str::to_owned),
    );
    act(call, "revoke", |owner| {
        let request = RevokeOwnerRequest {
            owner: owner.to_string(),
            reason,
            note,
            dry_run: false,
        };
        call.api("POST", "/v1/owners/revoke", &request, None)
    })
}

pub(super) fn resume(call: &Ask) -> Result<Reply, Fault> {
    let owner = owner_in(&call.form)?;
    let request = ResumeRequest {
        owner: owner.to_string(),
    };
    call.api("POST", "/v1/owners/resume", &request, None)?;
    let pairs = [("owner", owner.as_str()), ("done", "owner_resume")];
    see(format!("/owners/one{}", query(pairs)))
}

/// What of settings a form can change, so that another's change is noticed.
fn mark(of: &OwnerSettings) -> String {
    let text = format!(
        "{:?}",
        (
            &of.plan,
            &of.limits,
            of.cap,
            of.quota.map(|status| status.quota),
            of.updated_at
        )
    );
    let hash = blake3::hash(text.as_bytes()).to_hex();
    hash.get(..32).unwrap_or_default().to_owned()
}

fn setting(
    call: &Ask,
    keyspace: Prefix,
    owner: &OwnerPath,
) -> Result<(Form, OwnerSettings), Fault> {
    let of = call.engine().owner_settings(keyspace, owner.clone())?;
    let plans = call.engine().keyspace(keyspace)?.plans;
    let first = std::iter::once(Choice::new("", call.t("owner.default")));
    let plans = plans
        .iter()
        .map(|plan| Choice::new(&plan.name, key::plan_text(call, plan)));
    let plan = given::sent(call, "plan", of.plan.clone().unwrap_or_default());
    let mut form = Form::post(call.at("/owners/settings"), call.t("form.save"))
        .hidden("owner", owner.as_str())
        .hidden("keyspace", keyspace.as_str())
        .hidden("seen", mark(&of))
        .field(given::select(
            "plan",
            call.t("key.plan"),
            first.chain(plans).collect(),
            &plan,
        ));
    for field in given::own_limits(call, of.limits.as_deref()) {
        form = form.field(field);
    }
    let form = form
        .field(given::quota(call, quota_of(&of)))
        .field(given::cap(call, of.cap.own()))
        .field(unlimited(call, &of))
        .cancel(
            keys::owner_address(call, owner.as_str()),
            call.t("form.cancel"),
        );
    Ok((form, of))
}

fn keyspace_in(fields: &Fields) -> Result<Prefix, Fault> {
    fields
        .must("keyspace")?
        .parse()
        .map_err(|_| Fault::NotFound)
}

pub(super) fn settings_form(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Administer)?;
    let (keyspace, owner) = (keyspace_in(&call.query)?, owner_in(&call.query)?);
    let (form, _) = setting(call, keyspace, &owner)?;
    let lead = Lead {
        text: call.with("owner.settings_lead", &[&owner, &keyspace]),
    };
    let blocks = Blocks::new().with(&lead).with(&form);
    Ok(Page::new(call.t("owner.settings"), blocks).into())
}

pub(super) fn settings(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Administer)?;
    let (keyspace, owner) = (keyspace_in(&call.form)?, owner_in(&call.form)?);
    let _turn = call.who.turns.take(&owner);
    let (form, of) = setting(call, keyspace, &owner)?;
    if mark(&of) != call.form.must("seen")? {
        return Err(Fault::Changed);
    }
    let changed = changes(call, keyspace, &owner, &of)
        .and_then(|request| call.api("PATCH", "/v1/owners/settings", &request, None));
    match changed {
        Ok(_) => {
            let pairs = [("owner", owner.as_str()), ("done", "saved")];
            see(format!("/owners/one{}", query(pairs)))
        }
        Err(fault) if fault.is_for_the_form() => {
            Ok(key::back(call, "owner.settings", form, &fault))
        }
        Err(fault) => Err(fault),
    }
}

/// The quota that an owner has of its own.
fn quota_of(of: &OwnerSettings) -> Option<Quota> {
    of.quota.own().map(|status| status.quota)
}

/// Boxes to tick for no quota and no cap, whatever the keyspace says.
fn unlimited(call: &Ask, of: &OwnerSettings) -> Field {
    let boxes = [
        ("quota", of.quota == Setting::Unlimited),
        ("cap", of.cap == Setting::Unlimited),
    ];
    let boxes = boxes.map(|(what, now)| {
        let text = call.t(&format!("owner.unlimited_{what}"));
        Choice::new(what, text).chosen(given::ticked(call, "unlimited", what, now))
    });
    Field::new(Kind::Checks, "unlimited", call.t("owner.unlimited")).choices(boxes.to_vec())
}

/// What a form says of a setting that may be unlimited. A number beside that is refused.
fn unlimited_in<T>(
    call: &Ask,
    what: &str,
    label: &str,
    own: Option<T>,
) -> Result<Setting<T>, Fault> {
    match (call.form.has("unlimited", what), own) {
        (true, None) => Ok(Setting::Unlimited),
        (true, Some(_)) => Err(given::refuse(call, "owner.both", label)),
        (false, own) => Ok(own.into()),
    }
}

/// What a form changes. A quota that it leaves as it is stays as full as it is.
fn changes(
    call: &Ask,
    keyspace: Prefix,
    owner: &OwnerPath,
    of: &OwnerSettings,
) -> Result<OwnerChanges, Fault> {
    let quota = unlimited_in(call, "quota", "owner.quota", given::quota_in(call)?)?;
    let cap = given::number(call, "cap", "owner.cap")?;
    let cap = unlimited_in(call, "cap", "owner.cap", cap)?;
    Ok(OwnerChanges {
        keyspace: keyspace.to_string(),
        owner: owner.to_string(),
        plan: given::patch(call.form.one("plan")?.map(str::to_owned)),
        limits: given::own_limits_in(call, of.limits.as_deref())?,
        quota: Some(quota).filter(|quota| *quota != of.quota.map(|status| status.quota)),
        cap: Some(cap),
    })
}
