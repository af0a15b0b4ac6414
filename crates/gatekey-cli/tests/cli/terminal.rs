//! In a real terminal (tmux): questions, colours, a token that is not shown while it is
//! typed.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;

use crate::program::{GATEKEY, Place, run, wait_for};

pub(crate) struct Terminal {
    socket: String,
}

impl Terminal {
    /// `None` where there is no tmux.
    pub(crate) fn open(place: &Place) -> Option<Self> {
        let socket = place.path().join("tmux").to_str().unwrap().to_owned();
        let shell = format!("cd {} && exec sh", place.path().display());
        let started = Command::new("tmux")
            .args([
                "-f",
                "/dev/null",
                "-S",
                &socket,
                "new-session",
                "-d",
                "-x",
                "150",
                "-y",
                "50",
            ])
            .arg(shell)
            .env_remove("NO_COLOR")
            .env("GATEKEY_STORE", place.store())
            .env("TERM", "xterm-256color")
            .status();
        started.ok().filter(std::process::ExitStatus::success)?;
        Some(Self { socket })
    }

    fn tmux(&self, args: &[&str]) -> String {
        run(
            Command::new("tmux").args(["-S", &self.socket]).args(args),
            "",
        )
        .stdout
    }

    pub(crate) fn send(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.tmux(&["send-keys", "Enter"]);
    }

    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    pub(crate) fn shows(&self, text: &str) {
        wait_for(&format!("{text:?} on the terminal"), || {
            self.screen().contains(text)
        });
    }
}

/// Takes what a terminal gets, and keeps it: a line that is written over is not on the screen.
struct Kept(std::path::PathBuf);

impl Kept {
    fn of(terminal: &Terminal, place: &Place) -> Self {
        let file = place.path().join("written");
        let pipe = format!("cat >>{}", file.display());
        terminal.tmux(&["pipe-pane", &pipe]);
        Self(file)
    }

    /// Waits for a text, and for the line to be taken away after it.
    fn had(&self, text: &str) {
        let gone = "\r\u{1b}[K";
        wait_for(&format!("{text:?}, and the end of it"), || {
            let written = std::fs::read(&self.0).unwrap_or_default();
            let written = String::from_utf8_lossy(&written).into_owned();
            let behind = written.split_once(&format!("{gone}{text}"));
            behind.is_some_and(|(_, behind)| behind.contains(gone))
        });
    }
}

/// A server that answers a request once it is let: what it is asked takes long.
fn slow(answer: &'static str) -> (String, std::sync::mpsc::Sender<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (let_it, is_let) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 8192]).unwrap();
        let _ = is_let.recv();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
        let len = answer.len();
        let response = format!("{head}\r\ncontent-length: {len}\r\n\r\n{answer}");
        stream.write_all(response.as_bytes()).unwrap();
    });
    (format!("http://{address}"), let_it)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn a_terminal_is_asked_has_colours_and_does_not_show_a_token_that_is_typed() {
    let (place, id, token) = Place::with_key();
    let Some(terminal) = Terminal::open(&place) else {
        eprintln!("left out: this takes tmux");
        return;
    };
    terminal.send(&format!("{GATEKEY} key list"));
    terminal.shows("\u{1b}[32mactive\u{1b}");
    terminal.send("clear");
    terminal.send(&format!(
        "NO_COLOR=1 {GATEKEY} key list; echo listed=$((20+3))"
    ));
    terminal.shows("listed=23");
    assert!(
        !terminal.screen().contains("\u{1b}[32m"),
        "{}",
        terminal.screen()
    );

    terminal.send("clear");
    terminal.send(&format!("{GATEKEY} key revoke {id}; echo code=$?"));
    terminal.shows("of acme/ingest for good? [y/N]");
    terminal.send("n");
    terminal.shows("code=4");
    assert_eq!(place.run_with(&["verify"], &token).code, 0);

    terminal.send("clear");
    terminal.send(&format!("{GATEKEY} verify; echo code=$?"));
    terminal.shows("token:");
    terminal.send(&token);
    terminal.shows("code=0");
    let screen = terminal.screen();
    assert!(!screen.contains(&token[30..]), "{screen}");

    terminal.send("clear");
    terminal.send(&format!("{GATEKEY} owner revoke acme; echo code=$?"));
    terminal.shows("revoke for good 1 keys? [y/N]");
    terminal.send("y");
    terminal.shows("code=0");
    assert_eq!(place.run_with(&["verify"], &token).code, 7);
}

/// Whoever pastes a token at the instant that the question appears loses nothing of it, and
/// shows nothing: here the question waits, in a pipe that is full, and what is typed stays.
#[test]
fn the_terminal_is_silent_before_a_token_is_asked_for() {
    let (place, _, token) = Place::with_key();
    let Some(terminal) = Terminal::open(&place) else {
        eprintln!("left out: this takes tmux");
        return;
    };
    let pipe = place.path().join("asked");
    assert_eq!(run(Command::new("mkfifo").arg(&pipe), "").code, 0);
    let mut pipe = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(pipe)
        .unwrap();
    let mut filled = 0;
    while let Ok(len) = pipe.write(&[b'.'; 4096]) {
        filled += len;
    }
    terminal.send(&format!("{GATEKEY} verify 2>asked; echo code=$?"));
    let device = terminal.tmux(&["display-message", "-p", "#{pane_tty}"]);
    wait_for("silence, before the question,", || {
        let modes = run(Command::new("stty").args(["-a", "-F", device.trim()]), "");
        modes.stdout.contains(" -echo ") && modes.stdout.contains(" icanon ")
    });
    terminal.send(&token);
    while filled > 0 {
        filled -= pipe.read(&mut vec![0; filled]).unwrap();
    }
    terminal.shows("code=0");
    let mut asked = [0; 7];
    pipe.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"token: ");
    let screen = terminal.screen();
    assert!(!screen.contains(&token[30..]), "{screen}");
}

#[test]
fn what_takes_long_says_so_on_a_terminal_and_leaves_nothing_there() {
    let place = Place::empty();
    let Some(terminal) = Terminal::open(&place) else {
        eprintln!("left out: this takes tmux");
        return;
    };
    let kept = Kept::of(&terminal, &place);
    terminal.send("export GATEKEY_ADMIN_KEY=key");
    let purged = r#"{"keys":0,"dry_run":false}"#;
    for (command, answer, told) in [
        ("check", r#"{"is_sound":true,"findings":[]}"#, "/v1/check: "),
        ("purge --age 1d --yes", purged, "/v1/purge: "),
        ("backup copy.redb", "a file", "/v1/backup: "),
    ] {
        let (url, let_it) = slow(answer);
        terminal.send(&format!("{GATEKEY} --url {url} {command} >/dev/null"));
        wait_for(&format!("{told:?} on the terminal"), || {
            terminal.screen().contains(told)
        });
        let_it.send(()).unwrap();
        kept.had(told);
    }
}

#[test]
fn an_import_tells_on_a_terminal_how_far_it_is() {
    let (place, ..) = Place::with_key();
    let Some(terminal) = Terminal::open(&place) else {
        eprintln!("left out: this takes tmux");
        return;
    };
    let kept = Kept::of(&terminal, &place);
    let rows: String = (0..10_001)
        .map(|n| format!("a-token-of-the-old-gateway-{n:05}\n"))
        .collect();
    std::fs::write(place.path().join("tokens"), rows).unwrap();
    terminal.send(&format!(
        "{GATEKEY} import --format plain tokens --keyspace acme_live --owner many; echo code=$?"
    ));
    kept.had("10000 rows");
    terminal.shows("code=0");
    assert!(terminal.screen().contains("10001"), "{}", terminal.screen());
    assert!(
        !terminal.screen().contains("rows\n"),
        "{}",
        terminal.screen()
    );
}
