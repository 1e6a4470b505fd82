//! Data values from the server as value, status and time.

use bytes::Bytes;
use opcua::types::{Array, DataValue, DateTime, NodeId, StatusCode, Variant, XmlElement};
use thiserror::Error;
use tidegate_model::{Status, Timestamp, Value};

use crate::{namespaces::Namespaces, structures::Structures};

/// 100 ns ticks from 1601-01-01, the zero of OPC UA, to 1970-01-01.
const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;
/// Ticks of 9999-12-31T23:59:59, which stands for "no end".
const END_TICKS: i64 = 2_650_467_743_990_000_000;

/// What values are read with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    /// What node ids in values mean.
    pub(crate) namespaces: &'a Namespaces,
    /// How structures are laid out.
    pub(crate) structures: &'a Structures,
}

/// One data value in the gateway's terms.
#[derive(Debug, PartialEq)]
pub(crate) struct Sample {
    /// The value; null where the status is bad or the type is not representable.
    pub(crate) value: Value,
    /// The server's status, or that of [`Undecoded`].
    pub(crate) status: Status,
    /// When the source produced the value; the server's time if the source gave none.
    pub(crate) time: Option<Timestamp>,
    /// Why there is no value although the server sent one.
    pub(crate) undecoded: Option<Undecoded>,
}

/// Why a value cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Undecoded {
    /// Nobody has asked yet how structures of this encoding or data type are laid out.
    #[error("the layout of its structure is not known yet")]
    Unasked(NodeId),
    /// The server does not tell how the structure is laid out.
    #[error("the server does not tell how its structure is laid out")]
    Untold,
    /// The bytes are not what the layout says.
    #[error("it is not laid out as the server says")]
    Malformed,
    /// The gateway has no value for it, such as for diagnostic information.
    #[error("its type has no value here")]
    NoForm,
}

impl Undecoded {
    /// Returns the status of a reading without this value.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unasked(_) | Self::Untold => StatusCode::BadDataTypeIdUnknown,
            Self::Malformed => StatusCode::BadDecodingError,
            Self::NoForm => StatusCode::BadDataEncodingUnsupported,
        }
    }
}

/// Takes a data value apart; types are kept, 64-bit integers exactly.
pub(crate) fn sample(data: DataValue, reader: Reader<'_>) -> Sample {
    let mut status = data.status.unwrap_or(StatusCode::Good);
    let time =
        [data.source_timestamp, data.server_timestamp].into_iter().flatten().find_map(timestamp);
    let mut decoding = Decoding::new(reader);
    let (value, undecoded) = match decoding.value(data.value.unwrap_or_default()) {
        Ok(value) => (value, None),
        Err(undecoded) => (Value::Null, Some(undecoded)),
    };
    if let Some(undecoded) = undecoded.as_ref().filter(|_| !status.is_bad()) {
        status = undecoded.status();
    } else if status.is_good() && !decoding.status.is_good() {
        // A value within the value is worse than the whole is said to be.
        status = decoding.status;
    }
    Sample { value, status: Status::from_code(status.bits()), time, undecoded }
}

/// Returns the value of a variant, without a status of its own.
pub(crate) fn value(variant: Variant, reader: Reader<'_>) -> Result<Value, Undecoded> {
    Decoding::new(reader).value(variant)
}

/// Returns whether there may be a structure in a value, for which a layout is needed.
pub(crate) fn may_hold_structure(variant: &Variant) -> bool {
    match variant {
        Variant::ExtensionObject(_) | Variant::Variant(_) | Variant::DataValue(_) => true,
        Variant::Array(array) => array.values.first().is_some_and(may_hold_structure),
        _ => false,
    }
}

/// Returns the time, unless it is one of the two that mean "none" (OPC 10000-6, section 5.2.2.5).
fn timestamp(time: DateTime) -> Option<Timestamp> {
    let ticks = time.ticks();
    (ticks > 0 && ticks < END_TICKS)
        .then(|| Timestamp::from_unix_micros((ticks - UNIX_EPOCH_TICKS).div_euclid(10)))
}

/// One value being read.
pub(super) struct Decoding<'a> {
    pub(super) reader: Reader<'a>,
    /// The worst status of the data values within the value.
    status: StatusCode,
    /// Structures around the present one.
    pub(super) depth: usize,
    /// Fields and elements that may follow: no more than the structure has bytes.
    pub(super) fields_left: usize,
}

impl<'a> Decoding<'a> {
    fn new(reader: Reader<'a>) -> Self {
        Self { reader, status: StatusCode::Good, depth: 0, fields_left: 0 }
    }

    pub(super) fn value(&mut self, variant: Variant) -> Result<Value, Undecoded> {
        let namespaces = self.reader.namespaces;
        Ok(match variant {
            Variant::Empty => Value::Null,
            Variant::Boolean(truth) => Value::Boolean(truth),
            Variant::SByte(number) => Value::Integer(number.into()),
            Variant::Byte(number) => Value::Integer(number.into()),
            Variant::Int16(number) => Value::Integer(number.into()),
            Variant::UInt16(number) => Value::Integer(number.into()),
            Variant::Int32(number) => Value::Integer(number.into()),
            Variant::UInt32(number) => Value::Integer(number.into()),
            Variant::Int64(number) => Value::Integer(number),
            Variant::UInt64(number) => Value::unsigned(number),
            Variant::Float(number) => Value::Float(number),
            Variant::Double(number) => Value::Double(number),
            Variant::String(text) => string(text.value().as_deref()),
            Variant::XmlElement(text) if text == XmlElement::null() => Value::Null,
            Variant::XmlElement(text) => Value::string(&text.to_string()),
            Variant::DateTime(time) => date_time(*time),
            Variant::Guid(guid) => Value::string(&guid.to_string()),
            Variant::StatusCode(status) => Value::Integer(status.bits().into()),
            Variant::ByteString(bytes) => {
                bytes.value.map_or(Value::Null, |bytes| Value::Bytes(Bytes::from(bytes)))
            }
            Variant::QualifiedName(name) => string(name.name.value().as_deref()),
            Variant::LocalizedText(text) => string(text.text.value().as_deref()),
            Variant::NodeId(node) => Value::String(namespaces.text(&node).into()),
            Variant::ExpandedNodeId(node) => Value::String(namespaces.expanded_text(&node).into()),
            Variant::Variant(inner) => self.value(*inner)?,
            Variant::DataValue(inner) => self.data_value(*inner)?,
            Variant::Array(array) => self.array(*array)?,
            Variant::ExtensionObject(object) => self.structure(object)?,
            Variant::DiagnosticInfo(_) => return Err(Undecoded::NoForm),
        })
    }

    /// Takes the value out of a data value within a value; its status counts for the whole.
    fn data_value(&mut self, data: DataValue) -> Result<Value, Undecoded> {
        let severity = |status: StatusCode| status.bits() >> 30;
        let status = data.status.unwrap_or(StatusCode::Good);
        if severity(status) > severity(self.status) {
            self.status = status;
        }
        self.value(data.value.unwrap_or_default())
    }

    /// Turns an array into nested ones, one level for each dimension.
    fn array(&mut self, array: Array) -> Result<Value, Undecoded> {
        let values =
            array.values.into_iter().map(|item| self.value(item)).collect::<Result<Vec<_>, _>>()?;
        let dimensions: Vec<usize> =
            array.dimensions.unwrap_or_default().into_iter().map(|n| n as usize).collect();
        Ok(nested(values, &dimensions))
    }
}

fn string(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::string)
}

/// Writes a time with all its seven digits, as many as are not zero but at least three.
fn date_time(time: DateTime) -> Value {
    let ticks = time.ticks();
    if ticks <= 0 {
        return Value::Null;
    }
    let ticks = ticks - UNIX_EPOCH_TICKS;
    let micros = Timestamp::from_unix_micros(ticks.div_euclid(10)).to_string();
    match ticks.rem_euclid(10) {
        0 => Value::string(&micros),
        last => {
            let seconds = micros.split('.').next().expect("a split has a first part");
            Value::String(
                format!("{seconds}.{:06}{last}Z", ticks.div_euclid(10).rem_euclid(1_000_000))
                    .into(),
            )
        }
    }
}

/// More dimensions stay flat: each is a level of the value, and a few bytes may claim tens of thousands.
const DIMENSIONS_MAX: usize = 8;

/// Puts the elements of a matrix into nested arrays; dimensions that do not fit, or are too many, leave a flat one.
pub(super) fn nested(values: Vec<Value>, dimensions: &[usize]) -> Value {
    let product = dimensions.iter().try_fold(1_usize, |product, n| product.checked_mul(*n));
    let is_matrix = (2..=DIMENSIONS_MAX).contains(&dimensions.len());
    if !is_matrix || values.is_empty() || product != Some(values.len()) {
        return Value::Array(values.into());
    }
    let mut level = values;
    for &length in dimensions[1..].iter().rev() {
        let mut rest = level.into_iter();
        let mut rows = Vec::new();
        while rest.len() > 0 {
            rows.push(Value::Array(rest.by_ref().take(length).collect()));
        }
        level = rows;
    }
    Value::Array(level.into())
}

#[cfg(test)]
mod tests;
