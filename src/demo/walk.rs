//! Values that look like a machine's.

/// Walks at random between two limits, in hundredths; two values in a row always differ.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    hundredths: i64,
    low: i64,
    high: i64,
    state: u64,
}

/// The longest step, in hundredths.
const STEP_MAX: i64 = 25;

impl Walk {
    /// Starts in the middle between `low` and `high`, which are whole units and at least one apart.
    pub(super) fn new(low: i64, high: i64, seed: u64) -> Self {
        assert!(low < high, "a walk needs room");
        let (low, high) = (low * 100, high * 100);
        Self { hundredths: low.midpoint(high), low, high, state: seed | 1 }
    }

    /// Goes one step and returns where it leads, in hundredths.
    pub(super) fn step(&mut self) -> i64 {
        let length = 1 + i64::from(self.random() % STEP_MAX.unsigned_abs() as u32);
        let up = self.random().is_multiple_of(2);
        let next = if up { self.hundredths + length } else { self.hundredths - length };
        self.hundredths = match next {
            // There is room for a step of any length on the other side.
            next if next > self.high => self.hundredths - length,
            next if next < self.low => self.hundredths + length,
            next => next,
        };
        self.hundredths
    }

    /// A linear congruential generator (Knuth's MMIX); its upper bits are random enough for a picture.
    fn random(&mut self) -> u32 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.state >> 33).expect("31 bits")
    }
}

/// Writes hundredths as a number with two decimals.
pub(super) fn decimal(hundredths: i64) -> String {
    let sign = if hundredths < 0 { "-" } else { "" };
    let hundredths = hundredths.unsigned_abs();
    format!("{sign}{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_stays_inside_and_always_moves() {
        for seed in 0..20 {
            let mut walk = Walk::new(20, 21, seed);
            let mut last = walk.hundredths;
            for _ in 0..1_000 {
                let next = walk.step();
                assert!(
                    (2_000..=2_100).contains(&next) && next != last,
                    "seed {seed}: {last} to {next}"
                );
                last = next;
            }
        }
    }

    #[test]
    fn hundredths_have_two_decimals() {
        for (hundredths, text) in [(2_150, "21.50"), (5, "0.05"), (-1_203, "-12.03"), (0, "0.00")] {
            assert_eq!(decimal(hundredths), text);
        }
    }
}
