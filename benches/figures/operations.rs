//! What those who run a store wait for: an opening after a kill, a check, a backup, an owner
//! that is suspended or revoked, and many first uses of quotas at once.

use std::hint::black_box;
use std::time::{Duration, Instant};

use gatekey::{
    Engine, Issued, NewKey, NewKeyspace, Options, Quota, Reason, Refill, Requirements, Verdict,
};

use crate::world::{World, build, options, spec};
use crate::{BATCH, POOL, Run, compare, each_by, granted, median, print};

/// The keys with a quota that are used for the first time.
const FIRST_USES: usize = 10_000;

pub(crate) fn operations(run: &Run) {
    first_uses(run);
    after_kill(run);
    checks(run);
    large_owners(run);
    single_active(run);
}

fn first_uses(run: &Run) {
    let names = ["quota_first_use_us", "quota_first_use_of_many_us"];
    if !run.wants(&names) {
        return;
    }
    let engine = Engine::create(run.path("quotas.redb")).unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    let keyspace = keyspace.permissions(["read"]);
    engine.create_keyspace(keyspace).unwrap();
    let new = |at: usize| {
        let new = NewKey::new("acme_live", format!("customer-{at}")).unwrap();
        new.permissions(["read"])
            .quota(Quota::new(100_000).refilled(Refill::Monthly))
    };
    let issue = || engine.issue_batch((0..FIRST_USES).map(new).collect());
    let us_each = |time: Duration| time.as_secs_f64() * 1e6 / FIRST_USES as f64;
    let issued = issue().unwrap();
    let (_, time) = each_by(64, FIRST_USES, |at| {
        granted(&engine, issued[at].token.expose());
    });
    print(names[0], us_each(time), "us");
    // The same in one call.
    let issued = issue().unwrap();
    let tokens: Vec<_> = issued.iter().map(|issued| issued.token.expose()).collect();
    let begun = Instant::now();
    let verdicts = engine.verify_many(&tokens, &Requirements::new());
    print(names[1], us_each(begun.elapsed()), "us");
    let is_granted = |verdict: gatekey::Result<Verdict>| verdict.unwrap().is_granted();
    assert!(verdicts.into_iter().all(is_granted));
    engine.close().unwrap();
}

/// The file as a kill leaves it: a change was committed, and it was not closed. The copy is
/// on the disk before it is opened, as what a process has committed is.
fn after_kill(run: &Run) {
    let names = [
        "open_1m_after_kill_ms",
        "open_1m_after_kill_first_change_ms",
    ];
    if !run.wants(&names) {
        return;
    }
    after_kill_of(run, run.world(), if run.quick { 3 } else { 9 }, names);
}

fn after_kill_of(run: &Run, world: &World, rounds: usize, names: [&str; 2]) {
    let (mut verified, mut changed) = (Vec::new(), Vec::new());
    for at in 0..rounds {
        let copy = run.path("killed.redb");
        let killed = Engine::open(&world.path).unwrap();
        let id = killed.issue(spec(at)).unwrap().key.id;
        std::fs::copy(&world.path, &copy).unwrap();
        killed.close().unwrap();
        std::fs::File::open(&copy).unwrap().sync_all().unwrap();
        let start = Instant::now();
        let engine = Engine::open(&copy).unwrap();
        granted(&engine, world.pool[at]);
        verified.push(ms(start));
        engine.revoke(id, Reason::Cessation).unwrap();
        changed.push(ms(start));
        engine.close().unwrap();
        std::fs::remove_file(copy).unwrap();
    }
    print(names[0], median(&mut verified), "ms");
    print(names[1], median(&mut changed), "ms");
}

/// A store of ten million keys, which is built where a figure of it is asked for by name, or
/// nothing is to be quick.
pub(crate) fn ten_millions(run: &Run) {
    let names = [
        "verify_cold_10m_over_1m",
        "batch_issue_10m_per_s",
        "stats_10m_ms",
        "open_10m_after_kill_ms",
        "open_10m_after_kill_first_change_ms",
    ];
    if !run.wants(&names) || (run.quick && run.wanted.is_empty()) {
        return;
    }
    let world = build(&run.path("10m.redb"), 10_000_000);
    let engine = options(0).open(&world.path).unwrap();
    let smaller = run.world();
    let engine_1m = options(0).open(&smaller.path).unwrap();
    let (_, _, ratio) = compare(
        run.rounds(),
        10_000,
        |at| granted(&engine, world.pool[at % POOL]),
        |at| granted(&engine_1m, smaller.pool[at % POOL]),
    );
    print(names[0], ratio, "ratio");
    print(names[1], issued_per_s(&engine, &world, 5), "1/s");
    print(names[2], stats_ms(&engine, 100), "ms");
    engine.close().unwrap();
    engine_1m.close().unwrap();
    after_kill_of(run, &world, 3, [names[3], names[4]]);
    std::fs::remove_file(&world.path).unwrap();
}

/// The median rate of batches of keys that are issued into a store, each with an owner of its own.
pub(crate) fn issued_per_s(engine: &Engine, world: &World, batches: usize) -> f64 {
    let rate = |batch: usize| {
        let from = world.all.len() + batch * BATCH;
        let batch: Vec<NewKey> = (from..from + BATCH).map(spec).collect();
        let start = Instant::now();
        assert_eq!(engine.issue_batch(batch).unwrap().len(), BATCH);
        BATCH as f64 / start.elapsed().as_secs_f64()
    };
    median(&mut (0..batches).map(rate).collect::<Vec<_>>())
}

/// The counts of all keys by state, asked for while nothing else is done.
pub(crate) fn stats_ms(engine: &Engine, rounds: usize) -> f64 {
    let time = |_| {
        let start = Instant::now();
        black_box(engine.stats().unwrap());
        ms(start)
    };
    median(&mut (0..rounds).map(time).collect::<Vec<_>>())
}

fn checks(run: &Run) {
    let names = ["check_1m_s", "backup_1m_s"];
    if !run.wants(&names) {
        return;
    }
    let engine = Engine::open(&run.world().path).unwrap();
    let start = Instant::now();
    assert!(engine.check().unwrap().is_sound());
    print(names[0], start.elapsed().as_secs_f64(), "s");
    let copy = run.path("backup.redb");
    let start = Instant::now();
    engine.backup(&copy).unwrap();
    print(names[1], start.elapsed().as_secs_f64(), "s");
    std::fs::remove_file(copy).unwrap();
    engine.close().unwrap();
}

/// A large owner beside a million other keys: one of 100,000 keys, and of a million where it is
/// asked for by name, or nothing is to be quick.
fn large_owners(run: &Run) {
    for (keys, [suspend, suspended, revoke, revoked]) in [
        (
            100_000,
            [
                "owner_suspend_100k_ms",
                "owner_suspend_100k_followed_ms",
                "owner_revoke_100k_ms",
                "owner_revoke_100k_followed_ms",
            ],
        ),
        (
            1_000_000,
            [
                "owner_suspend_1m_ms",
                "owner_suspend_1m_followed_ms",
                "owner_revoke_1m_ms",
                "owner_revoke_1m_followed_ms",
            ],
        ),
    ] {
        let is_long = keys > 100_000;
        if is_long && run.quick && run.wanted.is_empty() {
            continue;
        }
        let rounds = match (run.quick, is_long) {
            (true, true) => 1,
            (false, false) => 9,
            _ => 3,
        };
        if run.wants(&[suspend, suspended]) {
            suspensions(run, keys, rounds, [suspend, suspended]);
        }
        if run.wants(&[revoke, revoked]) {
            revocations(run, keys, rounds, [revoke, revoked]);
        }
    }
}

/// An owner whose key is issued anew again and again, each time superseding the one before: the
/// last thousand of 20,000 issues over the first thousand, without a disk.
fn single_active(run: &Run) {
    let name = "issue_20k_of_one_owner_over_first";
    if !run.wants(&[name]) {
        return;
    }
    let engine = Options::new().open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(keyspace.single_active()).unwrap();
    let thousand = || {
        let start = Instant::now();
        for _ in 0..1_000 {
            let new = NewKey::new("acme_live", "acme/ingest").unwrap();
            engine.issue(new).unwrap();
        }
        ms(start)
    };
    // The first of all is not counted: it warms up.
    let thousands: Vec<f64> = (0..21).map(|_| thousand()).collect();
    print(name, thousands[20] / thousands[1], "ratio");
}

fn suspensions(run: &Run, keys: usize, rounds: usize, names: [&str; 2]) {
    let copy = run.path("suspended.redb");
    std::fs::copy(&run.world().path, &copy).unwrap();
    let engine = Engine::open(&copy).unwrap();
    let one = issue_large(&engine, "large", keys);
    let (mut returned, mut followed) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        assert!(granted_still(&engine, &one));
        let start = Instant::now();
        engine.suspend("large", None).unwrap();
        returned.push(ms(start));
        assert!(!granted_still(&engine, &one));
        engine.flush().unwrap();
        followed.push(ms(start));
        engine.resume("large").unwrap();
        engine.flush().unwrap();
    }
    print(names[0], median(&mut returned), "ms");
    print(names[1], median(&mut followed), "ms");
    engine.close().unwrap();
    std::fs::remove_file(copy).unwrap();
}

/// Each time of another owner.
fn revocations(run: &Run, keys: usize, rounds: usize, names: [&str; 2]) {
    let copy = run.path("revoked.redb");
    std::fs::copy(&run.world().path, &copy).unwrap();
    let engine = Engine::open(&copy).unwrap();
    let (mut returned, mut followed) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let owner = format!("large-{round}");
        let one = issue_large(&engine, &owner, keys);
        assert!(granted_still(&engine, &one));
        let start = Instant::now();
        engine.revoke_owner(&*owner, Reason::Cessation).unwrap();
        returned.push(ms(start));
        assert!(!granted_still(&engine, &one));
        engine.flush().unwrap();
        followed.push(ms(start));
        assert!(!granted_still(&engine, &one));
    }
    print(names[0], median(&mut returned), "ms");
    print(names[1], median(&mut followed), "ms");
    engine.close().unwrap();
    std::fs::remove_file(copy).unwrap();
}

fn granted_still(engine: &Engine, one: &Issued) -> bool {
    engine.verify(one.token.expose()).unwrap().is_granted()
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Issues the keys of a large owner, below it, and gives one of them.
fn issue_large(engine: &Engine, owner: &str, keys: usize) -> Issued {
    let path = |at| format!("{owner}/team-{}/bot-{at}", at % 97);
    let new = |at| NewKey::new("acme_live", path(at)).unwrap();
    let mut of_batch = None;
    for from in (0..keys).step_by(BATCH) {
        let batch = (from..from + BATCH).map(new).collect();
        of_batch = engine.issue_batch(batch).unwrap().pop();
    }
    of_batch.unwrap()
}
