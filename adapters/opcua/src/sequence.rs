//! The numbers of the messages of one subscription (OPC 10000-4, section 5.14.1.1).

/// Messages that are asked for again one by one; of a longer gap the older part is given up.
const REPUBLISH_MAX: u32 = 64;

/// Tracks which message comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    expected: u32,
}

/// What a number means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The next one.
    Next,
    /// Seen before.
    Repeated,
    /// Messages before it are missing.
    Gap {
        /// How many of the oldest are too many to ask for.
        given_up: u32,
        /// The numbers to ask for, oldest first.
        missing: Vec<u32>,
    },
}

impl Sequence {
    /// Begins with a new subscription.
    pub(crate) fn new() -> Self {
        Self { expected: 1 }
    }

    /// Returns the number of the next message.
    pub(crate) fn expected(&self) -> u32 {
        self.expected
    }

    /// Says what the number of a message means; changes nothing.
    ///
    /// A keep-alive has the number of the next message with content and does not use it up.
    pub(crate) fn classify(&self, number: u32) -> Arrival {
        match distance(self.expected, number) {
            0 => Arrival::Next,
            ahead if ahead > i64::from(u32::MAX / 2) => Arrival::Repeated,
            ahead => {
                let ahead = u32::try_from(ahead).expect("a distance between numbers fits");
                let given_up = ahead.saturating_sub(REPUBLISH_MAX);
                let missing = (given_up..ahead).map(|step| advance(self.expected, step)).collect();
                Arrival::Gap { given_up, missing }
            }
        }
    }

    /// Goes on with `number`: what was missing before it was asked for.
    pub(crate) fn skip_to(&mut self, number: u32) {
        self.expected = number;
    }

    /// Goes on behind `number`.
    pub(crate) fn pass(&mut self, number: u32) {
        self.expected = advance(number, 1);
    }
}

/// Numbers run from 1 to 4 294 967 295 and then begin with 1 again; 0 is never used.
const PERIOD: i64 = u32::MAX as i64;

fn advance(number: u32, steps: u32) -> u32 {
    let zero_based = (i64::from(number) - 1 + i64::from(steps)).rem_euclid(PERIOD);
    u32::try_from(zero_based + 1).expect("a remainder is below the period")
}

fn distance(from: u32, to: u32) -> i64 {
    (i64::from(to) - i64::from(from)).rem_euclid(PERIOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_o06_numbers_are_sorted_into_next_repeated_and_gap() {
        let mut sequence = Sequence::new();
        assert_eq!(sequence.classify(1), Arrival::Next);
        sequence.pass(1);
        assert_eq!(sequence.classify(1), Arrival::Repeated);
        assert_eq!(sequence.classify(2), Arrival::Next);
        assert_eq!(sequence.classify(5), Arrival::Gap { given_up: 0, missing: vec![2, 3, 4] });
        assert_eq!(sequence.classify(2), Arrival::Next);
        assert_eq!(sequence.classify(3), Arrival::Gap { given_up: 0, missing: vec![2] });
    }

    #[test]
    fn after_the_largest_number_comes_one() {
        let mut sequence = Sequence { expected: u32::MAX };
        assert_eq!(sequence.classify(1), Arrival::Gap { given_up: 0, missing: vec![u32::MAX] });
        assert_eq!(sequence.classify(u32::MAX - 1), Arrival::Repeated);
        sequence.pass(u32::MAX);
        assert_eq!(sequence.expected(), 1);
        assert_eq!(sequence.classify(u32::MAX), Arrival::Repeated);
    }

    #[test]
    fn a_long_gap_is_asked_for_in_part() {
        let sequence = Sequence { expected: 10 };
        let Arrival::Gap { given_up, missing } = sequence.classify(1_000_010) else {
            panic!("a gap")
        };
        assert_eq!(given_up + REPUBLISH_MAX, 1_000_000);
        assert_eq!(missing.len(), REPUBLISH_MAX as usize);
        assert_eq!(missing.last(), Some(&1_000_009));
    }
}
