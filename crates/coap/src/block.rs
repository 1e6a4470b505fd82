//! Blocks of bodies (RFC 7959): the option value, and the block of a body that a request asks for.

use bytes::Bytes;
use thiserror::Error;

/// Largest exponent of a block size over UDP: 1 024 bytes (section 2.2).
const SIZE_EXPONENT_MAX: u8 = 6;

/// The value of Block1 or Block2: which block, whether more follow, how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Which block of the body, from 0.
    pub number: u32,
    /// Whether more blocks follow.
    pub more: bool,
    size_exponent: u8,
}

/// Why a block option cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BlockError {
    /// The size exponent 7 is reserved over UDP.
    #[error("reserved block size")]
    ReservedSize,
    /// The body ends before the block.
    #[error("the body has no such block")]
    BeyondEnd,
}

impl Block {
    /// The first block of the largest size.
    pub const FIRST: Self = Self { number: 0, more: false, size_exponent: SIZE_EXPONENT_MAX };

    /// Takes the value of the option.
    ///
    /// # Errors
    ///
    /// [`BlockError::ReservedSize`].
    pub fn from_value(value: u32) -> Result<Self, BlockError> {
        let size_exponent = u8::try_from(value & 7).expect("three bits");
        if size_exponent > SIZE_EXPONENT_MAX {
            return Err(BlockError::ReservedSize);
        }
        Ok(Self { number: value >> 4, more: value & 8 != 0, size_exponent })
    }

    /// Returns the value of the option.
    pub fn value(self) -> u32 {
        self.number << 4 | u32::from(self.more) << 3 | u32::from(self.size_exponent)
    }

    /// Returns how many bytes a block has: 16 to 1 024.
    pub fn size(self) -> usize {
        16 << self.size_exponent
    }

    /// Returns this block of `body`, and the option value that describes it.
    ///
    /// # Errors
    ///
    /// [`BlockError::BeyondEnd`] if the body ends before it.
    pub fn of(self, body: &Bytes) -> Result<(Bytes, Self), BlockError> {
        let start = usize::try_from(self.number)
            .ok()
            .and_then(|number| number.checked_mul(self.size()))
            .filter(|&start| start < body.len() || start == 0)
            .ok_or(BlockError::BeyondEnd)?;
        let end = body.len().min(start + self.size());
        Ok((body.slice(start..end), Self { more: end < body.len(), ..self }))
    }
}

/// Returns a tag that tells bodies apart (FNV-1a, 64 bits), for the blocks of one answer.
pub(crate) fn entity_tag(body: &[u8]) -> [u8; 8] {
    let hash = body.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    hash.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_values_follow_the_vectors() {
        #[rustfmt::skip]
        let cases = [
            (0x0E,      0,      true,   1_024),
            (0x12,      1,      false,  64),
            (0x0F_FFFE, 65_535, true,   1_024),
            (0,         0,      false,  16),
            (0x38,      3,      true,   16),
        ];
        for (value, number, more, size) in cases {
            let block = Block::from_value(value).unwrap();
            assert_eq!((block.number, block.more, block.size()), (number, more, size));
            assert_eq!(block.value(), value);
        }
        assert_eq!(Block::from_value(0x07), Err(BlockError::ReservedSize));
    }

    #[test]
    fn blocks_cut_a_body_without_gap_or_overlap() {
        for length in [0_usize, 1, 15, 16, 17, 1_024, 2_500] {
            let body: Bytes = (0..length).map(|at| at.to_le_bytes()[0]).collect::<Vec<_>>().into();
            for exponent in 0..=6 {
                let mut block = Block::from_value(exponent).unwrap();
                let mut joined = Vec::new();
                loop {
                    let (part, described) = block.of(&body).unwrap();
                    joined.extend_from_slice(&part);
                    if !described.more {
                        break;
                    }
                    assert_eq!(part.len(), block.size());
                    block.number += 1;
                }
                assert_eq!(joined, body);
                block.number += 1;
                assert_eq!(block.of(&body), Err(BlockError::BeyondEnd));
            }
        }
    }

    #[test]
    fn tags_tell_bodies_apart() {
        assert_eq!(entity_tag(b""), 0xCBF2_9CE4_8422_2325_u64.to_be_bytes());
        assert_ne!(entity_tag(b"21.5"), entity_tag(b"21.6"));
    }
}
