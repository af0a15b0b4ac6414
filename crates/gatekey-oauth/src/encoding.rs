//! Base64 for URLs, without padding, in its one form.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `None` for padding, other letters, white space, and bits that do not count and are not 0:
/// so each text of bytes has one form, and a cut text is not another's.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_of_bytes_has_one_form() {
        for text in [
            "QQ==", "QQ=", "QR", "Q", "QQ\n", " QQ", "Q+", "Q/", "\u{ff}",
        ] {
            assert_eq!(decode(text), None, "{text:?}");
        }
        assert_eq!(decode("QQ").unwrap(), b"A");
        assert_eq!(decode("-_8").unwrap(), [0xfb, 0xff]);
    }
}
