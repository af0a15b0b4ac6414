//! What a container, a pod or a unit relies on: docs/CONTAINERS.md.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::program::{GATEKEY, Place, gatekey, run, wait_for};

/// An empty volume is what is there where the right one was not mounted.
#[test]
fn a_missing_volume_is_an_error_and_no_new_store() {
    let place = Place::empty();
    for store in ["keys.redb", "not/mounted/keys.redb"] {
        let mut serve = gatekey();
        let serve = serve
            .current_dir(place.path())
            .args(["--store", store, "serve"]);
        let ran = run(serve.args(["--wait", "5s"]), "");
        assert_eq!(ran.code, 3, "{ran:?}");
    }
    let mut stats = gatekey();
    let stats = stats.current_dir(place.path());
    let missing = run(stats.args(["--store", "keys.redb", "stats"]), "");
    assert!(missing.stderr.contains("(gatekey init)"), "{missing:?}");
    let left = std::fs::read_dir(place.path()).unwrap().count();
    assert_eq!(left, 0, "nothing was made");
}

/// As in a rolling update: the new one starts while the old one holds the volume.
#[test]
fn a_server_waits_for_the_one_that_holds_the_store_and_is_ready_once_it_has_it() {
    let (place, _, token) = Place::with_key();
    let old = place.serve(&[]);
    let socket = place.path().join("new.sock");
    let socket = socket.to_str().unwrap();
    let late = place.run(&["serve", "--wait", "1s", "--socket", socket]);
    assert_eq!(late.code, 5, "{late:?}");
    assert!(late.stderr.contains("waiting for"), "{late:?}");

    let log = std::fs::File::create(place.path().join("new.log")).unwrap();
    let mut new = place
        .command(&["--socket", socket, "serve", "--wait", "120s"])
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let said = |text: &str| {
        let log = std::fs::read_to_string(place.path().join("new.log"));
        log.unwrap().contains(text)
    };
    wait_for("the new server to wait", || said("waiting for"));
    // The probe asks the new one's own socket: the old one must not answer in its place.
    let probe = || place.run(&["--socket", socket, "health"]).code;
    assert_eq!(probe(), 5);
    assert_eq!(
        place.run_with(&["verify"], &token).code,
        0,
        "the old one serves"
    );
    assert_eq!(old.stop(), Some(0));
    wait_for("the new server", || said("serving"));
    assert_eq!(probe(), 0);
    let verify = place.run_with(&["--socket", socket, "verify"], &token);
    assert_eq!(verify.code, 0, "{verify:?}");
    let kill = Command::new("kill")
        .args(["-TERM", &new.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    assert_eq!(new.wait().unwrap().code(), Some(0));
    // What the two have served is written.
    let usage = place.done(&["--json", "stats"]);
    assert_eq!(usage.json()["keyspaces"]["acme_live"]["active"], 1);
}

#[test]
fn a_server_that_waits_for_the_store_ends_when_it_is_told_to() {
    let (place, ..) = Place::with_key();
    let old = place.serve(&[]);
    let log = std::fs::File::create(place.path().join("new.log")).unwrap();
    let mut new = place
        .command(&["serve", "--wait", "1h"])
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    wait_for("the new server to wait", || {
        let log = std::fs::read_to_string(place.path().join("new.log"));
        log.unwrap().contains("waiting for")
    });
    let kill = Command::new("kill")
        .args(["-TERM", &new.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let mut ended = None;
    for _ in 0..600 {
        ended = new.try_wait().unwrap();
        if ended.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = new.kill();
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    assert_eq!(old.stop(), Some(0));
}

/// SIGTERM, as containers are stopped with.
#[test]
fn a_server_that_is_told_to_stop_writes_usage_and_gives_slices_of_quotas_back() {
    let (place, ..) = Place::with_key();
    let issue = [
        "--json",
        "key",
        "issue",
        "acme_live",
        "--owner",
        "q",
        "--quota",
        "1000",
    ];
    let issued = place.done(&issue).json();
    let [token, id] = [&issued["token"], &issued["key"]["id"]].map(|text| text.as_str().unwrap());
    let server = place.serve(&[]);
    for _ in 0..3 {
        assert_eq!(place.run_with(&["verify"], token).code, 0);
    }
    assert_eq!(server.stop(), Some(0));
    let key = place.done(&["--json", "key", "show", id]).json();
    assert_eq!(
        (&key["usage"]["count"], &key["quota"]["remaining"]),
        (&3.into(), &997.into())
    );
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let there = Command::new("systemd-analyze").arg("--version").output();
    if there.is_err() {
        println!("skipped: systemd-analyze is not there");
        return;
    }
    let unit = include_str!("../../../../deploy/gatekey.service");
    assert!(unit.contains("/usr/bin/gatekey "));
    let place = Place::empty();
    let file = place.path().join("gatekey.service");
    // The program must be there; the user need not.
    let unit = unit.replace("/usr/bin/gatekey ", &format!("{GATEKEY} "));
    std::fs::write(&file, &unit).unwrap();
    let verify = |file: &std::path::Path| {
        let mut analyze = Command::new("systemd-analyze");
        run(analyze.args(["verify", "--man=no"]).arg(file), "")
    };
    let ran = verify(&file);
    let about = |line: &&str| line.contains("gatekey.service");
    let told: Vec<&str> = ran.stderr.lines().filter(about).collect();
    assert_eq!((ran.code, told.as_slice()), (0, &[][..]), "{ran:?}");
    // It would tell.
    std::fs::write(&file, unit.replace("ProtectHome=yes", "NoSuchSetting=yes")).unwrap();
    assert!(verify(&file).stderr.contains("NoSuchSetting"));
    std::fs::write(&file, unit.replace(GATEKEY, "/no/such/program")).unwrap();
    assert_ne!(verify(&file).code, 0);
}

/// The files say the same of the program as the program does.
#[test]
fn the_files_for_containers_name_commands_that_there_are() {
    let docker = include_str!("../../../../deploy/Dockerfile");
    let compose = include_str!("../../../../deploy/compose.yaml");
    for (file, lines) in [("Dockerfile", docker), ("compose.yaml", compose)] {
        assert!(lines.contains("\"serve\", \"--wait\", \"60s\""), "{file}");
        assert!(lines.contains("/run/gatekey/gatekey.sock"), "{file}");
        assert!(lines.contains("SIGTERM"), "{file}");
        assert!(
            !lines.contains("--create"),
            "{file}: a missing volume must be an error"
        );
    }
    let place = Place::empty();
    place.done(&["init"]);
    let health = place.run(&["--socket", "/run/gatekey/gatekey.sock", "health"]);
    assert_eq!(health.code, 0, "{health:?}");
}
