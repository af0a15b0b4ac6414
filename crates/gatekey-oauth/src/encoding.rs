//! Base64 for URLs, without padding, in its one form.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A text, and behind it secret bytes: in one piece of memory, which is wiped.
pub(crate) fn encode_secret(before: &str, secret: &[u8]) -> Zeroizing<String> {
    let len = before.len() + secret.len().div_ceil(3) * 4;
    let mut text = Zeroizing::new(String::with_capacity(len));
    text.push_str(before);
    URL_SAFE_NO_PAD.encode_string(secret, &mut text);
    text
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
    fn a_secret_is_encoded_where_it_stays() {
        for len in 0..70 {
            let secret = vec![0xfb; len];
            let text = encode_secret("gkc_", &secret);
            assert_eq!(*text, format!("gkc_{}", encode(&secret)));
            assert!(text.capacity() <= 4 + len.div_ceil(3) * 4, "it grew");
        }
    }

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
