//! The text of a token: `{prefix}_{id}_{secret}{checksum}`.
//!
//! Read from the right, since the prefix may hold `_`: 6 characters of checksum, 43 of
//! secret, `_`, 10 of id, `_`, and the prefix before. The checksum is the CRC-32
//! (ISO-HDLC) of all before it, in base62, the highest digit first. It rejects typos
//! and scanners' noise before any work, and authenticates nothing.

use zeroize::{Zeroize, Zeroizing};

use crate::model::base62::{base62, base62_digit, is_base62};
use crate::model::error::Error;
use crate::model::id::{KeyId, Prefix};

/// The length of a secret: 43 base62 characters hold 256 bits.
pub(crate) const SECRET_LEN: usize = 43;
const CHECKSUM_LEN: usize = 6;
/// The hashed part of a token: id, `_`, secret and checksum.
pub(crate) const SIGNED_LEN: usize = KeyId::LEN + 1 + SECRET_LEN + CHECKSUM_LEN;
/// Longer texts are refused before any work. No token is longer than 93.
const LEN_MAX: usize = 255;

/// The part of a token that is hashed, and that alone proves possession.
pub(crate) type Signed = [u8; SIGNED_LEN];

/// The parts of a text that has the outer form of a token. Its digits and its checksum are
/// not verified yet.
pub(crate) struct Parts<'a> {
    text: &'a [u8],
    pub(crate) prefix: &'a [u8],
    pub(crate) id: KeyId,
    pub(crate) signed: &'a Signed,
}

/// Finds the parts of a token, or `None` where the text cannot be one. Looks at
/// nothing but the length, the separators and the id.
#[inline]
pub(crate) fn split(text: &[u8]) -> Option<Parts<'_>> {
    if text.len() > LEN_MAX {
        return None;
    }
    let (head, signed) = text.split_last_chunk::<SIGNED_LEN>()?;
    let (b'_', prefix) = head.split_last()? else {
        return None;
    };
    let (id, rest) = signed.split_first_chunk::<{ KeyId::LEN }>()?;
    if rest.first() != Some(&b'_') {
        return None;
    }
    Some(Parts {
        text,
        prefix,
        id: KeyId::read(id)?,
        signed,
    })
}

impl Parts<'_> {
    /// Whether every digit of the text is valid, and its checksum is right.
    ///
    /// A token with the digest or the MAC of a key passes by definition: both cover all
    /// digits and the checksum.
    pub(crate) fn is_token(&self) -> bool {
        let Some((body, checksum)) = self.text.split_last_chunk::<CHECKSUM_LEN>() else {
            return false;
        };
        Prefix::is_prefix(self.prefix)
            && self.signed.get(KeyId::LEN + 1..).is_some_and(is_base62)
            && *checksum == checksum_of(body)
    }
}

/// Splits a token, or returns `None` for a text that does not have the form of one.
///
/// O(length of a token), whatever the text.
pub(crate) fn parse(text: &[u8]) -> Option<Parts<'_>> {
    split(text).filter(Parts::is_token)
}

/// What a text that has the form of a token says of itself: see [`inspect_token`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenForm {
    /// The prefix: which keyspace it is of, in some store.
    pub prefix: Prefix,
    /// The id of its key, which is public.
    pub key: KeyId,
}

/// Reads the form of a text without a store: `None` for a text that no store issues as a
/// token, which is malformed for every store. For a tool that is shown a text and asks
/// whether it may be a token, and of which key.
///
/// It proves nothing: anybody can make a text of this form. The call takes time in
/// proportion to the text's length, at most 255 bytes.
///
/// ```
/// # use gatekey::{Engine, NewKey, NewKeyspace, inspect_token};
/// # let engine = Engine::open_in_memory()?;
/// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
/// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
/// let token = issued.token.expose();
/// let form = inspect_token(token).unwrap();
/// assert_eq!((form.prefix.as_str(), form.key), ("acme_live", issued.key.id));
/// let cut = &token[..token.len() - 1];
/// assert!(inspect_token(cut).is_none());
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[must_use]
pub fn inspect_token(text: impl AsRef<[u8]>) -> Option<TokenForm> {
    let parts = parse(text.as_ref())?;
    let prefix = std::str::from_utf8(parts.prefix).ok()?;
    Some(TokenForm {
        prefix: prefix.parse().ok()?,
        key: parts.id,
    })
}

fn checksum_of(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    base62(u64::from(crc32fast::hash(body)))
}

/// Puts a token together.
///
/// # Errors
/// [`Error::Internal`] for a secret that is not ASCII.
pub(crate) fn print(
    prefix: &Prefix,
    id: KeyId,
    secret: &[u8; SECRET_LEN],
) -> Result<Zeroizing<String>, Error> {
    // The capacity is that of the longest token, so that no reallocation leaves half of
    // a secret behind.
    let mut text = Zeroizing::new(String::with_capacity(Prefix::LEN_MAX + 1 + SIGNED_LEN));
    let not_ascii = |_| Error::Internal("a token is not ASCII");
    let (id, secret) = (id.text(), std::str::from_utf8(secret).map_err(not_ascii)?);
    let id = std::str::from_utf8(&id).map_err(not_ascii)?;
    for part in [prefix.as_str(), "_", id, "_", secret] {
        text.push_str(part);
    }
    let checksum = checksum_of(text.as_bytes());
    text.push_str(std::str::from_utf8(&checksum).map_err(not_ascii)?);
    Ok(text)
}

/// Draws a secret from the operating system's generator, without modulo bias:
/// a byte of 248 or more is dropped, and the rest taken modulo 62.
pub(crate) fn draw_secret(source: &mut Entropy) -> Result<Zeroizing<[u8; SECRET_LEN]>, Error> {
    let mut secret = Zeroizing::new([0; SECRET_LEN]);
    for digit in secret.iter_mut() {
        *digit = loop {
            let byte = source.byte()?;
            if byte < 248
                && let Some(digit) = base62_digit(byte % 62)
            {
                break digit;
            }
        };
    }
    Ok(secret)
}

/// Random bytes of the operating system, fetched in blocks and wiped once used.
pub(crate) struct Entropy {
    block: Zeroizing<[u8; 256]>,
    used: usize,
}

impl Entropy {
    pub(crate) fn new() -> Self {
        Self {
            block: Zeroizing::new([0; 256]),
            used: 256,
        }
    }

    fn byte(&mut self) -> Result<u8, Error> {
        if self.used >= self.block.len() {
            fill_random(self.block.as_mut_slice())?;
            self.used = 0;
        }
        let slot = self
            .block
            .get_mut(self.used)
            .ok_or(Error::Internal("the block of entropy is empty"))?;
        self.used += 1;
        let byte = *slot;
        slot.zeroize();
        Ok(byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(u32::from_le_bytes(bytes))
    }
}

/// Fills `bytes` from the operating system's generator.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), Error> {
    use rand::TryRng;
    rand::rngs::SysRng
        .try_fill_bytes(bytes)
        .map_err(|error| Error::Entropy(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(prefix: &str, raw: u64, secret: &[u8; SECRET_LEN]) -> String {
        print(&prefix.parse().unwrap(), KeyId::from_raw(raw), secret)
            .unwrap()
            .to_string()
    }

    #[test]
    fn a_drawn_secret_uses_the_whole_alphabet() {
        let mut source = Entropy::new();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let secret = draw_secret(&mut source).unwrap();
            assert!(is_base62(secret.as_slice()));
            seen.extend(secret.iter().copied());
        }
        assert_eq!(seen.len(), 62);
    }

    #[test]
    fn numbers_that_are_drawn_differ() {
        let mut source = Entropy::new();
        let mut seen = std::collections::BTreeSet::new();
        seen.extend((0..8).map(|_| source.u32().unwrap()));
        assert!(seen.len() > 1, "{seen:?}");
    }

    #[test]
    fn a_text_over_the_limit_is_not_split_though_it_has_the_form() {
        let good = token("a", 77, &[b'k'; SECRET_LEN]);
        let (_, rest) = good.split_at(1);
        let of_len = |len: usize| "a".repeat(len - rest.len()) + rest;
        assert!(split(of_len(LEN_MAX).as_bytes()).is_some());
        for len in [LEN_MAX + 1, LEN_MAX + 2, 1 << 20] {
            assert!(split(of_len(len).as_bytes()).is_none(), "{len}");
        }
    }

    #[test]
    fn one_changed_character_is_refused_wherever_it_is() {
        let good = token("acme_live", 77, &[b'k'; SECRET_LEN]);
        assert!(parse(good.as_bytes()).is_some());
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] = if bad[at] == b'x' { b'y' } else { b'x' };
            assert!(parse(&bad).is_none(), "at {at}");
            bad[at] ^= 0x80;
            assert!(parse(&bad).is_none(), "at {at}, high bit");
        }
        for len in 0..good.len() {
            assert!(parse(&good.as_bytes()[..len]).is_none());
        }
    }

    #[test]
    fn padded_folded_and_giant_texts_are_refused() {
        let good = token("acme_live", 77, &[b'k'; SECRET_LEN]);
        for bad in [
            format!(" {good}"),
            format!("{good} "),
            format!("{good}\n"),
            good.to_uppercase(),
            good.replace('a', "\u{430}"),
            format!("{}{good}", "a".repeat(256)),
            "x".repeat(1 << 20),
            "_".repeat(62),
            String::new(),
        ] {
            assert!(parse(bad.as_bytes()).is_none());
        }
        assert!(parse(&[0xff; 80]).is_none());
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(
            prefix in "[a-z0-9_]{1,32}",
            raw in 0..839_299_365_868_340_224_u64,
            secret in "[0-9A-Za-z]{43}",
        ) {
            let secret: [u8; SECRET_LEN] = secret.as_bytes().try_into().unwrap();
            let text = token(&prefix, raw, &secret);
            let parsed = parse(text.as_bytes()).unwrap();
            prop_assert_eq!(parsed.prefix, prefix.as_bytes());
            prop_assert_eq!(parsed.id.raw(), raw);
            prop_assert_eq!(&parsed.signed[11..54], &secret[..]);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&text);
        }
    }
}
