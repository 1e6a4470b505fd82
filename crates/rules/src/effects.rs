//! What rules say of a reading, and what else comes of it.

use tidegate_model::{Reading, Topic};

/// What the rules say of one reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out as it came.
    Pass,
    /// It goes out like this.
    Changed(Box<Reading>),
    /// It stays; the number is that of the [name](crate::Rules::names) under which it counts.
    Filtered(usize),
    /// It waits in a rule; the number is that of the name under which it will count.
    Held(usize),
}

/// A reading that a rule made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The name under which it counts.
    pub name: usize,
    /// Its topic.
    pub topic: Topic,
    /// The reading.
    pub reading: Reading,
}

/// What came of a call beside the verdict. What was made goes out before the reading itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// What rules made, in order.
    pub made: Vec<Made>,
    /// What rules made and later ones took out: both names, and how often.
    pub made_in_vain: Vec<(usize, usize)>,
    /// How many readings that waited under a name need not wait any longer.
    pub released: Vec<(usize, u64)>,
}

impl Effects {
    /// Returns whether nothing came of it.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty() && self.made_in_vain.is_empty() && self.released.is_empty()
    }

    pub(crate) fn release(&mut self, name: usize, readings: u64) {
        if readings > 0 {
            self.released.push((name, readings));
        }
    }
}
