//! Uses that are counted on several servers, and keys that one of them removes.

use std::time::Duration;

use gatekey::fleet::Appended;
use gatekey::{Error, Issued, NewKey, Reason, Verdict};
use gatekey_logkit::LostAppend;

use crate::common::{Servers, granted, keys_of, until};

const LEASE: Duration = Duration::from_millis(600);
const SERVERS: usize = 3;

fn servers() -> Servers {
    let day = Duration::from_secs(86_400);
    let options = |options: gatekey::Options| options.usage_interval(day);
    Servers::with(SERVERS, LEASE, options, |settings| settings)
}

/// Uses each key on a server, as often as its place says.
fn use_all(servers: &Servers, node: usize, keys: &[Issued]) -> Vec<u64> {
    let engine = &servers.engines[node];
    until("it is fresh", || engine.verify("no token").is_ok());
    let mut used = vec![0; keys.len()];
    for (at, issued) in keys.iter().enumerate() {
        for _ in 0..1 + at + node {
            used[at] += u64::from(granted(engine, issued) == Some(true));
        }
    }
    used
}

/// What every server tells of how often each key was used.
fn told(servers: &Servers, keys: &[Issued]) -> Vec<u64> {
    servers.settle();
    let count = |engine| -> Vec<u64> {
        let all = keys_of(engine);
        let of = |issued: &Issued| all.iter().find(|key| key.id == issued.key.id).unwrap();
        keys.iter().map(|issued| of(issued).usage.count).collect()
    };
    let told = count(&servers.engines[0]);
    for engine in &servers.engines {
        assert_eq!(count(engine), told);
    }
    told
}

#[test]
fn uses_on_all_servers_are_counted_once_whatever_answers_are_lost() {
    let servers = servers();
    let keys: Vec<Issued> = (0..4).map(|_| servers.issue(0, "acme").unwrap()).collect();
    servers.settle();
    let mut expected = vec![0; keys.len()];
    let lost = [
        LostAppend::Before,
        LostAppend::After,
        LostAppend::Late,
        LostAppend::Overdue,
    ];
    let lost = [(None, false)].into_iter().chain(
        [false, true]
            .into_iter()
            .flat_map(|cuts| lost.map(|lost| (Some(lost), cuts))),
    );
    for (round, (lost, cuts)) in lost.enumerate() {
        for node in 0..SERVERS {
            let used = use_all(&servers, node, &keys);
            assert!(used.iter().sum::<u64>() > 0);
            let sums = expected.iter_mut().zip(&used);
            sums.for_each(|(sum, used)| *sum += used);
        }
        let fails = round % SERVERS;
        // It knows the newest fence then: where the answer is lost, the uses are in the log.
        servers.issue(fails, "acme").unwrap();
        match (lost, cuts) {
            (None, _) => {}
            (Some(lost), false) => servers.logs[fails].lose(lost),
            (Some(lost), true) => servers.logs[fails].lose_and_cut(lost),
        }
        if cuts {
            // Alone: no other is quicker.
            let flushed = servers.engines[fails].flush();
            assert!(
                matches!(flushed, Err(Error::OutcomeUnknown(_))),
                "{lost:?}: {flushed:?}"
            );
        }
        std::thread::scope(|scope| {
            for (node, engine) in servers.engines.iter().enumerate() {
                if node != fails || !cuts {
                    scope.spawn(|| engine.flush().unwrap());
                }
            }
        });
        servers.logs[fails].cut(false);
        if lost == Some(LostAppend::Late) && !cuts {
            for landed in servers.logs[fails].land() {
                assert!(matches!(landed, Appended::Overtaken(_)), "{landed:?}");
            }
        }
        // What was in doubt is found out, and written if it was not.
        servers.engines[fails].flush().unwrap();
        for landed in servers.logs[fails].land() {
            assert!(matches!(landed, Appended::Overtaken(_)), "{landed:?}");
        }
        assert_eq!(told(&servers, &keys), expected, "{lost:?}, {cuts}");
    }
    servers.close_equal();
}

#[test]
fn what_one_server_purges_is_gone_on_all_and_no_use_brings_it_back() {
    let servers = servers();
    let short = NewKey::new("acme_live", "acme").unwrap();
    let short = short.expires_in(Duration::from_millis(20));
    let expired = servers.engines[2].issue(short).unwrap();
    let revoked: Vec<Issued> = (0..5).map(|_| servers.issue(0, "acme").unwrap()).collect();
    let good = servers.issue(1, "acme").unwrap();
    servers.settle();
    // Uses that are written once the keys are gone.
    for key in revoked.iter().chain([&good]) {
        assert_eq!(granted(&servers.engines[2], key), Some(true));
    }
    for key in &revoked {
        servers.engines[0]
            .revoke(key.key.id, Reason::KeyCompromise)
            .unwrap();
    }
    std::thread::sleep(Duration::from_millis(30));
    let purged = servers.engines[1].purge(Duration::ZERO).unwrap();
    assert_eq!(purged.keys, 6);
    for engine in &servers.engines {
        for key in revoked.iter().chain([&expired]) {
            let verdict = engine.verify(key.token.expose()).unwrap();
            let Verdict::Denied(denial) = verdict else {
                panic!("it is gone");
            };
            assert_eq!(denial.code(), "unknown");
        }
    }
    servers.engines[2].flush().unwrap();
    servers.settle();
    for engine in &servers.engines {
        let left = keys_of(engine);
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].id, left[0].usage.count), (good.key.id, 1));
    }
    // Another finds nothing left.
    assert_eq!(servers.engines[0].purge(Duration::ZERO).unwrap().keys, 0);
    servers.close_equal();
}
