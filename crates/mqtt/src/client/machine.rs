//! The connection as a state machine.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tidegate_model::{ClientId, Qos, Topic, TopicFilter};

use super::flights::{Awaits, Flights};
use crate::{
    EncodeError, Limits, PacketId, ProtocolError, ProtocolVersion, ReasonCode,
    packet::{
        Ack, ConnAck, Connect, Delivery, Disconnect, Packet, PacketType, PublishPacket, SubAck,
        Subscribe, Subscription, SubscriptionKey,
    },
};

const VERSION: ProtocolVersion = ProtocolVersion::V311;

/// Who connects, and how.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// The client identifier.
    pub client_id: ClientId,
    /// How long the connection may be silent; at least 1 s, and at most 65,535 s.
    pub keep_alive: Duration,
    /// How long CONNACK may take.
    pub connect_timeout: Duration,
    /// How many messages with QoS 1 or 2 may be on their way; at least 1, at most 65,534.
    pub window: u16,
    /// How large may be what comes.
    pub limits: Limits,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The far side has let us in, with or without what it kept of an earlier connection.
    Connected {
        /// Whether it kept something.
        session_present: bool,
    },
    /// The subscription is answered.
    Subscribed {
        /// Whether all filters were granted with the QoS asked for.
        is_granted: bool,
    },
    /// The far side has a message for sure.
    Delivered {
        /// The one it was published under.
        token: u64,
    },
    /// A message came.
    Received(Received),
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where it was published.
    pub topic: Topic,
    /// What it says.
    pub payload: Bytes,
    /// Whether it is a retained one.
    pub retained: bool,
    /// What to give to [`Client::acknowledge`]; QoS 0 wants no answer.
    pub packet_id: Option<PacketId>,
}

/// Why the connection is to be dropped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClientError {
    /// The far side does not let us in.
    #[error("the broker refuses the connection: {0:?}")]
    Refused(ReasonCode),
    /// The far side breaks the protocol.
    #[error("the broker breaks the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// A packet came that has no place there.
    #[error("the broker sends {0:?} where it has no place")]
    Unexpected(PacketType),
    /// Nothing comes.
    #[error("the broker has gone silent")]
    Silent,
    /// A packet of ours does not fit.
    #[error("a message cannot be written: {0}")]
    Encode(#[from] EncodeError),
    /// Too much is on its way already.
    #[error("more messages are on their way than may be")]
    Full,
}

/// What was made of a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incoming {
    /// It waits for its acknowledgement.
    Open(Qos),
    /// QoS 2: PUBREC was sent.
    Recorded,
}

/// One connection. Bytes for the far side go into `output`, which belongs to the driver.
#[derive(Debug)]
pub struct Client {
    settings: ClientSettings,
    is_connected: bool,
    deadline: Option<Instant>,
    flights: Flights,
    /// At most one for each identifier; what they say is the driver's to bound, by not reading.
    incoming: BTreeMap<PacketId, Incoming>,
    /// Until when a PINGRESP is awaited.
    pinged: Option<Instant>,
    /// How many are awaited.
    pings: u32,
    next_ping: Instant,
    events: VecDeque<ClientEvent>,
}

impl Client {
    /// Says CONNECT. An earlier session goes on if the far side has it.
    ///
    /// # Errors
    ///
    /// [`ClientError::Encode`] if the client identifier is too long.
    pub fn new(
        settings: ClientSettings,
        now: Instant,
        output: &mut BytesMut,
    ) -> Result<Self, ClientError> {
        let mut connect = Connect::new(VERSION);
        connect.clean_start = false;
        connect.client_id = Some(settings.client_id.clone());
        connect.keep_alive_s = u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX);
        Packet::Connect(Box::new(connect)).encode(VERSION, output)?;
        Ok(Self {
            is_connected: false,
            deadline: Some(now + settings.connect_timeout),
            flights: Flights::new(settings.window.clamp(1, u16::MAX - 1)),
            incoming: BTreeMap::new(),
            pinged: None,
            pings: 0,
            next_ping: now + settings.keep_alive,
            events: VecDeque::new(),
            settings,
        })
    }

    /// Returns how many messages are on their way.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Publishes a message; [`ClientEvent::Delivered`] with its token tells that the far side has it.
    ///
    /// # Errors
    ///
    /// [`ClientError::Full`] or [`ClientError::Encode`].
    pub fn publish(
        &mut self,
        token: u64,
        topic: Topic,
        payload: Bytes,
        qos: Qos,
        output: &mut BytesMut,
    ) -> Result<(), ClientError> {
        let mut packet = PublishPacket::new(topic, payload);
        let dup = false;
        packet.delivery = match qos {
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce => {
                let packet_id = self.flights.begin(token, Awaits::Acknowledgement);
                Delivery::AtLeastOnce { packet_id: packet_id.ok_or(ClientError::Full)?, dup }
            }
            Qos::ExactlyOnce => {
                let packet_id = self.flights.begin(token, Awaits::Record);
                Delivery::ExactlyOnce { packet_id: packet_id.ok_or(ClientError::Full)?, dup }
            }
        };
        let id = packet.delivery.packet_id();
        let written = Packet::Publish(packet).encode(VERSION, output);
        match id {
            None if written.is_ok() => self.flights.begin_unsure(token),
            Some(id) if written.is_err() => {
                self.flights.end(id);
            }
            _ => {}
        }
        Ok(written?)
    }

    /// Subscribes to filters with QoS 2; one subscription at a time. [`ClientEvent::Subscribed`] answers.
    ///
    /// # Errors
    ///
    /// [`ClientError::Encode`].
    pub fn subscribe(
        &mut self,
        filters: impl IntoIterator<Item = TopicFilter>,
        output: &mut BytesMut,
    ) -> Result<(), ClientError> {
        let subscription = |filter| {
            let key = SubscriptionKey { share: None, filter };
            Subscription::new(key, Qos::ExactlyOnce)
        };
        let packet = Packet::Subscribe(Subscribe {
            packet_id: self.subscription_id(),
            subscription_id: None,
            subscriptions: filters.into_iter().map(subscription).collect(),
            user: Vec::new(),
        });
        Ok(packet.encode(VERSION, output)?)
    }

    /// Returns the identifier that no message has.
    fn subscription_id(&self) -> PacketId {
        PacketId::new(self.settings.window.clamp(1, u16::MAX - 1) + 1).unwrap_or(PacketId::FIRST)
    }

    /// Lets the far side know that a message is safe.
    ///
    /// # Errors
    ///
    /// [`ClientError::Encode`].
    pub fn acknowledge(&mut self, id: PacketId, output: &mut BytesMut) -> Result<(), ClientError> {
        let ack = Ack::new(id, ReasonCode::Success);
        let packet = match self.incoming.get(&id) {
            Some(Incoming::Open(Qos::ExactlyOnce)) => {
                self.incoming.insert(id, Incoming::Recorded);
                Packet::PubRec(ack)
            }
            Some(Incoming::Open(_)) => {
                self.incoming.remove(&id);
                Packet::PubAck(ack)
            }
            Some(Incoming::Recorded) | None => return Ok(()),
        };
        Ok(packet.encode(VERSION, output)?)
    }

    /// Says good-bye.
    pub fn disconnect(&self, output: &mut BytesMut) {
        let packet = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
        // It is two bytes.
        let _ = packet.encode(VERSION, output);
    }

    /// Takes all whole packets out of `input`; what they mean is told by [`poll_event`](Self::poll_event).
    ///
    /// # Errors
    ///
    /// [`ClientError`]; the connection is to be dropped.
    pub fn handle_input(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<(), ClientError> {
        while let Some(packet) = Packet::split_off(input, VERSION, &self.settings.limits)? {
            self.handle_packet(now, packet, output)?;
        }
        Ok(())
    }

    /// Returns what happened next, oldest first.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// Follows messages of QoS 0 with the question whether they have arrived. Call it before each write.
    ///
    /// # Errors
    ///
    /// [`ClientError::Encode`].
    pub fn flush(&mut self, now: Instant, output: &mut BytesMut) -> Result<(), ClientError> {
        if self.flights.has_unsure() && self.pinged.is_none() {
            self.ping(now, output)?;
        }
        Ok(())
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Instant {
        self.deadline.or(self.pinged).unwrap_or(self.next_ping)
    }

    /// Acts on what is due at `now`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Silent`] if an answer is overdue.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        output: &mut BytesMut,
    ) -> Result<(), ClientError> {
        if now < self.poll_timeout() {
            return Ok(());
        }
        if self.deadline.is_some() || self.pinged.is_some() {
            return Err(ClientError::Silent);
        }
        self.ping(now, output)
    }

    /// Puts off what is due at `now`, while the driver does not read and so cannot hear an answer. The far side hears that
    /// we are there.
    ///
    /// # Errors
    ///
    /// [`ClientError::Encode`].
    pub fn put_off(&mut self, now: Instant, output: &mut BytesMut) -> Result<(), ClientError> {
        if self.deadline.is_some() || now < self.poll_timeout() {
            return Ok(());
        }
        self.ping(now, output)
    }

    fn ping(&mut self, now: Instant, output: &mut BytesMut) -> Result<(), ClientError> {
        Packet::PingReq.encode(VERSION, output)?;
        if self.pings == 0 {
            // The answer to a later one would come too late to tell them apart.
            self.flights.cover();
        }
        self.pings += 1;
        self.pinged = Some(now + self.settings.keep_alive);
        self.next_ping = now + self.settings.keep_alive;
        Ok(())
    }

    fn handle_packet(
        &mut self,
        now: Instant,
        packet: Packet,
        output: &mut BytesMut,
    ) -> Result<(), ClientError> {
        if self.is_connected == matches!(packet, Packet::ConnAck(_)) {
            return Err(ClientError::Unexpected(packet.packet_type()));
        }
        match packet {
            Packet::ConnAck(connack) => self.handle_connack(now, &connack, output),
            Packet::SubAck(suback) => self.handle_suback(&suback),
            Packet::PubAck(ack) => {
                self.expect(ack.packet_id, Awaits::Acknowledgement, PacketType::PubAck)?;
                self.deliver(ack.packet_id);
                Ok(())
            }
            Packet::PubRec(ack) => self.handle_pubrec(ack.packet_id, output),
            Packet::PubComp(ack) => {
                // Others answer what was released at the beginning.
                if self.flights.awaits(ack.packet_id) == Some(Awaits::Completion) {
                    self.deliver(ack.packet_id);
                }
                Ok(())
            }
            Packet::PingResp => {
                self.pings = self.pings.saturating_sub(1);
                if self.pings == 0 {
                    self.pinged = None;
                }
                let covered = self.flights.end_covered();
                self.events.extend(covered.map(|token| ClientEvent::Delivered { token }));
                Ok(())
            }
            Packet::Publish(publish) => self.handle_publish(publish, output),
            Packet::PubRel(ack) => {
                if self.incoming.get(&ack.packet_id) == Some(&Incoming::Recorded) {
                    self.incoming.remove(&ack.packet_id);
                }
                Ok(Packet::PubComp(ack).encode(VERSION, output)?)
            }
            other => Err(ClientError::Unexpected(other.packet_type())),
        }
    }

    fn handle_connack(
        &mut self,
        now: Instant,
        connack: &ConnAck,
        output: &mut BytesMut,
    ) -> Result<(), ClientError> {
        if connack.reason != ReasonCode::Success {
            return Err(ClientError::Refused(connack.reason));
        }
        self.is_connected = true;
        self.deadline = None;
        self.next_ping = now + self.settings.keep_alive;
        if connack.session_present {
            for id in (1..=self.settings.window).filter_map(PacketId::new) {
                Packet::PubRel(Ack::new(id, ReasonCode::Success)).encode(VERSION, output)?;
            }
        }
        let session_present = connack.session_present;
        self.events.push_back(ClientEvent::Connected { session_present });
        Ok(())
    }

    fn handle_suback(&mut self, suback: &SubAck) -> Result<(), ClientError> {
        if suback.packet_id != self.subscription_id() {
            return Err(ClientError::Unexpected(PacketType::SubAck));
        }
        let is_granted =
            suback.reasons.iter().all(|reason| reason.code() == Qos::ExactlyOnce.bits());
        self.events.push_back(ClientEvent::Subscribed { is_granted });
        Ok(())
    }

    fn handle_pubrec(&mut self, id: PacketId, output: &mut BytesMut) -> Result<(), ClientError> {
        match self.flights.awaits(id) {
            Some(Awaits::Record | Awaits::Completion) => self.flights.step(id, Awaits::Completion),
            // Of a connection before this one.
            None => {}
            Some(Awaits::Acknowledgement) => {
                return Err(ClientError::Unexpected(PacketType::PubRec));
            }
        }
        Ok(Packet::PubRel(Ack::new(id, ReasonCode::Success)).encode(VERSION, output)?)
    }

    fn handle_publish(
        &mut self,
        publish: PublishPacket,
        output: &mut BytesMut,
    ) -> Result<(), ClientError> {
        let packet_id = publish.delivery.packet_id();
        if let Some(id) = packet_id {
            match self.incoming.get(&id) {
                // It was heard and not understood that we have it (section 4.3.3).
                Some(Incoming::Recorded) => {
                    let ack = Ack::new(id, ReasonCode::Success);
                    return Ok(Packet::PubRec(ack).encode(VERSION, output)?);
                }
                Some(Incoming::Open(_)) => return Ok(()),
                None => {
                    self.incoming.insert(id, Incoming::Open(publish.delivery.qos()));
                }
            }
        }
        let Some(topic) = publish.topic else {
            return Err(ClientError::Unexpected(PacketType::Publish));
        };
        self.events.push_back(ClientEvent::Received(Received {
            topic,
            payload: publish.payload,
            retained: publish.retain,
            packet_id,
        }));
        Ok(())
    }

    fn expect(&self, id: PacketId, awaits: Awaits, kind: PacketType) -> Result<(), ClientError> {
        if self.flights.awaits(id) == Some(awaits) {
            Ok(())
        } else {
            Err(ClientError::Unexpected(kind))
        }
    }

    fn deliver(&mut self, id: PacketId) {
        let token = self.flights.end(id);
        self.events.extend(token.map(|token| ClientEvent::Delivered { token }));
    }
}
