//! What the server writes to its log.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use gatekey_testkit::tools;
use serde_json::json;

use crate::client::{Ask, curl, ureq};
use crate::server::Server;

fn server_with_log(folder: &Path) -> (Server, std::path::PathBuf) {
    let log = folder.join("log");
    let server = Server::start_with(&[], Stdio::from(File::create(&log).unwrap()));
    (server, log)
}

#[cfg(unix)]
#[test]
fn no_token_in_a_path_reaches_the_log() {
    if tools::find("curl").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (server, log) = server_with_log(folder.path());
    let key = server.issue("tiered", "acme", &json!({}));
    let secret = &key.token[key.token.len() - 49..];
    let percent: String = key
        .token
        .bytes()
        .map(|byte| format!("%{byte:02x}"))
        .collect();
    let cut = &key.token[..key.token.len() - 30];
    let paths = [
        key.token.clone(),
        key.token.replace('_', "%5F"),
        percent.clone(),
        cut.to_owned(),
        format!("{}?key={}", key.id, key.token),
    ];
    for path in &paths {
        for prefix in ["/admin/keys/", "/tiered/owners/", "/pixxel/owners/"] {
            let path = format!("{prefix}{path}");
            for method in ["DELETE", "GET", key.token.as_str()] {
                let ask = Ask {
                    method,
                    ..Ask::get(&path)
                };
                // As anonymous, and with a key that is none.
                curl(&server.url, &ask);
                curl(&server.url, &ask.bearer("nonsense"));
            }
        }
    }
    assert!(server.terminate().success());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("DELETE /admin/keys/tiered_"), "{log}");
    assert!(log.contains("(withheld)"), "{log}");
    for piece in [
        &secret[..8],
        &secret[20..28],
        &secret[41..],
        &percent[percent.len() - 60..],
    ] {
        assert!(!log.contains(piece), "{piece} in {log}");
    }
}

/// Whatever comes is told: by a line of its own, or in a sum.
#[cfg(unix)]
#[test]
fn a_flood_of_refusals_is_summed_up() {
    if tools::find("curl").is_none() {
        return;
    }
    const FLOOD: usize = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let (server, log) = server_with_log(folder.path());
    let status = Command::new("curl")
        .args(["--silent", "--output", "/dev/null"])
        .arg(format!("{}/tiered/account?n=[1-{FLOOD}]", server.url))
        .status();
    assert!(status.unwrap().success());
    assert!(server.terminate().success());
    let log = std::fs::read_to_string(log).unwrap();
    let (mut told, mut summed) = (0, 0);
    for line in log.lines() {
        match line.strip_prefix("and ") {
            Some(rest) => {
                let (number, codes) = rest.split_once(" more: ").unwrap();
                summed += number.replace(',', "").parse::<usize>().unwrap();
                assert!(codes.ends_with(" missing"), "{line}");
            }
            None => {
                // All of the path, though the router is nested.
                let whole = "GET /tiered/account: 401: no credential was presented";
                assert_eq!(line, whole);
                told += 1;
            }
        }
    }
    assert_eq!(told + summed, FLOOD);
    assert!(summed > 0, "{told} lines");
}

/// `eprintln!` panics where nobody reads its pipe any more.
#[test]
fn a_log_that_nobody_reads_costs_no_caller_its_answer() {
    let (reader, writer) = std::io::pipe().unwrap();
    let server = Server::start_with(&[], Stdio::from(writer));
    drop(reader);
    for _ in 0..30 {
        assert_eq!(ureq(&server.url, &Ask::get("/tiered/account")).status, 401);
    }
    let key = server.issue("tiered", "acme", &json!({}));
    let ask = Ask::get("/tiered/account").bearer(&key.token);
    assert_eq!(ureq(&server.url, &ask).status, 200);
}

/// How much a pipe of Linux holds.
const PIPE_BYTES: usize = 64 * 1024;

/// The pipe is full from the start, and whoever waits to write to it waits for ever.
#[test]
fn a_log_whose_reader_reads_nothing_holds_up_no_caller() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let filled = Stdio::from(writer.try_clone().unwrap());
    // On a thread: where a pipe holds less, this waits until the reader is dropped.
    std::thread::spawn(move || writer.write_all(&vec![b'\n'; PIPE_BYTES]));
    let server = Server::start_with(&[], filled);
    // curl ends by itself: with a log that blocks, so that the test fails.
    let found = Command::new("curl")
        .args(["--silent", "--fail-early", "--max-time", "60"])
        .args(["--output", "/dev/null", "--write-out", "%{http_code}\n"])
        .args(["--header", "Authorization: Bearer bad"])
        .arg(format!("{}/tiered/account?n=[1-90]", server.url))
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let statuses: Vec<&str> = found.lines().collect();
    assert_eq!(statuses, ["401"; 90]);
    let key = server.issue("tiered", "acme", &json!({}));
    let ask = Ask::get("/tiered/account").bearer(&key.token);
    assert_eq!(ureq(&server.url, &ask).status, 200);
    drop(reader);
}
