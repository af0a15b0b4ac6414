//! Appends whose answers are lost.

use std::time::Duration;

use gatekey::fleet::Appended;
use gatekey::{Error, Reason};
use gatekey_logkit::LostAppend;

use crate::common::{LONG, Servers, granted, keys_of, until};

#[test]
fn a_lost_answer_is_found_out_and_the_change_is_made_once() {
    let servers = Servers::new(2, LONG);
    for lost in [
        LostAppend::Before,
        LostAppend::After,
        LostAppend::Late,
        LostAppend::Overdue,
    ] {
        let before = keys_of(&servers.engines[0]).len();
        servers.logs[0].lose(lost);
        let issued = servers.issue(0, "acme").unwrap();
        servers.settle();
        assert_eq!(
            granted(&servers.engines[1], &issued),
            Some(true),
            "{lost:?}"
        );
        // What was on the way can land no more.
        for landed in servers.logs[0].land() {
            assert!(matches!(landed, Appended::Overtaken(_)), "{landed:?}");
        }
        servers.settle();
        let after = keys_of(&servers.engines[1]).len();
        assert_eq!(after, before + 1, "{lost:?}");
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
