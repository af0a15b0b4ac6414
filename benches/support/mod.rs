//! What the benches share: stores on a real file, and the tokens presented.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "each bench uses a part of it, and a bench that fails should stop"
)]

use std::path::PathBuf;

use gatekey::{Engine, NewKey, NewKeyspace, Options, Token, bounds};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// The keyspace of every bench. Its tokens are all of one length.
pub const KEYSPACE: &str = "acme_live";
/// The length of a token of [`KEYSPACE`].
pub const TOKEN_LEN: usize = KEYSPACE.len() + 1 + SIGNED_LEN;
/// What of a token is hashed: its id, secret and check.
pub const SIGNED_LEN: usize = 60;

const CHECK_LEN: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token, beside others in one piece of memory: walking a list of them in
/// order costs little, as reading a request that has just arrived does.
pub type Text = [u8; TOKEN_LEN];

/// Whether to run everything once, on few keys, to see that it works: under
/// `cargo test` (which passes no `--bench`), with `--test`, and in a debug
/// build, whose times say nothing. This is criterion's own rule, and the last.
pub fn is_test() -> bool {
    let has = |flag: &str| std::env::args().any(|arg| arg == flag);
    cfg!(debug_assertions) || has("--test") || !has("--bench")
}

/// A directory with the file of a store, removed on drop.
pub struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("gatekey-bench-").tempdir();
        Self { dir: dir.unwrap() }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("keys.redb")
    }

    /// Opens the store, with its keyspace.
    pub fn open(&self, options: Options) -> Engine {
        let engine = options.open(self.file()).unwrap();
        if engine.keyspace(KEYSPACE).is_err() {
            let keyspace = NewKeyspace::new(KEYSPACE).unwrap();
            let keyspace = keyspace.permissions(["read", "write"]);
            engine.create_keyspace(keyspace).unwrap();
        }
        engine
    }
}

/// A key as an application would ask for it.
pub fn new_key(owner: &str) -> NewKey {
    NewKey::new(KEYSPACE, owner).unwrap().permissions(["read"])
}

/// Issues `count` keys, the n-th to `owner(n)`, in batches of the largest size,
/// and hands each token out as it comes.
pub fn issue(
    engine: &Engine,
    count: usize,
    owner: impl Fn(usize) -> String,
    mut each: impl FnMut(usize, &Token),
) {
    let mut at = 0;
    while at < count {
        let end = count.min(at + bounds::BATCH_MAX);
        let batch = (at..end).map(|n| new_key(&owner(n))).collect();
        let issued = engine.issue_batch(batch).unwrap();
        assert_eq!(issued.len(), end - at);
        for (n, issued) in (at..end).zip(&issued) {
            each(n, &issued.token);
        }
        at = end;
    }
}

pub fn text(token: &Token) -> Text {
    token.expose().as_bytes().try_into().unwrap()
}

/// Always the same order for the same length.
pub fn shuffle<T>(items: &mut [T]) {
    items.shuffle(&mut StdRng::seed_from_u64(items.len() as u64));
}

/// The id in a token, in the form in which the store's table has it.
pub fn raw_id(token: &Text) -> u64 {
    let id = &token[TOKEN_LEN - SIGNED_LEN..][..10];
    let digit = |byte: &u8| BASE62.iter().position(|known| known == byte).unwrap() as u64;
    id.iter().fold(0, |raw, byte| raw * 62 + digit(byte))
}

/// The token with another secret, and the check that belongs to it.
pub fn with_wrong_secret(token: &Text) -> Text {
    let mut wrong = *token;
    let secret = &mut wrong[TOKEN_LEN - SIGNED_LEN + 11..TOKEN_LEN - CHECK_LEN];
    secret.rotate_left(1);
    secret[0] = if secret[0] == b'0' { b'1' } else { b'0' };
    renew_check(&mut wrong);
    wrong
}

/// The token with the id next to its own that `is_taken` does not know, in the
/// same part of the table; so that an unknown id costs no less to look up.
pub fn with_unknown_id(token: &Text, is_taken: impl Fn(u64) -> bool) -> Text {
    let mut unknown = *token;
    let last = TOKEN_LEN - SIGNED_LEN + 9;
    let free = BASE62.iter().find(|digit| {
        unknown[last] = **digit;
        !is_taken(raw_id(&unknown))
    });
    free.expect("62 ids in a row are taken");
    renew_check(&mut unknown);
    unknown
}

/// The token with one character mistaken.
pub fn with_a_typo(token: &Text) -> Text {
    let mut bad = *token;
    let at = TOKEN_LEN / 2;
    bad[at] = if bad[at] == b'x' { b'y' } else { b'x' };
    bad
}

pub fn renew_check(token: &mut Text) {
    let (body, check) = token.split_at_mut(TOKEN_LEN - CHECK_LEN);
    let mut rest = crc32fast::hash(body) as usize;
    for digit in check.iter_mut().rev() {
        *digit = BASE62[rest % 62];
        rest /= 62;
    }
}
