//! What a form or a query holds.

use crate::reply::Fault;

/// The pairs of a form or a query, in their order. `Debug` shows names alone: a value may
/// be a token.
#[derive(Clone, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        for (_, value) in &mut self.0 {
            value.zeroize();
        }
    }
}

impl Fields {
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// A value that may stand once. One that is empty counts as left out.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, Fault> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(Fault::Tampered),
            (Some(value), None) if !value.is_empty() => Ok(Some(value)),
            _ => Ok(None),
        }
    }

    /// A value that the form always sends.
    pub(crate) fn must(&self, name: &str) -> Result<&str, Fault> {
        self.one(name)?.ok_or(Fault::Tampered)
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(of, _)| of == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, name: &str, value: &str) -> bool {
        self.all(name).any(|of| of == value)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A query made of pairs, with its `?`; nothing where there are none.
pub(crate) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        out.append_pair(name, value);
    }
    match out.finish() {
        text if text.is_empty() => text,
        text => format!("?{text}"),
    }
}
