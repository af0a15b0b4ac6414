//! Fleets over a PostgreSQL that the tests start.

use std::path::PathBuf;

use serde_json::Value;
use snapbox::{assert_data_eq, str};

use crate::postgres::Postgres;
use crate::program::{GATEKEY, Place, Ran, Server, gatekey, run, wait_for};
use crate::terminal::Terminal;

/// One server: a folder with its file, and what its commands are given.
struct One {
    place: Place,
    args: Vec<String>,
    server: Option<Server>,
}

/// A database, and a file with the pepper.
struct World {
    postgres: Postgres,
    folder: tempfile::TempDir,
}

impl World {
    fn start() -> Option<Self> {
        let postgres = Postgres::start(&[])?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("pepper"),
            "of a secret manager, 32 bytes\n",
        )
        .unwrap();
        Some(Self { postgres, folder })
    }

    fn pepper(&self) -> String {
        format!("1={}", self.folder.path().join("pepper").display())
    }

    fn one(&self, node: &str, more: &[&str]) -> One {
        let log = self.postgres.address("postgres", "disable");
        let pepper = self.pepper();
        let args = ["--log", &log, "--node", node, "--pepper", &pepper];
        One {
            place: Place::empty(),
            args: args
                .iter()
                .chain(more)
                .map(|arg| (*arg).to_owned())
                .collect(),
            server: None,
        }
    }

    /// Servers of a fleet, which serve.
    fn fleet(&self, nodes: &[&str], more: &[&str]) -> Vec<One> {
        let mut all: Vec<One> = nodes.iter().map(|node| self.one(node, more)).collect();
        all[0].done(&["init"]);
        all[0].done(&["fleet", "create", "--schema"]);
        all.iter_mut().for_each(One::serve);
        all
    }
}

impl One {
    fn all<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let mine = self.args.iter().map(String::as_str);
        mine.chain(args.iter().copied()).collect()
    }

    fn run_with(&self, args: &[&str], stdin: &str) -> Ran {
        self.place.run_with(&self.all(args), stdin)
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    fn done(&self, args: &[&str]) -> Ran {
        self.place.done(&self.all(args))
    }

    fn serve(&mut self) {
        self.server = Some(self.place.serve(&self.all(&[])));
    }

    fn stop(&mut self) {
        assert_eq!(self.server.take().unwrap().stop(), Some(0));
    }

    fn status(&self) -> Value {
        self.run(&["--json", "fleet", "status"]).json()
    }
}

#[test]
fn a_store_becomes_a_fleet_whose_servers_share_its_keys_and_leaves_it() {
    let Some(world) = World::start() else { return };
    world.postgres.sql("DROP SCHEMA gatekey CASCADE");
    let first = world.one("one", &[]);
    first.done(&["init"]);
    let missing = first.run(&["fleet", "create"]);
    assert_eq!(missing.code, 1, "without its tables: {missing:?}");
    assert!(missing.stderr.contains("gatekey.head"), "{missing:?}");
    first.done(&["fleet", "create", "--schema"]);
    let again = first.done(&["--json", "fleet", "create"]).json();
    assert_eq!(again["founded"], "gatekey");
    // Another store does not become the same fleet's.
    let other = world.one("other", &[]);
    other.done(&["init"]);
    assert_eq!(other.run(&["fleet", "create"]).code, 4);
    assert_eq!(other.run(&["stats"]).code, 4, "it is of no fleet");

    // The file does not open without the log.
    let pepper = world.pepper();
    let alone = first.place.run(&["--pepper", &pepper, "stats"]);
    assert_eq!(alone.code, 4, "{alone:?}");
    assert!(alone.stderr.contains("--log"), "{alone:?}");
    // With it, a command is a server for as long as it takes.
    first.done(&["keyspace", "create", "acme_live"]);

    let mut servers = [first, world.one("two", &[]), world.one("three", &[])];
    servers.iter_mut().for_each(One::serve);
    let [one, two, three] = &servers;
    let issued = one.done(&["--json", "key", "issue", "acme_live", "--owner", "acme"]);
    let issued = issued.json();
    let [token, id] = [&issued["token"], &issued["key"]["id"]].map(|of| of.as_str().unwrap());
    for server in &servers {
        // An issue does not wait for the others.
        wait_for("the key", || server.run_with(&["verify"], token).code == 0);
    }
    let status = two.status();
    assert_eq!(status["server"]["node"], "two");
    assert_eq!(status["server"]["lease"], "PT10S");
    let names: Vec<&Value> = status["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| &of["node"])
        .collect();
    assert_eq!(names, ["one", "three", "two"]);
    wait_for("all to have applied everything", || {
        let status = two.status();
        let servers = status["servers"].as_array().unwrap();
        servers
            .iter()
            .all(|of| of["behind"] == 0 && of["is_gone"] == false)
    });
    let health = two.done(&["--json", "health"]).json();
    assert_eq!(health["is_fresh"], true, "{health}");
    let told = two.done(&["fleet", "status"]).stdout;
    let (own, table) = told.split_once("node   position").unwrap();
    assert!(
        own.contains("\nis_fresh   true\n") && own.contains("\nservers    3\n"),
        "{told}"
    );
    assert_data_eq!(
        format!("node   position{table}"),
        str![[r#"
node   position  behind  age[..]  lease  is_gone  peppers
one    [..]  0       PT[..] PT10S  false    1
three  [..]  0       PT[..] PT10S  false    1
two    [..]  0       PT[..] PT10S  false    1

"#]]
    );
    // Denied everywhere once the command has returned.
    three.done(&["key", "revoke", id, "--yes"]);
    for server in &servers {
        assert_eq!(server.run_with(&["verify"], token).code, 7);
    }
    let put = one.done(&["--json", "fleet", "snapshot", "--trim"]).json();
    assert_eq!(put["trimmed_through"], 0, "{put}");

    // Left while it is held, it is not; nor without a word.
    assert_eq!(two.run(&["fleet", "leave", "--yes"]).code, 5);
    servers[1].stop();
    let two = &servers[1];
    assert_eq!(two.run(&["fleet", "leave"]).code, 2);
    assert_eq!(two.run(&["stats"]).code, 0, "it is of the fleet still");
    let left = two.done(&["fleet", "leave", "--yes"]);
    assert!(left.stderr.contains("is alone again"), "{left:?}");
    assert_eq!(two.run(&["stats"]).code, 4, "with the log");
    let alone = two.place.run_with(&["--pepper", &pepper, "verify"], token);
    assert_eq!(alone.code, 7, "{alone:?}");
    assert_eq!(two.run(&["fleet", "leave", "--yes"]).code, 4);
    let status = two.place.run(&["--pepper", &pepper, "fleet", "status"]);
    assert_eq!(status.code, 4, "{status:?}");
    let names = servers[0].status()["servers"].as_array().unwrap().len();
    assert_eq!(names, 2, "it was forgotten as it closed");
}

#[test]
fn a_fleet_without_its_database_says_so_fails_closed_and_comes_back() {
    let Some(mut world) = World::start() else {
        return;
    };
    let mut servers = world.fleet(&["one", "two"], &["--freshness", "2s"]);
    servers[0].done(&["keyspace", "create", "acme_live"]);
    let issued = servers[0].done(&["key", "issue", "acme_live", "--owner", "acme"]);
    let verify = |server: &One| server.run_with(&["verify"], &issued.stdout).code;
    wait_for("the key", || verify(&servers[1]) == 0);
    world.postgres.stop();
    wait_for("it to fail closed", || verify(&servers[1]) == 1);
    let status = servers[1].run(&["--json", "fleet", "status"]);
    assert_eq!(status.code, 6, "{status:?}");
    let told = status.json();
    assert_eq!(servers[1].run(&["health"]).code, 6);
    assert_eq!(told["server"]["is_fresh"], false);
    assert!(told["servers_error"].is_string() && told["server"]["error"].is_string());
    assert_eq!(
        servers[1]
            .run(&["key", "issue", "acme_live", "--owner", "b"])
            .code,
        1
    );
    world.postgres.run(&[]);
    wait_for("it to verify again", || verify(&servers[1]) == 0);
    wait_for("it to be fresh", || {
        servers[1].run(&["fleet", "status"]).code == 0
    });
    servers.iter_mut().for_each(One::stop);
    // One that is told to goes on by what it knew.
    let stale = world.one("three", &["--serve-stale", "1h", "--locally"]);
    let server = stale.place.serve(&stale.all(&[]));
    assert_eq!(stale.status()["server"]["lease"], "PT1H");
    world.postgres.stop();
    wait_for("the log to be missed", || {
        stale.run(&["fleet", "status"]).code == 6
    });
    assert_eq!(verify(&stale), 0);
    assert_eq!(stale.run(&["health"]).code, 0);
    drop(server);
}

/// In a real terminal (tmux), as a person does it.
#[test]
fn on_a_terminal_a_fleet_is_founded_looked_at_and_left_after_a_question() {
    let Some(mut world) = World::start() else {
        return;
    };
    let place = Place::empty();
    let Some(terminal) = Terminal::open(&place) else {
        eprintln!("left out: this takes tmux");
        return;
    };
    let log = world.postgres.address("postgres", "disable");
    let pepper = world.pepper();
    terminal.send(&format!(
        "export GATEKEY_LOG='{log}' GATEKEY_NODE=one GATEKEY_PEPPERS='{pepper}' PS1=; clear"
    ));
    // Each with a number of its own: the screen may still show the one before.
    let begun = std::cell::Cell::new(0);
    let gatekey = |args: &str| {
        begun.set(begun.get() + 1);
        terminal.send("clear");
        terminal.send(&format!("{GATEKEY} {args}; echo {}=$?", begun.get()));
    };
    let ended = |code: u8| terminal.shows(&format!("{}={code}", begun.get()));
    gatekey("init");
    ended(0);
    gatekey("fleet create --schema");
    ended(0);
    assert!(terminal.screen().contains("founded the fleet gatekey with"));
    let mut two = world.one("two", &[]);
    two.serve();

    gatekey("fleet status");
    ended(0);
    let screen = terminal.screen();
    // A line for each server, which the terminal does not break.
    let row = |node: &str| {
        let found = screen.lines().find(|line| line.starts_with(node));
        let words = found.map(|line| line.split_whitespace().count());
        assert_eq!(words, Some(7), "{node}: {screen}");
    };
    ["one", "two"].iter().for_each(|node| row(node));
    gatekey("fleet snapshot --trim");
    ended(0);
    assert!(terminal.screen().contains("trimmed_through"));

    for (answer, code) in [("n", 4), ("y", 0)] {
        gatekey("fleet leave");
        terminal.shows("out of its fleet for good? [y/N]");
        terminal.send(answer);
        ended(code);
        let has_left = terminal.screen().contains("is alone again");
        assert_eq!(has_left, answer == "y", "{}", terminal.screen());
    }
    // One whose log is away says so, below what it knows.
    world.postgres.stop();
    let store = two.place.store();
    gatekey(&format!("--store '{}' fleet status", store.display()));
    ended(6);
    let screen = terminal.screen();
    assert!(screen.contains("PostgreSQL"), "{screen}");
    drop(two.server.take());
}

#[test]
fn a_password_of_the_database_comes_from_a_file_or_the_environment_alone() {
    let Some(world) = World::start() else { return };
    let postgres = &world.postgres;
    postgres.sql("CREATE ROLE keeper LOGIN SUPERUSER PASSWORD 'hunter2'");
    let rules = "host all keeper 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n";
    std::fs::write(postgres.data().join("pg_hba.conf"), rules).unwrap();
    postgres.sql("SELECT pg_reload_conf()");
    let log = postgres.address("keeper", "disable");
    let place = Place::empty();
    place.done(&["--pepper", &world.pepper(), "init"]);
    let create = |log: &str, file: Option<&PathBuf>, word: Option<&str>| {
        let pepper = world.pepper();
        let mut command = place.command(&["--pepper", &pepper, "--node", "one"]);
        command.args(["fleet", "create", "--schema"]);
        if !log.contains("hunter2") {
            command.args(["--log", log]);
        } else {
            command.env("GATEKEY_LOG", log);
        }
        if let Some(file) = file {
            command.arg("--log-password-file").arg(file);
        }
        if let Some(word) = word {
            command.env("GATEKEY_LOG_PASSWORD", word);
        }
        let ran = run(&mut command, "");
        assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
        ran.code
    };
    let file = |text: &str| {
        let path = place.path().join("password");
        std::fs::write(&path, text).unwrap();
        path
    };
    // The rule is read a moment after it was written.
    wait_for("a password to be asked for", || {
        create(&log, None, None) == 1
    });
    assert_eq!(create(&log, None, Some("wrong")), 1);
    assert_eq!(create(&log, Some(&file("wrong\n")), Some("hunter2")), 1);
    assert_eq!(create(&log, Some(&file("hunter2\n")), None), 0);
    assert_eq!(create(&log, None, Some("hunter2")), 0);
    let whole = log.replace("keeper@", "keeper:hunter2@");
    assert_eq!(create(&whole, None, None), 0);
    // Not where every user of the host can read it, nor in a help.
    for shown in [whole.clone(), format!("{log}&password=hunter2")] {
        let ran = place.run(&["--log", &shown, "--node", "one", "stats"]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains("GATEKEY_LOG_PASSWORD"), "{ran:?}");
        assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
    }
    let help = run(
        gatekey()
            .env("GATEKEY_LOG", &whole)
            .args(["fleet", "--help"]),
        "",
    );
    assert_eq!(help.code, 0);
    assert!(help.stdout.contains("GATEKEY_LOG") && !help.stdout.contains("hunter2"));
}

#[test]
fn what_a_fleet_needs_is_asked_for() {
    let (place, ..) = Place::with_key();
    let log = "postgres://gatekey@127.0.0.1:1/gatekey?sslmode=disable";
    for (args, code, about) in [
        (&["fleet", "create"][..], 2, "--log"),
        (&["--log", log, "fleet", "create"], 2, "--node"),
        (
            &["--log", "http://x", "--node", "a", "fleet", "create"],
            2,
            "PostgreSQL",
        ),
        (
            &[
                "--log",
                log,
                "--node",
                "",
                "--pepper",
                "1=/nowhere",
                "fleet",
                "create",
            ],
            2,
            "/nowhere",
        ),
        // A fleet needs a pepper, as it says before anything is asked of the log.
        (
            &["--log", log, "--node", "a", "fleet", "create"],
            4,
            "pepper",
        ),
        (
            &["--log", log, "--node", "a", "stats"],
            4,
            "not of this fleet",
        ),
        (&["fleet", "status"], 4, "of no fleet"),
        (&["fleet", "snapshot"], 4, "of no fleet"),
        (&["fleet", "leave", "--yes"], 4, "of no fleet"),
    ] {
        let ran = place.run(args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(about), "{args:?}: {ran:?}");
    }
    assert_eq!(place.run(&["stats"]).code, 0);
}

/// SIGKILL, while it changes things: what was acknowledged is there, what was revoked is denied
/// by all, and the file catches up. `GATEKEY_FLEET_SECONDS` lets it run for longer.
#[test]
fn servers_that_are_killed_lose_nothing_that_was_acknowledged() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let Some(world) = World::start() else { return };
    let mut servers = world.fleet(&["one", "two", "three"], &["--freshness", "1s"]);
    servers[0].done(&["keyspace", "create", "acme_live"]);
    let seconds = std::env::var("GATEKEY_FLEET_SECONDS").ok();
    let seconds: u64 = seconds.and_then(|it| it.parse().ok()).unwrap_or(12);
    let issue = ["--json", "key", "issue", "acme_live", "--owner", "acme"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut random = 5_u64;
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 33) % bound
    };
    // On a busy machine a lease can end before the next heartbeat.
    let answer = |server: &One, token: &str| {
        let verify = || server.run_with(&["verify"], token).code;
        wait_for("it to be fresh", || verify() != 1);
        verify()
    };
    let (mut good, mut revoked): (Vec<[String; 2]>, Vec<String>) = Default::default();
    let (begun, mut kills) = (std::time::Instant::now(), 0);
    while begun.elapsed().as_secs() < seconds || kills < 2 {
        let victim = usize::try_from(below(3)).unwrap();
        let other = (victim + 1 + usize::try_from(below(2)).unwrap()) % 3;
        let after = std::time::Duration::from_micros(below(600_000));
        let dies = servers[victim].server.take();
        let is_over = AtomicBool::new(false);
        let issued = std::thread::scope(|scope| {
            let changes = scope.spawn(|| {
                let mut issued = Vec::new();
                while !is_over.load(Ordering::SeqCst) {
                    let ran = servers[victim].run(&issue);
                    if ran.code == 0 {
                        let answer = ran.json();
                        issued.push([text(&answer["key"]["id"]), text(&answer["token"])]);
                    }
                }
                issued
            });
            std::thread::sleep(after);
            drop(dies);
            is_over.store(true, Ordering::SeqCst);
            changes.join().unwrap()
        });
        kills += 1;
        good.extend(issued);
        // It waits until the one that is gone can grant nothing any more.
        if let Some([id, token]) = good.pop() {
            servers[other].done(&["key", "revoke", &id, "--yes"]);
            revoked.push(token);
        }
        let all = servers[victim].all(&["--wait", "30s"]);
        let back = servers[victim].place.serve(&all);
        servers[victim].server = Some(back);
        for server in &servers {
            for token in revoked.iter().rev().take(2) {
                assert_eq!(answer(server, token), 7);
            }
        }
    }
    assert!(!good.is_empty() && !revoked.is_empty());
    for server in &servers {
        for [_, token] in &good {
            assert_eq!(answer(server, token), 0, "an acknowledged key is lost");
        }
        for token in &revoked {
            assert_eq!(answer(server, token), 7);
        }
        assert_eq!(server.run(&["check"]).code, 0);
    }
    let (good, revoked) = (good.len(), revoked.len());
    println!("{seconds} s: {kills} kills, {good} keys good, {revoked} revoked");
}
