//! The log itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gatekey::fleet::{Appended, Beat, Entries, Log};
use gatekey_logkit::conformance::{self, entry};
use gatekey_postgres::{Config, PostgresLog};

use crate::server::{Postgres, succeed};

fn beat(log: &PostgresLog) -> gatekey::fleet::LogResult<gatekey::fleet::Beaten> {
    let node = "a".to_owned();
    log.beat(&Beat {
        node,
        position: 0,
        lease: Duration::from_secs(1),
        reads: Vec::new(),
    })
}

/// Of all logs in one database, by a role that may do no more than servers need.
#[test]
fn a_log_in_postgresql_keeps_every_promise_of_a_log() {
    let Some(postgres) = Postgres::start(&[]) else {
        return;
    };
    postgres.sql("CREATE ROLE servers LOGIN");
    // As the file of the schema says.
    let schema = include_str!("../../gatekey.sql");
    let grants = schema
        .lines()
        .filter_map(|line| line.strip_prefix("--   GRANT"));
    let grants: Vec<_> = grants.map(|grant| format!("GRANT{grant}")).collect();
    assert_eq!(grants.len(), 4);
    postgres.sql(&grants.join(" "));
    let config = Config::new(&postgres.address("servers", "disable")).unwrap();
    config.create_schema().unwrap_err();
    // What an entry was, nobody changes.
    let address = postgres.address("servers", "disable");
    let mut client = postgres::Client::connect(&address, postgres::NoTls).unwrap();
    for refused in [
        "UPDATE gatekey.log SET body = ''",
        "UPDATE gatekey.body SET body = ''",
        "DELETE FROM gatekey.head",
        "TRUNCATE gatekey.body",
        "DROP TABLE gatekey.body",
    ] {
        let error = client.batch_execute(refused).unwrap_err();
        let code = error.code().cloned();
        assert_eq!(
            code,
            Some(postgres::error::SqlState::INSUFFICIENT_PRIVILEGE),
            "{refused}"
        );
    }
    let count = AtomicU32::new(0);
    conformance::run(|| {
        let name = format!("log {}", count.fetch_add(1, Ordering::SeqCst));
        Arc::new(config.clone().open(&name).unwrap())
    });
    // Creating it again changes nothing.
    let before = postgres.sql("SELECT count(*), sum(position) FROM gatekey.head");
    postgres.config().create_schema().unwrap();
    assert_eq!(
        postgres.sql("SELECT count(*), sum(position) FROM gatekey.head"),
        before
    );
}

/// The tables of before there were bodies: what is small goes on.
#[test]
fn tables_of_an_older_version_are_migrated_by_creating_them_again() {
    let Some(postgres) = Postgres::start(&[]) else {
        return;
    };
    let log = postgres.config().open("keys").unwrap();
    assert!(log.found(&entry(3, 0)).unwrap());
    let head = beat(&log).unwrap().head;
    assert!(matches!(log.append(&head, &entry(3, 1)), Appended::Done));
    postgres.sql("DROP TABLE gatekey.body");
    let head = beat(&log).unwrap().head;
    assert!(matches!(log.append(&head, &entry(3, 2)), Appended::Done));
    let refused = [
        log.put_body(2, &[1; 16], 0, b"part").unwrap_err(),
        log.body(2, &[1; 16], 0).unwrap_err(),
        log.trim(1).unwrap_err(),
    ];
    for error in refused {
        let why = error.to_string();
        assert!(why.contains("create the schema again"), "{why}");
    }
    postgres.config().create_schema().unwrap();
    log.put_body(2, &[1; 16], 0, b"part").unwrap();
    assert_eq!(
        log.body(2, &[1; 16], 0).unwrap().as_deref(),
        Some(&b"part"[..])
    );
    log.trim(1).unwrap();
    assert_eq!(beat(&log).unwrap().head.position, 2);
    assert!(matches!(log.read(1, 9).unwrap(), Entries::Found(found) if found.len() == 1));
}

/// More than one statement deletes.
#[test]
fn a_trim_of_many_rows_removes_them_all_and_leaves_the_rest() {
    let Some(postgres) = Postgres::start(&[]) else {
        return;
    };
    let log = postgres.config().open("keys").unwrap();
    let other = postgres.config().open("other").unwrap();
    for log in [&log, &other] {
        assert!(log.found(&entry(3, 0)).unwrap());
    }
    for name in ["keys", "other"] {
        postgres.sql(&format!(
            "INSERT INTO gatekey.log SELECT '{name}', n, 'entry' FROM generate_series(1, 1500) AS n;
             INSERT INTO gatekey.body
                SELECT '{name}', n / 3, 'of an entry', n % 3, 'part' FROM generate_series(0, 4499) AS n;
             INSERT INTO gatekey.body
                SELECT '{name}', 7, 'of none', n, 'part' FROM generate_series(1, 1500) AS n;
             INSERT INTO gatekey.part
                SELECT '{name}', n / 700, n % 700, 'part' FROM generate_series(0, 2099) AS n;
             INSERT INTO gatekey.snapshot VALUES ('{name}', 0, 700), ('{name}', 1, 700), ('{name}', 2, 700);
             UPDATE gatekey.head SET position = 1500 WHERE store = '{name}'"
        ));
    }
    let counts = |name: &str| {
        let count = |table: &str, column: &str| {
            postgres.sql(&format!(
                "SELECT count(*), min({column}) FROM gatekey.{table} WHERE store = '{name}'"
            ))
        };
        [
            count("log", "position"),
            count("body", "after"),
            count("snapshot", "position"),
            count("part", "position"),
        ]
    };
    let before = counts("other");
    log.trim(1).unwrap();
    assert_eq!(counts("keys"), ["1499|2", "5997|1", "2|1", "1400|1"]);
    log.trim(1_200).unwrap();
    assert_eq!(counts("keys"), ["300|1201", "900|1200", "0|", "0|"]);
    assert_eq!(counts("other"), before);
    log.trim(9_999).unwrap();
    assert_eq!(counts("keys"), ["1|1500", "3|1499", "0|", "0|"]);
}

#[test]
fn a_database_that_does_not_answer_is_an_error_by_the_deadline_and_comes_back() {
    let Some(mut postgres) = Postgres::start(&[]) else {
        return;
    };
    let config = postgres.config().deadline(Duration::from_secs(2));
    let log = config.open("keys").unwrap();
    assert!(log.found(&entry(3, 0)).unwrap());
    let head = beat(&log).unwrap().head;
    // Connections that are open and say nothing.
    postgres.freeze(true);
    assert!(matches!(
        log.append(&head, &entry(3, 1)),
        Appended::Unknown(_)
    ));
    beat(&log).unwrap_err();
    log.read(0, 9).unwrap_err();
    log.wait(0, Duration::ZERO).unwrap_err();
    postgres.freeze(false);
    // What was sent may have landed: a fence says whether.
    let fenced = log.fence().unwrap();
    assert!(matches!(
        log.append(&head, &entry(3, 2)),
        Appended::Overtaken(_)
    ));
    assert!(matches!(log.append(&fenced, &entry(3, 3)), Appended::Done));
    // Connections that are gone.
    postgres.stop();
    assert!(matches!(
        log.append(&fenced, &entry(3, 4)),
        Appended::Unknown(_) | Appended::Failed(_)
    ));
    assert!(matches!(
        log.append(&fenced, &entry(3, 4)),
        Appended::Failed(_)
    ));
    beat(&log).unwrap_err();
    postgres.run(&[]);
    let back = beat(&log).unwrap().head;
    assert_eq!(back.position, fenced.position + 1);
    assert_eq!(back.fence, fenced.fence);
}

/// A standby reads and does not write: no heartbeat, no append.
#[test]
fn a_database_that_takes_no_writes_answers_no_heartbeat() {
    let Some(postgres) = Postgres::start(&[]) else {
        return;
    };
    let log = postgres.config().open("keys").unwrap();
    assert!(log.found(&entry(3, 0)).unwrap());
    let head = beat(&log).unwrap().head;
    postgres.sql("ALTER SYSTEM SET default_transaction_read_only = on");
    postgres.sql("SELECT pg_reload_conf()");
    let begun = std::time::Instant::now();
    while beat(&log).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    // What it says of others may be of before.
    assert!(log.read(0, 9).is_ok() && log.nodes().is_err());
    assert!(matches!(
        log.append(&head, &entry(3, 1)),
        Appended::Failed(_)
    ));
}

/// A commit whose wait for a standby was cancelled is acknowledged by the database with a
/// warning, and may be lost: that is not `Done`.
#[test]
fn a_commit_that_a_standby_may_not_have_is_unknown() {
    let Some(postgres) = Postgres::start(&[]) else {
        return;
    };
    let log = Arc::new(postgres.config().open("keys").unwrap());
    assert!(log.found(&entry(3, 0)).unwrap());
    let first = beat(&log).unwrap().head;
    // A standby that is never there.
    postgres.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    postgres.sql("SELECT pg_reload_conf()");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    // Until the setting has reached the database's processes, appends do not wait.
    let mut head = first;
    let appended = loop {
        let appends = std::thread::spawn({
            let log = log.clone();
            move || log.append(&head, &entry(3, 1))
        });
        while !appends.is_finished() && postgres.sql(waiting) == "0" {
            std::thread::sleep(Duration::from_millis(10));
        }
        postgres.sql(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
        );
        head.position += 1;
        head.seal = gatekey::fleet::Seal::new([1; 32]);
        match appends.join().unwrap() {
            Appended::Done => assert!(head.position < 10_000, "it never waits"),
            other => break other,
        }
    };
    assert!(matches!(appended, Appended::Unknown(_)), "{appended:?}");
    // A heartbeat waits for the standby too, and so is not answered. Nor is an append that is
    // overtaken by what the standby may not have: it would tell of it.
    let hasty = postgres.config().deadline(Duration::from_millis(500));
    let hasty = hasty.open("keys").unwrap();
    beat(&hasty).unwrap_err();
    let overtaken = hasty.append(&first, &entry(3, 1));
    assert!(matches!(overtaken, Appended::Failed(_)), "{overtaken:?}");
    postgres.sql("ALTER SYSTEM RESET synchronous_standby_names");
    postgres.sql("SELECT pg_reload_conf()");
    let begun = std::time::Instant::now();
    while log.fence().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    assert_eq!(beat(&log).unwrap().head.position, head.position);
    let overtaken = log.append(&first, &entry(3, 1));
    assert!(
        matches!(overtaken, Appended::Overtaken(now) if now.position == head.position),
        "{overtaken:?}"
    );
}

#[test]
fn tls_is_spoken_and_the_certificate_is_verified() {
    let Some(openssl) = gatekey_testkit::tools::find("openssl") else {
        return;
    };
    let Some(mut postgres) = Postgres::start(&[]) else {
        return;
    };
    let keys = tempfile::tempdir().unwrap();
    for name in ["server", "other"] {
        let at = |end: &str| keys.path().join(format!("{name}.{end}"));
        succeed(
            std::process::Command::new(&openssl)
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                ])
                .args([
                    "-days",
                    "2",
                    "-subj",
                    "/CN=gatekey",
                    "-addext",
                    "subjectAltName=IP:127.0.0.1",
                ])
                .args(["-addext", "basicConstraints=critical,CA:FALSE"])
                .arg("-keyout")
                .arg(at("key"))
                .arg("-out")
                .arg(at("crt")),
        );
    }
    let data = postgres.data();
    let owner = std::fs::metadata(&data).unwrap();
    for end in ["key", "crt"] {
        let to = data.join(format!("server.{end}"));
        std::fs::copy(keys.path().join(format!("server.{end}")), &to).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&to, mode).unwrap();
        let (uid, gid) = {
            use std::os::unix::fs::MetadataExt as _;
            (owner.uid(), owner.gid())
        };
        std::os::unix::fs::chown(&to, Some(uid), Some(gid)).unwrap();
    }
    postgres.stop();
    postgres.run(&["ssl=on"]);
    let with = |name: &str| {
        let pem = std::fs::read(keys.path().join(format!("{name}.crt"))).unwrap();
        let config = Config::new(&postgres.address("postgres", "require")).unwrap();
        config
            .root_certificates(&pem)
            .unwrap()
            .open("keys")
            .unwrap()
    };
    assert!(with("server").founding().unwrap().is_none());
    with("other").founding().unwrap_err();
    let system = Config::new(&postgres.address("postgres", "require")).unwrap();
    system.open("keys").unwrap().founding().unwrap_err();
}

#[test]
fn neither_an_error_nor_a_debug_text_shows_the_password() {
    let address = "postgres://gatekey:hunter2@127.0.0.1:1/gatekey?sslmode=disable";
    let config = Config::new(address).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let log = config
        .deadline(Duration::from_secs(1))
        .open("keys")
        .unwrap();
    let error = log.founding().unwrap_err();
    assert!(
        !format!("{log:?} {error} {error:?}").contains("hunter2"),
        "{error}"
    );
    let bad = Config::new("postgres://gatekey:hunter2@[::1/gatekey").unwrap_err();
    assert!(!bad.to_string().contains("hunter2"), "{bad}");
}

/// The client blocks on a runtime of its own, which panics within another: it has threads.
#[test]
fn a_log_is_used_inside_an_async_runtime() {
    let Some(postgres) = Postgres::start(&[]) else {
        return;
    };
    let log = postgres.config().open("keys").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        assert!(log.found(&entry(3, 0)).unwrap());
        assert_eq!(beat(&log).unwrap().head.position, 0);
        log.wait(0, Duration::from_millis(1)).unwrap();
        drop(log);
    });
}
