//! A cloud that does what the test says: real sockets, and packets one by one.

use std::{io, num::NonZeroU16, time::Duration};

use bytes::{Bytes, BytesMut};
use tidegate_model::{Properties, Topic, Value};
use tidegate_mqtt::{
    Limits, PacketId, ProtocolVersion, ReasonCode, Text,
    packet::{
        Ack, ConnAck, Connect, Delivery, Disconnect, Explanation, Packet, PublishPacket, SubAck,
        Subscribe,
    },
};
use tidegate_uplink::decoder::{self, Batch};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::PATIENCE;

/// How long nothing must come before a line counts as quiet; a slow machine can only hide a fault.
const QUIET: Duration = Duration::from_millis(60);

/// A listener that uplinks connect to.
#[derive(Debug)]
pub(super) struct Cloud {
    listener: TcpListener,
    port: u16,
}

impl Cloud {
    pub(super) async fn start() -> Self {
        Self::start_at(0).await.expect("loopback has a free port")
    }

    pub(super) async fn start_at(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the next connection and its CONNECT.
    pub(super) async fn meet(&self) -> Line {
        let accepted = timeout(PATIENCE, self.listener.accept()).await.expect("the uplink comes");
        let (stream, _) = accepted.unwrap();
        let connect = Box::new(Connect::new(ProtocolVersion::V5));
        let mut line = Line { stream, input: BytesMut::new(), connect };
        let Some(Packet::Connect(connect)) = line.next().await else { panic!("no CONNECT") };
        line.connect = connect;
        line
    }

    /// Waits for the next connection and accepts it.
    pub(super) async fn accept(&self) -> Line {
        self.accept_with(ConnAck::accepted(false)).await
    }

    pub(super) async fn accept_with(&self, connack: ConnAck) -> Line {
        let mut line = self.meet().await;
        line.send(Packet::ConnAck(Box::new(connack))).await;
        line
    }
}

/// One connection of an uplink.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    input: BytesMut,
    /// How the uplink introduced itself.
    pub(super) connect: Box<Connect>,
}

/// One publication as it came, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Empty if the alias stands for it.
    pub(super) topic: String,
    pub(super) alias: Option<u16>,
    pub(super) payload: Bytes,
    pub(super) packet_id: PacketId,
    pub(super) retain: bool,
    pub(super) message_expiry_s: Option<u32>,
    pub(super) properties: Option<Box<Properties>>,
}

impl Line {
    /// Waits for the next packet; `None` when the uplink has closed the connection. Pings stay unanswered.
    pub(super) async fn next(&mut self) -> Option<Packet> {
        let (version, limits) = (self.connect.version, Limits::default());
        loop {
            match Packet::split_off(&mut self.input, version, &limits).expect("packets are right") {
                Some(Packet::PingReq) => continue,
                Some(packet) => return Some(packet),
                None => {}
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input));
            if read.await.expect("the uplink says something").unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Waits for the next packet, which is a publication with QoS 1, sent for the first time on this connection.
    pub(super) async fn publication(&mut self) -> Received {
        let packet = self.next().await;
        let Some(Packet::Publish(publish)) = packet else { panic!("no publication: {packet:?}") };
        Received::new(publish)
    }

    /// Waits for a publication and the acknowledgement of a command, in whichever order they come.
    pub(super) async fn publication_and_ack(&mut self) -> (Received, u16) {
        match (self.next().await, self.next().await) {
            (Some(Packet::Publish(publish)), Some(Packet::PubAck(ack)))
            | (Some(Packet::PubAck(ack)), Some(Packet::Publish(publish))) => {
                (Received::new(publish), ack.packet_id.as_u16())
            }
            others => panic!("{others:?}"),
        }
    }

    /// Waits for as many publications.
    pub(super) async fn publications(&mut self, count: usize) -> Vec<Received> {
        let mut received = Vec::new();
        while received.len() < count {
            received.push(self.publication().await);
        }
        received
    }

    /// Waits for the subscription to commands and answers it.
    pub(super) async fn subscribed(&mut self, reason: ReasonCode) -> Subscribe {
        let Some(Packet::Subscribe(subscribe)) = self.next().await else {
            panic!("no subscription")
        };
        let (packet_id, reasons) = (subscribe.packet_id, vec![reason]);
        self.send(Packet::SubAck(SubAck { packet_id, reasons, explanation: None })).await;
        subscribe
    }

    pub(super) async fn send(&mut self, packet: Packet) {
        let mut output = BytesMut::new();
        packet.encode(self.connect.version, &mut output).expect("it fits");
        self.stream.write_all(&output).await.expect("the uplink listens");
    }

    pub(super) async fn answer(&mut self, packet_id: PacketId, reason: ReasonCode) {
        self.send(Packet::PubAck(Ack::new(packet_id, reason))).await;
    }

    pub(super) async fn accept_all(&mut self, received: &[Received]) {
        for publication in received {
            self.answer(publication.packet_id, ReasonCode::Success).await;
        }
    }

    /// Sends a command with QoS 1.
    pub(super) async fn command(&mut self, topic: &str, payload: &str, number: u16, dup: bool) {
        let packet_id = PacketId::new(number).expect("not 0");
        let content_type = Some("application/json".into());
        let properties = Some(Box::new(Properties { content_type, ..Properties::default() }));
        let topic = Topic::new(topic).expect("a topic");
        let plain = PublishPacket::new(topic, Bytes::copy_from_slice(payload.as_bytes()));
        let delivery = Delivery::AtLeastOnce { packet_id, dup };
        self.send(Packet::Publish(PublishPacket { delivery, properties, ..plain })).await;
    }

    /// Sends a message of somebody else with QoS 1.
    pub(super) async fn deliver(&mut self, publish: PublishPacket, number: u16) {
        let packet_id = PacketId::new(number).expect("not 0");
        let delivery = Delivery::AtLeastOnce { packet_id, dup: false };
        self.send(Packet::Publish(PublishPacket { delivery, ..publish })).await;
    }

    /// Waits for the acknowledgement of a command and returns its number.
    pub(super) async fn acknowledged(&mut self) -> u16 {
        let Some(Packet::PubAck(ack)) = self.next().await else { panic!("no PUBACK") };
        ack.packet_id.as_u16()
    }

    /// Asserts that nothing is on its way.
    pub(super) async fn assert_quiet(&mut self) {
        assert!(self.input.is_empty(), "something has come");
        if let Ok(read) = timeout(QUIET, self.stream.read_buf(&mut self.input)).await {
            panic!("{read:?} bytes came: {:?}", self.input);
        }
    }

    /// Ends the connection with a reason.
    pub(super) async fn hang_up(mut self, reason: ReasonCode) {
        let reason_string = Some(Text::new("as the test wants").expect("plain text"));
        let explanation = Some(Box::new(Explanation { reason_string, user: Vec::new() }));
        let disconnect = Disconnect { explanation, ..Disconnect::new(reason) };
        self.send(Packet::Disconnect(disconnect)).await;
        self.closed().await;
    }

    /// Waits until the uplink has closed the connection, whatever it says before.
    pub(super) async fn closed(mut self) {
        while self.next().await.is_some() {}
    }
}

impl Received {
    fn new(publish: PublishPacket) -> Self {
        let Delivery::AtLeastOnce { packet_id, dup: false } = publish.delivery else {
            panic!("{:?}", publish.delivery)
        };
        let topic = publish.topic.map(|topic| topic.to_string()).unwrap_or_default();
        let alias = publish.topic_alias.map(NonZeroU16::get);
        let PublishPacket { payload, retain, message_expiry_s, properties, .. } = publish;
        Self { topic, alias, payload, packet_id, retain, message_expiry_s, properties }
    }

    pub(super) fn batch(&self) -> Batch {
        decoder::decode(&self.payload, &decoder::Limits::OWN).expect("a batch")
    }

    /// Returns number and value of each reading.
    pub(super) fn readings(&self) -> Vec<(i64, i64)> {
        let value = |value: &Value| match value {
            Value::Integer(value) => *value,
            other => panic!("{other:?}"),
        };
        let batch = self.batch();
        batch.readings.iter().map(|reading| (reading.number, value(&reading.value))).collect()
    }
}
