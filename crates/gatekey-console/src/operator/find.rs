//! One field that finds by anything.

use gatekey::{Key, KeyFilter, OwnerPath};
use gatekey_admin::{FoundInText, find_in_text};

use super::{Ask, keys};
use crate::fields::query;
use crate::format;
use crate::reply::{Fault, Page, Reply, see};
use crate::view::{Actions, Blocks, Field, Form, Kind, Link, Note};

/// How many keys are looked at for a name, and how many for a label: together as many as for
/// a page of the list.
const LOOKED_AT_MAX: usize = keys::LOOKED_AT_MAX / 2;
/// The longest text that the field takes: a token, with what it stood in.
const TEXT_MAX: usize = 4_000;

/// The search: a form that is posted, so that a token which is pasted is in no address.
pub(super) fn form(call: &Ask) -> Form {
    let field = Field::new(Kind::Text, "q", call.t("find.label"));
    Form::post(call.at("/find"), call.t("find.submit"))
        .plain()
        .inline()
        .field(field.hint(call.t("find.hint")).required().max(TEXT_MAX))
}

/// Whether there is such a key, or may be one: the list then looks further.
fn has_keys(call: &Ask, filter: KeyFilter) -> Result<bool, Fault> {
    let page = first(call, filter)?;
    Ok(!page.keys.is_empty() || page.next.is_some())
}

fn first(call: &Ask, filter: KeyFilter) -> Result<gatekey::KeyPage, Fault> {
    let filter = filter.newest_first().looking_at_most(LOOKED_AT_MAX);
    Ok(call.engine().keys_page(&filter, None, 1)?)
}

pub(super) fn find(call: &Ask) -> Result<Reply, Fault> {
    let asked = call.form.one("q")?.unwrap_or_default().trim();
    let named = match find_in_text(call.engine(), asked)? {
        FoundInText::Token(key) => return see(format!("/keys/{}?done=by_token", key.id)),
        FoundInText::Ids(keys) => keys,
        _ => Vec::new(),
    };
    // From here on, nothing of a text with a secret in it goes into an address.
    if gatekey::inspect_token(asked).is_some() || gatekey::withheld(asked) != asked {
        return Ok(match named.is_empty() {
            true => nothing(call, "find.no_token"),
            false => by_id_alone(call, &named),
        });
    }
    if let [key] = named.as_slice() {
        return see(format!("/keys/{}", key.id));
    }
    if !named.is_empty() {
        return Ok(by_id_alone(call, &named));
    }
    if let Some((name, value)) = asked.split_once('=') {
        let filter = KeyFilter::new().label(name, value);
        if has_keys(call, filter)? {
            return see(format!("/keys{}", query([("label", asked)])));
        }
    }
    if let Ok(owner) = asked.parse::<OwnerPath>()
        && has_keys(call, KeyFilter::new().owner_and_below(owner))?
    {
        return see(format!("/keys{}", query([("owner", asked)])));
    }
    if asked.is_empty() {
        return Ok(nothing(call, "find.nothing"));
    }
    // A name or a label: a key of either is shown. Where none was among those that were
    // looked at, the list of either goes on.
    let label = first(call, KeyFilter::new().has_label(asked))?;
    let name = first(call, KeyFilter::new().name_contains(asked))?;
    let by_label = || see(format!("/keys{}", query([("label", asked)])));
    let by_name = || see(format!("/keys{}", query([("name", asked)])));
    match (label.keys.is_empty(), name.keys.is_empty()) {
        (false, _) => by_label(),
        (true, false) => by_name(),
        (true, true) if name.next.is_some() => by_name(),
        (true, true) => Ok(nothing(call, "find.nothing")),
    }
}

fn nothing(call: &Ask, why: &str) -> Reply {
    let blocks = Blocks::new()
        .with(&Note::new("warn", call.t("find.none"), call.t(why)))
        .with(&form(call));
    let page = Page::new(call.t("find.title"), blocks);
    page.status(axum::http::StatusCode::NOT_FOUND).into()
}

/// The id of a token proves nothing, since anybody can write one: so it is not the key of
/// the token, but most often it is.
fn by_id_alone(call: &Ask, keys: &[Key]) -> Reply {
    let links = keys.iter().map(|key| {
        let name = format::name_of(key);
        let text = call.with("find.by_id", &[&name, &key.id, &key.owner]);
        Link::new(call.at(&format!("/keys/{}", key.id)), text)
    });
    let note = Note::new(
        "warn",
        call.t("find.id_alone"),
        call.t("find.id_alone_text"),
    );
    let blocks = Blocks::new()
        .with(&note)
        .with(&Actions {
            label: call.t("nav.actions"),
            links: links.collect(),
        })
        .with(&form(call));
    Page::new(call.t("find.title"), blocks).into()
}
