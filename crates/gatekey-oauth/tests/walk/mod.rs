//! A client's way to a code: what it asks for, a person's consent, the code, its exchange.

use gatekey_oauth::Params;
use gatekey_oauth::server::{AuthorizationServer, Authorize};
use serde_json::{Value, json};

pub(crate) const CB: &str = "https://app.example.com/cb";
pub(crate) const OWNER: &str = "acme/alice";
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// That of [`VERIFIER`] (RFC 7636, B).
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// The session of the person's browser.
pub(crate) const SESSION: &[u8] = b"session";

pub(crate) type Pairs<'a> = [(&'a str, &'a str)];

pub(crate) fn params(pairs: &Pairs<'_>) -> Params {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)));
    let object = Value::Object(pairs.collect());
    Params::json(object.to_string().as_bytes()).unwrap()
}

/// What is usual, with other values or more in its place.
pub(crate) fn with<'a>(usual: &Pairs<'a>, more: &Pairs<'a>) -> Vec<(&'a str, &'a str)> {
    let is_usual = |(name, _): &&(&str, &str)| !more.iter().any(|(other, _)| other == name);
    let usual = usual.iter().filter(is_usual);
    usual.chain(more).copied().collect()
}

/// A parameter of a URL, as it is encoded there.
pub(crate) fn part<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let query = url.split_once('?')?.1;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(known, _)| *known == name);
    found.map(|(_, value)| value)
}

/// A client's request for an authorization.
pub(crate) fn authorize(server: &AuthorizationServer, client: &str, more: &Pairs<'_>) -> Authorize {
    let usual = [
        ("client_id", client),
        ("redirect_uri", CB),
        ("response_type", "code"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    server
        .authorize(&params(&with(&usual, more)), SESSION)
        .unwrap()
}

pub(crate) fn ticket(server: &AuthorizationServer, client: &str) -> String {
    match authorize(server, client, &[]) {
        Authorize::Consent(consent) => consent.ticket,
        other => panic!("{other:?}"),
    }
}

/// The person agrees: where her browser is sent to, or `None` where the ticket is not good.
pub(crate) fn approve(
    server: &AuthorizationServer,
    ticket: &str,
    scope: &[&str],
) -> gatekey::Result<Option<String>> {
    server.approve(ticket, SESSION, &OWNER.parse().unwrap(), scope)
}

/// A code for what a person agreed to.
pub(crate) fn code(server: &AuthorizationServer, client: &str, scope: &[&str]) -> String {
    let url = approve(server, &ticket(server, client), scope);
    let url = url.unwrap().unwrap();
    part(&url, "code").unwrap().to_owned()
}

/// What a client sends with a code, beside who it is.
pub(crate) fn exchange(code: &str) -> [(&str, &str); 4] {
    [
        ("grant_type", "authorization_code"),
        ("redirect_uri", CB),
        ("code", code),
        ("code_verifier", VERIFIER),
    ]
}
