//! From code and a reading to a result.

use std::borrow::Cow;
use std::cmp::Ordering;

use tidegate_model::{Value, json};

use super::code::Code;
use super::datum::{Datum, operand_error};
use super::function::Function;
use super::number::{Number, Overflow};
use super::operator::{Arithmetic, Comparison};
use super::{EvaluationError, Inputs};

/// The error is boxed: it is rare, and every step passes a result on.
pub(super) type Evaluated<'a> = Result<Datum<'a>, Box<EvaluationError>>;

/// Evaluates a tree. Recursion is as deep as the tree, which the parser has bounded.
///
/// An operand without value gives a result without value, but for `==`, `!=`, `default`, `lookup` and where
/// `and` and `or` are decided by the other side.
pub(super) fn evaluate<'a>(code: &'a Code, inputs: &Inputs<'a>) -> Evaluated<'a> {
    match code {
        Code::Constant(constant) => Ok(constant.datum()),
        Code::Path(steps) => {
            let mut value = inputs.value;
            for step in steps {
                match step.enter(value) {
                    Some(inner) => value = inner,
                    None => return Ok(Datum::Null),
                }
            }
            Ok(Datum::of(value))
        }
        Code::Time => Ok(Datum::Number(Number::Integer(inputs.time.as_unix_millis()))),
        Code::Quality => Ok(Datum::Text(Cow::Borrowed(inputs.status.quality().as_str()))),
        Code::Status => Ok(Datum::Number(Number::Integer(inputs.status.code().into()))),
        Code::Unit => Ok(inputs.unit.map_or(Datum::Null, |unit| Datum::Text(unit.as_str().into()))),
        Code::Topic => {
            Ok(inputs.topic.map_or(Datum::Null, |topic| Datum::Text(topic.as_str().into())))
        }
        Code::Capture(index) => {
            Ok(inputs.captures.get(*index).map_or(Datum::Null, |text| Datum::Text(text.into())))
        }
        Code::Negate(operand) => match number(evaluate(operand, inputs)?, "`-`")? {
            Some(number) => number.negate().map(Datum::Number).map_err(|_| overflow("`-`")),
            None => Ok(Datum::Null),
        },
        Code::Not(operand) => Ok(match truth(evaluate(operand, inputs)?, "`not`")? {
            Some(truth) => Datum::Boolean(!truth),
            None => Datum::Null,
        }),
        Code::And(parts) => junction(parts, inputs, "`and`", false),
        Code::Or(parts) => junction(parts, inputs, "`or`", true),
        Code::Arithmetic(operator, parts) => {
            arithmetic(*operator, evaluate(&parts[0], inputs)?, evaluate(&parts[1], inputs)?)
        }
        Code::Comparison(operator, parts) => {
            compare(*operator, &evaluate(&parts[0], inputs)?, &evaluate(&parts[1], inputs)?)
        }
        Code::Condition(parts) => match truth(evaluate(&parts[0], inputs)?, "`if`")? {
            Some(true) => evaluate(&parts[1], inputs),
            Some(false) => evaluate(&parts[2], inputs),
            None => Ok(Datum::Null),
        },
        Code::Call(function, arguments) => call(*function, arguments, inputs),
    }
}

#[cold]
fn overflow(operation: &'static str) -> Box<EvaluationError> {
    Box::new(EvaluationError::Overflow { operation })
}

#[inline]
fn number(
    datum: Datum<'_>,
    operation: &'static str,
) -> Result<Option<Number>, Box<EvaluationError>> {
    match datum {
        Datum::Number(number) => Ok(Some(number)),
        Datum::Null => Ok(None),
        other => Err(operand_error(operation, "a number", &other)),
    }
}

fn truth(datum: Datum<'_>, operation: &'static str) -> Result<Option<bool>, Box<EvaluationError>> {
    match datum {
        Datum::Boolean(truth) => Ok(Some(truth)),
        Datum::Null => Ok(None),
        other => Err(operand_error(operation, "true or false", &other)),
    }
}

/// `and` is decided by the first false operand, `or` by the first true one.
fn junction<'a>(
    parts: &'a [Code; 2],
    inputs: &Inputs<'a>,
    operation: &'static str,
    decisive: bool,
) -> Evaluated<'a> {
    let left = truth(evaluate(&parts[0], inputs)?, operation)?;
    if left == Some(decisive) {
        return Ok(Datum::Boolean(decisive));
    }
    Ok(match (left, truth(evaluate(&parts[1], inputs)?, operation)?) {
        (_, Some(right)) if right == decisive => Datum::Boolean(decisive),
        (Some(_), Some(_)) => Datum::Boolean(!decisive),
        _ => Datum::Null,
    })
}

#[inline]
fn arithmetic<'a>(operator: Arithmetic, left: Datum<'a>, right: Datum<'a>) -> Evaluated<'a> {
    let sign = operator.sign();
    let (Some(left), Some(right)) = (number(left, sign)?, number(right, sign)?) else {
        return Ok(Datum::Null);
    };
    let result: Result<Number, Overflow> = match operator {
        Arithmetic::Add => left.add(right),
        Arithmetic::Subtract => left.subtract(right),
        Arithmetic::Multiply => left.multiply(right),
        Arithmetic::Divide => Ok(left.divide(right)),
        Arithmetic::Remainder => match left.remainder(right) {
            Some(rest) => Ok(rest),
            None => return Err(Box::new(EvaluationError::ByZero { operation: sign })),
        },
    };
    result.map(Datum::Number).map_err(|Overflow| overflow(sign))
}

fn compare<'a>(operator: Comparison, left: &Datum<'a>, right: &Datum<'a>) -> Evaluated<'a> {
    if operator.is_equality() {
        return Ok(Datum::Boolean(left.equals(right) == (operator == Comparison::Equal)));
    }
    if left.is_null() || right.is_null() {
        return Ok(Datum::Null);
    }
    let ordering = match (left, right) {
        (Datum::Number(left), Datum::Number(right)) => left.compare(*right),
        (left, right) => match (left.as_text(), right.as_text()) {
            (Some(left), Some(right)) => Some(left.cmp(right)),
            (Some(_), None) => return Err(operand_error(operator.sign(), "two strings", right)),
            (None, _) if matches!(left, Datum::Number(_)) => {
                return Err(operand_error(operator.sign(), "two numbers", right));
            }
            (None, _) => {
                return Err(operand_error(operator.sign(), "two numbers or two strings", left));
            }
        },
    };
    let holds = match operator {
        Comparison::Less => ordering == Some(Ordering::Less),
        Comparison::LessOrEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => ordering == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        Comparison::Equal | Comparison::NotEqual => unreachable!("equality is decided above"),
    };
    Ok(Datum::Boolean(holds))
}

fn call<'a>(function: Function, arguments: &'a [Code], inputs: &Inputs<'a>) -> Evaluated<'a> {
    let of_number = |apply: &dyn Fn(Number) -> Number| {
        let operand = number(evaluate(&arguments[0], inputs)?, function.signature())?;
        Ok(operand.map_or(Datum::Null, |number| Datum::Number(apply(number))))
    };
    match function {
        Function::Default => match evaluate(&arguments[0], inputs)? {
            Datum::Null => evaluate(&arguments[1], inputs),
            datum => Ok(datum),
        },
        Function::Lookup => lookup(arguments, inputs),
        Function::Bool => evaluate(&arguments[0], inputs).and_then(to_truth),
        Function::Number => evaluate(&arguments[0], inputs).and_then(to_number),
        Function::String => evaluate(&arguments[0], inputs).and_then(to_text),
        Function::Max => extreme(function, arguments, inputs, Ordering::Greater),
        Function::Min => extreme(function, arguments, inputs, Ordering::Less),
        Function::Abs => of_number(&Number::abs),
        Function::Ceil => of_number(&Number::ceil),
        Function::Floor => of_number(&Number::floor),
        Function::Sqrt => of_number(&|number| Number::Double(number.as_f64().sqrt())),
        Function::Round => {
            let digits = arguments.get(1).and_then(Code::constant_number);
            let digits = digits.and_then(Number::as_integer).and_then(|it| u8::try_from(it).ok());
            of_number(&|number| number.round(digits.unwrap_or(0)))
        }
        Function::Bit => match numbers(function, arguments, inputs)? {
            [Some(bits), Some(place)] => bit(bits, place),
            _ => Ok(Datum::Null),
        },
        Function::Clamp => match numbers(function, arguments, inputs)? {
            [Some(number), Some(low), Some(high)] => Ok(Datum::Number(number.clamp(low, high))),
            _ => Ok(Datum::Null),
        },
        Function::Scale => match numbers(function, arguments, inputs)? {
            [Some(number), Some(in_low), Some(in_high), Some(out_low), Some(out_high)] => {
                Ok(Datum::Number(number.scale([in_low, in_high], [out_low, out_high])))
            }
            _ => Ok(Datum::Null),
        },
    }
}

/// Evaluates as many arguments as the caller expects, each a number or no value.
fn numbers<'a, const COUNT: usize>(
    function: Function,
    arguments: &'a [Code],
    inputs: &Inputs<'a>,
) -> Result<[Option<Number>; COUNT], Box<EvaluationError>> {
    let mut found = [None; COUNT];
    for (place, argument) in found.iter_mut().zip(arguments) {
        *place = number(evaluate(argument, inputs)?, function.signature())?;
    }
    Ok(found)
}

/// Returns the first of the most extreme arguments; not-a-number if there is one among them.
fn extreme<'a>(
    function: Function,
    arguments: &'a [Code],
    inputs: &Inputs<'a>,
    wanted: Ordering,
) -> Evaluated<'a> {
    let mut best: Option<Number> = None;
    for argument in arguments {
        let Some(next) = number(evaluate(argument, inputs)?, function.signature())? else {
            return Ok(Datum::Null);
        };
        let better = match best {
            None => true,
            Some(best) => !best.is_nan() && (next.is_nan() || next.compare(best) == Some(wanted)),
        };
        if better {
            best = Some(next);
        }
    }
    Ok(best.map_or(Datum::Null, Datum::Number))
}

fn bit<'a>(bits: Number, place: Number) -> Evaluated<'a> {
    let integer = |number: Number| {
        number.as_integer().ok_or_else(|| {
            operand_error(Function::Bit.signature(), "an integer", &Datum::Number(number))
        })
    };
    let (bits, place) = (integer(bits)?, integer(place)?);
    match u32::try_from(place) {
        Ok(place @ 0..=63) => Ok(Datum::Boolean(bits >> place & 1 == 1)),
        _ => Ok(Datum::Null),
    }
}

fn lookup<'a>(arguments: &'a [Code], inputs: &Inputs<'a>) -> Evaluated<'a> {
    let wanted = evaluate(&arguments[0], inputs)?;
    for pair in arguments[1..].chunks(2) {
        match pair {
            [key, result] if evaluate(key, inputs)?.equals(&wanted) => {
                return evaluate(result, inputs);
            }
            [otherwise] => return evaluate(otherwise, inputs),
            _ => {}
        }
    }
    Ok(Datum::Null)
}

fn to_truth(datum: Datum<'_>) -> Evaluated<'_> {
    let truth = match &datum {
        Datum::Null => None,
        Datum::Boolean(truth) => Some(*truth),
        Datum::Number(number) if number.is_nan() => None,
        Datum::Number(number) => Some(!number.is_zero()),
        other => match other.as_text() {
            Some(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "on" | "yes" | "1" => Some(true),
                "false" | "off" | "no" | "0" => Some(false),
                _ => None,
            },
            None => {
                return Err(operand_error(
                    Function::Bool.signature(),
                    "a number or a string",
                    other,
                ));
            }
        },
    };
    Ok(truth.map_or(Datum::Null, Datum::Boolean))
}

fn to_number(datum: Datum<'_>) -> Evaluated<'_> {
    let number = match &datum {
        Datum::Null => None,
        Datum::Boolean(truth) => Some(Number::Integer((*truth).into())),
        Datum::Number(number) => Some(*number),
        other => match other.as_text() {
            Some(text) => json::parse_number(text.trim()).as_ref().and_then(Number::of),
            None => return Err(operand_error(Function::Number.signature(), "a string", other)),
        },
    };
    Ok(number.map_or(Datum::Null, Datum::Number))
}

fn to_text(datum: Datum<'_>) -> Evaluated<'_> {
    Ok(match datum {
        Datum::Null | Datum::Text(_) | Datum::Borrowed(Value::String(_)) => datum,
        Datum::Boolean(truth) => Datum::Text(if truth { "true".into() } else { "false".into() }),
        Datum::Number(number) if !number.as_f64().is_finite() => Datum::Null,
        Datum::Number(number) => Datum::Text(number.into_value().to_string().into()),
        other => {
            return Err(operand_error(
                Function::String.signature(),
                "a number or true or false",
                &other,
            ));
        }
    })
}
