//! In a real terminal (tmux): questions, colours, a token that is not shown while it is
//! typed.

use std::process::Command;

use crate::program::{GATEKEY, Place, run, wait_for};

struct Terminal {
    socket: String,
}

impl Terminal {
    /// `None` where there is no tmux.
    fn open(place: &Place) -> Option<Self> {
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

    fn send(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.tmux(&["send-keys", "Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    fn shows(&self, text: &str) {
        wait_for(&format!("{text:?} on the terminal"), || {
            self.screen().contains(text)
        });
    }
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
