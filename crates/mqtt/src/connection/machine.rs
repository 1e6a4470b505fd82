//! The states of a connection, and what moves it from one to the next.

use std::{num::NonZeroU16, sync::Arc, time::Instant};

use bytes::BytesMut;
use thiserror::Error;

use super::{
    authentication,
    batch::{ClientPacket, PacketBatch},
    session::{Session, Terms},
};
use crate::{
    Output, ProtocolError, ProtocolVersion, ReasonCode, Settings, Text,
    packet::{FixedHeader, Packet, PacketType, connect},
};

/// Why a connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseCause {
    /// The client has sent DISCONNECT.
    #[error("client disconnected: {reason}")]
    ByClient {
        /// What it said.
        reason: ReasonCode,
    },
    /// The server has closed or refused it.
    #[error("server disconnected: {reason}")]
    ByServer {
        /// What it said, or would have said if the version had words for it.
        reason: ReasonCode,
    },
    /// The client broke a rule or a limit.
    #[error("client broke the protocol")]
    Protocol {
        /// Which one.
        #[from]
        source: ProtocolError,
    },
    /// The client was not accepted in time.
    #[error("no CONNECT in time")]
    ConnectTimeout,
    /// A packet was begun and not finished in time.
    #[error("packet not finished in time")]
    PacketTimeout,
    /// The client was silent for one and a half times the keep alive.
    #[error("keep alive expired")]
    KeepAliveTimeout,
    /// The client began to authenticate itself again and did not go on in time.
    #[error("re-authentication not finished in time")]
    AuthenticationTimeout,
}

/// Server side of one MQTT connection: no socket, no clock, no task.
///
/// Call a method for each thing that happens; bytes for the peer go into `output`, which is bounded and
/// belongs to the driver. Wait until [`poll_timeout`](Self::poll_timeout) at the latest.
#[derive(Debug)]
pub struct Connection {
    pub(super) settings: Arc<Settings>,
    pub(super) state: State,
    /// When the packet whose first bytes have arrived must be complete.
    pub(super) packet_deadline: Option<Instant>,
}

#[derive(Debug)]
pub(super) enum State {
    ExpectConnect {
        deadline: Instant,
        /// The version in which the client would understand a refusal, once that is known.
        speaks: Option<ProtocolVersion>,
    },
    ExpectVerdict {
        deadline: Instant,
        terms: Terms,
        /// The authentication method that CONNECT named.
        method: Option<Text>,
    },
    ExpectAuth {
        deadline: Instant,
        terms: Terms,
        method: Text,
    },
    Connected(Session),
    Closed(CloseCause),
}

/// What `input` begins with.
enum Next {
    Packet(Packet),
    Incomplete,
    Blocked,
}

impl Connection {
    /// Starts a connection that was accepted at `now`.
    pub fn new(now: Instant, settings: Arc<Settings>) -> Self {
        let deadline = now + settings.connect_timeout;
        let state = State::ExpectConnect { deadline, speaks: None };
        Self { settings, state, packet_deadline: None }
    }

    /// Takes complete packets out of `input` and returns them for the broker, in order.
    ///
    /// Call it whenever `input` is not empty and something has changed: bytes were read, the client was
    /// accepted, an acknowledgement was given, `output` has got room again. It takes nothing while
    /// [`wants_input`](Self::wants_input) is false or `output` has no room, and at most
    /// [`PacketBatch::PACKETS_MAX`] packets: call again until the batch is empty.
    ///
    /// Payloads are split off `input` as [`Bytes`](bytes::Bytes), copied only if small; an incomplete
    /// packet stays in it. A packet that breaks the protocol closes the connection: the reply that MQTT asks
    /// for is put into `output`, and the packets before it are still returned.
    pub fn handle_input(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        output: &mut Output,
    ) -> PacketBatch {
        let mut batch = PacketBatch::for_input(input.len());
        while !batch.is_full() && output.has_room() && self.wants_input() {
            let handled = match self.next_packet(input) {
                Ok(Next::Packet(packet)) => {
                    self.packet_deadline = None;
                    self.handle_packet(now, packet, &mut batch, output)
                }
                Ok(Next::Incomplete) => {
                    self.expect_rest(now, input);
                    break;
                }
                Ok(Next::Blocked) => break,
                Err(error) => Err(error),
            };
            if let Err(error) = handled {
                self.fail(error, output);
            }
        }
        if self.is_closed() {
            input.clear();
        }
        batch
    }

    /// Returns whether more bytes should be read. Not while the broker decides about CONNECT or the AUTH that
    /// follows it, while it has [paused](Self::pause) the client, or while the client is ahead of its acknowledgements.
    pub fn wants_input(&self) -> bool {
        match &self.state {
            State::ExpectConnect { .. } | State::ExpectAuth { .. } => true,
            State::Connected(session) => !session.is_paused && !session.is_blocked,
            State::ExpectVerdict { .. } | State::Closed(_) => false,
        }
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout), if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::ExpectConnect { deadline, .. }
            | State::ExpectVerdict { deadline, .. }
            | State::ExpectAuth { deadline, .. } => Some(*deadline),
            State::Connected(session) => {
                let keep_alive = session.keep_alive.deadline();
                let deadlines = [keep_alive, self.packet_deadline, session.auth_deadline()];
                deadlines.into_iter().flatten().min()
            }
            State::Closed(_) => None,
        }
    }

    /// Acts on deadlines that have passed at `now`.
    pub fn handle_timeout(&mut self, now: Instant, output: &mut Output) {
        if self.poll_timeout().is_none_or(|deadline| deadline > now) {
            return;
        }
        let (reason, cause) = match &self.state {
            State::Connected(session)
                if session.keep_alive.deadline().is_some_and(|deadline| deadline <= now) =>
            {
                (ReasonCode::KeepAliveTimeout, CloseCause::KeepAliveTimeout)
            }
            State::Connected(session)
                if session.auth_deadline().is_some_and(|deadline| deadline <= now) =>
            {
                (ReasonCode::NotAuthorized, CloseCause::AuthenticationTimeout)
            }
            State::Connected(_) => {
                (ReasonCode::ImplementationSpecificError, CloseCause::PacketTimeout)
            }
            _ => (ReasonCode::ServerUnavailable, CloseCause::ConnectTimeout),
        };
        self.close_with(reason, cause, output);
    }

    /// Takes no more packets until [`resume`](Self::resume), and does not expect any: the keep alive
    /// stands still.
    pub fn pause(&mut self) {
        if let State::Connected(session) = &mut self.state {
            session.is_paused = true;
            session.keep_alive.suspend();
            if let Some(authentication) = &mut session.authentication {
                authentication.suspend();
            }
            self.packet_deadline = None;
        }
    }

    /// Takes packets again.
    pub fn resume(&mut self, now: Instant) {
        if let State::Connected(session) = &mut self.state {
            session.is_paused = false;
            session.keep_alive.restart(now);
            if let Some(authentication) = &mut session.authentication {
                authentication.restart(now, self.settings.connect_timeout);
            }
        }
    }

    /// Returns the version that the client speaks, once it has said so and until it is gone.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.terms().map(|terms| terms.dialect.version)
    }

    /// Returns how many messages with QoS 1 or 2 the client takes at once.
    pub fn client_receive_maximum(&self) -> Option<NonZeroU16> {
        self.terms().map(|terms| terms.receive_maximum)
    }

    /// Returns whether the client has been accepted and is still there.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected(_))
    }

    /// Returns whether nothing more will happen; what is in the output is still to be written.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// Returns why the connection is closed, if it is.
    pub fn close_cause(&self) -> Option<&CloseCause> {
        match &self.state {
            State::Closed(cause) => Some(cause),
            _ => None,
        }
    }

    fn terms(&self) -> Option<&Terms> {
        match &self.state {
            State::ExpectVerdict { terms, .. } | State::ExpectAuth { terms, .. } => Some(terms),
            State::Connected(session) => Some(&session.terms),
            State::ExpectConnect { .. } | State::Closed(_) => None,
        }
    }

    /// Begins to wait for the rest of a packet.
    fn expect_rest(&mut self, now: Instant, input: &BytesMut) {
        if !input.is_empty() {
            self.packet_deadline.get_or_insert(now + self.settings.packet_timeout);
        }
        if let State::Connected(session) = &mut self.state {
            session.keep_alive.resume(now);
        }
    }

    /// Looks at the first bytes before anything is taken: what must not come is refused at once.
    fn next_packet(&mut self, input: &mut BytesMut) -> Result<Next, ProtocolError> {
        let Some(&first) = input.first() else {
            return Ok(Next::Incomplete);
        };
        let packet = PacketType::from_first_byte(first)?;
        let version = match &mut self.state {
            State::ExpectConnect { speaks, .. } => {
                if packet != PacketType::Connect {
                    return Err(ProtocolError::ExpectedConnect { packet });
                }
                if let Some(header) = FixedHeader::peek(input)? {
                    *speaks = connect::peek_version(&input[header.header_bytes..])?;
                }
                ProtocolVersion::V5
            }
            State::ExpectAuth { terms, .. } => {
                if !matches!(packet, PacketType::Auth | PacketType::Disconnect) {
                    return Err(ProtocolError::ExpectedAuth { packet });
                }
                terms.dialect.version
            }
            State::Connected(session) => {
                session.expects(packet)?;
                if packet == PacketType::Publish && session.must_wait(first) {
                    session.is_blocked = true;
                    session.keep_alive.suspend();
                    return Ok(Next::Blocked);
                }
                session.terms.dialect.version
            }
            State::ExpectVerdict { .. } | State::Closed(_) => return Ok(Next::Incomplete),
        };
        let known = match &self.state {
            State::Connected(session) => session.last_topic.as_ref(),
            _ => None,
        };
        let packet = Packet::split_off_knowing(input, version, &self.settings.limits, known)?;
        Ok(packet.map_or(Next::Incomplete, Next::Packet))
    }

    fn handle_packet(
        &mut self,
        now: Instant,
        packet: Packet,
        batch: &mut PacketBatch,
        output: &mut Output,
    ) -> Result<(), ProtocolError> {
        match (&mut self.state, packet) {
            (State::ExpectConnect { deadline, .. }, Packet::Connect(connect)) => {
                let method = connect.authentication_method.clone();
                let offered = self.settings.authentication_methods;
                if method.as_ref().is_some_and(|method| !offered.contains(&method.as_str())) {
                    return Err(ProtocolError::ExtendedAuthentication);
                }
                let (deadline, terms) = (*deadline, Terms::of(&connect));
                self.state = State::ExpectVerdict { deadline, terms, method };
                batch.push(ClientPacket::Connect(connect));
            }
            (State::ExpectAuth { deadline, terms, method }, Packet::Auth(auth)) => {
                authentication::check_continued(&auth, method)?;
                let (deadline, terms, method) = (*deadline, *terms, Some(method.clone()));
                self.state = State::ExpectVerdict { deadline, terms, method };
                batch.push(ClientPacket::Auth(auth));
            }
            (State::ExpectAuth { terms, .. }, Packet::Disconnect(disconnect)) => {
                terms.check_disconnect(&disconnect)?;
                self.state = State::Closed(CloseCause::ByClient { reason: disconnect.reason });
                batch.push(ClientPacket::Disconnect(disconnect));
            }
            (State::Connected(session), Packet::PingReq) => {
                session.keep_alive.restart(now);
                output.tail().extend_from_slice(&PINGRESP);
            }
            (State::Connected(session), packet) => {
                session.keep_alive.restart(now);
                let packet = session.take(packet)?;
                if let ClientPacket::Disconnect(disconnect) = &packet {
                    self.state = State::Closed(CloseCause::ByClient { reason: disconnect.reason });
                }
                batch.push(packet);
            }
            (_, packet) => {
                return Err(ProtocolError::NotForServers { packet: packet.packet_type() });
            }
        }
        Ok(())
    }
}

const PINGRESP: [u8; 2] = [PacketType::PingResp.first_byte(), 0];
