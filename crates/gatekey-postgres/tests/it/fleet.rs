//! Servers over a log in PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use gatekey::fleet::{Freshness, Settings};
use gatekey::{Engine, Error, NewKey, NewKeyspace, Options, Pepper, Reason};
use gatekey_testkit::until;

use crate::server::Postgres;

const LEASE: Duration = Duration::from_secs(2);

pub(crate) fn options() -> Options {
    let pepper = Pepper::new(1, b"32 bytes from a secret manager..").unwrap();
    Options::new().pepper(pepper).usage_interval(None)
}

fn servers(postgres: &Postgres, dir: &std::path::Path, count: usize) -> Vec<Engine> {
    let path = |node: usize| dir.join(format!("{node}.redb"));
    options().create(path(0)).unwrap().close().unwrap();
    let server = |node: usize| {
        let log = postgres
            .config()
            .deadline(Duration::from_secs(3))
            .open("keys")
            .unwrap();
        let settings = Settings::new(Arc::new(log), format!("server-{node}"))
            .freshness(Freshness::FailClosed(LEASE));
        let options = options().fleet(settings);
        match node {
            0 => options.found_fleet(path(0)).unwrap(),
            _ => options.join_fleet(path(node)).unwrap(),
        }
    };
    let servers: Vec<_> = (0..count).map(server).collect();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    servers[0].create_keyspace(keyspace).unwrap();
    servers
}

#[test]
fn servers_share_keys_over_postgresql_and_fail_closed_without_it() {
    let Some(mut postgres) = Postgres::start(&[]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let servers = servers(&postgres, dir.path(), 3);
    let issue = |node: usize| servers[node].issue(NewKey::new("acme_live", "acme").unwrap());

    // Changes of all at once.
    std::thread::scope(|scope| {
        for node in 0..3 {
            let issue = &issue;
            scope.spawn(move || (0..20).for_each(|_| drop(issue(node).unwrap())));
        }
    });
    let issued = issue(1).unwrap();
    let granted = |node: usize| match servers[node].verify(issued.token.expose()) {
        Ok(verdict) => Some(verdict.is_granted()),
        Err(Error::NotFresh { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    (0..3).for_each(|node| until("it grants", || granted(node) == Some(true)));

    // The database is gone for longer than the lease.
    postgres.stop();
    let refused = issue(0).unwrap_err();
    assert!(
        matches!(refused, Error::Log(_) | Error::OutcomeUnknown(_)),
        "{refused}"
    );
    (0..3).for_each(|node| until("it fails closed", || granted(node).is_none()));
    postgres.run(&[]);
    (0..3).for_each(|node| until("it grants again", || granted(node) == Some(true)));

    // Denied everywhere at the return.
    until("it takes changes", || issue(0).is_ok());
    servers[2]
        .revoke(issued.key.id, Reason::KeyCompromise)
        .unwrap();
    for node in 0..3 {
        assert_ne!(granted(node), Some(true), "server {node}");
    }
    let all = servers[0].fleet_servers().unwrap();
    assert_eq!(all.len(), 3);
    for engine in &servers {
        assert!(engine.check().unwrap().is_sound());
    }
    servers
        .into_iter()
        .for_each(|engine| engine.close().unwrap());
}

/// A part that was changed in the database is refused, and the right bytes mend it.
#[test]
fn a_large_change_is_on_all_servers_and_a_changed_part_of_it_on_none() {
    let Some(postgres) = Postgres::start(&[]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut servers = servers(&postgres, dir.path(), 3);
    let many = |owner: &str| {
        let new = NewKey::new("acme_live", owner).unwrap();
        vec![new.description("x".repeat(1_000)); 1_200]
    };
    let is_granted = |engine: &Engine, issued: &gatekey::Issued| {
        let verdict = engine.verify(issued.token.expose());
        verdict.is_ok_and(|verdict| verdict.is_granted())
    };
    let issued = servers[0].issue_batch(many("acme")).unwrap();
    for engine in &servers {
        until("it is granted", || is_granted(engine, &issued[1_199]));
        assert!(issued.iter().all(|key| is_granted(engine, key)));
    }
    let parts =
        "SELECT count(DISTINCT id), count(*) > 1, max(octet_length(body)) FROM gatekey.body";
    assert_eq!(postgres.sql(parts), "1|t|1048576");

    // Of a second one, for a server that is away.
    let away = servers.pop().unwrap();
    away.close().unwrap();
    let issued = servers[0].issue_batch(many("acme/etl")).unwrap();
    let before = postgres.sql("SELECT max(after) FROM gatekey.body");
    let flip = "UPDATE gatekey.body SET body = set_byte(body, 70000, get_byte(body, 70000) # 1)
        WHERE after = (SELECT max(after) FROM gatekey.body) AND part = 1";
    postgres.sql(flip);
    let log = postgres.config().open("keys").unwrap();
    let settings = Settings::new(Arc::new(log), "server-2");
    let settings = settings.freshness(Freshness::FailClosed(LEASE));
    let back = options().fleet(settings).open(dir.path().join("2.redb"));
    let back = back.unwrap();
    until("it says why", || {
        let answer = back.verify(issued[0].token.expose());
        let why = answer.err().map(|why| why.to_string());
        why.is_some_and(|why| why.contains("its body was changed"))
    });
    let position = back.fleet_status().unwrap().position;
    assert_eq!(position.to_string(), before);
    postgres.sql(flip);
    until("it is granted", || is_granted(&back, &issued[0]));
    assert!(issued.iter().all(|key| is_granted(&back, key)));
    for engine in servers.into_iter().chain([back]) {
        assert!(engine.check().unwrap().is_sound());
        engine.close().unwrap();
    }
}
