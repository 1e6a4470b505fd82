//! What the body of a request says: from bytes to readings, the same for every protocol with bodies.

pub mod cbor;

mod media_type;
mod senml;

use bytes::Bytes;
use thiserror::Error;
use tidegate_model::{
    AdapterName, Captures, Each, EachError, Origin, PayloadFormat, Reading, Status, Timestamp,
    TypeMismatch, Value, expand,
    json::{JsonError, parse_value},
    value_from_text,
};

pub use cbor::CborError;
pub use media_type::{Announced, MediaType};
pub use senml::SenmlError;

use crate::{PathPoint, PointId, PointReading};

/// Most readings that one body may hold.
pub const READINGS_MAX: usize = 4_096;

/// Why a body gives no readings. The text is for the sender.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The sender names a format that the resource does not take.
    #[error("unsupported format; use plain text, JSON, CBOR, SenML (JSON, CBOR) or bytes")]
    Unsupported,
    /// A text is not UTF-8.
    #[error("the text is not UTF-8, see byte {at}")]
    NotText {
        /// The first byte at fault, counted from 0.
        at: usize,
    },
    /// The body is not JSON.
    #[error("not JSON: {0}")]
    Json(JsonError),
    /// The body is not CBOR.
    #[error("not CBOR: {0}")]
    Cbor(CborError),
    /// The body is no SenML pack.
    #[error("not SenML: {0}")]
    Senml(SenmlError),
    /// The text is not of the type that the mapping asks for.
    #[error("{0}")]
    Type(TypeMismatch),
    /// The body has no members to take apart.
    #[error("{0}")]
    Each(EachError),
    /// The body holds too many readings.
    #[error("more than {READINGS_MAX} readings in one request")]
    TooMany,
}

impl PayloadError {
    /// Returns the key of the mapping that the body does not meet, if it is one: `each` or `type`.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::Each(_) | Self::Senml(SenmlError::SeveralRecords { .. }) => Some("each"),
            Self::Type(_) => Some("type"),
            _ => None,
        }
    }
}

/// A body as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// Its bytes.
    pub bytes: &'a Bytes,
    /// The format that the sender names.
    pub announced: Announced,
    /// When it arrived.
    pub arrival: Timestamp,
    /// The adapter that took it.
    pub adapter: &'a AdapterName,
}

/// A value with what a body may say beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    /// The name of the member, with `each`.
    member: Option<std::sync::Arc<str>>,
    value: Value,
    time: Option<Timestamp>,
    unit: Option<tidegate_model::Unit>,
}

impl Item {
    fn plain(value: Value) -> Self {
        Self { member: None, value, time: None, unit: None }
    }
}

impl Body<'_> {
    /// Reads the body as readings of `point`, in its own order; at least one.
    ///
    /// The `payload` of the mapping decides how, whatever the sender announces; without it the announced
    /// format does, and plain text is assumed where nothing is announced. `null` is a reading of bad
    /// quality. A unit in the body goes before that of the mapping.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Unsupported`] for a format that is not known; any other variant if the body is not
    /// what it should be. Nothing of it is then to be handed in.
    pub fn read(
        &self,
        id: PointId,
        point: &PathPoint,
        captures: &Captures,
    ) -> Result<Vec<PointReading>, PayloadError> {
        let items = self.items(point)?;
        if items.len() > READINGS_MAX {
            return Err(PayloadError::TooMany);
        }
        Ok(items.into_iter().map(|item| self.reading(id, point, captures, item)).collect())
    }

    fn items(&self, point: &PathPoint) -> Result<Vec<Item>, PayloadError> {
        let value = match self.media_type(point)? {
            MediaType::Text => {
                let text = std::str::from_utf8(self.bytes)
                    .map_err(|error| PayloadError::NotText { at: error.valid_up_to() })?;
                value_from_text(text, point.text_type).map_err(PayloadError::Type)?
            }
            MediaType::Json => parse_value(self.bytes).map_err(PayloadError::Json)?,
            MediaType::Cbor => cbor::parse_value(self.bytes).map_err(PayloadError::Cbor)?,
            MediaType::OctetStream => Value::Bytes(self.bytes.clone()),
            MediaType::SenmlJson => {
                let pack = parse_value(self.bytes).map_err(PayloadError::Json)?;
                return senml::items(&pack, self.arrival, point.each).map_err(PayloadError::Senml);
            }
            MediaType::SenmlCbor => {
                let pack = cbor::parse_senml(self.bytes).map_err(PayloadError::Cbor)?;
                return senml::items(&pack, self.arrival, point.each).map_err(PayloadError::Senml);
            }
        };
        match point.each {
            None => Ok(vec![Item::plain(value)]),
            Some(each) => members(&value, each),
        }
    }

    fn media_type(&self, point: &PathPoint) -> Result<MediaType, PayloadError> {
        Ok(match (point.payload, self.announced) {
            (Some(PayloadFormat::Text), _) | (None, Announced::Nothing) => MediaType::Text,
            (Some(PayloadFormat::Json), _) => MediaType::Json,
            (Some(PayloadFormat::Cbor), _) => MediaType::Cbor,
            (Some(PayloadFormat::Raw), _) => MediaType::OctetStream,
            (
                Some(PayloadFormat::Senml),
                Announced::Known(MediaType::SenmlCbor | MediaType::Cbor),
            ) => MediaType::SenmlCbor,
            (
                Some(PayloadFormat::Senml),
                Announced::Known(MediaType::SenmlJson | MediaType::Json),
            ) => MediaType::SenmlJson,
            // Both forms are arrays, and JSON text never begins with a CBOR array head (0x80 to 0x9F).
            (Some(PayloadFormat::Senml), _) => match self.bytes.first() {
                Some(0x80..=0x9F) => MediaType::SenmlCbor,
                _ => MediaType::SenmlJson,
            },
            (None, Announced::Known(media_type)) => media_type,
            (None, Announced::Unknown) => return Err(PayloadError::Unsupported),
        })
    }

    fn reading(
        &self,
        point: PointId,
        address: &PathPoint,
        captures: &Captures,
        item: Item,
    ) -> PointReading {
        let origin = Origin { adapter: self.adapter.clone() };
        let mut reading = Reading::new(item.value, self.arrival, origin);
        if reading.value == Value::Null {
            reading.status = Status::BAD;
        }
        reading.source_time = item.time;
        reading.unit = item.unit.or_else(|| address.unit.clone());
        let captures = match item.member {
            Some(member) => captures.with(&member),
            None => captures.clone(),
        };
        PointReading { point, captures, reading }
    }
}

fn members(value: &Value, each: Each) -> Result<Vec<Item>, PayloadError> {
    let members = expand(value, each).map_err(PayloadError::Each)?;
    Ok(members
        .into_iter()
        .map(|(name, value)| Item { member: Some(name), ..Item::plain(value) })
        .collect())
}

#[cfg(test)]
mod tests;
