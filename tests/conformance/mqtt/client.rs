//! A client that sends what a test says, and reads what the standards have a server say.

use std::collections::VecDeque;
use std::time::Duration;

use super::packets::{
    Connect, Publish, V3, V5, Version, ack, disconnect, kind, subscribe, unsubscribe,
};
use super::server::{server, unique};
use crate::support::wait;
use crate::support::wire::{End, Packet, Wire};

/// A connection, and what its client has said of itself.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) wire: Wire,
    pub(crate) version: Version,
    pub(crate) connack: ConnAck,
    /// Where this client's markers come back, once it has subscribed to them.
    marker: Option<String>,
    /// What came while something else was awaited.
    held: VecDeque<Packet>,
}

/// A CONNACK that came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnAck {
    pub(crate) present: bool,
    pub(crate) reason: u8,
    pub(crate) properties: Properties,
}

/// A PUBLISH that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) id: u16,
    pub(crate) properties: Properties,
}

/// Properties that came, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties(pub(crate) Vec<(u8, Value)>);

/// The value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(u32),
    Bytes(Vec<u8>),
    Pair(String, String),
}

impl Client {
    /// Opens a connection and says nothing.
    #[track_caller]
    pub(crate) fn open(version: Version) -> Self {
        let wire = Wire::open(server().port, if version == V3 { 4 } else { 5 });
        Self { wire, version, connack: ConnAck::default(), marker: None, held: VecDeque::new() }
    }

    /// Connects a new client with a clean start.
    #[track_caller]
    pub(crate) fn connect(version: Version) -> Self {
        Self::with(&Connect::new(version, &unique("client")))
    }

    /// Connects; the server must accept it.
    #[track_caller]
    pub(crate) fn with(connect: &Connect) -> Self {
        let client = Self::try_with(connect);
        assert_eq!(client.connack.reason, 0, "{connect:?}");
        client
    }

    /// Connects; the answer is in `connack`.
    #[track_caller]
    pub(crate) fn try_with(connect: &Connect) -> Self {
        let mut client = Self::open(connect.version);
        client.send(&connect.bytes());
        client.connack = client.take_connack();
        client
    }

    /// Waits for the CONNACK.
    #[track_caller]
    pub(crate) fn take_connack(&mut self) -> ConnAck {
        let packet = self.next();
        assert_eq!(packet.head, 0x20, "the first packet is CONNACK: {packet:?}");
        assert_eq!(packet.body[0] & !1, 0, "MQTT-3.2.2-1: reserved flags");
        let properties = match self.version {
            V3 => {
                assert_eq!(packet.body.len(), 2);
                Properties::default()
            }
            V5 => Properties::parse(&mut &packet.body[2..]),
        };
        ConnAck { present: packet.body[0] == 1, reason: packet.body[1], properties }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.wire.send(bytes);
    }

    /// Waits for the next packet, whatever it is.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Packet {
        match self.held.pop_front() {
            Some(packet) => packet,
            None => self.read(),
        }
    }

    #[track_caller]
    fn read(&mut self) -> Packet {
        match self.wire.read(wait::DEADLINE) {
            Ok(Some(packet)) => packet,
            other => panic!("waited for a packet, found {other:?}"),
        }
    }

    /// Waits for an acknowledgement, and keeps messages that come before it for later.
    #[track_caller]
    pub(crate) fn expect_ack_amid_messages(&mut self, kind: u8, id: u16) {
        loop {
            let packet = self.read();
            match packet.head >> 4 {
                kind::PUBLISH => self.held.push_back(packet),
                found => {
                    assert_eq!((found, &packet.body[..2]), (kind, &id.to_be_bytes()[..]));
                    return;
                }
            }
        }
    }

    /// Waits for the next packet, which must be of this type.
    #[track_caller]
    pub(crate) fn expect(&mut self, kind: u8) -> Packet {
        let packet = self.next();
        assert_eq!(packet.head >> 4, kind, "{packet:?}");
        packet
    }

    /// Waits for the next packet, which must be an acknowledgement of this type and identifier; returns its reason.
    #[track_caller]
    pub(crate) fn expect_ack(&mut self, kind: u8, id: u16) -> u8 {
        let packet = self.expect(kind);
        let flags = if kind == kind::PUBREL { 2 } else { 0 };
        assert_eq!(packet.head & 0x0f, flags, "{packet:?}");
        assert_eq!(packet.body[..2], id.to_be_bytes(), "{packet:?}");
        if self.version == V3 {
            assert_eq!(packet.body.len(), 2, "{packet:?}");
        }
        packet.body.get(2).copied().unwrap_or(0)
    }

    /// Waits for a SUBACK or UNSUBACK with this identifier; returns its reasons.
    #[track_caller]
    pub(crate) fn expect_reasons(&mut self, kind: u8, id: u16) -> Vec<u8> {
        let packet = self.expect(kind);
        assert_eq!(packet.head & 0x0f, 0, "{packet:?}");
        assert_eq!(packet.body[..2], id.to_be_bytes(), "{packet:?}");
        let mut rest = &packet.body[2..];
        if self.version == V5 {
            Properties::parse(&mut rest);
        }
        rest.to_vec()
    }

    /// Subscribes to one filter; returns the reason.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(filter, options, &[])
    }

    /// Subscribes to one filter with properties; returns the reason.
    #[track_caller]
    pub(crate) fn subscribe_with(&mut self, filter: &str, options: u8, properties: &[u8]) -> u8 {
        self.send(&subscribe(self.version, 900, properties, &[(filter.as_bytes(), options)]));
        let reasons = self.expect_reasons(kind::SUBACK, 900);
        assert_eq!(reasons.len(), 1);
        reasons[0]
    }

    /// Unsubscribes from filters; returns the reasons, of which 3.1.1 has none.
    #[track_caller]
    pub(crate) fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        self.send(&unsubscribe(self.version, 901, filters));
        self.expect_reasons(kind::UNSUBACK, 901)
    }

    /// Publishes to the end of the exchange; returns the reason of its first answer.
    #[track_caller]
    pub(crate) fn publish(&mut self, publish: &Publish) -> u8 {
        self.send(&publish.bytes(self.version));
        match publish.qos {
            0 => {
                self.ping();
                0
            }
            1 => self.expect_ack(kind::PUBACK, publish.id),
            _ => {
                let reason = self.expect_ack(kind::PUBREC, publish.id);
                if reason < 0x80 {
                    self.send(&ack(kind::PUBREL, publish.id, 0));
                    assert_eq!(self.expect_ack(kind::PUBCOMP, publish.id), 0);
                }
                reason
            }
        }
    }

    /// Sends PINGREQ and waits for the answer, which must come next.
    #[track_caller]
    pub(crate) fn ping(&mut self) {
        self.send(&super::packets::PINGREQ);
        let packet = self.next();
        assert_eq!((packet.head, packet.body.len()), (0xd0, 0), "{packet:?}");
    }

    /// Waits for a message, which must come next.
    #[track_caller]
    pub(crate) fn message(&mut self) -> Message {
        let packet = self.expect(kind::PUBLISH);
        Message::parse(&packet, self.version)
    }

    /// Waits for a message and completes its exchange.
    #[track_caller]
    pub(crate) fn take(&mut self) -> Message {
        let message = self.message();
        match message.qos {
            0 => {}
            1 => self.send(&ack(kind::PUBACK, message.id, 0)),
            _ => {
                self.send(&ack(kind::PUBREC, message.id, 0));
                self.expect_ack_amid_messages(kind::PUBREL, message.id);
                self.send(&ack(kind::PUBCOMP, message.id, 0));
            }
        }
        message
    }

    /// Returns all messages that were routed to this client before now, none of them acknowledged.
    ///
    /// Whoever published them must have been answered. A marker is published behind them, with QoS 1.
    #[track_caller]
    pub(crate) fn drain(&mut self) -> Vec<Message> {
        let marker = match &self.marker {
            Some(marker) => marker.clone(),
            None => {
                let marker = unique("marker/");
                let filter = marker.as_bytes();
                self.send(&subscribe(self.version, 0xfff1, &[], &[(filter, 1)]));
                self.marker.insert(marker).clone()
            }
        };
        self.send(&Publish::new(&marker, "").qos(1, 0xfff0).bytes(self.version));
        let (mut messages, mut is_acknowledged, mut has_come) = (Vec::new(), false, false);
        while !is_acknowledged || !has_come {
            let packet = self.next();
            match packet.head >> 4 {
                kind::PUBACK => is_acknowledged = true,
                kind::SUBACK => {}
                kind::PUBLISH => {
                    let message = Message::parse(&packet, self.version);
                    if message.topic == marker {
                        self.send(&ack(kind::PUBACK, message.id, 0));
                        has_come = true;
                    } else {
                        messages.push(message);
                    }
                }
                _ => panic!("waited for messages, found {packet:?}"),
            }
        }
        messages
    }

    /// Leaves in order, and waits until the server has closed.
    #[track_caller]
    pub(crate) fn leave(self) {
        let bytes = disconnect(self.version, 0, &[]);
        self.leave_with(&bytes);
    }

    /// Sends a last packet and waits until the server has closed without a word.
    #[track_caller]
    pub(crate) fn leave_with(mut self, bytes: &[u8]) {
        self.send(bytes);
        assert_eq!(self.wire.end(), End::Cut);
    }

    /// Waits until the server has closed: in 5.0 after a DISCONNECT with this reason, in 3.1.1 without a word.
    #[track_caller]
    pub(crate) fn ends(&mut self, reason: u8) {
        let expected = if self.version == V5 { End::Told(reason) } else { End::Cut };
        assert_eq!(self.wire.end(), expected);
    }

    /// Waits until the server has closed, which it must do without sending anything.
    #[track_caller]
    pub(crate) fn ends_silently(&mut self) {
        assert_eq!(self.wire.read(wait::DEADLINE), Err(End::Cut));
    }

    /// Returns the next packet if one comes within `limit`.
    #[track_caller]
    pub(crate) fn next_within(&mut self, limit: Duration) -> Option<Packet> {
        self.wire.read(limit).expect("the connection stays")
    }
}

impl Message {
    #[track_caller]
    pub(crate) fn parse(packet: &Packet, version: Version) -> Self {
        let mut rest = packet.body.as_slice();
        let topic = String::from_utf8(take_field(&mut rest)).expect("a topic is UTF-8");
        let qos = packet.head >> 1 & 3;
        let id = if qos > 0 { take_number(&mut rest, 2) } else { 0 };
        let id = u16::try_from(id).expect("two bytes");
        assert!(qos == 0 || id != 0, "MQTT-2.2.1-4: identifier 0 in {packet:?}");
        let properties = match version {
            V3 => Properties::default(),
            V5 => Properties::parse(&mut rest),
        };
        let (dup, retain) = (packet.head & 8 != 0, packet.head & 1 != 0);
        let payload = String::from_utf8_lossy(rest).into_owned();
        Self { topic, payload, qos, dup, retain, id, properties }
    }
}

impl Properties {
    /// Takes a list with its length off `bytes`.
    #[track_caller]
    pub(crate) fn parse(bytes: &mut &[u8]) -> Self {
        let size = take_varint(bytes);
        let (mut list, rest) = bytes.split_at(size);
        *bytes = rest;
        let mut properties = Vec::new();
        while !list.is_empty() {
            let number = u8::try_from(take_number(&mut list, 1)).expect("one byte");
            let value = match number {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => {
                    Value::Number(take_number(&mut list, 1))
                }
                0x13 | 0x21 | 0x22 | 0x23 => Value::Number(take_number(&mut list, 2)),
                0x02 | 0x11 | 0x18 | 0x27 => Value::Number(take_number(&mut list, 4)),
                0x0b => Value::Number(u32::try_from(take_varint(&mut list)).expect("28 bits")),
                0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => {
                    Value::Bytes(take_field(&mut list))
                }
                0x26 => {
                    let [name, value] = std::array::from_fn(|_| {
                        String::from_utf8(take_field(&mut list)).expect("user properties are text")
                    });
                    Value::Pair(name, value)
                }
                _ => panic!("no property has the number {number:#x}"),
            };
            properties.push((number, value));
        }
        Self(properties)
    }

    /// Returns the value of a number.
    pub(crate) fn number(&self, number: u8) -> Option<u32> {
        self.0.iter().find_map(|(found, value)| match value {
            Value::Number(value) if *found == number => Some(*value),
            _ => None,
        })
    }

    /// Returns the value of a text or binary property, as text.
    pub(crate) fn text(&self, number: u8) -> Option<String> {
        self.0.iter().find_map(|(found, value)| match value {
            Value::Bytes(bytes) if *found == number => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
            _ => None,
        })
    }

    /// Returns the user properties, in order.
    pub(crate) fn user(&self) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .filter_map(|(_, value)| match value {
                Value::Pair(name, value) => Some((name.as_str(), value.as_str())),
                _ => None,
            })
            .collect()
    }

    /// Returns every value of a number that may be repeated.
    pub(crate) fn numbers(&self, number: u8) -> Vec<u32> {
        let values = self.0.iter().filter_map(|(found, value)| match value {
            Value::Number(value) if *found == number => Some(*value),
            _ => None,
        });
        values.collect()
    }
}

#[track_caller]
fn take_number(bytes: &mut &[u8], size: usize) -> u32 {
    let (number, rest) = bytes.split_at(size);
    *bytes = rest;
    number.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

#[track_caller]
fn take_varint(bytes: &mut &[u8]) -> usize {
    let size = bytes.iter().position(|byte| byte & 0x80 == 0).expect("the integer ends") + 1;
    let (number, rest) = bytes.split_at(size);
    *bytes = rest;
    number.iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f))
}

#[track_caller]
fn take_field(bytes: &mut &[u8]) -> Vec<u8> {
    let size = take_number(bytes, 2) as usize;
    let (field, rest) = bytes.split_at(size);
    *bytes = rest;
    field.to_vec()
}
