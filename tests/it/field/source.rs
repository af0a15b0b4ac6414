//! What the source must not have, since no test of behaviour would notice it
//! without taking times.

/// The lines of the crate's source before its tests, with their file.
fn source_lines() -> Vec<(String, String)> {
    let mut directories = vec![std::path::PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src"
    ))];
    let mut lines = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            let code = source.split("#[cfg(test)]\n").next().unwrap();
            let code = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            lines.extend(code.map(|line| (path.display().to_string(), line.to_owned())));
        }
    }
    assert!(lines.len() > 3000, "this is the source");
    lines
}

/// Tokens were compared with `==`, which tells by time how much of a guess is
/// right: CVE-2025-59425.
#[test]
fn no_digest_or_tag_is_compared_but_in_constant_time() {
    let names_a_secret = |side: &str| {
        let mut words = side.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| {
            matches!(
                word,
                "digest" | "mac" | "tag" | "hash" | "secret" | "signed" | "check"
            )
        })
    };
    // The operand next to the operator, on either side of it.
    let compares_a_secret = |line: &str| {
        [" == ", " != "].into_iter().any(|operator| {
            line.split_once(operator).is_some_and(|(left, right)| {
                let left = left.rsplit(' ').next().unwrap_or("");
                let right = right.split(' ').next().unwrap_or("");
                names_a_secret(left) || names_a_secret(right)
            })
        })
    };
    // What is public: in the table in memory, a tag is an id and a mark; in a
    // token's text, the check is a CRC of the rest.
    let is_public =
        |file: &str, line: &str| file.ends_with("resident.rs") || line.contains("checksum_of(");
    let found: Vec<_> = source_lines()
        .into_iter()
        .filter(|(file, line)| compares_a_secret(line) && !is_public(file, line))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
    // Where the comparison itself is, names tell nothing: these lines compare what
    // is public, an id and a length.
    let compares_what_is_public =
        |line: &str| line.contains("*id == pepper") || line.contains("left.len() == right.len()");
    let others: Vec<_> = source_lines()
        .into_iter()
        .filter(|(file, line)| {
            (file.ends_with("digest.rs") || file.ends_with("mac.rs"))
                && [" == ", " != ", ".eq(", ".ne(", ".cmp("]
                    .iter()
                    .any(|operator| line.contains(operator))
                && !compares_what_is_public(line)
        })
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    let comparing = source_lines();
    let uses = |function: &str| {
        comparing
            .iter()
            .filter(|(_, line)| line.contains(function))
            .count()
    };
    assert!(
        uses("digests_equal(") >= 4 && uses("macs_equal(") >= 2 && uses("ct_eq(") == 1,
        "the comparison is used"
    );
}

/// Random delays, which were to hide it, leaked whether a key was valid:
/// CVE-2026-23996. Opening alone waits, for a file that is in use, a server that ends, for
/// its log, a change of a fleet, for other servers, and the threads of a fleet, for their turn
/// and for more to read: never a verification.
#[test]
fn no_answer_is_delayed() {
    let waits = [
        "store/open.rs",
        "http/line_writer.rs",
        "engine/fleet/ahead.rs",
        "engine/fleet/everywhere.rs",
        "engine/fleet/lead.rs",
        "engine/fleet/thread.rs",
        "engine/fleet/thread.rs",
    ];
    let (expected, sleeps): (Vec<_>, Vec<_>) = source_lines()
        .into_iter()
        .filter(|(_, line)| line.contains("sleep(") || line.contains("park_timeout"))
        .partition(|(file, _)| {
            let file = std::path::Path::new(file);
            waits.iter().any(|wait| file.ends_with(wait))
        });
    assert!(sleeps.is_empty(), "{sleeps:?}");
    assert_eq!(expected.len(), waits.len(), "{expected:?}");
}
