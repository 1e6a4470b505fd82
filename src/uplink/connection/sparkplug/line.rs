//! A client of MQTT as far as an edge node needs one: packets in and out over one socket.

use std::{io, num::NonZeroU16, num::NonZeroU32};

use bytes::{Bytes, BytesMut};
use tidegate_model::{ClientId, Qos, Topic};
use tidegate_mqtt::{
    Limits, PacketId, Password, ProtocolVersion, ReasonCode, Text,
    packet::{
        Ack, ConnAck, Connect, Disconnect, Packet, PublishPacket, Subscribe, Subscription,
        SubscriptionKey, Will,
    },
};
use tidegate_sparkplug::Message;
use tidegate_uplink::{Disconnect as How, Failure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::super::{
    super::{
        link::LinkError,
        settings::{LinkSettings, Login, MqttVersion},
    },
    INCOMING_BYTES_MAX,
};

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;
/// Commands with QoS 1 that a broker may send without having our answer (MQTT 5).
const RECEIVE_MAX: NonZeroU16 = NonZeroU16::new(64).expect("not 0");

/// What the broker says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broker {
    /// The largest packet that it takes.
    pub(super) packet_bytes_max: usize,
    /// What it wants in place of our keep alive, in seconds.
    pub(super) keep_alive_s: Option<u16>,
}

/// A socket with MQTT on it.
#[derive(Debug)]
pub(super) struct Line {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    input: BytesMut,
    output: BytesMut,
    version: ProtocolVersion,
    limits: Limits,
}

impl Line {
    /// Connects to the way out.
    pub(super) async fn open(tunnel: &str, version: MqttVersion) -> Result<Self, LinkError> {
        let stream = UnixStream::connect(tunnel).await.map_err(|error| broken(&error))?;
        let (reader, writer) = stream.into_split();
        let bytes = usize::try_from(INCOMING_BYTES_MAX).expect("fits");
        let version = match version {
            MqttVersion::V3_1_1 => ProtocolVersion::V311,
            MqttVersion::V5 => ProtocolVersion::V5,
        };
        let limits = Limits { packet_bytes: bytes, topic_bytes: 65_535, ..Limits::default() };
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Ok(Self { reader, writer, input, output, version, limits })
    }

    /// Sends CONNECT with the will, and waits for the answer (Sparkplug 3.0, section 5).
    pub(super) async fn introduce(
        &mut self,
        settings: &LinkSettings,
        login: Option<&Login>,
        will: Message,
    ) -> Result<Broker, LinkError> {
        let mut connect = Connect::new(self.version);
        connect.client_id = ClientId::new(&settings.client_id).ok();
        let keep_alive = settings.keep_alive.as_secs();
        connect.keep_alive_s = u16::try_from(keep_alive).unwrap_or(u16::MAX);
        connect.receive_maximum = RECEIVE_MAX;
        connect.maximum_packet_size = NonZeroU32::new(INCOMING_BYTES_MAX);
        let topic = topic(&will.topic)?;
        connect.will =
            Some(Box::new(Will { qos: Qos::AtLeastOnce, ..Will::new(topic, will.payload.into()) }));
        if let Some(login) = login {
            connect.user_name = Text::new(&login.username).ok();
            let password = (!login.password.is_empty()).then(|| login.password.clone());
            connect.password = password.and_then(Password::new);
        }
        self.put(&Packet::Connect(Box::new(connect)))?;
        loop {
            if let Some(packet) = self.take()? {
                let Packet::ConnAck(answer) = packet else {
                    return Err(LinkError::transient("the broker does not answer CONNECT"));
                };
                return accepted(&answer);
            }
            self.turn().await?;
        }
    }

    /// Asks for messages with QoS 1.
    pub(super) fn subscribe(&mut self, filters: &[String]) -> Result<(), LinkError> {
        let subscriptions = filters.iter().map(|filter| {
            let key = SubscriptionKey::parse(filter, &self.limits);
            key.map(|key| Subscription::new(key, Qos::AtLeastOnce))
        });
        let subscriptions: Result<Vec<_>, _> = subscriptions.collect();
        let subscriptions = subscriptions.map_err(|error| lasting(error.to_string()))?;
        self.put(&Packet::Subscribe(Subscribe {
            packet_id: PacketId::FIRST,
            subscription_id: None,
            subscriptions,
            user: Vec::new(),
        }))
    }

    /// Puts a message on its way, with QoS 0 and not retained.
    pub(super) fn publish(&mut self, message: Message) -> Result<(), LinkError> {
        let topic = topic(&message.topic)?;
        let payload = Bytes::from(message.payload);
        self.put(&Packet::Publish(PublishPacket::new(topic, payload)))
    }

    pub(super) fn ping(&mut self) -> Result<(), LinkError> {
        self.put(&Packet::PingReq)
    }

    pub(super) fn acknowledge(&mut self, packet_id: PacketId) -> Result<(), LinkError> {
        self.put(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)))
    }

    /// Says good-bye: with MQTT 5 in the way that lets the will be published.
    pub(super) fn disconnect(&mut self) -> Result<(), LinkError> {
        self.put(&Packet::Disconnect(Disconnect::new(ReasonCode::DisconnectWithWill)))
    }

    /// Returns how many bytes wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.output.len()
    }

    /// Takes the next packet that has come.
    pub(super) fn take(&mut self) -> Result<Option<Packet>, LinkError> {
        let taken = Packet::split_off(&mut self.input, self.version, &self.limits);
        taken.map_err(|error| LinkError {
            reason: format!("the broker breaks the protocol: {error}"),
            failure: Failure::Transient,
            how: How::Otherwise,
        })
    }

    /// Reads or writes some bytes. Cancel-safe.
    pub(super) async fn turn(&mut self) -> Result<(), LinkError> {
        self.input.reserve(READ_BYTES);
        let moved = tokio::select! {
            read = self.reader.read_buf(&mut self.input) => match read {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                other => other,
            },
            written = self.writer.write_buf(&mut self.output), if !self.output.is_empty() => written,
        };
        moved.map(drop).map_err(|error| broken(&error))
    }

    /// Writes what waits, and waits until the broker has closed the connection.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.writer.write_all_buf(&mut self.output).await?;
        self.writer.shutdown().await?;
        loop {
            self.input.clear();
            self.input.reserve(READ_BYTES);
            if self.reader.read_buf(&mut self.input).await? == 0 {
                return Ok(());
            }
        }
    }

    fn put(&mut self, packet: &Packet) -> Result<(), LinkError> {
        let put = packet.encode(self.version, &mut self.output);
        put.map_err(|error| lasting(format!("a packet cannot be written: {error}")))
    }
}

fn topic(text: &str) -> Result<Topic, LinkError> {
    Topic::new(text).map_err(|error| lasting(format!("`{text}` is no topic: {error}")))
}

/// Reads the answer to CONNECT.
fn accepted(answer: &ConnAck) -> Result<Broker, LinkError> {
    use ReasonCode::{
        BadAuthenticationMethod, BadUserNameOrPassword, Banned, ClientIdentifierNotValid,
        NotAuthorized, UnsupportedProtocolVersion,
    };
    if answer.reason.is_failure() {
        let failure = match answer.reason {
            BadAuthenticationMethod
            | BadUserNameOrPassword
            | Banned
            | ClientIdentifierNotValid
            | NotAuthorized
            | UnsupportedProtocolVersion => Failure::Lasting,
            _ => Failure::Transient,
        };
        let reason = format!("the broker refuses the connection: {}", answer.reason.as_str());
        return Err(LinkError { reason, failure, how: How::Otherwise });
    }
    let most =
        answer.maximum_packet_size.map(|most| usize::try_from(most.get()).unwrap_or(usize::MAX));
    Ok(Broker {
        packet_bytes_max: most.unwrap_or(usize::MAX),
        keep_alive_s: answer.server_keep_alive_s,
    })
}

fn broken(error: &io::Error) -> LinkError {
    LinkError {
        reason: format!("the connection is broken: {error}"),
        failure: Failure::Transient,
        how: How::Closed,
    }
}

pub(super) fn lasting(reason: String) -> LinkError {
    LinkError { reason, failure: Failure::Lasting, how: How::Otherwise }
}
