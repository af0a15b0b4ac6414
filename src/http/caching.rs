//! `Cache-Control` and `Vary` (RFC 9110, 12.5.5; RFC 9111, 5.2.2).
//!
//! A response to the holder of a key is for that caller alone. Without these headers, a
//! cache may give it to the next caller, who may have another key or none.

use ::http::header::{CACHE_CONTROL, PRAGMA, VARY};
use ::http::{HeaderMap, HeaderName, HeaderValue};

use super::credential::Carrier;

/// The headers of a response that holds a token: no cache may store it, neither a
/// proxy's nor the client's (RFC 6749, 5.1).
///
/// ```
/// use http::Response;
///
/// # let token = "acme_live_..";
/// let mut response = Response::new(token);
/// response.headers_mut().extend(gatekey::http::no_store());
/// assert_eq!(response.headers()["cache-control"], "no-store");
/// ```
///
/// In an axum handler, it stands before the body:
///
/// ```
/// use axum::Json;
/// use axum::http::StatusCode;
/// use axum::response::IntoResponse;
///
/// async fn issue() -> impl IntoResponse {
///     (StatusCode::CREATED, gatekey::http::no_store(), Json("acme_live_.."))
/// }
/// ```
#[must_use]
pub fn no_store() -> [(HeaderName, HeaderValue); 2] {
    [
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (PRAGMA, HeaderValue::from_static("no-cache")),
    ]
}

/// The value of `Vary` for these carriers.
pub(super) fn vary_of(carriers: &[Carrier]) -> HeaderValue {
    let mut names: Vec<&str> = Vec::new();
    for carrier in carriers {
        let name = carrier.name().as_str();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // Static values for the usual ones: a shared value has a reference count, on which
    // all threads would contend.
    let joined = names.join(", ");
    for known in ["authorization", "x-api-key", "authorization, x-api-key"] {
        if joined == known {
            return HeaderValue::from_static(known);
        }
    }
    HeaderValue::try_from(joined).unwrap_or(HeaderValue::from_static("*"))
}

/// Adds the missing names to `Vary`, in one line: some caches read only the first.
pub(crate) fn add_vary(headers: &mut HeaderMap, more: &HeaderValue) {
    let Some(first) = headers.get(VARY) else {
        headers.insert(VARY, more.clone());
        return;
    };
    let said: Vec<&[u8]> = headers.get_all(VARY).iter().flat_map(members).collect();
    if said.contains(&&b"*"[..]) {
        return;
    }
    let is_said = |name: &&[u8]| said.iter().any(|known| known.eq_ignore_ascii_case(name));
    let missing: Vec<&[u8]> = members(more).filter(|name| !is_said(name)).collect();
    let mut lines = headers.get_all(VARY).iter();
    if missing.is_empty() && lines.next() == Some(first) && lines.next().is_none() {
        return;
    }
    let all: Vec<&[u8]> = said.iter().copied().chain(missing).collect();
    // Its parts were header values, so this cannot fail; `*` forbids every cache.
    let joined = HeaderValue::from_bytes(&all.join(&b", "[..]));
    headers.insert(VARY, joined.unwrap_or(HeaderValue::from_static("*")));
}

/// Adds `private` to `Cache-Control`, unless it says who may store the response.
pub(crate) fn add_private(headers: &mut HeaderMap) {
    let said: Vec<&[u8]> = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .flat_map(members)
        .collect();
    // `private="a-field"` is about that field alone.
    let says_who = |directive: &&[u8]| {
        directive.eq_ignore_ascii_case(b"private")
            || directive.eq_ignore_ascii_case(b"no-store")
            || is_sharing(directive)
    };
    if said.iter().any(says_who) {
        return;
    }
    let all: Vec<&[u8]> = said.iter().copied().chain([&b"private"[..]]).collect();
    let joined = HeaderValue::from_bytes(&all.join(&b", "[..]));
    headers.insert(
        CACHE_CONTROL,
        joined.unwrap_or(HeaderValue::from_static("private")),
    );
}

/// Whether a shared cache may give the response to other callers.
#[cfg(any(feature = "tower", test))]
pub(crate) fn is_shared(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all(CACHE_CONTROL).iter().flat_map(members);
    said.any(is_sharing)
}

fn is_sharing(directive: &[u8]) -> bool {
    let name = directive.split(|byte| *byte == b'=').next();
    directive.eq_ignore_ascii_case(b"public")
        || name.is_some_and(|name| name.trim_ascii_end().eq_ignore_ascii_case(b"s-maxage"))
}

/// The members of a list, without empty ones (RFC 9110, 5.6.1).
fn members(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Dialect, presets};

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    fn all<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<&'h str> {
        let values = headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn vary_names_every_header_that_is_read_once_and_in_one_line() {
        for (said, expected) in [
            (&[][..], "authorization, x-api-key"),
            (&["Accept"], "Accept, authorization, x-api-key"),
            (&["X-API-Key"], "X-API-Key, authorization"),
            (
                &["accept", "Authorization"],
                "accept, Authorization, x-api-key",
            ),
            (&["authorization, x-api-key"], "authorization, x-api-key"),
            (&["x-api-key", "authorization"], "x-api-key, authorization"),
            (&["x-api-key-2"], "x-api-key-2, authorization, x-api-key"),
            (&["", " , "], "authorization, x-api-key"),
            (&["*"], "*"),
        ] {
            let mut headers = headers(&VARY, said);
            for _ in 0..2 {
                presets::one_codex().vary(&mut headers);
                assert_eq!(all(&headers, &VARY), [expected], "{said:?}");
            }
        }
        let mut headers = headers(&VARY, &["accept", "*"]);
        presets::one_codex().vary(&mut headers);
        assert_eq!(all(&headers, &VARY), ["accept", "*"]);
    }

    #[test]
    fn what_the_handler_says_of_who_may_store_is_kept_and_else_it_is_private() {
        for (said, expected, shared) in [
            (&[][..], &["private"][..], false),
            (&["max-age=60"], &["max-age=60, private"], false),
            (
                &["no-cache", "max-age=0"],
                &["no-cache, max-age=0, private"],
                false,
            ),
            (&["must-revalidate"], &["must-revalidate, private"], false),
            (
                &["private=\"set-cookie\""],
                &["private=\"set-cookie\", private"],
                false,
            ),
            (
                &["no-cache=\"x, public\""],
                &["no-cache=\"x, public\", private"],
                false,
            ),
            (&["Private, max-age=1"], &["Private, max-age=1"], false),
            (&["no-store"], &["no-store"], false),
            (&["max-age=60, Public"], &["max-age=60, Public"], true),
            (
                &["max-age=1", "S-MaxAge = 60"],
                &["max-age=1", "S-MaxAge = 60"],
                true,
            ),
            (&["s-maxage-2=60"], &["s-maxage-2=60, private"], false),
            (&["publicly"], &["publicly, private"], false),
        ] {
            let mut headers = headers(&CACHE_CONTROL, said);
            for _ in 0..2 {
                Dialect::default().keep_private(&mut headers);
                assert_eq!(all(&headers, &CACHE_CONTROL), expected, "{said:?}");
            }
            assert_eq!(is_shared(&headers), shared, "{said:?}");
        }
    }
}
