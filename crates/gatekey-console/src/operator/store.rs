//! The store as a whole: what it holds, how it is, its check and its backup.

use gatekey_admin::Right;
use gatekey_admin::wire::Nothing;
use serde_json::Value;

use super::{Ask, find, keyspaces, trail};
use crate::fields::query;
use crate::format;
use crate::reply::{Body, Fault, Page, Reply};
use crate::view::{Actions, Blocks, Cell, Facts, Form, Lead, Link, Note};

pub(super) fn overview(call: &Ask) -> Result<Reply, Fault> {
    let _ = call.engine().flush();
    let mut blocks = Blocks::new().with(&find::form(call));
    health(call, &mut blocks);
    let ending = call.at(&format!("/keys{}", query([("ends", "7")])));
    let retiring = call.at(&format!("/keys{}", query([("state", "retiring")])));
    let disabled = call.at(&format!("/keys{}", query([("state", "disabled")])));
    blocks.push(&Actions {
        label: call.t("overview.look_at"),
        links: vec![
            Link::new(ending, call.t("overview.ending")),
            Link::new(retiring, call.t("overview.retiring")),
            Link::new(disabled, call.t("overview.disabled")),
        ],
    });
    blocks.push(&keyspaces::table(call)?);
    let newest = trail::newest(call, None, 10)?;
    blocks.push(&trail::table(
        call,
        call.t("overview.newest"),
        newest.iter(),
        None,
    ));
    Ok(Page::new(call.t("nav.overview"), blocks).into())
}

/// What is wrong with the store, if anything is.
fn health(call: &Ask, blocks: &mut Blocks) {
    if let Some(failure) = call.engine().health().failure() {
        let since = format::instant(failure.since());
        let text = call.with(
            "store.failing_text",
            &[&since, &failure.cause(), &failure.advice()],
        );
        blocks.push(&Note::new("bad", call.t("store.failing"), text));
    }
}

fn facts(call: &Ask) -> Result<Facts, Fault> {
    let stats = call.engine().stats()?;
    let clock = call.engine().clock_status()?;
    let number = |value: u64| Cell::Number(format::number(value));
    let texts = &call.site.look.texts;
    let last_backup = call.engine().metrics()?.last_backup;
    let size = |value: usize| Cell::Number(format::number(value as u64));
    let well = match call.engine().health().is_well() {
        true => ("active", call.t("store.well")),
        false => ("revoked", call.t("store.failing")),
    };
    let clock_word = match clock.is_suspect() {
        true => ("soon", call.t("store.clock_suspect")),
        false => ("active", call.t("store.clock_well")),
    };
    // An open file has pages: one of no bytes is none.
    let file = match stats.file_bytes {
        0 => Cell::Text(call.t("store.in_memory")),
        bytes => number(bytes),
    };
    let state = |(class, word): (&'static str, String)| Cell::State { class, word };
    Ok(Facts {
        heading: call.t("store.facts"),
        rows: vec![
            (call.t("store.health"), state(well)),
            (call.t("store.clock"), state(clock_word)),
            (call.t("store.file_bytes"), file),
            (call.t("store.audit_entries"), number(stats.audit_entries)),
            (call.t("store.resident"), size(stats.resident_keys)),
            (call.t("store.limited"), size(stats.limited_keys)),
            (call.t("store.usage_lost"), number(stats.usage_lost)),
            (
                call.t("store.last_backup"),
                format::time_or(
                    texts,
                    last_backup,
                    call.engine().now(),
                    "store.no_last_backup",
                ),
            ),
        ],
    })
}

fn page(call: &Ask, note: Option<Note>) -> Result<Page, Fault> {
    let mut blocks = Blocks::new();
    if let Some(note) = note {
        blocks.push(&note);
    }
    health(call, &mut blocks);
    blocks.push(&facts(call)?);
    if call.who.may(Right::Administer) {
        blocks.push(&Lead {
            text: call.t("store.check_lead"),
        });
        blocks.push(&Form::post(call.at("/store/check"), call.t("store.check")).inline());
        blocks.push(&Lead {
            text: call.t("store.backup_lead"),
        });
        let form = Form::post(call.at("/store/backup"), call.t("store.backup"));
        blocks.push(&call.proving(form.inline()));
    }
    Ok(Page::new(call.t("nav.store"), blocks))
}

pub(super) fn show(call: &Ask) -> Result<Reply, Fault> {
    Ok(page(call, None)?.into())
}

pub(super) fn check(call: &Ask) -> Result<Reply, Fault> {
    let report = call.api("POST", "/v1/check", &Nothing {}, None)?;
    let count = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or(0);
    let note = match report.get("is_sound").and_then(Value::as_bool) {
        Some(true) => {
            let keys = format::number(count("keys"));
            let entries = format::number(count("audit_entries"));
            let text = call.with("store.sound_text", &[&keys, &entries]);
            Note::new("good", call.t("store.sound"), text)
        }
        _ => {
            let text = call.with(
                "store.found_text",
                &[&format::number(count("findings_total"))],
            );
            let mut note = Note::new("bad", call.t("store.found"), text);
            let findings = report.get("findings").and_then(Value::as_array);
            let findings = findings.into_iter().flatten().take(20);
            let word = |finding: &Value, name: &str| {
                finding
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            note.items = findings
                .map(|of| {
                    format!(
                        "{} {}: {}",
                        word(of, "table"),
                        word(of, "record"),
                        word(of, "problem")
                    )
                })
                .collect();
            note
        }
    };
    Ok(page(call, Some(note))?.into())
}

pub(super) fn backup(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Administer)?;
    if let Err(fault) = call.prove() {
        let (title, text) = call.problem(&fault);
        let page = page(call, Some(Note::new("bad", title, text)))?;
        return Ok(page.status(fault.status()).into());
    }
    let response = call.ask("GET", "/v1/backup", None, None)?;
    if !response.status().is_success() {
        return Err(Fault::Refused(response.status(), call.t("store.no_backup")));
    }
    Ok(Body::File {
        name: "keys.redb".to_owned(),
        media: "application/octet-stream",
        body: response.into_body(),
    }
    .into())
}
