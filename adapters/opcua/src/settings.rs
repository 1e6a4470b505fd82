//! What one `[[opcua]]` table says, checked.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use thiserror::Error;
use tidegate_model::AdapterName;

/// How often the address space is searched for new nodes if the file does not say.
pub const REBROWSE_DEFAULT: Duration = Duration::from_secs(60);

/// One configured OPC UA server.
#[derive(Clone, Debug)]
pub struct OpcUaSettings {
    /// The name of the adapter, which mappings give as `server`.
    pub name: AdapterName,
    /// Where the server listens: `opc.tcp://host:port/path`.
    pub endpoint: Endpoint,
    /// How messages are protected.
    pub security: Security,
    /// As whom the gateway logs in; `None` is anonymous.
    pub user: Option<UserLogin>,
    /// How often patterns are matched anew, and refused nodes are tried again.
    pub rebrowse: Duration,
    /// Holds `own`, `private`, `trusted` and `rejected`; made if absent. Several servers may share it.
    pub pki_directory: PathBuf,
    /// The name by which servers know this gateway: the application URI, such as `urn:press-hall-1:tidegate`.
    pub application_uri: String,
    /// Protects the gateway from what a server may send.
    pub limits: Limits,
}

/// How messages are protected: `security` of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Neither signed nor encrypted; the server is not authenticated.
    None,
    /// Signed.
    Sign,
    /// Signed and encrypted.
    #[default]
    SignAndEncrypt,
}

/// A word is not one of `none`, `sign` and `sign-and-encrypt`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{word}` is not a security mode; use none, sign or sign-and-encrypt")]
pub struct UnknownSecurity {
    /// The word as it was found.
    pub word: String,
}

/// A checked address of an OPC UA server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

/// A text is not the address of an OPC UA server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is not an endpoint; write opc.tcp://HOST:PORT or opc.tcp://HOST:PORT/PATH")]
pub struct EndpointError {
    /// The text as it was found.
    pub text: String,
}

/// A user name with its password; never printed.
#[derive(Clone)]
pub struct UserLogin {
    /// The user name.
    pub name: String,
    /// The password.
    pub password: String,
}

/// Bounds on what a server may send: `[limits.opcua]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message, in bytes.
    pub max_message: usize,
    /// Most chunks a message is made of.
    pub max_chunks: usize,
    /// Longest array, in elements.
    pub max_array: usize,
    /// Longest string or byte string, in bytes.
    pub max_string: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message: 4 << 20, max_chunks: 64, max_array: 65_536, max_string: 1 << 20 }
    }
}

impl Security {
    /// Returns the word used in configuration files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sign => "sign",
            Self::SignAndEncrypt => "sign-and-encrypt",
        }
    }
}

impl fmt::Display for Security {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Security {
    type Err = UnknownSecurity;

    fn from_str(word: &str) -> Result<Self, UnknownSecurity> {
        [Self::None, Self::Sign, Self::SignAndEncrypt]
            .into_iter()
            .find(|known| known.as_str() == word)
            .ok_or_else(|| UnknownSecurity { word: word.into() })
    }
}

impl Endpoint {
    /// Checks `text` and takes it as the address of a server.
    ///
    /// # Errors
    ///
    /// [`EndpointError`] if it is none.
    pub fn new(text: &str) -> Result<Self, EndpointError> {
        let error = || EndpointError { text: text.chars().take(200).collect() };
        let rest = text.strip_prefix("opc.tcp://").ok_or_else(error)?;
        let authority = rest.split('/').next().unwrap_or_default();
        let host = authority
            .rsplit_once(':')
            .map_or(authority, |(host, port)| if port.ends_with(']') { authority } else { host });
        let printable = text.chars().all(|character| character.is_ascii_graphic());
        let known = opcua::core::comms::url::is_opc_ua_binary_url(text);
        if host.is_empty() || authority.contains('@') || !printable || !known {
            return Err(error());
        }
        Ok(Self(text.into()))
    }

    /// Returns the address as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for UserLogin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("UserLogin").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_checked() {
        for right in [
            "opc.tcp://127.0.0.1:4840",
            "opc.tcp://plc7",
            "opc.tcp://plc7:4840/server/path",
            "opc.tcp://[::1]:4840/",
        ] {
            assert_eq!(Endpoint::new(right).unwrap().as_str(), right);
        }
        for wrong in [
            "",
            "plc7:4840",
            "http://plc7",
            "opc.tcp://",
            "opc.tcp://:4840",
            "opc.tcp://plc7:port",
            "opc.tcp://u:p@plc7",
            "opc.tcp://plc 7",
        ] {
            assert!(Endpoint::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn security_words_are_read_back() {
        for mode in [Security::None, Security::Sign, Security::SignAndEncrypt] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("encrypt".parse::<Security>().is_err());
        assert_eq!(Security::default(), Security::SignAndEncrypt);
    }

    #[test]
    fn a_password_is_never_printed() {
        let login = UserLogin { name: "gw".into(), password: "planted".into() };
        assert!(!format!("{login:?}").contains("planted"));
    }
}
