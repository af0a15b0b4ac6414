//! Programs of others that some tests ask: `tests/tools/install.sh` fetches them.

use std::path::PathBuf;

/// Where a program is, or `None` after saying that its test is left out. With
/// `GATEKEY_TOOLS=all`, as in the gate, a program that is missing is a failure.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let found = look(program);
    if found.is_none() {
        let all = std::env::var("GATEKEY_TOOLS").is_ok_and(|tools| tools == "all");
        assert!(!all, "{program} is missing: tests/tools/install.sh");
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let note = format!("left out: {test}, for want of {program} (tests/tools/install.sh)\n");
        // Past the capture of the test's output.
        use std::io::Write as _;
        let _ = std::io::stderr().lock().write_all(note.as_bytes());
    }
    found
}

/// The first of two programs that is there; where neither is, as [`find`] of the first.
#[must_use]
pub fn either(programs: [&str; 2]) -> Option<PathBuf> {
    let [first, second] = programs;
    look(first).or_else(|| look(second)).or_else(|| find(first))
}

fn look(program: &str) -> Option<PathBuf> {
    // A copy of the source, into which a fault is seeded, has no programs of its own.
    let installed = std::env::var_os("GATEKEY_TOOLS_BIN")
        .map_or_else(|| crate::root().join("target/tools/bin"), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(installed)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(program))
        .find(|program| program.is_file())
}
