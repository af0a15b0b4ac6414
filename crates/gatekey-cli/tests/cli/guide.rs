//! docs/CLI.md: each of its blocks of commands, on a file and while a server holds it.

use std::process::Command;

use crate::program::{GATEKEY, Place, run};

const GUIDE: &str = include_str!("../../../../docs/CLI.md");
/// What is below this heading needs the file.
const FILE_ALONE: &str = "## On the file alone";

/// The blocks of commands of a part of the page, as one script.
fn script(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1);
    let script: String = blocks
        .map(|block| block.split("```").next().unwrap())
        .collect();
    script
}

fn shell(place: &Place, script: &str) {
    let program = std::path::Path::new(GATEKEY).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("bash");
    shell
        .args(["-euxo", "pipefail", "-c", script])
        .current_dir(place.path())
        .env("PATH", format!("{}:{path}", program.display()))
        .env_remove("GATEKEY_URL")
        .env_remove("GATEKEY_PEPPERS");
    let ran = run(&mut shell, "");
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
}

#[test]
fn every_command_of_the_guide_works_on_a_file() {
    shell(&Place::empty(), &script(GUIDE));
}

#[test]
fn every_command_of_the_guide_works_while_a_server_holds_the_file() {
    let place = Place::empty();
    let server = place.serve(&[]);
    let (page, _) = GUIDE.split_once(FILE_ALONE).unwrap();
    let script = script(page);
    assert!(script.contains("gatekey init\n"));
    // The server has created it.
    shell(&place, &script.replace("gatekey init\n", ""));
    assert_eq!(server.stop(), Some(0));
}

const IMPORT: &str = include_str!("../../../../docs/IMPORT.md");

#[test]
fn every_command_of_the_page_about_imports_works_on_a_file() {
    shell(&Place::empty(), &script(IMPORT));
}

#[test]
fn every_command_of_the_page_about_imports_works_while_a_server_holds_the_file() {
    let place = Place::empty();
    let server = place.serve(&[]);
    let script = script(IMPORT);
    assert!(script.contains("gatekey init\n"));
    // The server has created it.
    shell(&place, &script.replace("gatekey init\n", ""));
    assert_eq!(server.stop(), Some(0));
}

/// As an ordinary user, in an empty folder, with the program in the path and nothing else.
#[cfg(feature = "postgres")]
#[test]
fn every_command_of_the_page_about_fleets_works() {
    use crate::postgres::{NOBODY, command, is_root, programs};
    if programs().is_none() {
        return;
    }
    // The path of a socket is short.
    let folder = tempfile::Builder::new().prefix("gkfl").tempdir().unwrap();
    let program = folder.path().join("gatekey");
    std::fs::copy(GATEKEY, &program).unwrap();
    if is_root() {
        std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let page = include_str!("../../../../docs/FLEET.md");
    let ends = "\ntrap 'kill $(jobs -p); pg_ctl -D pg -m immediate stop' EXIT\n";
    let script = script(page).replacen(
        "\nexport GATEKEY_LOG",
        &format!("{ends}export GATEKEY_LOG"),
        1,
    );
    assert!(script.contains("trap") && script.contains("fleet create"));
    let script = script.replace(
        "pg_ctl -D pg -w stop\n",
        "pg_ctl -D pg -w stop\ntrap - EXIT\n",
    );
    let path = std::env::var("PATH").unwrap();
    let mut shell = command(std::path::Path::new("bash"));
    shell
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(folder.path())
        .env("PATH", format!("{}:{path}", folder.path().display()));
    for name in [
        "GATEKEY_STORE",
        "GATEKEY_URL",
        "GATEKEY_NODE",
        "GATEKEY_LOG_PASSWORD",
    ] {
        shell.env_remove(name);
    }
    let ran = run(&mut shell, "");
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("denied: 7"),
        "{}\n{}",
        ran.stdout,
        ran.stderr
    );
}
