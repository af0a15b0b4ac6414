//! One field that finds by anything.

use gatekey::{Key, KeyFilter, KeyId, OwnerPath};
use zeroize::Zeroizing;

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
/// How many words of a text are looked at, and how many of what could be ids.
const WORDS_MAX: usize = 64;
/// How many characters of a token stand behind its id: a secret and a check.
const BEHIND_ID: usize = 49;

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
    let filter = filter.looking_at_most(LOOKED_AT_MAX);
    Ok(call.engine().keys_page(&filter, None, 1)?)
}

/// A text without what programs write between the parts of a token: `%5F`, `\_`, and
/// characters that nobody sees.
fn plain(text: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(text.to_owned());
    // What is escaped twice, or thrice.
    for _ in 0..3 {
        plain = Zeroizing::new(plain.replace("%25", "%"));
    }
    for (escape, letter) in [("%5F", "_"), ("%5f", "_"), ("\\", ""), ("\u{200b}", "")] {
        plain = Zeroizing::new(plain.replace(escape, letter));
    }
    plain
}

/// The words that may be a token which gatekey did not make, as an imported one: between
/// blanks and quotes, and then between all that is in no token of most systems.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_around = |letter: char| letter.is_whitespace() || "\"'`".contains(letter);
    let is_between = |letter: char| "=:,;<>()[]{}|&?".contains(letter);
    let long = |word: &&str| word.len() >= 8;
    let apart = text.split(move |letter| is_around(letter) || is_between(letter));
    text.split(is_around)
        .filter(long)
        .take(WORDS_MAX)
        .chain(apart.filter(long).take(WORDS_MAX))
}

/// What could be ids, each with what stands behind it.
fn ids(text: &str) -> impl Iterator<Item = (KeyId, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(|letter: char| letter.is_ascii_alphanumeric())?;
        let run = rest.get(start..)?;
        let end = run.find(|letter: char| !letter.is_ascii_alphanumeric());
        let (run, behind) = run.split_at(end.unwrap_or(run.len()));
        rest = behind;
        Some((run, behind))
    })
    .filter_map(|(run, behind)| Some((run.parse().ok()?, behind)))
    .take(WORDS_MAX)
}

/// The key of a token that a text is, or has in it.
fn by_token(call: &Ask, text: &str) -> Result<Option<Key>, Fault> {
    for word in std::iter::once(text).chain(words(text)) {
        if let Some(key) = call.engine().find_by_token(word)? {
            return Ok(Some(key));
        }
    }
    let text = plain(text);
    for (id, behind) in ids(&text) {
        let secret = behind.strip_prefix('_');
        let secret = secret.and_then(|secret| secret.get(..BEHIND_ID));
        if let Some(secret) = secret
            && let Some(key) = call.engine().find_key(id)?
        {
            // Whatever stood before the id: the engine says whether it is the key's.
            let token = Zeroizing::new(format!("{}_{id}_{secret}", key.keyspace));
            if let Some(key) = call.engine().find_by_token(token.as_str())? {
                return Ok(Some(key));
            }
        }
    }
    Ok(None)
}

/// The keys whose ids stand in a text.
fn by_id(call: &Ask, text: &str) -> Result<Vec<Key>, Fault> {
    let mut found: Vec<Key> = Vec::new();
    for (id, _) in ids(&plain(text)) {
        if found.iter().all(|key| key.id != id)
            && let Some(key) = call.engine().find_key(id)?
        {
            found.push(key);
        }
    }
    Ok(found)
}

pub(super) fn find(call: &Ask) -> Result<Reply, Fault> {
    let asked = call.form.one("q")?.unwrap_or_default().trim();
    if let Some(key) = by_token(call, asked)? {
        return see(format!("/keys/{}?done=by_token", key.id));
    }
    let named = by_id(call, asked)?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_between_whatever_is_no_letter_and_no_digit() {
        let texts = [
            ("0000000000", 1),
            ("acme_live_1lZ1doyVZI_secret", 1),
            ("key=1lZ1doyVZI;1lZ1doyVZJ", 2),
            ("1lZ1doyVZIx", 0),
            ("\u{fc}1lZ1doyVZI\u{fc}", 1),
            ("", 0),
        ];
        for (text, count) in texts {
            assert_eq!(ids(text).count(), count, "{text}");
        }
        assert_eq!(ids(&"1lZ1doyVZI ".repeat(1_000)).count(), WORDS_MAX);
        let (_, behind) = ids("x_1lZ1doyVZI_rest").next().unwrap();
        assert_eq!(behind, "_rest");
    }
}
