//! The committed vectors, read by a second implementation of the token text.
//!
//! What is below is written from the description in the vector files, not from
//! `src/token.rs`: a client library in another language would look the same.

use crate::common::{self, Store};

const TOKENS: &str = include_str!("../vectors/tokens.tsv");
const REJECTED: &str = include_str!("../vectors/rejected.tsv");

const BASE62: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) prefix: String,
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Parts {
    /// The token that these parts make, with the check that belongs to it: what
    /// an attacker who knows the format would present.
    pub(crate) fn join(&self) -> String {
        let body = format!("{}_{}_{}", self.prefix, self.id, self.secret);
        let check = checksum_of(body.as_bytes());
        body + &check
    }

    /// The parts of a token that is known to be one.
    pub(crate) fn of(token: &str) -> Self {
        parse(token.as_bytes()).unwrap()
    }
}

/// Another base62 character than this one.
pub(crate) fn another(digit: char) -> char {
    if digit == 'x' { 'y' } else { 'x' }
}

/// CRC-32 (ISO-HDLC), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1));
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

fn checksum_of(body: &[u8]) -> String {
    let digits: Vec<char> = BASE62.chars().collect();
    let mut value = crc32(body);
    let mut text = Vec::new();
    for _ in 0..6 {
        text.push(digits[usize::try_from(value % 62).unwrap()]);
        value /= 62;
    }
    text.iter().rev().collect()
}

/// Takes a token apart, or gives the first reason why it is none.
pub(crate) fn parse(text: &[u8]) -> Result<Parts, &'static str> {
    let all = |part: &[u8], allowed: &str| {
        let allowed = allowed.as_bytes();
        part.iter().all(|byte| allowed.contains(byte))
    };
    let string = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
    if text.len() > 255 {
        return Err("too_long");
    }
    let Some(prefix_len) = text.len().checked_sub(61).filter(|len| *len > 0) else {
        return Err("too_short");
    };
    let (prefix, rest) = text.split_at(prefix_len);
    let (id, secret_check) = (&rest[1..11], &rest[12..]);
    if rest[0] != b'_' || rest[11] != b'_' {
        return Err("separator");
    }
    if prefix.len() > 32 || !all(prefix, "abcdefghijklmnopqrstuvwxyz0123456789_") {
        return Err("prefix");
    }
    if !all(id, BASE62) {
        return Err("id");
    }
    if !all(secret_check, BASE62) {
        return Err("secret");
    }
    let (body, check) = text.split_at(text.len() - 6);
    if checksum_of(body).as_bytes() != check {
        return Err("check");
    }
    Ok(Parts {
        prefix: string(prefix),
        id: string(id),
        secret: string(&secret_check[..43]),
    })
}

fn rows(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split('\t').collect())
}

/// Replaces `\xNN` by its byte.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend(before.bytes());
        let (hex, after) = after.split_at(2);
        bytes.push(u8::from_str_radix(hex, 16).unwrap());
        rest = after;
    }
    bytes.extend(rest.bytes());
    bytes
}

#[test]
fn the_check_is_the_crc_that_everybody_has() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
}

#[test]
fn every_vector_is_a_token_for_the_engine_too() {
    let store = Store::new(0, false);
    let mut count = 0;
    for row in rows(TOKENS) {
        let [prefix, id, secret, check, token] = row[..] else {
            panic!("{row:?}");
        };
        let parts = Parts {
            prefix: prefix.to_owned(),
            id: id.to_owned(),
            secret: secret.to_owned(),
        };
        assert_eq!(parts.join(), token);
        assert!(token.ends_with(check));
        assert_eq!(parse(token.as_bytes()), Ok(parts));
        // Nobody issued it, so that it is unknown; but it has the form of one.
        assert_eq!(store.verdict(token), "unknown", "{token}");
        count += 1;
    }
    assert_eq!(count, 12, "the vectors are all there");
}

#[test]
fn every_rejected_text_is_malformed_for_the_reason_that_it_says() {
    let store = Store::new(0, false);
    let mut reasons = std::collections::BTreeMap::new();
    for row in rows(REJECTED) {
        let [reason, text] = row[..] else {
            panic!("{row:?}");
        };
        let text = unescape(text);
        assert_eq!(parse(&text), Err(reason), "{row:?}");
        let verdict = store.engine.verify(&text).unwrap();
        assert_eq!(common::code(&verdict), "malformed", "{row:?}");
        *reasons.entry(reason).or_insert(0) += 1;
    }
    assert_eq!(reasons.len(), 7, "each reason is there: {reasons:?}");
}

#[test]
fn what_the_engine_issues_follows_the_same_description() {
    let store = Store::new(0, false);
    for prefix in ["acme_live", "a", "_", "a__b_", &"z".repeat(32)] {
        store.keyspace(prefix);
        let issued = store.issue(prefix, "acme");
        let parts = parse(issued.token.expose().as_bytes()).unwrap();
        assert_eq!(parts.prefix, prefix);
        assert_eq!(parts.id, issued.key.id.to_string());
        assert_eq!(parts.join(), issued.token.expose());
        assert_eq!(store.verdict(issued.token.expose()), "granted");
    }
}
