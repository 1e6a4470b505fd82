//! Which keys of which shadow belong to which local topics.

use std::{collections::BTreeMap, fmt, ops::Bound, sync::Arc, time::Duration};

use thiserror::Error;
use tidegate_model::Topic;

const THING_BYTES_MAX: usize = 128;
const NAME_BYTES_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 128;
/// The service takes eight levels, that of `desired` or `reported` among them, and a value may be an array.
const PATH_LEVELS_MAX: usize = 6;

/// Where in a shadow's document a value stands: names, each within the one before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShadowPath(Vec<Arc<str>>);

/// A text is not such a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a path has 1 to {PATH_LEVELS_MAX} names with dots in between, {PATH_BYTES_MAX} bytes in all, without control characters and not beginning with `$`"
)]
pub struct ShadowPathError;

impl ShadowPath {
    /// Takes names with dots in between, such as `press.setpoint`.
    ///
    /// # Errors
    ///
    /// [`ShadowPathError`] if a name is empty, or there are too many, or they are too long.
    pub fn new(text: &str) -> Result<Self, ShadowPathError> {
        let names: Vec<Arc<str>> = text.split('.').map(Into::into).collect();
        let is_wrong = |name: &Arc<str>| name.is_empty() || name.starts_with('$');
        let is_too_large = text.len() > PATH_BYTES_MAX || names.len() > PATH_LEVELS_MAX;
        if is_too_large || text.contains(char::is_control) || names.iter().any(is_wrong) {
            return Err(ShadowPathError);
        }
        Ok(Self(names))
    }

    pub(super) fn names(&self) -> &[Arc<str>] {
        &self.0
    }

    /// Returns whether one of them is the other, or holds it.
    fn overlaps(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }
}

impl fmt::Display for ShadowPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("."))
    }
}

/// A value of a shadow, and the local topic on which it is set and told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowState {
    /// Where it stands in `desired` and in `reported`.
    pub key: ShadowPath,
    /// The topic: its values are reported, and its commands are what is desired.
    pub topic: Topic,
}

/// One shadow of a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowSettings {
    prefix: String,
    name: Option<Arc<str>>,
    states: Vec<ShadowState>,
    places: BTreeMap<Vec<Arc<str>>, usize>,
    interval: Duration,
}

/// What the service would not take, or what cannot be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ShadowError {
    /// Not a thing.
    #[error("a thing's name has 1 to {THING_BYTES_MAX} letters, digits and -_:")]
    Thing,
    /// Not a shadow.
    #[error("a shadow's name has 1 to {NAME_BYTES_MAX} letters, digits and -_:")]
    Name,
    /// Too many or none.
    #[error("a shadow has 1 to {} values", ShadowSettings::STATES_MAX)]
    States,
    /// The key of the state at this place is, or holds, or is within that of one before it.
    #[error("the path is, holds or is within one that was named before")]
    Key(usize),
    /// The topic of the state at this place belongs to one before it.
    #[error("the topic belongs to another path")]
    Topic(usize),
}

impl ShadowSettings {
    /// Keys that a shadow may have here.
    pub const STATES_MAX: usize = 256;
    /// The default of the time between two updates.
    pub const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);

    /// Takes the classic shadow of a thing, or the one with a name. What is told by local topics is reported no more
    /// often than `interval`.
    ///
    /// # Errors
    ///
    /// [`ShadowError`].
    pub fn new(
        thing: &str,
        name: Option<&str>,
        states: Vec<ShadowState>,
        interval: Duration,
    ) -> Result<Self, ShadowError> {
        if !is_name(thing, THING_BYTES_MAX) {
            return Err(ShadowError::Thing);
        }
        if name.is_some_and(|name| !is_name(name, NAME_BYTES_MAX)) {
            return Err(ShadowError::Name);
        }
        if !(1..=Self::STATES_MAX).contains(&states.len()) {
            return Err(ShadowError::States);
        }
        for (at, state) in states.iter().enumerate() {
            let before = &states[..at];
            if before.iter().any(|other| other.key.overlaps(&state.key)) {
                return Err(ShadowError::Key(at));
            }
            if before.iter().any(|other| other.topic == state.topic) {
                return Err(ShadowError::Topic(at));
            }
        }
        let place = |(at, state): (usize, &ShadowState)| (state.key.names().to_vec(), at);
        let places = states.iter().enumerate().map(place).collect();
        let prefix = match name {
            None => format!("$aws/things/{thing}/shadow/"),
            Some(name) => format!("$aws/things/{thing}/shadow/name/{name}/"),
        };
        Ok(Self { prefix, name: name.map(Into::into), states, places, interval })
    }

    /// Returns what is subscribed to.
    pub fn filters(&self) -> [String; 5] {
        ["update/delta", "update/accepted", "update/rejected", "get/accepted", "get/rejected"]
            .map(|suffix| self.topic(suffix))
    }

    /// Returns the keys and their topics.
    pub fn states(&self) -> &[ShadowState] {
        &self.states
    }

    pub(super) fn topic(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.prefix)
    }

    pub(super) fn suffix<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.strip_prefix(&self.prefix)
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the name, for people and ids.
    pub(super) fn shown_name(&self) -> &str {
        self.name.as_deref().unwrap_or("classic")
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Returns the place of the key that stands at these names.
    pub(super) fn place(&self, names: &[Arc<str>]) -> Option<usize> {
        self.places.get(names).copied()
    }

    /// Returns whether a key stands somewhere below these names.
    pub(super) fn has_below(&self, names: &[Arc<str>]) -> bool {
        let behind = (Bound::Excluded(names), Bound::Unbounded);
        let next = self.places.range::<[Arc<str>], _>(behind).next();
        next.is_some_and(|(key, _)| key.starts_with(names))
    }
}

fn is_name(text: &str, bytes_max: usize) -> bool {
    let takes = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':');
    !text.is_empty() && text.len() <= bytes_max && text.bytes().all(takes)
}
