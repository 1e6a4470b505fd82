//! Reading and writing the integers and strings of what an uplink keeps in the journal, and of packed
//! columns.

use thiserror::Error;

/// Bytes cannot be read. Those of the journal had the right checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed bytes")]
pub struct Malformed;

/// Appends a number as one to ten bytes, seven bits each, the lowest first.
#[inline]
pub(crate) fn put_varint(buffer: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits are meant")]
        buffer.push(number as u8 | 0x80);
        number >>= 7;
    }
    buffer.push(u8::try_from(number).expect("below 0x80"));
}

/// Appends a number of either sign as one to ten bytes; those near 0 take one.
#[inline]
pub(crate) fn put_zigzag(buffer: &mut Vec<u8>, number: i64) {
    put_varint(buffer, (number << 1 ^ number >> 63).cast_unsigned());
}

/// Appends a length and that many bytes.
pub(crate) fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

/// Appends a length and that many bytes of text.
pub(crate) fn put_text(buffer: &mut Vec<u8>, text: &str) {
    put_bytes(buffer, text.as_bytes());
}

/// What is left to be read of some bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(first)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    /// Reads what [`put_zigzag`] has written.
    #[inline]
    pub(crate) fn zigzag(&mut self) -> Result<i64, Malformed> {
        let number = self.varint()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        let (number, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(i64::from_le_bytes(*number))
    }

    pub(crate) fn varint_u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varint()?).map_err(|_| Malformed)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_lies_are_refused() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut buffer = Vec::new();
            put_varint(&mut buffer, number);
            let mut input = Input::new(&buffer);
            assert_eq!(input.varint(), Ok(number));
            assert_eq!(input.end(), Ok(()));
        }
        for number in [0, -1, 1, 63, -64, 64, i64::MAX, i64::MIN] {
            let mut buffer = Vec::new();
            put_zigzag(&mut buffer, number);
            assert_eq!(buffer.len() == 1, (-64..64).contains(&number));
            assert_eq!(Input::new(&buffer).zigzag(), Ok(number));
        }
        assert_eq!(Input::new(&[0xff; 11]).varint(), Err(Malformed));
        assert_eq!(Input::new(&[3, 1, 2]).bytes(), Err(Malformed));
        assert_eq!(Input::new(&[1, 0xff]).text(), Err(Malformed));
    }
}
