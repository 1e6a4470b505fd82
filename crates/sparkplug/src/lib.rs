//! Sparkplug B (Eclipse Sparkplug 3.0.0): payloads, topics, and the session of an edge node, without I/O.
//!
//! [`Payload`] is read and written by a small codec of our own: a library that takes a message apart field by field has
//! made a vector of what a peer announces before anybody can count it (`docs/decisions/0026-sparkplug.md`). [`Session`]
//! is one connection of an edge node as a state machine: readings and what the broker brings go in, messages and
//! [`Event`]s come out; [`Memory`] is what outlives it.

mod array;
mod catalog;
mod datatype;
mod memory;
mod naming;
mod payload;
mod session;
mod settings;
mod state;
mod topic;
mod wire;

pub use catalog::{BLOCK_METRICS, METRICS_MAX};
pub use datatype::DataType;
pub use memory::{BdSeq, Kept, Memory};
pub use naming::{DeviceRule, NamingError, Place};
pub use payload::{
    DecodeError, Limits, MetaData, Metric, MetricValue, Payload, Property, PropertySet,
    PropertyValue,
};
pub use session::{Event, Message, Moment, Row, Session};
pub use settings::Settings;
pub use state::{HostState, StateVersion};
pub use topic::{Id, IdError, MessageType, Node};

#[cfg(test)]
mod tests;
