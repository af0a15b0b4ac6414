//! Asking a person, and reading secrets.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use crate::failure::{Failure, Result};

/// The longest secret that is read.
const SECRET_MAX: u64 = 4_096;

/// Asks a person whether to go on. Where nobody can be asked, `yes` must have been said.
pub(crate) fn sure(yes: bool, what: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Err(Failure::usage(format!(
            "{what}? Nobody can be asked here: give --yes"
        )));
    }
    write!(stderr, "{what}? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    match matches!(answer.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(Failure::new(crate::failure::Exit::Refused, "not done")),
    }
}

/// A token, from a file or from stdin, without the newline at its end.
pub(crate) fn token(file: Option<&Path>) -> Result<String> {
    let text = match file {
        Some(path) => {
            let failed = |error| Failure::usage(format!("{}: {error}", path.display()));
            limited(std::fs::File::open(path).map_err(failed)?)?
        }
        None if std::io::stdin().is_terminal() => typed()?,
        None => limited(std::io::stdin())?,
    };
    let token = text.strip_suffix('\n').unwrap_or(&text);
    Ok(token.strip_suffix('\r').unwrap_or(token).to_owned())
}

fn limited(source: impl std::io::Read) -> Result<String> {
    let mut text = Vec::new();
    source.take(SECRET_MAX).read_to_end(&mut text)?;
    // What is not UTF-8 is no token; what it is replaced by is none either.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A line that is not shown while it is typed. What is typed before the terminal is silent is
/// thrown away, so nobody is asked before it is.
fn typed() -> Result<String> {
    #[cfg(unix)]
    let _hidden = Hidden::begin();
    let mut stderr = std::io::stderr();
    write!(stderr, "token: ")?;
    stderr.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    writeln!(stderr)?;
    Ok(line)
}

#[cfg(unix)]
struct Hidden(Option<rustix::termios::Termios>);

#[cfg(unix)]
impl Hidden {
    fn begin() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let stdin = std::io::stdin();
        let Ok(before) = tcgetattr(&stdin) else {
            return Self(None);
        };
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        let set = tcsetattr(&stdin, OptionalActions::Flush, &silent);
        Self(set.ok().map(|()| before))
    }
}

#[cfg(unix)]
impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let stdin = std::io::stdin();
            let _ =
                rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, before);
        }
    }
}
