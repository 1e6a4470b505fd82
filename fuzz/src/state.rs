//! The state machine of a connection: any packets, answers and times in any order.

use std::{
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use tidegate_model::Topic;
use tidegate_mqtt::{
    ClientPacket, Connection, Limits, NO_PROPERTIES, Outgoing, Output, PacketId, ProtocolVersion,
    PublishFrame, ReasonCode, Settings,
    packet::{
        Ack, ConnAck, Connect, Delivery, Disconnect, Packet, PublishPacket, Subscribe,
        Subscription, SubscriptionKey, Unsubscribe,
    },
};

/// Operations of one run.
const STEPS_MAX: usize = 512;

/// Bytes that may wait for the peer.
const OUTPUT_BYTES_MAX: usize = 4_096;

/// Lets a client and a server do what `data` says, a byte an operation, and holds the server to its word.
///
/// # Panics
///
/// If the server says something that is no packet, comes too early or too late, or acts when it must not.
pub fn mqtt_state(data: &[u8]) {
    let mut rig = Rig::new();
    let mut rest = data;
    for _ in 0..STEPS_MAX {
        let Some((&operation, more)) = rest.split_first() else { break };
        rest = more;
        let argument = rest.first().copied().unwrap_or(0);
        rig.step(operation, argument, rest);
        rig.check();
    }
}

struct Rig {
    now: Instant,
    connection: Connection,
    input: BytesMut,
    output: Output,
    /// What the server has said and is not looked at yet.
    heard: BytesMut,
    /// The version that the client has asked for; CONNACK follows it.
    version: ProtocolVersion,
    connacks: usize,
    is_over: bool,
}

impl Rig {
    fn new() -> Self {
        let now = Instant::now();
        let settings = Settings {
            limits: Limits { packet_bytes: 2_048, connect_bytes: 512, ..Limits::default() },
            receive_maximum: NonZeroU16::new(3).expect("3 is not 0"),
            topic_alias_maximum: 2,
            authentication_methods: &["SCRAM-SHA-256"],
            ..Settings::default()
        };
        Self {
            now,
            connection: Connection::new(now, Arc::new(settings)),
            input: BytesMut::new(),
            output: Output::with_limit(OUTPUT_BYTES_MAX),
            heard: BytesMut::new(),
            version: ProtocolVersion::V5,
            connacks: 0,
            is_over: false,
        }
    }

    fn step(&mut self, operation: u8, argument: u8, rest: &[u8]) {
        match operation % 16 {
            0 => self.connect(ProtocolVersion::V5, argument),
            1 => self.connect(ProtocolVersion::V311, argument),
            2..=5 => self.send(&client_packet(operation % 16, argument)),
            6 => self.send_bytes(&rest[..rest.len().min(usize::from(argument))]),
            7 => drop(self.connection.accept(
                self.now,
                &ConnAck::accepted(argument & 1 == 1),
                &mut self.output,
            )),
            8 => drop(self.connection.reject(reason(argument), &mut self.output)),
            9 => self.answer(argument),
            10 => self.connection.pause(),
            11 => self.connection.resume(self.now),
            12 => self.pass(argument),
            13 => self.publish(argument),
            14 => self.drain(usize::from(argument)),
            _ => self.connection.close(reason(argument), &mut self.output),
        }
        self.take();
    }

    fn connect(&mut self, version: ProtocolVersion, argument: u8) {
        if self.connection.version().is_none() && !self.connection.is_closed() {
            self.version = version;
        }
        let mut connect = Connect::new(version);
        connect.keep_alive_s = u16::from(argument & 3);
        connect.topic_alias_maximum = u16::from(argument >> 2 & 3);
        self.send(&Packet::Connect(Box::new(connect)));
    }

    fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.encode(self.version, &mut bytes).expect("it is short");
        self.send_bytes(&bytes);
    }

    fn send_bytes(&mut self, bytes: &[u8]) {
        // A driver that may not take more leaves it in the socket.
        if self.input.len() < 8_192 && !self.connection.is_closed() {
            self.input.extend_from_slice(bytes);
        }
    }

    /// Takes what can be taken, as a driver does.
    fn take(&mut self) {
        loop {
            let wanted = self.connection.wants_input();
            let room = self.output.has_room();
            let batch = self.connection.handle_input(self.now, &mut self.input, &mut self.output);
            assert!(wanted && room || batch.is_empty(), "nothing is taken unasked");
            if batch.is_empty() {
                break;
            }
            for packet in batch {
                assert!(
                    !matches!(packet, ClientPacket::Connect(_)) || self.connacks == 0,
                    "there is one CONNECT"
                );
            }
        }
    }

    fn answer(&mut self, argument: u8) {
        let id = id(argument >> 4);
        let reason =
            if argument & 4 == 0 { ReasonCode::Success } else { ReasonCode::NotAuthorized };
        let (connection, output) = (&mut self.connection, &mut self.output);
        match argument & 3 {
            0 => connection.puback(id, reason, output),
            1 => connection.pubrec(id, reason, output),
            2 => connection.pubcomp(id, ReasonCode::Success, output),
            _ => connection.suback(id, &[ReasonCode::Success], output),
        }
    }

    fn pass(&mut self, argument: u8) {
        let deadline = self.connection.poll_timeout();
        self.now += Duration::from_millis(u64::from(argument) * 100);
        self.connection.handle_timeout(self.now, &mut self.output);
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            assert!(self.connection.is_closed(), "every deadline is an end");
        }
    }

    fn publish(&mut self, argument: u8) {
        let topic = Topic::new(&format!("t/{}", argument & 7)).expect("it is a topic");
        let payload = Bytes::from(vec![b'x'; usize::from(argument) * 8]);
        let frame = PublishFrame::new(&topic, &payload, &NO_PROPERTIES);
        let delivery = Delivery::AtLeastOnce { packet_id: id(argument), dup: false };
        let outgoing = Outgoing::new(delivery);
        let _ = self.connection.publish(&frame, &outgoing, &mut self.output);
    }

    /// Takes bytes off the output, as a socket does.
    fn drain(&mut self, bytes: usize) {
        let count = bytes.min(self.output.remaining());
        let taken = self.output.copy_to_bytes(count);
        self.heard.extend_from_slice(&taken);
    }

    /// Looks at all that the server has said.
    fn check(&mut self) {
        if self.connection.is_closed() {
            assert_eq!(self.connection.poll_timeout(), None, "nothing more will happen");
            assert!(!self.connection.wants_input());
            assert!(self.connection.close_cause().is_some());
            self.drain(usize::MAX);
        }
        if self.connacks == 0
            && let Some([0x20, length]) = self.heard.first_chunk()
        {
            // Only 3.1.1 has no properties; raw bytes may have asked for either version.
            let is_311 = *length == 2;
            self.version = if is_311 { ProtocolVersion::V311 } else { ProtocolVersion::V5 };
        }
        let limits = Limits { packet_bytes: 1 << 20, ..Limits::default() };
        loop {
            match Packet::split_off(&mut self.heard, self.version, &limits) {
                Ok(Some(packet)) => self.hear(&packet),
                Ok(None) => break,
                Err(error) => panic!("the server says no packet: {error}"),
            }
        }
        if self.connection.is_closed() {
            assert!(self.heard.is_empty(), "the last packet is whole: {:02x?}", self.heard);
        }
    }

    fn hear(&mut self, packet: &Packet) {
        assert!(!self.is_over, "{packet:?} comes behind the end");
        match packet {
            Packet::ConnAck(connack) => {
                assert_eq!(self.connacks, 0, "CONNACK comes once");
                self.connacks += 1;
                self.is_over = connack.reason.is_failure();
            }
            Packet::Auth(_) => {}
            Packet::Disconnect(_) => {
                assert_eq!(self.connacks, 1, "no DISCONNECT before CONNACK");
                assert_eq!(self.version, ProtocolVersion::V5, "3.1.1 has none from servers");
                self.is_over = true;
            }
            _ => assert_eq!(self.connacks, 1, "{packet:?} before CONNACK"),
        }
    }
}

/// One of 16 identifiers.
fn id(number: u8) -> PacketId {
    PacketId::new(u16::from(number & 15) + 1).expect("it is not 0")
}

fn reason(number: u8) -> ReasonCode {
    ReasonCode::from_code(number)
        .filter(|reason| reason.is_failure())
        .unwrap_or(ReasonCode::UnspecifiedError)
}

/// Packets of a client, sound by themselves.
fn client_packet(kind: u8, argument: u8) -> Packet {
    let ack = Ack::new(id(argument), ReasonCode::Success);
    match (kind, argument >> 4) {
        (2, qos) => {
            let topic = Topic::new(&format!("t/{}", argument & 3)).expect("it is a topic");
            let mut publish = PublishPacket::new(topic, Bytes::from_static(b"payload"));
            let packet_id = id(argument);
            publish.delivery = match qos % 3 {
                0 => Delivery::AtMostOnce,
                1 => Delivery::AtLeastOnce { packet_id, dup: qos & 4 != 0 },
                _ => Delivery::ExactlyOnce { packet_id, dup: qos & 4 != 0 },
            };
            publish.topic_alias = NonZeroU16::new(u16::from(qos & 3));
            if qos & 8 != 0 && publish.topic_alias.is_some() {
                publish.topic = None;
            }
            Packet::Publish(publish)
        }
        (3, 0..=3) => Packet::PubRel(ack),
        (3, 4..=7) => Packet::PubAck(ack),
        (3, 8..=11) => Packet::PubRec(ack),
        (3, _) => Packet::PubComp(ack),
        (4, 0..=7) => {
            let key = SubscriptionKey::parse("a/+/#", &Limits::default()).expect("it is a filter");
            let qos = tidegate_model::Qos::AtLeastOnce;
            Packet::Subscribe(Subscribe {
                packet_id: id(argument),
                subscription_id: None,
                subscriptions: vec![Subscription::new(key, qos)],
                user: Vec::new(),
            })
        }
        (4, _) => {
            let key = SubscriptionKey::parse("a", &Limits::default()).expect("it is a filter");
            Packet::Unsubscribe(Unsubscribe {
                packet_id: id(argument),
                keys: vec![key],
                user: Vec::new(),
            })
        }
        (_, 0..=11) => Packet::PingReq,
        (_, 12..=13) => Packet::Auth(Box::default()),
        _ => Packet::Disconnect(Disconnect::new(ReasonCode::Success)),
    }
}
