//! The request that a proxy asks about.

use ::http::HeaderMap;
use ::http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use ::http::request::Parts;

/// The request that a proxy asks about. See
/// [`ForwardAuth::permissions_for`](super::ForwardAuth::permissions_for).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginalRequest<'r> {
    method: &'r str,
    path: &'r str,
}

impl<'r> OriginalRequest<'r> {
    pub(super) fn new(method: &'r str, target: &'r str) -> Self {
        // Without the query, on which no permission depends. A `#` stays: some servers end
        // the path there, and others (those in Go) do not.
        let path = target.split('?').next().unwrap_or("");
        Self { method, path }
    }

    /// The request that two headers name. Each must be there once: of two, one is the
    /// client's.
    pub(super) fn named(headers: &'r HeaderMap, method: &str, target: &str) -> Option<Self> {
        let once = |name: &str| {
            let mut values = headers.get_all(name).iter();
            let value = values.next()?.to_str().ok()?;
            (values.next().is_none() && !value.is_empty()).then_some(value)
        };
        Some(Self::new(once(method)?, once(target)?))
    }

    /// The method as the client sent it: methods are case-sensitive.
    #[must_use]
    pub fn method(&self) -> &'r str {
        self.method
    }

    /// The path as the client sent it, without the query and not decoded.
    #[must_use]
    pub fn path(&self) -> &'r str {
        self.path
    }

    /// Gives a request the method and the path of the original one, as far as they can be
    /// parsed.
    pub(super) fn name(&self, request: &mut Parts) {
        if let Ok(method) = self.method.parse() {
            request.method = method;
        }
        if let Ok(uri) = self.path.parse() {
            request.uri = uri;
        }
    }

    /// Whether every server reads the path alike. Servers differ, for one, in whether they
    /// decode a percent encoding that was not needed.
    pub(super) fn reads_one_way(&self) -> bool {
        let is_method = !self.method.is_empty()
            && self
                .method
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        let Some(rest) = self.path.strip_prefix('/') else {
            return false;
        };
        let mut segments = rest.split('/').peekable();
        let mut has_one = is_method;
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            let is_plain = (!segment.is_empty() || is_last)
                && segment != "."
                && segment != ".."
                && is_plain(segment.as_bytes());
            has_one &= is_plain;
        }
        has_one
    }

    /// A preflight of a browser (the Fetch standard, 4.8).
    pub(super) fn is_preflight(&self, headers: &HeaderMap) -> bool {
        self.method == "OPTIONS"
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }
}

/// Whether all servers read a segment alike: it has no backslash, `;`, `#` or control
/// character, and no percent encoding of a letter, a digit or any of `-._~/\%;`.
fn is_plain(segment: &[u8]) -> bool {
    let mut at = 0;
    while let Some(byte) = segment.get(at) {
        match byte {
            b'\\' | b';' | b'#' => return false,
            b'%' => {
                let digits = segment.get(at + 1..at + 3);
                let Some(value) = digits.and_then(|digits| {
                    let text = std::str::from_utf8(digits).ok()?;
                    u8::from_str_radix(text, 16).ok()
                }) else {
                    return false;
                };
                let differs = value.is_ascii_alphanumeric()
                    || value.is_ascii_control()
                    || matches!(
                        value,
                        b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | b'%' | b';'
                    );
                if differs {
                    return false;
                }
                at += 2;
            }
            byte if !byte.is_ascii_graphic() => return false,
            _ => {}
        }
        at += 1;
    }
    true
}
