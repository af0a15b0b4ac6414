//! Slices of quotas, where many keys have one: beside changes, beyond the room in memory,
//! and shared by a key and its successors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

use gatekey::{
    Denial, Engine, Issued, KeyId, KeyUpdate, Level, NewKey, NewKeyspace, Options, OwnerUpdate,
    Quota, Reason, Requirements, Rotation, Verdict,
};

use crate::common::{DAY, PATIENCE, Store, granted};

fn open(dir: &tempfile::TempDir, limited_keys: usize) -> Engine {
    let options = Options::new()
        .limited_keys(limited_keys)
        .usage_interval(None);
    options
        .open_or_create(dir.path().join("keys.redb"))
        .unwrap()
}

fn create(options: Options) -> Engine {
    let engine = options.usage_interval(None).open_in_memory().unwrap();
    create_keyspace(&engine);
    engine
}

fn create_keyspace(engine: &Engine) {
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(keyspace).unwrap();
}

fn issue(engine: &Engine, count: usize, quota: Quota) -> Vec<Issued> {
    let new = |at| {
        let key = NewKey::new("acme_live", format!("acme/{at}"));
        key.unwrap().quota(quota)
    };
    engine.issue_batch((0..count).map(new).collect()).unwrap()
}

fn issue_to(engine: &Engine, owner: &str, quota: Quota) -> Issued {
    let key = NewKey::new("acme_live", owner).unwrap();
    engine.issue(key.quota(quota)).unwrap()
}

fn remaining(engine: &Engine, id: KeyId) -> u64 {
    engine.key(id).unwrap().quota.unwrap().remaining
}

/// Has 64 threads verify keys of their own, round after round, beside `meanwhile`, which
/// is done over and over. Each request takes a slice. Says how many were granted.
fn spend(engine: &Engine, keys: &[Issued], rounds: usize, meanwhile: impl Fn()) -> usize {
    let (done, all_done) = mpsc::channel();
    let keys_each = keys.len().div_ceil(64);
    for keys in keys.chunks(keys_each) {
        let (engine, done) = (engine.clone(), done.clone());
        let tokens: Vec<_> = keys
            .iter()
            .map(|key| key.token.expose().to_owned())
            .collect();
        std::thread::spawn(move || {
            let asked = Requirements::new().cost(10);
            let mut granted = 0;
            for token in tokens.iter().cycle().take(rounds * tokens.len()) {
                let verdict = engine.verify_with(token, &asked).unwrap();
                granted += usize::from(verdict.is_granted());
            }
            done.send(granted).unwrap();
        });
    }
    drop(done);
    let begun = Instant::now();
    let mut granted = 0;
    loop {
        match all_done.try_recv() {
            Ok(by_one) => granted += by_one,
            Err(TryRecvError::Disconnected) => return granted,
            Err(TryRecvError::Empty) => meanwhile(),
        }
        assert!(begun.elapsed() < PATIENCE, "requests wait for ever");
    }
}

#[test]
fn changes_and_purges_of_some_quotas_keep_no_request_of_others_waiting() {
    let engine = create(Options::new());
    let keys = issue(&engine, 1_280, Quota::new(1_000));
    let others = issue(&engine, 2, Quota::new(100));
    let meanwhile = || {
        let change = KeyUpdate::new().quota(Quota::new(100));
        engine.update(others[0].key.id, change).unwrap();
        assert_eq!(granted(&engine, others[0].token.expose(), 1), 1);
        let gone = issue(&engine, 1, Quota::new(100)).remove(0);
        assert_eq!(granted(&engine, gone.token.expose(), 1), 1);
        engine.revoke(gone.key.id, Reason::Cessation).unwrap();
        engine.purge(Duration::ZERO).unwrap();
    };
    assert_eq!(spend(&engine, &keys, 4, meanwhile), 4 * keys.len());
}

/// The organisation's quota is enough for all, or for a tenth of them; those of projects and
/// keys are enough whenever they are given anew.
#[test]
fn changes_and_purges_at_three_levels_keep_no_request_waiting_and_lose_none() {
    for of_organisation in [1_000_000, 1_020] {
        let engine = create(Options::new());
        let update = |owner: &str, requests| {
            let quota = OwnerUpdate::new().quota(Quota::new(requests));
            engine.update_owner("acme_live", owner, quota).unwrap();
        };
        let projects = 4;
        let project = |at: usize| format!("acme/p{}", at % projects);
        update("acme", of_organisation);
        (0..projects).for_each(|at| update(&project(at), 100_000));
        let new = |at: usize| {
            let key = NewKey::new("acme_live", format!("{}/{at}", project(at)));
            key.unwrap().quota(Quota::new(1_000))
        };
        let keys = engine.issue_batch((0..256).map(new).collect()).unwrap();
        let turn = AtomicUsize::new(0);
        let meanwhile = || {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            update(&project(turn), 100_000 + turn as u64);
            let change = KeyUpdate::new().quota(Quota::new(1_000 + turn as u64));
            engine.update(keys[turn % 256].key.id, change).unwrap();
            if of_organisation > 10_000 {
                update("acme", of_organisation + turn as u64);
            }
            // Beside the organisation, which is to be spent by the threads alone.
            let gone = issue_to(&engine, "other/p/1", Quota::new(100));
            assert_eq!(granted(&engine, gone.token.expose(), 1), 1);
            engine.revoke(gone.key.id, Reason::Cessation).unwrap();
            engine.purge(Duration::ZERO).unwrap();
        };
        let asked = 4 * keys.len();
        let expected = asked.min(usize::try_from(of_organisation / 10).unwrap());
        assert_eq!(spend(&engine, &keys, 4, meanwhile), expected);
        assert!(turn.load(Ordering::Relaxed) > 0);
        assert!(engine.check().unwrap().is_sound());
    }
}

#[test]
fn more_keys_than_there_is_room_for_are_spent_to_the_last_request() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir, 50);
    create_keyspace(&engine);
    let keys = issue(&engine, 2_400, Quota::new(1_000));
    let yield_now = std::thread::yield_now;
    assert_eq!(spend(&engine, &keys, 4, yield_now), 4 * keys.len());
    assert!(engine.check().unwrap().is_sound());
    engine.close().unwrap();
    let engine = open(&dir, 50);
    for key in &keys {
        assert_eq!(remaining(&engine, key.key.id), 1_000 - 4 * 10);
    }
}

#[test]
fn a_key_for_which_there_is_no_room_calls_in_a_few_slices_and_not_all() {
    let engine = create(Options::new().limited_keys(2_400));
    let keys = issue(&engine, 2_430, Quota::new(1_000));
    let spend_first = |key: &Issued| assert_eq!(granted(&engine, key.token.expose(), 1), 1);
    keys[..2_400].iter().for_each(spend_first);
    let in_store = || -> Vec<u64> {
        let keys = keys.iter();
        keys.map(|key| remaining(&engine, key.key.id)).collect()
    };
    let mut before = in_store();
    assert_eq!(before.iter().filter(|left| **left == 990).count(), 2_400);
    for key in &keys[2_400..] {
        spend_first(key);
        let after = in_store();
        let changed = before.iter().zip(&after).filter(|(old, new)| old != new);
        assert!(changed.count() <= 17, "its own, and a few that made room");
        before = after;
    }
    let is_out = |left: &&u64| **left == 990;
    assert!(before.iter().filter(is_out).count() <= 2_400);
    assert!(before.iter().filter(|left| **left == 999).count() >= 30);
}

#[test]
fn a_successor_is_granted_what_memory_and_store_have_together() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let spec = NewKey::new("acme_live", "acme").unwrap();
    let first = store.engine.issue(spec.quota(Quota::new(20))).unwrap();
    let verify = |token: &str, cost| {
        let asked = Requirements::new().cost(cost);
        store.engine.verify_with(token, &asked).unwrap()
    };
    assert!(verify(first.token.expose(), 6).is_granted());
    assert_eq!(remaining(&store.engine, first.key.id), 10, "4 are out");
    let second = store
        .engine
        .rotate(first.key.id, Rotation::with_grace(DAY))
        .unwrap();
    assert!(verify(second.token.expose(), 12).is_granted());
    let refused = verify(second.token.expose(), 3);
    let Verdict::Denied(Denial::QuotaExhausted { .. }) = refused else {
        panic!("{refused:?}, and 2 are left");
    };
    assert!(verify(first.token.expose(), 2).is_granted());
    assert!(!verify(first.token.expose(), 1).is_granted());
}

#[test]
fn a_quota_is_shared_after_each_rotation() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let spec = NewKey::new("acme_live", "acme").unwrap();
    let issued = store.engine.issue(spec.quota(Quota::new(100))).unwrap();
    let mut tokens = vec![issued.token.expose().to_owned()];
    let mut newest = issued.key.id;
    let mut spent = 0;
    for round in 1..=5 {
        let rotated = store.engine.rotate(newest, Rotation::with_grace(DAY));
        let rotated = rotated.unwrap();
        assert_eq!(rotated.key.quota, rotated.old.quota);
        newest = rotated.key.id;
        tokens.push(rotated.token.expose().to_owned());
        // Of the predecessors, only the last is still in its grace.
        for token in &tokens[tokens.len() - 2..] {
            assert_eq!(granted(&store.engine, token, round), round);
            spent += round;
        }
    }
    let [.., old, new] = &tokens[..] else {
        panic!("{tokens:?}");
    };
    assert_eq!(granted(&store.engine, old, 60), 60);
    assert_eq!(granted(&store.engine, new, 99), 100 - 60 - spent);
    assert_eq!(granted(&store.engine, old, 1), 0);
    // Another quota for the one is another for the other, after all of them.
    let change = KeyUpdate::new().quota(Quota::new(7));
    store.engine.update(newest, change).unwrap();
    assert_eq!(granted(&store.engine, old, 3), 3);
    assert_eq!(granted(&store.engine, new, 9), 4);
    store.assert_sound();
}

/// Commits, by what a call makes.
fn commits(engine: &Engine, run: impl FnOnce()) -> u64 {
    let count = || engine.metrics().unwrap().commits.count();
    let before = count();
    run();
    count() - before
}

#[test]
fn the_tokens_of_one_call_share_a_commit_for_the_first_slices_of_their_quotas() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir, Options::LIMITED_KEYS);
    create_keyspace(&engine);
    let all = OwnerUpdate::new().quota(Quota::new(1_000_000));
    engine.update_owner("acme_live", "acme", all).unwrap();
    let keys = issue(&engine, 2_500, Quota::new(100));
    let disabled = issue(&engine, 1, Quota::new(100)).remove(0);
    engine.disable(disabled.key.id).unwrap();
    let mut tokens: Vec<_> = keys.iter().map(|key| key.token.expose()).collect();
    // Of its quota, nothing is taken.
    tokens.push(disabled.token.expose());
    let grants = |cost: u32| {
        let verdicts = engine.verify_many(&tokens, &Requirements::new().cost(cost));
        let granted = verdicts.iter().flatten().filter(|it| it.is_granted());
        granted.count()
    };
    // Those of the first tokens, before it is seen that the others will wait too.
    let made = commits(&engine, || assert_eq!(grants(2), 2_500));
    assert!(made < 45, "{made} commits for {} keys", keys.len());
    assert_eq!(remaining(&engine, disabled.key.id), 100);
    let of_owner = || {
        let dry = engine.dry_run(tokens[0], &Requirements::new()).unwrap();
        let quota = dry.quotas.iter().find(|it| it.level() == Level::Owner(1));
        quota.unwrap().status().remaining
    };
    assert_eq!(of_owner(), 995_000);
    // What is left of each key's is more than is in memory; then it is nothing.
    assert_eq!((grants(99), grants(98), grants(1)), (0, 2_500, 0));
    assert_eq!(of_owner(), 750_000);
    engine.close().unwrap();
    let engine = open(&dir, Options::LIMITED_KEYS);
    let left = |key: &Issued| remaining(&engine, key.key.id);
    assert!(keys.iter().all(|key| left(key) == 0) && left(&disabled) == 100);
    assert!(engine.check().unwrap().is_sound());
    engine.close().unwrap();
}
