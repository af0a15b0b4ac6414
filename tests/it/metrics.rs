//! What an engine counts of its own work.

use std::time::Duration;

use gatekey::{
    Engine, KeyUpdate, Limit, ManualClock, NewKey, NewKeyspace, Options, Outcome, Quota, Reason,
    Requirements, Rotation, Timestamp,
};

fn engine(options: Options) -> (Engine, ManualClock) {
    let clock = ManualClock::at("2026-01-01T00:00:30Z".parse().unwrap());
    let hour = Duration::from_secs(3_600);
    let options = options.usage_interval(hour).clock(clock.clone());
    let engine = options.open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap().permissions(["read"]);
    engine.create_keyspace(keyspace).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("other").unwrap())
        .unwrap();
    (engine, clock)
}

fn new() -> NewKey {
    NewKey::new("acme_live", "acme/ingest").unwrap()
}

#[test]
fn every_verification_counts_once_by_keyspace_and_outcome() {
    for resident in [0, 1 << 20] {
        let (engine, _) = engine(Options::new().resident_bytes(resident));
        let issue = |key: NewKey| engine.issue(key).unwrap();
        let good = issue(new());
        let limited = issue(new().limits([Limit::per_hour(2)]));
        let spent = issue(new().quota(Quota::new(1)));
        let revoked = issue(new());
        engine.revoke(revoked.key.id, Reason::Cessation).unwrap();
        let bound = issue(new().allow_networks(["192.0.2.0/24".parse().unwrap()]));
        let elsewhere = engine.issue(NewKey::new("other", "acme").unwrap()).unwrap();
        let text = |issued: &gatekey::Issued| issued.token.expose().to_owned();
        let mut wrong = text(&good).into_bytes();
        let last = wrong.len() - 1;
        wrong[last] = if wrong[last] == b'0' { b'1' } else { b'0' };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..4 {
                        let _ = engine.verify(text(&good)).unwrap();
                    }
                });
            }
        });
        for token in [
            &limited, &limited, &limited, &spent, &spent, &revoked, &bound,
        ] {
            let _ = engine.verify(text(token)).unwrap();
        }
        let needs = Requirements::new().permissions(&["read"]);
        let tokens = [text(&good), text(&elsewhere), "nothing".to_owned()];
        for verdict in engine.verify_many(&tokens, &needs) {
            let _ = verdict.unwrap();
        }
        let here = Requirements::new().keyspace("acme_live".parse().unwrap());
        let _ = engine.verify_with(text(&elsewhere), &here).unwrap();
        let _ = engine.verify(&wrong).unwrap();

        let metrics = engine.metrics().unwrap();
        let acme = metrics.verifications[&"acme_live".parse().unwrap()];
        let counted: Vec<_> = acme.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(
            counted,
            [
                (Outcome::Granted, 12 + 2 + 1),
                (Outcome::Revoked, 1),
                (Outcome::NetworkNotAllowed, 1),
                (Outcome::PermissionMissing, 1),
                (Outcome::RateLimited, 1),
                (Outcome::QuotaExhausted, 1),
            ],
            "{resident}"
        );
        let other = metrics.verifications[&"other".parse().unwrap()];
        assert_eq!(other.get(Outcome::PermissionMissing), 1);
        assert_eq!((other.get(Outcome::Unknown), other.total()), (1, 2));
        let nobody = metrics.unattributed;
        assert_eq!(nobody.get(Outcome::Malformed), 2);
        assert_eq!(nobody.total(), 2);
        assert_eq!(metrics.errors, 0);
        let proven = acme.total() + other.total();
        assert_eq!(metrics.resident_hits + metrics.resident_misses, proven);
        match resident {
            0 => assert_eq!(metrics.resident_hits, 0),
            // Each key was read once at least, and by threads at the same time more often.
            _ => assert!((6..=8).contains(&metrics.resident_misses), "{metrics:?}"),
        }
        assert_eq!(metrics.file_times.count(), metrics.resident_misses);
        // The first is timed, unless it reads the file.
        assert!(metrics.memory_times.count() <= metrics.resident_hits);
        assert!(metrics.quota_slices >= 1);
    }
}

#[test]
fn an_unknown_token_counts_for_no_keyspace() {
    let (engine, _) = engine(Options::new());
    let (stranger, _) = self::engine(Options::new());
    let issued = stranger.issue(new()).unwrap();
    let _ = engine.verify(issued.token.expose()).unwrap();
    let metrics = engine.metrics().unwrap();
    assert_eq!(metrics.unattributed.get(Outcome::Unknown), 1);
    assert!(
        metrics
            .verifications
            .values()
            .all(|counts| counts.total() == 0)
    );
    assert_eq!(metrics.resident_hit_rate(), None);
}

#[test]
fn verifications_count_where_no_use_is_noted() {
    let options = Options::new().usage_interval(None);
    let engine = options.open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap().permissions(["read"]);
    engine.create_keyspace(keyspace).unwrap();
    let issued = engine.issue(new()).unwrap();
    for _ in 0..3 {
        assert!(engine.verify(issued.token.expose()).unwrap().is_granted());
    }
    engine.disable(issued.key.id).unwrap();
    let _ = engine.verify(issued.token.expose()).unwrap();
    let counts = engine.metrics().unwrap().verifications[&"acme_live".parse().unwrap()];
    assert_eq!((counts.granted(), counts.get(Outcome::Disabled)), (3, 1));
}

#[test]
fn attempts_that_are_not_looked_at_count_as_such() {
    let options = Options::new().failed_attempts(Limit::per_minute(2));
    let (engine, _) = engine(options);
    let from = Requirements::new().source("192.0.2.1".parse().unwrap());
    for _ in 0..5 {
        let _ = engine.verify_with("nothing", &from).unwrap();
    }
    let counts = engine.metrics().unwrap().unattributed;
    assert_eq!(counts.get(Outcome::Malformed), 2);
    assert_eq!(counts.get(Outcome::TooManyAttempts), 3);
}

#[test]
fn a_sample_of_what_memory_answers_is_timed() {
    let (engine, clock) = engine(Options::new());
    let issued = engine.issue(new()).unwrap();
    for _ in 0..100 * 1024 {
        let _ = engine.verify(issued.token.expose()).unwrap();
    }
    let times = engine.metrics().unwrap().memory_times;
    // One in 1,024, and one in 4,096 where the notes of so many uses wait, since the thread
    // that takes them over gets no processor.
    assert!((99..=126).contains(&times.count()), "{times:?}");
    assert!(times.sum() > Duration::ZERO);
    // A thread that verifies seldom has one timed in each second.
    engine.flush().unwrap();
    for _ in 0..10 {
        clock.advance(Duration::from_secs(2));
        for _ in 0..3 {
            let _ = engine.verify(issued.token.expose()).unwrap();
        }
    }
    let more = engine.metrics().unwrap().memory_times;
    assert_eq!(more.count(), times.count() + 10);
}

#[test]
fn changes_commits_and_syncs_are_timed() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().usage_interval(None);
    let engine = options.create(dir.path().join("keys.redb")).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let before = engine.metrics().unwrap();
    assert_eq!(before.commits.count(), 1);
    assert_eq!(before.last_backup, None);
    let issued = engine.issue(new()).unwrap();
    // Refused: it waits, and commits nothing.
    assert!(
        engine
            .issue(NewKey::new("nowhere", "acme").unwrap())
            .is_err()
    );
    engine
        .update(issued.key.id, KeyUpdate::new().name("it"))
        .unwrap();
    let after = engine.metrics().unwrap();
    assert_eq!(after.commits.count(), 3);
    assert_eq!(after.queue_waits.count(), 4);
    assert_eq!(after.syncs.count(), before.syncs.count() + 4);
    assert!(after.syncs.sum() < after.commits.sum());
    assert_eq!(after.commits_failed, 0);
    let made = engine.backup(dir.path().join("copy.redb")).unwrap();
    assert_eq!(engine.metrics().unwrap().last_backup, Some(made.at));
    engine.close().unwrap();
}

#[test]
fn a_store_that_fails_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let options = Options::new()
        .usage_interval(None)
        .fail_closed_after(Duration::ZERO);
    let engine = options.create(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(
        engine
            .create_keyspace(NewKeyspace::new("acme_live").unwrap())
            .is_err()
    );
    assert!(engine.verify("nothing").is_err());
    assert!(engine.verify_many(&["a", "b"], &Requirements::new())[1].is_err());
    let metrics = engine.metrics().unwrap();
    assert_eq!((metrics.commits_failed, metrics.errors), (1, 3));
    let _ = engine.close();
}

#[test]
fn keys_that_end_soon_are_counted_until_they_end() {
    const DAY: Duration = Duration::from_secs(86_400);
    let (engine, clock) = engine(Options::new());
    let issue = |days| engine.issue(new().expires_in(days * DAY)).unwrap();
    for days in [3, 7, 8, 30, 31] {
        issue(days);
    }
    let gone = issue(5);
    engine.revoke(gone.key.id, Reason::Cessation).unwrap();
    let old = engine.issue(new()).unwrap();
    engine
        .rotate(old.key.id, Rotation::with_grace(2 * DAY))
        .unwrap();
    let expiring = || {
        let metrics = engine.metrics().unwrap();
        (metrics.expiring_7d, metrics.expiring_30d)
    };
    assert_eq!(expiring(), (3, 5));
    clock.advance(3 * DAY);
    assert_eq!(expiring(), (2, 4));
}

#[test]
fn the_oldest_use_that_is_not_written_is_told() {
    let (engine, clock) = engine(Options::new());
    let issued = engine.issue(new()).unwrap();
    let oldest = || engine.metrics().unwrap().oldest_unflushed;
    assert_eq!(oldest(), None);
    let _ = engine.verify(issued.token.expose()).unwrap();
    let minute: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(oldest(), Some(minute));
    clock.advance(Duration::from_secs(600));
    let _ = engine.verify(issued.token.expose()).unwrap();
    let metrics = engine.metrics().unwrap();
    assert_eq!(metrics.oldest_unflushed, Some(minute));
    assert_eq!(
        metrics.unflushed_for(engine.now()),
        Duration::from_secs(630)
    );
    engine.flush().unwrap();
    assert_eq!(oldest(), None);
}
