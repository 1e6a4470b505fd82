//! What travels through the broker.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{Principal, Reading, Timestamp, Topic, json};

/// How often a message is delivered (MQTT 5.0, section 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// At most once.
    #[default]
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl Qos {
    /// Takes the two bits of the wire; 3 is no quality of service.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// Returns the two bits of the wire.
    pub const fn bits(self) -> u8 {
        self as u8
    }
}

/// What MQTT 5.0 lets a publisher say beside the payload (section 3.3.2.3); empty for most messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Whether the payload is said to be UTF-8 text.
    pub payload_is_utf8: bool,
    /// When the message ceases to be of use, if ever.
    pub expires: Option<Timestamp>,
    /// The MIME type of the payload.
    pub content_type: Option<Arc<str>>,
    /// Where an answer is wanted.
    pub response_topic: Option<Topic>,
    /// What an answer must carry.
    pub correlation_data: Option<Bytes>,
    /// Name and value pairs, in order; names may repeat.
    pub user: Vec<(Arc<str>, Arc<str>)>,
}

/// How a reading is shown to those who want bytes: `publish` of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presentation {
    /// The JSON envelope with value, time, quality, unit.
    #[default]
    Envelope,
    /// The bare value.
    Value,
}

/// The body of a message: bytes as published, or a typed reading whose JSON is made when first needed.
#[derive(Clone, Debug)]
pub struct Payload(Body);

#[derive(Clone, Debug)]
enum Body {
    Bytes(Bytes),
    Reading(Arc<Typed>),
}

#[derive(Debug)]
struct Typed {
    reading: Reading,
    presentation: Presentation,
    json: OnceLock<Bytes>,
}

impl Payload {
    /// Takes bytes as they were published.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self(Body::Bytes(bytes.into()))
    }

    /// Takes a typed reading.
    pub fn reading(reading: Reading, presentation: Presentation) -> Self {
        Self(Body::Reading(Arc::new(Typed { reading, presentation, json: OnceLock::new() })))
    }

    /// Returns the bytes that subscribers get. The JSON of a reading is made once and shared.
    pub fn to_bytes(&self) -> Bytes {
        self.as_bytes().clone()
    }

    /// Returns the same as [`to_bytes`](Self::to_bytes), borrowed.
    #[inline]
    pub fn as_bytes(&self) -> &Bytes {
        match &self.0 {
            Body::Bytes(bytes) => bytes,
            Body::Reading(typed) => typed.json.get_or_init(|| match typed.presentation {
                Presentation::Envelope => json::envelope(&typed.reading),
                Presentation::Value => json::bare_value(&typed.reading.value),
            }),
        }
    }

    /// Returns the typed reading, if the message came from one.
    pub fn as_reading(&self) -> Option<&Reading> {
        match &self.0 {
            Body::Bytes(_) => None,
            Body::Reading(typed) => Some(&typed.reading),
        }
    }

    /// Returns how a typed reading is shown.
    pub fn presentation(&self) -> Option<Presentation> {
        match &self.0 {
            Body::Bytes(_) => None,
            Body::Reading(typed) => Some(typed.presentation),
        }
    }

    /// Returns whether there are no bytes: a retained message without them clears its slot.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Body::Bytes(bytes) if bytes.is_empty())
    }

    /// Returns about how much memory the payload holds, in bytes.
    pub fn size_estimate(&self) -> usize {
        match &self.0 {
            Body::Bytes(bytes) => bytes.len(),
            Body::Reading(typed) => 160 + typed.json.get().map_or(0, Bytes::len),
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Body::Bytes(ours), Body::Bytes(theirs)) => ours == theirs,
            (Body::Reading(ours), Body::Reading(theirs)) => {
                ours.reading == theirs.reading && ours.presentation == theirs.presentation
            }
            _ => false,
        }
    }
}

impl Eq for Payload {}

/// One message on one topic, as the broker routes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: Topic,
    /// What it says.
    pub payload: Payload,
    /// How it was published.
    pub qos: Qos,
    /// Whether it becomes the retained message of its topic.
    pub retain: bool,
    /// What the publisher said beside it; shared, as most messages say nothing.
    pub properties: Option<Arc<Properties>>,
    /// Who published it.
    pub publisher: Principal,
    /// When the gateway received it.
    pub arrival: Timestamp,
}

impl Message {
    /// Returns whether the message has ceased to be of use at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.properties
            .as_ref()
            .and_then(|properties| properties.expires)
            .is_some_and(|expires| expires <= now)
    }
}
