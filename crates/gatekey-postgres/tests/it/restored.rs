//! A database that is replaced by a base backup of before, while its servers run; and backups
//! of a fleet's file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gatekey::fleet::{Freshness, Settings};
use gatekey::{Engine, Error, Issued, NewKeyspace, Options, Reason, Restore};
use gatekey_testkit::until;

use crate::fleet::options;
use crate::server::Postgres;
use crate::standby::{granted, issue};

/// What empties a log, as the owner of the tables.
const EMPTY: &str = "TRUNCATE gatekey.head, gatekey.log, gatekey.body, gatekey.node,
    gatekey.snapshot, gatekey.part";

fn server(postgres: &Postgres, node: usize) -> Options {
    let config = postgres.config().deadline(Duration::from_secs(2));
    let log = Arc::new(config.open("keys").unwrap());
    let settings = Settings::new(log, format!("server-{node}"));
    options().fleet(settings.freshness(Freshness::FailClosed(Duration::from_secs(2))))
}

fn position(server: &Engine) -> u64 {
    server.fleet_status().unwrap().position
}

fn says(server: &Engine, all: &[&str]) -> bool {
    let error = server.fleet_status().unwrap().error;
    let error = error.map(|error| error.to_string()).unwrap_or_default();
    all.iter().all(|it| error.contains(it))
}

/// Each server says so, and neither grants nor denies, nor makes changes.
fn is_noticed(servers: &[Engine], keys: &[&Issued], says_all: &[&str]) {
    for server in servers {
        until("it says so", || says(server, says_all));
        for key in keys {
            assert_eq!(granted(server, key), None);
        }
        assert!(matches!(issue(server), Err(Error::Log(_))));
        let refused = server.revoke(keys[0].key.id, Reason::KeyCompromise);
        assert!(matches!(refused, Err(Error::Log(_))), "{refused:?}");
        let why = server
            .verify(keys[0].token.expose())
            .unwrap_err()
            .to_string();
        assert!(says_all.iter().all(|it| why.contains(it)), "{why}");
    }
}

/// All are well: what was revoked is denied, and what was good is granted.
fn are_well(servers: &[Engine], revoked: &Issued, good: &Issued) {
    for server in servers {
        until("it is fresh", || granted(server, good) == Some(true));
        assert_eq!(granted(server, revoked), Some(false), "it stays revoked");
    }
    for server in servers {
        until("it takes changes", || issue(server).is_ok());
    }
    until("all have applied everything", || {
        servers
            .iter()
            .all(|it| position(it) == position(&servers[0]))
    });
    for server in servers {
        assert!(server.check().unwrap().is_sound());
    }
}

fn close(servers: Vec<Engine>) {
    servers
        .into_iter()
        .for_each(|server| server.close().unwrap());
}

fn join(postgres: &Postgres, dir: &Path, nodes: impl Iterator<Item = usize>) -> Vec<Engine> {
    nodes
        .map(|node| {
            let path = dir.join(format!("{node}.redb"));
            server(postgres, node).join_fleet(path).unwrap()
        })
        .collect()
}

#[test]
fn a_database_that_is_restored_to_yesterday_is_noticed_and_both_ways_lead_out() {
    let Some(mut today) = Postgres::start(&[]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |node: usize| dir.path().join(format!("{node}.redb"));
    options().create(path(0)).unwrap().close().unwrap();
    let mut servers = vec![server(&today, 0).found_fleet(path(0)).unwrap()];
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    servers[0].create_keyspace(keyspace).unwrap();
    servers.extend(join(&today, dir.path(), 1..3));
    let early = issue(&servers[0]).unwrap();
    let had = position(&servers[0]);
    let mut yesterday = today.copy(today.port());

    // It goes on.
    let late = issue(&servers[1]).unwrap();
    let revoked = servers[2].revoke(early.key.id, Reason::KeyCompromise);
    revoked.unwrap();
    let ahead = position(&servers[2]);
    assert!(ahead >= had + 2);
    until("all have it", || {
        servers.iter().all(|it| position(it) == ahead)
    });
    let both = [format!("ends with {had}"), format!("has applied {ahead}")];
    let both = [&*both[0], &both[1]];

    // Replaced by what it was, at the same address.
    today.stop();
    yesterday.run_without_schema(&[]);
    is_noticed(&servers, &[&early, &late], &both);
    let ends = "SELECT position FROM gatekey.head";
    assert_eq!(
        yesterday.sql(ends),
        had.to_string(),
        "nobody has changed it"
    );

    // The first way out: the newer database is brought back.
    yesterday.stop();
    today.run_without_schema(&[]);
    are_well(&servers, &early, &late);
    let ahead = position(&servers[0]);

    // Again; and a server that knows nothing of it joins, until the log is longer than before.
    today.stop();
    yesterday.run_without_schema(&[]);
    let both = [format!("ends with {had}"), format!("has applied {ahead}")];
    is_noticed(&servers, &[&early, &late], &[&*both[0], &both[1]]);
    let newcomer = join(&yesterday, dir.path(), 3..4);
    until("it grants by the older state", || {
        granted(&newcomer[0], &early) == Some(true)
    });
    while position(&newcomer[0]) <= ahead + 2 {
        issue(&newcomer[0]).unwrap();
    }
    is_noticed(&servers, &[&early, &late], &["another history"]);

    // The second: one leaves with its file, and the fleet is founded anew.
    close(newcomer);
    close(servers);
    options().leave_fleet(path(0)).unwrap().close().unwrap();
    yesterday.sql(EMPTY);
    let mut servers = vec![server(&yesterday, 0).found_fleet(path(0)).unwrap()];
    for node in 1..4 {
        std::fs::remove_file(path(node)).unwrap();
    }
    servers.extend(join(&yesterday, dir.path(), 1..4));
    are_well(&servers, &early, &late);
    close(servers);
}

/// What docs/RESTORE.md says of servers of a fleet.
#[test]
fn a_backup_of_a_fleet_catches_up_with_the_log_or_is_restored_and_founds_it_anew() {
    let Some(postgres) = Postgres::start(&[]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    options().create(path("0.redb")).unwrap().close().unwrap();
    let first = server(&postgres, 0).found_fleet(path("0.redb")).unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    first.create_keyspace(keyspace).unwrap();
    let (revoked, good) = (issue(&first).unwrap(), issue(&first).unwrap());
    let backup = path("backup");
    let after = first.backup(&backup).unwrap().audit_seq;
    first.revoke(revoked.key.id, Reason::KeyCompromise).unwrap();

    // In the place of a server's file.
    std::fs::copy(&backup, path("1.redb")).unwrap();
    let second = server(&postgres, 1).open(path("1.redb")).unwrap();
    until("it is fresh", || granted(&second, &good).is_some());
    assert_eq!(granted(&second, &revoked), Some(false), "it stays revoked");
    let mut trail = Vec::new();
    second.export_audit(after + 1, &mut trail).unwrap();
    // One that lacks what was trimmed away: of entries, the last is always left.
    issue(&first).unwrap();
    let put = first.put_fleet_snapshot().unwrap();
    first.trim_fleet_log(put.position).unwrap();
    std::fs::copy(&backup, path("2.redb")).unwrap();
    let behind = server(&postgres, 2).open(path("2.redb")).unwrap();
    until("it says so", || says(&behind, &["remove its file", "join"]));
    assert_eq!(granted(&behind, &revoked), None);

    // The log is lost, and all files.
    close(vec![first, second, behind]);
    std::fs::copy(&backup, path("copy")).unwrap();
    let restore = |from: &str| {
        let restore = Restore::new(path(from), options()).trail(&trail[..]);
        restore.to(path("restored"))
    };
    let refused = restore("copy").unwrap_err();
    assert!(refused.to_string().contains("fleet"), "{refused}");
    options()
        .leave_fleet(path("copy"))
        .unwrap()
        .close()
        .unwrap();
    assert_eq!(restore("copy").unwrap().revoked, 1);
    let found = || server(&postgres, 0).found_fleet(path("restored"));
    found().unwrap_err();
    postgres.sql(EMPTY);
    let anew = found().unwrap();
    server(&postgres, 1).join_fleet(path("1.redb")).unwrap_err();
    let joined = server(&postgres, 1).join_fleet(path("3.redb")).unwrap();
    are_well(&[anew.clone(), joined.clone()], &revoked, &good);
    close(vec![anew, joined]);
}
