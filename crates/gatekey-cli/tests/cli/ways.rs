//! The three ways to a store answer alike.

use serde_json::Value;

use crate::program::{Place, gatekey, run};

/// Answers without what differs by the instant.
fn told(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .map(|mut value: Value| {
            for name in [
                "resident_keys",
                "file_bytes",
                "clock",
                "now",
                "committed",
                "behind",
            ] {
                value.as_object_mut().unwrap().remove(name);
            }
            value
        })
        .collect()
}

#[test]
fn a_command_answers_alike_on_a_file_over_the_socket_and_over_tcp() {
    let (place, id, token) = Place::with_key();
    let server = place.serve(&["--tcp", "127.0.0.1:0", "--admin-keyspace", "ops_admin"]);
    let key = place.done(&[
        "key",
        "issue",
        "ops_admin",
        "--owner",
        "ops",
        "--permission",
        "read",
        "--permission",
        "issue",
        "--permission",
        "revoke",
        "--permission",
        "administer",
    ]);
    let key_file = place.path().join("admin.key");
    std::fs::write(&key_file, &key.stdout).unwrap();
    let url = place.url();
    let over_tcp = |args: &[&str], stdin: &str| {
        let mut command = gatekey();
        command
            .args(["--url", &url, "--admin-key-file"])
            .arg(&key_file)
            .args(args);
        run(&mut command, stdin)
    };
    let asks: [(&[&str], &str, i32); 8] = [
        (&["--json", "key", "list", "--keyspace", "acme_live"], "", 0),
        (&["--json", "key", "show", &id], "", 0),
        (&["--json", "find"], &token, 0),
        (&["--json", "keyspace", "list"], "", 0),
        (&["--json", "owner", "show", "acme"], "", 0),
        (&["--json", "check"], "", 0),
        (&["--json", "stats"], "", 0),
        (&["--json", "key", "show", "0000000000"], "", 3),
    ];
    // One use, so that no later one changes what is told.
    let env = over_tcp(&["stats"], "");
    assert_eq!(env.code, 0, "{env:?}");
    let over_socket: Vec<_> = asks
        .iter()
        .map(|ask| place.run_with(ask.0, ask.1))
        .collect();
    let remote: Vec<_> = asks.iter().map(|ask| over_tcp(ask.0, ask.1)).collect();
    let backup = place.path().join("over-tcp.redb");
    let made = over_tcp(&["backup", backup.to_str().unwrap()], "");
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(server.stop(), Some(0));
    for (at, (args, stdin, code)) in asks.iter().enumerate() {
        let on_file = place.run_with(args, stdin);
        for (way, ran) in [
            ("file", &on_file),
            ("socket", &over_socket[at]),
            ("tcp", &remote[at]),
        ] {
            assert_eq!(ran.code, *code, "{way} {args:?}: {ran:?}");
        }
        if args.contains(&"stats") {
            continue;
        }
        assert_eq!(
            told(&on_file.stdout),
            told(&over_socket[at].stdout),
            "{args:?}"
        );
        assert_eq!(told(&on_file.stdout), told(&remote[at].stdout), "{args:?}");
    }
    let copy = run(
        gatekey()
            .arg("--store")
            .arg(&backup)
            .args(["check", "--json"]),
        "",
    );
    assert_eq!(copy.json()["is_sound"], true);
    let verdict = run(
        gatekey().arg("--store").arg(&backup).args(["verify"]),
        &token,
    );
    assert_eq!(verdict.code, 0);
}

#[test]
fn the_audit_trail_has_who_acted_on_every_way() {
    let place = Place::empty();
    let user = run(std::process::Command::new("id").arg("-u"), "").stdout;
    let user = format!("unix:{}", user.trim());
    place.done(&["init"]);
    place.done(&["keyspace", "create", "on_file"]);
    let server = place.serve(&[]);
    place.done(&["keyspace", "create", "over_socket"]);
    let entries = place.done(&["audit", "list", "--json"]);
    for line in entries.stdout.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["actor"], user, "{line}");
    }
    assert_eq!(entries.stdout.lines().count(), 2);
    for (last, wanted) in [("1", "over_socket"), ("2", "on_file"), ("9", "on_file")] {
        let newest = place
            .done(&["audit", "list", "--json", "--last", last])
            .stdout;
        let first = newest.lines().next().unwrap();
        assert!(first.contains(wanted), "of the last {last}: {newest}");
        assert!(entries.stdout.ends_with(&newest));
    }
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn an_admin_key_goes_to_no_other_host_in_the_open() {
    for (url, code) in [
        ("http://192.0.2.1:9", 2),
        ("http://localhost.example:9", 2),
        ("http://127.0.0.1.example:9", 2),
        ("ftp://localhost:9", 2),
        ("https://u@localhost:9", 2),
        ("https://localhost:1", 1),
        ("http://u@localhost:9", 2),
        ("http://localhost:9/path", 2),
        ("http://", 2),
        ("http://127.0.0.1:1", 1),
        ("http://[::1]:1", 1),
        ("http://[2001:db8::1]", 2),
    ] {
        let mut command = gatekey();
        command
            .env("GATEKEY_ADMIN_KEY", "a key")
            .args(["--url", url])
            .arg("stats");
        let ran = run(&mut command, "");
        assert_eq!(ran.code, code, "{url}: {ran:?}");
    }
    let mut command = gatekey();
    let ran = run(command.args(["--url", "http://127.0.0.1:1", "stats"]), "");
    assert!(
        ran.code == 2 && ran.stderr.contains("GATEKEY_ADMIN_KEY"),
        "{ran:?}"
    );
}

#[test]
fn what_the_line_says_goes_before_what_the_environment_says() {
    let (place, _, _) = Place::with_key();
    let mut command = place.command(&["stats"]);
    let ran = run(command.env("GATEKEY_URL", "http://127.0.0.1:1"), "");
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut command = gatekey();
    command
        .env("GATEKEY_STORE", place.store())
        .env("GATEKEY_ADMIN_KEY", "k");
    let ran = run(command.args(["--url", "http://127.0.0.1:1", "stats"]), "");
    assert_eq!(ran.code, 1, "{ran:?}");
    let ran = place.run(&["--url", "http://127.0.0.1:1", "stats"]);
    assert_eq!(ran.code, 2, "{ran:?}");
}

/// A server that waits for another, as in a rolling update.
#[test]
fn a_server_waits_for_the_one_that_holds_the_store() {
    let (place, _, _) = Place::with_key();
    let first = place.serve(&[]);
    let second = place.command(&["serve", "--wait", "60s"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let asked = place.run(&["audit", "span", "--json"]);
    assert_eq!(asked.code, 0);
    assert_eq!(first.stop(), Some(0));
    crate::program::wait_for("the second server", || {
        gatekey_admin::socket_beside(place.store()).exists() && place.run(&["stats"]).code == 0
    });
    let id = second.id().to_string();
    let mut second = second;
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(second.wait().unwrap().code(), Some(0));
}

#[test]
fn peppers_are_read_from_files_and_rotated() {
    let place = Place::empty();
    let pepper = |id: u8| {
        let path = place.path().join(format!("pepper{id}"));
        std::fs::write(&path, format!("pepper {id} of a test, long enough\n")).unwrap();
        format!("{id}={}", path.display())
    };
    let (one, two) = (pepper(1), pepper(2));
    place.done(&["--pepper", &one, "init"]);
    assert_eq!(place.run(&["stats"]).code, 4, "without its pepper");
    place.done(&["--pepper", &one, "keyspace", "create", "acme"]);
    let issued = place.done(&["--pepper", &one, "key", "issue", "acme", "--owner", "a"]);
    let rotated = place.done(&[
        "--json", "--pepper", &one, "pepper", "rotate", "--new", &two,
    ]);
    assert_eq!(rotated.json()["peppers"][0]["pepper"], 2);
    let both = format!("{one},{two}");
    let mut command = place.command(&["verify"]);
    assert_eq!(
        run(command.env("GATEKEY_PEPPERS", &both), &issued.stdout).code,
        0
    );
    let mut command = place.command(&["pepper", "status", "--json"]);
    let status = run(command.env("GATEKEY_PEPPERS", &both), "");
    let newest = status.stdout.lines().next().unwrap();
    assert_eq!(
        newest, r#"{"is_signing":true,"keys":1,"pepper":2}"#,
        "{status:?}"
    );
}
