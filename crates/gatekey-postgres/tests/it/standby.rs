//! A database with a standby that takes over.

use std::sync::Arc;
use std::time::Duration;

use gatekey::fleet::{Appended, Beat, Freshness, Log as _, Settings};
use gatekey::{Engine, Error, Issued, NewKey, NewKeyspace, Options, Reason};
use gatekey_postgres::{Config, PostgresLog};
use gatekey_testkit::until;

use crate::fleet::options;
use crate::proxy::{Network, Proxy};
use crate::server::{Postgres, free_port};

fn log(ports: &[u16]) -> Arc<PostgresLog> {
    let hosts = vec!["127.0.0.1"; ports.len()].join(",");
    let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
    let address = format!(
        "host={hosts} port={} user=postgres dbname=postgres sslmode=disable",
        ports.join(",")
    );
    let config = Config::new(&address).unwrap();
    Arc::new(
        config
            .deadline(Duration::from_secs(2))
            .open("keys")
            .unwrap(),
    )
}

fn server(log: Arc<PostgresLog>, node: &str) -> Options {
    let settings = Settings::new(log, node);
    options().fleet(settings.freshness(Freshness::FailClosed(Duration::from_secs(3))))
}

pub(crate) fn issue(server: &Engine) -> gatekey::Result<Issued> {
    server.issue(NewKey::new("acme_live", "acme")?)
}

/// `None` where it may not say.
pub(crate) fn granted(server: &Engine, issued: &Issued) -> Option<bool> {
    match server.verify(issued.token.expose()) {
        Ok(verdict) => Some(verdict.is_granted()),
        Err(Error::NotFresh { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Two servers over a database and its standby, in a folder.
fn two(postgres: &Postgres, standby: &Postgres, dir: &std::path::Path) -> [Engine; 2] {
    let ports = [postgres.port(), standby.port()];
    let path = |name: &str| dir.join(name);
    options().create(path("a")).unwrap().close().unwrap();
    let one = server(log(&ports), "one").found_fleet(path("a")).unwrap();
    one.create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let two = server(log(&ports), "two").join_fleet(path("b")).unwrap();
    [one, two]
}

#[test]
fn a_synchronous_standby_takes_over_and_the_former_primary_answers_nothing() {
    let Some(mut postgres) = Postgres::start(&[]) else {
        return;
    };
    let standby = postgres.standby();
    postgres.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
    postgres.sql("SELECT pg_reload_conf()");
    let is_sync = "SELECT sync_state FROM pg_stat_replication";
    until("it is synchronous", || postgres.sql(is_sync) == "sync");
    let dir = tempfile::tempdir().unwrap();
    let servers = two(&postgres, &standby, dir.path());
    let ports = [postgres.port(), standby.port()];
    let issued: Vec<_> = (0..30).map(|at| issue(&servers[at % 2]).unwrap()).collect();
    servers[0]
        .revoke(issued[0].key.id, Reason::KeyCompromise)
        .unwrap();

    // In mid-append: what was acknowledged is there afterwards.
    let acknowledged = std::thread::scope(|scope| {
        let issues = scope.spawn(|| {
            let mut all = Vec::new();
            while let Ok(issued) = issue(&servers[1]) {
                all.push(issued);
            }
            all
        });
        std::thread::sleep(Duration::from_millis(150));
        postgres.stop();
        issues.join().unwrap()
    });
    standby.sql("SELECT pg_promote()");
    until("it takes changes", || issue(&servers[0]).is_ok());
    for server in &servers {
        until("it is fresh", || granted(server, &issued[1]) == Some(true));
        let all = issued.iter().skip(1).chain(&acknowledged);
        for issued in all {
            until("it has caught up", || granted(server, issued).is_some());
            assert_eq!(
                granted(server, issued),
                Some(true),
                "an acknowledged key is lost"
            );
        }
        assert_eq!(granted(server, &issued[0]), Some(false));
    }
    servers[0]
        .revoke(issued[1].key.id, Reason::KeyCompromise)
        .unwrap();
    assert_ne!(granted(&servers[1], &issued[1]), Some(true));

    // The former primary is back, and does not know: it takes connections and reads.
    postgres.run_without_schema(&[]);
    let former = log(&[postgres.port()]);
    until("it reads", || former.nodes().is_ok());
    former.beat(&beat()).unwrap_err();
    // By what it has, others would be gone that beat at the new one.
    former.nodes().unwrap_err();
    let head = former.fence();
    assert!(head.is_err(), "{head:?}");
    let ends = servers[0].fleet_status().unwrap().position;
    let of_new = log(&[standby.port()]).beat(&beat()).unwrap().head;
    assert!(of_new.position >= ends);
    // Nor is an append to it done, where it would fit.
    let last = postgres
        .sql("SELECT position FROM gatekey.head")
        .parse()
        .unwrap();
    let seal = postgres.sql("SELECT encode(seal, 'hex') FROM gatekey.head");
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&seal[2 * at..2 * at + 2], 16).unwrap();
    }
    let fence = postgres
        .sql("SELECT fence FROM gatekey.head")
        .parse()
        .unwrap();
    let head = gatekey::fleet::Head {
        position: last,
        seal: gatekey::fleet::Seal::new(bytes),
        fence,
    };
    let appended = former.append(&head, &gatekey_logkit::conformance::entry(3, 1));
    assert!(!matches!(appended, Appended::Done), "{appended:?}");
    // Whoever connects anew reaches it first, and leaves it where it waits in vain.
    let three = server(log(&ports), "three").join_fleet(dir.path().join("c"));
    let three = three.unwrap();
    until("it takes changes", || issue(&three).is_ok());
    postgres.stop();
    for server in servers.into_iter().chain([three]) {
        until("it takes changes", || issue(&server).is_ok());
        server.close().unwrap();
    }
}

fn beat() -> Beat {
    Beat {
        node: "lost".to_owned(),
        position: 0,
        lease: Duration::from_secs(1),
        reads: Vec::new(),
    }
}

#[test]
fn a_host_that_answers_no_more_is_left_for_the_next_by_all_connections() {
    let Some(postgres) = Postgres::start(&[]) else {
        return;
    };
    let hosts = [(); 2].map(|()| Proxy::before(postgres.port()));
    let log = log(&hosts.each_ref().map(|host| host.port));
    log.found(b"first").unwrap();
    log.beat(&beat()).unwrap();
    log.fence().unwrap();
    log.wait(0, Duration::ZERO).unwrap();
    hosts[0].set(Network::Silent);
    log.beat(&beat()).unwrap_err();
    // All that is asked next is asked of the one that is there.
    log.beat(&beat()).unwrap();
    log.fence().unwrap();
    // For longer than it goes without a question.
    log.wait(0, Duration::from_millis(1_500)).unwrap();
    // And back, for the other.
    hosts[0].set(Network::Open);
    hosts[1].set(Network::Silent);
    log.fence().unwrap_err();
    log.fence().unwrap();
    log.beat(&beat()).unwrap();
}

#[test]
fn a_host_that_takes_no_writes_any_more_is_left_for_the_next() {
    let (Some(one), Some(two)) = (Postgres::start(&[]), Postgres::start(&[])) else {
        return;
    };
    for postgres in [&one, &two] {
        log(&[postgres.port()]).found(b"first").unwrap();
    }
    let log = log(&[one.port(), two.port()]);
    let count = |postgres: &Postgres| postgres.sql("SELECT count(*) FROM gatekey.node");
    log.beat(&beat()).unwrap();
    assert_eq!((count(&one), count(&two)), ("1".to_owned(), "0".to_owned()));
    one.sql("ALTER SYSTEM SET default_transaction_read_only = on");
    one.sql("SELECT pg_reload_conf()");
    until("it takes no writes", || log.beat(&beat()).is_err());
    log.beat(&beat()).unwrap();
    assert_eq!(count(&two), "1");
    // One whose first host was never there keeps the connection that it has.
    let log = self::log(&[free_port(), two.port()]);
    let connections = || {
        two.sql(
            "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity
            WHERE application_name = 'gatekey'",
        )
    };
    log.beat(&beat()).unwrap();
    let before = connections();
    log.beat(&beat()).unwrap();
    assert_eq!(connections(), before);
}

/// An asynchronous standby lacks the end of the log: whoever has applied more says so and
/// grants nothing, and the guide's way out leads out.
#[test]
fn a_standby_that_lacks_the_end_of_the_log_is_noticed() {
    let Some(mut postgres) = Postgres::start(&[]) else {
        return;
    };
    let mut standby = postgres.standby();
    let dir = tempfile::tempdir().unwrap();
    let servers = two(&postgres, &standby, dir.path());
    let early = issue(&servers[0]).unwrap();
    let position = |server: &Engine| server.fleet_status().unwrap().position;
    let had = position(&servers[0]);
    let has = || standby.sql("SELECT max(position) FROM gatekey.log");
    until("the standby has it", || has() == had.to_string());
    // It is cut off, and the primary goes on.
    standby.stop();
    let late = issue(&servers[1]).unwrap();
    servers[0]
        .revoke(early.key.id, Reason::KeyCompromise)
        .unwrap();
    let ahead = position(&servers[0]);
    assert!(ahead >= had + 2);
    until("both have it", || {
        servers.iter().all(|server| position(server) == ahead)
    });
    postgres.stop();
    standby.run_without_schema(&[]);
    standby.sql("SELECT pg_promote()");
    for server in &servers {
        until("it notices", || {
            let error = server
                .fleet_status()
                .unwrap()
                .error
                .map(|error| error.to_string());
            error.is_some_and(|error| {
                error.contains(&format!("ends with {had}")) && error.contains(&ahead.to_string())
            })
        });
        for issued in [&early, &late] {
            until("it grants nothing", || granted(server, issued).is_none());
        }
        assert!(matches!(issue(server), Err(Error::Log(_))));
    }
    // As the guide says: one leaves, the log is emptied, and the fleet is founded anew.
    let [one, two] = servers;
    one.close().unwrap();
    two.close().unwrap();
    options()
        .leave_fleet(dir.path().join("a"))
        .unwrap()
        .close()
        .unwrap();
    standby.sql("TRUNCATE gatekey.head, gatekey.log, gatekey.node, gatekey.snapshot, gatekey.part");
    let anew = || log(&[postgres.port(), standby.port()]);
    let one = server(anew(), "one")
        .found_fleet(dir.path().join("a"))
        .unwrap();
    let two = server(anew(), "two")
        .join_fleet(dir.path().join("c"))
        .unwrap();
    for server in [&one, &two] {
        until("it is fresh", || granted(server, &late) == Some(true));
        assert_eq!(granted(server, &early), Some(false), "it stays revoked");
        assert!(server.check().unwrap().is_sound());
    }
    one.close().unwrap();
    two.close().unwrap();
}
