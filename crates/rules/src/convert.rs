//! Changing values: scale and offset, unit, digits.

use tidegate_model::{Reading, Unit, Value};

/// Changes numbers; readings of other types pass unchanged. Stateless.
///
/// First `value * scale + offset`, then rounding. A result that is not finite where the number was
/// leaves the reading as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversion {
    /// The unit that readings must have for the rule to apply; any, or none, if not set.
    pub from: Option<Unit>,
    /// The unit of the result; that of the reading if not set.
    pub to: Option<Unit>,
    /// Factor and summand, if the value is changed.
    pub linear: Option<Linear>,
    /// How the result is rounded.
    pub rounding: Option<Rounding>,
}

/// `value * scale + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// The factor.
    pub scale: f64,
    /// What is added after it.
    pub offset: f64,
}

/// To what numbers are rounded. Complete.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rounding {
    /// So many digits behind the point, halves away from zero; integers stay.
    Digits(u8),
    /// The nearest multiple of a positive step, halves away from zero; an integer stays one if the step is whole.
    Step(f64),
}

impl Conversion {
    /// Returns the changed reading, if it is changed.
    pub(crate) fn apply(&self, reading: &Reading) -> Option<Reading> {
        if self.from.is_some() && reading.unit != self.from {
            return None;
        }
        let number = reading.value.as_f64().filter(|number| number.is_finite())?;
        let mut value = match self.linear {
            Some(Linear { scale, offset }) => Value::Double(number.mul_add(scale, offset)),
            None => reading.value.clone(),
        };
        if let Some(rounding) = self.rounding {
            value = rounding.apply(value);
        }
        let unit = self.to.clone().or_else(|| reading.unit.clone());
        let is_sound = !value.is_not_finite();
        let differs = value != reading.value || unit != reading.unit;
        (is_sound && differs).then(|| Reading { value, unit, ..reading.clone() })
    }
}

impl Rounding {
    fn apply(self, value: Value) -> Value {
        match (self, &value) {
            (Self::Digits(_), Value::Integer(_) | Value::Unsigned(_)) => value,
            #[expect(clippy::cast_possible_truncation, reason = "a float stays a float")]
            (_, Value::Float(number)) => Value::Float(self.round(f64::from(*number)) as f32),
            (Self::Step(step), Value::Integer(number)) if step.fract() == 0.0 => {
                let rounded = round_integer((*number).into(), step);
                rounded.map_or_else(|| value.clone(), Value::Integer)
            }
            _ => value.as_f64().map_or_else(|| value.clone(), |it| Value::Double(self.round(it))),
        }
    }

    fn round(self, number: f64) -> f64 {
        match self {
            // The shortest decimal that is nearest: multiplying and dividing would add digits of its own.
            Self::Digits(digits) => {
                let scale = 10_f64.powi(digits.into());
                let scaled = number * scale;
                // Above 2^52 there are no fractions left.
                let is_whole = scaled.abs() >= 4_503_599_627_370_496.0;
                if is_whole { number } else { scaled.round() / scale }
            }
            // Without the noise of binary fractions: 0.9 rather than 0.8999999999999999.
            Self::Step(step) => Self::Digits(12).round((number / step).round() * step),
        }
    }
}

/// Returns the multiple of a whole step nearest to a number, if it fits.
fn round_integer(number: i128, step: f64) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole, and a larger one does not fit below"
    )]
    let step = step as i128;
    if step == 0 {
        return None;
    }
    let half = step / 2;
    let away = if number < 0 { number.checked_sub(half)? } else { number.checked_add(half)? };
    i64::try_from(away / step * step).ok()
}

/// Pairs of units that are known: from, to, factor, summand. The way back is reckoned.
const PAIRS: [(&str, &str, f64, f64); 27] = [
    ("degF", "Cel", 5.0 / 9.0, -160.0 / 9.0),
    ("K", "Cel", 1.0, -273.15),
    ("K", "degF", 1.8, -459.67),
    ("bar", "Pa", 100_000.0, 0.0),
    ("bar", "kPa", 100.0, 0.0),
    ("bar", "hPa", 1_000.0, 0.0),
    ("mbar", "Pa", 100.0, 0.0),
    ("mbar", "bar", 0.001, 0.0),
    ("hPa", "Pa", 100.0, 0.0),
    ("kPa", "Pa", 1_000.0, 0.0),
    ("MPa", "bar", 10.0, 0.0),
    ("psi", "bar", 0.068_947_572_931_683_6, 0.0),
    ("psi", "kPa", 6.894_757_293_168_361, 0.0),
    ("kW", "W", 1_000.0, 0.0),
    ("MW", "kW", 1_000.0, 0.0),
    ("kWh", "Wh", 1_000.0, 0.0),
    ("kWh", "MJ", 3.6, 0.0),
    ("mA", "A", 0.001, 0.0),
    ("mV", "V", 0.001, 0.0),
    ("km", "m", 1_000.0, 0.0),
    ("mm", "m", 0.001, 0.0),
    ("in", "mm", 25.4, 0.0),
    ("g", "kg", 0.001, 0.0),
    ("t", "kg", 1_000.0, 0.0),
    ("km/h", "m/s", 1.0 / 3.6, 0.0),
    ("l/min", "m3/h", 0.06, 0.0),
    ("l", "m3", 0.001, 0.0),
];

/// Returns how numbers of one unit become numbers of another, if the pair is known.
pub fn between(from: &str, to: &str) -> Option<Linear> {
    let straight = PAIRS.iter().find(|(one, other, ..)| (*one, *other) == (from, to));
    if let Some(&(_, _, scale, offset)) = straight {
        return Some(Linear { scale, offset });
    }
    let &(_, _, scale, offset) =
        PAIRS.iter().find(|(one, other, ..)| (*one, *other) == (to, from))?;
    Some(Linear { scale: scale.recip(), offset: -offset / scale })
}

/// Returns the units that are known, each once, in order.
pub fn known_units() -> Vec<&'static str> {
    let mut units: Vec<&str> = PAIRS.iter().flat_map(|(from, to, ..)| [*from, *to]).collect();
    units.sort_unstable();
    units.dedup();
    units
}
