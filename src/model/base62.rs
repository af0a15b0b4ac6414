//! The digits that ids, secrets and checks are written in.

/// The length of a key's id as text.
pub(crate) const ID_LEN: usize = 10;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The value of each byte as a base62 digit, or 255.
const BASE62_VALUE: [u8; 256] = {
    let mut table = [255; 256];
    let mut at = 0;
    while at < BASE62.len() {
        // `at` is below 62, so that it fits.
        #[allow(clippy::cast_possible_truncation)]
        {
            table[BASE62[at] as usize] = at as u8;
        }
        at += 1;
    }
    table
};

/// Writes `value` as `N` base62 digits, the highest first. Digits that do not
/// fit are dropped.
pub(crate) fn base62<const N: usize>(mut value: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        // The remainder is below 62.
        *digit = BASE62[usize::try_from(value % 62).unwrap_or(0)];
        value /= 62;
    }
    text
}

/// Reads `N` base62 digits; `None` where one is not a digit. No digit waits for the one
/// before it.
#[inline]
pub(crate) fn from_base62<const N: usize>(text: &[u8; N]) -> Option<u64> {
    const { assert!(N <= ID_LEN, "more digits overflow") };
    let (mut value, mut seen) = (0_u64, 0);
    let mut weight = 1;
    for byte in text.iter().rev() {
        let digit = BASE62_VALUE[usize::from(*byte)];
        seen |= digit;
        // What is not a digit adds no more than 255 at each place, which does not overflow.
        value += u64::from(digit) * weight;
        weight *= 62;
    }
    // The bits of digits make at most 63, and those of what is none 255.
    (seen <= 63).then_some(value)
}

pub(crate) fn is_base62(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| BASE62_VALUE[usize::from(*byte)] != 255)
}

/// One base62 digit for a value below 62.
pub(crate) fn base62_digit(value: u8) -> Option<u8> {
    BASE62.get(usize::from(value)).copied()
}
