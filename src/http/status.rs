//! The HTTP status of an engine's error.

use http::StatusCode;

use crate::model::error::Error;

impl Error {
    /// The status of a response to a request that failed with this error. With the feature
    /// `http`.
    ///
    /// - 503 for what may pass: the disk or the system failed, or the engine is closed or
    ///   must be opened again.
    /// - 500 for the rest: a damaged store, a fault of this crate, and also what is not
    ///   acceptable, does not exist or is refused. Whether that is the caller's doing, only
    ///   the handler knows: where it is, match on [`Error::Invalid`], [`Error::NotFound`]
    ///   and [`Error::Conflict`] first, and answer with a 4xx of your own.
    ///
    /// An error is never a 401 or 403: those are denials.
    ///
    /// ```
    /// use gatekey::{Engine, Error};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// engine.clone().close()?;
    /// assert_eq!(engine.verify("?").unwrap_err().status(), 503);
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Batch { source, .. } => source.status(),
            Self::Closed | Self::Open { .. } => StatusCode::SERVICE_UNAVAILABLE,
            error if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
