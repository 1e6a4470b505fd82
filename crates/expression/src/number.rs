//! Arithmetic that keeps 64-bit integers exact.

use std::cmp::Ordering;

use tidegate_model::Value;

/// A number with the representation that its source gave it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Integer(i64),
    /// Above the signed range.
    Unsigned(u64),
    /// Kept apart so that a value which passes unchanged prints with its own digits.
    Single(f32),
    Double(f64),
}

/// An integer result does not fit into 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overflow;

impl Number {
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(number) => Some(Self::Integer(*number)),
            Value::Unsigned(number) => Some(Self::Unsigned(*number)),
            Value::Float(number) => Some(Self::Single(*number)),
            Value::Double(number) => Some(Self::Double(*number)),
            _ => None,
        }
    }

    pub(super) fn into_value(self) -> Value {
        match self {
            Self::Integer(number) => Value::Integer(number),
            Self::Unsigned(number) => Value::unsigned(number),
            Self::Single(number) => Value::Float(number),
            Self::Double(number) => Value::Double(number),
        }
    }

    /// Returns the integer if this is one.
    pub(super) fn as_integer(self) -> Option<i128> {
        match self {
            Self::Integer(number) => Some(number.into()),
            Self::Unsigned(number) => Some(number.into()),
            Self::Single(_) | Self::Double(_) => None,
        }
    }

    /// Returns the nearest double.
    #[expect(clippy::cast_precision_loss, reason = "documented: large integers lose digits")]
    pub(super) fn as_f64(self) -> f64 {
        match self {
            Self::Integer(number) => number as f64,
            Self::Unsigned(number) => number as f64,
            Self::Single(number) => number.into(),
            Self::Double(number) => number,
        }
    }

    /// Returns whether this is a double or float that is not-a-number.
    pub(super) fn is_nan(self) -> bool {
        self.as_f64().is_nan()
    }

    /// Returns whether this is zero of any kind.
    pub(super) fn is_zero(self) -> bool {
        self.as_f64() == 0.0
    }

    pub(super) fn add(self, other: Self) -> Result<Self, Overflow> {
        self.combine(other, i64::checked_add, i128::checked_add, |ours, theirs| ours + theirs)
    }

    pub(super) fn subtract(self, other: Self) -> Result<Self, Overflow> {
        self.combine(other, i64::checked_sub, i128::checked_sub, |ours, theirs| ours - theirs)
    }

    pub(super) fn multiply(self, other: Self) -> Result<Self, Overflow> {
        self.combine(other, i64::checked_mul, i128::checked_mul, |ours, theirs| ours * theirs)
    }

    /// Returns the quotient, always a double.
    pub(super) fn divide(self, other: Self) -> Self {
        Self::Double(self.as_f64() / other.as_f64())
    }

    /// Returns what is left after a division, with the sign of `self`; `None` for integers and zero.
    pub(super) fn remainder(self, other: Self) -> Option<Self> {
        match (self.as_integer(), other.as_integer()) {
            (Some(ours), Some(theirs)) => {
                let rest = ours.checked_rem(theirs)?;
                Some(Self::from_integer(rest).expect("a remainder is no larger than the dividend"))
            }
            _ => Some(Self::Double(self.as_f64() % other.as_f64())),
        }
    }

    pub(super) fn negate(self) -> Result<Self, Overflow> {
        match self {
            Self::Single(number) => Ok(Self::Single(-number)),
            Self::Double(number) => Ok(Self::Double(-number)),
            integer => Self::Integer(0).subtract(integer),
        }
    }

    pub(super) fn abs(self) -> Self {
        match self {
            Self::Single(number) => Self::Single(number.abs()),
            Self::Double(number) => Self::Double(number.abs()),
            Self::Integer(number) => match number.checked_abs() {
                Some(number) => Self::Integer(number),
                None => Self::Unsigned(number.unsigned_abs()),
            },
            unsigned @ Self::Unsigned(_) => unsigned,
        }
    }

    pub(super) fn floor(self) -> Self {
        self.map_fraction(f32::floor, f64::floor)
    }

    pub(super) fn ceil(self) -> Self {
        self.map_fraction(f32::ceil, f64::ceil)
    }

    /// Rounds to decimal digits, halves away from zero. Integers stay as they are.
    pub(super) fn round(self, digits: u8) -> Self {
        let round = |number: f64| {
            let factor = 10_f64.powi(i32::from(digits));
            let scaled = number * factor;
            if scaled.is_finite() { scaled.round() / factor } else { number }
        };
        match self {
            Self::Single(number) if digits == 0 => Self::Single(number.round()),
            Self::Single(number) => Self::Double(round(number.into())),
            Self::Double(number) => Self::Double(round(number)),
            integer => integer,
        }
    }

    /// Returns the nearest number from `low` to `high`.
    pub(super) fn clamp(self, low: Self, high: Self) -> Self {
        if self.compare(low) == Some(Ordering::Less) {
            low
        } else if self.compare(high) == Some(Ordering::Greater) {
            high
        } else {
            self
        }
    }

    /// Returns the double that lies in the range `to` where `self` lies in the range `from`.
    pub(super) fn scale(self, from: [Self; 2], to: [Self; 2]) -> Self {
        let [from_low, from_high] = from.map(Self::as_f64);
        let [to_low, to_high] = to.map(Self::as_f64);
        let share = (self.as_f64() - from_low) / (from_high - from_low);
        Self::Double(to_low + share * (to_high - to_low))
    }

    /// Compares by numeric value, exactly; `None` if either is not-a-number.
    pub(super) fn compare(self, other: Self) -> Option<Ordering> {
        match (self.as_integer(), other.as_integer()) {
            (Some(ours), Some(theirs)) => Some(ours.cmp(&theirs)),
            (Some(ours), None) => compare_integer(ours, other.as_f64()),
            (None, Some(theirs)) => compare_integer(theirs, self.as_f64()).map(Ordering::reverse),
            (None, None) => self.as_f64().partial_cmp(&other.as_f64()),
        }
    }

    /// Returns the number of a 64-bit integer type that holds `integer`.
    pub(super) fn from_integer(integer: i128) -> Result<Self, Overflow> {
        if let Ok(number) = i64::try_from(integer) {
            return Ok(Self::Integer(number));
        }
        u64::try_from(integer).map(Self::Unsigned).map_err(|_| Overflow)
    }

    #[inline]
    fn combine(
        self,
        other: Self,
        narrow: fn(i64, i64) -> Option<i64>,
        wide: fn(i128, i128) -> Option<i128>,
        double: fn(f64, f64) -> f64,
    ) -> Result<Self, Overflow> {
        if let (Self::Integer(ours), Self::Integer(theirs)) = (self, other)
            && let Some(number) = narrow(ours, theirs)
        {
            return Ok(Self::Integer(number));
        }
        match (self.as_integer(), other.as_integer()) {
            (Some(ours), Some(theirs)) => {
                wide(ours, theirs).ok_or(Overflow).and_then(Self::from_integer)
            }
            _ => Ok(Self::Double(double(self.as_f64(), other.as_f64()))),
        }
    }

    fn map_fraction(self, single: fn(f32) -> f32, double: fn(f64) -> f64) -> Self {
        match self {
            Self::Single(number) => Self::Single(single(number)),
            Self::Double(number) => Self::Double(double(number)),
            integer => integer,
        }
    }
}

/// Compares without rounding the integer to a double.
fn compare_integer(integer: i128, double: f64) -> Option<Ordering> {
    const LIMIT: f64 = 18_446_744_073_709_551_616.0;
    if double.is_nan() {
        return None;
    }
    if double >= LIMIT {
        return Some(Ordering::Less);
    }
    if double <= -LIMIT {
        return Some(Ordering::Greater);
    }
    #[expect(clippy::cast_possible_truncation, reason = "within the limits, and fractions follow")]
    let whole = double.trunc() as i128;
    let fraction = double - double.trunc();
    let by_fraction = 0.0_f64.partial_cmp(&fraction).expect("a finite number has a fraction");
    Some(integer.cmp(&whole).then(by_fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_doubles_compare_exactly() {
        #[rustfmt::skip]
        let cases = [
            (Number::Integer(9_007_199_254_740_993), Number::Double(9_007_199_254_740_992.0), Some(Ordering::Greater)),
            (Number::Integer(1),            Number::Double(1.0),            Some(Ordering::Equal)),
            (Number::Integer(1),            Number::Double(1.5),            Some(Ordering::Less)),
            (Number::Integer(-1),           Number::Double(-1.5),           Some(Ordering::Greater)),
            (Number::Double(-1.5),          Number::Integer(-1),            Some(Ordering::Less)),
            (Number::Unsigned(u64::MAX),    Number::Double(1e300),          Some(Ordering::Less)),
            (Number::Unsigned(u64::MAX),    Number::Integer(-1),            Some(Ordering::Greater)),
            (Number::Integer(i64::MIN),     Number::Double(f64::NEG_INFINITY), Some(Ordering::Greater)),
            (Number::Integer(1),            Number::Double(f64::NAN),       None),
        ];
        for (ours, theirs, expected) in cases {
            assert_eq!(ours.compare(theirs), expected, "{ours:?} and {theirs:?}");
        }
    }

    #[test]
    fn integers_stay_exact_beyond_the_signed_range() {
        let sum = Number::Integer(i64::MAX).add(Number::Integer(1)).unwrap();
        assert_eq!(sum.into_value(), Value::Unsigned(1 << 63));
        assert_eq!(
            Number::Unsigned(u64::MAX).subtract(Number::Integer(1)).unwrap().into_value(),
            Value::Unsigned(u64::MAX - 1)
        );
        assert!(Number::Unsigned(u64::MAX).add(Number::Integer(1)).is_err());
        assert!(Number::Unsigned(u64::MAX).multiply(Number::Unsigned(u64::MAX)).is_err());
        assert!(Number::Unsigned(u64::MAX).negate().is_err());
        assert_eq!(Number::Integer(i64::MIN).abs().into_value(), Value::Unsigned(1 << 63));
        assert!(Number::Integer(1).remainder(Number::Integer(0)).is_none());
        assert_eq!(
            Number::Integer(i64::MIN).remainder(Number::Integer(-1)).unwrap().into_value(),
            Value::Integer(0)
        );
    }
}
