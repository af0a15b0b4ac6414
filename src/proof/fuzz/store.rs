//! Invariants checked, for a whole store of which bytes are flipped, and pages
//! cut, zeroed, copied and swapped:
//! - no call panics, whatever redb does on the damaged pages: it is an error;
//! - every verdict is that of the whole store, or "unknown", or an error that is
//!   not about the request: so nothing is granted that was not, and what is
//!   granted has the owner, the keyspace and the permissions that it had;
//! - a key whose revocation is acknowledged is not granted after it, nor after the
//!   next opening.
//!
//! The store is the copy that a backup makes: no older record stands in its free
//! pages. An old copy of a record, brought back with its tag, is not stopped: see
//! SECURITY.md.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::store::record;
use crate::{
    Clock, Denial, Engine, Error, Grant, KeyFilter, KeyId, Limit, ManualClock, NewKey, NewKeyspace,
    Options, Pepper, Plan, Quota, Reason, Requirements, Rotation, Timestamp, Verdict,
};

const PAGE: usize = 4096;
/// How many bytes make an edit, and how many edits are made at most.
const EDIT_LEN: usize = 8;
const EDITS_MAX: usize = 16;

/// In the first byte: how the store is opened.
const PEPPERED: u8 = 1;
const RESIDENT: u8 = 2;
const VERIFIED: u8 = 4;

/// The position of the key with a quota.
const COUNTED: usize = 43;
const HOUR: Duration = Duration::from_secs(3600);

/// A whole store.
struct Whole {
    bytes: Vec<u8>,
    /// The pages in which something stands.
    pages: Vec<usize>,
    clock: ManualClock,
    /// Where the hot record of each key stands.
    records: Vec<usize>,
    /// Each token with its key and its verdict.
    tokens: Vec<(String, KeyId, Verdict)>,
}

/// Without a pepper, and with one.
static WHOLE: LazyLock<[Whole; 2]> = LazyLock::new(|| [Whole::new(0), Whole::new(PEPPERED)]);

/// Takes the first byte for how the store is opened, and every eight after it for
/// an edit of it.
///
/// A damaged store is written to only where its checksums were verified at
/// opening: see [`written_store`].
pub fn store(bytes: &[u8]) {
    run(bytes, bytes.first().is_some_and(|how| how & VERIFIED != 0));
}

/// As [`store`], and what is damaged is always written to as well. redb may panic
/// on it, and panic once more as it unwinds, which ends the process: no guard can
/// turn that into an error, so this is run in processes of its own.
pub fn written_store(bytes: &[u8]) {
    run(bytes, true);
}

fn run(bytes: &[u8], is_written: bool) {
    let Some((&how, edits)) = bytes.split_first() else {
        return;
    };
    let whole = &WHOLE[usize::from(how & PEPPERED)];
    let mut damaged = whole.bytes.clone();
    for edit in edits.as_chunks::<EDIT_LEN>().0.iter().take(EDITS_MAX) {
        whole.edit(&mut damaged, *edit);
    }
    let place = Place::new(how, &damaged);
    let Some(engine) = place.open(&whole.clock) else {
        return;
    };
    let mut since = Since::Prepared;
    let mut answers =
        whole.verify_all(&engine, since, is_written).is_some() && look_at_all(&engine).is_some();
    if is_written && answers {
        since = whole.change(&engine);
        answers = whole.verify_all(&engine, since, true).is_some();
    }
    if is_written && answers {
        let edits = edits.as_chunks::<EDIT_LEN>().0.iter().take(EDITS_MAX);
        let is_of_records = edits.clone().all(|edit| edit[0] % 9 == 8);
        answers = whole.repair(&engine, since, is_of_records).is_some();
    }
    place.close(engine, is_written);
    if answers && let Some(engine) = place.open(&whole.clock) {
        let _ = whole.verify_all(&engine, since, is_written);
        let _ = look_at_all(&engine);
        place.close(engine, is_written);
    }
}

/// `None` once the engine has given up on its file, after which it only says so:
/// and redb asks for memory, up to 4 GiB at a time for a page that is named by
/// damage, before it finds that it has given up.
fn answer<T>(result: Result<T, Error>) -> Option<Option<T>> {
    match result {
        Ok(value) => Some(Some(value)),
        Err(Error::Store(failure)) if failure.to_string().contains("written before") => None,
        Err(error) => {
            assert_is_of_the_store(&error);
            Some(None)
        }
    }
}

/// What happened to the store since it was prepared.
#[derive(Clone, Copy)]
enum Since {
    Prepared,
    /// Keys were changed; the revocation of this one was acknowledged.
    Changed {
        revoked: Option<KeyId>,
    },
}

impl Whole {
    fn new(how: u8) -> Self {
        let clock = ManualClock::at(Timestamp::from_raw(1_767_225_600_000));
        let place = Place::new(how, &[]);
        let engine = place.open(&clock).unwrap();
        let tokens = fill(&engine, &clock);
        let copy = scratch();
        engine.backup(&copy).unwrap();
        let bytes = std::fs::read(&copy).unwrap();
        std::fs::remove_file(&copy).unwrap();

        let place = Place::new(how, &bytes);
        let engine = place.open(&clock).unwrap();
        let verdict = |(token, id): (String, KeyId)| {
            let verdict = verify(&engine, &token).unwrap();
            (token, id, verdict)
        };
        let tokens: Vec<_> = tokens.into_iter().map(verdict).collect();
        let granted = tokens.iter().filter(|(_, _, verdict)| verdict.is_granted());
        assert_eq!((granted.count(), tokens.len()), (45, 90));
        let is_used = |page: &usize| bytes[page * PAGE..][..PAGE].iter().any(|byte| *byte != 0);
        let pages = (0..bytes.len() / PAGE).filter(is_used).collect();
        let record_of = |(_, id, _): &(String, KeyId, Verdict)| {
            let id = id.raw().to_le_bytes();
            // Behind the table, the version, the flags and the scheme: see `record`.
            let is_record =
                |at: &usize| bytes[at + 8..][..8] == id && bytes[*at..][..2] == [record::TABLE, 1];
            (0..bytes.len() - 16).find(is_record).unwrap()
        };
        let records = tokens.iter().map(record_of).collect();
        Self {
            bytes,
            pages,
            records,
            clock,
            tokens,
        }
    }

    /// Makes one edit: its kind, where, and with what.
    fn edit(&self, bytes: &mut Vec<u8>, [kind, a, b, c, d, x, y, z]: [u8; EDIT_LEN]) {
        let number = |bytes: [u8; 4]| usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(0);
        let at = number([a, b, c, d]);
        let page = |number: usize| self.pages[number % self.pages.len()] * PAGE;
        let (to, from) = (page(at / PAGE), page(number([x, y, 0, 0])));
        let place = to + at % PAGE;
        if bytes.len() < self.bytes.len() {
            // It was cut: most of what follows would miss it.
            return;
        }
        match kind % 9 {
            0 => bytes[place] ^= x.max(1),
            // In the head of a page: how many records it has, and where they end.
            1 => bytes[to + at % 64] = x,
            2 => bytes.copy_within(from..from + PAGE, to),
            3 => {
                let moved = bytes[to..to + PAGE].to_vec();
                bytes.copy_within(from..from + PAGE, to);
                bytes[from..from + PAGE].copy_from_slice(&moved);
            }
            4 => bytes[to..to + PAGE].fill(0),
            5 => bytes.truncate(place),
            // A number where one of eight bytes may stand: the name of a page.
            6 => {
                let place = place.min(to + PAGE - 8);
                bytes[place..place + 8].copy_from_slice(&[x, y, z, 0, 0, 0, 0, 0]);
            }
            7 => {
                let from = from + usize::from(z) * 16;
                let place = place.min(to + PAGE - 16);
                bytes.copy_within(from..from + 16, place);
            }
            // In the record of a key, or in its tag.
            _ => bytes[self.records[at % self.records.len()] + usize::from(x % 160)] ^= y.max(1),
        }
    }

    fn verify_all(&self, engine: &Engine, since: Since, is_written: bool) -> Option<()> {
        for (token, id, prepared) in &self.tokens {
            if *id == self.tokens[COUNTED].1 && !is_written {
                // To verify it takes a slice of its quota from the store.
                continue;
            }
            let Some(verdict) = answer(verify(engine, token))? else {
                continue;
            };
            match (&verdict, prepared, since) {
                (Verdict::Granted(_), _, Since::Changed { revoked }) if revoked == Some(*id) => {
                    panic!("granted after its revocation: {verdict:?}")
                }
                (Verdict::Granted(told), Verdict::Granted(prepared), _) => {
                    assert_eq!(access(told), access(prepared));
                }
                (Verdict::Granted(_), ..) => panic!("{verdict:?}, and was {prepared:?}"),
                (Verdict::Denied(Denial::Unknown), ..) => {}
                (Verdict::Denied(_), _, Since::Prepared) => assert_eq!(&verdict, prepared),
                (Verdict::Denied(_), ..) => {}
            }
        }
        Some(())
    }

    /// Repairs what is damaged. Nothing is granted that was not; and where only records
    /// were damaged, not the trees that they stand in, there is nothing left to find.
    fn repair(&self, engine: &Engine, since: Since, is_of_records: bool) -> Option<()> {
        if let Some(report) = answer(engine.repair())?
            && is_of_records
        {
            assert!(report.left.is_sound(), "{report:#?}");
            let again = answer(engine.repair())?;
            assert_eq!(again.map(|again| again.repairs_total), Some(0));
        }
        self.verify_all(engine, since, true)
    }

    /// Changes a few keys, as far as the damage lets it.
    fn change(&self, engine: &Engine) -> Since {
        let id = |at: usize| self.tokens[at].1;
        let revocation = engine.revoke(id(7), Reason::KeyCompromise);
        let revoked = revocation.is_ok().then(|| id(7));
        let _ = engine.rotate(id(8), Rotation::with_grace(HOUR));
        let _ = engine.issue(NewKey::new("acme_live", "acme").unwrap());
        let _ = engine.suspend("acme/near", None);
        let _ = engine.revoke_owner("acme/team-9", Reason::Cessation);
        let _ = engine.purge(Duration::ZERO);
        let _ = engine.flush();
        Since::Changed { revoked }
    }
}

/// What a grant gives.
fn access(grant: &Grant) -> impl PartialEq + std::fmt::Debug {
    let (key, permissions) = (grant.key_id(), grant.permissions());
    let (keyspace, owner) = (grant.keyspace(), grant.owner().to_owned());
    (key, permissions, keyspace, owner, grant.expires_at())
}

fn verify(engine: &Engine, token: &str) -> Result<Verdict, Error> {
    let source = "10.1.2.3".parse().unwrap();
    engine.verify_with(token, &Requirements::new().source(source))
}

/// An error of the store, not of the request.
fn assert_is_of_the_store(error: &Error) {
    assert!(
        matches!(
            error,
            Error::Corrupted(_) | Error::Store(_) | Error::NeedsReopen | Error::OutcomeUnknown(_)
        ),
        "{error:?}"
    );
}

/// Every way of looking at the store; what each finds is of no account.
fn look_at_all(engine: &Engine) -> Option<()> {
    answer(engine.check())?;
    answer(engine.stats())?;
    answer(engine.keyspaces())?;
    answer(engine.audit_page(1, 500))?;
    answer(engine.owner("other/suspended"))?;
    let filters = [
        KeyFilter::new(),
        KeyFilter::new().owner_and_below("acme".parse().unwrap()),
        KeyFilter::new().keyspace("acme_live".parse().unwrap()),
        KeyFilter::new().expires_within(HOUR),
    ];
    for filter in filters {
        let page = engine.keys_page(&filter, None, 500);
        // The index of prefixes has no tags.
        if !matches!(page, Err(Error::NotFound(_))) {
            answer(page)?;
        }
    }
    Some(())
}

/// Keys in every state, and enough of them for trees of more than a page.
fn fill(engine: &Engine, clock: &ManualClock) -> Vec<(String, KeyId)> {
    let plan = Plan::new("gold").limit(Limit::per_hour(1_000_000));
    let keyspace = NewKeyspace::new("acme_live").unwrap().plan(plan);
    let keyspace = keyspace.permissions(["read", "write"]);
    engine.create_keyspace(keyspace).unwrap();
    let single = NewKeyspace::new("one").unwrap().single_active();
    engine.create_keyspace(single).unwrap();

    let mut tokens = Vec::new();
    // An id begins with its instant, so that the keys always stand in this order.
    let mut issue = |new: NewKey| {
        clock.advance(Duration::from_millis(1));
        let issued = engine.issue(new).unwrap();
        tokens.push((issued.token.expose().to_owned(), issued.key.id));
        issued.key.id
    };
    let key = |owner: &str| NewKey::new("acme_live", owner).unwrap();
    let network = |text: &str| text.parse().unwrap();
    for at in 0..40 {
        issue(key(&format!("acme/team-{at}")).permissions(["read"]));
    }
    issue(key("acme").permissions(["read", "write"]));
    issue(key("acme/near").allow_network(network("10.0.0.0/8")));
    issue(key("acme/planned").plan("gold").permissions(["write"]));
    issue(key("acme/counted").quota(Quota::new(1_000_000)));
    issue(NewKey::new("one", "acme/ci").unwrap());
    for at in 0..40 {
        let left = key(&format!("acme/left-{at}")).permissions(["read", "write"]);
        engine.revoke(issue(left), Reason::KeyCompromise).unwrap();
    }
    issue(key("acme/far").allow_network(network("192.0.2.0/24")));
    issue(key("acme/later").not_before(clock.now().saturating_add(2 * HOUR)));
    issue(key("acme/over").expires_in(HOUR));
    engine.disable(issue(key("acme/disabled"))).unwrap();
    issue(key("other/suspended").name("a name").label("a", "label"));
    engine.suspend("other", Some("unpaid")).unwrap();
    clock.advance(HOUR);
    tokens
}

/// Where a store is, and how it is opened.
struct Place {
    how: u8,
    path: PathBuf,
}

impl Place {
    fn new(how: u8, bytes: &[u8]) -> Self {
        let path = scratch();
        std::fs::write(&path, bytes).unwrap();
        Self { how, path }
    }

    /// Opens it, or finds that it is refused.
    fn open(&self, clock: &ManualClock) -> Option<Engine> {
        let how = self.how;
        let mut options = Options::new()
            .clock(clock.clone())
            // Every page is read when it is asked for: see `close`.
            .cache_bytes(0)
            .limited_keys(64)
            .resident_bytes(if how & RESIDENT != 0 { 1 << 14 } else { 0 })
            .verify_file(how & VERIFIED != 0)
            .usage_interval(None);
        if how & PEPPERED != 0 {
            options = options.pepper(Pepper::new(1, [1; 32]).unwrap());
        }
        match options.open_or_create(&self.path) {
            Ok(engine) => Some(engine),
            Err(error) => {
                assert!(matches!(error, Error::Open { .. }), "{error:?}");
                None
            }
        }
    }

    /// Closes the engine. Where nothing is to be written, its file goes away first,
    /// and it is told so: redb writes when it closes.
    fn close(&self, engine: Engine, is_written: bool) {
        if is_written {
            let _ = engine.close();
            return;
        }
        let bytes = std::fs::read(&self.path).unwrap();
        let file = std::fs::File::options().write(true).open(&self.path);
        file.unwrap().set_len(0).unwrap();
        assert!(engine.check().is_err());
        assert!(engine.close().is_err());
        std::fs::write(&self.path, bytes).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A name for a file that is not there yet.
fn scratch() -> PathBuf {
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    let number = GIVEN.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    std::env::temp_dir().join(format!("gatekey-proof-{process}-{number}"))
}
