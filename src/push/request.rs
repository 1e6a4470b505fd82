//! What can be asked, and how it is written: over the control socket and from a cloud alike.

use std::time::Duration;

use tidegate_model::{Document, Topic, Value};
use tidegate_settings::parse_duration;

use super::PushedSet;
use crate::config::PushConfig;

/// Below this topic pushes come down as calls: `$push/apply/call`. No client of the gateway can publish there.
const TOPIC: &str = "$push/";

/// What can be done with sets. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell what a set would change.
    Preview,
    /// Take a set into use, on trial.
    Apply,
    /// Keep the set that is on trial.
    Confirm,
    /// Put back the set before.
    Return,
    /// Tell which set is in force.
    Status,
}

impl Action {
    /// All of them.
    const ALL: [Self; 5] = [Self::Preview, Self::Apply, Self::Confirm, Self::Return, Self::Status];

    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preview => "preview",
            Self::Apply => "apply",
            Self::Confirm => "confirm",
            Self::Return => "return",
            Self::Status => "status",
        }
    }

    /// Returns what a word asks for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == word)
    }

    /// Returns whether a topic is among those of pushes, known or not.
    pub fn is_meant_by(topic: &Topic) -> bool {
        topic.as_str().starts_with(TOPIC)
    }

    /// Returns what a call on a topic asks for.
    pub fn from_topic(topic: &Topic) -> Option<Self> {
        Self::from_word(topic.as_str().strip_prefix(TOPIC)?)
    }

    /// Returns the topic of such calls.
    pub fn topic(self) -> Topic {
        Topic::new(&format!("{TOPIC}{}", self.as_str())).expect("the words are topics")
    }

    /// Returns whether nothing is changed by it.
    pub fn only_reads(self) -> bool {
        matches!(self, Self::Preview | Self::Status)
    }
}

/// One request, read and within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Tell what it would change.
    Preview(PushedSet),
    /// Take it into use.
    Apply {
        /// The set.
        set: PushedSet,
        /// How long it is on trial, if not as long as the configuration says.
        confirm_within: Option<Duration>,
    },
    /// Keep the set on trial: this one, if one is named.
    Confirm(Option<u64>),
    /// Put back the set before the one in force: this one, if one is named.
    Return(Option<u64>),
    /// Tell which set is in force.
    Status,
}

impl Request {
    /// Reads the arguments of an action.
    ///
    /// # Errors
    ///
    /// Says what is wrong, for whoever asked.
    pub fn read(action: Action, arguments: &Value) -> Result<Self, String> {
        let empty = Document::default();
        let arguments = match arguments {
            Value::Document(arguments) => arguments,
            // A call without arguments.
            Value::Array(items) if items.is_empty() => &empty,
            _ => return Err("the arguments are given by name: {\"args\":{…}}".into()),
        };
        let known: &[&str] = match action {
            Action::Preview => &["mappings", "configuration"],
            Action::Apply => &["mappings", "configuration", "confirm-within"],
            Action::Confirm | Action::Return => &["set"],
            Action::Status => &[],
        };
        if let Some((name, _)) = arguments.iter().find(|(name, _)| !known.contains(&&***name)) {
            let name: String = name.chars().take(80).collect();
            return Err(format!("unknown argument {name:?}"));
        }
        let set = || {
            PushedSet::from_value(arguments.get("mappings"), arguments.get("configuration"))
                .map_err(|error| error.to_string())
        };
        Ok(match action {
            Action::Preview => Self::Preview(set()?),
            Action::Apply => Self::Apply { set: set()?, confirm_within: read_within(arguments)? },
            Action::Confirm => Self::Confirm(read_number(arguments)?),
            Action::Return => Self::Return(read_number(arguments)?),
            Action::Status => Self::Status,
        })
    }
}

fn read_within(arguments: &Document) -> Result<Option<Duration>, String> {
    let Some(value) = arguments.get("confirm-within") else { return Ok(None) };
    let Value::String(text) = value else {
        return Err("`confirm-within` must be a duration such as \"5m\"".into());
    };
    let duration = parse_duration(text).map_err(|error| format!("`confirm-within`: {error}"))?;
    if !PushConfig::CONFIRM_RANGE.contains(&duration) {
        return Err("`confirm-within` must be from 1s to 12h".into());
    }
    Ok(Some(duration))
}

fn read_number(arguments: &Document) -> Result<Option<u64>, String> {
    match arguments.get("set") {
        None => Ok(None),
        Some(Value::Integer(number)) if *number >= 0 => Ok(Some(number.unsigned_abs())),
        Some(_) => Err("`set` must be the number of a set".into()),
    }
}
