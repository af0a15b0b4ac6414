//! Keys that another system issued, whose holders go on with the tokens that they have.

use std::fmt;
use std::ops::RangeInclusive;

use zeroize::Zeroizing;

use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Invalid};
use crate::model::id::KeyId;
use crate::model::key::NewKey;

/// What the other system keeps of a token. One import has keys of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum ForeignHash {
    /// The token itself.
    Plain,
    /// SHA-256 of the token, without a salt.
    Sha256,
    /// SHA-512 of the token, without a salt.
    Sha512,
    /// Anything else, such as PBKDF2, bcrypt or argon2. The engine never computes it: the
    /// host checks the token as it always did, and hands it to
    /// [`Engine::claim`](crate::Engine::claim).
    Other,
}

impl ForeignHash {
    /// The length of what [`Credential::digest`] holds.
    pub(crate) fn digest_len(self) -> Option<usize> {
        match self {
            Self::Sha256 => Some(32),
            Self::Sha512 => Some(64),
            Self::Plain | Self::Other => None,
        }
    }
}

/// An import to begin: keys of one source, with tokens of one shape.
///
/// A text that is no token of gatekey's own is compared with the shapes of all imports. Only
/// where it matches one that has keys does the engine hash it and look for it.
///
/// ```
/// use gatekey::{Credential, Engine, ForeignHash, ForeignKey, NewImport, NewKey, NewKeyspace};
///
/// let engine = Engine::open_in_memory()?;
/// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
/// engine.begin_import(NewImport::new("old-portal", ForeignHash::Plain).starts_with("op-"))?;
/// let key = ForeignKey::new(
///     NewKey::new("acme_live", "acme/ingest")?,
///     Credential::token("op-4f1c9a30b7d2e856"),
/// );
/// engine.import_keys("old-portal", vec![key])?;
/// assert!(engine.verify("op-4f1c9a30b7d2e856")?.is_granted());
/// assert!(!engine.verify("op-0000000000000000")?.is_granted());
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImport {
    pub(crate) name: String,
    pub(crate) hash: ForeignHash,
    pub(crate) shape: Shape,
    pub(crate) sunset: Option<Timestamp>,
}

/// What the tokens of an import look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Whether a token may have an id and a bar before it, which no hash covers.
    pub(crate) after_bar: bool,
    pub(crate) starts_with: String,
    pub(crate) len_min: u16,
    pub(crate) len_max: u16,
}

impl Shape {
    /// The part of a text that is hashed, where the text has this shape.
    pub(crate) fn part_of<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        if text.len() > ForeignKey::TOKEN_LEN_MAX {
            return None;
        }
        let part = match text.iter().position(|byte| *byte == b'|') {
            Some(bar) if self.after_bar => text.get(bar + 1..)?,
            _ => text,
        };
        let is_in_length =
            (usize::from(self.len_min)..=usize::from(self.len_max)).contains(&part.len());
        (is_in_length
            && part.starts_with(self.starts_with.as_bytes())
            && text.iter().all(u8::is_ascii_graphic))
        .then_some(part)
    }
}

impl NewImport {
    /// The longest text that all tokens of an import begin with, in bytes.
    pub const START_LEN_MAX: usize = 64;

    /// An import with a name of its own, for tokens of 8 to 512 visible characters of ASCII.
    ///
    /// [`Engine::begin_import`](crate::Engine::begin_import) checks what it is given.
    #[must_use]
    pub fn new(name: impl Into<String>, hash: ForeignHash) -> Self {
        Self {
            name: name.into(),
            hash,
            shape: Shape {
                after_bar: false,
                starts_with: String::new(),
                len_min: 8,
                len_max: 512,
            },
            sunset: None,
        }
    }

    /// Says how every token begins. The narrower the shape, the fewer texts are looked for.
    #[must_use]
    pub fn starts_with(mut self, start: impl Into<String>) -> Self {
        self.shape.starts_with = start.into();
        self
    }

    /// Says how long the tokens are, in bytes: within 1 to 512.
    ///
    /// ```
    /// use gatekey::{ForeignHash, NewImport};
    ///
    /// let _forty_letters = NewImport::new("old", ForeignHash::Sha256).lengths(40..=40);
    /// ```
    #[must_use]
    pub fn lengths(mut self, lengths: RangeInclusive<u16>) -> Self {
        (self.shape.len_min, self.shape.len_max) = lengths.into_inner();
        self
    }

    /// Says that a token may have an id and a bar before it (`17|secret`), which the hash
    /// does not cover. The length and the beginning are those of what follows on the bar.
    ///
    /// ```
    /// use gatekey::{ForeignHash, NewImport};
    ///
    /// let _sanctum = NewImport::new("laravel", ForeignHash::Sha256).after_bar().lengths(40..=80);
    /// ```
    #[must_use]
    pub fn after_bar(mut self) -> Self {
        self.shape.after_bar = true;
        self
    }

    /// Sets the instant from which keys of the import that were never used are revoked.
    ///
    /// ```
    /// use gatekey::{ForeignHash, NewImport};
    ///
    /// let _import = NewImport::new("old", ForeignHash::Sha256)
    ///     .sunset("2031-01-01T00:00:00Z".parse()?);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn sunset(mut self, instant: Timestamp) -> Self {
        self.sunset = Some(instant);
        self
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        bounds::validate_identifier("import", &self.name)?;
        let Shape {
            starts_with,
            len_min,
            len_max,
            ..
        } = &self.shape;
        let start = starts_with.as_bytes();
        if start.len() > Self::START_LEN_MAX || !start.iter().all(u8::is_ascii_graphic) {
            let why = "it is over 64 bytes, or has a character that is not visible ASCII";
            return Err(Invalid::malformed("beginning of tokens", starts_with, why).into());
        }
        let in_bounds = 1..=ForeignKey::TOKEN_LEN_MAX;
        if len_min > len_max
            || !in_bounds.contains(&usize::from(*len_min))
            || !in_bounds.contains(&usize::from(*len_max))
        {
            let value = format!("{len_min}..={len_max}");
            let why = "it is not a range within 1 to 512 bytes";
            return Err(Invalid::malformed("length of tokens", &value, why).into());
        }
        Ok(())
    }
}

/// What the other system knows of a token: the token, a hash of it, or a hash that takes long.
/// `Debug` withholds it, and it is wiped when it is dropped.
#[derive(Clone)]
pub struct Credential(pub(crate) Held);

#[derive(Clone)]
pub(crate) enum Held {
    Token(Zeroizing<String>),
    Digest(Zeroizing<Vec<u8>>),
    Claimed,
}

impl Credential {
    /// The token itself, for [`ForeignHash::Plain`].
    #[must_use]
    pub fn token(token: impl Into<String>) -> Self {
        Self(Held::Token(Zeroizing::new(token.into())))
    }

    /// Its hash: 32 bytes for [`ForeignHash::Sha256`], 64 for [`ForeignHash::Sha512`].
    #[must_use]
    pub fn digest(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Held::Digest(Zeroizing::new(bytes.into())))
    }

    /// Nothing that the engine computes, for [`ForeignHash::Other`]: the key waits for
    /// [`Engine::claim`](crate::Engine::claim).
    #[must_use]
    pub fn claimed() -> Self {
        Self(Held::Claimed)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Held::Token(_) => "Token(withheld)",
            Held::Digest(_) => "Digest(withheld)",
            Held::Claimed => "Claimed",
        })
    }
}

/// A key of another system, to be imported: see [`NewImport`].
#[derive(Debug, Clone)]
pub struct ForeignKey {
    pub(crate) key: NewKey,
    pub(crate) credential: Credential,
    pub(crate) id: Option<String>,
    pub(crate) disabled: bool,
}

impl ForeignKey {
    /// The longest token, in bytes.
    pub const TOKEN_LEN_MAX: usize = 512;
    /// The longest id that the other system has for a key, in bytes.
    pub const ID_LEN_MAX: usize = 128;

    /// A key with the rights, the owner and the end that `key` says, and a token that exists.
    #[must_use]
    pub fn new(key: NewKey, credential: Credential) -> Self {
        Self {
            key,
            credential,
            id: None,
            disabled: false,
        }
    }

    /// Sets the id that the other system has for the key. A key that is imported again under
    /// the id is told to be there, and [`Engine::claim`](crate::Engine::claim) asks for it.
    /// Where there is none, the engine makes one of the credential.
    ///
    /// ```
    /// use gatekey::{Credential, ForeignKey, NewKey};
    ///
    /// let key = NewKey::new("acme_live", "acme/ingest")?;
    /// let _waits = ForeignKey::new(key, Credential::claimed()).id("row-17");
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Imports the key disabled.
    ///
    /// ```
    /// use gatekey::{Credential, ForeignKey, NewKey};
    ///
    /// let key = NewKey::new("acme_live", "acme/ingest")?;
    /// let _disabled = ForeignKey::new(key, Credential::token("op-4f1c9a30b7d2e856")).disabled();
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn disabled(mut self) -> Self {
        self.disabled = true;
        self
    }

    pub(crate) fn validate_id(&self) -> Result<(), Error> {
        match &self.id {
            Some(id) => bounds::validate_name("foreign id", id, Self::ID_LEN_MAX),
            None => Ok(()),
        }
    }
}

/// What became of one key of an import.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ImportedKey {
    /// It was imported, or would be, in a dry run.
    Imported(KeyId),
    /// The same import has it already. Nothing was changed.
    Present(KeyId),
    /// It was refused, and the others were not.
    Refused(Error),
}

/// An import as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Import {
    /// Its name.
    pub name: String,
    /// What the source keeps of a token.
    pub hash: ForeignHash,
    /// Whether a token may have an id and a bar before it.
    pub after_bar: bool,
    /// How every token begins.
    pub starts_with: String,
    /// The length of the shortest token that is looked for, in bytes.
    pub len_min: u16,
    /// The length of the longest, in bytes.
    pub len_max: u16,
    /// From when on its keys that were never used are revoked.
    pub sunset: Option<Timestamp>,
    /// When it began.
    pub created_at: Timestamp,
    /// Who began it.
    pub created_by: Option<String>,
    /// How many keys it has, but for those that were purged.
    pub keys: u64,
    /// How many of them were not used yet, and are neither revoked nor rotated. Keys that were
    /// [revoked with many others](crate::Engine::revoke_owner) count until their records follow.
    pub unseen: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(new: NewImport) -> Shape {
        new.validate().unwrap();
        new.shape
    }

    #[test]
    fn a_text_has_a_shape_by_its_beginning_its_length_and_its_characters() {
        let plain = shape(
            NewImport::new("a", ForeignHash::Plain)
                .starts_with("sk-")
                .lengths(8..=10),
        );
        assert_eq!(plain.part_of(b"sk-12345"), Some(&b"sk-12345"[..]));
        for other in [
            "sk-1234",
            "sk-12345678",
            "pk-12345",
            "sk-1234 ",
            "sk-1234\u{e9}",
        ] {
            assert_eq!(plain.part_of(other.as_bytes()), None, "{other}");
        }
        let barred = shape(NewImport::new("a", ForeignHash::Sha256).after_bar());
        assert_eq!(barred.part_of(b"7|12345678"), Some(&b"12345678"[..]));
        assert_eq!(barred.part_of(b"7|1234567|8"), Some(&b"1234567|8"[..]));
        assert_eq!(barred.part_of(b"12345678"), Some(&b"12345678"[..]));
        assert_eq!(barred.part_of(b"12345678|1234567"), None);
        let wide = shape(NewImport::new("a", ForeignHash::Sha256));
        assert!(wide.part_of(&[b'x'; 512]).is_some());
        assert!(wide.part_of(&[b'x'; 513]).is_none());
    }

    #[test]
    fn a_shape_that_no_token_has_is_refused() {
        let new = || NewImport::new("a", ForeignHash::Plain);
        for bad in [
            NewImport::new("", ForeignHash::Plain),
            NewImport::new("a b", ForeignHash::Plain),
            new().lengths(0..=8),
            new().lengths(RangeInclusive::new(9, 8)),
            new().lengths(8..=513),
            new().starts_with("x".repeat(65)),
            new().starts_with("a b"),
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_shows_no_token_and_no_digest() {
        let shown = format!(
            "{:?} {:?}",
            Credential::token("s3cr3t"),
            Credential::digest([171; 32])
        );
        assert!(
            !shown.contains("s3cr3t") && !shown.contains("171"),
            "{shown}"
        );
    }
}
