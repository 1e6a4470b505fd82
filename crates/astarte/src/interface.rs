//! Interfaces: what a device and its realm have agreed to say to each other.

use std::{fmt, sync::Arc};

use thiserror::Error;
use tidegate_model::{Document, Qos, Value, json};

use crate::{
    ValueType,
    endpoint::{self, Endpoint, Level},
};

const MAPPINGS_MAX: usize = 1_024;
const RESERVED: [&str; 3] = ["astarte", "control", "device"];

/// The name of an interface, such as `org.example.Press`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(Arc<str>);

/// Who says what an interface is for. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The device: telemetry.
    Device,
    /// The server: commands.
    Server,
}

/// How surely values of a stream arrive. Complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reliability {
    /// QoS 0.
    #[default]
    Unreliable,
    /// QoS 1.
    Guaranteed,
    /// QoS 2.
    Unique,
}

/// What values of an interface are. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Values over time.
    Datastream,
    /// Values that hold until they are set anew.
    Properties,
}

/// Whether values come one by one. Complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregation {
    /// Each path by itself.
    #[default]
    Individual,
    /// All mappings with the same prefix together.
    Object,
}

/// One mapping of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its path.
    pub endpoint: Endpoint,
    /// The type of its values.
    pub value_type: ValueType,
    /// How surely they arrive.
    pub reliability: Reliability,
    /// Whether the device's time of a value is kept; else it is that of reception.
    pub explicit_timestamp: bool,
    /// Whether a property can be unset.
    pub allow_unset: bool,
    /// Whether every object must have it.
    pub required: bool,
    /// What else must be the same in all mappings of an object.
    shared: Shared,
}

/// What the server and other devices make of a mapping; not looked at but for the rule that objects have it once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shared {
    retention: Arc<str>,
    expiry: i64,
    database_policy: Arc<str>,
    database_ttl: Option<i64>,
}

/// An interface in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    name: InterfaceName,
    major: u32,
    minor: u32,
    ownership: Ownership,
    content: Content,
    aggregation: Aggregation,
    mappings: Vec<Mapping>,
}

/// What is wrong with the description of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{problem}", Place(.member))]
pub struct InterfaceError {
    /// The member at fault, such as `mappings[2].type`; empty for the whole.
    pub member: String,
    /// What is wrong.
    pub problem: String,
}

struct Place<'a>(&'a str);

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, "`{}`: ", self.0) }
    }
}

impl InterfaceName {
    /// Checks `text` and takes it; `None` if it cannot name an interface.
    pub fn new(text: &str) -> Option<Self> {
        let labels: Vec<&str> = text.split('.').collect();
        let (last, before) = labels.split_last()?;
        let is_plain = |label: &str| {
            label.starts_with(|first: char| first.is_ascii_alphabetic())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let is_inner = |label: &&str| {
            label.starts_with(|first: char| first.is_ascii_alphanumeric())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let begins = before.first().is_none_or(|first| is_plain(first));
        let inner = before.iter().skip(1).all(is_inner);
        let fits = text.len() <= 128 && !RESERVED.contains(&&*text.to_ascii_lowercase());
        (fits && is_plain(last) && begins && inner).then(|| Self(text.into()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what must be different from that of every other interface.
    pub(crate) fn folded(&self) -> String {
        self.0.replace('-', "").to_ascii_lowercase()
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Interface {
    /// Reads a description in JSON, as it is installed in the realm.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it; at least one.
    pub fn from_json(text: &[u8]) -> Result<Self, Vec<InterfaceError>> {
        let wrong = |problem: String| vec![InterfaceError { member: String::new(), problem }];
        let value = json::parse_value(text).map_err(|error| wrong(error.to_string()))?;
        let Value::Document(document) = value else {
            return Err(wrong("is no JSON object".to_owned()));
        };
        let mut reader = Reader { document: &document, place: String::new(), errors: Vec::new() };
        let interface = reader.interface();
        let errors = reader.errors;
        match interface {
            Some(interface) if errors.is_empty() => interface.checked(),
            _ => Err(errors),
        }
    }

    /// Returns the name.
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// Returns the major and the minor version.
    pub fn version(&self) -> (u32, u32) {
        (self.major, self.minor)
    }

    /// Returns who sends its values.
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// Returns what its values are.
    pub fn content(&self) -> Content {
        self.content
    }

    /// Returns whether its values come one by one.
    pub fn aggregation(&self) -> Aggregation {
        self.aggregation
    }

    /// Returns its mappings; at least one.
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// Returns the mapping of a path.
    pub fn mapping(&self, path: &str) -> Option<&Mapping> {
        self.mappings.iter().find(|it| endpoint::matches(it.endpoint.levels(), path))
    }

    /// Returns whether objects are published on a path.
    pub fn takes_objects_at(&self, path: &str) -> bool {
        self.aggregation == Aggregation::Object && endpoint::matches(self.prefix(), path)
    }

    /// Returns what the paths of objects are made of.
    pub(crate) fn prefix(&self) -> &[Level] {
        self.mappings.first().map_or(&[], |mapping| mapping.endpoint.prefix())
    }

    /// Returns the mapping under which a member of objects stands.
    pub(crate) fn member(&self, key: &str) -> Option<&Mapping> {
        self.mappings.iter().find(|mapping| mapping.endpoint.key() == Some(key))
    }

    /// Returns with which quality of service values of a mapping go.
    pub fn qos(&self, mapping: &Mapping) -> Qos {
        match (self.content, mapping.reliability) {
            (Content::Properties, _) | (_, Reliability::Unique) => Qos::ExactlyOnce,
            (_, Reliability::Guaranteed) => Qos::AtLeastOnce,
            (_, Reliability::Unreliable) => Qos::AtMostOnce,
        }
    }

    /// Checks what concerns several mappings.
    fn checked(self) -> Result<Self, Vec<InterfaceError>> {
        let mut errors = Vec::new();
        let mut wrong = |index: usize, problem: String| {
            let member = format!("mappings[{index}].endpoint");
            errors.push(InterfaceError { member, problem });
        };
        for (index, mapping) in self.mappings.iter().enumerate() {
            let clash = self.mappings[..index]
                .iter()
                .find(|other| other.endpoint.clashes_with(&mapping.endpoint));
            if let Some(other) = clash {
                let problem =
                    format!("`{}` can be the path of `{}`, too", mapping.endpoint, other.endpoint);
                wrong(index, problem);
            }
        }
        if self.aggregation == Aggregation::Object {
            let first = &self.mappings[0];
            for (index, mapping) in self.mappings.iter().enumerate() {
                if mapping.endpoint.levels().len() < 2 || mapping.endpoint.key().is_none() {
                    let problem = "an object's path has two levels or more, the last one a name";
                    wrong(index, problem.to_owned());
                } else if prefix_text(&mapping.endpoint) != prefix_text(&first.endpoint) {
                    let problem =
                        format!("has not the levels of `{}` before its last one", first.endpoint);
                    wrong(index, problem);
                } else if !mapping.is_like(first) {
                    let problem = "reliability, retention, expiry, timestamps, `allow_unset` and database retention are the same in all mappings of an object";
                    wrong(index, problem.to_owned());
                }
            }
        }
        if errors.is_empty() { Ok(self) } else { Err(errors) }
    }
}

/// Returns the levels before the last as written: parameters have the same names in all of them.
fn prefix_text(endpoint: &Endpoint) -> &str {
    endpoint.as_str().rsplit_once('/').map_or("", |(prefix, _)| prefix)
}

impl Mapping {
    fn is_like(&self, other: &Self) -> bool {
        self.reliability == other.reliability
            && self.explicit_timestamp == other.explicit_timestamp
            && self.allow_unset == other.allow_unset
            && self.shared == other.shared
    }
}

/// Reads members, and notes all that is wrong with them.
struct Reader<'d> {
    document: &'d Document,
    place: String,
    errors: Vec<InterfaceError>,
}

impl<'d> Reader<'d> {
    fn wrong(&mut self, key: &str, problem: impl Into<String>) {
        let member = format!("{}{key}", self.place);
        self.errors.push(InterfaceError { member, problem: problem.into() });
    }

    fn interface(&mut self) -> Option<Interface> {
        let name = self.text("interface_name").and_then(|text| {
            let name = InterfaceName::new(text);
            if name.is_none() {
                let problem = format!("`{text}` cannot name an interface (like `org.example.Press`, at most 128 characters)");
                self.wrong("interface_name", problem);
            }
            name
        });
        let major = self.version("version_major");
        let minor = self.version("version_minor");
        if (major, minor) == (Some(0), Some(0)) {
            self.wrong("version_minor", "the version 0.0 does not exist");
        }
        let contents = [("datastream", Content::Datastream), ("properties", Content::Properties)];
        let content = self.word("type", &contents);
        let owners = [("device", Ownership::Device), ("server", Ownership::Server)];
        let ownership = self.word("ownership", &owners);
        let ways = [("individual", Aggregation::Individual), ("object", Aggregation::Object)];
        let aggregation = self.word_or("aggregation", &ways, Aggregation::default());
        if (content, aggregation) == (Some(Content::Properties), Aggregation::Object) {
            self.wrong("aggregation", "properties have no objects");
        }
        self.limited("description", 1_000);
        self.limited("doc", 100_000);
        let mappings = self.mappings(content, aggregation);
        Some(Interface {
            name: name?,
            major: major?,
            minor: minor?,
            ownership: ownership?,
            content: content?,
            aggregation,
            mappings,
        })
    }

    fn mappings(&mut self, content: Option<Content>, aggregation: Aggregation) -> Vec<Mapping> {
        let Some(Value::Array(items)) = self.document.get("mappings") else {
            self.wrong("mappings", "a list of mappings is needed");
            return Vec::new();
        };
        if !(1..=MAPPINGS_MAX).contains(&items.len()) {
            self.wrong(
                "mappings",
                format!("has {} mappings; 1 to {MAPPINGS_MAX} are allowed", items.len()),
            );
            return Vec::new();
        }
        let mut mappings = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let Value::Document(document) = item else {
                self.wrong(&format!("mappings[{index}]"), "is no JSON object");
                continue;
            };
            let place = format!("mappings[{index}].");
            let mut reader = Reader { document, place, errors: Vec::new() };
            mappings.extend(reader.mapping(content, aggregation));
            self.errors.append(&mut reader.errors);
        }
        mappings
    }

    fn mapping(&mut self, content: Option<Content>, aggregation: Aggregation) -> Option<Mapping> {
        let endpoint = self.text("endpoint").and_then(|text| match Endpoint::parse(text) {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                self.wrong("endpoint", error.to_string());
                None
            }
        });
        let value_type = self.text("type").and_then(|text| {
            let found = ValueType::parse(text);
            if found.is_none() {
                self.wrong("type", format!("`{text}` is no type"));
            }
            found
        });
        let kinds = [
            ("unreliable", Reliability::Unreliable),
            ("guaranteed", Reliability::Guaranteed),
            ("unique", Reliability::Unique),
        ];
        let reliability = self.word_or("reliability", &kinds, Reliability::default());
        let shared = self.shared();
        let explicit_timestamp = self.flag("explicit_timestamp");
        let allow_unset = self.flag("allow_unset");
        let required = self.flag("required");
        self.limited("description", 1_000);
        self.limited("doc", 100_000);
        if content == Some(Content::Datastream) && allow_unset {
            self.wrong("allow_unset", "only properties are unset");
        }
        if required && aggregation != Aggregation::Object {
            self.wrong("required", "only members of objects are required");
        }
        Some(Mapping {
            endpoint: endpoint?,
            value_type: value_type?,
            reliability,
            explicit_timestamp,
            allow_unset,
            required,
            shared,
        })
    }

    fn shared(&mut self) -> Shared {
        let retentions = ["discard", "volatile", "stored"].map(|word| (word, word));
        let retention = self.word_or("retention", &retentions, "discard").into();
        let policies = ["no_ttl", "use_ttl"].map(|word| (word, word));
        let policy = self.word_or("database_retention_policy", &policies, "no_ttl");
        let database_ttl = self.number("database_retention_ttl");
        if policy == "use_ttl" && database_ttl.is_none() {
            self.wrong("database_retention_ttl", "`use_ttl` needs it");
        }
        let expiry = self.number("expiry").unwrap_or(0);
        Shared { retention, expiry, database_policy: policy.into(), database_ttl }
    }

    fn text(&mut self, key: &str) -> Option<&'d str> {
        match self.document.get(key) {
            Some(Value::String(text)) => Some(text),
            Some(other) => {
                let problem = format!("is {}, where a text is expected", other.type_name());
                self.wrong(key, problem);
                None
            }
            None => {
                self.wrong(key, "is missing");
                None
            }
        }
    }

    fn version(&mut self, key: &str) -> Option<u32> {
        match self.document.get(key) {
            Some(Value::Integer(number)) if (0..=i64::from(i32::MAX)).contains(number) => {
                u32::try_from(*number).ok()
            }
            Some(_) => {
                self.wrong(key, "is no number from 0 on");
                None
            }
            None => {
                self.wrong(key, "is missing");
                None
            }
        }
    }

    fn number(&mut self, key: &str) -> Option<i64> {
        match self.document.get(key)? {
            Value::Integer(number) if *number >= 0 => Some(*number),
            Value::Null => None,
            _ => {
                self.wrong(key, "is no number of seconds");
                None
            }
        }
    }

    fn flag(&mut self, key: &str) -> bool {
        match self.document.get(key) {
            None | Some(Value::Null) => false,
            Some(Value::Boolean(flag)) => *flag,
            Some(_) => {
                self.wrong(key, "is neither true nor false");
                false
            }
        }
    }

    fn limited(&mut self, key: &str, most: usize) {
        match self.document.get(key) {
            Some(Value::String(text)) if text.chars().count() <= most => {}
            None | Some(Value::Null) => {}
            Some(_) => self.wrong(key, format!("is no text of at most {most} characters")),
        }
    }

    fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        if self.document.get(key).is_none() {
            self.wrong(key, "is missing");
            return None;
        }
        self.optional_word(key, words)
    }

    fn word_or<T: Copy>(&mut self, key: &str, words: &[(&str, T)], default: T) -> T {
        self.optional_word(key, words).unwrap_or(default)
    }

    fn optional_word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let value = self.document.get(key).filter(|value| **value != Value::Null)?;
        let text = if let Value::String(text) = value { &**text } else { "" };
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(key, format!("is none of {}", known.join(", ")));
        }
        found.map(|(_, value)| *value)
    }
}
