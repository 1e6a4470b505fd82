//! All interfaces of a device.

use std::{collections::BTreeMap, fmt::Write as _};

use thiserror::Error;

use crate::{Aggregation, Content, Interface, InterfaceName, Mapping, Ownership};

/// The interfaces of a device, by name.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    all: BTreeMap<InterfaceName, Interface>,
}

/// Two interfaces of a device whose names the far side holds for one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{first}` and `{second}` are one name: neither case nor hyphens count")]
pub struct Clash {
    /// The one that was there.
    pub first: InterfaceName,
    /// The other.
    pub second: InterfaceName,
}

/// What a path of an interface holds. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'i> {
    /// One value.
    Value(&'i Mapping),
    /// An object; the mapping is any of its members, for what all have in common.
    Object(&'i Mapping),
}

impl<'i> Target<'i> {
    /// Returns the mapping: of an object that of some member.
    pub fn mapping(self) -> &'i Mapping {
        match self {
            Self::Value(mapping) | Self::Object(mapping) => mapping,
        }
    }
}

impl Interfaces {
    /// Takes the interfaces.
    ///
    /// # Errors
    ///
    /// [`Clash`] names the first two that are the same to the far side.
    pub fn new(all: impl IntoIterator<Item = Interface>) -> Result<Self, Clash> {
        let mut folded: BTreeMap<String, InterfaceName> = BTreeMap::new();
        let mut interfaces = Self::default();
        for interface in all {
            let name = interface.name().clone();
            if let Some(first) = folded.insert(name.folded(), name.clone()) {
                return Err(Clash { first, second: name });
            }
            interfaces.all.insert(name, interface);
        }
        Ok(interfaces)
    }

    /// Returns the interface of this name.
    pub fn get(&self, name: &str) -> Option<&Interface> {
        self.all.iter().find(|(key, _)| key.as_str() == name).map(|(_, interface)| interface)
    }

    /// Returns all of them, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Interface> {
        self.all.values()
    }

    /// Returns what is at a path; `None` if there is no such path.
    pub fn resolve(&self, name: &str, path: &str) -> Option<(&Interface, Target<'_>)> {
        let interface = self.get(name)?;
        let target = match interface.aggregation() {
            Aggregation::Individual => Target::Value(interface.mapping(path)?),
            Aggregation::Object if interface.takes_objects_at(path) => {
                Target::Object(interface.mappings().first()?)
            }
            Aggregation::Object => return None,
        };
        Some((interface, target))
    }

    /// Returns whether some interface has properties.
    pub fn have_properties(&self) -> bool {
        self.iter().any(|interface| interface.content() == Content::Properties)
    }

    /// Returns the names of those by which the server speaks.
    pub(crate) fn of_server(&self) -> impl Iterator<Item = &InterfaceName> {
        let owned = self.iter().filter(|interface| interface.ownership() == Ownership::Server);
        owned.map(Interface::name)
    }

    /// Writes the introspection: every interface with its version.
    pub fn introspection(&self) -> String {
        let mut text = String::new();
        for interface in self.iter() {
            let separator = if text.is_empty() { "" } else { ";" };
            let (major, minor) = interface.version();
            // Writing to a string does not fail.
            let _ = write!(text, "{separator}{}:{major}:{minor}", interface.name());
        }
        text
    }
}
