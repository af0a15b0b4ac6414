//! The client's address, behind proxies.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ::http::header::FORWARDED;
use ::http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::network::Network;

/// The other end of a connection.
///
/// ```
/// use gatekey::http::Peer;
/// use std::net::SocketAddr;
///
/// let address: SocketAddr = "192.0.2.7:4711".parse().unwrap();
/// assert_eq!(Peer::from(address), Peer::Address("192.0.2.7".parse().unwrap()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// A network address.
    Address(IpAddr),
    /// A process on the same host, over a Unix socket.
    Unix,
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address.ip())
    }
}

/// The header in which a proxy gives the client's address. See [`Proxies`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceHeader {
    /// `X-Forwarded-For`: each proxy adds its peer's address at the end.
    XForwardedFor,
    /// `Forwarded` (RFC 7239): each proxy adds an element with `for=` at the end.
    Forwarded,
    /// A header with one address, which the proxy replaces: `X-Real-IP`,
    /// `CF-Connecting-IP`.
    Single(HeaderName),
}

impl SourceHeader {
    /// `X-Real-IP`.
    ///
    /// ```
    /// use gatekey::http::{Peer, Proxies, SourceHeader};
    /// use http::HeaderMap;
    ///
    /// let proxies = Proxies::new(SourceHeader::x_real_ip()).trust(["10.0.0.1/32".parse()?]);
    /// let mut headers = HeaderMap::new();
    /// headers.insert("x-real-ip", "192.0.2.7".parse().unwrap());
    /// let proxy = Peer::Address("10.0.0.1".parse().unwrap());
    /// assert_eq!(proxies.source(proxy, &headers).unwrap(), "192.0.2.7".parse().ok());
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub const fn x_real_ip() -> Self {
        Self::Single(HeaderName::from_static("x-real-ip"))
    }

    fn name(&self) -> &HeaderName {
        const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
        static NAME: HeaderName = X_FORWARDED_FOR;
        match self {
            Self::XForwardedFor => &NAME,
            Self::Forwarded => &FORWARDED,
            Self::Single(name) => name,
        }
    }
}

/// Which peers are proxies, and the one header in which they give the client's address.
///
/// The source of a request is the last address in the header that is no proxy's. The client
/// may have written what stands before it, and so that is not read. If the peer is no proxy,
/// the header is not read at all: the peer is the source.
///
/// If a proxy gives no address, the source is unknown, and a request with a credential is
/// rejected: keys that are bound to networks and the count of failed attempts depend on the
/// source. So
/// - trust proxies alone, not whole networks with other hosts in them;
/// - let each proxy append its peer to the header, or set the header.
///
/// A missing header does not mean that the proxy's own host made the request: a client can
/// make some proxies drop the header by naming it in `Connection`.
///
/// ```
/// use gatekey::http::{Peer, Proxies, SourceHeader};
/// use http::HeaderMap;
///
/// let proxies = Proxies::new(SourceHeader::XForwardedFor).trust(["10.0.0.0/30".parse()?]);
/// let mut headers = HeaderMap::new();
/// // Written by the client, by the outer proxy, and by the inner proxy.
/// headers.insert("x-forwarded-for", "8.8.8.8, 192.0.2.7, 10.0.0.2".parse().unwrap());
/// let inner = Peer::Address("10.0.0.1".parse().unwrap());
/// assert_eq!(proxies.source(inner, &headers).unwrap(), "192.0.2.7".parse().ok());
/// let anybody = Peer::Address("192.0.2.9".parse().unwrap());
/// assert_eq!(proxies.source(anybody, &headers).unwrap(), "192.0.2.9".parse().ok());
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Proxies {
    header: SourceHeader,
    trusted: Vec<Network>,
    trusts_unix: bool,
}

/// Why the source of a request is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourceFault {
    /// The proxy did not send the header.
    Missing,
    /// A header for one address occurs more than once.
    Repeated,
    /// The last hop that counts is not an address, is hidden (`unknown`, `_name`), or the
    /// header cannot be read.
    NotAnAddress,
}

impl fmt::Display for SourceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "a proxy did not say where the request comes from",
            Self::Repeated => "a proxy said more than once where the request comes from",
            Self::NotAnAddress => "a proxy gave no address for where the request comes from",
        })
    }
}

impl std::error::Error for SourceFault {}

impl Proxies {
    /// No proxies yet, and the header to read from those that [`trust`](Self::trust) adds.
    pub const fn new(header: SourceHeader) -> Self {
        Self {
            header,
            trusted: Vec::new(),
            trusts_unix: false,
        }
    }

    /// Adds networks whose addresses are proxies.
    pub fn trust(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.trusted.extend(networks);
        self
    }

    /// Treats every peer on a Unix socket as a proxy. The socket's permissions decide who
    /// can connect.
    ///
    /// ```
    /// use gatekey::http::{Peer, Proxies, SourceHeader};
    /// use http::HeaderMap;
    ///
    /// let proxies = Proxies::new(SourceHeader::XForwardedFor).trust_unix_sockets();
    /// let mut headers = HeaderMap::new();
    /// headers.insert("x-forwarded-for", "192.0.2.7".parse().unwrap());
    /// assert_eq!(proxies.source(Peer::Unix, &headers).unwrap(), "192.0.2.7".parse().ok());
    /// ```
    pub fn trust_unix_sockets(mut self) -> Self {
        self.trusts_unix = true;
        self
    }

    /// The client's address; `None` for a peer on a Unix socket that is no proxy.
    ///
    /// Linear in the length of the header.
    ///
    /// # Errors
    /// [`SourceFault`] where a proxy does not give it.
    pub fn source(&self, peer: Peer, headers: &HeaderMap) -> Result<Option<IpAddr>, SourceFault> {
        match peer {
            Peer::Unix if !self.trusts_unix => return Ok(None),
            Peer::Address(address) if !self.trusts(address) => {
                return Ok(Some(address.to_canonical()));
            }
            Peer::Unix | Peer::Address(_) => {}
        }
        let mut lines = headers.get_all(self.header.name()).iter();
        let Some(last) = lines.next_back() else {
            return Err(SourceFault::Missing);
        };
        let source = match &self.header {
            SourceHeader::Single(_) if lines.next().is_some() => return Err(SourceFault::Repeated),
            SourceHeader::Single(_) => text(last).and_then(|text| address(text, true)),
            _ => self.last_untrusted(std::iter::once(last).chain(lines.rev())),
        };
        match source {
            Some(source) => Ok(Some(source.to_canonical())),
            None => Err(SourceFault::NotAnAddress),
        }
    }

    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// The last hop that is no proxy, or the first hop where all are proxies. Lines come last
    /// first.
    fn last_untrusted<'h>(&self, lines: impl Iterator<Item = &'h HeaderValue>) -> Option<IpAddr> {
        let mut hop = None;
        // Whether it is the source. A hop that is no address ends the search.
        let mut is_it = |found: Option<IpAddr>| {
            hop = found;
            found.is_none_or(|found| !self.trusts(found))
        };
        for line in lines {
            let line = text(line)?;
            // Line by line: a quote that one line leaves open must not reach into the next,
            // which another hop wrote.
            let is_found = match self.header {
                SourceHeader::Forwarded => forwarded(line)?.into_iter().any(&mut is_it),
                _ => line.rsplit(',').any(|one| is_it(address(one, true))),
            };
            if is_found {
                break;
            }
        }
        hop
    }
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// An address, with or without a port. In `Forwarded`, an IPv6 address has brackets.
fn address(text: &str, may_be_bare: bool) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_fit = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address
            .parse::<Ipv6Addr>()
            .ok()
            .filter(|_| is_fit)
            .map(IpAddr::V6);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return (may_be_bare || address.is_ipv4()).then_some(address);
    }
    let (address, port) = text.split_once(':')?;
    address
        .parse::<Ipv4Addr>()
        .ok()
        .filter(|_| is_port(port))
        .map(IpAddr::V4)
}

/// A port: digits, or a name that hides it (RFC 7239, 6.3).
fn is_port(text: &str) -> bool {
    let is_named = text.strip_prefix('_').is_some_and(|name| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !name.is_empty() && name.bytes().all(fits)
    });
    is_named || (text.parse::<u16>().is_ok() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The addresses of a line of `Forwarded` (RFC 7239, 4), the last first. `None` where the
/// line is malformed.
fn forwarded(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut elements = Vec::new();
    let mut rest = line;
    loop {
        let mut source: Option<Option<IpAddr>> = None;
        loop {
            let (name, after) = rest.split_once('=')?;
            let name = name.trim_start_matches([' ', '\t']);
            if !is_token(name) {
                return None;
            }
            let (value, after) = value(after)?;
            if name.eq_ignore_ascii_case("for") && source.replace(address(&value, false)).is_some()
            {
                return None;
            }
            rest = after.trim_start_matches([' ', '\t']);
            match rest.strip_prefix(';') {
                Some(after) => rest = after,
                None => break,
            }
        }
        elements.push(source.flatten());
        if rest.is_empty() {
            elements.reverse();
            return Some(elements);
        }
        rest = rest.strip_prefix(',')?;
    }
}

/// A token or a quoted string, and the text behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',', ' ', '\t']).unwrap_or(text.len());
        let (token, rest) = text.split_at_checked(end)?;
        return is_token(token).then(|| (token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(header: SourceHeader) -> Proxies {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        Proxies::new(header).trust(trusted)
    }

    /// What a trusted peer's lines come to; `-` where it is not known.
    fn source(header: SourceHeader, lines: &[&str]) -> String {
        let proxies = proxies(header);
        let mut headers = HeaderMap::new();
        for line in lines {
            let line = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            headers.append(proxies.header.name(), line);
        }
        let peer = Peer::Address("10.0.0.1".parse().unwrap());
        match proxies.source(peer, &headers) {
            Ok(Some(source)) => source.to_string(),
            Ok(None) => "none".to_owned(),
            Err(_) => "-".to_owned(),
        }
    }

    #[test]
    fn x_forwarded_for_gives_the_last_hop_that_is_no_proxy() {
        for (lines, expected) in [
            (&["192.0.2.7"][..], "192.0.2.7"),
            (&["8.8.8.8, 192.0.2.7"], "192.0.2.7"),
            (&["8.8.8.8,192.0.2.7,10.0.0.2,\t10.9.9.9 "], "192.0.2.7"),
            (&["8.8.8.8", "192.0.2.7"], "192.0.2.7"),
            (&["8.8.8.8, 192.0.2.7", "10.0.0.2"], "192.0.2.7"),
            (&["192.0.2.7:4711"], "192.0.2.7"),
            (&["[2001:db8::7]:4711"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["::ffff:192.0.2.7"], "192.0.2.7"),
            (&["::ffff:10.0.0.2, fd00::2"], "10.0.0.2"),
            // What is left of the one that counts is the sender's to write.
            (&["garbage, \"', 192.0.2.7"], "192.0.2.7"),
            (&["garbage", "192.0.2.7"], "192.0.2.7"),
            // All proxies: the first of them is the sender.
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // What a proxy wrote and is no address.
            (&[], "-"),
            (&[""], "-"),
            (&["192.0.2.7,"], "-"),
            (&["192.0.2.7, ,10.0.0.2"], "-"),
            (&["192.0.2.7, unknown"], "-"),
            (&["192.0.2.7, unix:"], "-"),
            (&["192.0.2.7 8.8.8.8"], "-"),
            (&["192.0.2.07"], "-"),
            (&["192.0.2.7:"], "-"),
            (&["192.0.2.7:99999"], "-"),
            (&["192.0.2.7:+1"], "-"),
            (&["[192.0.2.7]"], "-"),
            (&["[2001:db8::7]x"], "-"),
            (&["fe80::1%eth0"], "-"),
            (&["192.0.2.7, \u{661}"], "-"),
            (&["garbage, 10.0.0.2"], "-"),
            (&["192.0.2.7", ""], "-"),
        ] {
            assert_eq!(
                source(SourceHeader::XForwardedFor, lines),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_has_it() {
        for (lines, expected) in [
            (&["for=192.0.2.7"][..], "192.0.2.7"),
            (&["For=\"[2001:db8::7]:4711\""], "2001:db8::7"),
            (
                &["for=\"[2001:db8::7]\";proto=https;by=10.0.0.1"],
                "2001:db8::7",
            ),
            (&["proto=http;for=192.0.2.7 , for=10.0.0.2"], "192.0.2.7"),
            (
                &["for=8.8.8.8, for=192.0.2.7;host=\"a, b;for=9.9.9.9\""],
                "192.0.2.7",
            ),
            (&["for=\"192.0.2.7:_port\""], "192.0.2.7"),
            (&["for=\"192.0.2\\.7\""], "192.0.2.7"),
            (
                &["for=8.8.8.8", "for=192.0.2.7", "for=10.0.0.2"],
                "192.0.2.7",
            ),
            // A quote that the sender left open does not reach into the next line.
            (&["for=\"8.8.8.8", "for=192.0.2.7"], "192.0.2.7"),
            (&["for=8.8.8.8;x=\", for=192.0.2.7"], "-"),
            (&["for=8.8.8.8;x=\", for=\"[2001:db8::7]\""], "-"),
            (&["for=unknown"], "-"),
            (&["for=192.0.2.7, for=_hidden"], "-"),
            (&["for=192.0.2.7, proto=http"], "-"),
            (&["for=192.0.2.7;for=8.8.8.8"], "-"),
            (&["for=2001:db8::7"], "-"),
            (&["for=\"2001:db8::7\""], "-"),
            (&["for=192.0.2.7:80"], "-"),
            (&["for=192.0.2.7,"], "-"),
            (&["for = 192.0.2.7"], "-"),
            (&["192.0.2.7"], "-"),
            (&["for="], "-"),
            (&[""], "-"),
            (&[], "-"),
        ] {
            assert_eq!(
                source(SourceHeader::Forwarded, lines),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_header_of_one_address_is_there_once_and_holds_one() {
        for (lines, expected) in [
            (&["192.0.2.7"][..], "192.0.2.7"),
            (&["10.0.0.9"], "10.0.0.9"),
            (&["192.0.2.7", "192.0.2.7"], "-"),
            (&["192.0.2.7, 192.0.2.8"], "-"),
            (&["unix:"], "-"),
            (&[], "-"),
        ] {
            assert_eq!(
                source(SourceHeader::x_real_ip(), lines),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn the_header_is_read_from_proxies_alone() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("8.8.8.8"));
        let asked = |proxies: &Proxies, peer| proxies.source(peer, &headers).unwrap();
        let at = |text: &str| Peer::Address(text.parse().unwrap());
        let proxies = proxies(SourceHeader::XForwardedFor);
        let source = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        assert_eq!(asked(&proxies, at("10.1.2.3")), source("8.8.8.8"));
        assert_eq!(asked(&proxies, at("::ffff:10.1.2.3")), source("8.8.8.8"));
        assert_eq!(asked(&proxies, at("192.0.2.9")), source("192.0.2.9"));
        assert_eq!(asked(&proxies, at("::ffff:192.0.2.9")), source("192.0.2.9"));
        // A private address behind a public translator is none of ours.
        assert_eq!(
            asked(&proxies, at("64:ff9b::10.1.2.3")),
            source("64:ff9b::10.1.2.3")
        );
        assert_eq!(asked(&proxies, Peer::Unix), None);
        assert_eq!(
            asked(&proxies.clone().trust_unix_sockets(), Peer::Unix),
            source("8.8.8.8")
        );
        // Other headers of that kind are not.
        let real_ip =
            Proxies::new(SourceHeader::x_real_ip()).trust(["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(
            real_ip.source(at("10.0.0.1"), &headers),
            Err(SourceFault::Missing)
        );
    }
}
