//! Texts that are no token of this store, whoever made them.

use gatekey::{Denial, Error, NotFound, Reason, Requirements, Verdict};

use super::audit_len;
use crate::common::{Store, code, everywhere};
use crate::vectors::{Parts, another};

/// Texts made of a good token that are no token any more.
fn malformed(good: &str) -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = [
        String::new(),
        " ".to_owned(),
        "_".repeat(62),
        "x".repeat(1 << 20),
        good.repeat((1 << 20) / good.len()),
        format!("{}{good}", "a".repeat(1 << 20)),
        format!("{good}{}", "\0".repeat(1 << 20)),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\n"),
        format!("\u{a0}{good}"),
        format!("{good}\0"),
        format!("\"{good}\""),
        format!("Bearer {good}"),
        good.to_uppercase(),
        good.to_lowercase(),
        // Look-alikes: Cyrillic a, fullwidth a, a combining accent, a hidden
        // joiner, and the low line that is not ASCII's.
        good.replacen('a', "\u{430}", 1),
        good.replacen('a', "\u{ff41}", 1),
        good.replacen('a', "a\u{301}", 1),
        good.replacen('_', "\u{200d}_", 1),
        good.replacen('_', "\u{ff3f}", 1),
    ]
    .map(String::into_bytes)
    .into();
    for (at, byte) in [(0, 0xff), (good.len() / 2, 0x80), (good.len() - 1, 0xc3)] {
        let mut text = good.as_bytes().to_vec();
        text[at] = byte;
        texts.push(text);
    }
    for at in 0..good.len() {
        texts.push(good.as_bytes()[..at].to_vec());
        texts.push(good.as_bytes()[at + 1..].to_vec());
    }
    texts
}

/// Tokens made of a good one by someone who knows the format, so that the check
/// is right and only the secret can tell.
fn forged(good: &Parts) -> Vec<String> {
    let mut forged = Vec::new();
    for at in 0..good.secret.len() {
        let mut parts = good.clone();
        let old = parts.secret.remove(at);
        parts.secret.insert(at, another(old));
        forged.push(parts.join());
    }
    for at in 0..good.id.len() {
        let mut parts = good.clone();
        let old = parts.id.remove(at);
        parts.id.insert(at, another(old));
        forged.push(parts.join());
    }
    for prefix in [
        "acme_test",
        "acme_liv",
        "acme_live_",
        "unheard_of",
        "a",
        "_",
    ] {
        let prefix = prefix.to_owned();
        forged.push(
            Parts {
                prefix,
                ..good.clone()
            }
            .join(),
        );
    }
    let swapped = |text: &str| -> String {
        let swap = |c: char| match c.is_ascii_lowercase() {
            true => c.to_ascii_uppercase(),
            false => c.to_ascii_lowercase(),
        };
        text.chars().map(swap).collect()
    };
    let secret = swapped(&good.secret);
    forged.push(
        Parts {
            secret,
            ..good.clone()
        }
        .join(),
    );
    let id = swapped(&good.id);
    forged.push(Parts { id, ..good.clone() }.join());
    forged
}

#[test]
fn no_text_but_the_token_itself_is_granted() {
    everywhere(|store| {
        store.keyspace("acme_live");
        store.keyspace("acme_test");
        let issued = store.issue("acme_live", "acme");
        let good = issued.token.expose();
        let before = audit_len(store);
        for text in malformed(good) {
            let revoked = store.engine.revoke_token(&text, Reason::KeyCompromise);
            assert!(
                matches!(revoked, Err(Error::NotFound(NotFound::Token))),
                "{:.80}",
                text.escape_ascii().to_string()
            );
        }
        for text in forged(&Parts::of(good)) {
            assert_eq!(store.denial(&text), Denial::Unknown, "{text}");
            let revoked = store.engine.revoke_token(&text, Reason::KeyCompromise);
            assert!(
                matches!(revoked, Err(Error::NotFound(NotFound::Token))),
                "{text}"
            );
        }
        assert_eq!(store.verdict(good), "granted");
        for text in forged(&Parts::of(good)) {
            assert_eq!(store.denial(&text), Denial::Unknown, "{text}");
        }
        assert_eq!(store.verdict(good), "granted");
        assert_eq!(audit_len(store), before);
    });
}

#[test]
fn a_text_that_is_no_token_is_malformed_whether_the_key_is_in_memory_or_not() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = store.issue("acme_live", "acme");
        let good = issued.token.expose();
        for is_resident in [false, true] {
            for text in malformed(good) {
                let verdict = store.engine.verify(&text).unwrap();
                assert!(
                    matches!(verdict, Verdict::Denied(Denial::Malformed)),
                    "{is_resident}, {verdict:?}: {:.80}",
                    text.escape_ascii().to_string()
                );
            }
            assert_eq!(store.verdict(good), "granted");
        }
    });
}

#[test]
fn many_texts_at_once_get_the_verdicts_that_each_gets_alone() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = store.issue("acme_live", "acme");
        let good = issued.token.expose();
        let mut texts = malformed(good);
        texts.extend(forged(&Parts::of(good)).into_iter().map(String::into_bytes));
        for at in [0, 31, 32, 64, texts.len()] {
            texts.insert(at, good.as_bytes().to_vec());
        }
        let any = Requirements::new();
        assert_eq!(store.verdict(good), "granted");
        for _ in 0..2 {
            let verdicts = store.engine.verify_many(&texts, &any);
            let verdicts: Vec<_> = verdicts.into_iter().map(Result::unwrap).collect();
            assert_eq!(verdicts.len(), texts.len());
            assert_eq!(verdicts.iter().filter(|v| v.is_granted()).count(), 5);
            for (text, verdict) in texts.iter().zip(&verdicts) {
                assert_eq!(*verdict, store.engine.verify(text).unwrap());
            }
        }
        let none: [&str; 0] = [];
        assert!(store.engine.verify_many(&none, &any).is_empty());
    });
}

#[test]
fn a_token_of_another_keyspace_or_another_store_is_unknown() {
    everywhere(|store| {
        let other = Store::new(0, false);
        for prefix in ["acme_live", "acme_test"] {
            store.keyspace(prefix);
            other.keyspace(prefix);
        }
        let live = store.issue("acme_live", "acme");
        let test = store.issue("acme_test", "acme");
        let elsewhere = other.issue("acme_live", "acme");
        assert_eq!(store.denial(elsewhere.token.expose()), Denial::Unknown);
        assert_eq!(other.denial(live.token.expose()), Denial::Unknown);

        let asked = Requirements::new().keyspace("acme_live".parse().unwrap());
        let ask = |token: &str| code(&store.engine.verify_with(token, &asked).unwrap());
        assert_eq!(ask(live.token.expose()), "granted");
        assert_eq!(ask(test.token.expose()), "unknown");
        // The secret of one key under the id of another, and the other way.
        let (live, test) = (
            Parts::of(live.token.expose()),
            Parts::of(test.token.expose()),
        );
        let secret = test.secret.clone();
        assert_eq!(
            ask(&Parts {
                secret,
                ..live.clone()
            }
            .join()),
            "unknown"
        );
        let id = test.id.clone();
        assert_eq!(ask(&Parts { id, ..live }.join()), "unknown");
    });
}
