//! Appends whose answers are lost.

use std::time::Duration;

use gatekey::fleet::Appended;
use gatekey::{Error, Issued, Reason};
use gatekey_logkit::LostAppend;

use crate::common::{LONG, Servers, granted, keys_of, until};

#[test]
fn a_lost_answer_is_found_out_and_the_change_is_made_once() {
    a_lost_answer_is_found_out(|servers| vec![servers.issue(0, "acme").unwrap()]);
}

#[test]
fn a_lost_answer_to_a_large_change_is_found_out_and_it_is_made_once() {
    a_lost_answer_is_found_out(|servers| servers.issue_many(0, "acme").unwrap());
}

fn a_lost_answer_is_found_out(issue: impl Fn(&Servers) -> Vec<Issued>) {
    let servers = Servers::new(2, LONG);
    for lost in [
        LostAppend::Before,
        LostAppend::After,
        LostAppend::Late,
        LostAppend::Overdue,
    ] {
        let before = keys_of(&servers.engines[0]).len();
        servers.logs[0].lose(lost);
        let issued = issue(&servers);
        servers.settle();
        for key in [&issued[0], &issued[issued.len() - 1]] {
            assert_eq!(granted(&servers.engines[1], key), Some(true), "{lost:?}");
        }
        // What was on the way can land no more.
        for landed in servers.logs[0].land() {
            assert!(matches!(landed, Appended::Overtaken(_)), "{landed:?}");
        }
        servers.settle();
        let after = keys_of(&servers.engines[1]).len();
        assert_eq!(after, before + issued.len(), "{lost:?}");
    }
    servers.close_equal();
}

/// The callers are told that the outcome is unknown, and the next change finds it out.
#[test]
fn a_change_in_doubt_is_settled_before_the_next() {
    let servers = Servers::new(2, Duration::from_millis(600));
    for lost in [LostAppend::Before, LostAppend::After, LostAppend::Late] {
        let issued = servers.issue(0, "acme").unwrap();
        servers.settle();
        servers.logs[0].lose_and_cut(lost);
        let revoked = servers.engines[0].revoke(issued.key.id, Reason::KeyCompromise);
        let error = revoked.unwrap_err();
        assert!(
            matches!(error, Error::OutcomeUnknown(_)),
            "{lost:?}: {error}"
        );
        servers.logs[0].cut(false);
        let next = servers.issue(0, "acme").unwrap();
        servers.settle();
        for landed in servers.logs[0].land() {
            assert!(matches!(landed, Appended::Overtaken(_)), "{landed:?}");
        }
        let is_revoked = lost == LostAppend::After;
        for engine in &servers.engines {
            until("it is fresh", || granted(engine, &next) == Some(true));
            until("it is fresh", || granted(engine, &issued).is_some());
            assert_eq!(granted(engine, &issued), Some(!is_revoked), "{lost:?}");
        }
    }
    servers.close_equal();
}

/// What metrics show: each append that ran again, got no answer, or failed.
#[test]
fn appends_that_ran_again_or_got_no_answer_are_counted() {
    let servers = Servers::new(2, LONG);
    servers.settle();
    let status = |node: usize| servers.engines[node].fleet_status().unwrap();
    let before = status(0);
    assert_eq!(
        (before.overtaken, before.unknown, before.failures),
        (0, 0, 0)
    );
    servers.logs[0].lose(LostAppend::After);
    servers.issue(0, "acme").unwrap();
    assert_eq!((status(0).unknown, status(1).unknown), (1, 0));
    // Many at once, of which one is first each time.
    std::thread::scope(|scope| {
        for node in 0..2 {
            let servers = &servers;
            scope.spawn(move || (0..50).for_each(|_| drop(servers.issue(node, "acme").unwrap())));
        }
    });
    let metrics = servers.engines[1].metrics().unwrap().fleet.unwrap();
    let overtaken = status(0).overtaken + metrics.overtaken;
    assert!(overtaken > 0 && metrics.applied >= metrics.appended);
    until("both are counted", || {
        (0..2).all(|node| status(node).servers == 2 && status(node).behind() == 0)
    });
    servers.logs[0].cut(true);
    servers.issue(0, "acme").unwrap_err();
    until("failures are counted", || status(0).failures > 0);
    servers.close_equal();
}
