//! Floating-point numbers as integers over a power of ten, where that returns each of them exactly.
//!
//! Sensors give few decimal places: 21.37 is 2137 over 10^2, and what the integers of a column differ by is a
//! byte or two. Whoever decodes divides two numbers that a double holds exactly, so that the result is the
//! one nearest to the quotient, everywhere the same.

/// The largest exponent that is tried: a double has at most 17 significant digits.
const EXPONENT_MAX: usize = 16;
/// Integers up to here are doubles: 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// The powers of ten that are doubles, as far as they are used for decoding.
pub(crate) const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Integers, each of which stands for itself over 10^`exponent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scaled {
    pub(super) exponent: i32,
    pub(super) integers: Vec<i64>,
}

impl Scaled {
    /// Scales doubles, if each returns exactly and the result is smaller than their eight bytes.
    pub(super) fn doubles(numbers: &[f64]) -> Option<Self> {
        let exact = |number: &f64, quotient: f64| quotient.to_bits() == number.to_bits();
        Self::new(numbers, |number| *number, exact, size_of::<f64>())
    }

    /// Scales floats in the same way; here the quotient is rounded to a float.
    pub(super) fn floats(numbers: &[f32]) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
        let exact = |number: &f32, quotient: f64| (quotient as f32).to_bits() == number.to_bits();
        Self::new(numbers, |number| f64::from(*number), exact, size_of::<f32>())
    }

    fn new<T>(
        numbers: &[T],
        wide: impl Fn(&T) -> f64,
        exact: impl Fn(&T, f64) -> bool,
        size: usize,
    ) -> Option<Self> {
        let scaled = |number: &T, exponent: usize| {
            let (integer, quotient) = scale(wide(number), exponent)?;
            exact(number, quotient).then_some(integer)
        };
        let mut exponent = 0;
        for number in numbers {
            while scaled(number, exponent).is_none() {
                exponent += 1;
                if exponent > EXPONENT_MAX {
                    return None;
                }
            }
        }
        // What is exact with some places is so with more, unless the integer becomes too large.
        let integers: Vec<i64> =
            numbers.iter().map(|number| scaled(number, exponent)).collect::<Option<_>>()?;
        let exponent = i32::try_from(exponent).expect("at most EXPONENT_MAX");
        (super::differences_size(&integers) < numbers.len() * size)
            .then_some(Self { exponent, integers })
    }
}

/// Returns the integer nearest to `number` times 10^`exponent`, and what it stands for.
#[inline]
fn scale(number: f64, exponent: usize) -> Option<(i64, f64)> {
    let large = number * POWERS[exponent];
    // Not-a-number and infinities are left out, too.
    if large.abs() < EXACT_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "below 2^53 nothing is lost")]
        let integer = (large + 0.5_f64.copysign(large)) as i64;
        #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
        let quotient = integer as f64 / POWERS[exponent];
        Some((integer, quotient))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_scaled_and_the_rest_is_left() {
        type Case<'a> = (&'a [f64], Option<(i32, &'a [i64])>);
        #[rustfmt::skip]
        let cases: [Case<'_>; 9] = [
            (&[21.5, 21.25, -3.0],          Some((2, &[2_150, 2_125, -300]))),
            (&[0.1, 0.2, 0.3],              Some((1, &[1, 2, 3]))),
            (&[0.1 + 0.2],                  None), // 0.30000000000000004
            (&[1e15, 1.0, 2.0],             Some((0, &[1_000_000_000_000_000, 1, 2]))),
            (&[1.0 / 3.0, 1.0],             None),
            (&[-0.0, 1.0],                  None),
            (&[f64::NAN],                   None),
            (&[1e300],                      None),
            (&[0.001, 1e13],                None), // 10^16 is no longer below 2^53
        ];
        for (numbers, expected) in cases {
            let expected = expected
                .map(|(exponent, integers)| Scaled { exponent, integers: integers.to_vec() });
            assert_eq!(Scaled::doubles(numbers), expected, "{numbers:?}");
        }
        let floats = Scaled { exponent: 1, integers: vec![211, 209] };
        assert_eq!(Scaled::floats(&[21.1, 20.9]), Some(floats));
        assert_eq!(Scaled::floats(&[f32::INFINITY]), None);
    }
}
