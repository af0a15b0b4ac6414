//! Completions with what the store has.

use crate::program::{Place, gatekey, run};

fn complete(place: &Place, words: &[&str]) -> String {
    let mut command = gatekey();
    command
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .env("_CLAP_IFS", "\n")
        .env("GATEKEY_STORE", place.store())
        .arg("--")
        .args(words);
    run(&mut command, "").stdout
}

#[test]
fn ids_owners_and_keyspaces_are_completed_on_a_file_and_over_the_socket() {
    let (place, id, _) = Place::with_key();
    let ask = || {
        assert_eq!(
            complete(&place, &["gatekey", "key", "show", &id[..2]]).trim(),
            id
        );
        let owners = complete(&place, &["gatekey", "owner", "suspend", "ac"]);
        assert_eq!(owners.trim(), "acme/ingest");
        let keyspaces = complete(&place, &["gatekey", "key", "issue", ""]);
        assert!(
            keyspaces.lines().any(|line| line == "acme_live"),
            "{keyspaces}"
        );
        let commands = complete(&place, &["gatekey", "key", "ro"]);
        assert_eq!(commands.trim(), "rotate");
    };
    ask();
    let server = place.serve(&[]);
    ask();
    assert_eq!(server.stop(), Some(0));
    // Where there is no store, there is nothing to say.
    let nowhere = Place::empty();
    assert_eq!(
        complete(&nowhere, &["gatekey", "key", "show", "1"]).trim(),
        ""
    );
    assert!(!nowhere.store().exists());
}

#[test]
fn there_is_a_script_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(gatekey().args(["completions", shell]), "");
        assert!(
            ran.code == 0 && ran.stdout.contains("COMPLETE"),
            "{shell}: {ran:?}"
        );
    }
}
