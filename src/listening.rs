//! Where the gateway listens, and how safe that is: told in status.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidegate_adapter_api::Gate;

/// What is spoken at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over WebSocket.
    WebSocket,
    /// MQTT over WebSocket and TLS.
    WebSocketTls,
    /// CoAP over UDP.
    Coap,
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Protocol {
    /// Returns the scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::WebSocket => "ws",
            Self::WebSocketTls => "wss",
            Self::Coap => "coap",
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Returns whether others on the way can read what is said.
    pub fn is_plain(self) -> bool {
        matches!(self, Self::Mqtt | Self::WebSocket | Self::Coap | Self::Http)
    }
}

/// An address of a listener.
#[derive(Clone, Debug)]
pub struct Listening {
    /// What is spoken there.
    pub protocol: Protocol,
    /// The address; with the port that the system chose, once it is bound.
    pub address: SocketAddr,
    /// Whether clients without credentials are let in.
    pub anonymous: bool,
    /// Whether it is listened on.
    pub gate: Gate,
}

impl Listening {
    /// Returns it as status shows it. `exposed` is red: what is said there can be read by others on the network.
    pub fn to_json(&self) -> Value {
        let is_plain = self.protocol.is_plain();
        json!({
            "protocol": self.protocol.scheme(),
            "address": self.address.to_string(),
            "open": self.gate.is_open(),
            "encrypted": !is_plain,
            "anonymous": self.anonymous,
            "exposed": is_plain && !self.address.ip().is_loopback(),
        })
    }
}
