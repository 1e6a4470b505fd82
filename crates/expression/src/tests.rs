//! The language, through its public interface.

mod faults;
mod properties;
mod results;

use tidegate_model::{CaptureName, Captures, PayloadFormat, Status, Timestamp, Value, json};

use super::{EvaluationError, Expression, ExpressionFault, Inputs, ResultKind, Scope, Subject};

/// The captures that every test expression may use, and what they stand for.
const CAPTURES: [(&str, &str); 3] = [("room", "boiler"), ("n", "7"), ("line-id", "L2")];

fn names() -> Vec<CaptureName> {
    CAPTURES.iter().map(|(name, _)| CaptureName::new(name).unwrap()).collect()
}

fn parse(
    text: &str,
    payload: Option<PayloadFormat>,
    result: ResultKind,
) -> Result<Expression, Vec<ExpressionFault>> {
    let names = names();
    Expression::parse(text, Scope { captures: &names, payload, subject: Subject::Reading }, result)
}

/// Evaluates `text` over a value given as JSON, of good quality, one second after 1970.
fn evaluate(text: &str, value: &str) -> Result<Value, EvaluationError> {
    evaluate_value(text, &json::parse_value(value.as_bytes()).unwrap())
}

fn evaluate_value(text: &str, value: &Value) -> Result<Value, EvaluationError> {
    let expression = parse(text, None, ResultKind::Value)
        .unwrap_or_else(|faults| panic!("{text}: {}", faults[0].message));
    expression.evaluate(&Inputs {
        value,
        time: Timestamp::from_unix_millis(1_000),
        status: Status::GOOD,
        captures: &Captures::new(CAPTURES.iter().map(|(_, text)| Box::from(*text))),
        unit: None,
        topic: None,
    })
}
