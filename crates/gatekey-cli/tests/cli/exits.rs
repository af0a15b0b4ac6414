//! The codes that the program exits with.

use crate::program::{Place, gatekey, run};

#[test]
fn each_code_means_what_the_help_says() {
    let (place, id, token) = Place::with_key();
    let refused = place.run(&["keyspace", "create", "acme_live"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert_eq!(place.run(&["key", "show", "0000000000"]).code, 3);
    assert_eq!(place.run_with(&["find"], "acme_live_no_such_token").code, 3);
    assert_eq!(place.run(&["key", "show", "no id"]).code, 2);
    assert_eq!(place.run(&["key", "list", "--expiring", "soon"]).code, 2);
    assert_eq!(place.run(&["no-such-command"]).code, 2);
    assert_eq!(run(&mut gatekey(), "").code, 2);
    assert_eq!(run(gatekey().arg("stats"), "").code, 2, "no store is named");
    assert_eq!(place.run_with(&["verify"], &token).code, 0);
    assert_eq!(
        place
            .run_with(&["verify", "--permission", "write"], &token)
            .code,
        7
    );
    assert_eq!(place.run_with(&["verify"], "no token").code, 7);
    assert_eq!(place.run_with(&["inspect"], &token).code, 0);
    assert_eq!(place.run_with(&["inspect"], &token[1..]).code, 7);
    assert_eq!(
        place.run_with(&["inspect"], &token[..token.len() - 1]).code,
        7
    );
    assert_eq!(place.run(&["check"]).code, 0);
    assert_eq!(place.run(&["key", "enable", &id]).code, 0);

    let elsewhere = Place::empty();
    let missing = elsewhere.run(&["stats"]);
    assert_eq!(missing.code, 3, "{missing:?}");
    assert!(
        !elsewhere.store().exists(),
        "a store that is missing is not created"
    );
    std::fs::write(elsewhere.store(), "not a store, and of some length").unwrap();
    assert_eq!(elsewhere.run(&["stats"]).code, 4);
    assert_eq!(elsewhere.run(&["init"]).code, 4);
    assert_eq!(std::fs::read(elsewhere.store()).unwrap().len(), 31);
}

/// A backup that is restored without the trail un-revokes what was revoked since.
#[test]
fn a_restore_without_a_trail_wants_to_be_confirmed() {
    let (place, id, token) = Place::with_key();
    let file = |name: &str| {
        let path = place.store().with_file_name(name);
        path.to_str().unwrap().to_owned()
    };
    let (backup, trail) = (file("backup.redb"), file("trail"));
    assert_eq!(place.run(&["backup", &backup]).code, 0);
    assert_eq!(place.run(&["key", "revoke", &id, "--yes"]).code, 0);
    let exported = place.run(&["audit", "export"]);
    assert_eq!(exported.code, 0, "{exported:?}");
    std::fs::write(&trail, exported.stdout).unwrap();
    let restored = file("restored.redb");
    let refused = place.run(&["restore", &backup, &restored]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("--trail"), "{refused:?}");
    assert!(!std::path::Path::new(&restored).exists());
    let verdict_of = |store: &str| {
        let verified = run(gatekey().args(["--store", store, "verify"]), &token);
        verified.code
    };
    let without = place.run(&["restore", &backup, &restored, "--yes"]);
    assert_eq!((without.code, verdict_of(&restored)), (0, 0), "{without:?}");
    let restored = file("with-trail.redb");
    let with = place.run(&["restore", &backup, &restored, "--trail", &trail]);
    assert_eq!((with.code, verdict_of(&restored)), (0, 7), "{with:?}");
}

#[test]
fn an_export_is_verified_and_read_without_its_store() {
    let (place, ..) = Place::with_key();
    let key = place.path().join("trail.key");
    std::fs::write(&key, place.done(&["audit", "key"]).stdout).unwrap();
    let trail = place.path().join("trail");
    let exported = place.done(&["audit", "export"]).stdout;
    let listed = place.done(&["audit", "list", "--json"]).stdout;
    std::fs::remove_file(place.store()).unwrap();
    let read = |export: &str| {
        std::fs::write(&trail, export).unwrap();
        let mut verify = gatekey();
        let verify = verify.args(["audit", "verify", "--entries"]).arg(&trail);
        run(verify.arg("--key-file").arg(&key), "")
    };
    let whole = read(&exported);
    assert_eq!((whole.code, &whole.stdout), (0, &listed), "{whole:?}");

    // Of a trail that somebody changed, what is before the change is told, and nothing after.
    // After the last entry comes a line that says where the export ends.
    let last = exported.lines().rev().nth(1).unwrap();
    let forged = match last.strip_suffix('0') {
        Some(rest) => format!("{rest}1"),
        None => format!("{}0", &last[..last.len() - 1]),
    };
    let changed = read(&exported.replace(last, &forged));
    assert_eq!(changed.code, 6, "{changed:?}");
    let before_last = listed.lines().count() - 1;
    assert_eq!(changed.stdout.lines().count(), before_last, "{changed:?}");
    assert!(listed.starts_with(&changed.stdout));
}

/// A store of which a page is damaged.
#[test]
fn a_check_that_finds_something_exits_6_and_names_it() {
    let (place, id, token) = Place::with_key();
    // The id stands in the records of the key: what is in the place of one is damage.
    let mut bytes = std::fs::read(place.store()).unwrap();
    let owner = b"acme/ingest";
    let mut hits = 0;
    for at in 0..bytes.len() - owner.len() {
        if &bytes[at..at + owner.len()] == owner {
            bytes[at] = b'b';
            hits += 1;
        }
    }
    assert!(hits > 0);
    std::fs::write(place.store(), bytes).unwrap();
    let check = place.run(&["check"]);
    assert_eq!(check.code, 6, "{check:?}");
    assert!(
        check.stdout.contains("keys") && check.stderr.contains("findings"),
        "{check:?}"
    );
    let json = place.run(&["check", "--json"]);
    assert_eq!(
        (json.code, json.json()["is_sound"].clone()),
        (6, false.into())
    );
    assert_ne!(place.run_with(&["verify"], &token).code, 0);
    assert_eq!(
        place.run(&["key", "revoke", &id, "--yes"]).code,
        0,
        "a damaged key is revoked"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_store_that_is_locked_exits_5_and_says_by_whom() {
    let (place, _, _) = Place::with_key();
    let server = place.serve(&[]);
    // Its socket is gone, as with a server that opens none.
    let socket = gatekey_admin::socket_beside(place.store());
    std::fs::remove_file(&socket).unwrap();
    for args in [&["stats"][..], &["key", "list"], &["serve"], &["init"]] {
        let ran = place.run(args);
        let code = if args == ["init"] { 4 } else { 5 };
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        if code == 5 {
            let holder = format!("process {} (gatekey)", server.id());
            assert!(ran.stderr.contains(&holder), "{ran:?}");
        }
    }
    // One that nobody listens at.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(place.run(&["stats"]).code, 5);
    drop(server);
    assert_eq!(place.run(&["stats"]).code, 0);
}

#[test]
fn what_cannot_be_undone_is_not_done_unasked() {
    let (place, id, token) = Place::with_key();
    for args in [
        &["key", "revoke", &id][..],
        &["key", "rotate", &id],
        &["owner", "suspend", "acme"],
        &["owner", "revoke", "acme"],
        &["keyspace", "revoke", "acme_live"],
        &["purge", "--age", "0s"],
        &["repair"],
        &["audit", "trim", "--through", "2"],
    ] {
        let before = place.done(&["audit", "span"]).stdout;
        let ran = place.run(args);
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains("--yes"), "{ran:?}");
        assert_eq!(place.done(&["audit", "span"]).stdout, before, "{args:?}");
    }
    for (args, keys) in [
        (&["owner", "suspend", "acme"][..], "keys"),
        (&["owner", "revoke", "acme"], "newly"),
        (&["keyspace", "revoke", "acme_live"], "newly"),
    ] {
        let mut args = args.to_vec();
        args.extend(["--dry-run", "--json"]);
        assert_eq!(place.done(&args).json()[keys], 1, "{args:?}");
    }
    assert_eq!(place.run_with(&["verify"], &token).code, 0);
    place.done(&["owner", "revoke", "acme", "--yes"]);
    assert_eq!(place.run_with(&["verify"], &token).code, 7);
}
