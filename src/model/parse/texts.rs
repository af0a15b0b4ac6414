//! What a refusal of input says: the value, what it should have been, and why it is not.

use std::time::Duration;

use crate::model::bounds;
use crate::model::error::{Error, Result};
use crate::model::id::{KeyId, Prefix};
use crate::model::level::{validate_cap, validate_depth};
use crate::model::limit::Limit;
use crate::model::network::Network;
use crate::model::owner::OwnerPath;
use crate::model::parse::ParseError;
use crate::model::permissions::Permissions;
use crate::model::quota::{Quota, Refill};
use crate::model::secret::Pepper;
use crate::{Cursor, IdempotencyKey, Link, Timestamp};

fn parsed<T: std::str::FromStr<Err = ParseError>>(text: &str) -> String {
    match text.parse::<T>() {
        Ok(_) => format!("{text:?} is accepted"),
        Err(error) => error.to_string(),
    }
}

fn refused<T>(result: Result<T>) -> String {
    result
        .err()
        .map_or("accepted".to_owned(), |error| error.to_string())
}

#[test]
fn a_refusal_of_input_says_which_value_and_why() {
    let nine = "a/".repeat(8) + "a";
    for (said, text) in [
        (
            parsed::<KeyId>("x"),
            "\"x\" is not a valid key id: not 10 base62 characters",
        ),
        (
            parsed::<Prefix>("Acme Live"),
            "\"Acme Live\" is not a valid prefix: not 1 to 32 characters of a-z 0-9 _",
        ),
        (
            parsed::<OwnerPath>("acme//bot"),
            "\"acme//bot\" is not a valid owner: it has an empty segment",
        ),
        (
            parsed::<OwnerPath>("acme/.."),
            "\"acme/..\" is not a valid owner: it has the segment \"..\"",
        ),
        (
            parsed::<OwnerPath>("acme corp"),
            "\"acme corp\" is not a valid owner: a segment has a space",
        ),
        (
            parsed::<OwnerPath>("acme\n"),
            "\"acme\\n\" is not a valid owner: a segment has a control character",
        ),
        (
            parsed::<OwnerPath>("caf\u{e9}"),
            "\"caf\u{e9}\" is not a valid owner: a segment has U+00E9, which is not ASCII",
        ),
        (
            parsed::<OwnerPath>(&nine),
            "\"a/a/a/a/a/a/a/a/a\" is not a valid owner: more than 8 segments",
        ),
        (
            parsed::<OwnerPath>(&"acme-".repeat(14)),
            "\"acme-acme-acme-acme-acme-acme-acme-acme-acme-acme-acme-acme-acme\"... (70 bytes) \
             is not a valid owner: a segment is longer than 64 bytes",
        ),
        (
            parsed::<OwnerPath>(&"acme/".repeat(52)),
            "\"acme/acme/acme/acme/acme/acme/acme/acme/acme/acme/acme/acme/acme\"... (260 bytes) \
             is not a valid owner: longer than 255 bytes",
        ),
        (
            parsed::<Network>("10.0.0"),
            "\"10.0.0\" is not a valid network: not an address, nor a network in CIDR notation",
        ),
        (
            parsed::<Network>("10.0.0.1/8"),
            "\"10.0.0.1/8\" is not a valid network: it has bits set past its prefix; 10.0.0.0/8 \
             was perhaps meant",
        ),
        (
            parsed::<Timestamp>("yesterday"),
            "\"yesterday\" is not a valid time: not RFC 3339, as in 2026-01-31T12:00:00Z",
        ),
        (
            parsed::<Timestamp>("1969-12-31T23:59:59Z"),
            "\"1969-12-31T23:59:59Z\" is not a valid time: outside the instants that can be \
             represented (1970 to 9999)",
        ),
        (
            parsed::<Permissions>("3"),
            "\"3\" is not a valid permission mask: not 0x and 1 to 32 hexadecimal digits",
        ),
        (
            parsed::<IdempotencyKey>(""),
            "\"\" is not a valid idempotency key: it is empty",
        ),
        (
            parsed::<IdempotencyKey>("order 7"),
            "\"order 7\" is not a valid idempotency key: it has a character that is not visible \
             ASCII",
        ),
        (
            parsed::<Link>("seven"),
            "\"seven\" is not a valid link: a link is a position, a colon and 64 hexadecimal digits",
        ),
        (
            parsed::<Cursor>("next"),
            "what was given is not a valid cursor: it is not one that a page ended with",
        ),
        (
            refused(Pepper::new(0, "0123456789abcdef").map_err(Error::from)),
            "\"0\" is not a valid pepper id: it must be 1 to 255",
        ),
        (
            refused(Pepper::new(1, "hunter2").map_err(Error::from)),
            "(a secret of 7 bytes) is not a valid pepper: it must be 16 to 1024 bytes",
        ),
        (
            refused(Limit::new(5, Duration::from_secs(86_400))),
            "\"5 in 86400 s\" is not a valid limit: the window is longer than an hour; take a limit \
             of an hour, or a quota that is refilled each day or month",
        ),
        (
            refused(Limit::new(5, Duration::from_secs(7_200))),
            "\"5 in 7200 s\" is not a valid limit: the window is longer than an hour; take a limit \
             of an hour, or a quota that is refilled each day or month",
        ),
        (
            refused(Limit::new(5, Duration::from_millis(7_200_500))),
            "\"5 in 7200.5s\" is not a valid limit: the window is longer than an hour; take a limit \
             of an hour, or a quota that is refilled each day or month",
        ),
        (
            refused(Limit::new(5, Duration::from_secs(1 << 32))),
            "\"5 in 4294967296s\" is not a valid limit: the window is longer than an hour; take a \
             limit of an hour, or a quota that is refilled each day or month",
        ),
        (
            refused(Limit::new(5, Duration::from_millis(500))),
            "\"5 in 500ms\" is not a valid limit: the window is under a second",
        ),
        (
            refused(Limit::new(5, Duration::ZERO)),
            "\"5 in 0ns\" is not a valid limit: the window is under a second",
        ),
        (
            refused(Limit::new(5, Duration::from_millis(1_500))),
            "\"5 in 1.5s\" is not a valid limit: the window is not whole seconds",
        ),
        (
            refused(Refill::monthly_from(32)),
            "\"32\" is not a valid billing day: a billing period begins on day 1 to 31",
        ),
        (
            refused(Limit::new(0, Duration::from_secs(60))),
            "\"0 a minute\" is not a valid limit: it allows no requests",
        ),
        (
            refused(Limit::per_second(5).bucket(0).validate()),
            "\"5 a second, burst 0\" is not a valid limit: its burst is 0, and no request would \
             be admitted",
        ),
        (
            refused(Quota::new(0).validate()),
            "\"0 in all\" is not a valid quota: the requests are not 1 to 2^53",
        ),
        (
            refused(validate_depth(9)),
            "\"9\" is not a valid depth: a path has 1 to 8 segments",
        ),
        (
            refused(validate_cap(Some(0))),
            "\"0\" is not a valid cap: an owner could hold no key; suspend it instead",
        ),
        (
            refused(bounds::validate_name("label name", "", 64)),
            "\"\" is not a valid label name: it is empty",
        ),
        (
            refused(bounds::validate_text("note", "a\tb", 64)),
            "\"a\\tb\" is not a valid note: it has U+0009, which is a control character",
        ),
        (
            refused(bounds::validate_identifier("permission", "read all")),
            "\"read all\" is not a valid permission: it has a character that is none of A-Z a-z \
             0-9 . _ : / -",
        ),
        (
            refused(bounds::validate_count("labels", 70, 64)),
            "70 labels are more than the 64 allowed",
        ),
    ] {
        assert_eq!(said, text);
    }
    let name = refused(bounds::validate_text("note", &"b ".repeat(35), 64));
    assert!(
        name.ends_with("is not a valid note: longer than 64 bytes"),
        "{name}"
    );
}

/// A token may stand in any argument, by mistake.
#[test]
fn no_refusal_of_input_shows_a_token() {
    let secret = "a1B2c3D4".repeat(6);
    let token = format!("acme_live_7Hk2Pq9ZxW_{secret}");
    let spaced = format!("{token} {token}");
    for said in [
        parsed::<KeyId>(&token),
        parsed::<Prefix>(&token),
        parsed::<OwnerPath>(&spaced),
        parsed::<Network>(&token),
        parsed::<Timestamp>(&token),
        parsed::<Permissions>(&token),
        parsed::<IdempotencyKey>(&spaced),
        parsed::<Link>(&token),
        parsed::<Cursor>(&token),
        refused(Pepper::new(1, &token[..15]).map_err(Error::from)),
        refused(bounds::validate_text("note", &spaced, 64)),
        refused(bounds::validate_identifier("permission", &spaced)),
    ] {
        assert!(said.contains("is not a valid"), "{said}");
        assert!(!said.contains("a1B2"), "{said}");
    }
}
