//! The vocabulary that every part of the gateway shares.
//!
//! Plain values and the rules that make them valid; no runtime, no sockets, no clock, and no derived
//! serialization: what goes on a wire or a disk has types of its own.

pub mod json;

mod captures;
mod command;
mod credential_id;
mod each;
mod glob;
mod message;
mod name_template;
mod names;
mod node_pattern;
mod path_pattern;
mod payload_format;
mod peer_name;
mod reading;
mod status;
mod text;
mod timestamp;
mod topic;
mod value;
mod value_type;

pub use captures::{CaptureName, CaptureNameError, Captures};
pub use command::{Command, CommandId, CommandIdError, CommandKind, CommandOutcome, OutcomeKind};
pub use credential_id::CredentialId;
pub use each::{Each, EachError, expand};
pub use glob::Glob;
pub use message::{Message, Payload, Presentation, Properties, Qos};
pub use name_template::{NameTemplate, NameTemplateError};
pub use names::{AdapterName, ClientId, NameError, Principal, Unit, UplinkName};
pub use node_pattern::{Identifier, NodeAddress, NodePattern, NodePatternError};
pub use path_pattern::{PathPattern, PathPatternError};
pub use payload_format::PayloadFormat;
pub use peer_name::{InvalidPeerName, PeerName, PeerNames};
pub use reading::{Clock, Origin, Reading};
pub use status::{Quality, Status};
pub use text::value_from_text;
pub use timestamp::{Timestamp, TimestampError};
pub use topic::{Topic, TopicError, TopicFilter, TopicFilterError};
pub use value::{Document, DuplicateName, Value};
pub use value_type::{TypeMismatch, UnknownValueType, ValueType};
