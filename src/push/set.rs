//! What is pushed, within its bounds.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value as Json, json};
use thiserror::Error;
use tidegate_model::Value;

/// Most files of a set.
const FILES_MAX: usize = 256;
/// Most bytes of all texts of a set together.
pub(super) const BYTES_MAX: usize = 1 << 20;
/// Longest name of a file, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// Deepest folder of a file, its own name counted.
const LEVELS_MAX: usize = 8;
const EXTENSIONS: [&str; 3] = [".toml", ".yaml", ".yml"];

/// A whole set of mapping files, names relative to the folder of the configuration and texts, or a configuration file,
/// or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushedSet {
    mappings: Option<BTreeMap<String, String>>,
    configuration: Option<String>,
}

/// Why something that was sent is no set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SetError {
    /// A member is of another type.
    #[error("`{name}` must be {expected}, found {found}")]
    Type {
        /// The member.
        name: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// Nothing is sent.
    #[error(
        "`mappings` is missing, an object with the text of each file under its name, and so is `configuration`"
    )]
    Nothing,
    /// There are too many files.
    #[error("{count} files are more than the {FILES_MAX} of a set")]
    Files {
        /// How many there are.
        count: usize,
    },
    /// The texts are too large.
    #[error("the texts have more than the {BYTES_MAX} bytes of a set")]
    Bytes,
    /// A file cannot have this name.
    #[error("`{name}` cannot be the name of a file: {reason}")]
    Name {
        /// The name, without control characters and shortened.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file and a folder have the same name.
    #[error("`{name}` is a file and a folder at once")]
    Folder {
        /// The name.
        name: String,
    },
}

impl PushedSet {
    /// Takes the files of `mappings`, an object with texts under names, and the text of `configuration`. No name occurs
    /// twice in a document.
    ///
    /// # Errors
    ///
    /// [`SetError`] names the first file that breaks a bound; names are checked before any text is copied.
    pub fn from_value(
        mappings: Option<&Value>,
        configuration: Option<&Value>,
    ) -> Result<Self, SetError> {
        let configuration = match configuration {
            None => None,
            Some(Value::String(text)) if text.len() <= BYTES_MAX => Some(text.to_string()),
            Some(Value::String(_)) => return Err(SetError::Bytes),
            Some(other) => {
                let (name, found) = ("configuration".into(), other.type_name());
                return Err(SetError::Type { name, expected: "a text", found });
            }
        };
        let room = BYTES_MAX - configuration.as_ref().map_or(0, String::len);
        let mappings = match mappings {
            None if configuration.is_none() => return Err(SetError::Nothing),
            None => None,
            Some(mappings) => Some(Self::files(mappings, room)?),
        };
        Ok(Self { mappings, configuration })
    }

    /// Reads mapping files of at most so many bytes.
    fn files(mappings: &Value, room: usize) -> Result<BTreeMap<String, String>, SetError> {
        let wrong = |name: &str, expected, value: &Value| SetError::Type {
            name: shown(name),
            expected,
            found: value.type_name(),
        };
        let Value::Document(files) = mappings else {
            return Err(wrong("mappings", "an object", mappings));
        };
        let count = files.len();
        if count > FILES_MAX {
            return Err(SetError::Files { count });
        }
        let mut bytes = 0;
        for (name, text) in files.iter() {
            check_name(name)?;
            let Value::String(text) = text else { return Err(wrong(name, "a text", text)) };
            bytes += text.len();
        }
        if bytes > room {
            return Err(SetError::Bytes);
        }
        let text_of = |value: &Value| match value {
            Value::String(text) => Some(text.to_string()),
            _ => None,
        };
        let mappings: BTreeMap<String, String> = files
            .iter()
            .filter_map(|(name, text)| Some((name.to_string(), text_of(text)?)))
            .collect();
        for name in mappings.keys() {
            let folder = format!("{name}/");
            if mappings
                .range(folder.clone()..)
                .next()
                .is_some_and(|(it, _)| it.starts_with(&folder))
            {
                return Err(SetError::Folder { name: name.clone() });
            }
        }
        Ok(mappings)
    }

    /// Returns this set with what it leaves out as another one has it.
    pub(super) fn over(self, other: &Self) -> Self {
        Self {
            mappings: self.mappings.or_else(|| other.mappings.clone()),
            configuration: self.configuration.or_else(|| other.configuration.clone()),
        }
    }

    /// Returns the text of the configuration file; `None` if it is the one that the gateway was started with.
    pub fn configuration(&self) -> Option<&str> {
        self.configuration.as_deref()
    }

    /// Returns the mapping files by name; `None` if they are those of the folder of the configuration.
    pub fn mappings(&self) -> Option<&BTreeMap<String, String>> {
        self.mappings.as_ref()
    }

    /// Returns what tells this set from others: the SHA-256 of its names and texts, in hexadecimal.
    pub fn digest(&self) -> String {
        HEXLOWER.encode(digest(&SHA256, self.to_json().to_string().as_bytes()).as_ref())
    }

    /// Returns the set as it is kept.
    pub(super) fn to_json(&self) -> Json {
        json!({ "mappings": self.mappings, "configuration": self.configuration })
    }

    /// Reads what [`to_json`](Self::to_json) made; `None` if it is something else.
    pub(super) fn from_json(kept: &Json) -> Option<Self> {
        let texts = |files: &Map<String, Json>| {
            files
                .iter()
                .map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())))
                .collect::<Option<BTreeMap<_, _>>>()
        };
        let mappings = match &kept["mappings"] {
            Json::Null => None,
            files => Some(texts(files.as_object()?)?),
        };
        let configuration = match &kept["configuration"] {
            Json::Null => None,
            text => Some(text.as_str()?.to_owned()),
        };
        Some(Self { mappings, configuration })
    }
}

/// Checks that a name means one file below the folder of the configuration and nothing else. It is only ever a key:
/// no file of this name is made.
fn check_name(name: &str) -> Result<(), SetError> {
    let refuse = |reason| Err(SetError::Name { name: shown(name), reason });
    if name.len() > NAME_BYTES_MAX {
        return refuse("it has more than 200 bytes");
    }
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    if !name.chars().all(is_plain) {
        return refuse("names have letters, digits, `-`, `_`, `.` and `/`");
    }
    if name.starts_with('/') {
        return refuse("it must be relative to the folder of the configuration");
    }
    if name.split('/').any(|level| level.is_empty() || level.starts_with('.')) {
        return refuse("a level must not be empty or begin with a dot");
    }
    if name.split('/').count() > LEVELS_MAX {
        return refuse("it has more than 8 levels");
    }
    if !EXTENSIONS.iter().any(|extension| name.ends_with(extension)) {
        return refuse("mapping files end in `.toml`, `.yaml` or `.yml`");
    }
    Ok(())
}

/// Returns a name that a stranger chose, as it can be shown.
fn shown(name: &str) -> String {
    let harmless = |letter: char| if letter.is_control() { '\u{FFFD}' } else { letter };
    name.chars().take(80).map(harmless).collect()
}
