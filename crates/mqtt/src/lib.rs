//! MQTT 3.1.1 and 5.0: packet codec and connection state machine, without I/O.
//!
//! [`Connection`] is the server's side of one connection, [`Client`] the client's (3.1.1 alone). [`PublishFrame`] is a message encoded once for
//! all who get it, [`Output`] collects the bytes for one peer. [`Packet`](packet::Packet) reads and
//! writes single packets of either side.

mod client;
mod connection;
mod error;
mod frame;
mod ids;
mod limits;
#[cfg(test)]
mod oracle;
mod output;
pub mod packet;
mod property;
mod reader;
mod reason;
#[cfg(test)]
mod testing;
mod text;
mod varint;
mod version;
mod writer;

pub use client::{Client, ClientError, ClientEvent, ClientSettings, Received};
pub use connection::{ClientPacket, CloseCause, Connection, PacketBatch, Sent};
pub use error::{EncodeError, ProtocolError};
pub use frame::{EncodedProperties, NO_PROPERTIES, Outgoing, PublishFrame};
pub use ids::{PacketId, SessionExpiry, SubscriptionId};
pub use limits::{Limits, Settings};
pub use output::Output;
pub use property::Property;
pub use reason::ReasonCode;
pub use text::{Password, Text, TextError};
pub use version::ProtocolVersion;
