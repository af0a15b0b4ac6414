//! The page of a fleet.

use std::sync::Arc;
use std::time::Duration;

use gatekey::fleet::{Beat, Freshness, Log as _, MemoryLog, Settings};
use gatekey::{Options, Pepper};
use gatekey_logkit::FaultyLog;

use super::operators::Desk;
use super::*;

#[test]
fn the_servers_of_a_fleet_are_shown_and_that_one_is_not_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let pepper = Pepper::new(1, b"32 bytes from a secret manager..").unwrap();
    let options = Options::new().pepper(pepper);
    options.clone().create(&path).unwrap().close().unwrap();
    let log = FaultyLog::new(Arc::new(MemoryLog::new()));
    let settings =
        Settings::new(log.clone(), "eu-1").freshness(Freshness::FailClosed(Duration::from_secs(3)));
    let engine = options.fleet(settings).found_fleet(&path).unwrap();
    let desk = Desk::of(House::over(engine));
    let (_, cookie) = desk.all();
    let lease = Duration::from_millis(1);
    let evil = "<img src=x>".to_owned();
    log.beat(&Beat {
        node: evil,
        position: 1,
        lease,
        reads: Vec::new(),
    })
    .unwrap();
    std::thread::sleep(Duration::from_millis(20));

    let seen = desk.get(&cookie, "/fleet");
    assert_eq!(seen.status, 200);
    let has = |seen: &Seen, text: &str| assert!(seen.body.contains(text), "{text}: {}", seen.body);
    for text in [
        "eu-1 (this server)",
        "Beats",
        "Gone",
        "&#60;img src=x&#62;",
        "3 seconds",
        "Fresh",
    ] {
        has(&seen, text);
    }
    assert!(!seen.body.contains("verifies no token"));
    has(&desk.get(&cookie, "/store"), "/console/fleet");
    let plan = desk.get(&cookie, "/keyspaces/acme_live/plan");
    has(&plan, "limit0.of");
    has(&plan, "the fleet, of which each server has a share");

    log.cut(true);
    let begun = std::time::Instant::now();
    let is_fresh = || desk.house.engine.fleet_status().unwrap().is_fresh;
    while is_fresh() {
        assert!(begun.elapsed().as_secs() < 60);
        std::thread::sleep(Duration::from_millis(20));
    }
    let seen = desk.get(&cookie, "/fleet");
    // As a note above all else, and as its state.
    let told = seen.body.matches("This server verifies no token").count();
    assert_eq!(told, 2, "{}", seen.body);
    has(&seen, "The log does not say which servers there are");
    log.cut(false);
    desk.house.engine.close().unwrap();
}

#[test]
fn a_store_that_is_alone_has_no_link_to_a_fleet() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let seen = desk.get(&cookie, "/fleet");
    assert!(seen.status == 200 && seen.body.contains("of no fleet"));
    assert!(!desk.get(&cookie, "/store").body.contains("/console/fleet"));
}
