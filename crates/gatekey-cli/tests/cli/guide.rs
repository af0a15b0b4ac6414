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
