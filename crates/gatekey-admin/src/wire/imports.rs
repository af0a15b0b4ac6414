//! Keys of other systems.

use gatekey::{Credential, ForeignHash, ForeignKey, NewImport, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IssueRequest, Patch};
use crate::schema;

/// An import: keys of one source, with tokens of one shape.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// Its name: 1 to 64 of `A-Z a-z 0-9 . _ : / -`.
    pub name: String,
    /// What the source keeps of a token.
    #[schemars(with = "schema::ForeignHash")]
    pub hash: ForeignHash,
    /// How every token begins.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub starts_with: String,
    /// The length of the shortest token; 8, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len_min: Option<u16>,
    /// The length of the longest; 512, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len_max: Option<u16>,
    /// Whether a token may have an id and a bar before it, which no hash covers.
    #[serde(default)]
    pub after_bar: bool,
    /// From when on keys that were never used are revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Timestamp>")]
    pub sunset: Option<Timestamp>,
}

impl ImportRequest {
    pub(crate) fn import(self) -> NewImport {
        let lengths = self.len_min.unwrap_or(8)..=self.len_max.unwrap_or(512);
        let mut new = NewImport::new(self.name, self.hash)
            .starts_with(self.starts_with)
            .lengths(lengths);
        if self.after_bar {
            new = new.after_bar();
        }
        if let Some(instant) = self.sunset {
            new = new.sunset(instant);
        }
        new
    }
}

/// A key of another system. With neither a token nor a digest it is to be claimed.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForeignKeyRequest {
    /// The id that the source has for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its token, where the source keeps it plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The hash that the source keeps, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether it is disabled.
    #[serde(default)]
    pub disabled: bool,
    /// What it may do, and who holds it.
    #[serde(deserialize_with = "super::object")]
    pub key: IssueRequest,
}

/// The token and the digest are left out.
impl std::fmt::Debug for ForeignKeyRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignKeyRequest")
            .field("id", &self.id)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl ForeignKeyRequest {
    pub(crate) fn foreign(self) -> gatekey::Result<ForeignKey> {
        let refuse = |why| gatekey::Invalid::malformed("credential", "(withheld)", why);
        let credential = match (self.token, self.digest) {
            (Some(token), None) => Credential::token(token),
            (None, Some(digest)) => {
                Credential::digest(unhex(&digest).ok_or_else(|| refuse("it is not hexadecimal"))?)
            }
            (None, None) => Credential::claimed(),
            (Some(_), Some(_)) => return Err(refuse("there is a token and a digest").into()),
        };
        let mut key = ForeignKey::new(self.key.key()?, credential);
        if let Some(id) = self.id {
            key = key.id(id);
        }
        Ok(match self.disabled {
            true => key.disabled(),
            false => key,
        })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
    match rest.is_empty() {
        true => pairs.iter().map(pair).collect(),
        false => None,
    }
}

/// Keys to be imported. Those that are refused do not keep the others out.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportKeysRequest {
    /// The name of the import.
    pub import: String,
    /// The keys, at most 10,000.
    #[serde(deserialize_with = "super::objects")]
    pub keys: Vec<ForeignKeyRequest>,
}

/// What an import of keys would come to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportDryRunRequest {
    /// The import, which need not have begun.
    #[serde(deserialize_with = "super::object")]
    pub import: ImportRequest,
    /// The keys, at most 10,000.
    #[serde(deserialize_with = "super::objects")]
    pub keys: Vec<ForeignKeyRequest>,
}

/// A sunset of an import.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SunsetRequest {
    /// The name of the import.
    pub import: String,
    /// From when on keys that were never used are revoked; `null` for never. It cannot be left
    /// out.
    #[serde(default)]
    #[schemars(with = "Option<schema::Timestamp>")]
    pub sunset: Patch<Timestamp>,
}

/// A key of an import that gets the token that its holder has.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// The name of the import.
    pub import: String,
    /// The id that the source has for the key.
    pub id: String,
    /// The token, which the host has checked.
    pub token: String,
}

/// The token is left out.
impl std::fmt::Debug for ClaimRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClaimRequest")
            .field("import", &self.import)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
