//! Finding tokens in untrusted text, and showing the text without them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use crate::model::base62::ID_LEN;

/// A run of letters and digits from this length on is withheld, whatever it is.
const RUN_LONG: usize = 32;
/// From this one on, where it reads as a random one.
const RUN_RANDOM: usize = 20;
/// From this one on, where it follows what could be the id of a key.
const RUN_AFTER_ID: usize = 4;

/// Makes untrusted text safe for a log: replaces whatever looks like a token, or a part
/// of one, with `(withheld)`, and escapes characters that cannot be printed.
///
/// The id of a key stays, since it is public. The function withholds:
/// - 32 letters and digits in a row: a secret, whatever stands before it; also the
///   base64 of a token, and digests in hexadecimal;
/// - 20 of them that read as random ones: the end of a secret;
/// - 4 of them behind ten that could be an id: the beginning of a secret.
///
/// The function sees through percent encoding, even if it was applied several times,
/// and through invisible characters. Control characters and those that change the
/// direction of writing are escaped, so that one text stays one line.
///
/// Linear in the length. Allocates where something is withheld or escaped.
///
/// ```
/// use gatekey::withheld;
///
/// assert_eq!(withheld("/v1/keys/7Hk2Pq9ZxW/rotate"), "/v1/keys/7Hk2Pq9ZxW/rotate");
/// let secret = "aB3dE6gH9j".repeat(5);
/// assert_eq!(
///     withheld(&format!("/v1/keys/acme_7Hk2Pq9ZxW_{secret}")),
///     "/v1/keys/acme_7Hk2Pq9ZxW_(withheld)",
/// );
/// ```
#[must_use]
pub fn withheld(text: &str) -> Cow<'_, str> {
    let secrets = secrets(text);
    if secrets.is_empty() && !text.chars().any(is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for secret in secrets {
        push_printable(&mut shown, text.get(from..secret.start).unwrap_or(""));
        shown.push_str("(withheld)");
        from = secret.end;
    }
    push_printable(&mut shown, text.get(from..).unwrap_or(""));
    Cow::Owned(shown)
}

/// Whether a text contains anything that [`withheld`] would hide.
pub(crate) fn holds_a_secret(text: &str) -> bool {
    !secrets(text).is_empty()
}

fn push_printable(shown: &mut String, text: &str) {
    for char in text.chars() {
        match is_unseen(char) {
            true => {
                let _ = write!(shown, "{}", char.escape_default());
            }
            false => shown.push(char),
        }
    }
}

/// Controls, and what has no width or turns the direction of writing.
fn is_unseen(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Where the secrets of a text are, in order.
fn secrets(text: &str) -> Vec<Range<usize>> {
    let mut search = Search::default();
    let mut at = 0;
    while let Some((unit, next)) = unit_at(text, at) {
        match unit {
            Unit::Digit(byte) => search.digit(byte, at..next),
            Unit::Unseen => {}
            Unit::Between { joins } => search.between(joins),
        }
        at = next;
    }
    search.end();
    search.found
}

/// What a reader sees as one character.
enum Unit {
    /// A letter or a digit.
    Digit(u8),
    Unseen,
    /// Anything else; whether the parts of a token may be joined by it.
    Between {
        joins: bool,
    },
}

fn unit_at(text: &str, at: usize) -> Option<(Unit, usize)> {
    let bytes = text.as_bytes();
    let byte = *bytes.get(at)?;
    if byte == b'%'
        && let Some((byte, next)) = percent_decoded(bytes, at)
    {
        return Some((unit_of(byte), next));
    }
    if byte.is_ascii() {
        return Some((unit_of(byte), at + 1));
    }
    let char = text.get(at..)?.chars().next()?;
    let unit = match is_unseen(char) {
        true => Unit::Unseen,
        false => Unit::Between { joins: false },
    };
    Some((unit, at + char.len_utf8()))
}

fn unit_of(byte: u8) -> Unit {
    match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => Unit::Digit(byte),
        _ if byte.is_ascii_control() => Unit::Unseen,
        _ => Unit::Between {
            joins: matches!(byte, b'_' | b'\\'),
        },
    }
}

/// What a percent sign at a place encodes, and where it ends. A percent sign that is
/// itself encoded, and encodes something, is that something.
fn percent_decoded(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        let value = hex(bytes, at + 1)?;
        let next = at + 3;
        if value != b'%' || hex(bytes, next).is_none() {
            return Some((value, next));
        }
        at = next - 1;
    }
}

fn hex(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| {
        let digit = char::from(*bytes.get(at)?).to_digit(16)?;
        u8::try_from(digit).ok()
    };
    Some(digit(at)? << 4 | digit(at + 1)?)
}

/// A run of letters and digits.
#[derive(Default)]
struct Run {
    place: Range<usize>,
    len: usize,
    numerals: usize,
    /// How often a letter follows a numeral or one of the other case, and the like.
    turns: usize,
    last: u8,
}

#[derive(Default)]
struct Search {
    run: Run,
    /// Whether nothing but what joins the parts of a token stands before the run.
    joined: bool,
    /// Whether the run before it could be an id, of which it would be the secret.
    after_id: bool,
    found: Vec<Range<usize>>,
}

impl Search {
    fn digit(&mut self, byte: u8, place: Range<usize>) {
        let run = &mut self.run;
        if run.len == 0 {
            run.place.start = place.start;
        } else if kind(run.last) != kind(byte) {
            run.turns += 1;
        }
        run.place.end = place.end;
        run.len += 1;
        run.numerals += usize::from(byte.is_ascii_digit());
        run.last = byte;
    }

    fn between(&mut self, joins: bool) {
        if self.run.len > 0 {
            self.end();
            self.joined = joins;
        }
        self.joined &= joins;
    }

    /// Ends the run.
    fn end(&mut self) {
        let run = std::mem::take(&mut self.run);
        if run.len == 0 {
            return;
        }
        let is_secret = run.len >= RUN_LONG
            || (run.len >= RUN_RANDOM && run.is_random())
            || (run.len >= RUN_AFTER_ID && self.joined && self.after_id);
        if is_secret {
            self.found.push(run.place);
        }
        // An id has a numeral: until 2040 its first character is one.
        self.after_id = self.joined && run.len == ID_LEN && run.numerals > 0;
    }
}

impl Run {
    /// Whether it mixes letters and numerals, or the cases of letters more than names
    /// do. Of letters that are drawn, every second is followed by one of another kind.
    fn is_random(&self) -> bool {
        let mixed = self.numerals > 0 && self.numerals < self.len;
        mixed || self.turns * 20 >= self.len * 9
    }
}

fn kind(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => 0,
        b'A'..=b'Z' => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sN3kQ8vTz1LrW5xYbC0mDpA7eHgJ2fUiO9aZqK4tXnB6cRyVd";
    const OTHER: &str = "QwErTzUiOpAsDfGhJkLyXcVbNmQaWsEdRfTgZhUjIkOlPqAyX";

    fn token(secret: &str) -> String {
        format!("acme_live_1lZ1doyVZI_{secret}")
    }

    /// Every way to write `text` that a reader can undo in a moment.
    fn written(text: &str) -> Vec<String> {
        let percent = |upper: bool| -> String {
            let hex = |byte: u8| match upper {
                true => format!("%{byte:02X}"),
                false => format!("%{byte:02x}"),
            };
            text.bytes().map(hex).collect()
        };
        let once = percent(true);
        vec![
            text.to_owned(),
            text.to_uppercase(),
            text.to_lowercase(),
            text.replace('_', "-"),
            text.replace('_', "%5F"),
            text.replace('_', "%5f"),
            text.replace('_', r"\_"),
            text.replace('_', "."),
            percent(false),
            once.replace('%', "%25"),
            once.replace('%', "%2525"),
            once,
            text.split("").collect::<Vec<_>>().join("\u{200b}"),
        ]
    }

    #[test]
    fn a_token_is_withheld_however_it_is_written() {
        for secret in [SECRET, OTHER] {
            for text in written(&token(secret)) {
                let shown = withheld(&text);
                assert!(shown.contains("(withheld)"), "{text}: {shown}");
                // Nothing of the secret stays, in whatever it was written.
                let rest = shown.split_once("(withheld)").unwrap();
                assert_eq!(
                    rest.1,
                    if text.ends_with('\u{200b}') {
                        r"\u{200b}"
                    } else {
                        ""
                    },
                    "{shown}"
                );
                assert!(rest.0.len() <= text.len() * 3 / 4, "{shown}");
            }
        }
    }

    #[test]
    fn a_token_that_was_cut_is_withheld_down_to_a_few_characters() {
        for secret in [SECRET, OTHER] {
            let token = token(secret);
            let secret_at = token.len() - secret.len();
            for end in secret_at + 4..=token.len() {
                let shown = withheld(&token[..end]);
                assert_eq!(shown, "acme_live_1lZ1doyVZI_(withheld)");
                let encoded = token[..end].replace('_', "%5F");
                let shown = withheld(&encoded);
                assert_eq!(shown, "acme%5Flive%5F1lZ1doyVZI%5F(withheld)");
            }
            for begin in 1..=token.len() - RUN_RANDOM {
                let shown = withheld(&token[begin..]).into_owned();
                assert!(shown.ends_with("(withheld)"), "{shown}");
                assert!(!shown.contains(&secret[secret.len() - 19..]), "{shown}");
            }
        }
    }

    #[test]
    fn the_base64_of_a_token_is_withheld() {
        // What Basic sends for the token of the tests and a colon.
        let basic = "YWNtZV9saXZlXzFsWjFkb3lWWklfc04za1E4dlR6MUxyVzV4WWJDMG1EcEE3ZQ==";
        assert_eq!(withheld(basic), "(withheld)==");
    }

    #[test]
    fn what_is_no_token_is_shown_as_it_is() {
        for text in [
            "",
            "/",
            "/v1/things/42?page=3&sort=created_at",
            "/v1/keys/1lZ1doyVZI/rotate",
            "/grpc.health.v1.Health/Check",
            "/acme.inventory.v1.InventoryReservationService/ListReservations",
            "/files/0b6c2d4e-9f1a-4c7b-8e3d-5a6f7b8c9d0e/content",
            "/reports/2026-11-25T10:11:12.123456789Z",
            "/my_processing_pipelines_of_the_authentication_service",
            "/%7Euser/caf%C3%A9/%2e%2e/%",
            "/traces/9f1a4c7b8e3d5a6f",
            "\u{433}\u{43b}\u{430}\u{432}\u{43d}\u{430}\u{44f}",
        ] {
            assert!(
                matches!(withheld(text), Cow::Borrowed(shown) if shown == text),
                "{text}"
            );
        }
    }

    #[test]
    fn a_text_stays_one_line_and_reads_from_left_to_right() {
        let text = "/a\r\nGET /b\u{1b}[31m\u{9b}2J\u{202e}c\u{2028}d\0";
        assert_eq!(
            withheld(text),
            r"/a\r\nGET /b\u{1b}[31m\u{9b}2J\u{202e}c\u{2028}d\u{0}"
        );
    }
}
