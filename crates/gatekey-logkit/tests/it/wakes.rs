//! Servers whose log never tells them that it has grown, or says so all the time.

use std::time::{Duration, Instant};

use gatekey::Reason;
use gatekey_logkit::{Asked, Notified};

use crate::common::{LONG, Servers, granted};

const HEARTBEAT: Duration = Duration::from_secs(1);

fn notified(how: Notified) -> Servers {
    let servers = Servers::new(3, LONG);
    for log in &servers.logs {
        log.notify(how);
    }
    servers
}

/// Changes on one server after another, of which each is on all before the next.
fn change(servers: &Servers, rounds: usize) {
    for round in 0..rounds {
        let issued = servers.issue(round % 3, "acme").unwrap();
        for (engine, log) in servers.engines.iter().zip(&servers.logs) {
            let before = log.asked().waits;
            loop {
                let waits = log.asked().waits;
                if granted(engine, &issued) == Some(true) {
                    break;
                }
                // After the first wait that ended since, it has looked.
                assert!(
                    waits < before + 2,
                    "round {round}: it waits, and does not look"
                );
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let revoker = &servers.engines[(round + 1) % 3];
        revoker
            .revoke(issued.key.id, Reason::KeyCompromise)
            .unwrap();
        for engine in &servers.engines {
            assert_eq!(granted(engine, &issued), Some(false), "round {round}");
        }
    }
}

/// How often a log was asked since.
fn asked_since(servers: &Servers, before: &[Asked]) -> Vec<u64> {
    let logs = servers.logs.iter().zip(before);
    logs.map(|(log, before)| {
        let now = log.asked();
        (now.waits - before.waits) + (now.reads - before.reads) + (now.beats - before.beats)
    })
    .collect()
}

fn does_not_spin(servers: &Servers, rounds: usize) {
    let before: Vec<Asked> = servers.logs.iter().map(|log| log.asked()).collect();
    let begun = Instant::now();
    change(servers, rounds);
    // And nothing at all for a while.
    std::thread::sleep(Duration::from_millis(300));
    let asked = asked_since(servers, &before);
    // It waits, and reads until nothing is left, every 5 ms; and each change has its own calls.
    let by_time = 20 * (1 + rounds as u128) + begun.elapsed().as_millis();
    for asked in asked {
        assert!(
            u128::from(asked) < by_time,
            "{asked} calls, and not {by_time}"
        );
    }
}

#[test]
fn servers_that_are_notified_of_nothing_hear_of_each_change_within_a_heartbeat() {
    let servers = notified(Notified::Never);
    does_not_spin(&servers, 9);
    for log in &servers.logs {
        let longest = log.asked().longest_wait;
        assert!(longest <= HEARTBEAT, "{longest:?}");
    }
    servers.close_equal();
}

#[test]
fn servers_that_are_notified_all_the_time_do_not_spin() {
    let servers = notified(Notified::Always);
    does_not_spin(&servers, 60);
    servers.close_equal();
}
