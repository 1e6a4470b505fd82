//! One rule as configured.

use std::{fmt, sync::Arc};

use thiserror::Error;
use tidegate_model::{Topic, TopicFilter};

use crate::{Anomaly, Conversion, SwingingDoor, Thinning, Window};

/// The name of a rule, as its counter shows it: letters, digits, `-`, `_`, `.`; 1 to 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleName(Arc<str>);

/// A text is not the name of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a rule's name has 1 to 64 letters, digits, `-`, `_`, `.`")]
pub struct RuleNameError;

impl RuleName {
    /// Checks `text` and takes it as a name.
    ///
    /// # Errors
    ///
    /// [`RuleNameError`] if it is not one.
    pub fn new(text: &str) -> Result<Self, RuleNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err(RuleNameError);
        }
        Ok(Self(text.into()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as shared text.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a rule does with readings of some topics.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Under which name it counts what it takes out and what it makes.
    pub name: RuleName,
    /// The topics it is for.
    pub topics: Vec<TopicFilter>,
    /// What it does.
    pub action: Action,
}

/// What a rule does. Complete.
#[derive(Clone, Debug)]
pub enum Action {
    /// Takes all of them out.
    Exclude,
    /// Takes out those that say too little new.
    Thin(Thinning),
    /// Changes values and units.
    Convert(Conversion),
    /// Sends figures of stretches of time in their place.
    Window(Window),
    /// Sends the corners of a line that stays near all of them in their place.
    SwingingDoor(SwingingDoor),
    /// Marks those that are out of the ordinary, and tells of them.
    Anomaly(Anomaly),
}

impl Rule {
    /// Returns whether the rule is for `topic`.
    pub fn concerns(&self, topic: &Topic) -> bool {
        self.topics.iter().any(|filter| filter.matches(topic))
    }

    /// Returns whether readings wait in the rule until something of theirs goes out.
    pub fn holds(&self) -> bool {
        matches!(self.action, Action::Window(_) | Action::SwingingDoor(_))
    }

    /// Returns a number that differs, but for chance, when anything else than the name differs.
    pub(crate) fn fingerprint(&self) -> u64 {
        // FNV-1a: it must be the same in every build, which the hashes of the standard library are not.
        let text = format!("{:?} {:?}", self.topics, self.action);
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}
