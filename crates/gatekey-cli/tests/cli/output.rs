//! What is printed where: for programs, for people, and no secret.

use std::time::Duration;

use gatekey::Clock as _;
use snapbox::{assert_data_eq, str};

use crate::program::{Place, gatekey, run};

#[test]
fn a_token_alone_goes_to_stdout() {
    let (place, id, _) = Place::with_key();
    let issued = place.done(&["key", "issue", "acme_live", "--owner", "acme"]);
    let rotated = place.done(&["key", "rotate", &id, "--grace", "1d"]);
    for ran in [issued, rotated] {
        let token = ran.stdout.strip_suffix('\n').unwrap();
        assert!(!token.contains(char::is_whitespace), "{ran:?}");
        assert!(!ran.stderr.contains(token));
        assert_eq!(place.run_with(&["verify"], token).code, 0);
        assert_eq!(
            place.run_with(&["verify"], &ran.stdout).code,
            0,
            "with its newline"
        );
    }
    let batch = "{\"keyspace\": \"acme_live\", \"owner\": \"a\"}\n\n{\"keyspace\": \"acme_live\", \"owner\": \"b\"}\n";
    let issued = place.run_with(&["key", "batch", "-"], batch);
    assert_eq!(issued.stdout.lines().count(), 2, "{issued:?}");
    let wrong = "{\"keyspace\": \"acme_live\", \"owner\": \"a\", \"expiresIn\": 60}\n";
    let refused = place.run_with(&["key", "batch", "-"], wrong);
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (2, ""),
        "{refused:?}"
    );
}

#[test]
fn usage_is_a_table_of_days_or_a_chart_and_hints_name_their_rule() {
    let (place, id, token) = Place::with_key();
    assert_eq!(place.run_with(&["verify"], &token).code, 0);
    place.done(&["key", "revoke", &id, "--yes"]);
    assert_eq!(place.run_with(&["verify"], &token).code, 7);
    let usage = place.done(&["usage", "--key", &id, "--last", "7d"]).stdout;
    let rows: Vec<&str> = usage.lines().collect();
    assert!(
        rows[0].starts_with("begins ") && rows[1].ends_with(" 1        1       revoked 1"),
        "{usage}"
    );
    assert_eq!(rows.len(), 2, "{usage}");
    let hourly = ["usage", "--keyspace", "acme_live", "--hourly", "--json"];
    let hours = place.done(&hourly).json();
    assert_eq!(
        (&hours["granted"], &hours["denied"]),
        (&1.into(), &1.into())
    );
    let chart = place
        .done(&["usage", "--keyspace", "acme_live", "--svg"])
        .stdout;
    assert!(
        chart.starts_with("<svg ") && chart.ends_with("</svg>\n"),
        "{chart}"
    );
    let owners_hours = ["usage", "--owner", "acme", "--hourly"];
    assert_eq!(place.run_with(&owners_hours, "").code, 2);
    let hints = place.done(&["hints", "--json"]).json();
    assert_eq!(hints["rule"], "revoked_key_tried");
    assert_eq!(hints["key"], id);
    assert!(!place.done(&["hints"]).stdout.contains(&token));
}

#[test]
fn a_server_that_is_told_to_notes_networks_and_a_new_one_is_a_hint() {
    const DAY: Duration = Duration::from_secs(86_400);
    let place = Place::empty();
    let then = gatekey::SystemClock.now().saturating_sub(8 * DAY);
    let options = gatekey::Options::new().note_networks(true);
    let engine = options
        .clock(gatekey::ManualClock::at(then))
        .create(place.store())
        .unwrap();
    let keyspace = gatekey::NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(keyspace).unwrap();
    let new = gatekey::NewKey::new("acme_live", "acme").unwrap();
    let issued = engine.issue(new).unwrap();
    let token = issued.token.expose().to_owned();
    let from = gatekey::Requirements::new().source([192, 0, 2, 1].into());
    assert!(engine.verify_with(&token, &from).unwrap().is_granted());
    engine.close().unwrap();
    let id = issued.key.id.to_string();
    let networks = |place: &Place| -> Vec<String> {
        let usage = place.done(&["--json", "key", "usage", &id]).json();
        let networks = usage["networks"].as_array().unwrap().iter();
        networks
            .map(|noted| noted["network"].as_str().unwrap().to_owned())
            .collect()
    };
    let verify = |source| {
        let ran = place.run_with(&["verify", "--source", source], &token);
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    let server = place.serve(&[]);
    verify("203.0.113.7");
    assert_eq!(networks(&place), ["192.0.2.0/24"]);
    assert_eq!(server.stop(), Some(0));
    let server = place.serve(&["--note-networks"]);
    verify("198.51.100.7");
    assert_eq!(networks(&place), ["192.0.2.0/24", "198.51.100.0/24"]);
    let hint = place.done(&["hints", "--json"]).json();
    assert_eq!(hint["rule"], "new_network");
    assert_eq!(hint["network"], "198.51.100.0/24");
    assert!(hint["since"].is_string(), "{hint}");
    let table = place.done(&["hints"]).stdout;
    assert!(table.contains("198.51.100.0/24"), "{table}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn json_is_one_object_a_line_and_lists_go_through_all_pages() {
    let (place, _, _) = Place::with_key();
    let one = "{\"keyspace\": \"acme_live\", \"owner\": \"many\"}\n";
    place.run_with(&["key", "batch", "-"], &one.repeat(1_200));
    let listed = place.done(&["key", "list", "--json", "--owner", "many"]);
    let ids: std::collections::BTreeSet<String> = listed
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1_200);
    let some = place.done(&["key", "list", "--json", "--limit", "7"]);
    assert_eq!(some.stdout.lines().count(), 7);
    assert!(
        place
            .done(&["audit", "list", "--json"])
            .stdout
            .lines()
            .count()
            >= 3
    );
    for args in [
        &["stats"][..],
        &["health"],
        &["clock"],
        &["check"],
        &["audit", "span"],
        &["keyspace", "show", "acme_live"],
        &["owner", "show", "acme"],
        &["usage", "--owner", "acme"],
    ] {
        let mut args = args.to_vec();
        args.push("--json");
        let ran = place.done(&args);
        assert_eq!(ran.stdout.lines().count(), 1, "{args:?}");
        assert!(ran.json().is_object(), "{args:?}");
    }
}

#[test]
fn tables_are_aligned_and_without_colour_where_no_terminal_is() {
    let (place, _, _) = Place::with_key();
    let listed = place.done(&["key", "list"]);
    assert_data_eq!(
        listed.stdout,
        str![[r#"
id          keyspace   owner        state   permissions  expires_at  last_used  used  name
[..]  acme_live  acme/ingest  active  read         -           -          0     -

"#]]
    );
    assert_data_eq!(
        place.done(&["keyspace", "list"]).stdout,
        str![[r#"
prefix     description  default_lifetime  max_lifetime  default_plan
acme_live  -            -                 -             -

"#]]
    );
}

/// The line of the commands, which scripts are written against.
#[test]
fn the_commands_are_these() {
    let help = run(gatekey().arg("--help").env("COLUMNS", "100"), "").stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_data_eq!(
        commands.join(" "),
        str![
            "init keyspace key owner verify inspect find audit usage hints stats health clock metrics check repair backup restore import purge compact fleet pepper api serve completions man help"
        ]
    );
}

#[test]
fn the_man_page_and_the_help_name_the_exit_codes() {
    for args in [&["man"][..], &["--help"]] {
        let text = run(gatekey().args(args), "").stdout;
        assert!(text.contains("7 denied"), "{text}");
    }
}

/// A token where none belongs is in no message.
#[test]
fn no_message_shows_a_token() {
    let (place, _, token) = Place::with_key();
    let secret = &token[token.len() - 49..token.len() - 20];
    for args in [
        &["key", "show", &token][..],
        &["keyspace", "show", &token],
        &["owner", "show", &token],
        &["key", "list", "--keyspace", &token],
        &[
            "key",
            "issue",
            "acme_live",
            "--owner",
            "a",
            "--permission",
            &token,
        ],
        &[
            "key",
            "issue",
            "acme_live",
            "--owner",
            "a",
            "--plan",
            &token,
        ],
        &["api", "GET", &token],
        &["api", "POST", "/v1/keys", "--body", &token],
    ] {
        let ran = place.run(args);
        assert_ne!(ran.code, 0, "{args:?}");
        let text = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!text.contains(secret), "{args:?}: {text}");
    }
}

/// `gatekey key list | head -1` is no fault to be told.
#[test]
fn a_reader_that_has_enough_is_no_fault() {
    let (place, _, _) = Place::with_key();
    let one = "{\"keyspace\": \"acme_live\", \"owner\": \"many\"}\n";
    place.run_with(&["key", "batch", "-"], &one.repeat(2_000));
    let script = format!("{} key list --json | head -1", crate::program::GATEKEY);
    let mut shell = std::process::Command::new("sh");
    let ran = run(
        shell
            .args(["-c", &script])
            .env("GATEKEY_STORE", place.store()),
        "",
    );
    assert_eq!((ran.stdout.lines().count(), ran.stderr.as_str()), (1, ""));
}
