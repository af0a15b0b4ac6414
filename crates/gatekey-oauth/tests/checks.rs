//! What is compared before anything is granted: redirect URIs in every variant, against the
//! crate `url` as a second reader, and how a client with a secret authenticates.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
mod walk;

use gatekey::{Engine, NewKeyspace};
use gatekey_oauth::server::{
    AuthorizationServer, Authorize, ClientAuth, NewClient, RegisteredClient, ServerOptions,
    TokenRequest,
};
use url::Url;

use walk::{CB, params};

fn server() -> AuthorizationServer {
    let engine = Engine::open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme_at").unwrap().permissions(["read"]);
    engine.create_keyspace(keyspace).unwrap();
    AuthorizationServer::open(&engine, ServerOptions::new("https://api.example.com")).unwrap()
}

fn authorize(server: &AuthorizationServer, client: &str, uri: &str, kind: &str) -> Authorize {
    let asked = [("redirect_uri", uri), ("response_type", kind)];
    walk::authorize(server, client, &asked)
}

/// Each text that one edit makes of another, and those that attackers try.
fn variants(uri: &str) -> Vec<String> {
    let mut all = Vec::new();
    for at in 0..=uri.len() {
        let (before, behind) = uri.split_at(at);
        for byte in (0x20..0x7f_u8).chain([0, b'\t', b'\r', b'\n']) {
            let letter = char::from(byte);
            all.push(format!("{before}{letter}{behind}"));
            if !behind.is_empty() {
                all.push(format!("{before}{letter}{}", &behind[1..]));
            }
        }
        if !behind.is_empty() {
            all.push(format!("{before}{}", &behind[1..]));
            let first = behind.as_bytes()[0];
            all.push(format!("{before}%{first:02x}{}", &behind[1..]));
            all.push(format!("{before}%{first:02X}{}", &behind[1..]));
        }
        for text in [
            "user@",
            "user:pass@",
            ":443",
            ":80",
            ":8080",
            "..",
            "/..",
            "/../",
            "%2e",
            "%2F",
            "%00",
            "#x",
            "?x",
            "//",
            "\\",
            "\u{e4}",
            "\u{3002}",
            "[::1]",
            "@evil.example",
            ".evil.example",
            ":80@evil.example/",
            "127.0.0.1",
        ] {
            all.push(format!("{before}{text}{behind}"));
        }
    }
    all.push(uri.to_ascii_uppercase());
    all.push(uri.replacen("http", "HTTP", 1));
    all.push(uri.replacen("https:", "http:", 1));
    all.push(uri.replacen("127.0.0.1", "2130706433", 1));
    all.push(uri.replacen("127.0.0.1", "0x7f.1", 1));
    all.push(uri.replacen("127.0.0.1", "127.1", 1));
    all.push(uri.replacen("[::1]", "[0:0:0:0:0:0:0:1]", 1));
    all.push(uri.replacen("[::1]", "[::ffff:127.0.0.1]", 1));
    all.push(uri.replacen("localhost", "localhost.", 1));
    all.push(uri.replacen("localhost", "127.0.0.1", 1));
    all.retain(|variant| variant != uri && !variant.is_empty());
    all
}

/// RFC 9700, 4.1.3 and 4.11.2: in every variant nobody is sent anywhere, with a code or with an
/// error, but to what is registered; and the one freedom, a loopback address's port, leads a
/// second reader to the same place.
#[test]
fn no_variant_of_a_redirect_uri_leads_anywhere_else() {
    let server = server();
    let mut let_through = 0;
    for registered in [
        "https://app.example.com/cb",
        "https://app.example.com:8443/a/b?x=1",
        "http://127.0.0.1/cb",
        "http://127.0.0.1:8000/cb?x",
        "http://[::1]:8000/cb",
        "http://localhost:8000/cb",
        "com.example.app:/cb",
    ] {
        let new = NewClient::public("App", "acme_at".parse().unwrap(), ["read"]);
        let client = server
            .register(&new.redirect_uri(registered))
            .unwrap()
            .client
            .id;
        let known = Url::parse(registered).unwrap();
        let is_loopback = registered.starts_with("http://");
        for presented in variants(registered) {
            let asked = authorize(&server, &client, &presented, "code");
            let refused = authorize(&server, &client, &presented, "token");
            if let Authorize::Page(_) = asked {
                assert!(matches!(refused, Authorize::Page(_)), "{presented:?}");
                continue;
            }
            assert!(is_loopback, "{registered}: {presented:?}");
            let_through += 1;
            let read = Url::parse(&presented).unwrap_or_else(|_| panic!("{presented:?}"));
            let place = |url: &Url| {
                let (host, path) = (url.host_str().unwrap().to_owned(), url.path().to_owned());
                let query = url.query().map(str::to_owned);
                (url.scheme().to_owned(), host, path, query)
            };
            assert_eq!(place(&read), place(&known), "{presented:?}");
            let user = (read.username(), read.password(), read.fragment());
            assert_eq!(user, ("", None, None), "{presented:?}");
            // And the answer goes to the very text that was presented.
            let Authorize::Redirect(url) = refused else {
                panic!("{presented:?}: {refused:?}");
            };
            let joint = if presented.contains('?') { '&' } else { '?' };
            assert!(
                url.starts_with(&format!("{presented}{joint}error=")),
                "{url}"
            );
        }
        assert!(matches!(
            authorize(&server, &client, registered, "code"),
            Authorize::Consent(_)
        ));
    }
    assert!(let_through > 100, "{let_through}");
}

/// What may be registered, a second reader reads as it is written.
#[test]
fn what_is_registered_reads_one_way() {
    let server = server();
    let mut registered = 0;
    for uri in [
        "https://app.example.com:8443/cb?x=1",
        "http://[::1]:80/cb",
        "http://127.0.0.1/cb",
    ] {
        // A registration is a commit: one in five of them.
        for variant in variants(uri).into_iter().step_by(5) {
            let new = NewClient::public("App", "acme_at".parse().unwrap(), ["read"]);
            if server.register(&new.redirect_uri(&variant)).is_err() {
                continue;
            }
            registered += 1;
            let Ok(read) = Url::parse(&variant) else {
                // A scheme of an app's own is read by the system, and not as a web address.
                assert!(!variant.starts_with("http"), "{variant:?}");
                continue;
            };
            let user = (read.username(), read.password(), read.fragment());
            assert_eq!(user, ("", None, None), "{variant:?}");
            if matches!(read.scheme(), "http" | "https") {
                let host = read.host_str().unwrap();
                let shown = variant.split("://").nth(1).unwrap().to_ascii_lowercase();
                assert!(shown.starts_with(host), "{variant:?} leads to {host}");
            }
        }
    }
    assert!(registered > 100, "{registered}");
}

/// The credentials of a client, wrong in every way, and then right.
#[test]
fn a_client_that_does_not_authenticate_consumes_no_code() {
    let server = server();
    let new = |by| {
        let new = NewClient::confidential("App", by, "acme_at".parse().unwrap(), ["read"]);
        server.register(&new.redirect_uri(CB)).unwrap()
    };
    let (web, other) = (
        new(ClientAuth::ClientSecretPost),
        new(ClientAuth::ClientSecretPost),
    );
    let basic = new(ClientAuth::ClientSecretBasic);
    let id = |client: &RegisteredClient| client.client.id.clone();
    let secret = |client: &RegisteredClient| client.expose_secret().unwrap().to_owned();
    for (of, is_basic) in [(&web, false), (&basic, true)] {
        let code = walk::code(&server, &id(of), &["read"]);
        let exchange = |client: Option<&str>, secret: Option<&str>, by_basic: bool| {
            let mut pairs = walk::exchange(&code).to_vec();
            let mut header = None;
            match (client, secret, by_basic) {
                (Some(client), secret, true) => {
                    use base64::Engine as _;
                    let pair = format!("{client}:{}", secret.unwrap_or(""));
                    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
                    header = Some(format!("Basic {pair}"));
                }
                (client, secret, _) => {
                    pairs.extend(client.map(|client| ("client_id", client)));
                    pairs.extend(secret.map(|secret| ("client_secret", secret)));
                }
            }
            let params = params(&pairs);
            let request = TokenRequest {
                params: &params,
                authorization: header.as_deref(),
            };
            server.token(request).unwrap().status
        };
        let (own, right) = (id(of), secret(of));
        let cut = &right[..right.len() - 1];
        for by_basic in [false, true] {
            assert_eq!(exchange(None, None, by_basic), 401);
            assert_eq!(exchange(Some(&own), None, by_basic), 401);
            assert_eq!(exchange(Some(&own), Some(""), by_basic), 401);
            assert_eq!(exchange(Some(&own), Some(cut), by_basic), 401);
            assert_eq!(exchange(Some(&own), Some(&secret(&other)), by_basic), 401);
            assert_eq!(exchange(Some("c_unknown"), Some(&right), by_basic), 401);
        }
        // By the way that it is not registered with, though the secret is right.
        assert_eq!(exchange(Some(&own), Some(&right), !is_basic), 401);
        // Another client, which authenticates.
        assert_eq!(
            exchange(Some(&id(&other)), Some(&secret(&other)), false),
            400
        );
        assert_eq!(exchange(Some(&own), Some(&right), is_basic), 200);
    }
}
