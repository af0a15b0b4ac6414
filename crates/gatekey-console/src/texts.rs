//! The texts of the pages: one file, so that a translation is a file.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

const ENGLISH: &str = include_str!("../texts/en.txt");

/// The texts of the pages. `texts/en.txt` in the crate's source has all of them: a line
/// each, a name and what stands for it. `{0}`, `{1}` are replaced by what the page knows.
#[derive(Clone, Debug)]
pub struct Texts {
    known: Arc<BTreeMap<String, String>>,
}

/// Why a file of texts was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextsError {
    line: usize,
    why: &'static str,
}

impl fmt::Display for TextsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the texts: {}", self.line, self.why)
    }
}

impl std::error::Error for TextsError {}

fn read(text: &str, into: &mut BTreeMap<String, String>) -> Result<(), TextsError> {
    let english = into.clone();
    let mut seen = std::collections::BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        let refuse = |why| TextsError {
            line: index + 1,
            why,
        };
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| refuse("it has no `=`"))?;
        let name = name.trim().to_owned();
        if !english.is_empty() && !english.contains_key(&name) {
            return Err(refuse("there is no text of this name"));
        }
        if !seen.insert(name.clone()) {
            return Err(refuse("the name stands twice"));
        }
        into.insert(name, value.trim().to_owned());
    }
    Ok(())
}

impl Texts {
    /// The English texts.
    #[must_use]
    pub fn english() -> Self {
        let mut known = BTreeMap::new();
        // `tests::the_english_texts_are_read` shows that it is taken.
        let _ = read(ENGLISH, &mut known);
        Self {
            known: Arc::new(known),
        }
    }

    /// The texts of a file in the form of `texts/en.txt`. What it leaves out stays
    /// English; `lang` is its language, as `de`.
    ///
    /// # Errors
    /// A line without `=`, a name that is unknown or stands twice.
    ///
    /// ```
    /// use gatekey_console::{Look, Texts};
    ///
    /// let texts = Texts::parse("lang = de\nkeys.title = Ihre API-Keys\n")?;
    /// let look = Look::new().texts(texts);
    /// # Ok::<(), gatekey_console::TextsError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, TextsError> {
        let mut known = (*Self::english().known).clone();
        read(text, &mut known)?;
        Ok(Self {
            known: Arc::new(known),
        })
    }

    /// A text. One that is missing shows its name.
    pub(crate) fn get(&self, name: &str) -> String {
        self.known.get(name).map_or(name, String::as_str).to_owned()
    }

    /// A text with what stands for `{0}`, `{1}`. What is put in is not looked at again.
    pub(crate) fn with(&self, name: &str, values: &[&dyn fmt::Display]) -> String {
        let text = self.known.get(name).map_or(name, String::as_str);
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, behind) = rest.split_at(at);
            out.push_str(before);
            let placed = behind.get(1..).and_then(|behind| {
                let (number, left) = behind.split_once('}')?;
                let value = values.get(number.parse::<usize>().ok()?)?;
                Some((value, left))
            });
            match placed {
                Some((value, left)) => {
                    out.push_str(&value.to_string());
                    rest = left;
                }
                None => {
                    out.push('{');
                    rest = behind.get(1..).unwrap_or_default();
                }
            }
        }
        out.push_str(rest);
        out
    }

    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_english_texts_are_read() {
        let mut known = BTreeMap::new();
        read(ENGLISH, &mut known).unwrap();
        assert!(known.len() > 100);
        assert!(known.values().all(|text| !text.is_empty()));
    }

    /// The names in the source that look like texts are all of the file's, both ways.
    #[test]
    fn each_text_is_used_and_each_that_is_used_is_there() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut source = String::new();
        let mut folders = vec![root.join("src"), root.join("templates")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => source.push_str(&std::fs::read_to_string(path).unwrap()),
                }
            }
        }
        let texts = Texts::english();
        for name in texts.names() {
            // Families that are put together: the last part comes of a value.
            let family = name
                .rsplit_once('.')
                .map(|(family, _)| format!("\"{family}.{{"));
            let is_used = source.contains(&format!("\"{name}\""))
                || family.is_some_and(|family| source.contains(&family));
            let is_used = is_used || name == "lang";
            assert!(is_used, "nothing uses the text {name}");
        }
        for call in [".t(\"", ".with(\""] {
            for (at, _) in source.match_indices(call) {
                let name = source[at + call.len()..].split('"').next().unwrap();
                let is_family = name.contains('{');
                let is_known = texts.names().any(|known| match is_family {
                    true => known.starts_with(name.split('{').next().unwrap()),
                    false => known == name,
                });
                assert!(is_known || !name.contains('.'), "there is no text {name}");
            }
        }
    }

    #[test]
    fn what_is_put_into_a_text_is_not_looked_at_again() {
        let texts = Texts::parse("keys.held_of = {0} of {1} {x}\n").unwrap();
        assert_eq!(
            texts.with("keys.held_of", &[&"{1}", &"<b>"]),
            "{1} of <b> {x}"
        );
    }

    #[test]
    fn a_translation_with_an_unknown_name_is_refused() {
        let error = Texts::parse("lang = de\nkeys.name_of_none = x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2 of the texts: there is no text of this name"
        );
        assert!(Texts::parse("lang = de\nlang = fr").is_err());
        assert!(Texts::parse("lang").is_err());
        assert_eq!(Texts::parse("lang = de").unwrap().get("lang"), "de");
    }
}
