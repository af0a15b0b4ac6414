//! Tokens as a forger makes them: parts changed, and a checksum that fits.
//!
//! `tests/it/vectors.rs` has a second implementation of the format, which shares nothing
//! with this one or with the engine.

/// How many characters the checksum at a token's end has.
pub const CHECKSUM_LEN: usize = 6;
/// How many characters follow the prefix and its `_`: id, `_`, secret, checksum.
pub const SIGNED_LEN: usize = ID_LEN + 1 + SECRET_LEN + CHECKSUM_LEN;

/// The digits of ids, secrets and checks, by their value.
pub const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const ID_LEN: usize = 10;
const SECRET_LEN: usize = 43;

/// The checksum that belongs to a token's body: all of it but the checksum.
#[must_use]
pub fn checksum_of(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut rest = crc32fast::hash(body) as usize;
    let mut checksum = [b'0'; CHECKSUM_LEN];
    for digit in checksum.iter_mut().rev() {
        *digit = BASE62[rest % 62];
        rest /= 62;
    }
    checksum
}

/// Puts the checksum that belongs to it at the end of a token.
///
/// # Panics
/// Where the token is shorter than a checksum.
pub fn reseal(token: &mut [u8]) {
    let (body, checksum) = token.split_at_mut(token.len() - CHECKSUM_LEN);
    checksum.copy_from_slice(&checksum_of(body));
}

/// A token with its body changed, and the checksum that belongs to the new body.
///
/// # Panics
/// Where the token is shorter than a checksum, or not ASCII.
#[must_use]
pub fn resealed(token: &str, change: impl FnOnce(&mut String)) -> String {
    let mut body = token[..token.len() - CHECKSUM_LEN].to_owned();
    change(&mut body);
    let checksum = checksum_of(body.as_bytes());
    body.extend(checksum.map(char::from));
    body
}

/// The token with the last character of its secret changed, and the checksum that belongs.
///
/// # Panics
/// Where the token is shorter than a checksum, or not ASCII.
#[must_use]
pub fn with_wrong_secret(token: &str) -> String {
    resealed(token, |body| {
        let last = body.pop();
        body.push(if last == Some('0') { '1' } else { '0' });
    })
}

/// Gives a token the id next to its own that `is_taken` does not know, and the checksum that
/// belongs. Its record would be on the same page of the store.
///
/// # Panics
/// Where the text is too short for a token, or 62 ids in a row are taken.
pub fn make_unknown(token: &mut [u8], is_taken: impl Fn(u64) -> bool) {
    let last = token.len() - SIGNED_LEN + ID_LEN - 1;
    let free = BASE62.iter().any(|digit| {
        token[last] = *digit;
        !is_taken(number_in(token))
    });
    assert!(free, "62 ids in a row are taken");
    reseal(token);
}

/// The number of the key in a token: where the store's table has its record.
///
/// # Panics
/// Where the text is too short for a token, or its id has a character that no id has.
#[must_use]
pub fn number_in(token: &[u8]) -> u64 {
    number_of(&token[token.len() - SIGNED_LEN..][..ID_LEN])
}

/// The number that the text of an id stands for.
///
/// # Panics
/// Where it has a character that no id has.
#[must_use]
pub fn number_of(id: &[u8]) -> u64 {
    id.iter().fold(0, |number, byte| {
        let digit = BASE62.iter().position(|known| known == byte);
        let digit = digit.unwrap_or_else(|| panic!("{byte} is no digit"));
        number * 62 + digit as u64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the first row in tests/vectors/tokens.tsv.
    const TOKEN: &str = "acme_live_7Hk2Pq9ZxW_00000000000000000000000000000000000000000002jqUlG";

    #[test]
    fn a_token_of_the_vectors_is_sealed_as_the_engine_seals_it() {
        assert_eq!(resealed(TOKEN, |_| {}), TOKEN);
        let mut changed = TOKEN.as_bytes().to_vec();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        reseal(&mut changed);
        assert_eq!(changed, TOKEN.as_bytes());
    }

    #[test]
    fn a_wrong_secret_differs_and_is_sealed() {
        let wrong = with_wrong_secret(TOKEN);
        assert_ne!(
            wrong[..wrong.len() - CHECKSUM_LEN],
            TOKEN[..TOKEN.len() - CHECKSUM_LEN]
        );
        assert_eq!(resealed(&wrong, |_| {}), wrong);
        assert_eq!(number_in(wrong.as_bytes()), number_in(TOKEN.as_bytes()));
    }

    #[test]
    fn numbers_count_in_base_62() {
        assert_eq!(number_of(b"0000000000"), 0);
        assert_eq!(number_of(b"000000000z"), 61);
        assert_eq!(number_of(b"0000000010"), 62);
    }
}
