//! Secrets: never printed, and wiped when dropped.

use std::fmt;

use zeroize::Zeroizing;

use crate::model::id::KeyId;
use crate::model::parse::ParseError;

/// A new token. This is the only time that its secret can be read.
///
/// It is never stored. `Debug` shows the key id alone, and the text is wiped
/// from memory on drop.
pub struct Token {
    key: KeyId,
    text: Zeroizing<String>,
}

impl Token {
    pub(crate) fn new(key: KeyId, text: Zeroizing<String>) -> Self {
        Self { key, text }
    }

    /// Returns the token as text, to hand to its holder once. This is the only way to
    /// read the secret.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The id of the key, which is public.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.key
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, secret withheld)", self.key)
    }
}

/// A secret of the server that goes into every stored digest, so that the file alone is
/// not enough to forge or to test a token.
///
/// Keep it outside the store: in the environment, a secret manager or a KMS. If you
/// lose it, you lose every key. Its id lets a newer pepper take over: the one with the
/// highest id signs, the others still verify.
///
/// ```
/// use gatekey::{Engine, Options, Pepper};
///
/// let pepper = Pepper::new(1, b"32 bytes from a secret manager..")?;
/// let engine = Options::new().pepper(pepper).open_in_memory()?;
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone)]
pub struct Pepper {
    id: u8,
    bytes: Zeroizing<Vec<u8>>,
}

impl Pepper {
    /// The shortest pepper, in bytes.
    pub const LEN_MIN: usize = 16;
    /// The longest pepper, in bytes.
    pub const LEN_MAX: usize = 1024;

    /// Makes a pepper with an id from 1 to 255. It copies the bytes; wipe your own
    /// copy.
    ///
    /// # Errors
    /// [`Invalid::Malformed`](crate::Invalid::Malformed) for the id 0 and for fewer than 16 or more than
    /// 1,024 bytes.
    pub fn new(id: u8, bytes: impl AsRef<[u8]>) -> Result<Self, ParseError> {
        let bytes = bytes.as_ref();
        if id == 0 {
            return Err(ParseError::new("pepper id", "0", "it must be 1 to 255"));
        }
        if !(Self::LEN_MIN..=Self::LEN_MAX).contains(&bytes.len()) {
            return Err(ParseError::hidden(
                "pepper",
                format!("(a secret of {} bytes)", bytes.len()),
                format!("it must be {} to {} bytes", Self::LEN_MIN, Self::LEN_MAX),
            ));
        }
        Ok(Self {
            id,
            bytes: Zeroizing::new(bytes.to_vec()),
        })
    }

    /// The id of the pepper.
    #[must_use]
    pub fn id(&self) -> u8 {
        self.id
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pepper(id {}, bytes withheld)", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let text = Zeroizing::new("acme_0000000001_topsecret".to_owned());
        let token = Token::new(KeyId::from_raw(1), text);
        assert_eq!(format!("{token:?}"), "Token(0000000001, secret withheld)");
        let pepper = Pepper::new(7, b"topsecrettopsecret").unwrap();
        assert!(!format!("{pepper:?}").contains("secret,"));
        assert!(!format!("{pepper:?}").contains("topsecret"));
    }

    #[test]
    fn short_peppers_and_id_zero_are_refused_without_being_shown() {
        for (id, bytes) in [(0, "topsecrettopsecret"), (1, "topsecret")] {
            let error = Pepper::new(id, bytes).unwrap_err().to_string();
            assert!(!error.contains("topsecret"), "{error}");
        }
    }
}
