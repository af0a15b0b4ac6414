//! People at the pages: Chromium, driven by `tests/browser/run.mjs`, on the real server.
//!
//! Left out where a program is missing, but for `GATEKEY_TOOLS=all`: see
//! `tests/tools/install.sh`. `GATEKEY_SHOTS=FOLDER` keeps pictures of the pages.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use gatekey::fleet::{Log, MemoryLog};
use gatekey::proof::open_on;
use gatekey::{Engine, Options};
use gatekey_example_console::{Host, NODES, PastClock, fill, fleet, options, serve};
use gatekey_logkit::FaultyLog;
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
            tokio::time::sleep(Duration::from_millis(5)).await;
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
    let Some(tools) = Tools::find() else { return };
    let clock = PastClock::behind(90);
    let disk = Disk::default();
    let engine = open_on(Options::new().clock(clock.clone()), disk.clone()).unwrap();
    let host = Host::new(engine).unwrap();
    fill(host.engine(), &clock, owners, keys).unwrap();
    let door = door(disk, host.engine().clone());
    tools.browse(&host, door, group, ways);
}

/// The programs of others that drive a browser.
struct Tools {
    chromium: PathBuf,
    node: PathBuf,
    playwright: PathBuf,
    axe: PathBuf,
}

impl Tools {
    fn find() -> Option<Self> {
        // The shell is the same Chromium without its windows, and takes half of the time.
        let chromium = tools::either(["chromium-headless-shell", "chromium"]);
        let needed = ["node", "playwright-core", "axe-core"].map(tools::find);
        let (Some(chromium), [Some(node), Some(playwright), Some(axe)]) = (chromium, needed) else {
            return None;
        };
        Some(Self {
            chromium,
            node,
            playwright,
            axe,
        })
    }

    /// Serves a host, with doors of the tests, and has people at its pages.
    fn browse(&self, host: &Host, doors: Router, group: &str, ways: &str) {
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
        runtime.spawn(serve(listener, host.router().unwrap().merge(doors)));
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/browser/run.mjs");
        let mut ran = Command::new(&self.node)
            .arg(script)
            .args([group, ways])
            .env("CHROMIUM", &self.chromium)
            .env("PLAYWRIGHT", self.playwright.canonicalize().unwrap())
            .env("AXE", self.axe.canonicalize().unwrap())
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

/// A door of the tests: the first server loses its log, or another is closed.
fn door_of_fleet(log: Arc<FaultyLog>, servers: Vec<Engine>) -> Router {
    let set = move |Path(how): Path<String>| async move {
        log.cut(how == "cut");
        if how == "leave" {
            let last = servers.last().unwrap().clone();
            tokio::task::spawn_blocking(move || last.close().unwrap())
                .await
                .unwrap();
        }
        let is_fresh = || servers[0].fleet_status().unwrap().is_fresh;
        while is_fresh() == (how == "cut") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    Router::new().route("/test/fleet/{how}", get(set))
}

#[test]
fn operators_see_a_fleet() {
    let Some(tools) = Tools::find() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("{}.redb", NODES[0]));
    options().unwrap().create(path).unwrap().close().unwrap();
    let log = Arc::new(MemoryLog::new());
    let faulty = FaultyLog::new(log.clone());
    let logs: [Arc<dyn Log>; 3] = [faulty.clone(), log.clone(), log];
    let servers = fleet(dir.path(), Duration::from_secs(3), logs).unwrap();
    let host = Host::new(servers[0].clone()).unwrap();
    tools.browse(&host, door_of_fleet(faulty, servers), "operators-fleet", "");
}
