//! Payloads: what they hold (section 6 of the specification; the schema of `org.eclipse.tahu.protobuf`).
//!
//! Every field may be absent, and 0 or false is not the same as absent. Data sets and templates are kept as the bytes
//! that they are: a gateway neither makes nor takes them.

mod decode;
mod encode;

use std::sync::Arc;

use bytes::Bytes;

pub use decode::{DecodeError, Limits};
pub(crate) use encode::Draft;

/// What a message of an edge node or a command holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Payload {
    /// When it was sent, in milliseconds since 1970.
    pub timestamp: Option<u64>,
    /// Values, with their names or aliases.
    pub metrics: Vec<Metric>,
    /// The number of the message in its session, 0 to 255.
    pub seq: Option<u64>,
    /// What kind of `body` it is.
    pub uuid: Option<Arc<str>>,
    /// Bytes with a meaning of their own.
    pub body: Option<Bytes>,
}

/// One value of one metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metric {
    /// Its name; in births always.
    pub name: Option<Arc<str>>,
    /// A number that stands for the name in this session.
    pub alias: Option<u64>,
    /// When it was acquired, in milliseconds since 1970.
    pub timestamp: Option<u64>,
    /// The code of its type; see [`DataType`](crate::DataType).
    pub datatype: Option<u32>,
    /// Whether it is not the present value.
    pub is_historical: Option<bool>,
    /// Whether hosts are not to store it.
    pub is_transient: Option<bool>,
    /// Whether there is no value.
    pub is_null: Option<bool>,
    /// What is said of parts and files.
    pub metadata: Option<MetaData>,
    /// What else is said of it, such as its quality.
    pub properties: Option<PropertySet>,
    /// The value.
    pub value: Option<MetricValue>,
}

/// A value in the field that it stands in: signed integers are two's complement.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names of the schema")]
pub enum MetricValue {
    Int(u32),
    Long(u64),
    Float(f32),
    Double(f64),
    Boolean(bool),
    String(Arc<str>),
    Bytes(Bytes),
    /// As encoded.
    DataSet(Bytes),
    /// As encoded.
    Template(Bytes),
}

impl MetricValue {
    /// Returns about how many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::String(text) => text.len(),
            Self::Bytes(bytes) | Self::DataSet(bytes) | Self::Template(bytes) => bytes.len(),
            Self::Int(_) | Self::Long(_) | Self::Float(_) | Self::Double(_) | Self::Boolean(_) => {
                10
            }
        }
    }
}

/// What is said of a part of something larger, or of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the schema")]
pub struct MetaData {
    pub is_multi_part: Option<bool>,
    pub content_type: Option<Arc<str>>,
    pub size: Option<u64>,
    pub seq: Option<u64>,
    pub file_name: Option<Arc<str>>,
    pub file_type: Option<Arc<str>>,
    pub md5: Option<Arc<str>>,
    pub description: Option<Arc<str>>,
}

/// Named properties of a metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PropertySet {
    /// The properties in order, with their names.
    pub entries: Vec<(Arc<str>, Property)>,
}

/// A property.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Property {
    /// The code of its type.
    pub datatype: Option<u32>,
    /// Whether there is no value.
    pub is_null: Option<bool>,
    /// The value.
    pub value: Option<PropertyValue>,
}

/// The value of a property, in the field that it stands in.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names of the schema")]
pub enum PropertyValue {
    Int(u32),
    Long(u64),
    Float(f32),
    Double(f64),
    Boolean(bool),
    String(Arc<str>),
    /// As encoded.
    Set(Bytes),
    /// As encoded.
    SetList(Bytes),
}

impl PropertySet {
    /// Returns the property with this name.
    pub fn get(&self, name: &str) -> Option<&Property> {
        self.entries.iter().find(|(key, _)| &**key == name).map(|(_, property)| property)
    }
}
