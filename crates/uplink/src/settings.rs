//! What an uplink is told by its configuration.

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tidegate_model::{Topic, TopicError, UplinkName};
use tidegate_rules::{MemoryLimits, Rule};

use crate::profile::Profile;

/// Everything the core of an uplink needs to know. Which topics it takes is decided before the append,
/// by [`Selector`](tidegate_rules::Selector).
#[derive(Clone, Debug)]
pub struct Settings {
    /// The id of the gateway: `gw` of every batch.
    pub gateway: Arc<str>,
    /// The name of the uplink: `up` of every batch.
    pub name: UplinkName,
    /// The epoch of the data directory: `ep` of every batch.
    pub epoch: i64,
    /// The rules in file order.
    pub rules: Vec<Rule>,
    /// How much the rules may remember.
    pub rule_memory: MemoryLimits,
    /// What a payload looks like.
    pub format: Format,
    /// The unit of times in batches.
    pub time_unit: TimeUnit,
    /// Whether payloads are compressed.
    pub compression: Compression,
    /// Where payloads are published.
    pub topic: TopicTemplate,
    /// What kind of far side takes them.
    pub profile: Profile,
    /// When a batch is closed.
    pub batch: BatchLimits,
    /// What happens when more than `max_bytes` wait.
    pub when_full: WhenFull,
    /// How many bytes of records may wait in the journal.
    pub max_bytes: u64,
    /// For how long a record may wait; then it is dropped, counted, with a gap record.
    pub max_age: Option<Duration>,
    /// The ordinal of the last record that was appended before this process began: what came later is no older than
    /// the process.
    pub recovered: u64,
    /// How many streams may have numbers; a record of a further topic is dropped, counted.
    pub streams_max: usize,
}

impl Settings {
    /// Returns settings without rules and with the defaults of everything else.
    pub fn new(
        gateway: impl Into<Arc<str>>,
        name: UplinkName,
        format: Format,
        topic: TopicTemplate,
    ) -> Self {
        Self {
            gateway: gateway.into(),
            name,
            epoch: 0,
            rules: Vec::new(),
            rule_memory: MemoryLimits::default(),
            format,
            time_unit: TimeUnit::default(),
            compression: Compression::None,
            topic,
            profile: Profile::default(),
            batch: BatchLimits::default(),
            when_full: WhenFull::default(),
            max_bytes: Self::MAX_BYTES_DEFAULT,
            max_age: None,
            recovered: 0,
            streams_max: Self::STREAMS_MAX_DEFAULT,
        }
    }

    /// The default of [`max_bytes`](Self::max_bytes).
    pub const MAX_BYTES_DEFAULT: u64 = 512 << 20;
    /// The default of [`streams_max`](Self::streams_max).
    pub const STREAMS_MAX_DEFAULT: usize = 100_000;
}

/// What an uplink publishes; see `docs/telemetry-envelope.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// One BSON document a batch, in columns.
    #[default]
    Columns,
    /// One BSON document a batch, in columns that are packed into bytes.
    Packed,
    /// One BSON document a reading.
    Message,
    /// One JSON document a reading.
    Json,
    /// The payload of each message as it is; of a typed reading its local JSON.
    Raw,
    /// Each reading under its local topic, with its parts: the connection makes of it what its far side
    /// wants. The payload is that of [`Json`](Self::Json), for dead letters.
    Typed,
}

impl Format {
    /// Returns whether each reading is a message of its own.
    pub fn is_per_reading(self) -> bool {
        matches!(self, Self::Message | Self::Json | Self::Raw | Self::Typed)
    }
}

/// The unit of times in batches: `tu`. What is finer is rounded down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// Milliseconds.
    #[default]
    Millis,
    /// Microseconds, as readings have them.
    Micros,
}

/// Whether payloads are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Never.
    None,
    /// zlib (RFC 1950), where that is smaller.
    Zlib(Level),
    /// gzip (RFC 1952), where that is smaller.
    Gzip(Level),
}

impl Default for Compression {
    fn default() -> Self {
        Self::Zlib(Level::DEFAULT)
    }
}

/// How hard to compress, from 1 (fast) to 9 (small).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(u8);

impl Level {
    /// The usual balance of size and time.
    pub const DEFAULT: Self = Self(6);

    /// Takes a level from 1 to 9.
    pub fn new(level: u8) -> Option<Self> {
        (1..=9).contains(&level).then_some(Self(level))
    }

    /// Returns it as a number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// When a batch is closed: at whichever limit comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most readings.
    pub readings: usize,
    /// The longest that a reading waits for others, from when it was read from the journal.
    pub age: Duration,
    /// The most bytes before compression. A reading that is larger alone goes alone.
    pub bytes: usize,
    /// The most bytes of a payload as it is sent. What would be larger is divided; a reading that is
    /// larger alone is dropped, counted, and kept as a dead letter.
    pub wire_bytes: Option<usize>,
    /// In steps of how many bytes the far side meters messages: batches are closed just under one.
    pub metering_step: Option<usize>,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            readings: 500,
            age: Duration::from_secs(1),
            bytes: 64 << 10,
            wire_bytes: None,
            metering_step: None,
        }
    }
}

/// What an uplink does when it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Lets its oldest records go, counted, with a gap record.
    #[default]
    DropOldest,
    /// Has new records refused at the front.
    Refuse,
}

/// How the bytes of a payload are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// BSON.
    Bson,
    /// BSON, compressed with zlib.
    BsonZlib,
    /// BSON, compressed with gzip.
    BsonGzip,
    /// JSON.
    Json,
    /// JSON, compressed with zlib.
    JsonZlib,
    /// JSON, compressed with gzip.
    JsonGzip,
    /// Bytes as somebody published them.
    Raw,
}

impl Encoding {
    /// Returns what `{encoding}` expands to.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bson => "bson",
            Self::BsonZlib => "bson.z",
            Self::BsonGzip => "bson.gz",
            Self::Json => "json",
            Self::JsonZlib => "json.z",
            Self::JsonGzip => "json.gz",
            Self::Raw => "raw",
        }
    }

    /// Returns the content type for MQTT 5.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Bson | Self::BsonZlib | Self::BsonGzip => "application/bson",
            Self::Json | Self::JsonZlib | Self::JsonGzip => "application/json",
            Self::Raw => "application/octet-stream",
        }
    }

    /// Returns the value of the user property `content-encoding` for MQTT 5, if there is one.
    pub fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::Bson | Self::Json | Self::Raw => None,
            Self::BsonZlib | Self::JsonZlib => Some("zlib"),
            Self::BsonGzip | Self::JsonGzip => Some("gzip"),
        }
    }
}

/// Why a text is not a topic template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicTemplateError {
    /// A placeholder is none of those known.
    #[error(
        "`{{{placeholder}}}` is not known here; known are {{gateway}}, {{encoding}}, {{topic}}"
    )]
    UnknownPlaceholder {
        /// What stands between the braces.
        placeholder: String,
    },
    /// A brace is not closed, or was not opened.
    #[error("a brace is not closed or not opened")]
    Brace,
    /// The format publishes each reading alone, and its topic would not say of what.
    #[error("must contain {{topic}}, as each reading is published alone")]
    TopicMissing,
    /// A batch holds readings of many topics.
    #[error("must not contain {{topic}}, as a batch holds readings of many topics")]
    TopicForBatch,
    /// The result would not be a topic.
    #[error("{0}")]
    NotATopic(#[source] TopicError),
}

/// A topic in which `{gateway}`, `{encoding}` and `{topic}` are filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTemplate {
    parts: Vec<TemplatePart>,
    /// What `{topic}` is without, where a local topic begins with it.
    strip: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    Encoding,
    Topic,
}

impl TopicTemplate {
    /// Reads a template, fills in the gateway's id and checks that it suits `format`.
    ///
    /// # Errors
    ///
    /// [`TopicTemplateError`] says what is wrong.
    pub fn new(text: &str, gateway: &str, format: Format) -> Result<Self, TopicTemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, placeholder) = rest.split_at(at);
            push_text(&mut parts, before);
            let (name, after) = placeholder
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'))
                .ok_or(TopicTemplateError::Brace)?;
            match name {
                "gateway" => push_text(&mut parts, gateway),
                "encoding" => parts.push(TemplatePart::Encoding),
                "topic" => parts.push(TemplatePart::Topic),
                other => {
                    let placeholder = other.to_owned();
                    return Err(TopicTemplateError::UnknownPlaceholder { placeholder });
                }
            }
            rest = after;
        }
        push_text(&mut parts, rest);
        let template = Self { parts, strip: "".into() };
        match (format.is_per_reading(), template.parts.contains(&TemplatePart::Topic)) {
            (true, false) => return Err(TopicTemplateError::TopicMissing),
            (false, true) => return Err(TopicTemplateError::TopicForBatch),
            _ => {}
        }
        Topic::new(&template.fill(Encoding::Bson, "t")).map_err(TopicTemplateError::NotATopic)?;
        Ok(template)
    }

    /// Returns the same, but with `{topic}` standing for what follows `start` of topics that begin with it.
    #[must_use]
    pub fn stripping(self, start: impl Into<Arc<str>>) -> Self {
        Self { strip: start.into(), ..self }
    }

    /// Fills in the rest. `topic` is used only where the template asks for it.
    pub fn fill(&self, encoding: Encoding, topic: &str) -> String {
        let below = topic.strip_prefix(&*self.strip).filter(|below| !below.is_empty());
        let topic = below.unwrap_or(topic);
        let mut filled = String::new();
        for part in &self.parts {
            filled.push_str(match part {
                TemplatePart::Text(text) => text,
                TemplatePart::Encoding => encoding.as_str(),
                TemplatePart::Topic => topic,
            });
        }
        filled
    }
}

fn push_text(parts: &mut Vec<TemplatePart>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(TemplatePart::Text(before)) => before.push_str(text),
        _ => parts.push(TemplatePart::Text(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_or_refused() {
        use TopicTemplateError::{Brace, TopicForBatch, TopicMissing};
        let fill = |text, format| {
            TopicTemplate::new(text, "gw-1", format)
                .map(|template| template.fill(Encoding::BsonZlib, "hall1/t"))
        };
        #[rustfmt::skip]
        let cases = [
            ("tidegate/{gateway}/{encoding}", Format::Columns, Ok("tidegate/gw-1/bson.z")),
            ("plain",                         Format::Columns, Ok("plain")),
            ("{gateway}{encoding}x",          Format::Columns, Ok("gw-1bson.zx")),
            ("up/{topic}",                    Format::Message, Ok("up/hall1/t")),
            ("up/{encoding}/{topic}",         Format::Json,    Ok("up/bson.z/hall1/t")),
            ("up",                            Format::Message, Err(TopicMissing)),
            ("up/{topic}",                    Format::Columns, Err(TopicForBatch)),
            ("up/{topic}",                    Format::Packed,  Err(TopicForBatch)),
            ("up/{encoding}",                 Format::Raw,     Err(TopicMissing)),
            ("up/{gateway",                   Format::Columns, Err(Brace)),
            ("up/gateway}",                   Format::Columns, Err(Brace)),
        ];
        for (text, format, expected) in cases {
            assert_eq!(fill(text, format), expected.map(str::to_owned), "{text}");
        }
        let stripping = |topic| {
            let template = TopicTemplate::new("up/{topic}", "gw-1", Format::Raw).unwrap();
            template.stripping("hall1/").fill(Encoding::Raw, topic)
        };
        assert_eq!(
            ["hall1/t", "hall2/t", "hall1/", "hall1"].map(stripping),
            ["up/t", "up/hall2/t", "up/hall1/", "up/hall1"]
        );
        assert!(matches!(
            fill("up/{host}", Format::Columns),
            Err(TopicTemplateError::UnknownPlaceholder { placeholder }) if placeholder == "host"
        ));
        assert!(matches!(fill("up/#", Format::Columns), Err(TopicTemplateError::NotATopic(_))));
        assert!(matches!(fill("", Format::Columns), Err(TopicTemplateError::NotATopic(_))));
    }
}
