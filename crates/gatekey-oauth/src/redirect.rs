//! Redirect URIs: which may be registered, and which of them a request names.
//!
//! They are compared byte for byte, and never parsed and printed again. The one
//! exception is the port of a loopback address (RFC 8252, 7.3).

use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest redirect URI, in bytes.
pub(crate) const LEN_MAX: usize = 512;

const LOOPBACKS: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];

/// Why a redirect URI may not be registered.
pub(crate) fn flaw(uri: &str) -> Option<&'static str> {
    if uri.is_empty() || uri.len() > LEN_MAX {
        return Some("it is not 1 to 512 bytes");
    }
    if !uri
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte))
    {
        return Some("it has a character that a URI does not have, or a fragment");
    }
    let Some((scheme, rest)) = uri.split_once(':') else {
        return Some("it has no scheme");
    };
    let of_scheme =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+.-".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_lowercase())
        || !scheme.bytes().all(of_scheme)
    {
        return Some("its scheme is none, or is not in lower case");
    }
    match scheme {
        "https" | "http" => {
            let Some(rest) = rest.strip_prefix("//") else {
                return Some("it has no host");
            };
            let authority = rest.split(['/', '?']).next().unwrap_or("");
            if !is_authority(authority) {
                return Some("it has no host and port alone");
            }
            match scheme == "https" || loopback(uri).is_some() {
                true => None,
                false => Some("only a loopback address may have http"),
            }
        }
        // An app's own scheme is a reversed domain name (RFC 8252, 7.1): so neither
        // `javascript` nor `data` is one.
        _ if scheme.contains('.') => None,
        _ => Some("its scheme is neither https nor a reversed domain name"),
    }
}

/// Whether this is a host, perhaps with a port, of which all readers make the same: no user, no
/// escapes, and nothing that means something in a header.
fn is_authority(text: &str) -> bool {
    let (is_host, behind) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, behind)) => (is_ipv6(host), behind),
            None => return false,
        },
        None => {
            let (host, behind) = text.split_at(text.find(':').unwrap_or(text.len()));
            let of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            // What ends in a number, readers take for an address of IPv4, in whichever form.
            let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next();
            let is_number =
                last.is_some_and(|last| last.starts_with(|it: char| it.is_ascii_digit()));
            let is_read = !is_number || host.parse::<Ipv4Addr>().is_ok();
            (
                !host.is_empty() && host.bytes().all(of_host) && is_read,
                behind,
            )
        }
    };
    is_host && (behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port))
}

/// In the one form that all readers print.
fn is_ipv6(text: &str) -> bool {
    let address: Option<Ipv6Addr> = text.parse().ok();
    address.is_some_and(|it| it.to_ipv4_mapped().is_none() && it.to_string() == text)
}

fn is_port(text: &str) -> bool {
    let is_number = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// The host of a loopback address, and all behind its port.
fn loopback(uri: &str) -> Option<(&'static str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    LOOPBACKS.into_iter().find_map(|host| {
        let behind = rest.strip_prefix(host)?;
        let behind = match behind.strip_prefix(':') {
            Some(port) => {
                let len = port.bytes().take_while(u8::is_ascii_digit).count();
                let (port, behind) = port.split_at(len);
                is_port(port).then_some(behind)?
            }
            None => behind,
        };
        let is_end = behind.is_empty() || behind.starts_with(['/', '?']);
        is_end.then_some((host, behind))
    })
}

/// Whether a request's redirect URI is a registered one.
pub(crate) fn is(registered: &str, presented: &str) -> bool {
    if registered == presented {
        return true;
    }
    match (loopback(registered), loopback(presented)) {
        (Some(registered), Some(presented)) => registered == presented,
        _ => false,
    }
}

/// What a person is shown of where an answer goes: scheme and host.
pub(crate) fn shown(uri: &str) -> &str {
    match uri.split_once("://") {
        Some((scheme, rest)) => {
            let len = rest.find(['/', '?']).unwrap_or(rest.len());
            uri.get(..scheme.len() + 3 + len).unwrap_or(uri)
        }
        None => uri.split(':').next().unwrap_or(uri),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_mistaken_is_registered() {
        for good in [
            "https://app.example.com/cb",
            "https://app.example.com:8443/cb?x=1",
            "https://[2001:db8::1]:8443/cb",
            "http://127.0.0.1/cb",
            "http://[::1]:9000/cb",
            "http://localhost:1/cb",
            "com.example.app:/cb",
        ] {
            assert_eq!(flaw(good), None, "{good}");
        }
        for bad in [
            "",
            "/cb",
            "https:/cb",
            "https://",
            "https:///cb",
            "HTTPS://a.example/cb",
            "https://user@a.example/cb",
            "https://a.example@evil.example/cb",
            "https://a.example/cb#x",
            "https://a.example:/cb",
            "https://a.example:0/cb",
            "https://a.example:99999/cb",
            "https://a.example:443:443/cb",
            "https://a%2eexample/cb",
            "https://a.example;sandbox/cb",
            "https://a,b.example/cb",
            "https://[::1/cb",
            "https://[::g]/cb",
            "https://[0:0:0:0:0:0:0:1]/cb",
            "https://[::ffff:127.0.0.1]/cb",
            "https://2130706433/cb",
            "https://0x7f.1/cb",
            "https://127.1/cb",
            "https://127.0.0.1./cb",
            "https://a.example.7/cb",
            "https://[::1]x/cb",
            "https://:443/cb",
            "https://a.example\\@evil.example/cb",
            "https://a.example/ cb",
            "https://a.example/\u{e4}",
            "http://a.example/cb",
            "http://127.0.0.1.evil.example/cb",
            "http://127.0.0.1:0/cb",
            "http://127.0.0.1:99999/cb",
            "http://localhost.evil.example/cb",
            "javascript:alert(1)",
            "data:text/html,x",
            "urn:ietf:wg:oauth:2.0:oob",
            "ftp://a.example/cb",
        ] {
            assert!(flaw(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_redirect_uri_is_compared_by_its_bytes_but_for_a_loopback_port() {
        let registered = "https://app.example.com/cb";
        assert!(is(registered, registered));
        for other in [
            "https://app.example.com/cb/",
            "https://app.example.com/CB",
            "https://APP.example.com/cb",
            "https://app.example.com:443/cb",
            "https://app.example.com/%63b",
            "https://app.example.com/cb?",
            "https://app.example.com/cb#",
            "https://app.example.com/x/../cb",
            "https://app.example.com./cb",
            "https://u@app.example.com/cb",
            "http://app.example.com/cb",
            "https://app.example.com/cb%2e",
            "//app.example.com/cb",
        ] {
            assert!(!is(registered, other), "{other}");
        }
        let local = "http://127.0.0.1:8000/cb";
        for same in ["http://127.0.0.1/cb", "http://127.0.0.1:65535/cb"] {
            assert!(is(local, same), "{same}");
        }
        for other in [
            "http://127.0.0.1:0/cb",
            "http://127.0.0.1:65536/cb",
            "http://127.0.0.1:/cb",
            "http://127.0.0.1:80@evil.example/cb",
            "http://127.0.0.1:80.evil.example/cb",
            "http://localhost:8000/cb",
            "http://[::1]:8000/cb",
            "http://127.0.0.1:8000/other",
            "http://0.0.0.0:8000/cb",
            "https://127.0.0.1:8000/cb",
            "http://127.0.0.1:8000/cb?x",
        ] {
            assert!(!is(local, other), "{other}");
        }
        assert!(is("http://[::1]/cb", "http://[::1]:7/cb"));
    }

    #[test]
    fn what_is_shown_is_the_host() {
        assert_eq!(
            shown("https://a.example:8443/cb?x"),
            "https://a.example:8443"
        );
        assert_eq!(shown("com.example.app:/cb"), "com.example.app");
    }
}
