//! Stretches of records that came in while nobody vouched for the wall clock (promise A6).
//!
//! What came in between two records of the journal was stamped by a clock that stood wrong by the same amount. When the
//! clock becomes trusted, that amount is known, and the stamps are corrected on their way to the cloud; when it does not
//! in time, they go as they are, marked. Which of both is decided once, and durably: a number names one reading.

use std::borrow::Cow;

use tidegate_model::{Clock, Message, Reading, Timestamp};
use tidegate_store::Seq;

use crate::wire::Malformed;

/// Stamps of before and after a step of the clock are told apart with this tolerance, in microseconds.
const TOLERANCE: i64 = 1_000_000;
/// The length of an encoded era.
const BYTES: usize = 1 + 5 * 8;

/// What is known of the stamps of an era.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet: its records are not to be decided.
    Open,
    /// They stay as they are.
    Unknown,
    /// They stood wrong.
    Corrected {
        /// By so many microseconds; what is to be added.
        micros: i64,
        /// When the clock became trusted, by its right time.
        at: Timestamp,
    },
}

/// One stretch of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Era {
    /// The first record that may be of it.
    pub from: Seq,
    /// The last one; none yet while the clock is not trusted.
    pub to: Option<Seq>,
    /// Where the wall clock stood at its beginning.
    pub began: Timestamp,
    /// What is known of its stamps.
    pub verdict: Verdict,
}

impl Era {
    /// Returns whether a record came in during it.
    pub fn has(&self, seq: Seq) -> bool {
        self.from <= seq && self.to.is_none_or(|to| seq <= to)
    }

    /// Writes it down.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, micros, at) = match self.verdict {
            Verdict::Open => (0, 0, 0),
            Verdict::Unknown => (1, 0, 0),
            Verdict::Corrected { micros, at } => (2, micros, at.as_unix_micros()),
        };
        let mut bytes = vec![kind];
        bytes.extend(self.from.get().to_be_bytes());
        bytes.extend(self.to.map_or(u64::MAX, Seq::get).to_be_bytes());
        bytes.extend(self.began.as_unix_micros().to_be_bytes());
        bytes.extend(micros.to_be_bytes());
        bytes.extend(at.to_be_bytes());
        bytes
    }

    /// Reads what was written down.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let bytes: &[u8; BYTES] = bytes.try_into().map_err(|_| Malformed)?;
        let (words, _) = bytes[1..].as_chunks::<8>();
        let number = |index: usize| i64::from_be_bytes(words[index]);
        let seq = |index: usize| u64::from_be_bytes(words[index]);
        Ok(Self {
            from: Seq::new(seq(0)),
            to: Some(seq(1)).filter(|to| *to != u64::MAX).map(Seq::new),
            began: Timestamp::from_unix_micros(number(2)),
            verdict: match bytes[0] {
                0 => Verdict::Open,
                1 => Verdict::Unknown,
                2 => Verdict::Corrected {
                    micros: number(3),
                    at: Timestamp::from_unix_micros(number(4)),
                },
                _ => return Err(Malformed),
            },
        })
    }

    /// Returns what is to be done with the stamps of its records; `None` if that is not known yet.
    pub fn stamp(&self) -> Option<Stamp> {
        match self.verdict {
            Verdict::Open => None,
            Verdict::Unknown => Some(Stamp::Unknown),
            Verdict::Corrected { micros, at } => {
                Some(Stamp::Corrected { micros, began: self.began, at })
            }
        }
    }
}

/// What is to be done with the stamps of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stamp {
    /// Nothing: the clock was trusted.
    #[default]
    Trusted,
    /// They are marked.
    Unknown,
    /// They are corrected, if they are of before the step.
    Corrected {
        /// By so many microseconds; what is to be added.
        micros: i64,
        /// Where the clock stood at first.
        began: Timestamp,
        /// Where it stood after the step.
        at: Timestamp,
    },
}

impl Stamp {
    /// Corrects the arrival of a message.
    pub(crate) fn correct_message(self, message: &mut Message) {
        message.arrival = self.corrected(message.arrival);
    }

    /// Corrects a reading, or marks it. A time that the source gave is the source's.
    pub(crate) fn correct(self, reading: Cow<'_, Reading>) -> Cow<'_, Reading> {
        if self == Self::Trusted {
            return reading;
        }
        let mut reading = reading.into_owned();
        match self {
            Self::Unknown => reading.clock = Clock::Untrusted,
            _ => {
                reading.arrival = self.corrected(reading.arrival);
                reading.until = reading.until.map(|until| self.corrected(until));
                reading.clock = Clock::Trusted;
            }
        }
        Cow::Owned(reading)
    }

    fn corrected(self, stamp: Timestamp) -> Timestamp {
        let Self::Corrected { micros, began, at } = self else { return stamp };
        let corrected = stamp.as_unix_micros().saturating_add(micros);
        // A stamp that would lie in the future then, or before the beginning, was made after the step.
        let is_of_before = if micros >= 0 {
            corrected <= at.as_unix_micros().saturating_add(TOLERANCE)
        } else {
            stamp.as_unix_micros() >= began.as_unix_micros().saturating_sub(TOLERANCE)
        };
        if is_of_before { Timestamp::from_unix_micros(corrected) } else { stamp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_micros(seconds * SECOND)
    }

    #[test]
    fn eras_come_back_as_they_were_written() {
        for verdict in [
            Verdict::Open,
            Verdict::Unknown,
            Verdict::Corrected { micros: -7 * SECOND, at: at(100) },
        ] {
            for to in [None, Some(Seq::new(9))] {
                let era = Era { from: Seq::new(3), to, began: at(50), verdict };
                assert_eq!(Era::decode(&era.encode()), Ok(era));
                assert!(era.has(Seq::new(3)) && !era.has(Seq::new(2)));
                assert_eq!(era.has(Seq::new(10)), to.is_none());
            }
        }
        assert!(Era::decode(&[3; BYTES]).is_err() && Era::decode(&[]).is_err());
    }

    /// A6: what was stamped before the step is moved, what was stamped behind it is not.
    #[test]
    fn only_stamps_of_before_the_step_are_moved() {
        // The clock stood an hour behind from 1,000 on, and was set right after 20 s.
        let behind = Stamp::Corrected { micros: 3_600 * SECOND, began: at(1_000), at: at(4_620) };
        #[rustfmt::skip]
        let cases = [
            (behind, 1_000, 4_600),
            (behind, 1_020, 4_620),
            (behind, 4_620, 4_620),
            (behind, 4_625, 4_625),
        ];
        for (stamp, was, is) in cases {
            assert_eq!(stamp.corrected(at(was)), at(is), "{was}");
        }
        // It stood an hour ahead.
        let ahead = Stamp::Corrected { micros: -3_600 * SECOND, began: at(5_000), at: at(1_420) };
        for (was, is) in [(5_000, 1_400), (5_020, 1_420), (1_421, 1_421)] {
            assert_eq!(ahead.corrected(at(was)), at(is), "{was}");
        }
        assert_eq!(Stamp::Unknown.corrected(at(5)), at(5));
    }
}
