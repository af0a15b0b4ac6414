use std::ops::ControlFlow;
use std::sync::Mutex;

use super::*;
use crate::change::quota;
use crate::crypto::token;
use crate::model::requirements::Requirements;
use crate::model::secret::Pepper;
use crate::model::verdict::{Denial, Verdict};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::change;
use crate::model::clock::ManualClock;
use crate::model::error::{Conflict, NotFound};
use crate::model::filter::KeyFilter;
use crate::model::id::KeyId;
use crate::model::import::{Credential, ForeignHash, ForeignKey, NewImport};
use crate::model::key::{Issued, Key, KeyUpdate, NewKey, Revocation, Rotation};
use crate::model::keyspace::{Keyspace, NewKeyspace};
use crate::model::owner::OwnerPath;
use crate::model::permissions::Permissions;
use crate::model::quota::Quota;
use crate::model::reason::Reason;
use crate::store::file::tests::DIRECTORY_FAILS;
use crate::store::hot::HotCopy;
use crate::store::lags::AT_ONCE;
use crate::store::quota::QuotaEvent;
use crate::sync::lock;

mod slices;

fn core() -> Core {
    Core::open(&Options::new(), Place::Memory).unwrap()
}

fn create(core: &Core, prefix: &str) -> Result<Keyspace, Error> {
    let new = NewKeyspace::new(prefix).unwrap();
    core.mutate(move |tx| change::keyspace::create(tx, &new, None))
}

/// Runs mutations, in this order, that wait together behind one that takes its
/// time, so that they share a transaction.
fn in_one_batch<T: Send>(core: &Core, mutations: &[&(dyn Fn(&Core) -> T + Sync)]) -> Vec<T> {
    let (begun, wait_begun) = std::sync::mpsc::channel();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            core.mutate(move |_| {
                begun.send(()).unwrap();
                lock(&wait).recv().unwrap();
                Ok(())
            })
            .unwrap();
        });
        wait_begun.recv().unwrap();
        let threads: Vec<_> = (1..)
            .zip(mutations)
            .map(|(place, mutation)| {
                let thread = scope.spawn(|| mutation(core));
                while core.queue.waiting() < place {
                    std::thread::yield_now();
                }
                thread
            })
            .collect();
        release.send(()).unwrap();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

#[test]
fn of_two_rivals_in_one_batch_one_wins() {
    let core = core();
    let rival = |core: &Core| create(core, "acme");
    let results = in_one_batch(&core, &[&rival, &rival, &rival]);
    let won = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 1);
    assert_eq!(
        results
            .iter()
            .filter(|result| matches!(result, Err(Error::Conflict(Conflict::PrefixTaken(_)))))
            .count(),
        2
    );
}

#[test]
fn a_mutation_that_fails_after_it_has_written_fails_alone() {
    let core = core();
    let breaks_the_rule = |core: &Core| {
        let new = NewKeyspace::new("half").unwrap();
        core.mutate(move |tx| {
            change::keyspace::create(tx, &new, None)?;
            Err::<Keyspace, _>(Error::Internal("after the write"))
        })
    };
    let good = |core: &Core| create(core, "whole");
    let results = in_one_batch(&core, &[&good, &breaks_the_rule, &breaks_the_rule]);
    assert!(results[0].is_ok(), "{results:?}");
    assert!(matches!(
        results[1],
        Err(Error::Internal("after the write"))
    ));
    let snapshot = core.snapshot().unwrap();
    let prefixes: Vec<_> = snapshot
        .keyspaces()
        .unwrap()
        .iter()
        .map(|keyspace| keyspace.prefix.to_string())
        .collect();
    assert_eq!(prefixes, ["whole"]);
    assert_eq!(snapshot.state().unwrap().audit_seq, 1);
}

/// What is refused before it writes is left where it is: the others need not run again.
#[test]
fn a_mutation_that_is_refused_is_run_once_and_so_are_the_others() {
    let core = core();
    let runs = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = |core: &Core, prefix: &str| {
        let (runs, new) = (runs.clone(), NewKeyspace::new(prefix).unwrap());
        core.mutate(move |tx| {
            runs.fetch_add(1, Ordering::SeqCst);
            change::keyspace::create(tx, &new, None)
        })
    };
    let good = |core: &Core| count(core, "good");
    let other = |core: &Core| count(core, "other");
    let results = in_one_batch(&core, &[&good, &good, &other]);
    assert!(results[0].is_ok() && results[1].is_err() && results[2].is_ok());
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

#[test]
fn a_panic_in_a_transaction_is_an_error_of_its_batch_and_the_store_goes_on() {
    let core = core();
    create(&core, "before").unwrap();
    let panics = |core: &Core| core.mutate(|_| -> Result<(), Error> { panic!("a fault") });
    let waits = |core: &Core| create(core, "with").map(|_| ());
    for result in in_one_batch(&core, &[&panics, &waits]) {
        assert!(matches!(result, Err(Error::Store(_))));
    }
    assert!(!core.health().is_well());
    create(&core, "after").unwrap();
    assert!(core.health().is_well());
    assert_eq!(core.snapshot().unwrap().keyspaces().unwrap().len(), 2);
    core.close().unwrap();
    assert!(matches!(create(&core, "closed"), Err(Error::Closed)));
}

#[test]
fn a_snapshot_of_before_a_recovery_is_read_no_more_and_the_next_one_is() {
    let core = core();
    create(&core, "before").unwrap();
    let before = core.snapshot().unwrap();
    let panics = core.mutate(|_| -> Result<(), Error> { panic!("a fault") });
    assert!(panics.is_err() && !before.is_over());
    create(&core, "after").unwrap();
    assert!(before.is_over());
    let mut reads = 0;
    let keyspaces = core.read(|snapshot| {
        reads += 1;
        match reads {
            // It was loaded before the recovery, and fails.
            1 => {
                let panics = core.mutate(|_| -> Result<(), Error> { panic!("a fault") });
                assert!(panics.is_err());
                create(&core, "between").unwrap();
                Err(Error::Internal("read from under it"))
            }
            _ => snapshot.keyspaces(),
        }
    });
    assert_eq!((keyspaces.unwrap().len(), reads), (3, 2));
    // Where nothing was replaced, an error is one.
    let failed = core.read(|_| Err::<(), _>(Error::Internal("by itself")));
    assert!(failed.is_err());
}

/// What may contend for an owner's one key.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rival {
    Issue,
    Rotate,
    RotateWithGrace,
    Revoke,
    Disable,
    Enable,
    Update,
    Suspend,
    Resume,
    RevokeOwner,
}

use Rival::*;

const RIVALS: [Rival; 10] = [
    Issue,
    Rotate,
    RotateWithGrace,
    Revoke,
    Disable,
    Enable,
    Update,
    Suspend,
    Resume,
    RevokeOwner,
];

/// A store of a single-active keyspace, with a key; its digests and ids are random,
/// its clock is not.
fn single_active() -> (Core, KeyId) {
    let options = Options::new()
        .clock(ManualClock::at(Timestamp::from_raw(1_767_225_600_000)))
        .resident_bytes(1 << 14)
        .cache_bytes(1 << 20);
    let core = Core::open(&options, Place::Memory).unwrap();
    let new = NewKeyspace::new("one").unwrap().single_active();
    core.mutate(move |tx| change::keyspace::create(tx, &new, None))
        .unwrap();
    let new = [NewKey::new("one", "acme").unwrap()];
    let issued = core.mutate(move |tx| change::issue::issue(tx, &new, None));
    let key = issued.unwrap()[0].key.id;
    (core, key)
}

impl Rival {
    /// Does it, and says whether it was refused, and why.
    fn run(self, core: &Core, key: KeyId) -> Result<(), String> {
        let acme: OwnerPath = "acme".parse().unwrap();
        let superseded = Revocation::from(Reason::Superseded);
        let done = core.mutate(move |tx| match self {
            Issue => {
                let new = [NewKey::new("one", "acme").unwrap()];
                change::issue::issue(tx, &new, None).map(drop)
            }
            Rotate => change::rotate::rotate(tx, key, &Rotation::at_once(), None).map(drop),
            RotateWithGrace => {
                let rotation = Rotation::with_grace(Duration::from_secs(60));
                change::rotate::rotate(tx, key, &rotation, None).map(drop)
            }
            Revoke => change::revoke::revoke(tx, key, &superseded, None).map(drop),
            Disable => change::update::set_disabled(tx, key, true, None).map(drop),
            Enable => change::update::set_disabled(tx, key, false, None).map(drop),
            Update => {
                let update = KeyUpdate::new().name("a name");
                change::update::update(tx, key, &update, None).map(drop)
            }
            Suspend => change::owner::suspend(tx, &acme, None, AT_ONCE, None).map(drop),
            Resume => change::owner::resume(tx, &acme, AT_ONCE, None).map(drop),
            RevokeOwner => {
                change::revoke::revoke_owner(tx, &acme, &superseded, AT_ONCE, None).map(drop)
            }
        });
        // Ids are random; a refusal names one.
        let is_id = |word: &str| word.parse::<KeyId>().is_ok();
        done.map_err(|error| {
            let text = error.to_string();
            let words = text
                .split(' ')
                .map(|word| if is_id(word) { "#" } else { word });
            words.collect()
        })
    }
}

/// What the keys of a store have become, sorted: their ids are random.
fn keys(core: &Core) -> Vec<String> {
    let snapshot = core.snapshot().unwrap();
    let report = crate::store::check::check(&snapshot, core.now()).unwrap();
    assert!(report.is_sound(), "{report:#?}");
    let page = snapshot.list(&KeyFilter::new(), None, 100, core.now());
    let line = |key: Key| {
        let replaced = key.predecessor.is_some();
        format!(
            "{:?} {:?} {:?} {replaced}",
            key.state, key.name, key.retiring_until
        )
    };
    let mut lines: Vec<String> = page.unwrap().keys.into_iter().map(line).collect();
    lines.sort_unstable();
    lines
}

type Job = dyn Fn(&Core) -> Result<(), String> + Sync;

/// Whatever contends in one batch comes to what it comes to one after the other, in
/// the order of the line; and the owner has one active key at most.
#[test]
fn rivals_in_one_batch_end_as_they_would_one_after_the_other() {
    let mut random = StdRng::seed_from_u64(1);
    let mut lines: Vec<Vec<Rival>> = Vec::new();
    for one in RIVALS {
        for other in RIVALS {
            lines.push(vec![one, other]);
        }
    }
    for _ in 0..200 {
        let count = random.random_range(3..7);
        lines.push(
            (0..count)
                .map(|_| RIVALS[random.random_range(0..RIVALS.len())])
                .collect(),
        );
    }
    for line in lines {
        let (alone, key) = single_active();
        let expected: Vec<_> = line.iter().map(|rival| rival.run(&alone, key)).collect();
        let (together, key) = single_active();
        let run = |rival: Rival| move |core: &Core| rival.run(core, key);
        let jobs: Vec<_> = line.iter().map(|rival| run(*rival)).collect();
        let jobs: Vec<&Job> = jobs.iter().map(|job| job as _).collect();
        assert_eq!(in_one_batch(&together, &jobs), expected, "{line:?}");
        let became = keys(&together);
        assert_eq!(became, keys(&alone), "{line:?}");
        for state in ["Active", "Retiring"] {
            let count = became.iter().filter(|key| key.starts_with(state)).count();
            assert!(count <= 1, "{line:?}: {became:?}");
        }
    }
}

/// By name or by mask, each once, and nothing that the key has.
#[test]
fn a_denial_says_which_permissions_are_missing() {
    let core = core();
    let new = NewKeyspace::new("acme").unwrap();
    let new = new.permissions(["read", "write", "admin"]);
    core.mutate(move |tx| change::keyspace::create(tx, &new, None))
        .unwrap();
    let new = [NewKey::new("acme", "acme").unwrap().permissions(["read"])];
    let issued = core
        .mutate(move |tx| change::issue::issue(tx, &new, None))
        .unwrap();
    let bits = Permissions::from_bits;
    for (mask, names, missing, told) in [
        (0b001, &["read"][..], None, &[][..]),
        (0b000, &["read", "write"], Some(0b010), &["write"]),
        (0b100, &["write"], Some(0b110), &["admin", "write"]),
        (0b110, &["write"], Some(0b110), &["write", "admin"]),
        (0b000, &["of nobody"], Some(0), &["of nobody"]),
    ] {
        let requirements = Requirements::new()
            .permission_mask(bits(mask))
            .permissions(names);
        let token = issued[0].token.expose().as_bytes();
        match (core.verify_text(token, &requirements).unwrap(), missing) {
            (Verdict::Granted(_), None) => {}
            (
                Verdict::Denied(Denial::PermissionMissing {
                    missing,
                    names: in_denial,
                    ..
                }),
                Some(expected),
            ) => {
                assert_eq!(missing, bits(expected), "{names:?}");
                assert_eq!(in_denial, told, "{names:?}");
            }
            (verdict, _) => panic!("{names:?}: {verdict:?}"),
        }
    }
}

/// The hashes and comparisons of a verification that is refused as unknown.
fn work_of_refusal(core: &Core, text: &[u8]) -> (u32, u32) {
    use crate::crypto::digest::tests::WORK;
    WORK.set((0, 0));
    let verdict = core.verify_text(text, &Requirements::new()).unwrap();
    assert!(matches!(verdict, Verdict::Denied(Denial::Unknown)));
    WORK.get()
}

#[test]
fn an_unknown_id_and_a_wrong_secret_take_the_same_hashes_and_comparisons() {
    let long = format!("acme/{}", "x".repeat(64));
    let settings = [
        (0, "acme"),
        (Options::RESIDENT_BYTES, "acme"),
        (Options::RESIDENT_BYTES, &*long),
    ];
    for (resident_bytes, owner) in settings {
        let options = Options::new().resident_bytes(resident_bytes);
        let core = Core::open(&options, Place::Memory).unwrap();
        create(&core, "acme").unwrap();
        let new = [
            NewKey::new("acme", owner).unwrap(),
            NewKey::new("acme", owner).unwrap(),
        ];
        let issued = core
            .mutate(move |tx| change::issue::issue(tx, &new, None))
            .unwrap();
        let prefix = "acme".parse().unwrap();
        let with = |id| token::print(&prefix, id, &[b'x'; 43]).unwrap().to_string();
        let [live, revoked] = [0, 1].map(|at: usize| issued[at].key.id);
        let revocation = Revocation::new(Reason::KeyCompromise);
        core.mutate(move |tx| change::revoke::revoke(tx, revoked, &revocation, None))
            .unwrap();
        let unknown = KeyId::from_raw(live.raw() ^ 1);
        let work = work_of_refusal(&core, with(unknown).as_bytes());
        // The tag of a record, and the digest; each is compared once.
        assert_eq!(work, (2, 2));
        assert_eq!(work_of_refusal(&core, with(live).as_bytes()), work);
        assert_eq!(work_of_refusal(&core, with(revoked).as_bytes()), work);
        for id in [unknown, live, revoked] {
            let token = with(id);
            crate::crypto::digest::tests::WORK.set((0, 0));
            let found = core.find_by_token(token.as_bytes()).map(|(id, _)| id);
            assert!(matches!(found, Err(Error::NotFound(NotFound::Token))));
            assert_eq!(
                crate::crypto::digest::tests::WORK.get(),
                work,
                "looked up by token"
            );
        }
        // A key in memory is looked at there first, and its MAC compared.
        assert!(
            core.verify_text(issued[0].token.expose().as_bytes(), &Requirements::new())
                .unwrap()
                .is_granted()
        );
        let first = u32::from(resident_bytes > 0);
        let of_resident = work_of_refusal(&core, with(live).as_bytes());
        assert_eq!(of_resident, (2, 2 + first));
    }
}

#[test]
fn a_text_of_another_form_reads_nothing_until_an_import_has_keys() {
    let core = core();
    create(&core, "acme").unwrap();
    let token = "old_5b1f0c7d2e";
    let verify = || core.verify_text(token.as_bytes(), &Requirements::new());
    // Whatever reads a snapshot fails where there is none.
    let verify_without_snapshot = || {
        let kept = core.published.swap(None);
        let verdict = verify();
        core.published.store(kept);
        verdict
    };
    let is_malformed =
        |verdict: Result<Verdict, Error>| matches!(verdict, Ok(Verdict::Denied(Denial::Malformed)));
    assert!(is_malformed(verify_without_snapshot()));
    let import = NewImport::new("old", ForeignHash::Plain).starts_with("old_");
    core.mutate(move |tx| change::import::begin(tx, &import, None))
        .unwrap();
    assert!(is_malformed(verify_without_snapshot()));
    let key = NewKey::new("acme", "acme").unwrap();
    let keys = [ForeignKey::new(key, Credential::token(token))];
    core.mutate(move |tx| change::import::import_keys(tx, "old", &keys, None))
        .unwrap();
    assert!(matches!(verify_without_snapshot(), Err(Error::Store(_))));
    assert!(verify().unwrap().is_granted());
}

fn granted(core: &Core, token: &str, count: u32) -> usize {
    let verify = || {
        core.verify_text(token.as_bytes(), &Requirements::new())
            .unwrap()
    };
    (0..count).filter(|_| verify().is_granted()).count()
}

/// A rewrite whose name may not be durable: after a loss of power, the file from before
/// it might be found, without what was acknowledged since.
#[test]
fn nothing_is_acknowledged_in_a_file_whose_name_may_not_be_durable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let core = Core::open(&Options::new(), Place::File(&path)).unwrap();
    create(&core, "before").unwrap();
    DIRECTORY_FAILS.set(true);
    core.compact(&mut |_| ControlFlow::Continue(()))
        .unwrap_err();
    assert!(core.health().failure().is_some());
    let refused = create(&core, "meanwhile").unwrap_err();
    assert!(matches!(refused, Error::Store(_)), "{refused}");
    DIRECTORY_FAILS.set(false);
    // The store rests between two attempts.
    let begun = std::time::Instant::now();
    while create(&core, "after").is_err() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            core.health()
        );
        std::thread::yield_now();
    }
    assert!(core.health().failure().is_none());
    core.close().unwrap();
    let core = Core::open(&Options::new(), Place::File(&path)).unwrap();
    let prefixes: Vec<_> = core.read(Snapshot::keyspaces).unwrap();
    let prefixes: Vec<_> = prefixes.iter().map(|made| made.prefix.as_str()).collect();
    assert_eq!(prefixes, ["before", "after"]);
}

/// What was charged is told, whatever becomes of the others in the batch.
#[test]
fn an_error_on_one_token_of_a_batch_takes_no_verdict_from_the_others() {
    let core = core();
    create(&core, "acme").unwrap();
    let new = || NewKey::new("acme", "acme").unwrap().quota(Quota::new(50));
    let new: Vec<_> = (0..40).map(|_| new()).collect();
    let issued = core.mutate(move |tx| change::issue::issue(tx, &new, None));
    let issued = issued.unwrap();
    // In each part of the batch, one has a plan that does not exist.
    let broken = [3, 35].map(|at: usize| issued[at].key.id);
    core.mutate(move |tx| {
        broken.iter().try_for_each(|id| {
            let old = tx.key(*id)?;
            let mut new = old.clone();
            new.plan = 9;
            tx.replace_key(&old, &new)
        })
    })
    .unwrap();
    let tokens: Vec<&str> = issued.iter().map(|issued| issued.token.expose()).collect();
    // From the file, then from memory.
    for _ in 0..2 {
        let results = core.verify_many(&tokens, &Requirements::new());
        assert_eq!(results.len(), tokens.len());
        for (result, issued) in results.iter().zip(&issued) {
            let id = issued.key.id;
            match result {
                Ok(verdict) => assert!(verdict.is_granted() && !broken.contains(&id)),
                Err(error) => {
                    assert!(broken.contains(&id) && matches!(error, Error::Corrupted(_)));
                }
            }
        }
    }
    let left = granted(&core, issued[39].token.expose(), 100);
    assert_eq!(left, 48, "each that was granted is charged once");
}

/// A store that has got a new pepper, and a key of it under the old one.
fn with_a_new_pepper(path: &std::path::Path, owner: &str) -> (Core, Issued) {
    let old = || Pepper::new(1, [1; 32]).unwrap();
    let open = |mut options: Options| {
        options.validate().unwrap();
        Core::open(&options, Place::File(path)).unwrap()
    };
    let core = open(Options::new().pepper(old()));
    create(&core, "acme").unwrap();
    let key = [NewKey::new("acme", owner).unwrap()];
    let issued = core.mutate(move |tx| change::issue::issue(tx, &key, None));
    core.close().unwrap();
    let new = Pepper::new(2, [2; 32]).unwrap();
    let core = open(Options::new().pepper(old()).pepper(new));
    (core, issued.unwrap().remove(0))
}

/// Memory has a MAC where the record has the digest that is to be replaced.
#[test]
fn a_token_that_is_known_again_is_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let (core, issued) = with_a_new_pepper(&dir.path().join("keys.redb"), "acme");
    // It is put into memory, and no grant is noted.
    let asks = Requirements::new().permission_mask(Permissions::from_bits(1));
    let verdict = core.verify_text(issued.token.expose().as_bytes(), &asks);
    assert!(!verdict.unwrap().is_granted());
    assert_eq!(granted(&core, issued.token.expose(), 1), 1);
    core.flush().unwrap();
    let mut copy = HotCopy::new();
    core.copy_from_file(issued.key.id, &mut copy).unwrap();
    assert_eq!(copy.view().unwrap().pepper(), 2);
    assert_eq!(granted(&core, issued.token.expose(), 2), 2);
    core.close().unwrap();
}

/// Under an old pepper, what is hashed is the token under that pepper, once, and under
/// the new one where it is to be renewed.
#[test]
fn a_token_under_an_old_pepper_is_hashed_once() {
    use crate::crypto::digest::tests::WORK;
    for owner in ["acme", &*format!("acme/{}", "x".repeat(64))] {
        let dir = tempfile::tempdir().unwrap();
        let (core, issued) = with_a_new_pepper(&dir.path().join("keys.redb"), owner);
        let work = || {
            WORK.set((0, 0));
            assert_eq!(granted(&core, issued.token.expose(), 1), 1);
            WORK.get()
        };
        // The record's tag, its digest, and what is noted for the flush.
        assert_eq!(work(), (3, 2));
        // From memory, by a MAC.
        assert_eq!(work(), (0, 1));
        core.flush().unwrap();
        assert_eq!((work(), work()), ((2, 2), (0, 1)));
        core.close().unwrap();
    }
}
