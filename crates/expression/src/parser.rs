//! From tokens to checked code, by precedence.
//!
//! From loose to tight: `if … then … else …`, `or`, `and`, `not`, comparison, `+ -`, `* / %`, the signs `- !`
//! before an operand, members. Type faults are collected and reading goes on; the first fault of syntax ends it.

use std::ops::Range;

use tidegate_model::CaptureName;
use tidegate_settings::nearest;

use super::code::{Code, Constant, Step};
use super::function::Function;
use super::number::Number;
use super::operator::{Arithmetic, Comparison};
use super::token::{KEYWORDS, Token, tokens};
use super::types::Types;
use super::{DEPTH_MAX, ExpressionFault, LENGTH_MAX, Scope, Subject};

/// Names that mean something: first those of every expression.
pub(super) const VARIABLES: [&str; 6] = ["value", "time", "quality", "status", "unit", "topic"];
/// How many of them every expression has.
pub(super) const OF_READINGS: usize = 3;

/// A checked part of the text.
pub(super) struct Part {
    pub(super) code: Code,
    pub(super) types: Types,
    pub(super) range: Range<usize>,
    pub(super) depth: usize,
}

/// Reads and checks a whole text.
pub(super) fn parse(text: &str, scope: Scope<'_>) -> Result<Part, Vec<ExpressionFault>> {
    if text.trim().is_empty() {
        let hint = "write a formula such as `value / 10`, or remove the key";
        return Err(vec![ExpressionFault::new(0..text.len(), "the expression is empty", hint)]);
    }
    if text.len() > LENGTH_MAX {
        let message =
            format!("the expression has {} bytes, at most {LENGTH_MAX} are allowed", text.len());
        return Err(vec![ExpressionFault::new(0..text.len(), message, "write a shorter one")]);
    }
    let tokens = tokens(text, scope.captures).map_err(|fault| vec![fault])?;
    let mut parser = Parser { tokens, at: 0, open: 0, scope, faults: Vec::new() };
    let part = parser.expression().and_then(|part| parser.end().map(|()| part));
    match part {
        Ok(part) if parser.faults.is_empty() => Ok(part),
        Ok(_) => Err(parser.faults),
        Err(fault) => {
            parser.faults.push(fault);
            Err(parser.faults)
        }
    }
}

/// Reads tokens from left to right; `check` has the rest of its methods.
pub(super) struct Parser<'s> {
    tokens: Vec<(Token, Range<usize>)>,
    at: usize,
    /// How many expressions are being read inside each other.
    open: usize,
    scope: Scope<'s>,
    pub(super) faults: Vec<ExpressionFault>,
}

pub(super) type Parsed = Result<Part, ExpressionFault>;

impl Parser<'_> {
    fn expression(&mut self) -> Parsed {
        self.open += 1;
        if self.open > DEPTH_MAX {
            return Err(too_deep(self.range()));
        }
        let part = if self.takes_word("if") { self.condition() } else { self.disjunction() };
        self.open -= 1;
        part
    }

    fn condition(&mut self) -> Parsed {
        let start = self.previous_range().start;
        let condition = self.expression()?;
        self.want(&condition, Types::BOOLEAN, "`if`", "true or false");
        if let Code::Constant(Constant::Boolean(truth)) = condition.code {
            let message = format!("this is always {truth}");
            self.fault(condition.range.clone(), message, "write the result alone");
        }
        self.expect_word("then")?;
        let first = self.expression()?;
        self.expect_word("else")?;
        let second = self.expression()?;
        let types = first.types.or(second.types).or(condition.types.null_only());
        let range = start..second.range.end;
        let depth = condition.depth.max(first.depth).max(second.depth);
        let parts = Box::new([condition.code, first.code, second.code]);
        self.node(Code::Condition(parts), types, range, depth)
    }

    fn disjunction(&mut self) -> Parsed {
        let mut left = self.conjunction()?;
        while self.takes_word("or") || self.takes_sign("||") {
            let right = self.conjunction()?;
            left = self.junction(left, right, "`or`", Code::Or)?;
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Parsed {
        let mut left = self.negation()?;
        while self.takes_word("and") || self.takes_sign("&&") {
            let right = self.negation()?;
            left = self.junction(left, right, "`and`", Code::And)?;
        }
        Ok(left)
    }

    fn junction(
        &mut self,
        left: Part,
        right: Part,
        name: &'static str,
        make: fn(Box<[Code; 2]>) -> Code,
    ) -> Parsed {
        self.want(&left, Types::BOOLEAN, name, "true or false");
        self.want(&right, Types::BOOLEAN, name, "true or false");
        let types = Types::BOOLEAN.or(left.types.or(right.types).null_only());
        let (range, depth) = around(&left, &right);
        self.node(make(Box::new([left.code, right.code])), types, range, depth)
    }

    fn negation(&mut self) -> Parsed {
        if !self.takes_word("not") {
            return self.comparison();
        }
        let start = self.previous_range().start;
        let operand = self.nested(Self::negation)?;
        self.logical_not(start, operand)
    }

    fn logical_not(&mut self, start: usize, operand: Part) -> Parsed {
        self.want(&operand, Types::BOOLEAN, "`not`", "true or false");
        let types = Types::BOOLEAN.or(operand.types.null_only());
        let range = start..operand.range.end;
        self.node(Code::Not(Box::new(operand.code)), types, range, operand.depth)
    }

    fn comparison(&mut self) -> Parsed {
        let left = self.sum()?;
        let Some(operator) = self.comparison_sign() else { return Ok(left) };
        self.at += 1;
        let right = self.sum()?;
        if self.comparison_sign().is_some() {
            return Err(ExpressionFault::new(
                self.range(),
                "comparisons cannot be chained",
                "write `a < b and b < c`",
            ));
        }
        self.check_comparison(operator, &left, &right);
        let null = left.types.or(right.types).null_only();
        let types = if operator.is_equality() { Types::BOOLEAN } else { Types::BOOLEAN.or(null) };
        let (range, depth) = around(&left, &right);
        let parts = Box::new([left.code, right.code]);
        self.node(Code::Comparison(operator, parts), types, range, depth)
    }

    fn comparison_sign(&self) -> Option<Comparison> {
        let Token::Sign(sign) = self.token() else { return None };
        match *sign {
            "==" => Some(Comparison::Equal),
            "!=" => Some(Comparison::NotEqual),
            "<" => Some(Comparison::Less),
            "<=" => Some(Comparison::LessOrEqual),
            ">" => Some(Comparison::Greater),
            ">=" => Some(Comparison::GreaterOrEqual),
            _ => None,
        }
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        loop {
            let operator = match self.token() {
                Token::Sign("+") => Arithmetic::Add,
                Token::Sign("-") => Arithmetic::Subtract,
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.product()?;
            left = self.arithmetic(operator, left, right)?;
        }
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.signed()?;
        loop {
            let operator = match self.token() {
                Token::Sign("*") => Arithmetic::Multiply,
                Token::Sign("/") => Arithmetic::Divide,
                Token::Sign("%") => Arithmetic::Remainder,
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.signed()?;
            left = self.arithmetic(operator, left, right)?;
        }
    }

    fn arithmetic(&mut self, operator: Arithmetic, left: Part, right: Part) -> Parsed {
        self.want(&left, Types::NUMBER, operator.sign(), "a number");
        self.want(&right, Types::NUMBER, operator.sign(), "a number");
        let divides = matches!(operator, Arithmetic::Divide | Arithmetic::Remainder);
        if divides && right.code.constant_number().is_some_and(Number::is_zero) {
            let hint = "divide by something else than 0";
            self.fault(right.range.clone(), "this divides by zero", hint);
        }
        let both = left.types.or(right.types);
        let numbers = match operator {
            Arithmetic::Divide => Types::DOUBLE,
            _ if left.types.intersects(Types::INTEGER)
                && right.types.intersects(Types::INTEGER) =>
            {
                both.without(Types::ANY.without(Types::NUMBER))
            }
            _ => Types::DOUBLE,
        };
        let (range, depth) = around(&left, &right);
        let parts = Box::new([left.code, right.code]);
        self.node(Code::Arithmetic(operator, parts), numbers.or(both.null_only()), range, depth)
    }

    fn signed(&mut self) -> Parsed {
        let start = self.range().start;
        if self.takes_sign("-") {
            let operand = self.nested(Self::signed)?;
            self.want(&operand, Types::NUMBER, "`-`", "a number");
            let types = operand.types.without(Types::ANY.without(Types::NUMBER));
            let types = types.or(operand.types.null_only());
            let range = start..operand.range.end;
            return self.node(Code::Negate(Box::new(operand.code)), types, range, operand.depth);
        }
        if self.takes_sign("!") {
            let operand = self.nested(Self::signed)?;
            return self.logical_not(start, operand);
        }
        self.with_members()
    }

    fn with_members(&mut self) -> Parsed {
        let mut part = self.operand()?;
        while self.token().is_sign(".") || self.token().is_sign("[") {
            let step = if self.takes_sign(".") { self.member()? } else { self.index()? };
            part.range.end = self.previous_range().end;
            let Code::Path(steps) = &mut part.code else {
                return Err(ExpressionFault::new(
                    part.range,
                    "only `value` has members",
                    "write the member directly behind it, such as `value.weight`",
                ));
            };
            let container = match step {
                Step::Member(_) => Types::DOCUMENT,
                Step::Index(_) => Types::ARRAY,
            };
            let mut path = std::mem::take(steps).into_vec();
            path.push(step);
            *steps = path.into();
            if !part.types.intersects(container) {
                let message = format!("`value` is {} here and has no members", part.types);
                let hint = "write payload = \"json\" to read objects and arrays";
                self.fault(part.range.clone(), message, hint);
            }
            part.types = Types::ANY;
        }
        Ok(part)
    }

    fn member(&mut self) -> Result<Step, ExpressionFault> {
        match self.advance() {
            (Token::Word(name), _) => Ok(Step::Member(name.into())),
            (other, range) => Err(ExpressionFault::new(
                range,
                format!("expected the name of a member, found {}", other.describe()),
                "write `value.weight`, or `value[\"a name\"]` for names that are not plain words",
            )),
        }
    }

    fn index(&mut self) -> Result<Step, ExpressionFault> {
        self.at += 1;
        let (token, range) = self.advance();
        let step = match &token {
            Token::Text(name) => Some(Step::Member(name.as_str().into())),
            Token::Number(number) => {
                number.as_integer().and_then(|it| it.try_into().ok()).map(Step::Index)
            }
            _ => None,
        };
        let Some(step) = step else {
            let message = format!("expected a name or a place, found {}", token.describe());
            let hint = "write `value[\"a name\"]` or `value[0]`";
            return Err(ExpressionFault::new(range, message, hint));
        };
        self.expect_sign("]")?;
        Ok(step)
    }

    fn operand(&mut self) -> Parsed {
        let (token, range) = self.advance();
        let (code, types) = match token {
            Token::Number(number) => {
                let integer = number.as_integer().is_some();
                let types = if integer { Types::INTEGER } else { Types::DOUBLE };
                (Code::Constant(Constant::Number(number)), types)
            }
            Token::Text(text) => (Code::Constant(Constant::Text(text.into())), Types::STRING),
            Token::Word(word)
                if self.token().is_sign("(") && !KEYWORDS.contains(&word.as_str()) =>
            {
                return self.call(&word, range);
            }
            Token::Word(word) => return self.name(&word, range),
            Token::Sign("(") => {
                let mut inner = self.expression()?;
                self.expect_sign(")")?;
                inner.range = range.start..self.previous_range().end;
                return Ok(inner);
            }
            other => {
                let hint = match &other {
                    Token::Sign(".") => "write a digit before the point: 0.5",
                    Token::End => "the expression ends too early",
                    _ => "write a number, a string in quotes, `value`, or the name of a capture",
                };
                let message = format!("expected a value, found {}", other.describe());
                return Err(ExpressionFault::new(range, message, hint));
            }
        };
        Ok(Part { code, types, range, depth: 1 })
    }

    fn name(&mut self, word: &str, range: Range<usize>) -> Parsed {
        let captures = self.scope.captures;
        let capture = captures.iter().position(|name| name.as_str() == word);
        let of_record = self.scope.subject == Subject::Record;
        let (code, types) = match (word, capture) {
            ("true" | "false", _) => {
                (Code::Constant(Constant::Boolean(word == "true")), Types::BOOLEAN)
            }
            ("null", _) => (Code::Constant(Constant::Null), Types::NULL),
            ("value", _) => (Code::Path(Box::default()), Types::of_payload(self.scope.payload)),
            ("time", _) => (Code::Time, Types::INTEGER),
            ("quality", _) => (Code::Quality, Types::STRING),
            ("status", _) if of_record => (Code::Status, Types::INTEGER),
            ("unit", _) if of_record => (Code::Unit, Types::STRING.or(Types::NULL)),
            ("topic", _) if of_record => (Code::Topic, Types::STRING),
            (_, Some(index)) => (Code::Capture(index), Types::STRING),
            _ if KEYWORDS.contains(&word) => {
                let message = format!("expected a value, found `{word}`");
                let hint = match word {
                    "if" => "put the `if` in parentheses",
                    _ => "a value is missing before it",
                };
                return Err(ExpressionFault::new(range, message, hint));
            }
            _ => {
                let (message, hint) = unknown_name(word, self.scope);
                self.fault(range.clone(), message, hint);
                (Code::Path(Box::default()), Types::ANY)
            }
        };
        Ok(Part { code, types, range, depth: 1 })
    }

    fn call(&mut self, name: &str, name_range: Range<usize>) -> Parsed {
        self.at += 1;
        let mut arguments = Vec::new();
        if !self.takes_sign(")") {
            loop {
                arguments.push(self.expression()?);
                if !self.takes_sign(",") {
                    break;
                }
            }
            self.expect_sign(")")?;
        }
        let range = name_range.start..self.previous_range().end;
        let depth = arguments.iter().map(|argument| argument.depth).max().unwrap_or(0);
        let Some(function) = Function::named(name) else {
            let known = Function::ALL.map(Function::name);
            let hint = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known functions: {}", known.join(", ")),
            };
            self.fault(name_range, format!("there is no function `{name}`"), hint);
            return Ok(Part { code: Code::Path(Box::default()), types: Types::ANY, range, depth });
        };
        if !function.takes(arguments.len()) {
            let message = format!("`{name}` does not take {} arguments", arguments.len());
            let message = message.replace(" 1 arguments", " 1 argument");
            self.fault(range.clone(), message, format!("write {}", function.signature()));
            return Ok(Part { code: Code::Path(Box::default()), types: Types::ANY, range, depth });
        }
        for argument in &arguments {
            let wanted = function.wants();
            self.want(argument, wanted, function.signature(), &wanted.to_string());
        }
        self.check_arguments(function, &arguments);
        let types: Vec<Types> = arguments.iter().map(|argument| argument.types).collect();
        let codes = arguments.into_iter().map(|argument| argument.code).collect();
        self.node(Code::Call(function, codes), function.gives(&types), range, depth)
    }

    /// Counts one more level for a sign before its operand.
    fn nested(&mut self, read: fn(&mut Self) -> Parsed) -> Parsed {
        self.open += 1;
        if self.open > DEPTH_MAX {
            return Err(too_deep(self.range()));
        }
        let part = read(self);
        self.open -= 1;
        part
    }

    pub(super) fn fault(
        &mut self,
        range: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.faults.push(ExpressionFault::new(range, message, hint));
    }

    fn token(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn range(&self) -> Range<usize> {
        self.tokens[self.at].1.clone()
    }

    fn previous_range(&self) -> Range<usize> {
        self.tokens[self.at.saturating_sub(1)].1.clone()
    }

    /// Takes the token; the end stays.
    fn advance(&mut self) -> (Token, Range<usize>) {
        let taken = self.tokens[self.at].clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        taken
    }

    fn takes_word(&mut self, wanted: &str) -> bool {
        let found = self.token().is_word(wanted);
        self.at += usize::from(found);
        found
    }

    fn takes_sign(&mut self, wanted: &str) -> bool {
        let found = self.token().is_sign(wanted);
        self.at += usize::from(found);
        found
    }

    fn expect_word(&mut self, wanted: &str) -> Result<(), ExpressionFault> {
        if self.takes_word(wanted) {
            return Ok(());
        }
        let message = format!("expected `{wanted}`, found {}", self.token().describe());
        Err(ExpressionFault::new(self.range(), message, "write `if condition then a else b`"))
    }

    fn expect_sign(&mut self, wanted: &str) -> Result<(), ExpressionFault> {
        if self.takes_sign(wanted) {
            return Ok(());
        }
        let message = format!("expected `{wanted}`, found {}", self.token().describe());
        Err(ExpressionFault::new(self.range(), message, format!("close it with `{wanted}`")))
    }

    fn end(&mut self) -> Result<(), ExpressionFault> {
        let hint = match self.token() {
            Token::End => return Ok(()),
            Token::Sign(",") => "write a decimal point, not a comma",
            Token::Sign(")") => "it closes nothing; remove it",
            _ => "an operator is missing before it",
        };
        let message = format!("unexpected {}", self.token().describe());
        Err(ExpressionFault::new(self.range(), message, hint))
    }
}

fn around(left: &Part, right: &Part) -> (Range<usize>, usize) {
    (left.range.start..right.range.end, left.depth.max(right.depth))
}

pub(super) fn too_deep(range: Range<usize>) -> ExpressionFault {
    let message = format!("the expression is more than {DEPTH_MAX} levels deep");
    ExpressionFault::new(range, message, "write a simpler one")
}

fn unknown_name(word: &str, scope: Scope<'_>) -> (String, String) {
    let captures = scope.captures.iter().map(CaptureName::as_str);
    let known = scope.subject.variables().iter().copied().chain(captures);
    let hint = if Function::named(word).is_some() {
        format!("it is a function: write {word}(…)")
    } else if let Some(near) = nearest(word, known.clone().chain(KEYWORDS)) {
        format!("did you mean `{near}`?")
    } else {
        let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
        format!("known here: {}; strings stand in quotes", known.join(", "))
    };
    (format!("there is no `{word}` here"), hint)
}
