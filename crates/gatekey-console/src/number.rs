//! Random texts.

use gatekey::Error;
use zeroize::Zeroizing;

/// So many random bytes, in hexadecimal digits.
pub(crate) fn draw<const N: usize>() -> Result<Zeroizing<String>, Error> {
    use rand::TryRng as _;
    let mut bytes = Zeroizing::new([0_u8; N]);
    let drawn = rand::rngs::SysRng.try_fill_bytes(bytes.as_mut());
    drawn.map_err(|error| Error::Entropy(error.to_string()))?;
    let mut text = Zeroizing::new(String::with_capacity(2 * N));
    for byte in bytes.iter() {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    Ok(text)
}
