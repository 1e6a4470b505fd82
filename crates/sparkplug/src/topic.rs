//! Topics of Sparkplug, and the ids in them.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// The first level of all topics of Sparkplug B.
const NAMESPACE: &str = "spBv1.0";
/// The longest id.
const ID_BYTES_MAX: usize = 256;

/// The id of a group, an edge node, a device or a host: text that can be one level of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Arc<str>);

/// Why a text cannot be an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdError {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// It is longer than 256 bytes.
    #[error("it is longer than {ID_BYTES_MAX} bytes")]
    TooLong,
    /// It holds a character with a meaning in topics, or a control character.
    #[error("it contains {0:?}")]
    Character(char),
}

impl Id {
    /// Checks `text` and takes it as an id.
    ///
    /// # Errors
    ///
    /// [`IdError`] says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > ID_BYTES_MAX {
            return Err(IdError::TooLong);
        }
        match text.chars().find(|&it| matches!(it, '+' | '/' | '#') || it.is_control()) {
            Some(character) => Err(IdError::Character(character)),
            None => Ok(Self(text.into())),
        }
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a message is for (section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the specification")]
pub enum MessageType {
    Birth,
    Data,
    Death,
    Command,
}

impl MessageType {
    fn word(self) -> &'static str {
        match self {
            Self::Birth => "BIRTH",
            Self::Data => "DATA",
            Self::Death => "DEATH",
            Self::Command => "CMD",
        }
    }
}

/// An edge node: its group and its own id, together one of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The group.
    pub group: Id,
    /// The edge node.
    pub id: Id,
}

impl Node {
    /// Returns the topic of a message of the node itself.
    pub fn topic(&self, kind: MessageType) -> String {
        format!("{NAMESPACE}/{}/N{}/{}", self.group, kind.word(), self.id)
    }

    /// Returns the topic of a message of one of its devices.
    pub fn device_topic(&self, kind: MessageType, device: &str) -> String {
        format!("{NAMESPACE}/{}/D{}/{}/{device}", self.group, kind.word(), self.id)
    }

    /// Returns for whom a command is: the node (`None`), or one of its devices. Nothing if it is no command for this
    /// node.
    pub(crate) fn commanded<'t>(&self, topic: &'t str) -> Option<Option<&'t str>> {
        let mut levels = topic.split('/');
        let (namespace, group) = (levels.next()?, levels.next()?);
        let (kind, node, device) = (levels.next()?, levels.next()?, levels.next());
        let is_ours = namespace == NAMESPACE
            && group == self.group.as_str()
            && node == self.id.as_str()
            && levels.next().is_none();
        match (kind, device) {
            ("NCMD", None) if is_ours => Some(None),
            ("DCMD", Some(device)) if is_ours => Some(Some(device)),
            _ => None,
        }
    }
}

/// Returns the topic on which a host says whether it is there (3.0).
pub(crate) fn state_topic(host: &Id) -> String {
    format!("{NAMESPACE}/STATE/{host}")
}

/// As [`state_topic`], the form of 2.2.
pub(crate) fn state_topic_2(host: &Id) -> String {
    format!("STATE/{host}")
}
