//! Which device and key a local topic is, and which topic these are.

use thiserror::Error;
use tidegate_model::{CaptureName, Captures, PathPattern, PathPatternError};

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
    device: Template,
    key: Template,
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
    /// A brace has no partner.
    #[error("a brace has no partner")]
    Brace,
    /// A name in braces is not captured by the pattern.
    #[error("`{{{0}}}` is not captured by `topics`")]
    Unknown(String),
    /// There is nothing.
    #[error("a name has at least one character")]
    Empty,
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
        let device = Template::parse(device, pattern.names())?;
        let key = Template::parse(key, pattern.names())?;
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
        let fill = |template: &Template| template.fill(&captures);
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

/// A name with captures to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Capture(usize),
}

impl Template {
    fn parse(text: &str, names: &[CaptureName]) -> Result<Self, BoardNamingError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let inside = rest[at..].strip_prefix('{').ok_or(BoardNamingError::Brace)?;
            let end = inside.find(['{', '}']).filter(|&end| inside[end..].starts_with('}'));
            let end = end.ok_or(BoardNamingError::Brace)?;
            let index = names.iter().position(|name| name.as_str() == &inside[..end]);
            parts.push(Part::Literal(rest[..at].to_owned()));
            let unknown = || BoardNamingError::Unknown(inside[..end].to_owned());
            parts.push(Part::Capture(index.ok_or_else(unknown)?));
            rest = &inside[end + 1..];
        }
        parts.push(Part::Literal(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Literal(text) if text.is_empty()));
        if parts.is_empty() {
            return Err(BoardNamingError::Empty);
        }
        Ok(Self(parts))
    }

    fn fill(&self, captures: &Captures) -> String {
        self.0.iter().fold(String::new(), |filled, part| match part {
            Part::Literal(literal) => filled + literal,
            Part::Capture(index) => filled + captures.get(*index).unwrap_or_default(),
        })
    }

    /// Finds what captures stand for in a text; returns whether there is just one way to read it, which agrees with what
    /// is known of the captures.
    fn read(&self, text: &str, captures: &mut [Option<String>]) -> bool {
        if text.len() > NAME_BYTES_MAX {
            return false;
        }
        let ways = self.ways(text);
        if ways[0][0] != 1 {
            return false;
        }
        let mut at = 0;
        for (part, behind) in self.0.iter().zip(&ways[1..]) {
            let end = match part {
                Part::Literal(literal) => at + literal.len(),
                Part::Capture(_) => (at + 1..=text.len())
                    .find(|&end| behind[end] > 0 && is_capture(text, at, end))
                    .expect("there is a way"),
            };
            if let Part::Capture(index) = part {
                match &captures[*index] {
                    Some(known) if *known != text[at..end] => return false,
                    _ => captures[*index] = Some(text[at..end].to_owned()),
                }
            }
            at = end;
        }
        true
    }

    /// Returns in how many ways the parts from each on make the text from each byte on: 0, 1, or 2 for more.
    fn ways(&self, text: &str) -> Vec<Vec<u8>> {
        let mut ways = vec![vec![0; text.len() + 1]; self.0.len() + 1];
        ways[self.0.len()][text.len()] = 1;
        for (number, part) in self.0.iter().enumerate().rev() {
            for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                let behind = &ways[number + 1];
                let found: u8 = match part {
                    Part::Literal(literal) if text[at..].starts_with(literal.as_str()) => {
                        behind[at + literal.len()]
                    }
                    Part::Literal(_) => 0,
                    Part::Capture(_) => (at + 1..=text.len())
                        .filter(|&end| behind[end] > 0 && is_capture(text, at, end))
                        .map(|end| behind[end])
                        .fold(0, u8::saturating_add),
                };
                ways[number][at] = found.min(2);
            }
        }
        ways
    }
}

/// Names that are longer are not read.
const NAME_BYTES_MAX: usize = 512;

/// Returns whether a part of a text may be what a capture stands for: within one level of a topic.
fn is_capture(text: &str, at: usize, end: usize) -> bool {
    text.get(at..end).is_some_and(|part| !part.contains('/'))
}
