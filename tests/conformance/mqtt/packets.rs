//! Packets as bytes, sound or not, and what can be read from those that come.

use crate::support::wire::{binary, packet, string};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.0.
    V5,
}

pub(crate) use Version::{V3, V5};

/// Both versions, for what holds in both.
pub(crate) const BOTH: [Version; 2] = [V3, V5];

/// Types of packets.
pub(crate) mod kind {
    pub(crate) const PUBLISH: u8 = 3;
    pub(crate) const PUBACK: u8 = 4;
    pub(crate) const PUBREC: u8 = 5;
    pub(crate) const PUBREL: u8 = 6;
    pub(crate) const PUBCOMP: u8 = 7;
    pub(crate) const SUBACK: u8 = 9;
    pub(crate) const UNSUBACK: u8 = 11;
    pub(crate) const PINGRESP: u8 = 13;
    pub(crate) const DISCONNECT: u8 = 14;
    pub(crate) const AUTH: u8 = 15;
}

/// Properties of MQTT 5.0: their numbers, and how they are written.
pub(crate) mod prop {
    use super::{binary, string};

    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0b;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTH_METHOD: u8 = 0x15;
    pub(crate) const AUTH_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1a;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1c;
    pub(crate) const REASON_STRING: u8 = 0x1f;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET: u8 = 0x27;
    pub(crate) const WILDCARDS: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_IDS: u8 = 0x29;
    pub(crate) const SHARED: u8 = 0x2a;

    pub(crate) fn u8(number: u8, value: u8) -> Vec<u8> {
        vec![number, value]
    }

    pub(crate) fn u16(number: u8, value: u16) -> Vec<u8> {
        [&[number][..], &value.to_be_bytes()].concat()
    }

    pub(crate) fn u32(number: u8, value: u32) -> Vec<u8> {
        [&[number][..], &value.to_be_bytes()].concat()
    }

    pub(crate) fn text(number: u8, value: &str) -> Vec<u8> {
        [vec![number], string(value)].concat()
    }

    pub(crate) fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
        [vec![number], binary(value)].concat()
    }

    pub(crate) fn user(name: &str, value: &str) -> Vec<u8> {
        [vec![USER], string(name), string(value)].concat()
    }

    pub(crate) fn subscription_id(value: u32) -> Vec<u8> {
        [vec![SUBSCRIPTION_ID], super::varint(value as usize)].concat()
    }
}

/// Writes a variable byte integer, as short as it can be.
pub(crate) fn varint(value: usize) -> Vec<u8> {
    crate::support::wire::length(value)
}

/// Writes a list of properties with its length; nothing in 3.1.1.
pub(crate) fn list(version: Version, properties: &[u8]) -> Vec<u8> {
    match version {
        V3 => Vec::new(),
        V5 => [varint(properties.len()), properties.to_vec()].concat(),
    }
}

/// A CONNECT to be.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) protocol: (Vec<u8>, u8),
    pub(crate) client_id: Vec<u8>,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) properties: Vec<u8>,
    pub(crate) will: Option<Will>,
    pub(crate) user_name: Option<Vec<u8>>,
    pub(crate) password: Option<Vec<u8>>,
    /// Flags that are turned over, for contradictions.
    pub(crate) wrong_flags: u8,
}

/// The will of a client.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) topic: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) properties: Vec<u8>,
}

impl Will {
    pub(crate) fn new(topic: &str, payload: &str) -> Self {
        let (topic, payload) = (topic.into(), payload.into());
        Self { topic, payload, qos: 0, retain: false, properties: Vec::new() }
    }
}

impl Connect {
    /// A client with a clean start.
    pub(crate) fn new(version: Version, client_id: &str) -> Self {
        Self {
            version,
            protocol: (b"MQTT".to_vec(), if version == V3 { 4 } else { 5 }),
            client_id: client_id.into(),
            clean: true,
            keep_alive: 60,
            properties: Vec::new(),
            will: None,
            user_name: None,
            password: None,
            wrong_flags: 0,
        }
    }

    /// A client whose session outlives its connection by a minute; it takes up one that is there.
    pub(crate) fn lasting(version: Version, client_id: &str) -> Self {
        let mut connect = Self::new(version, client_id);
        connect.clean = false;
        if version == V5 {
            connect.properties = prop::u32(prop::SESSION_EXPIRY, 60);
        }
        connect
    }

    /// The same with further properties.
    pub(crate) fn and(mut self, properties: &[u8]) -> Self {
        self.properties.extend(properties);
        self
    }

    /// The same with a will.
    pub(crate) fn with_will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// Returns the flags as they follow from the fields.
    fn flags(&self) -> u8 {
        let will =
            self.will.as_ref().map_or(0, |will| 4 | will.qos << 3 | u8::from(will.retain) << 5);
        will | u8::from(self.clean) << 1
            | u8::from(self.password.is_some()) << 6
            | u8::from(self.user_name.is_some()) << 7
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (name, level) = &self.protocol;
        let mut body = binary(name);
        body.extend([*level, self.flags() ^ self.wrong_flags]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(list(self.version, &self.properties));
        body.extend(binary(&self.client_id));
        if let Some(will) = &self.will {
            body.extend(list(self.version, &will.properties));
            body.extend([binary(&will.topic), binary(&will.payload)].concat());
        }
        for field in [&self.user_name, &self.password].into_iter().flatten() {
            body.extend(binary(field));
        }
        packet(0x10, &body)
    }
}

/// A PUBLISH to be.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) topic: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) id: u16,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) properties: Vec<u8>,
}

impl Publish {
    /// A message with QoS 0.
    pub(crate) fn new(topic: &str, payload: &str) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos: 0,
            id: 0,
            retain: false,
            dup: false,
            properties: Vec::new(),
        }
    }

    pub(crate) fn qos(mut self, qos: u8, id: u16) -> Self {
        (self.qos, self.id) = (qos, id);
        self
    }

    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    pub(crate) fn and(mut self, properties: &[u8]) -> Self {
        self.properties.extend(properties);
        self
    }

    pub(crate) fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = binary(&self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        body.extend(list(version, &self.properties));
        body.extend(&self.payload);
        packet(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }
}

/// Writes a SUBSCRIBE of filters and their options.
pub(crate) fn subscribe(
    version: Version,
    id: u16,
    properties: &[u8],
    filters: &[(&[u8], u8)],
) -> Vec<u8> {
    let mut body = [id.to_be_bytes().to_vec(), list(version, properties)].concat();
    for (filter, options) in filters {
        body.extend(binary(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

/// Writes an UNSUBSCRIBE.
pub(crate) fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = [id.to_be_bytes().to_vec(), list(version, &[])].concat();
    for filter in filters {
        body.extend(string(filter));
    }
    packet(0xa2, &body)
}

/// Writes an acknowledgement of a message; a reason of 0 is left out.
pub(crate) fn ack(kind: u8, id: u16, reason: u8) -> Vec<u8> {
    let flags = if kind == kind::PUBREL { 2 } else { 0 };
    let [high, low] = id.to_be_bytes();
    match reason {
        0 => packet(kind << 4 | flags, &[high, low]),
        _ => packet(kind << 4 | flags, &[high, low, reason]),
    }
}

/// Writes a DISCONNECT.
pub(crate) fn disconnect(version: Version, reason: u8, properties: &[u8]) -> Vec<u8> {
    match version {
        V3 => packet(0xe0, &[]),
        V5 => packet(0xe0, &[vec![reason], list(V5, properties)].concat()),
    }
}

/// Writes an AUTH.
pub(crate) fn auth(reason: u8, properties: &[u8]) -> Vec<u8> {
    packet(0xf0, &[vec![reason], list(V5, properties)].concat())
}

pub(crate) const PINGREQ: [u8; 2] = [0xc0, 0];
