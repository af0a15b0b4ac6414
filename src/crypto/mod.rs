//! Tokens, digests and randomness: the only user of blake3, subtle and the
//! generator.

pub(crate) mod digest;
pub(crate) mod extension;
pub(crate) mod foreign;
pub(crate) mod mac;
pub(crate) mod multilinear;
pub(crate) mod stack;
pub(crate) mod token;
