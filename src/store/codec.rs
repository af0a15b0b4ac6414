//! The encoding of every record but the hot one: serde through bincode 2.
//!
//! bincode is no longer maintained, and without a limit a forged length makes it abort.
//! Only this file names it; it always sets a limit, and decodes only bytes whose tag
//! was right. To replace it, add a version to [`crate::store`]'s envelope and decode
//! both.

use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest encoding, in bytes, of any record.
pub(crate) const LEN_MAX: usize = 64 * 1024;

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<LEN_MAX>()
}

/// Encodes a value, or `None` where it is over the limit.
#[cfg(test)]
pub(crate) fn encode<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    encode_onto(value, &mut bytes)?;
    Some(bytes)
}

/// Encodes a value behind what is there, or gives `None` where it is over the limit.
pub(crate) fn encode_onto<T: Serialize>(value: &T, bytes: &mut Vec<u8>) -> Option<()> {
    let before = bytes.len();
    bincode::serde::encode_into_writer(value, Onto(bytes), config()).ok()?;
    (bytes.len() - before <= LEN_MAX).then_some(())
}

/// Writes behind what is there.
struct Onto<'b>(&'b mut Vec<u8>);

impl Writer for Onto<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Decodes a value that takes up all of `bytes`, or `None`.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    if bytes.len() > LEN_MAX {
        return None;
    }
    let (value, used) = bincode::serde::decode_from_slice(bytes, config()).ok()?;
    (used == bytes.len()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_forged_length_is_refused_without_allocating_it() {
        // A length of 2^63 - 1, then nothing.
        let forged = [253, 255, 255, 255, 255, 255, 255, 255, 127];
        assert_eq!(decode::<Vec<u8>>(&forged), None);
        assert_eq!(decode::<String>(&forged), None);
    }

    #[test]
    fn bytes_left_over_are_refused() {
        let mut bytes = encode(&"text").unwrap();
        assert_eq!(decode::<String>(&bytes).unwrap(), "text");
        bytes.push(0);
        assert_eq!(decode::<String>(&bytes), None);
    }

    #[test]
    fn what_is_over_the_limit_is_not_encoded() {
        assert!(encode(&vec![0_u8; LEN_MAX + 1]).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<(String, Vec<(String, Option<u64>)>)>(&bytes);
        }
    }
}
