//! What a page's function gives, and what goes wrong.

use axum::http::StatusCode;
use axum::http::header::HeaderName;
use gatekey::{Error, NotFound};

use crate::view::Blocks;

/// A page, before it is framed.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) title: String,
    pub(crate) blocks: Blocks,
}

impl Page {
    pub(crate) fn new(title: impl Into<String>, blocks: Blocks) -> Self {
        Self {
            status: StatusCode::OK,
            title: title.into(),
            blocks,
        }
    }

    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

#[derive(Debug)]
pub(crate) enum Body {
    Page(Box<Page>),
    /// To a path below the base, with its query: by 303, so that a reload repeats nothing.
    See(String),
    /// A file to keep.
    File {
        name: String,
        media: &'static str,
        body: axum::body::Body,
    },
    /// A word for the script.
    Plain(&'static str),
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) body: Body,
    pub(crate) headers: Vec<(HeaderName, String)>,
}

impl From<Body> for Reply {
    fn from(body: Body) -> Self {
        Self {
            body,
            headers: Vec::new(),
        }
    }
}

impl From<Page> for Reply {
    fn from(page: Page) -> Self {
        Body::Page(Box::new(page)).into()
    }
}

/// Sends to a path below the base.
pub(crate) fn see(path: impl Into<String>) -> Result<Reply, Fault> {
    Ok(Body::See(path.into()).into())
}

/// Why a page was not given.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nobody has said who asks.
    Nobody,
    /// There is no such thing, or none that the asker may know of.
    NotFound,
    /// It is beyond what the asker may do.
    Forbidden,
    /// A form that the pages do not make.
    Tampered,
    /// The request did not come from a page of the same origin.
    CrossOrigin,
    /// The body is too long, too slow or of another form.
    Body(StatusCode),
    /// The form was sent before.
    Repeated,
    /// What the form was about was changed meanwhile.
    Changed,
    /// The asker has as many keys as they may have.
    Full(u64),
    /// The engine failed, or refused.
    Engine(Error),
    /// The admin API refused.
    Refused(StatusCode, String),
    /// A field of a form is not as it should be.
    Field { name: String, text: String },
    /// The admin API failed: the store did, or the server.
    Failed {
        status: StatusCode,
        /// Whether the change may be there all the same.
        is_unknown: bool,
        detail: String,
    },
    /// Ask for a log-in, then come back.
    LogIn,
    /// It takes the admin key again, which was not given, or is another.
    Confirm,
    /// What was typed to confirm is not what was asked for.
    Mistyped,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound(NotFound::Key(_) | NotFound::Keyspace(_)) => Self::NotFound,
            error => Self::Engine(error),
        }
    }
}

impl Fault {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Nobody | Self::LogIn => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Forbidden | Self::CrossOrigin | Self::Confirm => StatusCode::FORBIDDEN,
            Self::Tampered | Self::Mistyped | Self::Field { .. } => StatusCode::BAD_REQUEST,
            Self::Repeated | Self::Changed | Self::Full(_) => StatusCode::CONFLICT,
            Self::Body(status) | Self::Refused(status, _) | Self::Failed { status, .. } => *status,
            // What the engine calls a fault of the host's is one of whoever filled in the form.
            Self::Engine(Error::Invalid(_)) => StatusCode::BAD_REQUEST,
            Self::Engine(Error::Conflict(_)) => StatusCode::CONFLICT,
            Self::Engine(Error::NotFound(_)) => StatusCode::NOT_FOUND,
            Self::Engine(error) => error.status(),
        }
    }

    /// The name of its texts.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::NotFound => "not_found",
            Self::Forbidden => "forbidden",
            Self::Tampered => "tampered",
            Self::CrossOrigin => "cross_origin",
            Self::Body(_) => "body",
            Self::Repeated => "repeated",
            Self::Changed => "changed",
            Self::Full(_) => "full",
            Self::Engine(Error::Invalid(_) | Error::Conflict(_))
            | Self::Refused(..)
            | Self::Field { .. } => "refused",
            Self::Engine(Error::OutcomeUnknown(_))
            | Self::Failed {
                is_unknown: true, ..
            } => "unknown",
            Self::Engine(Error::Corrupted(_)) => "damaged",
            Self::Engine(_) | Self::Failed { .. } => "store",
            Self::LogIn => "log_in",
            Self::Confirm => "confirm",
            Self::Mistyped => "mistyped",
        }
    }

    /// What the engine says of it, without what looks like a token.
    pub(crate) fn detail(&self) -> Option<String> {
        match self {
            Self::Engine(error) => Some(gatekey::withheld(&error.to_string()).into_owned()),
            Self::Refused(_, text)
            | Self::Field { text, .. }
            | Self::Failed { detail: text, .. } => Some(gatekey::withheld(text).into_owned()),
            _ => None,
        }
    }

    /// Whether it is the store that failed, or the server: what the error says then is
    /// for those who run it.
    pub(crate) fn is_of_the_store(&self) -> bool {
        matches!(self.name(), "store" | "unknown" | "damaged")
    }

    /// Whether the form can be mended and sent again.
    pub(crate) fn is_for_the_form(&self) -> bool {
        matches!(
            self,
            Self::Engine(Error::Invalid(_) | Error::Conflict(_))
                | Self::Refused(..)
                | Self::Field { .. }
                | Self::Full(_)
                | Self::Confirm
                | Self::Mistyped
        )
    }
}
