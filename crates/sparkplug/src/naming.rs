//! Which device and metric a local topic is: patterns with captures, as mappings have them.

use std::sync::Arc;

use thiserror::Error;
use tidegate_model::{NameTemplate, NameTemplateError, PathPattern, PathPatternError};

use crate::topic::{Id, IdError};

/// Names that the node itself needs (section 6.4 of the specification).
const RESERVED: [&str; 1] = ["bdSeq"];
const RESERVED_FOLDER: &str = "Node Control/";

/// Where the readings of a topic stand for a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The device; the node itself if there is none.
    pub device: Option<Arc<str>>,
    /// The name of the metric.
    pub metric: Arc<str>,
}

/// A family of devices: topics that it takes, and what is made of their captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    pattern: PathPattern,
    device: NameTemplate,
    metric: NameTemplate,
}

/// Why texts do not make a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NamingError {
    /// The pattern is none.
    #[error("{0}")]
    Pattern(#[from] PathPatternError),
    /// The pattern has a wildcard of MQTT.
    #[error("`+` and `#` say nothing of a name: write a capture such as `{{metric}}`")]
    Wildcard,
    /// A name is none.
    #[error("{0}")]
    Name(#[from] NameTemplateError),
    /// What stands between captures cannot be part of an id.
    #[error("{0}")]
    Id(IdError),
}

impl DeviceRule {
    /// Makes a rule of the pattern of its topics, such as `hall1/{press}/{metric}`.
    ///
    /// # Errors
    ///
    /// [`NamingError`] about the pattern, `device` or `metric`, tried in this order; see
    /// [`check_pattern`](Self::check_pattern) and [`check_device`](Self::check_device) for one of them alone.
    pub fn new(topics: &str, device: &str, metric: &str) -> Result<Self, NamingError> {
        let pattern = Self::check_pattern(topics)?;
        let device = Self::check_device(device, &pattern)?;
        let metric = NameTemplate::parse(metric, pattern.names())?;
        Ok(Self { pattern, device, metric })
    }

    /// Reads the pattern alone.
    ///
    /// # Errors
    ///
    /// [`NamingError`].
    pub fn check_pattern(topics: &str) -> Result<PathPattern, NamingError> {
        if topics.contains(['+', '#']) {
            return Err(NamingError::Wildcard);
        }
        Ok(PathPattern::parse(&format!("/{topics}"))?)
    }

    fn check_device(device: &str, pattern: &PathPattern) -> Result<NameTemplate, NamingError> {
        let template = NameTemplate::parse(device, pattern.names())?;
        // Captures are parts of levels: they bring no character that an id may not have.
        Id::new(&template.fill_with("x")).map_err(NamingError::Id)?;
        Ok(template)
    }

    /// Returns where a topic stands, if it is one of these.
    fn place(&self, levels: &[&str]) -> Option<Place> {
        let captures = self.pattern.matches(levels)?;
        let device = self.device.fill(&captures);
        Some(Place { device: Some(device.into()), metric: self.metric.fill(&captures).into() })
    }

    fn literal_levels(&self) -> usize {
        self.pattern.literal_segments()
    }
}

/// Returns where the readings of a topic stand: by the rule with the most literal levels, the first of equals; of the
/// node itself, under the topic, where no rule takes it.
pub(crate) fn place(rules: &[DeviceRule], topic: &str) -> Place {
    let levels: Vec<&str> = topic.split('/').collect();
    let mut best: Option<(usize, Place)> = None;
    for rule in rules {
        let literal = rule.literal_levels();
        if best.as_ref().is_some_and(|(most, _)| *most >= literal) {
            continue;
        }
        if let Some(place) = rule.place(&levels) {
            best = Some((literal, place));
        }
    }
    best.map_or_else(|| Place { device: None, metric: topic.into() }, |(_, place)| place)
}

/// Returns whether a name is one of the node's own metrics, which no reading may have.
pub(crate) fn is_reserved(place: &Place) -> bool {
    place.device.is_none()
        && (RESERVED.contains(&&*place.metric) || place.metric.starts_with(RESERVED_FOLDER))
}
