//! Clients that obey: they wait as a 429 says, meet no second one in a window, and are done
//! as soon as their limit lets them be.

use std::path::{Path, PathBuf};
use std::process::Command;

use gatekey_testkit::tools;
use serde_json::json;

use crate::server::Server;

/// A client: what runs it, and what it takes behind a URL, a token and a count.
struct Obeying {
    name: &'static str,
    command: Vec<PathBuf>,
    folder: Option<PathBuf>,
}

/// Those that are here; of the others it is said that the test goes without them.
fn clients() -> Vec<Obeying> {
    let script = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
        folder.join(name)
    };
    let urllib3 = tools::find("urllib3-python").map(|python| Obeying {
        name: "urllib3",
        command: vec![python, script("obeying.py")],
        folder: None,
    });
    let axios = tools::find("node").zip(tools::find("axios-retry"));
    let axios = axios.map(|(node, axios)| Obeying {
        name: "axios-retry",
        command: vec![node, script("obeying.js")],
        folder: axios.ancestors().nth(2).map(Path::to_owned),
    });
    urllib3.into_iter().chain(axios).collect()
}

impl Obeying {
    /// How many requests of a job were served, and how long each 429 said to wait.
    fn work(&self, server: &Server, token: &str, count: u64) -> (u64, Vec<u64>) {
        let output = Command::new(&self.command[0])
            .args(&self.command[1..])
            .arg(format!("{}/tiered/account", server.url))
            .args([token, &count.to_string()])
            .args(&self.folder)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        let mut numbers = told.lines().map(|line| {
            let number: Result<u64, _> = line.parse();
            number.unwrap_or_else(|_| panic!("{}: {told}{error}", self.name))
        });
        let served = numbers.next();
        let served = served.unwrap_or_else(|| panic!("{}: {error}", self.name));
        (served, numbers.collect())
    }
}

/// A job of three times the limit has two waits, whoever does it. A window that the first
/// request opens is told in whole seconds, as it is: what is waited is what it lasts. A bucket
/// is full again after as long as its burst takes.
#[test]
fn a_job_of_three_limits_is_done_after_two_waits_of_a_window() {
    let server = Server::start();
    for client in clients() {
        for (owner, window_s, limit) in [
            (
                "fixed",
                2,
                json!({ "requests": 10, "window": "PT2S", "algorithm": "fixed" }),
            ),
            (
                "bucket",
                1,
                json!({ "requests": 10, "window": "PT1S", "algorithm": "bucket", "burst": 10 }),
            ),
        ] {
            let owner = format!("{owner}-{}", client.name);
            server.sell("tiered", &owner, &json!({ "limits": [limit] }));
            let key = server.issue("tiered", &format!("{owner}/job"), &json!({}));
            let (served, waits) = client.work(&server, &key.token, 30);
            assert_eq!(served, 30, "{owner}");
            // Fewer, if this machine took a window for its requests.
            assert!(waits.len() <= 2, "{owner}: {waits:?}");
            let waited: u64 = waits.iter().sum();
            assert!(waited <= 2 * window_s, "{owner}: {waits:?}");
        }
    }
}

/// The seeds' own tier: an hour and a burst. No 429 says to wait for longer than the burst,
/// and none is met again before what it said is over.
#[test]
fn a_job_of_three_bursts_is_done_by_whoever_waits() {
    let server = Server::start();
    for client in clients() {
        let key = server.issue("tiered", &format!("{}/job", client.name), &json!({}));
        let (served, waits) = client.work(&server, &key.token, 150);
        assert_eq!(served, 150, "{}", client.name);
        for wait in &waits {
            assert!((1..=2).contains(wait), "{}: {waits:?}", client.name);
        }
    }
}

/// A window that slides gives back little at a time, so that its wait is told anew more often;
/// still a few waits do, and none is met again before what it said is over.
#[test]
fn a_job_of_three_sliding_limits_is_done_after_a_few_waits() {
    let server = Server::start();
    for client in clients() {
        let owner = format!("sliding-{}", client.name);
        let limit = json!({ "requests": 10, "window": "PT2S", "algorithm": "sliding" });
        server.sell("tiered", &owner, &json!({ "limits": [limit] }));
        let key = server.issue("tiered", &format!("{owner}/job"), &json!({}));
        let (served, waits) = client.work(&server, &key.token, 30);
        assert_eq!(served, 30, "{owner}");
        assert!(waits.len() <= 8, "{owner}: {waits:?}");
        assert!(waits.iter().sum::<u64>() <= 10, "{owner}: {waits:?}");
    }
}
