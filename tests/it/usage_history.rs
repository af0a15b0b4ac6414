//! How keys, owners and keyspaces were used, by the day and by the hour.

use std::time::Duration;

use gatekey::{
    Engine, Issued, ManualClock, NewKey, NewKeyspace, Options, Outcome, Reason, Timestamp, UsageBin,
};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn options(clock: &ManualClock) -> Options {
    Options::new()
        .usage_interval(1_000 * DAY)
        .clock(clock.clone())
}

fn started(options: Options) -> Engine {
    let engine = options.open_in_memory().unwrap();
    for prefix in ["acme_live", "other"] {
        engine
            .create_keyspace(NewKeyspace::new(prefix).unwrap())
            .unwrap();
    }
    engine
}

fn clock() -> ManualClock {
    ManualClock::at("2026-01-01T22:59:30Z".parse().unwrap())
}

fn issue(engine: &Engine, keyspace: &str, owner: &str) -> Issued {
    engine.issue(NewKey::new(keyspace, owner).unwrap()).unwrap()
}

fn verify(engine: &Engine, issued: &Issued, times: usize) {
    for _ in 0..times {
        let _ = engine.verify(issued.token.expose()).unwrap();
    }
}

/// When each bin begins, what was granted and what was denied.
fn shown(bins: &[UsageBin]) -> Vec<(String, u64, u64)> {
    bins.iter()
        .map(|bin| {
            let begins_at = bin.begins_at.to_string();
            (begins_at, bin.counts.granted(), bin.counts.denied())
        })
        .collect()
}

fn expected(bins: &[(&str, u64, u64)]) -> Vec<(String, u64, u64)> {
    bins.iter()
        .map(|(at, granted, denied)| ((*at).to_owned(), *granted, *denied))
        .collect()
}

fn of_key(engine: &Engine, issued: &Issued) -> Vec<UsageBin> {
    let all = (Timestamp::MIN, Timestamp::MAX);
    engine.usage_of_key(issued.key.id, all.0, all.1).unwrap()
}

fn of_owner(engine: &Engine, owner: &str) -> Vec<UsageBin> {
    let all = (Timestamp::MIN, Timestamp::MAX);
    engine.usage_of_owner(owner, all.0, all.1).unwrap()
}

fn of_keyspace(engine: &Engine, keyspace: Option<&str>) -> Vec<UsageBin> {
    let keyspace = keyspace.map(|prefix| prefix.parse().unwrap());
    let all = (Timestamp::MIN, Timestamp::MAX);
    engine.usage_of_keyspace(keyspace, all.0, all.1).unwrap()
}

#[test]
fn each_use_and_denial_is_in_its_day_and_its_hour_and_stays_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let clock = clock();
    let engine = options(&clock).create(&path).unwrap();
    for prefix in ["acme_live", "other"] {
        engine
            .create_keyspace(NewKeyspace::new(prefix).unwrap())
            .unwrap();
    }
    let first = issue(&engine, "acme_live", "acme/ingest");
    let second = issue(&engine, "acme_live", "acme/ingest/etl");
    let elsewhere = issue(&engine, "other", "acme-x");
    verify(&engine, &first, 2);
    clock.advance(HOUR);
    verify(&engine, &first, 3);
    verify(&engine, &second, 1);
    verify(&engine, &elsewhere, 1);
    engine.disable(second.key.id).unwrap();
    // Of two days, and not yet written.
    clock.advance(HOUR);
    verify(&engine, &second, 4);
    engine.verify("nothing").unwrap().into_result().unwrap_err();
    engine.flush().unwrap();
    verify(&engine, &first, 1);
    engine.close().unwrap();

    let engine = options(&clock).open(&path).unwrap();
    let days = expected(&[
        ("2026-01-01T00:00:00Z", 5, 0),
        ("2026-01-02T00:00:00Z", 1, 0),
    ]);
    assert_eq!(shown(&of_key(&engine, &first)), days);
    let denied = of_key(&engine, &second);
    let days = expected(&[
        ("2026-01-01T00:00:00Z", 1, 0),
        ("2026-01-02T00:00:00Z", 0, 4),
    ]);
    assert_eq!(shown(&denied), days);
    assert_eq!(denied[1].counts.get(Outcome::Disabled), 4);
    let days = expected(&[
        ("2026-01-01T00:00:00Z", 6, 0),
        ("2026-01-02T00:00:00Z", 1, 4),
    ]);
    assert_eq!(shown(&of_owner(&engine, "acme")), days);
    assert_eq!(shown(&of_owner(&engine, "acme/ingest")), days);
    assert_eq!(of_owner(&engine, "acme/ingest/etl"), denied);
    assert!(of_owner(&engine, "acme/in").is_empty());
    assert_eq!(of_owner(&engine, "acme-x").len(), 1);
    let hours = expected(&[
        ("2026-01-01T22:00:00Z", 2, 0),
        ("2026-01-01T23:00:00Z", 4, 0),
        ("2026-01-02T00:00:00Z", 1, 4),
    ]);
    assert_eq!(shown(&of_keyspace(&engine, Some("acme_live"))), hours);
    assert_eq!(of_keyspace(&engine, Some("other")).len(), 1);
    let nobodys = of_keyspace(&engine, None);
    assert_eq!(shown(&nobodys), expected(&[("2026-01-02T00:00:00Z", 0, 1)]));
    assert_eq!(nobodys[0].counts.get(Outcome::Malformed), 1);
    let (from, to) = ("2026-01-01T22:30:00Z", "2026-01-02T00:00:00Z");
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    let acme = Some("acme_live".parse().unwrap());
    let within = engine.usage_of_keyspace(acme, from, to).unwrap();
    assert_eq!(shown(&within), hours[1..2]);
    assert!(
        engine
            .usage_of_key(first.key.id, from, to)
            .unwrap()
            .is_empty()
    );
    assert!(engine.check().unwrap().is_sound());
    let copy = dir.path().join("copy.redb");
    assert_eq!(engine.backup(&copy).unwrap().damaged_total, 0);
    engine.close().unwrap();
    let engine = options(&clock).open(&copy).unwrap();
    assert_eq!(shown(&of_keyspace(&engine, Some("acme_live"))), hours);
    assert!(engine.check().unwrap().is_sound());
    engine.close().unwrap();
}

#[test]
fn what_is_older_than_it_is_kept_goes_with_the_next_flush() {
    let clock = clock();
    let engine = started(options(&clock));
    let key = issue(&engine, "acme_live", "acme");
    verify(&engine, &key, 1);
    engine.flush().unwrap();
    clock.advance(90 * DAY);
    verify(&engine, &key, 2);
    engine.flush().unwrap();
    assert_eq!(
        (of_key(&engine, &key).len(), of_owner(&engine, "acme").len()),
        (2, 2)
    );
    clock.advance(DAY);
    verify(&engine, &key, 3);
    engine.flush().unwrap();
    let days = of_key(&engine, &key);
    assert_eq!(
        days.iter()
            .map(|day| day.counts.granted())
            .collect::<Vec<_>>(),
        [2, 3]
    );
    assert_eq!(of_owner(&engine, "acme"), days);
    assert_eq!(of_keyspace(&engine, Some("acme_live")).len(), 3);
    clock.advance(309 * DAY + HOUR);
    verify(&engine, &key, 4);
    engine.flush().unwrap();
    assert_eq!(of_keyspace(&engine, Some("acme_live")).len(), 3);
    assert!(engine.check().unwrap().is_sound());
}

#[test]
fn the_history_keeps_to_its_bytes_and_gives_up_days_of_keys_first() {
    let clock = clock();
    let bytes_max = 4_000;
    let engine = started(options(&clock).usage_history_bytes(bytes_max));
    let keys: Vec<_> = (0..10)
        .map(|at| issue(&engine, "acme_live", &format!("acme/team-{at}")))
        .collect();
    let mut full = false;
    for _ in 0..30 {
        for key in &keys {
            verify(&engine, key, 1);
        }
        engine.flush().unwrap();
        let metrics = engine.metrics().unwrap();
        assert!(metrics.history_bytes < bytes_max + 100, "{metrics:?}");
        full |= metrics.history_bytes > bytes_max - 100;
        assert_eq!(metrics.history_skipped, 0);
        clock.advance(DAY);
    }
    assert!(full);
    let days = |key| of_key(&engine, key).len();
    assert_eq!(days(&keys[0]), 1);
    let of_owner = of_owner(&engine, "acme/team-3").len();
    assert!((5..10).contains(&of_owner), "{of_owner}");
    assert_eq!(of_keyspace(&engine, Some("acme_live")).len(), 30);
    assert!(engine.check().unwrap().is_sound());
}

#[test]
fn where_a_day_alone_is_too_much_what_has_no_row_is_counted_and_keyspaces_have_all() {
    let clock = clock();
    let engine = started(options(&clock).usage_history_bytes(600));
    let keys: Vec<_> = (0..20)
        .map(|at| issue(&engine, "acme_live", &format!("acme/team-{at}")))
        .collect();
    for key in &keys {
        verify(&engine, key, 1);
    }
    engine.flush().unwrap();
    let metrics = engine.metrics().unwrap();
    let rows = |key: &Issued| of_key(&engine, key).len();
    let of_keys: usize = keys.iter().map(rows).sum();
    let of_owners: usize = (0..20)
        .map(|at| of_owner(&engine, &format!("acme/team-{at}")).len())
        .sum();
    assert_eq!(metrics.history_skipped, 40 - (of_keys + of_owners) as u64);
    assert!(metrics.history_skipped > 0 && of_owners > 0);
    assert!(metrics.history_bytes < 700);
    assert_eq!(
        of_keyspace(&engine, Some("acme_live"))[0].counts.granted(),
        20
    );
    // Usage itself lacks nothing.
    assert!(
        keys.iter()
            .all(|key| engine.key(key.key.id).unwrap().usage.count == 1)
    );
}

#[test]
fn of_a_key_that_is_purged_the_history_stays_and_gets_no_more() {
    let clock = clock();
    let engine = started(options(&clock));
    let key = issue(&engine, "acme_live", "acme");
    verify(&engine, &key, 2);
    engine.flush().unwrap();
    verify(&engine, &key, 3);
    engine.revoke(key.key.id, Reason::Cessation).unwrap();
    clock.advance(HOUR);
    engine.purge(Duration::ZERO).unwrap();
    engine.flush().unwrap();
    assert_eq!(of_key(&engine, &key)[0].counts.total(), 2);
    assert_eq!(of_keyspace(&engine, Some("acme_live"))[0].counts.total(), 2);
    assert!(engine.check().unwrap().is_sound());
}
