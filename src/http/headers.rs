//! Headers from servers that use another version of `http`, or none.

use ::http::{HeaderMap, HeaderName, HeaderValue};

/// Makes a `HeaderMap` of `http` 1 from the headers of another server: actix, warp and hyper
/// before 1.0 use `http` 0.2. `docs/OTHER_SERVERS.md` shows a whole actix server.
///
/// Pass every pair, including repeated names: a dialect rejects a repeated credential.
///
/// # Errors
/// A name or a value that no header can have. Respond with 400 rather than leave the header
/// out.
///
/// ```
/// use gatekey::http::{Dialect, RejectionReason, header_map};
///
/// let pairs = [("Authorization", "Bearer a"), ("authorization", "Bearer b")];
/// let headers = header_map(pairs)?;
/// assert!(matches!(
///     Dialect::default().credential(&headers).unwrap_err().reason(),
///     RejectionReason::RepeatedHeader(_),
/// ));
/// # Ok::<(), http::Error>(())
/// ```
pub fn header_map<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    pairs: impl IntoIterator<Item = (N, V)>,
) -> Result<HeaderMap, ::http::Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_ref())?;
        let value = HeaderValue::from_bytes(value.as_ref())?;
        headers.try_append(name, value)?;
    }
    Ok(headers)
}
