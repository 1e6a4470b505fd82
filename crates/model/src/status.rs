//! Whether a value can be trusted: OPC UA status codes and the three qualities.

use std::fmt;

/// How far a value can be trusted: the severity of a [`Status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quality {
    /// The value is what the device measured.
    Good,
    /// The value may be off.
    Uncertain,
    /// The value must not be used.
    Bad,
}

impl Quality {
    /// Returns the word of the local envelope: `good`, `uncertain` or `bad`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Uncertain => "uncertain",
            Self::Bad => "bad",
        }
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An OPC UA status code (OPC 10000-4, section 7.39); other sources use the three plain severities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u32);

impl Status {
    /// Good, without further detail.
    pub const GOOD: Self = Self(0);
    /// Uncertain, without further detail.
    pub const UNCERTAIN: Self = Self(0x4000_0000);
    /// Bad, without further detail.
    pub const BAD: Self = Self(0x8000_0000);

    /// Takes a status code as it stands on the wire.
    pub const fn from_code(code: u32) -> Self {
        Self(code)
    }

    /// Returns the 32-bit code.
    pub const fn code(self) -> u32 {
        self.0
    }

    /// Returns the severity: the top two bits. The reserved severity 11 counts as bad.
    pub const fn quality(self) -> Quality {
        match self.0 >> 30 {
            0 => Quality::Good,
            1 => Quality::Uncertain,
            _ => Quality::Bad,
        }
    }

    /// Returns whether the severity is good.
    pub const fn is_good(self) -> bool {
        matches!(self.quality(), Quality::Good)
    }
}

impl From<Quality> for Status {
    fn from(quality: Quality) -> Self {
        match quality {
            Quality::Good => Self::GOOD,
            Quality::Uncertain => Self::UNCERTAIN,
            Quality::Bad => Self::BAD,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "0x{:08X}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_bits_give_the_quality() {
        #[rustfmt::skip]
        let cases = [
            (0x0000_0000, Quality::Good),
            (0x002F_0000, Quality::Good),
            (0x4090_0000, Quality::Uncertain),
            (0x8031_0000, Quality::Bad),
            (0xC000_0000, Quality::Bad),
        ];
        for (code, expected) in cases {
            assert_eq!(Status::from_code(code).quality(), expected, "0x{code:08X}");
        }
    }
}
