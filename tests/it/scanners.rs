//! The pattern for secret scanners, over what tokens stand in: logs, configuration,
//! terminals. `tests/scanners/run.sh` gives the same lines to gitleaks.

use std::path::Path;
use std::process::Command;

use gatekey::{Engine, NewKey, NewKeyspace, Prefix};
use regex::Regex;

/// Lines of real tools, with a token where `{}` stands.
const SURROUNDINGS: &[&str] = &[
    // As it is.
    "{}",
    "token={}",
    "export API_KEY={}",
    "API_KEY=\"{}\"",
    "api_key: {}",
    "- '{}'",
    "<key>{}</key>",
    "[key]({})",
    "`{}`",
    "Authorization: Bearer {}",
    "curl -u {}: https://api.example.com/v1/schema",
    "  1043  2026-11-25 10:11:12 curl -HX-API-Key:{} https://api.example.com",
    "127.0.0.1 - - [25/Nov/2026:10:11:12 +0000] \"DELETE /admin/keys/{} HTTP/1.1\" 404 21",
    "mysql://user:{}@db/prod?ssl=true",
    // Behind an escape that ends in a letter or a digit.
    r#"{"level":"error","msg":"refused\n{}"}"#,
    r#"{"level":"error","msg":"key:\t{}\r\n"}"#,
    r#"{"body":"{\"token\":\"{}\"}"}"#,
    r#"{"msg":"\u003d{}\u0026x=1"}"#,
    r"b'GET / HTTP/1.1\r\nX-API-Key: a\r\n{}\r\n'",
    r"\x1b[31m{}\x1b[0m",
    r"\033[1;31m{}\033[0m",
    r"^[[32m{}^[[0m",
    "\u{1b}[31m{}\u{1b}[0m",
    "\u{1b}[38;5;196m{}\u{1b}[m",
    "GET /v1/?key%3D{} HTTP/1.1",
    "GET /v1/?next=%2Fa%3Fkey%253D{}%26x HTTP/1.1",
    "key%3d{}%0a",
    "&#61;{}&#10;",
    "=3D{}=20",
    // Glued to a word.
    "my_{}",
    "backup_{}_old",
    "old{}",
    "key1{}",
    "{}_",
    "{}x",
    "{}{}",
    "\u{e9}{}\u{e9}",
    "\u{feff}{}\u{0}",
];

/// What is done to the token itself, and still shows it to whoever reads it.
fn disguises(token: &str) -> [String; 6] {
    [
        token.to_owned(),
        token.replace('_', "%5F"),
        token.replace('_', "%5f"),
        token.replace('_', "%255F"),
        token.replace('_', r"\_"),
        token.replace('_', r"\\_"),
    ]
}

fn tokens(prefix: &str) -> Vec<String> {
    let engine = Engine::open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new(prefix).unwrap())
        .unwrap();
    let new = || NewKey::new(prefix, "acme").unwrap();
    let issued = engine.issue_batch((0..20).map(|_| new()).collect());
    let tokens = issued.unwrap();
    tokens
        .iter()
        .map(|issued| issued.token.expose().to_owned())
        .collect()
}

fn pattern(prefix: &str) -> String {
    prefix.parse::<Prefix>().unwrap().scanner_pattern()
}

fn lines(prefix: &str) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for (at, token) in tokens(prefix).iter().enumerate() {
        for surrounding in SURROUNDINGS {
            for disguise in disguises(token) {
                // All of them for some, and the plain one for the rest.
                if at < 3 || disguise == *token {
                    lines.push((surrounding.replace("{}", &disguise), disguise));
                }
            }
        }
    }
    lines
}

#[test]
fn the_pattern_finds_every_token_whatever_stands_beside_it() {
    for prefix in ["acme_live", "a", "0", "_", "x__y_", &"a_".repeat(16)] {
        let regex = Regex::new(&pattern(prefix)).unwrap();
        for (line, token) in lines(prefix) {
            let found = regex.find(&line).unwrap_or_else(|| panic!("{line}"));
            assert!(found.as_str().ends_with(&token), "{line}: {found:?}");
        }
    }
}

/// Whatever the two bytes before it and behind it.
#[test]
fn no_character_beside_a_token_hides_it() {
    let regex = Regex::new(&pattern("acme_live")).unwrap();
    let token = &tokens("acme_live")[0];
    for first in 0..=127_u8 {
        for second in 0..=127_u8 {
            let beside = [char::from(first), char::from(second)];
            let beside = String::from_iter(beside);
            let line = format!("{beside}{token}{beside}");
            assert!(regex.is_match(&line), "{line:?}");
        }
    }
}

/// What is in logs and sources besides.
fn ordinary() -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    // Numbers that look random and are the same in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..300 {
        let hex = format!(
            "{:016x}{:016x}{:016x}{:016x}",
            next(),
            next(),
            next(),
            next()
        );
        let (a, b, c, d) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..28]);
        let at = 1_700_000_000 + next() % 100_000_000;
        for word in ["live", "file", "key", "user", "img", "acme_live"] {
            let _ = writeln!(
                text,
                "{word}_{a}-{b}-{c}-{b}-{d} {word}={hex} sha256:{hex} {word}_{hex} \
                 {word}_{at}.log {word}_{at}_{d} {word}_{at}_{}.png {word}-{at}-{hex} \
                 {word}_id_{hex} ghp_{} eyJhbGciOiJIUzI1NiJ9.{hex}.{hex} {word}/{at}/{hex} \
                 {word}_processing_pipelines_of_the_authentication_service_are_never_idle",
                &hex[..40],
                &hex[..36],
            );
        }
    }
    text
}

#[test]
fn ordinary_text_is_not_taken_for_a_token() {
    let mut text = ordinary();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in [
        "Cargo.lock",
        "docs/DESIGN.md",
        "docs/throughput.svg",
        "LICENSE-APACHE",
    ] {
        text.push_str(&std::fs::read_to_string(root.join(file)).unwrap());
    }
    for prefix in ["live", "file", "key", "user", "img", "acme_live", "a"] {
        let regex = Regex::new(&pattern(prefix)).unwrap();
        let found: Vec<_> = regex.find_iter(&text).take(3).collect();
        assert!(found.is_empty(), "{prefix}: {found:?}");
    }
}

/// gitleaks itself, by its own reading of the pattern (Go's RE2).
#[test]
fn gitleaks_finds_every_token() {
    let Some(gitleaks) = gatekey_testkit::tools::find("gitleaks") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus");
    std::fs::create_dir(&corpus).unwrap();
    let all = lines("acme_live");
    for (at, (line, _)) in all.iter().enumerate() {
        std::fs::write(corpus.join(format!("{at}.txt")), format!("{line}\n")).unwrap();
    }
    // Base64, as of Basic: gitleaks decodes it first.
    let basic = {
        use base64::Engine as _;
        let pair = format!("{}:", tokens("acme_live")[0]);
        base64::engine::general_purpose::STANDARD.encode(pair)
    };
    let last = all.len();
    std::fs::write(
        corpus.join(format!("{last}.txt")),
        format!("Authorization: Basic {basic}\n"),
    )
    .unwrap();
    std::fs::write(corpus.join("ordinary.txt"), ordinary()).unwrap();
    let rules = folder.path().join("rules.toml");
    std::fs::write(
        &rules,
        format!(
            "[[rules]]\nid = \"acme\"\ndescription = \"a key\"\nregex = '''{}'''\n",
            pattern("acme_live")
        ),
    )
    .unwrap();
    let report = folder.path().join("report.json");
    let output = Command::new(gitleaks)
        .arg("dir")
        .args(["--no-banner", "--exit-code", "0", "--config"])
        .arg(&rules)
        .arg("--report-path")
        .arg(&report)
        .arg(&corpus)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let mut missed: Vec<usize> = (0..=last).collect();
    for finding in report.as_array().unwrap() {
        let file = Path::new(finding["File"].as_str().unwrap());
        let stem = file.file_stem().unwrap().to_str().unwrap();
        assert_ne!(stem, "ordinary", "{finding}");
        missed.retain(|at| at.to_string() != stem);
    }
    let missed: Vec<_> = missed.iter().map(|at| all.get(*at)).collect();
    assert!(missed.is_empty(), "{} of {last}: {missed:?}", missed.len());
}
