//! From CBOR (RFC 8949) to values: exact numbers, bounded depth, no name twice.
//!
//! A decoder of our own, because the width of a float decides its type and is lost in general ones.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tidegate_model::{Document, DuplicateName, Value, json::depth_max};

/// Tags that may stand before one item; more make no sense.
const TAGS_MAX: usize = 8;

/// Why bytes are not CBOR, or CBOR that the gateway does not take.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{fault} at byte {at}")]
pub struct CborError {
    /// What is wrong.
    pub fault: CborFault,
    /// Where, counted from 0.
    pub at: usize,
}

/// What is wrong with some CBOR.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CborFault {
    /// The bytes end within an item.
    #[error("the item is cut short")]
    CutShort,
    /// Bytes follow the item.
    #[error("bytes behind the item")]
    Trailing,
    /// A head that the standard reserves, or a break where none may be.
    #[error("reserved item 0x{0:02X}")]
    Reserved(u8),
    /// Items stand too deep inside each other.
    #[error("more than {} levels", depth_max())]
    TooDeep,
    /// A number does not fit into 64 bits.
    #[error("an integer beyond 64 bits")]
    BeyondRange,
    /// A text is not UTF-8.
    #[error("a text that is not UTF-8")]
    NotText,
    /// The name of a member is not a text.
    #[error("a member name that is not a text")]
    Name,
    /// A name occurs twice in one map.
    #[error("{0}")]
    Duplicate(DuplicateName),
}

/// Reads one CBOR item.
///
/// Floats of 16 and 32 bits become [`Value::Float`], those of 64 bits [`Value::Double`]. Tags are read
/// over, but for integers of tags 2 and 3. `undefined` is null.
///
/// # Errors
///
/// [`CborError`] for anything that is not one item, a member name that is not a text or occurs twice,
/// an integer beyond 64 bits, or more than 32 levels.
pub fn parse_value(bytes: &Bytes) -> Result<Value, CborError> {
    parse(bytes, Names::Texts)
}

/// Reads a SenML pack: the labels of RFC 8428, table 4, become their names.
pub(crate) fn parse_senml(bytes: &Bytes) -> Result<Value, CborError> {
    parse(bytes, Names::SenmlLabels)
}

fn parse(bytes: &Bytes, names: Names) -> Result<Value, CborError> {
    let mut reader = Reader { bytes, at: 0, names };
    let result = reader.value(0).and_then(|value| match reader.at == bytes.len() {
        true => Ok(value),
        false => Err(CborFault::Trailing),
    });
    result.map_err(|fault| CborError { fault, at: reader.at })
}

/// What member names may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Texts,
    /// Numbers stand for the short names of SenML.
    SenmlLabels,
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    names: Names,
}

/// The first byte of an item, and the number behind it.
struct Head {
    first: u8,
    argument: Argument,
}

#[derive(Clone, Copy)]
enum Argument {
    Number(u64),
    Indefinite,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, CborFault> {
        let mut head = self.head()?;
        let mut tag = None;
        for _ in 0..TAGS_MAX {
            let (6, Argument::Number(number)) = (head.first >> 5, head.argument) else { break };
            tag = Some(number);
            head = self.head()?;
        }
        match (head.first >> 5, head.argument) {
            (0, Argument::Number(number)) => Ok(Value::unsigned(number)),
            (1, Argument::Number(number)) => negative(number),
            (2, argument) => {
                let bytes = self.string(2, argument)?;
                match tag {
                    Some(2) => Ok(Value::unsigned(big(&bytes)?)),
                    Some(3) => negative(big(&bytes)?),
                    _ => Ok(Value::Bytes(bytes)),
                }
            }
            (3, argument) => Ok(Value::String(self.text(argument)?)),
            (4, argument) => self.array(argument, depth),
            (5, argument) => self.map(argument, depth),
            (7, argument) => simple(head.first, argument),
            _ => Err(CborFault::Reserved(head.first)),
        }
    }

    fn head(&mut self) -> Result<Head, CborFault> {
        let first = self.take(1)?[0];
        let argument = match first & 0x1F {
            short @ 0..=23 => Argument::Number(short.into()),
            width @ 24..=27 => {
                let bytes = self.take(1 << (width - 24))?;
                Argument::Number(bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
            }
            31 => Argument::Indefinite,
            _ => return Err(CborFault::Reserved(first)),
        };
        Ok(Head { first, argument })
    }

    fn take(&mut self, count: usize) -> Result<&[u8], CborFault> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(CborFault::CutShort)?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// Takes a string of one piece without copying it, or joins those of an indefinite one.
    fn string(&mut self, major: u8, argument: Argument) -> Result<Bytes, CborFault> {
        match argument {
            Argument::Number(length) => {
                let start = self.at;
                let length = usize::try_from(length).map_err(|_| CborFault::CutShort)?;
                self.take(length)?;
                Ok(self.bytes.slice(start..self.at))
            }
            Argument::Indefinite => {
                let mut joined = Vec::new();
                while !self.at_break()? {
                    let head = self.head()?;
                    let (true, Argument::Number(length)) =
                        (head.first >> 5 == major, head.argument)
                    else {
                        return Err(CborFault::Reserved(head.first));
                    };
                    let length = usize::try_from(length).map_err(|_| CborFault::CutShort)?;
                    joined.extend_from_slice(self.take(length)?);
                }
                Ok(joined.into())
            }
        }
    }

    fn text(&mut self, argument: Argument) -> Result<Arc<str>, CborFault> {
        let bytes = self.string(3, argument)?;
        std::str::from_utf8(&bytes).map(Arc::from).map_err(|_| CborFault::NotText)
    }

    fn array(&mut self, argument: Argument, depth: usize) -> Result<Value, CborFault> {
        let mut items = Vec::new();
        self.each_item(argument, depth, |reader, depth| {
            items.push(reader.value(depth)?);
            Ok(())
        })?;
        Ok(Value::Array(items.into()))
    }

    fn map(&mut self, argument: Argument, depth: usize) -> Result<Value, CborFault> {
        let mut members = Vec::new();
        self.each_item(argument, depth, |reader, depth| {
            let name = reader.name()?;
            members.push((name, reader.value(depth)?));
            Ok(())
        })?;
        let document = Document::new(members).map_err(CborFault::Duplicate)?;
        Ok(Value::Document(Arc::new(document)))
    }

    /// Calls `read` for each item of an array or each pair of a map.
    fn each_item(
        &mut self,
        argument: Argument,
        depth: usize,
        mut read: impl FnMut(&mut Self, usize) -> Result<(), CborFault>,
    ) -> Result<(), CborFault> {
        if depth >= depth_max() {
            return Err(CborFault::TooDeep);
        }
        match argument {
            // Nothing is reserved for the announced number: it may lie.
            Argument::Number(count) => (0..count).try_for_each(|_| read(self, depth + 1)),
            Argument::Indefinite => {
                while !self.at_break()? {
                    read(self, depth + 1)?;
                }
                Ok(())
            }
        }
    }

    fn name(&mut self) -> Result<Arc<str>, CborFault> {
        let head = self.head()?;
        match (head.first >> 5, head.argument, self.names) {
            (3, argument, _) => self.text(argument),
            (0, Argument::Number(label), Names::SenmlLabels) => Ok(positive_label(label)),
            (1, Argument::Number(label), Names::SenmlLabels) => Ok(negative_label(label)),
            _ => Err(CborFault::Name),
        }
    }

    /// Takes a break if there is one.
    fn at_break(&mut self) -> Result<bool, CborFault> {
        let is_break = *self.bytes.get(self.at).ok_or(CborFault::CutShort)? == 0xFF;
        self.at += usize::from(is_break);
        Ok(is_break)
    }
}

fn negative(number: u64) -> Result<Value, CborFault> {
    i64::try_from(number)
        .map(|number| Value::Integer(-1 - number))
        .map_err(|_| CborFault::BeyondRange)
}

/// Returns the magnitude of a big number that fits into 64 bits.
fn big(bytes: &[u8]) -> Result<u64, CborFault> {
    let significant = &bytes[bytes.iter().take_while(|&&byte| byte == 0).count()..];
    if significant.len() > 8 {
        return Err(CborFault::BeyondRange);
    }
    Ok(significant.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

fn simple(first: u8, argument: Argument) -> Result<Value, CborFault> {
    let Argument::Number(bits) = argument else { return Err(CborFault::Reserved(first)) };
    let narrow = |bits| u32::try_from(bits).expect("at most 32 bits");
    match first & 0x1F {
        20 => Ok(Value::Boolean(false)),
        21 => Ok(Value::Boolean(true)),
        22 | 23 => Ok(Value::Null),
        25 => Ok(Value::Float(half(narrow(bits)))),
        26 => Ok(Value::Float(f32::from_bits(narrow(bits)))),
        27 => Ok(Value::Double(f64::from_bits(bits))),
        _ => Err(CborFault::Reserved(first)),
    }
}

/// Widens a 16-bit float (RFC 8949, appendix D).
fn half(bits: u32) -> f32 {
    let sign = (bits & 0x8000) << 16;
    let (exponent, mantissa) = (bits >> 10 & 0x1F, bits & 0x03FF);
    match exponent {
        0 => {
            let magnitude = f32::from(u16::try_from(mantissa).expect("ten bits")) / 16_777_216.0;
            f32::from_bits(magnitude.to_bits() | sign)
        }
        31 => f32::from_bits(sign | 0x7F80_0000 | mantissa << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | mantissa << 13),
    }
}

/// RFC 8428, table 4. A label that is not in it becomes its number, which no rule knows.
fn positive_label(label: u64) -> Arc<str> {
    const NAMES: [&str; 9] = ["n", "u", "v", "vs", "vb", "s", "t", "ut", "vd"];
    match usize::try_from(label).ok().and_then(|label| NAMES.get(label)) {
        Some(&name) => name.into(),
        None => label.to_string().into(),
    }
}

fn negative_label(label: u64) -> Arc<str> {
    const NAMES: [&str; 6] = ["bver", "bn", "bt", "bu", "bv", "bs"];
    match usize::try_from(label).ok().and_then(|label| NAMES.get(label)) {
        Some(&name) => name.into(),
        None => format!("-{}", u128::from(label) + 1).into(),
    }
}

#[cfg(test)]
mod tests;
