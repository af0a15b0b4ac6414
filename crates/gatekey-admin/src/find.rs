//! Finding keys in a text that a person pasted.

use std::iter::once;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use gatekey::{Engine, Key, KeyId, Result};
use zeroize::Zeroizing;

/// So much of a text is looked at, in bytes: a token, with what it stood in.
const TEXT_MAX: usize = 4_096;
/// How many words of a text are looked at, and how many of what could be ids.
const WORDS_MAX: usize = 64;
/// How many characters of a token stand behind its id: a secret and a check.
const BEHIND_ID: usize = 49;
/// The least letters in base64 that a token could be in.
const ENCODED_MIN: usize = 12;

/// Base64, with padding or without. What is cut out of a text may end anywhere.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What [`find_in_text`] found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum FoundInText {
    /// The key of a token that the text is, or has in it.
    Token(Box<Key>),
    /// No whole token: the keys whose ids stand in the text, each once. Anybody can write an
    /// id, so it proves nothing.
    Ids(Vec<Key>),
}

/// Finds the key of a token that a person pasted, alone or with what it stood in: a header, a
/// line of a log, an address in which `_` is `%5F`, quotes, credentials of `Basic` or other
/// base64. In any state, as [`Engine::find_by_token`]; and as that, it is no verification.
///
/// Of a longer text, the first 4,096 bytes are looked at.
///
/// # Errors
/// See [`Engine`].
///
/// ```
/// # use gatekey::{Engine, NewKey, NewKeyspace};
/// use gatekey_admin::{FoundInText, find_in_text};
///
/// # let engine = Engine::open_in_memory()?;
/// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
/// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
/// let pasted = format!("Authorization: Bearer {}", issued.token.expose());
/// match find_in_text(&engine, &pasted)? {
///     FoundInText::Token(key) => assert_eq!(key.id, issued.key.id),
///     found => panic!("{found:?}"),
/// }
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
pub fn find_in_text(engine: &Engine, text: &str) -> Result<FoundInText> {
    let whole = text.trim();
    if let Some(key) = engine.find_by_token(whole)? {
        return Ok(FoundInText::Token(Box::new(key)));
    }
    let text = beginning(whole);
    let unescaped = plain(text);
    let inside = decoded(&unescaped);
    let mut found = by_token(engine, text, &unescaped)?;
    for text in &inside {
        if found.is_none() {
            found = by_token(engine, text, &plain(text))?;
        }
    }
    if let Some(key) = found {
        return Ok(FoundInText::Token(Box::new(key)));
    }
    let mut found: Vec<Key> = Vec::new();
    for text in once(&unescaped).chain(&inside) {
        for (id, _) in ids(text) {
            if found.iter().all(|key| key.id != id)
                && let Some(key) = engine.find_key(id)?
            {
                found.push(key);
            }
        }
    }
    Ok(FoundInText::Ids(found))
}

fn beginning(text: &str) -> &str {
    let end = (0..=TEXT_MAX).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or(text)
}

/// A text without what programs write in the place of letters of a token: `%5F`, `\_`, and
/// characters that nobody sees.
fn plain(text: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(text.to_owned());
    // What is escaped twice, or thrice.
    for _ in 0..3 {
        plain = Zeroizing::new(plain.replace("%25", "%"));
    }
    for (escape, letter) in [
        ("%5F", "_"),
        ("%5f", "_"),
        ("%2B", "+"),
        ("%2b", "+"),
        ("%2F", "/"),
        ("%2f", "/"),
        ("\\", ""),
        ("\u{200b}", ""),
    ] {
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

/// What the parts of a text say that may be base64, in either of its alphabets. Where a part
/// begins is not known, as behind a slash: so each is read from four places. Programs break
/// base64 into lines: so the text is read without its line breaks, too.
fn decoded(text: &str) -> Vec<Zeroizing<String>> {
    let is_between = |letter: char| !(letter.is_ascii_alphanumeric() || "+/-_".contains(letter));
    let unbroken = Zeroizing::new(text.replace(['\r', '\n'], ""));
    let texts = match unbroken.len() == text.len() {
        true => [text, ""],
        false => [text, unbroken.as_str()],
    };
    let runs = texts.iter().flat_map(|text| {
        let runs = text.split(is_between);
        runs.filter(|run| run.len() >= ENCODED_MIN).take(WORDS_MAX)
    });
    runs.flat_map(|run| (0..4).filter_map(|from| decode(run.get(from..)?)))
        .collect()
}

fn decode(run: &str) -> Option<Zeroizing<String>> {
    let mut run = Zeroizing::new(run.replace('-', "+").replace('_', "/"));
    if run.len() % 4 == 1 {
        run.pop();
    }
    let bytes = Zeroizing::new(BASE64.decode(run.as_bytes()).ok()?);
    // What is no text stands around one.
    Some(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The key of a token that a text has in it, or the text that is plain.
fn by_token(engine: &Engine, text: &str, plain: &str) -> Result<Option<Key>> {
    // Of credentials, which have one colon between them.
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    for word in [user, password].into_iter().chain(words(text)) {
        if let Some(key) = engine.find_by_token(word)? {
            return Ok(Some(key));
        }
    }
    for (id, behind) in ids(plain) {
        let secret = behind.strip_prefix('_');
        let secret = secret.and_then(|secret| secret.get(..BEHIND_ID));
        if let Some(secret) = secret
            && let Some(key) = engine.find_key(id)?
        {
            // Whatever stood before the id: the engine says whether it is the key's.
            let token = Zeroizing::new(format!("{}_{id}_{secret}", key.keyspace));
            if let Some(key) = engine.find_by_token(token.as_str())? {
                return Ok(Some(key));
            }
        }
    }
    Ok(None)
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

    #[test]
    fn base64_is_read_wherever_it_begins_and_ends() {
        let says = |text: &str, wanted: &str| {
            let texts = decoded(text);
            texts.iter().any(|text| text.contains(wanted))
        };
        // Of "a user:of a secret?>~", in both alphabets.
        for text in [
            "Basic YSB1c2VyOm9mIGEgc2VjcmV0Pz5+",
            "Basic YSB1c2VyOm9mIGEgc2VjcmV0Pz5-",
            "/auth/YSB1c2VyOm9mIGEgc2VjcmV0Pz5+",
            "x/YSB1c2VyOm9mIGEgc2VjcmV0Pz5+",
            "YSB1c2VyOm9mI\nGEgc2VjcmV0Pz5+\n",
            "YSB1c2VyOm9mIGEgc2VjcmV0Pz4=",
        ] {
            assert!(says(text, "a user:of a secret?>"), "{text}");
        }
        assert!(!says("a user: of a secret", "user"));
        // Whatever is pasted, it is read in parts that are bounded.
        assert!(decoded(&"YSB1c2VyOm9mIGEg.".repeat(1_000)).len() <= 8 * WORDS_MAX);
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!(beginning("short"), "short");
        let long = format!("{}\u{20ac}", "x".repeat(TEXT_MAX - 1));
        assert_eq!(beginning(&long).len(), TEXT_MAX - 1);
    }
}
