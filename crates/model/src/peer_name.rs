//! Names in the certificate of a client, by which a principal is found.

use std::{fmt, net::IpAddr};

use thiserror::Error;

/// One name, written as in the configuration: `CN=press-7`, `DNS:press-7.plant.example`, `URI:urn:plant:press-7`,
/// `EMAIL:press-7@plant.example`, `IP:192.0.2.7`.
///
/// What stands before `=` is an attribute of the subject, what stands before `:` a kind of alternative name.
/// Kinds are compared without regard to case, values exactly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(String);

/// A text is not a [`PeerName`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "a name in a certificate is written `CN=press-7`, `DNS:press-7.example`, `URI:…`, `EMAIL:…` or `IP:…`"
)]
pub struct InvalidPeerName;

/// Long names of attributes, and the short ones under which they are known.
const SHORT: [(&str, &str); 7] = [
    ("COMMONNAME", "CN"),
    ("COUNTRYNAME", "C"),
    ("EMAILADDRESS", "EMAIL"),
    ("LOCALITYNAME", "L"),
    ("ORGANIZATIONNAME", "O"),
    ("ORGANIZATIONALUNITNAME", "OU"),
    ("STATEORPROVINCENAME", "ST"),
];

impl PeerName {
    /// Reads a name as the configuration has it.
    ///
    /// # Errors
    ///
    /// [`InvalidPeerName`] if it has no kind, an empty value, or a kind of alternative name that does not exist.
    pub fn new(text: &str) -> Result<Self, InvalidPeerName> {
        let at = text.find(['=', ':']).ok_or(InvalidPeerName)?;
        let (kind, value) = (&text[..at], &text[at + 1..]);
        let is_word = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_word || value.is_empty() {
            return Err(InvalidPeerName);
        }
        let kind = kind.to_ascii_uppercase();
        if text.as_bytes()[at] == b'=' {
            let short = SHORT.iter().find(|(long, _)| *long == kind).map(|(_, short)| *short);
            return Ok(Self(format!("{}={value}", short.unwrap_or(&kind))));
        }
        match kind.as_str() {
            // Addresses have several spellings.
            "IP" => match value.parse::<IpAddr>() {
                Ok(address) => Ok(Self(format!("IP:{address}"))),
                Err(_) => Err(InvalidPeerName),
            },
            "DNS" | "URI" | "EMAIL" => Ok(Self(format!("{kind}:{value}"))),
            _ => Err(InvalidPeerName),
        }
    }

    /// Returns the name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// All names of one certificate that was verified, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames(Vec<PeerName>);

impl PeerNames {
    /// Returns whether the certificate has a name.
    pub fn contains(&self, name: &PeerName) -> bool {
        self.0.contains(name)
    }

    /// Returns the names in the order of the certificate.
    pub fn iter(&self) -> impl Iterator<Item = &PeerName> {
        self.0.iter()
    }
}

impl FromIterator<PeerName> for PeerNames {
    fn from_iter<I: IntoIterator<Item = PeerName>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}
