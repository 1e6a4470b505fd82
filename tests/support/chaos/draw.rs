//! Numbers that follow from a seed.

/// A generator (SplitMix64): small, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    /// Begins a sequence; each `place` has one of its own, so that one more draw in one changes no other.
    pub(crate) fn new(seed: u64, place: u64) -> Self {
        let mut draw = Self(seed ^ place.wrapping_mul(0xd1b5_4a32_d192_ed03));
        draw.next();
        draw
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from `low` to below `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    /// Returns one of several.
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let at = self.next() % choices.len() as u64;
        choices[usize::try_from(at).expect("below the length of a slice")]
    }

    /// Puts `items` in another order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.between(0, last as u64 + 1);
            items.swap(last, usize::try_from(other).expect("below the length of a slice"));
        }
    }
}
