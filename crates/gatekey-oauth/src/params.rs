//! The parameters of a request, each at most once.

use zeroize::{Zeroize as _, Zeroizing};

use crate::json::Json;

/// The longest query or body that is read, in bytes.
pub const PARAMS_LEN_MAX: usize = 16 * 1024;
/// The most parameters: a page for consent has one for each permission.
const PARAMS_MAX: usize = 160;

/// The parameters of a request: of a query, of a form, or of a JSON object of strings.
///
/// A parameter that stands twice is an error (RFC 6749, 3.1), since readers differ in which
/// one they take. One without a value counts as absent. Values are wiped on drop.
///
/// ```
/// use gatekey_oauth::Params;
///
/// let params = Params::form(b"scope=read+write&state=a%26b&nothing=").unwrap();
/// assert_eq!(params.get("scope"), Some("read write"));
/// assert_eq!(params.get("state"), Some("a&b"));
/// assert_eq!(params.get("nothing"), None);
/// assert!(Params::form(b"scope=read&scope=admin").is_none());
/// assert_eq!(Params::json(br#"{"scope":"read"}"#).unwrap().get("scope"), Some("read"));
/// ```
#[derive(Clone, Default)]
pub struct Params(Vec<(String, Zeroizing<String>)>);

impl Params {
    /// Those of a query or of a body of `application/x-www-form-urlencoded`. `None`: it is too
    /// long, names one twice, has a broken `%`, or is not UTF-8.
    #[must_use]
    pub fn form(text: &[u8]) -> Option<Self> {
        let mut params = Self::default();
        if text.len() > PARAMS_LEN_MAX {
            return None;
        }
        for pair in text
            .split(|byte| *byte == b'&')
            .filter(|pair| !pair.is_empty())
        {
            let at = pair
                .iter()
                .position(|byte| *byte == b'=')
                .unwrap_or(pair.len());
            let (name, value) = pair.split_at(at);
            let name = decoded(name)?.as_str().to_owned();
            params.add(name, decoded(value.get(1..).unwrap_or(&[]))?)?;
        }
        Some(params)
    }

    /// Those of a body of `application/json`: an object of strings. `None` for anything else.
    #[must_use]
    pub fn json(text: &[u8]) -> Option<Self> {
        let mut params = Self::default();
        if text.len() > PARAMS_LEN_MAX {
            return None;
        }
        for (name, value) in Json::object(text)? {
            let Json::Text(value) = value else {
                return None;
            };
            params.add((*name).to_owned(), value.into_owned())?;
        }
        Some(params)
    }

    fn add(&mut self, name: String, value: Zeroizing<String>) -> Option<()> {
        let is_new = !self.0.iter().any(|(known, _)| *known == name);
        (is_new && self.0.len() < PARAMS_MAX).then(|| self.0.push((name, value)))
    }

    /// A parameter that has a value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self
            .0
            .iter()
            .filter(|(known, value)| known == name && !value.is_empty());
        found.next().map(|(_, value)| value.as_str())
    }
}

/// Shows the names alone: values are codes and secrets.
impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// The text of a part of a form.
pub(crate) fn decoded(part: &[u8]) -> Option<Zeroizing<String>> {
    // As long as it can get: it does not grow, and so leaves no copy.
    let mut bytes = Zeroizing::new(Vec::with_capacity(part.len()));
    let mut rest = part;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let [high, low, tail @ ..] = tail else {
                    return None;
                };
                let digit = |digit: u8| char::from(digit).to_digit(16);
                bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
                rest = tail;
            }
            byte => bytes.push(*byte),
        }
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Some(Zeroizing::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            None
        }
    }
}

/// A text as part of a query: all but the unreserved is encoded (RFC 3986, 2.3).
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                encoded.push(char::from(byte));
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ambiguous_or_broken_is_refused() {
        for text in [
            "a=1&a=2",
            "a=1&%61=2",
            "a=%",
            "a=%4",
            "a=%zz",
            "a=%ff",
            "a=&a=1",
        ] {
            assert!(Params::form(text.as_bytes()).is_none(), "{text}");
        }
        for text in [
            r#"{"a":"1","a":"2"}"#,
            r#"{"a":1}"#,
            r#"{"a":["1"]}"#,
            r#"["a"]"#,
            "a=1",
        ] {
            assert!(Params::json(text.as_bytes()).is_none(), "{text}");
        }
        assert!(Params::form(&vec![b'a'; PARAMS_LEN_MAX + 1]).is_none());
        let many: Vec<_> = (0..=PARAMS_MAX).map(|n| format!("{n}=1")).collect();
        assert!(Params::form(many.join("&").as_bytes()).is_none());
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        let text = "a b+c&d=e%f/\u{e4}\u{1f980}#?";
        assert_eq!(*decoded(encoded(text).as_bytes()).unwrap(), text);
        assert!(encoded(text).is_ascii());
    }

    #[test]
    fn debug_shows_no_value() {
        let params = Params::form(b"client_secret=hidden").unwrap();
        assert!(!format!("{params:?}").contains("hidden"));
    }
}
