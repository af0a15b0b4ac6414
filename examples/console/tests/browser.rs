//! People at the pages: Chromium, driven by `tests/browser/run.mjs`, on the real server.
//!
//! Left out where a program is missing, but for `GATEKEY_TOOLS=all`: see
//! `tests/tools/install.sh`. `GATEKEY_SHOTS=FOLDER` keeps pictures of the pages.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use gatekey::proof::open_on;
use gatekey::{Engine, Options};
use gatekey_example_console::{Host, PastClock, fill, serve};
use gatekey_testkit::tools;

#[allow(dead_code)]
#[path = "../../../tests/proof/disk.rs"]
mod disk;

use disk::{Call, Disk, Fault, How};

/// A door of the tests: the disk under the store fails, or is well again.
fn door(disk: Disk, engine: Engine) -> Router {
    let set = move |Path(how): Path<String>| async move {
        let fault = Fault {
            call: Call::Sync,
            nth: 0,
            how: How::Broken,
            lasts: true,
        };
        disk.set_fault((how == "broken").then_some(fault));
        while how == "well" && (engine.flush().is_err() || !engine.health().is_well()) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    Router::new().route("/test/disk/{how}", get(set))
}

/// Runs a group of the tests in `run.mjs` against a server of its own.
fn run(group: &str, owners: u64, keys: u64) {
    run_ways(group, "", owners, keys);
}

/// Runs a group in some of the ways that people do things.
fn run_ways(group: &str, ways: &str, owners: u64, keys: u64) {
    // The shell is the same Chromium without its windows, and takes half of the time.
    let chromium = tools::either(["chromium-headless-shell", "chromium"]);
    let needed = ["node", "playwright-core", "axe-core"].map(tools::find);
    let (Some(chromium), [Some(node), Some(playwright), Some(axe)]) = (chromium, needed) else {
        return;
    };
    let clock = PastClock::behind(90);
    let disk = Disk::default();
    let engine = open_on(Options::new().clock(clock.clone()), disk.clone()).unwrap();
    let host = Host::new(engine).unwrap();
    fill(host.engine(), &clock, owners, keys).unwrap();
    let mut wide = "x".repeat(64);
    for _ in 0..2 {
        wide = format!("{wide}/{}", "y".repeat(64));
    }
    wide = format!("{wide}/{}", "z".repeat(255 - wide.len() - 1));
    let links: Vec<String> = ["acme", "umbrella", "<b>&amp;\"'</b>", &wide]
        .into_iter()
        .map(|owner| host.link(owner.parse().unwrap()).unwrap())
        .collect();
    let admin_keys: Vec<String> = ["ops/alice", "ops/bob"]
        .into_iter()
        .map(|owner| host.admin_key(owner).unwrap().token.expose().to_owned())
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = host.router().unwrap();
    let app = app.merge(door(disk, host.engine().clone()));
    runtime.spawn(serve(listener, app));
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/browser/run.mjs");
    let mut ran = Command::new(node)
        .arg(script)
        .args([group, ways])
        .env("CHROMIUM", chromium)
        .env("PLAYWRIGHT", playwright.canonicalize().unwrap())
        .env("AXE", axe.canonicalize().unwrap())
        .env("PORT", port.to_string())
        .env("LINKS", links.join(" "))
        .env("ADMIN_KEYS", admin_keys.join(" "))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut tried = 0;
    for line in BufReader::new(ran.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        tried += usize::from(line.starts_with("ok: "));
        println!("{line}");
    }
    assert!(ran.wait().unwrap().success(), "see above");
    assert!(tried > 0, "nothing was tried");
}

#[test]
fn customers_manage_their_keys() {
    run("customers", 5, 40);
}

#[test]
fn customers_do_all_in_every_way() {
    run("customers-ways", 5, 40);
}

#[test]
fn every_page_of_customers_is_for_everybody() {
    run("customers-pages", 5, 40);
}

#[test]
fn operators_manage_all_keys() {
    run("operators", 20, 400);
}

#[test]
fn operators_do_all_by_keyboard() {
    run_ways("operators-ways", "keyboard", 5, 40);
}

#[test]
fn operators_do_all_by_mouse_and_with_reloads() {
    run_ways("operators-ways", "!keyboard", 5, 40);
}

#[test]
fn every_page_of_operators_is_for_everybody() {
    run("operators-pages", 10, 30);
}
