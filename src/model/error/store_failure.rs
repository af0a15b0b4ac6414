//! What the storage engine says when it fails.

use std::fmt;

/// A failure of the storage engine, as text. Its own error type is private, so that it
/// can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFailure {
    message: String,
    io_kind: Option<std::io::ErrorKind>,
}

impl StoreFailure {
    pub(crate) fn new(message: impl Into<String>, io_kind: Option<std::io::ErrorKind>) -> Self {
        Self {
            message: message.into(),
            io_kind,
        }
    }

    /// The kind of the I/O error behind it, if there was one: for example
    /// `StorageFull`.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// use gatekey::Error;
    /// use std::io::ErrorKind;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let mut full = [0; 8]; // a target that has no room for the trail
    /// let Err(Error::Store(failure)) = engine.export_audit(0, &mut full[..]) else {
    ///     unreachable!("it does not fit");
    /// };
    /// assert_eq!(failure.io_kind(), Some(ErrorKind::WriteZero));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        self.io_kind
    }
}

/// As its text.
#[cfg(feature = "serde")]
impl serde::Serialize for StoreFailure {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreFailure {}
