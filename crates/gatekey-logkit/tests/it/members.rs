//! Founding, joining, leaving, snapshots and trims.

use gatekey::fleet::{Log, MemoryLog, Settings};
use gatekey::{Error, NewKeyspace, OpenError, Options, Pepper};
use std::sync::Arc;
use std::time::Duration;

use crate::common::{LONG, Servers, granted, options, position, settings, until};

fn reason(result: gatekey::Result<gatekey::Engine>) -> OpenError {
    match result.unwrap_err() {
        Error::Open { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn a_file_of_a_fleet_opens_with_its_log_alone() {
    let mut servers = Servers::new(1, LONG);
    let path = servers.path(0);
    let issued = servers.issue(0, "acme").unwrap();
    servers.engines.pop().unwrap().close().unwrap();

    assert!(matches!(reason(options().open(&path)), OpenError::InFleet));
    let other = Arc::new(MemoryLog::new());
    let with_other = || options().fleet(settings(other.clone(), 0, LONG));
    assert!(matches!(
        reason(with_other().open(&path)),
        OpenError::NotInFleet
    ));
    // Another fleet's log does not take it in, nor does its own path.
    let alone = servers.path(7);
    options().create(&alone).unwrap().close().unwrap();
    with_other().found_fleet(&alone).unwrap().close().unwrap();
    assert!(matches!(
        reason(with_other().open(&path)),
        OpenError::NotInFleet
    ));
    assert!(matches!(
        reason(with_other().found_fleet(&path)),
        OpenError::NotInFleet
    ));

    let left = options().leave_fleet(&path).unwrap();
    assert_eq!(granted(&left, &issued), Some(true));
    left.create_keyspace(NewKeyspace::new("own_live").unwrap())
        .unwrap();
    left.close().unwrap();
    options().open(&path).unwrap().close().unwrap();
}

#[test]
fn a_fleet_needs_a_pepper_and_the_right_one() {
    let servers = Servers::new(1, LONG);
    let path = servers.path(1);
    let without = Options::new().fleet(settings(servers.log.clone(), 1, LONG));
    assert!(matches!(
        reason(without.join_fleet(&path)),
        OpenError::Options(_)
    ));
    let other = Pepper::new(1, b"32 bytes, and not the right ones").unwrap();
    let wrong = Options::new()
        .pepper(other)
        .fleet(settings(servers.log.clone(), 1, LONG));
    assert!(matches!(
        reason(wrong.join_fleet(&path)),
        OpenError::WrongPepper { id: 1 }
    ));
    // What was refused leaves nothing.
    let names: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    servers.close_equal();
}

#[test]
fn a_server_joins_by_a_snapshot_after_the_log_was_trimmed() {
    let mut servers = Servers::new(2, LONG);
    let old = servers.issue(0, "acme").unwrap();
    servers.settle();
    let behind = servers.engines.pop().unwrap();
    let behind_at = position(&behind);
    behind.close().unwrap();
    for _ in 0..10 {
        servers.issue(0, "acme").unwrap();
    }
    let snapshot = servers.engines[0].put_fleet_snapshot().unwrap();
    assert_eq!(snapshot.position, behind_at + 10);
    let late = servers.issue(0, "acme").unwrap();
    servers.engines[0].trim_fleet_log(u64::MAX).unwrap();
    let snapshots = servers.log.snapshots().unwrap();
    assert_eq!(snapshots, [snapshot]);

    let join = |node: usize| {
        let settings = settings(servers.log.clone(), node, LONG);
        options()
            .fleet(settings)
            .join_fleet(servers.path(node))
            .unwrap()
    };
    let joined = join(5);
    for issued in [&old, &late] {
        assert_eq!(granted(&joined, issued), Some(true));
    }
    // One that is behind the floor says so, and grants nothing.
    let lost = join(1);
    assert_eq!(granted(&lost, &old), None);
    let error = lost.fleet_status().unwrap().error.unwrap().to_string();
    assert!(error.contains("join the fleet again"), "{error}");
    // What it has heard of, and has not applied.
    let status = lost.fleet_status().unwrap();
    assert_eq!((status.position, status.behind()), (behind_at, 11));
    lost.close().unwrap();
    std::fs::remove_file(servers.path(1)).unwrap();
    let again = join(1);
    until("it grants", || granted(&again, &late) == Some(true));
    servers.engines.extend([joined, again]);
    servers.close_equal();
}

/// The place of a snapshot is that of the state in it, also while others change it.
#[test]
fn a_snapshot_is_of_one_position() {
    let servers = Servers::new(2, LONG);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                servers.issue(0, "acme").unwrap();
            }
        });
        for node in 10..16 {
            servers.engines[1].put_fleet_snapshot().unwrap();
            let settings = settings(servers.log.clone(), node, LONG);
            let joined = options()
                .fleet(settings)
                .join_fleet(servers.path(node))
                .unwrap();
            until("it catches up", || joined.fleet_status().unwrap().is_fresh);
            assert!(joined.check().unwrap().is_sound());
            joined.close().unwrap();
        }
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    servers.close_equal();
}

#[test]
fn a_server_that_was_away_catches_up_as_it_opens() {
    let mut servers = Servers::new(2, LONG);
    servers.engines.pop().unwrap().close().unwrap();
    let issued: Vec<_> = (0..700)
        .map(|_| servers.issue(0, "acme").unwrap())
        .collect();
    let settings = settings(servers.log.clone(), 1, LONG);
    let back = options().fleet(settings).open(servers.path(1)).unwrap();
    assert!(issued.iter().all(|it| granted(&back, it) == Some(true)));
    servers.engines.push(back);
    servers.close_equal();
}

#[test]
fn names_of_servers_and_leases_have_bounds() {
    let log = || Arc::new(MemoryLog::new());
    let refused = [
        Settings::new(log(), ""),
        Settings::new(log(), "x".repeat(65)),
        settings(log(), 1, Duration::from_millis(99)),
    ];
    for settings in refused {
        let path = std::env::temp_dir().join("gatekey-none");
        let opened = options().fleet(settings).open(&path);
        assert!(matches!(reason(opened), OpenError::Options(_)));
    }
}

#[test]
fn a_server_does_not_repair_its_file_for_all() {
    let servers = Servers::new(2, LONG);
    servers.settle();
    let before = position(&servers.engines[0]);
    assert!(matches!(servers.engines[0].repair(), Err(Error::Log(_))));
    assert_eq!(position(&servers.engines[0]), before);
    servers.close_equal();
}

/// Otherwise calls that take access away would not wait for the one that came.
#[test]
fn a_server_that_leaves_is_forgotten_before_another_can_open_its_file() {
    let mut servers = Servers::new(2, LONG);
    let leaving = servers.engines.pop().unwrap();
    servers.logs[1].delay(Duration::from_millis(200));
    let come = || {
        let options = options().fleet(settings(servers.log.clone(), 1, LONG));
        options.join_fleet(servers.path(1)).ok()
    };
    let came = std::thread::scope(|scope| {
        let closing = scope.spawn(|| leaving.close().unwrap());
        let mut came = None;
        until("the file is free", || {
            came = came.take().or_else(come);
            came.is_some()
        });
        closing.join().unwrap();
        came.unwrap()
    });
    let nodes = servers.log.nodes().unwrap();
    assert!(
        nodes.iter().any(|it| it.beat.node == "server-1"),
        "{nodes:?}"
    );
    servers.engines.push(came);
    servers.close_equal();
}
