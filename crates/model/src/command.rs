//! Orders to devices, and what became of them.

use std::{fmt, sync::Arc};

use thiserror::Error;

use crate::{Status, Timestamp, Value};

/// The name by which a command is executed at most once; 1 to 256 bytes of text without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(Arc<str>);

/// A text cannot be a command id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a command id has 1 to 256 bytes and no control characters")]
pub struct CommandIdError;

impl CommandId {
    /// Checks `text` and takes it as an id.
    ///
    /// # Errors
    ///
    /// [`CommandIdError`] if it is not one.
    pub fn new(text: &str) -> Result<Self, CommandIdError> {
        if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
            return Err(CommandIdError);
        }
        Ok(Self(text.into()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a command asks of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// Write the value to the point.
    Write,
    /// Call the method or send the request.
    Call,
}

/// One order to one point.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The id under which it is executed at most once, if it has one.
    pub id: Option<CommandId>,
    /// What it asks for.
    pub kind: CommandKind,
    /// The value to write. Of a call the arguments: an array in the order of the method's inputs, or a document
    /// that names them; never another kind of value.
    pub value: Value,
    /// When it ceases to be of use.
    pub expires: Timestamp,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutcomeKind {
    /// Handed to somebody who may carry it out.
    Accepted,
    /// The device says that it is done.
    Confirmed,
    /// Not carried out.
    Refused,
    /// Not carried out in time.
    Expired,
    /// Not carried out: too many are waiting.
    Busy,
}

impl OutcomeKind {
    /// Returns the word of the outcome message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Confirmed => "confirmed",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Busy => "busy",
        }
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOutcome {
    /// How it ended.
    pub kind: OutcomeKind,
    /// Why, in words, unless all is well.
    pub reason: Option<String>,
    /// The status code of the device, if it gave one.
    pub status: Option<Status>,
    /// What a call returned, if it returned anything.
    pub value: Option<Value>,
}

impl CommandOutcome {
    /// Makes an outcome without reason and status.
    pub fn new(kind: OutcomeKind) -> Self {
        Self { kind, reason: None, status: None, value: None }
    }

    /// Makes a refusal.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..Self::new(OutcomeKind::Refused) }
    }
}
