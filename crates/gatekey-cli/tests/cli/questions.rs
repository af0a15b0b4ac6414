//! What people ask of a running store: each is one command of docs/CLI.md, which answers
//! rightly on a file and while a server holds it.

use serde_json::Value;

use crate::program::Place;

const GUIDE: &str = include_str!("../../../../docs/CLI.md");

/// The commands, as they stand in the guide.
const COMMANDS: [&str; 8] = [
    "printf %s \"$TOKEN\" | gatekey find\n",
    "printf %s \"$NEW\" | gatekey key revoke --token-stdin --reason key-compromise",
    "printf 'Authorization: Basic %s' \"$(printf 'someone:%s' \"$TOKEN\" | base64)\" | gatekey find\n",
    "gatekey key list --expiring 14d\n",
    "gatekey key list --name 'deploy R'\n",
    "gatekey key history \"$ID\"\n",
    "gatekey usage --owner acme --last 2d\n",
    "[a page of its own](IMPORT.md)",
];

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// By the program that people have.
fn base64(text: &str) -> String {
    crate::program::run(&mut std::process::Command::new("base64"), text).stdout
}

fn issue(place: &Place, owner: &str, life: &str) -> (String, String) {
    let issued = place.done(&[
        "--json",
        "key",
        "issue",
        "acme_live",
        "--owner",
        owner,
        "--name",
        &format!("key of {owner}"),
        "--expires",
        life,
    ]);
    let issued = issued.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&issued["key"]["id"]), text(&issued["token"]))
}

/// Whose is it; what ends in two weeks; how much an owner used yesterday and today; revoke it
/// now; who revoked it, and why.
fn answers(place: &Place, leaked: &(String, String), soon: &str, used: u64) {
    let (id, token) = leaked;
    let found = place.run_with(&["--json", "find"], token).json();
    assert_eq!(
        (&found["id"], &found["owner"]),
        (&id.as_str().into(), &"acme/app".into())
    );
    // As it stood in the text that it was found in.
    let header = format!("Authorization: Bearer {token}\r\nHost: x");
    for text in [
        header,
        format!("Basic {}", base64(&format!("someone:{token}"))),
    ] {
        let found = place.run_with(&["--json", "find"], &text).json();
        assert_eq!(found["id"], id.as_str(), "{text}");
    }
    let named = place.done(&["--json", "key", "list", "--name", "OF acme/APP"]);
    let named = lines(&named.stdout);
    assert!(
        named.iter().any(|key| key["id"] == id.as_str()),
        "{named:?}"
    );
    assert!(named.iter().all(|key| key["name"] == "key of acme/app"));
    let ending = lines(
        &place
            .done(&["--json", "key", "list", "--expiring", "14d"])
            .stdout,
    );
    let ids: Vec<&str> = ending
        .iter()
        .map(|key| key["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [soon]);
    let days = place.done(&["--json", "usage", "--owner", "acme", "--last", "2d"]);
    assert_eq!(days.json()["granted"], used, "{days:?}");

    let revoke = [
        "key",
        "revoke",
        "--token-stdin",
        "--reason",
        "key-compromise",
        "--note",
        "seen in a log",
        "--yes",
    ];
    let revoked = place.run_with(&revoke, token);
    assert_eq!(revoked.code, 0, "{revoked:?}");
    assert_eq!(place.run_with(&["verify"], token).code, 7);
    let history = lines(&place.done(&["--json", "key", "history", id]).stdout);
    let told = history
        .iter()
        .find(|entry| entry["event"]["type"] == "key_revoked");
    let told = told.unwrap_or_else(|| panic!("{history:?}"));
    assert!(
        told["actor"].as_str().unwrap().starts_with("unix:"),
        "{told}"
    );
    assert_eq!(
        (&told["event"]["reason"], &told["event"]["note"]),
        (&"key_compromise".into(), &"seen in a log".into())
    );
}

#[test]
fn each_question_is_one_command_on_a_file_and_while_a_server_holds_it() {
    for command in COMMANDS {
        assert!(GUIDE.contains(command), "{command}");
    }
    let (place, ..) = Place::with_key();
    let (soon, _) = issue(&place, "acme/soon", "10d");
    let on_file = issue(&place, "acme/app", "90d");
    let on_server = issue(&place, "acme/app", "90d");
    for (_, token) in [&on_file, &on_server] {
        assert_eq!(place.run_with(&["verify"], token).code, 0);
    }
    answers(&place, &on_file, &soon, 2);
    let server = place.serve(&[]);
    answers(&place, &on_server, &soon, 2);
    assert_eq!(server.stop(), Some(0));
}
