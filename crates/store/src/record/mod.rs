//! The body of a data record: a message, in a compact form of its own.
//!
//! ```text
//! version │ flags │ arrival │ topic │ publisher │ properties, if any │ payload
//! ```
//!
//! The payload is the published bytes up to the end, or a typed reading: what an adapter produced is
//! stored as it is and never parsed again. Numbers are varints, doubles keep their bits, and every
//! length, count and depth is checked when a body is read.

mod reading;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{
    AdapterName, Message, Payload, Presentation, Principal, Properties, Qos, Timestamp, Topic, Unit,
};

use crate::input::{Input, Malformed, put_bytes, put_varint};

/// The version of the form of bodies.
const VERSION: u8 = 1;
/// How deep arrays and documents may be nested.
pub const VALUE_DEPTH_MAX: usize = 64;
/// How many names of each kind a decoder remembers.
const NAMES_KEPT: usize = 512;

const QOS_BITS: u8 = 0b0000_0011;
const RETAIN: u8 = 0b0000_0100;
const HAS_PROPERTIES: u8 = 0b0000_1000;
const IS_READING: u8 = 0b0001_0000;
const SHOWN_AS_VALUE: u8 = 0b0010_0000;

/// A message cannot be made into a body, or a body is not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The value of a reading is nested deeper than [`VALUE_DEPTH_MAX`].
    #[error("a value is nested deeper than {VALUE_DEPTH_MAX} levels")]
    TooDeep,
    /// A later version of the gateway wrote the body.
    #[error("the record has version {version}, this version knows {VERSION} at most")]
    NewerVersion {
        /// Its version.
        version: u8,
    },
    /// The bytes are no message.
    #[error("the record is malformed")]
    Malformed,
}

impl From<Malformed> for RecordError {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// Appends the body of a message to `body`.
///
/// # Errors
///
/// [`RecordError::TooDeep`]; `body` is as it was.
pub fn encode_message(message: &Message, body: &mut Vec<u8>) -> Result<(), RecordError> {
    let start = body.len();
    let reading = message.payload.as_reading();
    let mut flags = message.qos.bits();
    for (is_set, flag) in [
        (message.retain, RETAIN),
        (message.properties.is_some(), HAS_PROPERTIES),
        (reading.is_some(), IS_READING),
        (message.payload.presentation() == Some(Presentation::Value), SHOWN_AS_VALUE),
    ] {
        if is_set {
            flags |= flag;
        }
    }
    body.extend_from_slice(&[VERSION, flags]);
    put_time(body, message.arrival);
    put_bytes(body, message.topic.as_str().as_bytes());
    put_bytes(body, message.publisher.as_str().as_bytes());
    if let Some(properties) = &message.properties {
        put_properties(body, properties);
    }
    let Some(reading) = reading else {
        body.extend_from_slice(&message.payload.to_bytes());
        return Ok(());
    };
    reading::put(body, reading, message.arrival).inspect_err(|_| body.truncate(start))
}

/// Returns the topic of a body without reading the rest.
///
/// # Errors
///
/// [`RecordError::NewerVersion`] and [`RecordError::Malformed`].
pub fn topic_of(body: &[u8]) -> Result<&str, RecordError> {
    let mut input = Input::new(body);
    read_version(&mut input)?;
    input.u8()?;
    input.array::<8>()?;
    Ok(input.text()?)
}

/// Turns bodies back into messages.
///
/// It remembers some names, as topics, publishers, units and adapters recur, so that most messages
/// share them instead of allocating anew.
#[derive(Debug)]
pub struct MessageDecoder {
    topics: Names<Topic>,
    principals: Names<Principal>,
    units: Names<Unit>,
    adapters: Names<AdapterName>,
}

impl Default for MessageDecoder {
    fn default() -> Self {
        Self {
            topics: Names::new(|text| Topic::new(text).ok()),
            principals: Names::new(|text| Principal::new(text).ok()),
            units: Names::new(|text| Unit::new(text).ok()),
            adapters: Names::new(|text| AdapterName::new(text).ok()),
        }
    }
}

impl MessageDecoder {
    /// Starts without any names.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the message of a body. Payload bytes are shared with `body`, not copied.
    ///
    /// # Errors
    ///
    /// [`RecordError::NewerVersion`] and [`RecordError::Malformed`].
    pub fn decode(&mut self, body: &Bytes) -> Result<Message, RecordError> {
        let mut input = Input::new(body);
        read_version(&mut input)?;
        let flags = input.u8()?;
        let qos = Qos::from_bits(flags & QOS_BITS).ok_or(Malformed)?;
        let arrival = read_time(&mut input)?;
        let topic = self.topics.find(input.text()?)?;
        let publisher = self.principals.find(input.text()?)?;
        let properties = if flags & HAS_PROPERTIES == 0 {
            None
        } else {
            Some(Arc::new(read_properties(&mut input, body)?))
        };
        let payload = if flags & IS_READING == 0 {
            Payload::bytes(body.slice(body.len() - input.len()..))
        } else {
            let presentation = if flags & SHOWN_AS_VALUE == 0 {
                Presentation::Envelope
            } else {
                Presentation::Value
            };
            let reading = reading::read(&mut input, body, arrival, self)?;
            if !input.is_empty() {
                return Err(RecordError::Malformed);
            }
            Payload::reading(reading, presentation)
        };
        let retain = flags & RETAIN != 0;
        Ok(Message { topic, payload, qos, retain, properties, publisher, arrival })
    }
}

/// Recently used names of one kind.
#[derive(Debug)]
struct Names<T> {
    slots: Vec<Option<T>>,
    parse: fn(&str) -> Option<T>,
}

impl<T: Clone + AsRef<str>> Names<T> {
    fn new(parse: fn(&str) -> Option<T>) -> Self {
        Self { slots: Vec::new(), parse }
    }

    /// Returns a name, remembered if possible.
    fn find(&mut self, text: &str) -> Result<T, Malformed> {
        if self.slots.is_empty() {
            self.slots.resize_with(NAMES_KEPT, || None);
        }
        let slot = &mut self.slots[crc32c::crc32c(text.as_bytes()) as usize % NAMES_KEPT];
        if let Some(name) = slot
            && name.as_ref() == text
        {
            return Ok(name.clone());
        }
        let name = (self.parse)(text).ok_or(Malformed)?;
        *slot = Some(name.clone());
        Ok(name)
    }
}

fn read_version(input: &mut Input<'_>) -> Result<(), RecordError> {
    match input.u8()? {
        VERSION => Ok(()),
        0 => Err(RecordError::Malformed),
        version => Err(RecordError::NewerVersion { version }),
    }
}

fn put_time(body: &mut Vec<u8>, time: Timestamp) {
    body.extend_from_slice(&time.as_unix_micros().to_le_bytes());
}

fn read_time(input: &mut Input<'_>) -> Result<Timestamp, Malformed> {
    Ok(Timestamp::from_unix_micros(i64::from_le_bytes(input.array()?)))
}

const PAYLOAD_IS_UTF8: u8 = 0b0000_0001;
const HAS_EXPIRES: u8 = 0b0000_0010;
const HAS_CONTENT_TYPE: u8 = 0b0000_0100;
const HAS_RESPONSE_TOPIC: u8 = 0b0000_1000;
const HAS_CORRELATION_DATA: u8 = 0b0001_0000;

fn put_properties(body: &mut Vec<u8>, properties: &Properties) {
    let mut flags = 0;
    for (is_set, flag) in [
        (properties.payload_is_utf8, PAYLOAD_IS_UTF8),
        (properties.expires.is_some(), HAS_EXPIRES),
        (properties.content_type.is_some(), HAS_CONTENT_TYPE),
        (properties.response_topic.is_some(), HAS_RESPONSE_TOPIC),
        (properties.correlation_data.is_some(), HAS_CORRELATION_DATA),
    ] {
        if is_set {
            flags |= flag;
        }
    }
    body.push(flags);
    if let Some(expires) = properties.expires {
        put_time(body, expires);
    }
    if let Some(content_type) = &properties.content_type {
        put_bytes(body, content_type.as_bytes());
    }
    if let Some(response_topic) = &properties.response_topic {
        put_bytes(body, response_topic.as_str().as_bytes());
    }
    if let Some(correlation_data) = &properties.correlation_data {
        put_bytes(body, correlation_data);
    }
    put_varint(body, properties.user.len() as u64);
    for (name, value) in &properties.user {
        put_bytes(body, name.as_bytes());
        put_bytes(body, value.as_bytes());
    }
}

fn read_properties(input: &mut Input<'_>, body: &Bytes) -> Result<Properties, Malformed> {
    let flags = input.u8()?;
    let has = |flag: u8| flags & flag != 0;
    let mut properties =
        Properties { payload_is_utf8: has(PAYLOAD_IS_UTF8), ..Properties::default() };
    if has(HAS_EXPIRES) {
        properties.expires = Some(read_time(input)?);
    }
    if has(HAS_CONTENT_TYPE) {
        properties.content_type = Some(input.text()?.into());
    }
    if has(HAS_RESPONSE_TOPIC) {
        properties.response_topic = Some(Topic::new(input.text()?).map_err(|_| Malformed)?);
    }
    if has(HAS_CORRELATION_DATA) {
        properties.correlation_data = Some(body.slice_ref(input.bytes()?));
    }
    for _ in 0..input.varint()? {
        properties.user.push((input.text()?.into(), input.text()?.into()));
    }
    Ok(properties)
}
