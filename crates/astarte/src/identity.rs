//! Who a device is, and the topics that are its own.

use std::{fmt, sync::Arc};

use data_encoding::BASE64URL_NOPAD;
use thiserror::Error;
use tidegate_model::{Topic, TopicFilter};

/// The name of a realm: a small letter, then small letters and digits, at most 48.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm(Arc<str>);

/// The id of a device: 128 bits as 22 characters of URL-safe base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceId(Arc<str>);

/// Why a text names no realm, or no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// It is no realm.
    #[error("a realm has 1 to 48 small letters and digits, and begins with a letter")]
    Realm,
    /// It is no device id.
    #[error(
        "a device id is 128 bits in URL-safe base64 without padding: 22 characters, such as `V_zv6ThCCtXWveQ8mPjsKg`"
    )]
    Device,
}

impl Realm {
    /// Checks `text` and takes it.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Realm`].
    pub fn new(text: &str) -> Result<Self, IdentityError> {
        let begins = text.starts_with(|first: char| first.is_ascii_lowercase());
        let goes_on = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if begins && goes_on && text.len() <= 48 {
            Ok(Self(text.into()))
        } else {
            Err(IdentityError::Realm)
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl DeviceId {
    /// Checks `text` and takes it.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Device`].
    pub fn new(text: &str) -> Result<Self, IdentityError> {
        match BASE64URL_NOPAD.decode(text.as_bytes()) {
            Ok(bits) if bits.len() == 16 => Ok(Self(text.into())),
            _ => Err(IdentityError::Device),
        }
    }

    /// Takes the 16 bytes of a UUID.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(BASE64URL_NOPAD.encode(&bytes).into())
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Realm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A device in its realm; the root of all its topics, and the name in its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    realm: Realm,
    id: DeviceId,
    base: Arc<str>,
}

/// What a topic that came down is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'t> {
    /// The list of the properties that the server has set.
    ConsumerProperties,
    /// Another control message; there is none that is to be heeded.
    OtherControl,
    /// A value of an interface.
    Data {
        /// The name of the interface, as it stands there.
        interface: &'t str,
        /// The path, with its `/`.
        path: &'t str,
    },
}

impl Device {
    /// Takes realm and id.
    pub fn new(realm: Realm, id: DeviceId) -> Self {
        let base = format!("{realm}/{id}").into();
        Self { realm, id, base }
    }

    /// Returns the realm.
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// Returns the id.
    pub fn id(&self) -> &DeviceId {
        &self.id
    }

    /// Returns `<realm>/<device id>`: the common name of its certificate, its client id, and the topic of the
    /// introspection.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Returns the topic of a control message.
    pub(crate) fn control(&self, path: &str) -> String {
        format!("{}/control/{path}", self.base)
    }

    /// Returns the topic of a path of an interface; `None` if it is longer than MQTT has room for.
    pub(crate) fn topic(&self, interface: &str, path: &str) -> Option<Topic> {
        Topic::new(&format!("{}/{interface}{path}", self.base)).ok()
    }

    /// Returns the filter of all that comes for an interface.
    pub(crate) fn filter(&self, interface: &str) -> Option<TopicFilter> {
        TopicFilter::new(&format!("{}/{interface}/#", self.base)).ok()
    }

    /// Reads a topic on which something came; `None` if it is not one of the device's.
    pub fn read_topic<'t>(&self, topic: &'t str) -> Option<Incoming<'t>> {
        let below = topic.strip_prefix(&*self.base)?.strip_prefix('/')?;
        let at = below.find('/')?;
        let (interface, path) = below.split_at(at);
        Some(match (interface, path) {
            ("control", "/consumer/properties") => Incoming::ConsumerProperties,
            ("control", _) => Incoming::OtherControl,
            (interface, path) => Incoming::Data { interface, path },
        })
    }
}
