//! The client against packets written by hand.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tidegate_model::{ClientId, Qos, Topic, TopicFilter};

use super::{Client, ClientError, ClientEvent, ClientSettings};
use crate::{
    Limits, PacketId, ProtocolVersion, ReasonCode,
    packet::{Ack, ConnAck, Delivery, Packet, PacketType, PublishPacket, SubAck},
};

const KEEP_ALIVE: Duration = Duration::from_secs(15);
const WINDOW: u16 = 3;

/// A client whose far side is the test.
struct Rig {
    client: Client,
    output: BytesMut,
    now: Instant,
}

#[expect(clippy::disallowed_methods, reason = "tests have to start somewhere")]
fn start() -> Instant {
    Instant::now()
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn ack(number: u16) -> Ack {
    Ack::new(id(number), ReasonCode::Success)
}

impl Rig {
    fn new() -> Self {
        let settings = ClientSettings {
            client_id: ClientId::new("test/device").unwrap(),
            keep_alive: KEEP_ALIVE,
            connect_timeout: Duration::from_secs(20),
            window: WINDOW,
            limits: Limits::default(),
        };
        let (now, mut output) = (start(), BytesMut::new());
        let client = Client::new(settings, now, &mut output).unwrap();
        Self { client, output, now }
    }

    fn connected(session_present: bool) -> Self {
        let mut rig = Self::new();
        let Some(Packet::Connect(connect)) = rig.said().pop() else { panic!("CONNECT is first") };
        assert!(!connect.clean_start && connect.keep_alive_s == 15);
        let connack = Packet::ConnAck(Box::new(ConnAck::accepted(session_present)));
        assert_eq!(rig.hear(connack), Ok(vec![ClientEvent::Connected { session_present }]));
        rig
    }

    /// Returns what the client has said.
    fn said(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        let (version, limits) = (ProtocolVersion::V311, Limits::default());
        while let Some(packet) =
            Packet::split_off(&mut self.output, version, &limits).expect("it is MQTT")
        {
            packets.push(packet);
        }
        packets
    }

    fn hear(&mut self, packet: Packet) -> Result<Vec<ClientEvent>, ClientError> {
        let mut input = BytesMut::new();
        packet.encode(ProtocolVersion::V311, &mut input).unwrap();
        self.client.handle_input(self.now, &mut input, &mut self.output)?;
        Ok(std::iter::from_fn(|| self.client.poll_event()).collect())
    }

    fn publish(&mut self, token: u64, qos: Qos) -> Result<(), ClientError> {
        let topic = Topic::new("test/device/x").unwrap();
        self.client.publish(token, topic, Bytes::from_static(b"v"), qos, &mut self.output)
    }

    fn delivered(&mut self, packet: Packet) -> Vec<u64> {
        let token = |event| match event {
            ClientEvent::Delivered { token } => token,
            other => panic!("{other:?}"),
        };
        self.hear(packet).unwrap().into_iter().map(token).collect()
    }
}

/// D29: what went with QoS 0 is answered for by a PINGRESP to a PINGREQ sent later, and by nothing else.
#[test]
fn qos_0_is_answered_for_by_a_later_ping() {
    let mut rig = Rig::connected(false);
    rig.publish(1, Qos::AtMostOnce).unwrap();
    rig.publish(2, Qos::AtMostOnce).unwrap();
    rig.client.flush(rig.now, &mut rig.output).unwrap();
    assert_eq!(rig.said().last(), Some(&Packet::PingReq));
    rig.publish(3, Qos::AtMostOnce).unwrap();
    rig.client.flush(rig.now, &mut rig.output).unwrap();
    assert!(!rig.said().contains(&Packet::PingReq), "one question at a time");
    assert_eq!(rig.delivered(Packet::PingResp), [1, 2]);
    assert_eq!(rig.delivered(Packet::PingResp), [] as [u64; 0], "it answers nothing");
    rig.client.flush(rig.now, &mut rig.output).unwrap();
    assert_eq!(rig.said(), [Packet::PingReq]);
    assert_eq!(rig.delivered(Packet::PingResp), [3]);
    assert_eq!(rig.client.in_flight(), 0);
}

/// QoS 1 by PUBACK, QoS 2 by PUBCOMP and not before.
#[test]
fn qos_1_and_2_are_answered_for_by_their_last_packet() {
    let mut rig = Rig::connected(false);
    rig.publish(1, Qos::AtLeastOnce).unwrap();
    rig.publish(2, Qos::ExactlyOnce).unwrap();
    rig.said();
    assert_eq!(rig.delivered(Packet::PubRec(ack(2))), [] as [u64; 0]);
    assert_eq!(rig.said(), [Packet::PubRel(ack(2))]);
    assert_eq!(rig.delivered(Packet::PubComp(ack(2))), [2]);
    assert_eq!(rig.delivered(Packet::PubAck(ack(1))), [1]);
    let twice = rig.hear(Packet::PubAck(ack(1)));
    assert_eq!(twice, Err(ClientError::Unexpected(PacketType::PubAck)));
}

/// Identifiers are few, and none is given twice; when all are used no more goes.
#[test]
fn identifiers_stay_in_the_window() {
    let mut rig = Rig::connected(false);
    for token in 0..3 {
        rig.publish(token, Qos::ExactlyOnce).unwrap();
    }
    assert_eq!(rig.publish(3, Qos::AtLeastOnce), Err(ClientError::Full));
    rig.publish(3, Qos::AtMostOnce).unwrap();
    rig.hear(Packet::PubRec(ack(2))).unwrap();
    assert_eq!(rig.publish(4, Qos::ExactlyOnce), Err(ClientError::Full), "2 is not released");
    rig.hear(Packet::PubComp(ack(2))).unwrap();
    rig.said();
    rig.publish(4, Qos::ExactlyOnce).unwrap();
    let Some(Packet::Publish(publish)) = rig.said().pop() else { panic!("it was published") };
    assert_eq!(publish.delivery, Delivery::ExactlyOnce { packet_id: id(2), dup: false });
}

/// A session that goes on may hold identifiers; they are released before anything goes under them.
#[test]
fn a_session_that_goes_on_is_released_first() {
    let mut rig = Rig::connected(true);
    assert_eq!(rig.said(), [1, 2, 3].map(|number| Packet::PubRel(ack(number))));
    rig.publish(7, Qos::ExactlyOnce).unwrap();
    rig.said();
    for number in 1..=3 {
        assert_eq!(rig.delivered(Packet::PubComp(ack(number))), [] as [u64; 0]);
    }
    rig.hear(Packet::PubRec(ack(1))).unwrap();
    assert_eq!(rig.delivered(Packet::PubComp(ack(1))), [7]);
    let mut rig = Rig::connected(false);
    assert_eq!(rig.said(), []);
}

/// What comes is told once, and acknowledged when that is said.
#[test]
fn what_comes_is_told_once() {
    let mut rig = Rig::connected(true);
    rig.said();
    let topic = Topic::new("test/device/org.example.A/x").unwrap();
    let mut publish = PublishPacket::new(topic, Bytes::from_static(b"v"));
    publish.delivery = Delivery::ExactlyOnce { packet_id: id(9), dup: false };
    let mut again = publish.clone();
    again.delivery = Delivery::ExactlyOnce { packet_id: id(9), dup: true };
    let told = rig.hear(Packet::Publish(publish)).unwrap();
    assert!(matches!(&told[..], [ClientEvent::Received(it)] if it.packet_id == Some(id(9))));
    assert_eq!(rig.hear(Packet::Publish(again.clone())), Ok(vec![]));
    assert_eq!(rig.said(), [], "nobody has said that it is safe");
    rig.client.acknowledge(id(9), &mut rig.output).unwrap();
    assert_eq!(rig.said(), [Packet::PubRec(ack(9))]);
    assert_eq!(rig.hear(Packet::Publish(again)), Ok(vec![]));
    assert_eq!(rig.said(), [Packet::PubRec(ack(9))]);
    // Also one that a connection before has acknowledged.
    for number in [9, 10] {
        rig.hear(Packet::PubRel(ack(number))).unwrap();
        assert_eq!(rig.said(), [Packet::PubComp(ack(number))]);
    }
}

#[test]
fn subscriptions_are_granted_or_not() {
    for (code, is_granted) in [(2, true), (1, false), (0x80, false)] {
        let mut rig = Rig::connected(false);
        let filters = ["a/#", "b"].map(|filter| TopicFilter::new(filter).unwrap());
        rig.client.subscribe(filters, &mut rig.output).unwrap();
        let Some(Packet::Subscribe(subscribe)) = rig.said().pop() else { panic!("SUBSCRIBE") };
        assert_eq!(subscribe.subscriptions.len(), 2);
        let mut input = BytesMut::from(&[0x90, 4, 0, 4, 2, code][..]);
        rig.client.handle_input(rig.now, &mut input, &mut rig.output).unwrap();
        assert_eq!(rig.client.poll_event(), Some(ClientEvent::Subscribed { is_granted }));
    }
    let mut rig = Rig::connected(false);
    let other = SubAck { packet_id: id(1), reasons: vec![], explanation: None };
    assert!(rig.hear(Packet::SubAck(other)).is_err());
}

/// Silence is noticed: before CONNACK, and of an answer to a ping.
#[test]
fn silence_is_noticed() {
    let mut rig = Rig::new();
    let due = rig.client.poll_timeout();
    assert_eq!(rig.client.handle_timeout(due, &mut rig.output), Err(ClientError::Silent));
    let mut rig = Rig::connected(false);
    let due = rig.client.poll_timeout();
    assert_eq!(due - rig.now, KEEP_ALIVE);
    rig.client.handle_timeout(due, &mut rig.output).unwrap();
    assert_eq!(rig.said(), [Packet::PingReq]);
    let overdue = rig.client.poll_timeout();
    assert_eq!(overdue - due, KEEP_ALIVE);
    assert_eq!(rig.client.handle_timeout(overdue, &mut rig.output), Err(ClientError::Silent));
}

#[test]
fn what_breaks_the_protocol_ends_the_connection() {
    let mut rig = Rig::new();
    let refused = Packet::ConnAck(Box::new(ConnAck::refused(ReasonCode::NotAuthorized)));
    assert_eq!(rig.hear(refused), Err(ClientError::Refused(ReasonCode::NotAuthorized)));
    let mut rig = Rig::new();
    let early = rig.hear(Packet::PingResp);
    assert_eq!(early, Err(ClientError::Unexpected(PacketType::PingResp)));
    let mut rig = Rig::connected(false);
    assert!(rig.hear(Packet::ConnAck(Box::new(ConnAck::accepted(true)))).is_err());
    assert!(rig.hear(Packet::PingReq).is_err());
}

/// uplink.22: a driver that does not read hears no answers, and that is no silence; what went with QoS 0 is answered for by
/// the answer to the first PINGREQ after it alone.
#[test]
fn who_does_not_read_puts_off_what_is_due() {
    let mut rig = Rig::connected(false);
    rig.publish(1, Qos::AtMostOnce).unwrap();
    rig.client.flush(rig.now, &mut rig.output).unwrap();
    rig.said();
    for _ in 0..2 {
        rig.publish(2, Qos::AtMostOnce).unwrap();
        let due = rig.client.poll_timeout();
        rig.client.put_off(due - Duration::from_millis(1), &mut rig.output).unwrap();
        assert!(!rig.said().contains(&Packet::PingReq), "nothing is due");
        rig.client.put_off(due, &mut rig.output).unwrap();
        assert_eq!(rig.said(), [Packet::PingReq], "the far side hears from us");
    }
    assert_eq!(rig.delivered(Packet::PingResp), [1]);
    for _ in 0..2 {
        rig.client.flush(rig.now, &mut rig.output).unwrap();
        assert_eq!(rig.said(), [], "the others are awaited first");
        assert_eq!(rig.delivered(Packet::PingResp), [] as [u64; 0]);
    }
    rig.client.flush(rig.now, &mut rig.output).unwrap();
    assert_eq!(rig.said(), [Packet::PingReq]);
    assert_eq!(rig.delivered(Packet::PingResp), [2, 2]);
    // Before CONNACK there is nothing to put off.
    let mut rig = Rig::new();
    let due = rig.client.poll_timeout();
    rig.client.put_off(due, &mut rig.output).unwrap();
    assert_eq!(rig.client.poll_timeout(), due);
}
