//! One field that finds by anything.

use gatekey::{KeyFilter, KeyId, OwnerPath};

use super::{Ask, keys};
use crate::fields::query;
use crate::reply::{Fault, Page, Reply, see};
use crate::view::{Blocks, Field, Form, Kind, Note};

/// The search: a form that is posted, so that a token which is pasted is in no address.
pub(super) fn form(call: &Ask) -> Form {
    let field = Field::new(Kind::Text, "q", call.t("find.label"));
    Form::post(call.at("/find"), call.t("find.submit"))
        .plain()
        .inline()
        .field(field.hint(call.t("find.hint")).required().max(400))
}

/// Whether there is such a key, or may be one: the list then looks further.
fn has_keys(call: &Ask, filter: KeyFilter) -> Result<bool, Fault> {
    let filter = filter.looking_at_most(keys::LOOKED_AT_MAX);
    let page = call.engine().keys_page(&filter, None, 1)?;
    Ok(!page.keys.is_empty() || page.next.is_some())
}

pub(super) fn find(call: &Ask) -> Result<Reply, Fault> {
    let asked = call.form.one("q")?.unwrap_or_default().trim();
    let holds_a_secret = gatekey::withheld(asked) != asked;
    if gatekey::inspect_token(asked).is_some() || holds_a_secret {
        if let Some(key) = call.engine().find_by_token(asked)? {
            return see(format!("/keys/{}?done=by_token", key.id));
        }
        // The id inside may be right where the secret is not: a key that is no more so.
        return Ok(nothing(call, "find.no_token"));
    }
    if let Ok(id) = asked.parse::<KeyId>()
        && call.engine().find_key(id)?.is_some()
    {
        return see(format!("/keys/{id}"));
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
    if !asked.is_empty() && has_keys(call, KeyFilter::new().has_label(asked))? {
        return see(format!("/keys{}", query([("label", asked)])));
    }
    Ok(nothing(call, "find.nothing"))
}

fn nothing(call: &Ask, why: &str) -> Reply {
    let blocks = Blocks::new()
        .with(&Note::new("warn", call.t("find.none"), call.t(why)))
        .with(&form(call));
    let page = Page::new(call.t("find.title"), blocks);
    page.status(axum::http::StatusCode::NOT_FOUND).into()
}
