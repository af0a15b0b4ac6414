//! Running the program.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const GATEKEY: &str = env!("CARGO_BIN_EXE_gatekey");

/// A folder with a store.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

/// Without what the caller's environment says.
pub(crate) fn gatekey() -> Command {
    let mut command = Command::new(GATEKEY);
    for name in [
        "GATEKEY_STORE",
        "GATEKEY_URL",
        "GATEKEY_ADMIN_KEY",
        "GATEKEY_PEPPERS",
        "GATEKEY_CA_FILE",
        "GATEKEY_LOG",
        "GATEKEY_LOG_NAME",
        "GATEKEY_LOG_PASSWORD",
        "GATEKEY_LOG_PASSWORD_FILE",
        "GATEKEY_NODE",
        "GATEKEY_FRESHNESS",
        "GATEKEY_SERVE_STALE",
        "COMPLETE",
    ] {
        command.env_remove(name);
    }
    command
}

pub(crate) fn run(command: &mut Command, stdin: &str) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that reads nothing may be gone by then.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    Ran::of(&child.wait_with_output().unwrap())
}

impl Place {
    pub(crate) fn empty() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// With a store, a keyspace and a key: its id and its token.
    pub(crate) fn with_key() -> (Self, String, String) {
        let place = Self::empty();
        place.done(&["init"]);
        place.done(&[
            "keyspace",
            "create",
            "acme_live",
            "--permission",
            "read",
            "--permission",
            "write",
        ]);
        let issued = place.done(&[
            "--json",
            "key",
            "issue",
            "acme_live",
            "--owner",
            "acme/ingest",
            "--permission",
            "read",
        ]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let issued = issued.json();
        (place, text(&issued["key"]["id"]), text(&issued["token"]))
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("keys.redb")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = gatekey();
        command
            .current_dir(self.path())
            .arg("--store")
            .arg(self.store())
            .args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    pub(crate) fn run_with(&self, args: &[&str], stdin: &str) -> Ran {
        run(&mut self.command(args), stdin)
    }

    pub(crate) fn done(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran
    }

    /// Runs a command and kills it within some microseconds; says whether it ended well before.
    pub(crate) fn killed_within(&self, args: &[&str], random: &mut u64, micros: u64) -> bool {
        let mut child = self
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        *random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        std::thread::sleep(Duration::from_micros((*random >> 33) % micros));
        let _ = child.kill();
        child.wait().unwrap().success()
    }

    /// A server that holds the store, once it can be asked.
    pub(crate) fn serve(&self, more: &[&str]) -> Server {
        let mut args = vec!["serve", "--create"];
        args.extend(more);
        let log = std::fs::File::create(self.path().join("serve.log")).unwrap();
        let child = self
            .command(&args)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Server { child };
        let log = || std::fs::read_to_string(self.path().join("serve.log")).unwrap();
        wait_for("the server", || {
            let doors = if more.contains(&"--tcp") { 2 } else { 1 };
            log().matches("serving").count() == doors
        });
        server
    }

    /// The URL that a server said.
    pub(crate) fn url(&self) -> String {
        let log = std::fs::read_to_string(self.path().join("serve.log")).unwrap();
        let at = log.find("http://").unwrap();
        log[at..].split_whitespace().next().unwrap().to_owned()
    }
}

pub(crate) fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "{what} did not come"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server, which is stopped at the end.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to stop, and waits for its end: the code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(kill.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
