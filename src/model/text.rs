//! What free text may contain: names, descriptions, labels, notes, actors.
//!
//! Whoever reads such a text in a log, a listing or the audit trail must see all of it,
//! in order, on one line. So it must not contain invisible characters (Unicode's
//! `Default_Ignorable_Code_Point`), characters that change the direction of text, or
//! line breaks. Two kinds are allowed where they have a visible effect, and refused
//! elsewhere:
//!
//! - joiners (U+200C, U+200D) between two letters of a script that joins (Arabic to
//!   Sinhala, Myanmar, Khmer, Mongolian), where they change how the letters look and are
//!   part of the spelling of Persian and others; U+200D also between two pictographs;
//! - presentation selectors (U+FE0E, U+FE0F) behind a pictograph, or in a keycap.
//!
//! Flags spelled with tag characters (England, Scotland, Wales) are refused: tag
//! characters can spell any hidden text.

/// Why a text is refused, or `None` if it is allowed.
pub(crate) fn flaw(text: &str) -> Option<String> {
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let why = if char.is_control() {
            Some("is a control character")
        } else if matches!(char, '\u{2028}' | '\u{2029}') {
            Some("ends a line")
        } else if turns_direction(char) {
            Some("changes the direction of text")
        } else if is_hidden(char) && !shows(before, char, chars.peek().copied()) {
            Some("cannot be seen")
        } else {
            None
        };
        if let Some(why) = why {
            return Some(format!("it has U+{:04X}, which {why}", u32::from(char)));
        }
        before = Some(char);
    }
    None
}

/// Unicode's `Bidi_Control`.
fn turns_direction(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Unicode 16's `Default_Ignorable_Code_Point`, and the format characters besides that
/// have no look of their own: interlinear annotations, joiners of hieroglyphs.
fn is_hidden(char: char) -> bool {
    matches!(
        char,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{13430}'..='\u{13440}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Whether a character that is invisible alone has a visible effect between its
/// neighbours.
fn shows(before: Option<char>, char: char, after: Option<char>) -> bool {
    let both = |is: fn(char) -> bool| before.is_some_and(is) && after.is_some_and(is);
    match char {
        '\u{200c}' => both(is_joining),
        '\u{200d}' => {
            let joins_pictures = before.is_some_and(|before| {
                is_pictograph(before) || matches!(before, '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}')
            });
            both(is_joining) || (joins_pictures && after.is_some_and(is_pictograph))
        }
        '\u{fe0e}' | '\u{fe0f}' => match before {
            Some('0'..='9' | '#' | '*') => after == Some('\u{20e3}'),
            before => before.is_some_and(is_pictograph),
        },
        _ => false,
    }
}

/// Of a script whose letters join: Arabic to Sinhala, Myanmar, Khmer and Mongolian.
fn is_joining(char: char) -> bool {
    let in_block =
        matches!(char, '\u{600}'..='\u{dff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{18af}');
    in_block && !is_hidden(char)
}

/// In a block of symbols and pictographs, or one of the few elsewhere that have a
/// picture of their own.
fn is_pictograph(char: char) -> bool {
    matches!(
        char,
        '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}'
            | '\u{2190}'..='\u{21ff}'
            | '\u{2300}'..='\u{23ff}'
            | '\u{24c2}'
            | '\u{25a0}'..='\u{27bf}'
            | '\u{2934}'..='\u{2935}'
            | '\u{2b00}'..='\u{2bff}'
            | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}'
            | '\u{1f000}'..='\u{1faff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_people_write_is_taken() {
        for text in [
            "",
            "nightly import (v2)",
            "Z\u{fc}rich \u{2014} caf\u{e9}, \u{3b1}\u{3b2}\u{3b3}, \u{6771}\u{4eac}",
            // Persian: a joiner that keeps two letters apart.
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            // Hindi: a half form.
            "\u{915}\u{94d}\u{200d}\u{937}",
            // A family; a pirate flag; a technician with a skin tone; a heart; a keycap.
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
            "\u{1f3f4}\u{200d}\u{2620}\u{fe0f}",
            "\u{1f469}\u{1f3fd}\u{200d}\u{1f4bb}",
            "\u{2764}\u{fe0f}",
            "1\u{fe0f}\u{20e3}",
        ] {
            assert_eq!(flaw(text), None, "{text:?}");
        }
    }

    #[test]
    fn nothing_that_hides_turns_or_breaks_a_line_is_taken() {
        let singles = (0..=0x10_ffff).filter_map(char::from_u32);
        for char in singles {
            let refused = flaw(&format!("a{char}b")).is_some();
            let is_of_the_kind = char.is_control()
                || matches!(char, '\u{2028}' | '\u{2029}')
                || turns_direction(char)
                || is_hidden(char);
            assert_eq!(refused, is_of_the_kind, "{char:?}");
        }
        for (text, why) in [
            (
                "a\u{200e}b",
                "it has U+200E, which changes the direction of text",
            ),
            (
                "a\u{200f}b",
                "it has U+200F, which changes the direction of text",
            ),
            (
                "a\u{61c}b",
                "it has U+061C, which changes the direction of text",
            ),
            (
                "a\u{202e}b",
                "it has U+202E, which changes the direction of text",
            ),
            ("a\u{200b}b", "it has U+200B, which cannot be seen"),
            ("a\u{ad}b", "it has U+00AD, which cannot be seen"),
            ("\u{feff}a", "it has U+FEFF, which cannot be seen"),
            ("a\u{e0061}", "it has U+E0061, which cannot be seen"),
            ("a\u{2029}b", "it has U+2029, which ends a line"),
            ("a\nb", "it has U+000A, which is a control character"),
            // Joiners and selectors where they do not show.
            ("pay\u{200d}pal", "it has U+200D, which cannot be seen"),
            ("pay\u{200c}pal", "it has U+200C, which cannot be seen"),
            (
                "\u{438}\u{200d}\u{438}",
                "it has U+200D, which cannot be seen",
            ),
            ("\u{1f468}\u{200d}", "it has U+200D, which cannot be seen"),
            ("\u{200d}\u{1f468}", "it has U+200D, which cannot be seen"),
            (
                "\u{645}\u{200c}\u{200c}\u{645}",
                "it has U+200C, which cannot be seen",
            ),
            ("a\u{fe0f}", "it has U+FE0F, which cannot be seen"),
            ("1\u{fe0f}", "it has U+FE0F, which cannot be seen"),
            (
                "\u{2764}\u{fe0f}\u{fe0f}",
                "it has U+FE0F, which cannot be seen",
            ),
        ] {
            assert_eq!(flaw(text).as_deref(), Some(why), "{text:?}");
        }
    }
}
