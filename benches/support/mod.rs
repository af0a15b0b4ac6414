//! What the benches share: stores on a real file, and the tokens presented.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::print_stdout,
    reason = "each bench uses a part of it, and a bench that fails should stop"
)]

use std::path::PathBuf;

use gatekey::{Engine, NewKey, NewKeyspace, Options, Token, bounds};
use gatekey_testkit::forge::{CHECKSUM_LEN, SIGNED_LEN, make_unknown, reseal};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// The keyspace of every bench. Its tokens are all of one length.
pub const KEYSPACE: &str = "acme_live";
/// The length of a token of [`KEYSPACE`].
pub const TOKEN_LEN: usize = KEYSPACE.len() + 1 + SIGNED_LEN;

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
        let engine = options.open_or_create(self.file()).unwrap();
        let keyspace = NewKeyspace::new(KEYSPACE).unwrap();
        let keyspace = keyspace.permissions(["read", "write"]);
        engine.ensure_keyspace(keyspace).unwrap();
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

/// The token with another secret, and the check that belongs to it.
pub fn with_wrong_secret(token: &Text) -> Text {
    let mut wrong = *token;
    let secret = &mut wrong[TOKEN_LEN - SIGNED_LEN + 11..TOKEN_LEN - CHECKSUM_LEN];
    secret.rotate_left(1);
    secret[0] = if secret[0] == b'0' { b'1' } else { b'0' };
    reseal(&mut wrong);
    wrong
}

/// The token with the id next to its own that `is_taken` does not know, in the
/// same part of the table; so that an unknown id costs no less to look up.
pub fn with_unknown_id(token: &Text, is_taken: impl Fn(u64) -> bool) -> Text {
    let mut unknown = *token;
    make_unknown(&mut unknown, is_taken);
    unknown
}

/// The token with one character mistaken.
pub fn with_a_typo(token: &Text) -> Text {
    let mut bad = *token;
    let at = TOKEN_LEN / 2;
    bad[at] = if bad[at] == b'x' { b'y' } else { b'x' };
    bad
}

/// What of the process is in memory, by the system's account of that name (`VmRSS` now,
/// `VmHWM` the most that it ever had); 0 where it keeps none.
pub fn memory_mib(account: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines();
    let mut values = lines.filter_map(|line| line.strip_prefix(account)?.strip_prefix(':'));
    let kib = values.find_map(|value| value.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Prints a figure, where figures are asked for.
pub fn report(name: &str, value: f64, unit: &str) {
    if !is_test() {
        println!("{name} {value:.3} {unit}");
    }
}
