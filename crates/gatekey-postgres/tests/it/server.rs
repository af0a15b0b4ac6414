//! A PostgreSQL of a test's own, run as an ordinary user.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gatekey_postgres::Config;

/// Debian's `nobody`, which runs the servers where root runs the tests: PostgreSQL
/// refuses to be run by root.
pub(crate) const NOBODY: u32 = 65_534;

pub(crate) struct Postgres {
    bin: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

/// The folder of PostgreSQL's programs, or `None` after saying that the test is left out.
/// With `GATEKEY_TOOLS=all`, as in the gate, that is a failure.
pub(crate) fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    // All of them: a path may have links to some.
    let programs = ["initdb", "pg_basebackup", "pg_ctl", "postgres"];
    let has_all = |it: &PathBuf| programs.iter().all(|name| it.join(name).is_file());
    let found = folders.into_iter().find(has_all);
    if found.is_none() {
        let all = std::env::var("GATEKEY_TOOLS").is_ok_and(|tools| tools == "all");
        assert!(!all, "PostgreSQL is missing: apt-get install postgresql");
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let note =
            format!("left out: {test}, for want of PostgreSQL (apt-get install postgresql)\n");
        // Past the capture of the test's output.
        let _ = std::io::stderr().lock().write_all(note.as_bytes());
    }
    found
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0)
}

pub(crate) fn command(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let nobody = NOBODY.to_string();
    command
        .args([
            "--reuid",
            &nobody,
            "--regid",
            &nobody,
            "--clear-groups",
            "--",
        ])
        .arg(program);
    command
}

/// Runs a program to its end.
///
/// # Panics
/// Where it fails, with what it said.
pub(crate) fn succeed(command: &mut Command) {
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}

/// A port that nobody listens at.
pub(crate) fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

impl Postgres {
    /// Starts one, with more settings.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let bin = programs()?;
        // A socket's path is short.
        let dir = tempfile::Builder::new().prefix("gkpg").tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        if is_root() {
            for path in [dir.path(), &data] {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        succeed(
            command(&bin.join("initdb"))
                .args([
                    "-A",
                    "trust",
                    "-U",
                    "postgres",
                    "-E",
                    "UTF8",
                    "--no-sync",
                    "-D",
                ])
                .arg(&data)
                .current_dir(&data),
        );
        let mut postgres = Self {
            bin,
            dir,
            port: free_port(),
            child: None,
        };
        postgres.run(settings);
        Some(postgres)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A standby of it, which replicates under the name `standby`.
    pub(crate) fn standby(&self) -> Self {
        self.standby_through(self.port, free_port())
    }

    /// The same at a port, and through a network that stands before the database's own.
    pub(crate) fn standby_through(&self, network: u16, port: u16) -> Self {
        let mut standby = self.copy(port);
        let data = standby.data();
        let from = format!(
            "primary_conninfo = 'host=127.0.0.1 port={network} user=postgres application_name=standby'\n"
        );
        // Not by `-R`, which writes what servers of older versions do not read.
        let auto = data.join("postgresql.auto.conf");
        let mut settings = std::fs::OpenOptions::new().append(true).open(auto).unwrap();
        settings.write_all(from.as_bytes()).unwrap();
        std::fs::write(data.join("standby.signal"), "").unwrap();
        if is_root() {
            std::os::unix::fs::chown(data.join("standby.signal"), Some(NOBODY), Some(NOBODY))
                .unwrap();
        }
        standby.run_without_schema(&[]);
        standby
    }

    /// A base backup of it, which is for this port and does not run yet.
    pub(crate) fn copy(&self, port: u16) -> Self {
        let dir = tempfile::Builder::new().prefix("gkpg").tempdir().unwrap();
        if is_root() {
            std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let from = format!("host=127.0.0.1 port={} user=postgres", self.port);
        succeed(
            command(&self.bin.join("pg_basebackup"))
                .args(["-d", &from, "-X", "stream", "-c", "fast", "--no-sync", "-D"])
                .arg(dir.path().join("data"))
                .current_dir(dir.path()),
        );
        Self {
            bin: self.bin.clone(),
            dir,
            port,
            child: None,
        }
    }

    /// Runs it, again after [`stop`](Self::stop), until it has the tables of logs.
    pub(crate) fn run(&mut self, settings: &[&str]) {
        self.spawn(settings);
        self.wait_until(|postgres| postgres.config().create_schema().is_ok());
    }

    /// The same of one that takes no writes.
    pub(crate) fn run_without_schema(&mut self, settings: &[&str]) {
        self.spawn(settings);
        self.wait_until(|postgres| {
            let address = postgres.address("postgres", "disable");
            postgres::Client::connect(&address, postgres::NoTls).is_ok()
        });
    }

    fn wait_until(&self, is_there: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is_there(self) {
            let is_over = begun.elapsed() > Duration::from_secs(60);
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(!is_over, "it does not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn spawn(&mut self, settings: &[&str]) {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = command(&self.bin.join("postgres"));
        command
            .arg("-D")
            .arg(self.data())
            .args([
                "-p",
                &self.port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
            ])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off"])
            .args(["-c", "max_connections=60", "-c", "autovacuum=off"])
            .current_dir(self.data())
            .stdout(Stdio::null())
            .stderr(log);
        for setting in settings {
            command.args(["-c", setting]);
        }
        self.child = Some(command.spawn().unwrap());
    }

    /// Stops it at once, as a crash does.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let id = child.id().to_string();
            let _ = Command::new("kill").args(["-QUIT", &id]).status();
            let _ = child.wait();
        }
    }

    /// Lets it answer nothing, as a network that loses all packets does, or go on.
    pub(crate) fn freeze(&self, is_frozen: bool) {
        let signal = if is_frozen { "-STOP" } else { "-CONT" };
        let parent = self.child.as_ref().unwrap().id().to_string();
        let children = Command::new("pgrep")
            .args(["-P", &parent])
            .output()
            .unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        let all = std::iter::once(&*parent).chain(children.split_whitespace());
        let status = Command::new("kill")
            .arg(signal)
            .args(all)
            .stderr(Stdio::null())
            .status();
        drop(status);
    }

    pub(crate) fn address(&self, user: &str, tls: &str) -> String {
        let port = self.port;
        format!("postgres://{user}@127.0.0.1:{port}/postgres?sslmode={tls}")
    }

    pub(crate) fn config(&self) -> Config {
        let config = Config::new(&self.address("postgres", "disable")).unwrap();
        config.deadline(Duration::from_secs(10))
    }

    /// Runs statements as the owner of the database, and gives the first row of the last.
    pub(crate) fn sql(&self, text: &str) -> String {
        let address = self.address("postgres", "disable");
        let mut client = postgres::Client::connect(&address, postgres::NoTls).unwrap();
        let mut told = String::new();
        for message in client.simple_query(text).unwrap() {
            if let postgres::SimpleQueryMessage::Row(row) = message {
                let columns = (0..row.len()).map(|at| row.get(at).unwrap_or_default());
                told = columns.collect::<Vec<_>>().join("|");
            }
        }
        told
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.freeze(false);
        }
        self.stop();
    }
}
