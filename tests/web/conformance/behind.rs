//! The server behind nginx, which passes requests on; and what it answers by itself to a
//! client that is still sending.

use std::path::Path;
use std::process::Command;

use gatekey_testkit::tools;
use serde_json::json;

use crate::nginx::Nginx;
use crate::server::Server;

fn nginx(server: &Server) -> Option<Nginx> {
    let program = tools::find("nginx")?;
    let unbuffered = "proxy_request_buffering off;";
    Some(Nginx::start(&program, server.address(), unbuffered, ""))
}

/// The statuses of all that curl asks, in order, or its error.
fn statuses(arguments: &[&str]) -> Vec<String> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "120"])
        .args(["--output", "/dev/null", "--write-out", "%{http_code}\n"])
        .args(arguments)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn behind_nginx_bad_keys_lock_out_their_sender_alone() {
    let server = Server::start_behind("127.0.0.1");
    let Some(nginx) = nginx(&server) else { return };
    let good = server.issue("tiered", "acme", &json!({}));
    server.sell("tiered", "acme", &json!({ "plan": "enterprise" }));
    let good = format!("Authorization: Bearer {}", good.token);
    let account = format!("http://{}/tiered/account", nginx.address);
    // A thousand a minute may fail. Of more than two thousand, some are too many in
    // whichever minutes they fall.
    let flood = format!("{account}?n=[1-2200]");
    let bad = "Authorization: Bearer bad";
    // What a client writes itself is not believed.
    let forged = "X-Forwarded-For: 127.0.0.3";
    let flood = [
        "--interface",
        "127.0.0.2",
        "--header",
        bad,
        "--header",
        forged,
        &flood,
    ];
    let found = statuses(&flood);
    assert_eq!(found.len(), 2_200);
    assert!(
        found
            .iter()
            .all(|status| status == "401" || status == "429")
    );
    assert!(found.iter().any(|status| status == "429"));
    for other in ["127.0.0.3", "127.0.0.1"] {
        let ask = ["--interface", other, "--header", &good, &account];
        assert_eq!(statuses(&ask), ["200"], "{other}");
    }
}

/// A 404, 405, 413 and what a proxy that asks gets, while the client still sends: with and
/// without nginx between, which makes a 502 of a connection that is reset.
#[test]
fn the_servers_own_answers_reach_a_client_that_still_sends() {
    let server = Server::start();
    let nginx = nginx(&server);
    let folder = tempfile::tempdir().unwrap();
    let writer = server.issue("tiered", "acme", &json!({ "permissions": ["write"] }));
    let key = format!("Authorization: Bearer {}", writer.token);
    let admin = server.admin_header();
    for size in [100_000, 4_000_000, 10_000_000] {
        let file = folder.path().join("body");
        std::fs::write(&file, vec![b' '; size]).unwrap();
        for (path, header, status) in [
            ("/nowhere", &key, "404"),
            ("/tiered/nowhere", &key, "404"),
            ("/tiered/account", &key, "405"),
            ("/tiered/items", &key, "201"),
            ("/auth/nginx", &key, "200"),
            (
                "/admin/keys",
                &admin,
                if size > 2_097_152 { "413" } else { "400" },
            ),
        ] {
            let mut urls = vec![server.url.clone()];
            let proxied = nginx
                .as_ref()
                .map(|nginx| format!("http://{}", nginx.address));
            urls.extend(proxied);
            for url in urls {
                let url = format!("{url}{path}");
                let found = statuses(&upload(&file, header, &url));
                assert_eq!(found, [status], "{url} {size}");
            }
        }
    }
}

fn upload<'a>(file: &'a Path, header: &'a str, url: &'a str) -> Vec<&'a str> {
    let mut arguments = vec!["--request", "POST", "--upload-file", file.to_str().unwrap()];
    for header in [
        "Expect:",
        "Content-Type: application/json",
        "X-Original-Method: POST",
        "X-Original-URI: /things",
        header,
    ] {
        arguments.extend(["--header", header]);
    }
    arguments.push(url);
    arguments
}
