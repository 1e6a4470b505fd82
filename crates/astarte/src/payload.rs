//! Payloads of data: one BSON document `{v, t}`, or nothing at all for a property that is unset.

use std::sync::Arc;

use thiserror::Error;
use tidegate_model::{Document, Timestamp, Value};
use tidegate_uplink::{
    bson::{Element, Elements, Writer, check},
    decoder::{DecodeError, Limits},
};

use crate::{Content, Interface, Target, ValueError};

/// The largest payload that brokers take.
pub const PAYLOAD_BYTES_MAX: usize = 65_535;

/// What data may be at most when it comes down.
const LIMITS: Limits =
    Limits { wire: PAYLOAD_BYTES_MAX, inflated: 0, ratio: 0, depth: 4, elements: 65_536 };

/// Why data cannot be sent, or was not understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PayloadError {
    /// A value does not fit its type.
    #[error("the value {0}")]
    Value(#[source] ValueError),
    /// A member of an object does not fit its type.
    #[error("the member `{key}` {problem}")]
    Member {
        /// Which one.
        key: Arc<str>,
        /// Why.
        problem: ValueError,
    },
    /// An object has a member that the interface does not know.
    #[error("the interface has no member `{0}`")]
    UnknownMember(Arc<str>),
    /// An object lacks a member.
    #[error("the required member `{0}` is missing")]
    MissingMember(Arc<str>),
    /// An object has no members.
    #[error("an object without members says nothing")]
    NoMembers,
    /// There is no value, and the mapping does not allow to unset.
    #[error("there is no value, and this path cannot be unset")]
    NoValue,
    /// It is too large.
    #[error("the payload has {0} bytes; 65535 are allowed")]
    TooLarge(usize),
    /// It is no BSON, or none that stands for data.
    #[error("the payload {0}")]
    Malformed(#[source] DecodeError),
    /// The document has no member `v`.
    #[error("the payload has no member `v`")]
    NoData,
}

/// What came down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// The value; `None` unsets a property.
    pub value: Option<Value>,
    /// The sender's time, if it is told.
    pub time: Option<Timestamp>,
}

/// Writes the payload of a value at a path. [`Value::Null`] unsets a property that allows it.
///
/// The time is told where the mapping has explicit timestamps.
///
/// # Errors
///
/// [`PayloadError`]: what the far side would not take.
pub fn encode(
    interface: &Interface,
    target: Target<'_>,
    value: &Value,
    time: Timestamp,
) -> Result<Vec<u8>, PayloadError> {
    let mapping = target.mapping();
    if *value == Value::Null {
        let may_unset = interface.content() == Content::Properties && mapping.allow_unset;
        return if may_unset { Ok(Vec::new()) } else { Err(PayloadError::NoValue) };
    }
    let mut payload = Vec::new();
    let mut writer = Writer::new(&mut payload);
    let document = writer.begin();
    match target {
        Target::Value(mapping) => {
            mapping.value_type.write(&mut writer, b"v", value).map_err(PayloadError::Value)?;
        }
        Target::Object(_) => write_object(interface, &mut writer, value)?,
    }
    if interface.content() == Content::Datastream && mapping.explicit_timestamp {
        writer.datetime(b"t", time.as_unix_millis());
    }
    writer.end(document);
    match payload.len() {
        length if length > PAYLOAD_BYTES_MAX => Err(PayloadError::TooLarge(length)),
        _ => Ok(payload),
    }
}

fn write_object(
    interface: &Interface,
    writer: &mut Writer<'_>,
    value: &Value,
) -> Result<(), PayloadError> {
    let Value::Document(members) = value else {
        let found = value.type_name();
        return Err(PayloadError::Value(ValueError::Kind { found, wanted: "object" }));
    };
    if members.is_empty() {
        return Err(PayloadError::NoMembers);
    }
    check_required(interface, members)?;
    let object = writer.begin_document(b"v");
    for (key, member) in members.iter() {
        let mapping =
            interface.member(key).ok_or_else(|| PayloadError::UnknownMember(key.clone()))?;
        mapping
            .value_type
            .write(writer, key.as_bytes(), member)
            .map_err(|problem| PayloadError::Member { key: key.clone(), problem })?;
    }
    writer.end(object);
    Ok(())
}

fn check_required(interface: &Interface, members: &Document) -> Result<(), PayloadError> {
    let required = interface.mappings().iter().filter(|mapping| mapping.required);
    for key in required.filter_map(|mapping| mapping.endpoint.key()) {
        if members.get(key).is_none() {
            return Err(PayloadError::MissingMember(key.into()));
        }
    }
    Ok(())
}

/// Reads a payload that came for a path. Nothing is built before its lengths and depth are known to be sound.
///
/// # Errors
///
/// [`PayloadError`]: it does not fit the interface, or is no data at all.
pub fn decode(
    interface: &Interface,
    target: Target<'_>,
    payload: &[u8],
) -> Result<Data, PayloadError> {
    if payload.is_empty() {
        let may_unset = interface.content() == Content::Properties && target.mapping().allow_unset;
        return if may_unset {
            Ok(Data { value: None, time: None })
        } else {
            Err(PayloadError::NoValue)
        };
    }
    if payload.len() > LIMITS.wire {
        return Err(PayloadError::TooLarge(payload.len()));
    }
    check(payload, &LIMITS).map_err(PayloadError::Malformed)?;
    let (mut value, mut time) = (None, None);
    for element in Elements::new(payload) {
        match element.map_err(PayloadError::Malformed)? {
            ("v", element) => value = Some(read_value(interface, target, element)?),
            ("t", Element::Datetime(millis)) => time = Some(Timestamp::from_unix_millis(millis)),
            _ => {}
        }
    }
    match value {
        Some(value) => Ok(Data { value: Some(value), time }),
        None => Err(PayloadError::NoData),
    }
}

fn read_value(
    interface: &Interface,
    target: Target<'_>,
    element: Element<'_>,
) -> Result<Value, PayloadError> {
    let members = match (target, element) {
        (Target::Value(mapping), element) => {
            return mapping.value_type.read(element).map_err(PayloadError::Value);
        }
        (Target::Object(_), Element::Document(members)) => members,
        (Target::Object(_), _) => {
            let problem = ValueError::Kind { found: "another value", wanted: "object" };
            return Err(PayloadError::Value(problem));
        }
    };
    let mut read: Vec<(Arc<str>, Value)> = Vec::new();
    for member in members {
        let (key, element) = member.map_err(PayloadError::Malformed)?;
        let mapping =
            interface.member(key).ok_or_else(|| PayloadError::UnknownMember(key.into()))?;
        let value = mapping
            .value_type
            .read(element)
            .map_err(|problem| PayloadError::Member { key: key.into(), problem })?;
        read.push((key.into(), value));
    }
    let document = Document::new(read).map_err(|error| {
        PayloadError::Malformed(DecodeError::Content { problem: error.to_string() })
    })?;
    check_required(interface, &document)?;
    Ok(Value::Document(Arc::new(document)))
}
