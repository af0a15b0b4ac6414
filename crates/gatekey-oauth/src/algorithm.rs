//! Signatures. A key has one algorithm, and what a token's header says does not choose it.

use std::fmt;

use ed25519_dalek::Signer as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::encoding::encode;

/// What a signing key signs with. No algorithm is symmetric: who verifies cannot sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Algorithm {
    /// Ed25519 (RFC 8037): the default, and the fastest to sign.
    #[default]
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA with P-256 and SHA-256. With the feature `aws-lc`.
    #[cfg(feature = "aws-lc")]
    #[serde(rename = "ES256")]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 and a key of 2048 bits, which RFC 9068 asks every
    /// verifier to know. With the feature `aws-lc`.
    #[cfg(feature = "aws-lc")]
    #[serde(rename = "RS256")]
    Rs256,
}

impl Algorithm {
    /// As `alg` in a header: `EdDSA`, `ES256` or `RS256`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            #[cfg(feature = "aws-lc")]
            Self::Es256 => "ES256",
            #[cfg(feature = "aws-lc")]
            Self::Rs256 => "RS256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A private key.
pub(crate) enum PrivateKey {
    EdDsa(Box<ed25519_dalek::SigningKey>),
    #[cfg(feature = "aws-lc")]
    Es256(Box<aws_lc_rs::signature::EcdsaKeyPair>),
    #[cfg(feature = "aws-lc")]
    Rs256(Box<aws_lc_rs::signature::RsaKeyPair>),
}

// All of them boxed: what a larger one leaves unused of a smaller one would be copied from
// the stack to the heap with it, and a key was read there a moment before.
const _: () = assert!(size_of::<PrivateKey>() <= 2 * size_of::<usize>());

/// A public key.
pub(crate) enum PublicKey {
    EdDsa(Box<ed25519_dalek::VerifyingKey>),
    /// The point, uncompressed: 4, x, y.
    #[cfg(feature = "aws-lc")]
    Es256([u8; 65]),
    #[cfg(feature = "aws-lc")]
    Rs256 {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

impl PrivateKey {
    /// What is kept of a new key: the seed of Ed25519, or PKCS #8. `seed` is 32 random bytes.
    pub(crate) fn generate(algorithm: Algorithm, seed: &[u8; 32]) -> Option<Zeroizing<Vec<u8>>> {
        match algorithm {
            Algorithm::EdDsa => Some(Zeroizing::new(seed.to_vec())),
            #[cfg(feature = "aws-lc")]
            Algorithm::Es256 => {
                let signing = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                let random = aws_lc_rs::rand::SystemRandom::new();
                let pkcs8 =
                    aws_lc_rs::signature::EcdsaKeyPair::generate_pkcs8(signing, &random).ok()?;
                Some(Zeroizing::new(pkcs8.as_ref().to_vec()))
            }
            #[cfg(feature = "aws-lc")]
            Algorithm::Rs256 => {
                use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
                let size = aws_lc_rs::rsa::KeySize::Rsa2048;
                let pair = aws_lc_rs::rsa::KeyPair::generate(size).ok()?;
                let pkcs8: Pkcs8V1Der<'_> = pair.as_der().ok()?;
                Some(Zeroizing::new(pkcs8.as_ref().to_vec()))
            }
        }
    }

    /// Reads what [`generate`](Self::generate) gave.
    pub(crate) fn read(algorithm: Algorithm, kept: &[u8]) -> Option<Self> {
        Some(match algorithm {
            Algorithm::EdDsa => {
                let seed = Zeroizing::new(<[u8; 32]>::try_from(kept).ok()?);
                Self::EdDsa(Box::new(ed25519_dalek::SigningKey::from_bytes(&seed)))
            }
            #[cfg(feature = "aws-lc")]
            Algorithm::Es256 => {
                let signing = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(signing, kept).ok()?;
                Self::Es256(Box::new(pair))
            }
            #[cfg(feature = "aws-lc")]
            Algorithm::Rs256 => {
                let pair = aws_lc_rs::signature::RsaKeyPair::from_pkcs8(kept).ok()?;
                Self::Rs256(Box::new(pair))
            }
        })
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::EdDsa(key) => {
                let signature = Zeroizing::new(key.sign(message).to_bytes());
                Some(Zeroizing::new(signature.to_vec()))
            }
            #[cfg(feature = "aws-lc")]
            Self::Es256(key) => {
                let random = aws_lc_rs::rand::SystemRandom::new();
                let signature = key.sign(&random, message).ok()?;
                Some(Zeroizing::new(signature.as_ref().to_vec()))
            }
            #[cfg(feature = "aws-lc")]
            Self::Rs256(key) => {
                let random = aws_lc_rs::rand::SystemRandom::new();
                let mut signature = Zeroizing::new(vec![0; key.public_modulus_len()]);
                let padding = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
                key.sign(padding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }

    pub(crate) fn public(&self) -> Option<PublicKey> {
        Some(match self {
            Self::EdDsa(key) => PublicKey::EdDsa(Box::new(key.verifying_key())),
            #[cfg(feature = "aws-lc")]
            Self::Es256(key) => {
                use aws_lc_rs::signature::KeyPair as _;
                PublicKey::Es256(key.public_key().as_ref().try_into().ok()?)
            }
            #[cfg(feature = "aws-lc")]
            Self::Rs256(key) => {
                use aws_lc_rs::signature::KeyPair as _;
                let public = key.public_key();
                PublicKey::Rs256 {
                    n: public.modulus().big_endian_without_leading_zero().to_vec(),
                    e: public.exponent().big_endian_without_leading_zero().to_vec(),
                }
            }
        })
    }
}

impl PublicKey {
    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::EdDsa(_) => Algorithm::EdDsa,
            #[cfg(feature = "aws-lc")]
            Self::Es256(_) => Algorithm::Es256,
            #[cfg(feature = "aws-lc")]
            Self::Rs256 { .. } => Algorithm::Rs256,
        }
    }

    /// Whether a signature is this key's over a message.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            // Strict: no key of small order, and one signature for each message and key.
            Self::EdDsa(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            #[cfg(feature = "aws-lc")]
            Self::Es256(point) => {
                let how = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
                let key = aws_lc_rs::signature::UnparsedPublicKey::new(how, point);
                key.verify(message, signature).is_ok()
            }
            #[cfg(feature = "aws-lc")]
            Self::Rs256 { n, e } => {
                let how = &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
                let key = aws_lc_rs::signature::RsaPublicKeyComponents { n, e };
                key.verify(how, message, signature).is_ok()
            }
        }
    }

    /// The members that its thumbprint is over, in their order (RFC 7638; RFC 8037, 2).
    fn members(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::EdDsa(key) => vec![
                ("crv", "Ed25519".to_owned()),
                ("kty", "OKP".to_owned()),
                ("x", encode(key.as_bytes())),
            ],
            #[cfg(feature = "aws-lc")]
            Self::Es256(point) => {
                let (x, y) = point[1..].split_at(32);
                vec![
                    ("crv", "P-256".to_owned()),
                    ("kty", "EC".to_owned()),
                    ("x", encode(x)),
                    ("y", encode(y)),
                ]
            }
            #[cfg(feature = "aws-lc")]
            Self::Rs256 { n, e } => vec![
                ("e", encode(e)),
                ("kty", "RSA".to_owned()),
                ("n", encode(n)),
            ],
        }
    }

    /// Its thumbprint, by which tokens name it (RFC 7638).
    pub(crate) fn thumbprint(&self) -> String {
        let members = self.members().into_iter();
        let members: Vec<_> = members
            .map(|(name, value)| format!("\"{name}\":\"{value}\""))
            .collect();
        encode(&Sha256::digest(format!("{{{}}}", members.join(","))))
    }

    /// As a JWK.
    pub(crate) fn jwk(&self) -> serde_json::Value {
        let mut jwk = json!({
            "kid": self.thumbprint(), "alg": self.algorithm().name(), "use": "sig",
        });
        for (name, value) in self.members() {
            jwk[name] = value.into();
        }
        jwk
    }
}
