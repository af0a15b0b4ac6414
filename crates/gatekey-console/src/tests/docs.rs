//! What the project's pages say of these, held against the source.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The source of the crate, with its tests, file by file.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push((path.clone(), std::fs::read_to_string(path).unwrap())),
            }
        }
    }
    found
}

/// A newcomer's part, of the first example in the guide: `cargo test --doc` builds it.
#[test]
fn self_service_is_mounted_in_under_twenty_lines() {
    let guide = std::fs::read_to_string(root().join("docs/CONSOLE.md")).unwrap();
    let example = guide.split("```rust").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    assert!(example.contains("SelfService::new(engine).router()"));
    let shown: Vec<&str> = example
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert!((10..20).contains(&shown.len()), "{shown:#?}");
    let is_built = std::fs::read_to_string(root().join("crates/gatekey-console/src/lib.rs"));
    assert!(is_built.unwrap().contains("docs/CONSOLE.md"));
}

/// The table of attacks in SECURITY.md: a test a row, or the row says that it is not stopped.
#[test]
fn each_row_of_the_table_of_attacks_names_tests_that_are_there() {
    let security = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let section = security.split("### The pages:").nth(1).unwrap();
    let section = section.split("\n### ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let sources = sources();
    let mut tests = 0;
    for row in rows.skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 3, "{row}");
        let names: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        assert!(
            !names.is_empty() || cells[1].contains("**not stopped**"),
            "no test: {row}"
        );
        for name in names {
            let (module, function) = name.rsplit_once("::").unwrap();
            let module = module.trim_end_matches("::tests");
            let stands = sources.iter().any(|(path, source)| {
                path.file_stem().is_some_and(|stem| stem == module)
                    && source.contains(&format!("#[test]\nfn {function}()"))
                    || source.contains(&format!("#[test]\n    fn {function}()"))
            });
            assert!(stands, "there is no test {name}");
            tests += 1;
        }
    }
    assert!(tests > 25, "{tests}");
}

/// Words are in the texts, and in no template: a translation is one file.
#[test]
fn no_template_has_words_of_its_own() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let mut templates = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [("{%", "%}"), ("{{", "}}"), ("<", ">")] {
            while let Some(at) = text.find(from) {
                let end = text[at..].find(to).unwrap() + at + to.len();
                let inside = text[at..end].to_owned();
                for said in ["title=\"", "alt=\"", "placeholder=\"", "aria-label=\""] {
                    let said = inside.split(said).nth(1).unwrap_or_default();
                    assert!(!said.starts_with(char::is_alphabetic), "{path:?}: {inside}");
                }
                text.replace_range(at..end, " ");
            }
        }
        let words: String = text.chars().filter(|of| of.is_alphabetic()).collect();
        assert_eq!(words, "", "{path:?}");
        templates += 1;
    }
    assert!(templates > 10);
}
