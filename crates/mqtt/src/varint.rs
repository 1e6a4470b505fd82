//! Variable byte integers (MQTT 5.0, section 1.5.5).

use crate::ProtocolError;

/// The largest number that four bytes of seven bits hold.
pub(crate) const MAX: u32 = 268_435_455;

/// Takes a number from the start of `bytes`, with the count of its bytes; `None` if more are needed.
///
/// # Errors
///
/// [`ProtocolError::VariableByteInteger`] if there are more than four bytes, or more than needed
/// (MQTT-1.5.5-1).
#[inline]
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(u32, usize)>, ProtocolError> {
    let mut number = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        number |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(ProtocolError::VariableByteInteger);
            }
            return Ok(Some((number, index + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(ProtocolError::VariableByteInteger) }
}

/// Returns the bytes that stand for `number`, which is at most [`MAX`], and their count.
#[inline]
pub(crate) fn encode(number: u32) -> ([u8; 4], usize) {
    debug_assert!(number <= MAX, "{number} has no variable byte encoding");
    let mut bytes = [0; 4];
    let mut rest = number;
    let mut count = 0;
    loop {
        let low = (rest & 0x7F) as u8;
        rest >>= 7;
        if rest == 0 || count == 3 {
            bytes[count] = low;
            return (bytes, count + 1);
        }
        bytes[count] = low | 0x80;
        count += 1;
    }
}

/// Returns how many bytes `number` needs.
#[inline]
pub(crate) const fn len(number: u32) -> usize {
    match number {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table 1-1: the edges of each length.
    #[test]
    fn each_length_has_its_range() {
        #[rustfmt::skip]
        let cases: [(u32, &[u8]); 8] = [
            (0,             &[0x00]),
            (127,           &[0x7F]),
            (128,           &[0x80, 0x01]),
            (16_383,        &[0xFF, 0x7F]),
            (16_384,        &[0x80, 0x80, 0x01]),
            (2_097_151,     &[0xFF, 0xFF, 0x7F]),
            (2_097_152,     &[0x80, 0x80, 0x80, 0x01]),
            (268_435_455,   &[0xFF, 0xFF, 0xFF, 0x7F]),
        ];
        for (number, wire) in cases {
            let (bytes, count) = encode(number);
            assert_eq!(&bytes[..count], wire, "{number}");
            assert_eq!(len(number), wire.len(), "{number}");
            assert_eq!(read(wire), Ok(Some((number, wire.len()))), "{number}");
            for cut in 0..wire.len() {
                assert_eq!(read(&wire[..cut]), Ok(None), "{number} cut at {cut}");
            }
        }
    }

    /// M03; MQTT-1.5.5-1.
    #[test]
    fn fault_m03_integers_too_long_or_longer_than_needed_are_malformed() {
        let cases: [&[u8]; 6] = [
            &[0x80, 0x00],
            &[0xFF, 0x00],
            &[0x80, 0x80, 0x00],
            &[0x80, 0x80, 0x80, 0x00],
            &[0x80, 0x80, 0x80, 0x80],
            &[0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        ];
        for wire in cases {
            assert_eq!(read(wire), Err(ProtocolError::VariableByteInteger), "{wire:02X?}");
        }
    }
}
