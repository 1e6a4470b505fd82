//! From text to tokens.

use std::ops::Range;

use tidegate_model::{CaptureName, Value, json};

use super::ExpressionFault;
use super::number::Number;

/// Words that are part of the language.
pub(super) const KEYWORDS: [&str; 9] =
    ["and", "else", "false", "if", "not", "null", "or", "then", "true"];

/// Signs, longer ones before their beginnings.
const SIGNS: [&str; 21] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "+", "-", "*", "/", "%", "(", ")", "[", "]",
    ",", ".", "=",
];

/// One piece of the text.
#[derive(Clone, Debug)]
pub(super) enum Token {
    Number(Number),
    Text(String),
    /// A word of the language or a name.
    Word(String),
    Sign(&'static str),
    End,
}

impl Token {
    pub(super) fn is_sign(&self, wanted: &str) -> bool {
        matches!(self, Self::Sign(sign) if *sign == wanted)
    }

    pub(super) fn is_word(&self, wanted: &str) -> bool {
        matches!(self, Self::Word(word) if word == wanted)
    }

    /// Returns the token as messages show it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Number(number) => format!("the number {}", number.into_value()),
            Self::Text(_) => "a string".to_owned(),
            Self::Word(word) => format!("`{word}`"),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Cuts a text into tokens, each with its place; the last one is [`Token::End`].
///
/// A capture whose name has a hyphen is one token wherever it is written so: `room-id` is the capture and
/// `room - id` a difference.
pub(super) fn tokens(
    text: &str,
    captures: &[CaptureName],
) -> Result<Vec<(Token, Range<usize>)>, ExpressionFault> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, length) = match first {
            '0'..='9' => number(text, at)?,
            '"' | '\'' => quoted(text, at, first)?,
            first if first.is_alphabetic() || first == '_' => word(&text[at..], captures),
            _ => sign(text, at, first)?,
        };
        found.push((token, at..at + length));
        at += length;
    }
    found.push((Token::End, text.len()..text.len()));
    Ok(found)
}

fn number(text: &str, at: usize) -> Result<(Token, usize), ExpressionFault> {
    let rest = &text[at..];
    let mut length = 0;
    for (index, letter) in rest.char_indices() {
        let exponent_sign =
            matches!(letter, '+' | '-') && rest[..index].ends_with(['e', 'E']) && index > 1;
        if !(letter.is_alphanumeric() || matches!(letter, '.' | '_') || exponent_sign) {
            break;
        }
        length = index + letter.len_utf8();
    }
    let written = &rest[..length];
    let value = json::parse_number(written);
    let Some(number) = value.as_ref().and_then(Number::of) else {
        let hint = if written.len() > 1 && written.bytes().all(|byte| byte.is_ascii_digit()) {
            "write it without leading zeros"
        } else {
            "write digits with a decimal point or an exponent, such as 10, 0.5 or 1e3"
        };
        let message = format!("`{written}` is not a number");
        return Err(ExpressionFault::new(at..at + length, message, hint));
    };
    debug_assert!(!matches!(value, Some(Value::String(_))), "numbers parse as numbers");
    Ok((Token::Number(number), length))
}

fn quoted(text: &str, at: usize, quote: char) -> Result<(Token, usize), ExpressionFault> {
    let mut content = String::new();
    let mut letters = text[at..].char_indices().skip(1);
    while let Some((index, letter)) = letters.next() {
        match letter {
            letter if letter == quote => return Ok((Token::Text(content), index + 1)),
            '\\' => match letters.next() {
                Some((_, escaped @ ('\\' | '"' | '\''))) => content.push(escaped),
                Some((next, other)) => {
                    return Err(ExpressionFault::new(
                        at + index..at + next + other.len_utf8(),
                        format!("`\\{other}` is not an escape"),
                        "a backslash stands before a quote or a backslash only",
                    ));
                }
                None => break,
            },
            letter => content.push(letter),
        }
    }
    Err(ExpressionFault::new(
        at..text.len(),
        "the string is not closed",
        format!("close it with {quote}"),
    ))
}

fn word(rest: &str, captures: &[CaptureName]) -> (Token, usize) {
    let stops = |letter: char| !(letter.is_alphanumeric() || letter == '_');
    let plain = rest.find(stops).unwrap_or(rest.len());
    let hyphened = captures
        .iter()
        .map(CaptureName::as_str)
        .filter(|name| name.contains('-') && rest.starts_with(name))
        .filter(|name| !rest[name.len()..].starts_with(|next: char| !stops(next)))
        .map(str::len)
        .max();
    let length = hyphened.unwrap_or(plain).max(plain);
    (Token::Word(rest[..length].to_owned()), length)
}

fn sign(text: &str, at: usize, first: char) -> Result<(Token, usize), ExpressionFault> {
    let rest = &text[at..];
    const MISTAKEN: [(&str, &str); 12] = [
        ("=>", "write `>=`"),
        ("=<", "write `<=`"),
        ("<>", "write `!=`"),
        ("**", "multiply it by itself: x * x"),
        ("??", "write default(x, otherwise)"),
        ("^", "multiply it by itself: x * x"),
        ("&", "write `and`; a single bit is bit(x, number)"),
        ("|", "write `or`; a single bit is bit(x, number)"),
        ("?", "write `if condition then a else b`"),
        (":", "write `if condition then a else b`"),
        (";", "an expression is one formula"),
        ("{", "captures are named without braces here"),
    ];
    let known = SIGNS.iter().find(|sign| rest.starts_with(**sign)).copied();
    let mistaken = MISTAKEN.iter().find(|(sign, _)| rest.starts_with(sign));
    match (known, mistaken) {
        (Some("="), None) => {
            Err(ExpressionFault::new(at..at + 1, "`=` does not compare", "write `==`"))
        }
        (Some(sign), mistaken) if mistaken.is_none_or(|(wrong, _)| wrong.len() <= sign.len()) => {
            Ok((Token::Sign(sign), sign.len()))
        }
        (_, Some((wrong, hint))) => Err(ExpressionFault::new(
            at..at + wrong.len(),
            format!("`{wrong}` is not an operator here"),
            *hint,
        )),
        (_, None) => Err(ExpressionFault::new(
            at..at + first.len_utf8(),
            format!("`{first}` does not belong in an expression"),
            "operators are + - * / % == != < <= > >= and or not",
        )),
    }
}
