//! The deadband of a value whose server refused to keep one (OPC 10000-4, section 7.22.2).

use tidegate_model::{Status, Value};

/// Passes a value on only if it differs enough from the last one that was passed on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deadband {
    width: f64,
    last: Option<(Value, Status)>,
}

impl Deadband {
    /// Makes a deadband of `width`, in the unit of the value.
    pub(crate) fn new(width: f64) -> Self {
        Self { width, last: None }
    }

    /// Returns whether the value is to be passed on, and if so takes it as the last one.
    ///
    /// A change of status always passes, and so does what is not a number. Of arrays of the same length any
    /// element decides.
    pub(crate) fn passes(&mut self, value: &Value, status: Status) -> bool {
        let passes = match &self.last {
            Some((last, last_status)) if *last_status == status => differs(last, value, self.width),
            _ => true,
        };
        if passes {
            self.last = Some((value.clone(), status));
        }
        passes
    }
}

fn differs(last: &Value, next: &Value, width: f64) -> bool {
    if let (Value::Array(last), Value::Array(next)) = (last, next) {
        return last.len() != next.len()
            || last.iter().zip(next.iter()).any(|(last, next)| differs(last, next, width));
    }
    match (last.as_f64(), next.as_f64()) {
        // Not-a-number and the infinities differ from everything but themselves.
        (Some(last), Some(next)) if last.is_finite() && next.is_finite() => {
            (next - last).abs() > width
        }
        (Some(_), Some(_)) => last != next,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: Status = Status::from_code(0x4090_0000);

    #[test]
    fn only_enough_change_passes() {
        let mut deadband = Deadband::new(0.5);
        #[rustfmt::skip]
        let steps = [
            (Value::Double(20.0),           Status::GOOD,   true),
            (Value::Double(20.5),           Status::GOOD,   false),
            (Value::Double(19.6),           Status::GOOD,   false),
            (Value::Double(20.51),          Status::GOOD,   true),
            (Value::Double(20.1),           Status::GOOD,   false),
            (Value::Double(20.1),           STALE,          true),
            (Value::Double(20.2),           STALE,          false),
            (Value::Double(20.2),           Status::GOOD,   true),
            (Value::Integer(21),            Status::GOOD,   true),
            (Value::Double(f64::NAN),       Status::GOOD,   true),
            (Value::Double(f64::NAN),       Status::GOOD,   false),
            (Value::Double(f64::INFINITY),  Status::GOOD,   true),
            (Value::Double(1.0),            Status::GOOD,   true),
            (Value::string("a"),            Status::GOOD,   true),
            (Value::string("a"),            Status::GOOD,   true),
            (Value::Null,                   Status::BAD,    true),
        ];
        for (number, (value, status, expected)) in steps.into_iter().enumerate() {
            assert_eq!(
                deadband.passes(&value, status),
                expected,
                "step {number}: {value} {status}"
            );
        }
    }

    #[test]
    fn a_slow_drift_passes_in_the_end() {
        let mut deadband = Deadband::new(1.0);
        let passed = (0..100)
            .filter(|step| deadband.passes(&Value::Double(f64::from(*step) * 0.1), Status::GOOD))
            .count();
        assert!((9..=10).contains(&passed), "{passed}");
    }

    #[test]
    fn any_element_of_an_array_decides() {
        let array =
            |numbers: &[f64]| Value::Array(numbers.iter().map(|n| Value::Double(*n)).collect());
        let mut deadband = Deadband::new(0.5);
        assert!(deadband.passes(&array(&[1.0, 2.0]), Status::GOOD));
        assert!(!deadband.passes(&array(&[1.1, 2.1]), Status::GOOD));
        assert!(deadband.passes(&array(&[1.0, 2.6]), Status::GOOD));
        assert!(deadband.passes(&array(&[1.0, 2.6, 3.0]), Status::GOOD));
    }
}
