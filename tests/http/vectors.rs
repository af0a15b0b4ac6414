//! The committed table of headers and outcomes.

use base64::Engine as _;
use gatekey::Reason;
use gatekey::http::{Authenticated, Rejection, RejectionReason};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::common::{World, dialect};

const HEADERS: &str = include_str!("../vectors/headers.tsv");
const UNKNOWN: &str = "acme_live_7Hk2Pq9ZxW_00000000000000000000000000000000000000000002jqUlG";

/// What stands for a token, and the token.
type Words<'a> = [(&'a str, &'a str); 4];

#[test]
fn every_row_of_the_table_of_headers_holds() {
    let world = World::new();
    let revoked = world.issue("acme/revoked");
    world
        .engine
        .revoke(revoked.key.id, Reason::KeyCompromise)
        .unwrap();
    let words = [
        ("@T", world.token()),
        ("@U", UNKNOWN),
        ("@E", world.expired.token.expose()),
        ("@R", revoked.token.expose()),
    ];
    let mut rows = 0;
    for line in HEADERS.lines().filter(|line| !line.starts_with('#')) {
        let [name, fields, expected] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not three columns: {line}");
        };
        let outcome = match world.ask(&dialect(name), &read_fields(fields, &words)) {
            Ok(Authenticated::Granted(_)) => "granted".to_owned(),
            Ok(Authenticated::Anonymous) => "anonymous".to_owned(),
            Err(refused) => format!(
                "{} {}",
                refused.response().status().as_u16(),
                word(&refused)
            ),
        };
        assert_eq!(outcome, expected, "{line}");
        rows += 1;
    }
    assert!(rows >= 60, "{rows}");
}

fn word(refused: &Rejection) -> &'static str {
    match refused.reason() {
        RejectionReason::Missing => "missing",
        RejectionReason::Empty => "empty",
        RejectionReason::UnknownScheme => "scheme",
        RejectionReason::SeveralCredentials => "several",
        RejectionReason::RepeatedHeader(_) => "repeated",
        RejectionReason::NotAscii => "not_ascii",
        RejectionReason::NotBase64 => "not_base64",
        RejectionReason::NoColon => "no_colon",
        RejectionReason::PasswordGiven => "password",
        RejectionReason::Denied(denial) => denial.code(),
        other => panic!("{other}"),
    }
}

fn read_fields(fields: &str, words: &Words<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for field in fields.split(" | ").filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once(':').unwrap();
        let value = read_value(value.strip_prefix(' ').unwrap_or(value), words);
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(&value).unwrap(),
        );
    }
    headers
}

fn read_value(text: &str, words: &Words<'_>) -> Vec<u8> {
    let text = words.iter().fold(text.to_owned(), |text, (word, token)| {
        text.replace(word, token)
    });
    let text = match text.split_once("@B(") {
        Some((before, rest)) => {
            let (inside, after) = rest.split_once(')').unwrap();
            let encoded = base64::engine::general_purpose::STANDARD.encode(inside);
            format!("{before}{encoded}{after}")
        }
        None => text,
    };
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    bytes
}
