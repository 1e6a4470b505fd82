//! Which listeners are open: none is, beyond loopback, before somebody could log in there (docs/promises.md, C1).

use std::net::SocketAddr;

use tidegate_adapter_api::Gate;
use tidegate_tls::Clients;
use tokio::sync::watch;

use crate::{
    config::{Config, ListenerConfig, TlsConfig, WebSocketConfig},
    listening::{Listening, Protocol},
};

/// The gates of all listeners.
#[derive(Debug)]
pub(super) struct Gates([(Protocol, watch::Sender<bool>); GATED.len()]);

/// What has a gate. Over CoAP without DTLS nobody can log in anywhere.
const GATED: [Protocol; 6] = [
    Protocol::Mqtt,
    Protocol::Mqtts,
    Protocol::WebSocket,
    Protocol::WebSocketTls,
    Protocol::Http,
    Protocol::Https,
];

impl Gates {
    /// Opens and closes them as a configuration says.
    pub(super) fn new(config: &Config) -> Self {
        Self(GATED.map(|protocol| (protocol, watch::channel(lets_in(config, protocol)).0)))
    }

    /// Opens and closes them as another configuration says.
    pub(super) fn set(&self, config: &Config) {
        for (protocol, sender) in &self.0 {
            let open = lets_in(config, *protocol);
            sender.send_if_modified(|old| std::mem::replace(old, open) != open);
        }
    }

    /// Returns the gate of a protocol's addresses beyond loopback.
    pub(super) fn of(&self, protocol: Protocol) -> Gate {
        let gate = self.0.iter().find(|(gated, _)| *gated == protocol);
        gate.map_or_else(Gate::always_open, |(_, sender)| Gate::new(sender.subscribe()))
    }

    /// Returns every listener of a configuration, in the order in which they are bound.
    pub(super) fn listeners(&self, config: &Config) -> Vec<Listening> {
        let mut all = Vec::new();
        let mut add = |protocol, addresses: &[SocketAddr], anonymous| {
            all.extend(addresses.iter().map(|&address| Listening {
                protocol,
                address,
                anonymous,
                gate: self.of(protocol).of_address(address),
            }));
        };
        let encrypted = |tls: &Option<TlsConfig>| {
            tls.as_ref().map(|tls| tls.listen.clone()).unwrap_or_default()
        };
        if let Some(ListenerConfig { listen, anonymous, tls, websocket, .. }) = &config.mqtt {
            add(Protocol::Mqtt, listen, *anonymous);
            add(Protocol::Mqtts, &encrypted(tls), false);
            if let Some(WebSocketConfig { listen, anonymous, tls, .. }) = websocket {
                add(Protocol::WebSocket, listen, *anonymous);
                add(Protocol::WebSocketTls, &encrypted(tls), false);
            }
        }
        if let Some(coap) = &config.coap {
            add(Protocol::Coap, &coap.listen, coap.anonymous);
        }
        if let Some(ListenerConfig { listen, anonymous, tls, .. }) = &config.http {
            add(Protocol::Http, listen, *anonymous);
            add(Protocol::Https, &encrypted(tls), false);
        }
        all
    }
}

/// Returns whether there is a principal who could log in.
fn lets_in(config: &Config, protocol: Protocol) -> bool {
    let mqtt = config.mqtt.as_ref();
    let websocket = mqtt.and_then(|mqtt| mqtt.websocket.as_ref());
    let tls = match protocol {
        Protocol::Mqtts => mqtt.and_then(|mqtt| mqtt.tls.as_ref()),
        Protocol::WebSocketTls => websocket.and_then(|websocket| websocket.tls.as_ref()),
        Protocol::Https => config.http.as_ref().and_then(|http| http.tls.as_ref()),
        _ => None,
    };
    let is_http = matches!(protocol, Protocol::Http | Protocol::Https);
    let takes_certificates = tls.is_some_and(|tls| !matches!(tls.setup.clients, Clients::Anyone));
    !config.jwt.is_empty()
        || config.principals.iter().any(|principal| {
            principal.password_hash.is_some()
                || (!is_http && principal.scram.is_some())
                || !principal.tokens.is_empty()
                || (takes_certificates && principal.certificate.is_some())
        })
}
