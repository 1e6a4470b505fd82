//! Which device and key a local topic is, and which topic these are.

use thiserror::Error;
use tidegate_model::{Captures, NameTemplate, NameTemplateError, PathPattern, PathPatternError};

/// What a reading is for a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BoardKind {
    /// One of a series, with its time.
    #[default]
    Telemetry,
    /// What is so now.
    Attribute,
}

/// Where the readings of a topic stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardPlace {
    /// The device; the gateway itself if there is none.
    pub device: Option<String>,
    /// The key.
    pub key: String,
    /// What it is.
    pub kind: BoardKind,
}

/// A family of devices: topics that it takes, and what is made of their captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardRule {
    pattern: PathPattern,
    device: NameTemplate,
    key: NameTemplate,
    kind: BoardKind,
}

/// Why texts do not make a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BoardNamingError {
    /// The pattern is none.
    #[error("{0}")]
    Pattern(#[from] PathPatternError),
    /// The pattern has a wildcard of MQTT.
    #[error("`+` and `#` say nothing of a name: write a capture such as `{{metric}}`")]
    Wildcard,
    /// A name is none.
    #[error("{0}")]
    Name(#[from] NameTemplateError),
}

impl BoardRule {
    /// Makes a rule of the pattern of its topics, such as `hall1/{press}/{key}`.
    ///
    /// # Errors
    ///
    /// [`BoardNamingError`] about the pattern, `device` or `key`, tried in this order; see
    /// [`check_pattern`](Self::check_pattern).
    pub fn new(
        topics: &str,
        device: &str,
        key: &str,
        kind: BoardKind,
    ) -> Result<Self, BoardNamingError> {
        let pattern = Self::check_pattern(topics)?;
        let device = NameTemplate::parse(device, pattern.names())?;
        let key = NameTemplate::parse(key, pattern.names())?;
        Ok(Self { pattern, device, key, kind })
    }

    /// Reads the pattern alone.
    ///
    /// # Errors
    ///
    /// [`BoardNamingError`].
    pub fn check_pattern(topics: &str) -> Result<PathPattern, BoardNamingError> {
        if topics.contains(['+', '#']) {
            return Err(BoardNamingError::Wildcard);
        }
        Ok(PathPattern::parse(&format!("/{topics}"))?)
    }

    fn place(&self, levels: &[&str]) -> Option<BoardPlace> {
        let captures = self.pattern.matches(levels)?;
        let fill = |template: &NameTemplate| template.fill(&captures);
        Some(BoardPlace { device: Some(fill(&self.device)), key: fill(&self.key), kind: self.kind })
    }

    /// Returns the topic that would stand there, if every capture can be told.
    fn topic(&self, device: &str, key: &str) -> Option<String> {
        let mut captures = vec![None; self.pattern.names().len()];
        let is_ours = self.device.read(device, &mut captures) && self.key.read(key, &mut captures);
        let captures: Option<Vec<Box<str>>> =
            captures.into_iter().map(|it| it.map(Into::into)).collect();
        let levels = self.pattern.fill(&Captures::new(captures.filter(|_| is_ours)?))?;
        Some(levels.join("/"))
    }
}

pub(super) fn place(rules: &[BoardRule], topic: &str) -> BoardPlace {
    let levels: Vec<&str> = topic.split('/').collect();
    let mut best: Option<(usize, BoardPlace)> = None;
    for rule in rules {
        let literal = rule.pattern.literal_segments();
        if best.as_ref().is_some_and(|(most, _)| *most >= literal) {
            continue;
        }
        if let Some(place) = rule.place(&levels) {
            best = Some((literal, place));
        }
    }
    let own = || BoardPlace { device: None, key: topic.to_owned(), kind: BoardKind::Telemetry };
    best.map_or_else(own, |(_, place)| place)
}

/// Returns the only topic that [`place`] puts there, as far as can be told from the names.
pub(super) fn topic(rules: &[BoardRule], device: Option<&str>, key: &str) -> Option<String> {
    let is_there = |topic: &String| {
        let place = place(rules, topic);
        place.device.as_deref() == device && place.key == key
    };
    match device {
        None => Some(key.to_owned()).filter(is_there),
        Some(name) => {
            let mut found = rules.iter().filter_map(|rule| rule.topic(name, key)).filter(is_there);
            let first = found.next()?;
            found.all(|other| other == first).then_some(first)
        }
    }
}
