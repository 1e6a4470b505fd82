//! Whom an endpoint speaks with.

use std::net::{IpAddr, SocketAddr};

/// A peer: its address and port, and the address of ours to which it has sent.
///
/// An endpoint that listens on all addresses of a host is several endpoints to its peers (RFC 7252, section
/// 4.4): each has its own message IDs, and must answer from the address that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    address: SocketAddr,
    local: Option<IpAddr>,
}

impl Peer {
    /// Takes a peer of one of our addresses.
    pub fn of(local: IpAddr, address: SocketAddr) -> Self {
        Self { address, local: Some(local) }
    }

    /// Returns the peer's address and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of ours to which it has sent, unless there is only one.
    pub fn local(&self) -> Option<IpAddr> {
        self.local
    }
}

/// A peer of an endpoint that has one address.
impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self { address, local: None }
    }
}
