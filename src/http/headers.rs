//! Headers of servers that are made with another version of `http`, or with none.

use ::http::{HeaderMap, HeaderName, HeaderValue};

/// The headers of a request, from a server whose types are not those of `http` 1: actix,
/// warp and hyper before 1.0 have `http` 0.2. `docs/OTHER_SERVERS.md` shows a whole
/// server of actix.
///
/// Every pair counts: a header that is repeated must stay so, or one of two credentials
/// would be taken without anybody having chosen.
///
/// # Errors
/// A name or a value that no header can have. Answer with 400, rather than leave it out.
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
