//! What goes wrong, and the code that the program exits with.

use std::fmt;
use std::process::ExitCode;

/// How the program ends where it is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Fault = 1,
    Usage = 2,
    NotFound = 3,
    Refused = 4,
    Locked = 5,
    Found = 6,
    Denied = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure, in a sentence; without one, all is said.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) text: String,
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl fmt::Display) -> Self {
        // What a person typed may be in it, and may be a token.
        let text = gatekey::withheld(&text.to_string()).into_owned();
        Self { exit, text }
    }

    pub(crate) fn fault(text: impl fmt::Display) -> Self {
        Self::new(Exit::Fault, text)
    }

    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, text)
    }

    /// All that is to be said is said.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self {
            exit,
            text: String::new(),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            // Who reads stdout has read enough.
            std::io::ErrorKind::BrokenPipe => Self::silent(Exit::Fault),
            _ => Self::fault(error),
        }
    }
}

impl From<gatekey::Error> for Failure {
    fn from(error: gatekey::Error) -> Self {
        use gatekey::{Error, OpenError};
        let exit = match &error {
            Error::Open { reason, .. } => match reason {
                OpenError::InUse => Exit::Locked,
                OpenError::Missing | OpenError::MissingDirectory(_) => Exit::NotFound,
                OpenError::Io(_) | OpenError::Store(_) | OpenError::Corrupted(_) => Exit::Fault,
                _ => Exit::Refused,
            },
            Error::Invalid(_) => Exit::Usage,
            Error::NotFound(_) => Exit::NotFound,
            Error::Conflict(_) => Exit::Refused,
            _ => Exit::Fault,
        };
        // What the engine says is for programs: here, the commands.
        let commands = match &error {
            Error::Open { reason, .. } => match reason {
                OpenError::InFleet => " (--log, or gatekey fleet leave)",
                OpenError::Missing => " (gatekey init)",
                _ => "",
            },
            _ => "",
        };
        Self::new(exit, format!("{error}{commands}"))
    }
}
