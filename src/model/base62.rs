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

/// Reads base62 digits; `None` where one is not a digit or the value overflows.
pub(crate) fn from_base62(text: &[u8]) -> Option<u64> {
    let mut value: u64 = 0;
    for byte in text {
        let digit = BASE62_VALUE[usize::from(*byte)];
        if digit == 255 {
            return None;
        }
        value = value.checked_mul(62)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

pub(crate) fn is_base62(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| BASE62_VALUE[usize::from(*byte)] != 255)
}

/// One base62 digit for a value below 62.
pub(crate) fn base62_digit(value: u8) -> Option<u8> {
    BASE62.get(usize::from(value)).copied()
}
