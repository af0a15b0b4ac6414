//! Tokens in their compact form: `header.payload.signature` (RFC 7515).
//!
//! Only what this crate writes is read: a header has `alg`, `kid` and `typ`, each once, and
//! nothing else. So no `crit` can be overlooked, and no `jwk`, `jku` or `x5u` can bring a
//! key along.

use serde_json::json;
use zeroize::Zeroizing;

use crate::algorithm::{PrivateKey, PublicKey};
use crate::encoding::{decode, encode, encode_secret};
use crate::json::{Json, member};

/// The longest token that is looked at, in bytes.
pub(crate) const LEN_MAX: usize = 4096;
/// What a token of ours is: an access token (RFC 9068, 2.1).
pub(crate) const TYPE: &str = "at+jwt";

/// A token in its parts, of which nothing has been believed yet.
pub(crate) struct Parts<'a> {
    /// What is signed.
    pub(crate) signed: &'a str,
    pub(crate) header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// Whether a text has the shape of a token in its compact form.
pub(crate) fn split(token: &str) -> Option<Parts<'_>> {
    if token.len() > LEN_MAX {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let is_one = !payload.contains('.');
    is_one.then_some(Parts {
        signed,
        header,
        payload,
        signature,
    })
}

/// What a header says.
pub(crate) struct Header {
    pub(crate) alg: String,
    pub(crate) kid: String,
}

impl Parts<'_> {
    /// The header, where it is one that this crate writes.
    pub(crate) fn header(&self) -> Option<Header> {
        let header = decode(self.header)?;
        let members = Json::object(&header)?;
        let text = |name| member(&members, name).and_then(Json::text);
        if members.len() != 3 || text("typ") != Some(TYPE) {
            return None;
        }
        Some(Header {
            alg: text("alg")?.to_owned(),
            kid: text("kid")?.to_owned(),
        })
    }

    /// The payload, where the signature is this key's and the header names its algorithm.
    pub(crate) fn verified(&self, key: &PublicKey, alg: &str) -> Option<Vec<u8>> {
        if alg != key.algorithm().name() {
            return None;
        }
        let signature = Zeroizing::new(decode(self.signature)?);
        let is_right = key.verifies(self.signed.as_bytes(), &signature);
        is_right.then(|| decode(self.payload)).flatten()
    }
}

/// The header of the tokens of a key, as it stands in them.
pub(crate) fn header_of(kid: &str, alg: &str) -> String {
    let header = json!({ "alg": alg, "kid": kid, "typ": TYPE });
    encode(header.to_string().as_bytes())
}

/// A token of a header over a payload.
pub(crate) fn sign(key: &PrivateKey, header: &str, payload: &[u8]) -> Option<Zeroizing<String>> {
    let mut signed = format!("{header}.{}", encode(payload));
    // Without its signature it is no secret: nobody can do anything with it.
    let signature = key.sign(signed.as_bytes())?;
    signed.push('.');
    Some(encode_secret(&signed, &signature))
}

#[cfg(test)]
mod tests;
