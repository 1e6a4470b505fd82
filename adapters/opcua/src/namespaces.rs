//! The namespace array of a server run: addresses with URIs to node ids with indexes, and back.
//!
//! Indexes are valid for one run of the server only (OPC 10000-3, section 8.2.2), so the table is read
//! anew after every connect and nothing with an index outlives it.

use std::{fmt::Write as _, str::FromStr};

use opcua::types::{self, ByteString, ExpandedNodeId, Guid, NodeId, Variant};
use thiserror::Error;
use tidegate_model::{Identifier, NodeAddress};

/// The URI of namespace 0.
const NAMESPACE_0: &str = "http://opcfoundation.org/UA/";

/// The namespace URIs of a server, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Namespaces {
    uris: Vec<String>,
}

/// Why an address is no node of the server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum UnknownNode {
    /// The server does not list the namespace.
    #[error("the server has no namespace `{uri}`")]
    Namespace { uri: String },
    /// The identifier cannot be decoded.
    #[error("`{identifier}` is not a valid identifier")]
    Identifier { identifier: Identifier },
}

/// What the server gave as its namespace array is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the server's namespace array is not an array of strings")]
pub(crate) struct NotANamespaceArray;

impl Namespaces {
    /// Takes the value of `Server_NamespaceArray`.
    pub(crate) fn from_variant(value: &Variant) -> Result<Self, NotANamespaceArray> {
        let Variant::Array(array) = value else {
            return Err(NotANamespaceArray);
        };
        let uris = array.values.iter().map(|uri| match uri {
            Variant::String(uri) => Ok(uri.as_ref().to_owned()),
            _ => Err(NotANamespaceArray),
        });
        Ok(Self { uris: uris.collect::<Result<_, _>>()? })
    }

    /// Returns whether every index of `earlier` means the same here.
    pub(crate) fn extends(&self, earlier: &Self) -> bool {
        self.uris.starts_with(&earlier.uris)
    }

    /// Returns the node id that `address` has in this run of the server.
    pub(crate) fn node_id(&self, address: &NodeAddress) -> Result<NodeId, UnknownNode> {
        let index = self
            .uris
            .iter()
            .position(|uri| *uri == address.namespace)
            .or((address.namespace == NAMESPACE_0).then_some(0))
            .and_then(|index| u16::try_from(index).ok())
            .ok_or_else(|| UnknownNode::Namespace { uri: address.namespace.clone() })?;
        let broken = || UnknownNode::Identifier { identifier: address.identifier.clone() };
        let identifier = match &address.identifier {
            Identifier::Numeric(number) => types::Identifier::Numeric(*number),
            Identifier::Text(text) => types::Identifier::String(text.as_str().into()),
            Identifier::Guid(text) => {
                types::Identifier::Guid(Guid::from_str(text).map_err(|_| broken())?)
            }
            Identifier::Opaque(text) => {
                types::Identifier::ByteString(ByteString::from_base64(text).ok_or_else(broken)?)
            }
        };
        Ok(NodeId { namespace: index, identifier })
    }

    /// Returns the lasting address of a node; `None` if its index lies outside the array.
    pub(crate) fn address(&self, node: &NodeId) -> Option<NodeAddress> {
        let namespace = match node.namespace {
            0 => NAMESPACE_0.to_owned(),
            index => self.uris.get(usize::from(index))?.clone(),
        };
        let identifier = match &node.identifier {
            types::Identifier::Numeric(number) => Identifier::Numeric(*number),
            types::Identifier::String(text) => Identifier::Text(text.as_ref().to_owned()),
            types::Identifier::Guid(guid) => {
                Identifier::Guid(guid.to_string().to_ascii_lowercase())
            }
            types::Identifier::ByteString(bytes) => Identifier::Opaque(bytes.as_base64()),
        };
        Some(NodeAddress { namespace, identifier })
    }

    /// Returns a reference target as a node of this server; `None` if it lies in another one.
    pub(crate) fn local(&self, node: ExpandedNodeId) -> Option<NodeId> {
        if node.server_index != 0 {
            return None;
        }
        if node.namespace_uri.is_empty() {
            return Some(node.node_id);
        }
        let index = self.uris.iter().position(|uri| *uri == node.namespace_uri.as_ref())?;
        Some(NodeId { namespace: u16::try_from(index).ok()?, ..node.node_id })
    }

    /// Returns a node id as text with the namespace URI, or with the index if that is unknown.
    pub(crate) fn text(&self, node: &NodeId) -> String {
        self.address(node).map_or_else(|| node.to_string(), |address| address.to_string())
    }

    /// Returns a node id of any server as text, with URI where one is known.
    pub(crate) fn expanded_text(&self, node: &ExpandedNodeId) -> String {
        let mut text = String::new();
        if node.server_index != 0 {
            write!(text, "svr={};", node.server_index).expect("writing to a string succeeds");
        }
        if node.namespace_uri.is_empty() {
            text.push_str(&self.text(&node.node_id));
        } else {
            let identifier = &node.node_id.identifier;
            let uri = node.namespace_uri.as_ref().replace('%', "%25").replace(';', "%3B");
            write!(text, "nsu={uri};{identifier}").expect("writing to a string succeeds");
        }
        text
    }
}

#[cfg(test)]
impl Namespaces {
    pub(crate) fn of(uris: &[&str]) -> Self {
        let uris = [NAMESPACE_0].iter().chain(uris).map(ToString::to_string).collect();
        Self { uris }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::NodePattern;

    use super::*;

    fn address(text: &str) -> NodeAddress {
        NodePattern::parse(text).unwrap().literal().unwrap()
    }

    #[test]
    fn an_address_survives_shifted_indexes() {
        let first = Namespaces::of(&["urn:server", "urn:press"]);
        let second = Namespaces::of(&["urn:server", "urn:new", "urn:press"]);
        for text in [
            "nsu=urn:press;s=Press.1.Temperature",
            "nsu=urn:press;i=42",
            "nsu=urn:press;g=09087e75-8e5e-499b-954f-f2a9603db28a",
            "nsu=urn:press;b=TTE=",
        ] {
            let address = address(text);
            let (before, after) =
                (first.node_id(&address).unwrap(), second.node_id(&address).unwrap());
            assert_eq!((before.namespace, after.namespace), (2, 3), "{text}");
            assert_eq!(second.address(&after).as_ref(), Some(&address), "{text}");
            assert_eq!(second.text(&after), text);
        }
        assert_eq!(first.node_id(&address("i=2258")).unwrap(), NodeId::new(0, 2258_u32));
        assert!(!second.extends(&first));
        assert!(Namespaces::of(&["urn:server", "urn:press", "urn:later"]).extends(&first));
    }

    #[test]
    fn a_missing_namespace_is_named() {
        let namespaces = Namespaces::of(&["urn:server"]);
        let error = namespaces.node_id(&address("nsu=urn:press;s=a")).unwrap_err();
        assert_eq!(error.to_string(), "the server has no namespace `urn:press`");
        let error = namespaces.node_id(&address("nsu=urn:server;b=***")).unwrap_err();
        assert!(matches!(error, UnknownNode::Identifier { .. }));
        assert_eq!(namespaces.address(&NodeId::new(9, 1_u32)), None);
    }

    #[test]
    fn nodes_of_other_servers_are_left_out() {
        let namespaces = Namespaces::of(&["urn:press"]);
        let mut node = ExpandedNodeId::new(NodeId::new(1, "a"));
        assert_eq!(namespaces.local(node.clone()), Some(NodeId::new(1, "a")));
        node.namespace_uri = "urn:press".into();
        node.node_id.namespace = 0;
        assert_eq!(namespaces.local(node.clone()), Some(NodeId::new(1, "a")));
        node.server_index = 1;
        assert_eq!(namespaces.local(node), None);
    }

    #[test]
    fn only_an_array_of_strings_is_a_namespace_array() {
        let array = Variant::from(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(Namespaces::from_variant(&array).unwrap().uris, ["a", "b"]);
        assert_eq!(Namespaces::from_variant(&Variant::from(1_i32)), Err(NotANamespaceArray));
        assert_eq!(Namespaces::from_variant(&Variant::from(vec![1_i32])), Err(NotANamespaceArray));
    }
}
