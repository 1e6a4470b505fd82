//! From bytes of a stranger to payloads: counted before anything is made of them, unknown fields skipped.

use bytes::Bytes;
use thiserror::Error;

use super::{MetaData, Metric, MetricValue, Payload, Property, PropertySet, PropertyValue};
use crate::wire::{Content, Reader};

/// Why bytes are not a payload that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// They do not follow the schema.
    #[error("is not a payload of Sparkplug B")]
    Malformed,
    /// Text in them is not UTF-8.
    #[error("holds text that is not UTF-8")]
    NotText,
    /// There are more of them than are taken.
    #[error("has {bytes} bytes, at most {limit} are taken")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many may be.
        limit: usize,
    },
    /// There are more metrics or properties than are taken.
    #[error("holds more than {limit} metrics and properties")]
    TooMany {
        /// How many may be.
        limit: usize,
    },
}

/// How much of a stranger's payload is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes as they came in.
    pub bytes: usize,
    /// Metrics and properties of metrics together.
    pub parts: usize,
}

impl Limits {
    /// What a command may have.
    pub const COMMAND: Self = Self { bytes: 256 << 10, parts: 1_024 };
    /// What the gateway has written itself.
    pub const OWN: Self = Self { bytes: usize::MAX, parts: usize::MAX };
}

/// How many parts may still be made.
struct Budget {
    left: usize,
    limit: usize,
}

impl Budget {
    fn take(&mut self) -> Result<(), DecodeError> {
        let left = self.left.checked_sub(1).ok_or(DecodeError::TooMany { limit: self.limit })?;
        self.left = left;
        Ok(())
    }
}

impl Payload {
    /// Reads a payload. Bytes in it share the memory of `bytes`.
    ///
    /// Of a field that comes twice the last one counts, as the encoding has it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; nothing is made for what is only announced.
    pub fn decode(bytes: Bytes, limits: Limits) -> Result<Self, DecodeError> {
        if bytes.len() > limits.bytes {
            return Err(DecodeError::TooLarge { bytes: bytes.len(), limit: limits.bytes });
        }
        let mut budget = Budget { left: limits.parts, limit: limits.parts };
        let mut payload = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((field, content)) = reader.next()? {
            match field {
                1 => payload.timestamp = Some(content.number()?),
                2 => {
                    budget.take()?;
                    payload.metrics.push(Metric::decode(content.bytes()?, &mut budget)?);
                }
                3 => payload.seq = Some(content.number()?),
                4 => payload.uuid = Some(content.text()?),
                5 => payload.body = Some(content.bytes()?),
                _ => {}
            }
        }
        Ok(payload)
    }
}

impl Metric {
    fn decode(bytes: Bytes, budget: &mut Budget) -> Result<Self, DecodeError> {
        let mut metric = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((field, content)) = reader.next()? {
            match field {
                1 => metric.name = Some(content.text()?),
                2 => metric.alias = Some(content.number()?),
                3 => metric.timestamp = Some(content.number()?),
                4 => metric.datatype = Some(content.number_u32()?),
                5 => metric.is_historical = Some(content.flag()?),
                6 => metric.is_transient = Some(content.flag()?),
                7 => metric.is_null = Some(content.flag()?),
                8 => metric.metadata = Some(MetaData::decode(content.bytes()?)?),
                9 => metric.properties = Some(PropertySet::decode(content.bytes()?, budget)?),
                10..=18 => metric.value = Some(MetricValue::decode(field, content)?),
                _ => {}
            }
        }
        Ok(metric)
    }
}

impl MetricValue {
    fn decode(field: u32, content: Content) -> Result<Self, DecodeError> {
        Ok(match field {
            10 => Self::Int(content.number_u32()?),
            11 => Self::Long(content.number()?),
            12 => Self::Float(content.float()?),
            13 => Self::Double(content.double()?),
            14 => Self::Boolean(content.flag()?),
            15 => Self::String(content.text()?),
            16 => Self::Bytes(content.bytes()?),
            17 => Self::DataSet(content.bytes()?),
            _ => Self::Template(content.bytes()?),
        })
    }
}

impl MetaData {
    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut metadata = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((field, content)) = reader.next()? {
            match field {
                1 => metadata.is_multi_part = Some(content.flag()?),
                2 => metadata.content_type = Some(content.text()?),
                3 => metadata.size = Some(content.number()?),
                4 => metadata.seq = Some(content.number()?),
                5 => metadata.file_name = Some(content.text()?),
                6 => metadata.file_type = Some(content.text()?),
                7 => metadata.md5 = Some(content.text()?),
                8 => metadata.description = Some(content.text()?),
                _ => {}
            }
        }
        Ok(metadata)
    }
}

impl PropertySet {
    fn decode(bytes: Bytes, budget: &mut Budget) -> Result<Self, DecodeError> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut reader = Reader::new(bytes);
        while let Some((field, content)) = reader.next()? {
            match field {
                1 => {
                    budget.take()?;
                    keys.push(content.text()?);
                }
                2 => {
                    budget.take()?;
                    values.push(Property::decode(content.bytes()?)?);
                }
                _ => {}
            }
        }
        if keys.len() != values.len() {
            return Err(DecodeError::Malformed);
        }
        Ok(Self { entries: keys.into_iter().zip(values).collect() })
    }
}

impl Property {
    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut property = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((field, content)) = reader.next()? {
            match field {
                1 => property.datatype = Some(content.number_u32()?),
                2 => property.is_null = Some(content.flag()?),
                3..=10 => property.value = Some(PropertyValue::decode(field, content)?),
                _ => {}
            }
        }
        Ok(property)
    }
}

impl PropertyValue {
    fn decode(field: u32, content: Content) -> Result<Self, DecodeError> {
        Ok(match field {
            3 => Self::Int(content.number_u32()?),
            4 => Self::Long(content.number()?),
            5 => Self::Float(content.float()?),
            6 => Self::Double(content.double()?),
            7 => Self::Boolean(content.flag()?),
            8 => Self::String(content.text()?),
            9 => Self::Set(content.bytes()?),
            _ => Self::SetList(content.bytes()?),
        })
    }
}
