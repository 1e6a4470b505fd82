//! What a text reveals before any reading: types that cannot fit, constants that cannot be meant.

use std::cmp::Ordering;
use std::ops::Range;

use tidegate_model::{Captures, Status, Timestamp, Value};
use tidegate_settings::nearest;

use super::code::{Code, Constant};
use super::evaluate::evaluate;
use super::function::Function;
use super::number::Number;
use super::operator::Comparison;
use super::parser::{Parsed, Parser, Part, too_deep};
use super::types::Types;
use super::{DEPTH_MAX, Inputs};

/// What `quality` can be.
const QUALITIES: [&str; 3] = ["good", "uncertain", "bad"];

impl Parser<'_> {
    /// Checks what only constants can tell.
    pub(super) fn check_arguments(&mut self, function: Function, arguments: &[Part]) {
        let integer = |part: &Part| part.code.constant_number().and_then(Number::as_integer);
        let constant = |index: usize| arguments[index].code.constant_number();
        match function {
            Function::Round
                if arguments.len() == 2
                    && !integer(&arguments[1]).is_some_and(|it| (0..=15).contains(&it)) =>
            {
                let message = "the number of digits must be written out";
                self.fault(arguments[1].range.clone(), message, "write a number from 0 to 15");
            }
            Function::Bit if integer(&arguments[1]).is_some_and(|it| !(0..=63).contains(&it)) => {
                let message = "bits are counted from 0, the lowest, to 63";
                self.fault(arguments[1].range.clone(), message, "write a number from 0 to 63");
            }
            Function::Clamp => {
                if let (Some(low), Some(high)) = (constant(1), constant(2))
                    && low.compare(high) == Some(Ordering::Greater)
                {
                    let range = arguments[1].range.start..arguments[2].range.end;
                    let message = "the lower limit is above the upper one";
                    self.fault(range, message, "write the lower limit first");
                }
            }
            Function::Scale => {
                if let (Some(low), Some(high)) = (constant(1), constant(2))
                    && low.compare(high) == Some(Ordering::Equal)
                {
                    let range = arguments[1].range.start..arguments[2].range.end;
                    let message = "the input range is empty: this divides by zero";
                    self.fault(range, message, "write two different limits");
                }
            }
            Function::Lookup => {
                if matches!(arguments[0].code, Code::Constant(_)) {
                    let message = "what is looked up is always the same";
                    let hint = "look up something of the reading, such as `value`";
                    self.fault(arguments[0].range.clone(), message, hint);
                }
                for pair in arguments[1..].chunks_exact(2) {
                    self.check_comparison(Comparison::Equal, &arguments[0], &pair[0]);
                }
            }
            Function::Default if !arguments[0].types.intersects(Types::NULL) => {
                let message = "this always has a value";
                let hint = "write it alone; `default` is for members that may be missing";
                self.fault(arguments[0].range.clone(), message, hint);
            }
            _ => {}
        }
    }

    pub(super) fn check_comparison(&mut self, operator: Comparison, left: &Part, right: &Part) {
        let (ours, theirs) = (left.types.numbers_as_one(), right.types.numbers_as_one());
        let range = left.range.start.min(right.range.start)..left.range.end.max(right.range.end);
        let fits = if operator.is_equality() {
            ours.intersects(theirs)
        } else {
            [Types::NUMBER, Types::STRING]
                .iter()
                .any(|types| ours.intersects(*types) && theirs.intersects(*types))
        };
        if !fits {
            let message =
                format!("{} cannot compare {} with {}", operator.sign(), left.types, right.types);
            let mixed = |one: Types, other: Types| {
                one.without(Types::NULL) == Types::STRING && other.intersects(Types::NUMBER)
            };
            let mixed = mixed(ours, theirs) || mixed(theirs, ours);
            let hint = match (operator.is_equality(), mixed) {
                (_, true) => "number(x) reads a number from a string; strings stand in quotes",
                (true, false) => "compare two of a kind",
                (false, false) => "only numbers and strings have an order",
            };
            self.fault(range, message, hint);
            return;
        }
        let word = match (&left.code, &right.code) {
            (Code::Quality, _) => right.code.constant_text().map(|word| (word, &right.range)),
            (_, Code::Quality) => left.code.constant_text().map(|word| (word, &left.range)),
            _ => None,
        };
        if let Some((word, at)) = word
            && !QUALITIES.contains(&word)
        {
            let hint = match nearest(word, QUALITIES) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "write \"good\", \"uncertain\" or \"bad\"".to_owned(),
            };
            self.fault(at.clone(), format!("`quality` is never \"{word}\""), hint);
        }
    }

    /// Notes a fault if `part` can never be what is wanted.
    pub(super) fn want(&mut self, part: &Part, wanted: Types, operation: &str, expected: &str) {
        if part.types.intersects(wanted) {
            return;
        }
        let message = format!("{operation} needs {expected}, found {}", part.types);
        let hint = if wanted == Types::BOOLEAN {
            "compare it with something, such as `value > 0`"
        } else if part.types.intersects(Types::STRING) {
            "number(x) reads a number from a string"
        } else if part.types == Types::NULL {
            "null is no value"
        } else if wanted == Types::INTEGER {
            "bits are those of a whole number"
        } else {
            "use a number here"
        };
        self.fault(part.range.clone(), message, hint);
    }

    /// Makes a node, or the constant that it is.
    pub(super) fn node(
        &mut self,
        code: Code,
        types: Types,
        range: Range<usize>,
        below: usize,
    ) -> Parsed {
        let depth = below + 1;
        if depth > DEPTH_MAX {
            return Err(too_deep(range));
        }
        if !self.faults.is_empty() || !code.has_constant_parts() {
            return Ok(Part { code, types, range, depth });
        }
        let nothing = Inputs {
            value: &Value::Null,
            time: Timestamp::from_unix_micros(0),
            status: Status::GOOD,
            captures: &Captures::none(),
            unit: None,
            topic: None,
        };
        let constant = match evaluate(&code, &nothing) {
            Ok(datum) => Constant::from_datum(datum),
            Err(error) => {
                self.fault(range.clone(), error.to_string(), "write the result");
                None
            }
        };
        match constant {
            Some(Constant::Number(number)) if !number.as_f64().is_finite() => {
                self.fault(
                    range.clone(),
                    "the result is not a finite number",
                    "check the operands",
                );
                Ok(Part { code, types, range, depth })
            }
            Some(constant) => Ok(Part { code: Code::Constant(constant), types, range, depth: 1 }),
            None => Ok(Part { code, types, range, depth }),
        }
    }
}
