//! The numbers that name records and those who take them.

use std::fmt;

/// The journal-wide number of a data record.
///
/// Numbers start at 1 and rise strictly with the order of the log. They may skip: after damage to
/// the end of the log the journal leaves out those that lost records may have carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// Stands before every record.
    pub const ORIGIN: Self = Self(0);
    /// Names the first record of a new journal.
    pub const FIRST: Self = Self(1);

    /// Wraps a number; 0 is [`Seq::ORIGIN`].
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Returns the number before this one; that of [`Seq::ORIGIN`] is itself.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Names one taker of records: an uplink, a persistent session, the retained slot.
///
/// A number is given once in the life of a journal and never again, not even after
/// [`Transaction::retire`](crate::Transaction::retire).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TakerId(u32);

impl TakerId {
    /// Wraps a number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for TakerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A place in the records of one taker: the record with this number was the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The journal-wide number of that record.
    pub seq: Seq,
    /// How many records of this taker there were up to and with it.
    pub ordinal: u64,
}

impl Position {
    /// Stands before the first record of any taker.
    pub const START: Self = Self { seq: Seq::ORIGIN, ordinal: 0 };
}
