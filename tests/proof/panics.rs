//! A storage engine that panics, at each of its reads in turn: every call on a
//! store is an error then, and none lets the panic out.
//!
//! What redb does on a damaged page is stood for by a medium that panics: so each
//! place where it reads is met, and not only those that some damage leads to. Calls
//! that write are not among these: redb may panic again as it unwinds out of a
//! transaction, and that ends the process.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use gatekey::proof::{Medium, open_on};
use gatekey::{Engine, KeyFilter, NewKey, NewKeyspace, Options, Requirements, Token};

#[derive(Clone, Debug, Default)]
struct Panicking(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// How many reads there are before the one that panics.
    until: Option<u64>,
}

impl Panicking {
    fn with<T>(&self, run: impl FnOnce(&mut State) -> T) -> T {
        run(&mut self.0.lock().unwrap())
    }

    /// Lets the read after so many panic; says whether the last such one came.
    fn panic_after(&self, reads: Option<u64>) -> bool {
        self.with(|state| std::mem::replace(&mut state.until, reads).is_none())
    }
}

impl Medium for Panicking {
    fn size(&self) -> io::Result<u64> {
        Ok(self.with(|state| state.bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        let is_due = self.with(|state| {
            let found = state.bytes.get(from..from + out.len());
            out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            let is_due = state.until == Some(0);
            state.until = state.until.and_then(|reads| reads.checked_sub(1));
            Ok::<_, io::Error>(is_due)
        })?;
        assert!(!is_due, "as the storage engine does on a damaged page");
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.with(|state| state.bytes.resize(usize::try_from(size).unwrap(), 0));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        self.with(|state| state.bytes[from..from + data.len()].copy_from_slice(data));
        Ok(())
    }
}

fn options() -> Options {
    Options::new()
        .cache_bytes(0)
        .resident_bytes(0)
        .usage_interval(None)
}

/// An owner whose path is nearly as long as one may be.
fn long_owner(name: &str, number: usize) -> String {
    let segment = "x".repeat(60);
    format!("{name}{number}/{segment}/{segment}/{segment}")
}

/// The bytes of a store, and the token of one of its keys. Its tables are of several
/// pages each: redb keeps the first page of a table, and reads it no more.
fn sample() -> (Vec<u8>, Token) {
    let medium = Panicking::default();
    let engine = open_on(options(), medium.clone()).unwrap();
    for name in ["acme_live", "b", "c", "d", "e", "f", "g", "h"] {
        let keyspace = NewKeyspace::new(name).unwrap();
        let keyspace = keyspace.description("y".repeat(1000));
        engine.create_keyspace(keyspace).unwrap();
    }
    let new = |number| NewKey::new("acme_live", long_owner("acme", number)).unwrap();
    let issued = engine.issue_batch((0..60).map(new).collect()).unwrap();
    for number in 0..30 {
        let owner = long_owner("suspended", number);
        engine.suspend(owner, None).unwrap();
    }
    engine.close().unwrap();
    let token = issued.into_iter().nth(30).unwrap().token;
    (medium.with(|state| state.bytes.clone()), token)
}

fn quiet<T>(run: impl FnOnce() -> T) -> Result<T, ()> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| ())
}

#[test]
fn a_panic_at_any_read_of_an_opening_is_an_error() {
    let (bytes, _) = sample();
    for reads in 0..10_000 {
        let medium = Panicking::default();
        medium.with(|state| state.bytes.clone_from(&bytes));
        medium.panic_after(Some(reads));
        let opened = quiet(|| open_on(options(), medium.clone()));
        let came = medium.panic_after(None);
        let opened = opened.unwrap_or_else(|()| panic!("read {reads} panicked out of it"));
        match opened {
            Ok(_) if !came => {
                assert!(reads > 10, "{reads} reads");
                return;
            }
            opened => assert!(opened.is_err(), "read {reads} came: {came}"),
        }
    }
    panic!("an opening of 10,000 reads");
}

type Call = (&'static str, u64, fn(&Engine, &Token) -> bool);

/// Each call that reads, and whether it gave an error. Those that read everything
/// panic at every seventh of their reads: with each of them it would take too long.
const CALLS: [Call; 10] = [
    ("verify", 1, |engine, token| {
        engine.verify(token.expose()).is_err()
    }),
    ("verify_many", 1, |engine, token| {
        let tokens = [token.expose(), token.expose()];
        let results = engine.verify_many(&tokens, &Requirements::new());
        results.iter().any(Result::is_err)
    }),
    ("key", 1, |engine, token| {
        engine.key(token.key_id()).is_err()
    }),
    ("list", 1, |engine, _| {
        engine.keys_page(&KeyFilter::new(), None, 10).is_err()
    }),
    ("keyspaces", 1, |engine, _| engine.keyspaces().is_err()),
    ("owner", 1, |engine, _| {
        engine.owner(long_owner("suspended", 15)).is_err()
    }),
    ("audit", 1, |engine, _| engine.audit_page(1, 10).is_err()),
    ("stats", 7, |engine, _| engine.stats().is_err()),
    ("check", 7, |engine, _| engine.check().is_err()),
    ("backup", 7, |engine, _| {
        let dir = tempfile::tempdir().unwrap();
        engine.backup(dir.path().join("copy.redb")).is_err()
    }),
];

#[test]
fn a_panic_at_any_read_of_a_call_that_reads_is_an_error() {
    let (bytes, token) = sample();
    for (name, step, call) in CALLS {
        let mut reads = 0;
        loop {
            let medium = Panicking::default();
            medium.with(|state| state.bytes.clone_from(&bytes));
            let engine = open_on(options(), medium.clone()).unwrap();
            medium.panic_after(Some(reads));
            let failed = quiet(|| call(&engine, &token));
            let came = medium.panic_after(None);
            let failed = failed.unwrap_or_else(|()| panic!("{name}: read {reads} got out"));
            quiet(|| drop(engine)).unwrap_or_else(|()| panic!("{name}: at the end"));
            if !came {
                assert!(!failed, "{name} of {reads} reads");
                assert!(reads > 0, "{name} reads nothing");
                println!("{name}: {reads} reads, by {step}");
                break;
            }
            assert!(failed, "{name}: read {reads} panicked, and it was done");
            reads += step;
        }
    }
}

#[test]
fn a_panic_at_the_first_read_of_a_closing_is_an_error() {
    let (bytes, _) = sample();
    let medium = Panicking::default();
    medium.with(|state| state.bytes = bytes);
    let engine = open_on(options(), medium.clone()).unwrap();
    medium.panic_after(Some(0));
    let closed = quiet(|| engine.close()).expect("the panic got out");
    assert!(medium.panic_after(None), "nothing was read");
    assert!(closed.is_err());
}
