//! What the API tells of a fleet, and does for it.

use gatekey::fleet::{Beat, Log as _};
use serde_json::{Value, json};

use crate::api::Api;
use crate::tour::Tour;

/// Goes to the endpoints that only a server of a fleet serves.
pub(crate) fn tour_of_a_fleet() -> Tour {
    let (api, log) = Api::in_fleet();
    let tour = Tour::of(api);
    let none = Value::Null;
    let fleet = tour.done("GET", "/v1/fleet", &none);
    let server = &fleet["server"];
    assert_eq!(
        (&server["node"], &server["is_fresh"], &server["behind"]),
        (&json!("one"), &json!(true), &json!(0))
    );
    assert_eq!(fleet["servers_error"], Value::Null);

    // One that has applied nothing yet, as its heartbeat says.
    let other = Beat {
        node: "two".to_owned(),
        position: 0,
        lease: std::time::Duration::from_secs(9),
        reads: Vec::new(),
    };
    let head = log.beat(&other).unwrap().head.position;
    let fleet = tour.done("GET", "/v1/fleet", &none);
    let two = &fleet["servers"][1];
    assert_eq!(
        (&two["node"], &two["behind"], &two["lease"], &two["is_gone"]),
        (&json!("two"), &json!(head), &json!("PT9S"), &json!(false))
    );

    // The log is trimmed up to the snapshot before.
    let first = log.snapshots().unwrap()[0];
    let put = tour.done("POST", "/v1/fleet/snapshot", &none);
    assert_eq!(
        (&put["position"], &put["trimmed_through"]),
        (&json!(head), &Value::Null)
    );
    tour.done("POST", "/v1/keyspaces", &json!({"prefix": "more"}));
    let put = tour.done("POST", "/v1/fleet/snapshot", &json!({"trim": true}));
    assert_eq!(
        (&put["position"], &put["trimmed_through"]),
        (&json!(head + 1), &json!(head))
    );
    let left: Vec<u64> = log
        .snapshots()
        .unwrap()
        .iter()
        .map(|of| of.position)
        .collect();
    assert!(first.position < head);
    assert_eq!(left, [head, head + 1]);
    tour
}

#[test]
fn a_store_that_is_alone_is_of_no_fleet() {
    let tour = Tour::of(Api::new());
    for (method, path) in [("GET", "/v1/fleet"), ("POST", "/v1/fleet/snapshot")] {
        tour.refused(409, "alone", method, path, &Value::Null);
    }
}

/// What the log cannot say is left out; what the server knows by itself is told.
#[test]
fn a_log_that_is_away_is_told_in_the_answer() {
    let (api, log) = Api::in_fleet();
    let tour = Tour::of(api);
    log.cut(true);
    let fleet = tour.done("GET", "/v1/fleet", &Value::Null);
    assert_eq!(fleet["servers"], json!([]));
    assert!(fleet["servers_error"].is_string(), "{fleet}");
    assert_eq!(fleet["server"]["node"], "one");
}

#[test]
fn metrics_have_a_fleet_only_where_there_is_one() {
    let metrics = |api: &Api| api.ask("GET", "/metrics", &Value::Null).text();
    assert!(!metrics(&Api::new()).contains("fleet"));
    let (api, log) = Api::in_fleet();
    let has = |line: &str| metrics(&api).lines().any(|known| known == line);
    let wait_for = |line: &str| {
        let begun = std::time::Instant::now();
        while !has(line) {
            assert!(
                begun.elapsed().as_secs() < 60,
                "{line} is not in\n{}",
                metrics(&api)
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    for line in [
        "gatekey_fleet_fresh 1",
        "gatekey_fleet_lease_seconds 10",
        "gatekey_fleet_position 1",
        "gatekey_fleet_newest_position 1",
        "gatekey_fleet_servers 1",
        "gatekey_fleet_applied_total 1",
        "gatekey_fleet_appended_total 1",
        "gatekey_fleet_overtaken_total 0",
        "gatekey_fleet_unknown_total 0",
        "gatekey_fleet_failures_total 0",
    ] {
        wait_for(line);
    }
    // An answer that is lost, and an append that another server's entry is ahead of.
    log.lose(gatekey_logkit::LostAppend::After);
    api.done("POST", "/v1/keyspaces", &json!({"prefix": "lost"}));
    wait_for("gatekey_fleet_unknown_total 1");
    log.cut(true);
    wait_for("gatekey_fleet_fresh 0");
    assert!(!has("gatekey_fleet_failures_total 0"));
}
