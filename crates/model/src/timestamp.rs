//! Points in time, in UTC.

use std::{fmt, time::Duration};

use thiserror::Error;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// A point in time: microseconds since 1970-01-01 in UTC, which may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text is not a point in time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is not a time like 2026-03-01T12:00:00.123Z (RFC 3339)")]
pub struct TimestampError {
    /// The text as it was found.
    pub text: String,
}

impl Timestamp {
    /// Makes a time from microseconds since 1970.
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Makes a time from milliseconds since 1970; what does not fit is cut to the nearest that does.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Returns microseconds since 1970.
    pub const fn as_unix_micros(self) -> i64 {
        self.0
    }

    /// Returns whole milliseconds since 1970, rounded down.
    pub const fn as_unix_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Returns the time `duration` later, or the latest that can be told.
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Returns how long after `earlier` this is; zero if it is not after it.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads a time of RFC 3339, with any offset; digits beyond microseconds are cut.
    ///
    /// # Errors
    ///
    /// [`TimestampError`] if the text is anything else, or before year 0 or after 9999.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let error = || TimestampError { text: text.chars().take(64).collect() };
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| error())?;
        i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000))
            .map(Self)
            .map_err(|_| error())
    }

    /// Appends the RFC 3339 form in UTC, with milliseconds, or microseconds where they are not zero.
    ///
    /// Times outside the years 0 to 9999 are shown as the nearest one inside.
    pub fn write_rfc3339(self, output: &mut Vec<u8>) {
        let micros = self.0.clamp(YEAR_0_MICROS, YEAR_9999_MICROS);
        let moment = OffsetDateTime::from_unix_timestamp(micros.div_euclid(1_000_000))
            .expect("the clamped time lies in the years 0 to 9999")
            .to_offset(UtcOffset::UTC);
        let (date, clock) = (moment.date(), moment.time());
        push_digits(output, date.year().unsigned_abs(), 4);
        for (mark, number) in [(b'-', u8::from(date.month())), (b'-', date.day())] {
            output.push(mark);
            push_digits(output, number.into(), 2);
        }
        for (mark, number) in [(b'T', clock.hour()), (b':', clock.minute()), (b':', clock.second())]
        {
            output.push(mark);
            push_digits(output, number.into(), 2);
        }
        output.push(b'.');
        let fraction = u32::try_from(micros.rem_euclid(1_000_000)).expect("below one million");
        if fraction % 1_000 == 0 {
            push_digits(output, fraction / 1_000, 3);
        } else {
            push_digits(output, fraction, 6);
        }
        output.push(b'Z');
    }
}

/// 0000-01-01T00:00:00Z.
const YEAR_0_MICROS: i64 = -62_167_219_200_000_000;
/// 9999-12-31T23:59:59.999999Z.
const YEAR_9999_MICROS: i64 = 253_402_300_799_999_999;

fn push_digits(output: &mut Vec<u8>, mut number: u32, width: usize) {
    let start = output.len();
    output.resize(start + width, b'0');
    for digit in output[start..].iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(27);
        self.write_rfc3339(&mut text);
        formatter.write_str(std::str::from_utf8(&text).expect("digits and marks are ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_print_as_rfc_3339() {
        #[rustfmt::skip]
        let cases = [
            (0,                                 "1970-01-01T00:00:00.000Z"),
            (1_772_366_400_123_000,             "2026-03-01T12:00:00.123Z"),
            (1_772_366_400_123_456,             "2026-03-01T12:00:00.123456Z"),
            (-1,                                "1969-12-31T23:59:59.999999Z"),
            (i64::MAX,                          "9999-12-31T23:59:59.999999Z"),
            (i64::MIN,                          "0000-01-01T00:00:00.000Z"),
        ];
        for (micros, expected) in cases {
            assert_eq!(Timestamp::from_unix_micros(micros).to_string(), expected);
        }
    }

    #[test]
    fn offsets_are_taken_into_account() {
        let time = Timestamp::parse("2026-03-01T13:00:00.123+01:00").unwrap();
        assert_eq!(time.to_string(), "2026-03-01T12:00:00.123Z");
        assert!(Timestamp::parse("2026-03-01 noon").is_err());
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(micros in YEAR_0_MICROS..=YEAR_9999_MICROS) {
            let time = Timestamp::from_unix_micros(micros);
            prop_assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
        }
    }
}
