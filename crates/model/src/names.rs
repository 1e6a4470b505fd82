//! Names of the parties: clients, principals, adapters, uplinks; and units of measure.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// Why a text cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// The text is empty.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than the kind of name allows.
    #[error("is {bytes} bytes long, at most {limit} are allowed")]
    TooLong {
        /// Length of the text.
        bytes: usize,
        /// Longest text allowed.
        limit: usize,
    },
    /// The text holds a character that the kind of name does not allow.
    #[error("must not contain {character:?}")]
    Character {
        /// The first such character.
        character: char,
    },
}

fn check(text: &str, limit: usize, allowed: impl Fn(char) -> bool) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > limit {
        return Err(NameError::TooLong { bytes: text.len(), limit });
    }
    match text.chars().find(|&character| !allowed(character)) {
        Some(character) => Err(NameError::Character { character }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $limit:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it as a name.
            ///
            /// # Errors
            ///
            /// [`NameError`] says what is wrong with the text.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text, $limit, $allowed)?;
                Ok(Self(text.into()))
            }

            /// Returns the name as text.
            #[inline]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

fn is_identifier(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.')
}

name! {
    /// An MQTT client identifier: 1 to 65 535 bytes of text without U+0000 (MQTT 5.0, section 3.1.3.1).
    ClientId, 65_535, |character| character != '\0'
}

name! {
    /// Whoever acts: a configured account, `anonymous`, or a part of the gateway such as `uplink:cloud`.
    ///
    /// At most 256 bytes, no control characters.
    Principal, 256, |character: char| !character.is_control()
}

name! {
    /// The configured name of an adapter instance, such as `plc7`; letters, digits, `-`, `_`, `.`.
    AdapterName, 64, is_identifier
}

name! {
    /// The configured name of an uplink, such as `cloud`; letters, digits, `-`, `_`, `.`.
    UplinkName, 64, is_identifier
}

name! {
    /// A unit of measure, as a SenML (RFC 8428) or UCUM symbol such as `Cel`; at most 64 bytes.
    Unit, 64, |character: char| !character.is_control()
}

impl Principal {
    /// Returns the principal of an account, if it may have this name: it stands in topic filters and globs, and is none
    /// that the gateway gives itself.
    pub fn of_account(name: &str) -> Option<Self> {
        let is_taken = Self::is_own_name(name);
        let is_sound = !is_taken && !name.contains(['/', '+', '#', '*']);
        Self::new(name).ok().filter(|_| is_sound)
    }

    /// Returns whether the gateway gives this name itself: to clients without credentials, uplinks and adapters.
    pub fn is_own_name(name: &str) -> bool {
        name == "anonymous" || name.starts_with("uplink:") || name.starts_with("adapter:")
    }

    /// Returns the principal of a connection without credentials on a listener that allows them.
    pub fn anonymous() -> Self {
        Self("anonymous".into())
    }

    /// Returns the principal as which an uplink acts.
    pub fn uplink(name: &UplinkName) -> Self {
        Self(format!("uplink:{name}").into())
    }

    /// Returns whether this is [`anonymous`](Self::anonymous).
    pub fn is_anonymous(&self) -> bool {
        &*self.0 == "anonymous"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// identity.3: neither a file nor a foreign issuer can name what the gateway names itself.
    #[test]
    fn an_account_has_no_name_of_the_gateway() {
        for name in ["anonymous", "uplink:cloud", "adapter:http", "a/b", "a+", "#", "press-*", ""] {
            assert_eq!(Principal::of_account(name), None, "{name}");
        }
        assert!(Principal::of_account("press-7").is_some());
    }

    #[test]
    fn names_refuse_what_their_kind_forbids() {
        assert_eq!(ClientId::new(""), Err(NameError::Empty));
        assert_eq!(ClientId::new("a\0b"), Err(NameError::Character { character: '\0' }));
        assert_eq!(AdapterName::new("plc 7"), Err(NameError::Character { character: ' ' }));
        assert_eq!(Unit::new(&"x".repeat(65)), Err(NameError::TooLong { bytes: 65, limit: 64 }));
        assert_eq!(
            UplinkName::new("cloud").map(|name| Principal::uplink(&name).to_string()),
            Ok("uplink:cloud".into())
        );
    }
}
