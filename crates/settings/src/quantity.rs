//! Sizes and durations as people write them: `64KiB`, `250ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// A number of bytes, written as `512B`, `64KiB`, `16MiB`, `1GiB` or `60TiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1)];

impl ByteSize {
    /// Creates a size of `count` bytes.
    pub const fn bytes(count: u64) -> Self {
        Self(count)
    }

    /// Creates a size of `count` times 1,024 bytes.
    pub const fn kib(count: u64) -> Self {
        Self(count * KIB)
    }

    /// Creates a size of `count` times 1,024 KiB.
    pub const fn mib(count: u64) -> Self {
        Self(count * MIB)
    }

    /// Creates a size of `count` times 1,024 MiB.
    pub const fn gib(count: u64) -> Self {
        Self(count * GIB)
    }

    /// Returns the number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the number of bytes, at most what memory can address.
    pub fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit =
            SIZE_UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        let (name, bytes) = unit.copied().unwrap_or(("B", 1));
        write!(formatter, "{}{name}", self.0 / bytes)
    }
}

/// Why a text is not a [`ByteSize`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ByteSizeError {
    /// It does not begin with a whole number.
    #[error("a size is a whole number with a unit, such as `64KiB`")]
    Number,
    /// There is no unit, or none we know.
    #[error("`{unit}` is not a unit of size")]
    Unit {
        /// What stands after the number.
        unit: String,
        /// The size with the unit that was probably meant.
        meant: Option<String>,
    },
    /// It is more than a 64-bit number can hold.
    #[error("the size is too large")]
    TooLarge,
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split_number(text).ok_or(ByteSizeError::Number)?;
        let Some((_, bytes)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
            let letter = unit.chars().next().map(|letter| letter.to_ascii_uppercase());
            let meant = match letter {
                Some('K') => Some("KiB"),
                Some('M') => Some("MiB"),
                Some('G') => Some("GiB"),
                Some('T') => Some("TiB"),
                Some('B') => Some("B"),
                _ => None,
            };
            let meant = meant.map(|unit| format!("{number}{unit}"));
            return Err(ByteSizeError::Unit { unit: unit.to_owned(), meant });
        };
        let number: u64 = number.parse().map_err(|_| ByteSizeError::TooLarge)?;
        number.checked_mul(*bytes).map(Self).ok_or(ByteSizeError::TooLarge)
    }
}

const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DurationError {
    /// It is not a whole number with a unit.
    #[error("a duration is a whole number with a unit, such as `250ms`")]
    Number,
    /// The unit is none we know.
    #[error("`{0}` is not a unit of time")]
    Unit(String),
    /// It is more than a 64-bit number of milliseconds.
    #[error("the duration is too long")]
    TooLong,
}

/// Parses a duration such as `250ms`, `5s`, `10m`, `2h` or `7d`.
///
/// # Errors
///
/// One [`DurationError`] for each way to write it wrongly.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let (number, unit) = split_number(text).ok_or(DurationError::Number)?;
    if unit.is_empty() {
        return Err(DurationError::Number);
    }
    let known = DURATION_UNITS.iter().find(|(name, _)| *name == unit);
    let (_, milliseconds) = known.ok_or_else(|| DurationError::Unit(unit.to_owned()))?;
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    number.checked_mul(*milliseconds).map(Duration::from_millis).ok_or(DurationError::TooLong)
}

/// Writes a duration as [`parse_duration`] reads it, with the largest unit that gives a whole number.
/// Parts of a millisecond are left out.
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let unit = DURATION_UNITS.iter().find(|(_, unit)| {
        milliseconds >= u128::from(*unit) && milliseconds.is_multiple_of(u128::from(*unit))
    });
    let (name, unit) = unit.copied().unwrap_or(("s", 1_000));
    format!("{}{name}", milliseconds / u128::from(unit))
}

/// Splits a text into its leading digits, at least one, and the rest.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}
