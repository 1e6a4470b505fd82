//! What the server says to the client.

use std::{num::NonZeroU32, time::Instant};

use bytes::{BufMut, BytesMut};

use super::{
    authentication::Authentication,
    keep_alive::KeepAlive,
    machine::{CloseCause, Connection, State},
    outgoing_aliases::OutgoingAliases,
    receive_window::ReceiveWindow,
    session::{Dialect, Session},
    topic_aliases::TopicAliases,
};
use crate::{
    EncodeError, Outgoing, Output, PacketId, Password, ProtocolError, ProtocolVersion,
    PublishFrame, ReasonCode, Text,
    frame::Naming,
    packet::{Auth, ConnAck, Disconnect, Packet, PacketType, reasons, subscribe},
    writer,
};

/// What became of a message for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// It waits in the output.
    Written,
    /// It is larger than the client takes and must be treated as if it had been delivered
    /// (MQTT-3.1.2-25).
    TooLarge,
    /// The client is gone or not yet accepted.
    NotConnected,
}

impl Connection {
    /// Accepts the client and answers its CONNECT; returns whether it was still waiting.
    ///
    /// What the connection itself enforces comes from its settings, whatever `connack` says: receive
    /// maximum, maximum packet size, topic alias maximum. A keep alive that is off or above the
    /// settings' maximum is replaced, unless `connack` has one; MQTT 3.1.1 cannot be told and keeps its
    /// own. The authentication method is that of CONNECT. With a failure as its reason, `connack` refuses the
    /// client.
    pub fn accept(&mut self, now: Instant, connack: &ConnAck, output: &mut Output) -> bool {
        let State::ExpectVerdict { terms, method, .. } = &self.state else {
            return false;
        };
        let (terms, method) = (*terms, method.clone());
        if connack.reason.is_failure() {
            self.refuse(connack.clone(), output);
            return true;
        }
        let mut connack = connack.clone();
        // MQTT-4.12.0-5, MQTT-4.12.0-6.
        connack.authentication_method.clone_from(&method);
        let settings = &self.settings;
        connack.receive_maximum = Some(settings.receive_maximum);
        connack.topic_alias_maximum = Some(settings.topic_alias_maximum);
        let packet_bytes = u32::try_from(settings.limits.packet_bytes).unwrap_or(u32::MAX);
        connack.maximum_packet_size = NonZeroU32::new(packet_bytes);
        let keep_alive_s = match terms.dialect.version {
            ProtocolVersion::V311 => terms.keep_alive_s,
            ProtocolVersion::V5 => {
                let maximum = settings.keep_alive_max_s;
                if terms.keep_alive_s == 0 || terms.keep_alive_s > maximum {
                    connack.server_keep_alive_s.get_or_insert(maximum);
                }
                connack.server_keep_alive_s.unwrap_or(terms.keep_alive_s)
            }
        };
        self.state = State::Connected(Session {
            last_topic: None,
            terms,
            keep_alive: KeepAlive::new(keep_alive_s, now),
            window: ReceiveWindow::new(settings.receive_maximum),
            aliases: TopicAliases::new(settings.topic_alias_maximum),
            outgoing: OutgoingAliases::new(
                terms.topic_alias_maximum.min(settings.topic_aliases_used),
            ),
            authentication: method.map(Authentication::new),
            is_paused: false,
            is_blocked: false,
        });
        self.send_connack(terms.dialect, connack, output);
        true
    }

    /// Refuses the client and closes the connection; returns whether it was still waiting.
    ///
    /// A reason that CONNACK does not have is replaced by the nearest one; in MQTT 3.1.1, where few can
    /// be said, nothing may be.
    pub fn reject(&mut self, reason: ReasonCode, output: &mut Output) -> bool {
        let is_waiting = matches!(self.state, State::ExpectVerdict { .. });
        if is_waiting {
            self.refuse(ConnAck::refused(reason), output);
        }
        is_waiting
    }

    /// Asks a client that has named an authentication method for the next step; returns whether it was its turn
    /// to be asked.
    ///
    /// Before CONNACK the deadline of CONNECT goes on; the answer of a client that authenticates itself again
    /// is awaited for as long.
    pub fn challenge(&mut self, now: Instant, data: Password, output: &mut Output) -> bool {
        let deadline = now + self.settings.connect_timeout;
        let (dialect, method) = match &mut self.state {
            State::ExpectVerdict { deadline, terms, method: Some(method) } => {
                let (deadline, terms, method) = (*deadline, *terms, method.clone());
                self.state = State::ExpectAuth { deadline, terms, method: method.clone() };
                (terms.dialect, method)
            }
            State::Connected(Session { authentication: Some(authentication), terms, .. })
                if authentication.awaits_server() =>
            {
                authentication.await_client(deadline);
                (terms.dialect, authentication.method.clone())
            }
            _ => return false,
        };
        // MQTT-4.12.0-2.
        self.send_auth(ReasonCode::ContinueAuthentication, method, data, dialect, output);
        true
    }

    /// Tells a client that it has authenticated itself again (MQTT 5.0, section 4.12.1); returns whether it had
    /// asked.
    pub fn reauthenticated(&mut self, data: Password, output: &mut Output) -> bool {
        let State::Connected(Session { authentication: Some(authentication), terms, .. }) =
            &mut self.state
        else {
            return false;
        };
        if !authentication.awaits_server() {
            return false;
        }
        authentication.end();
        let (dialect, method) = (terms.dialect, authentication.method.clone());
        self.send_auth(ReasonCode::Success, method, data, dialect, output);
        true
    }

    fn send_auth(
        &mut self,
        reason: ReasonCode,
        method: Text,
        data: Password,
        dialect: Dialect,
        output: &mut Output,
    ) {
        let auth = Auth { reason, method: Some(method), data: Some(data), explanation: None };
        if !put_if_fits(&Packet::Auth(Box::new(auth)), dialect, output) {
            self.close(ReasonCode::PacketTooLarge, output);
        }
    }

    /// Closes the connection and tells the client why, in the words that its version has.
    pub fn close(&mut self, reason: ReasonCode, output: &mut Output) {
        self.close_with(reason, CloseCause::ByServer { reason }, output);
    }

    /// Answers a message of QoS 1. A refusal in MQTT 3.1.1 has no words: nothing is sent, and the
    /// message stays in flight.
    pub fn puback(&mut self, packet_id: PacketId, reason: ReasonCode, output: &mut Output) {
        if self.can_say(reason) {
            self.end_receipt(packet_id);
            self.ack(PacketType::PubAck, packet_id, reason, output);
        }
    }

    /// Answers a message of QoS 2, step one. A refusal ends the exchange; in MQTT 3.1.1 it has no words:
    /// nothing is sent, and the message stays in flight.
    pub fn pubrec(&mut self, packet_id: PacketId, reason: ReasonCode, output: &mut Output) {
        if !self.can_say(reason) {
            return;
        }
        if reason.is_failure() {
            self.end_receipt(packet_id);
        } else if let State::Connected(session) = &mut self.state {
            session.window.received(packet_id);
            session.is_blocked = false;
        }
        self.ack(PacketType::PubRec, packet_id, reason, output);
    }

    /// Releases a message of QoS 2 that the client has received: step two.
    pub fn pubrel(&mut self, packet_id: PacketId, reason: ReasonCode, output: &mut Output) {
        self.ack(PacketType::PubRel, packet_id, reason, output);
    }

    /// Ends the exchange of a message of QoS 2 from the client: step three.
    pub fn pubcomp(&mut self, packet_id: PacketId, reason: ReasonCode, output: &mut Output) {
        self.end_receipt(packet_id);
        self.ack(PacketType::PubComp, packet_id, reason, output);
    }

    /// Answers SUBSCRIBE with one reason per filter.
    pub fn suback(&mut self, packet_id: PacketId, reasons: &[ReasonCode], output: &mut Output) {
        self.send(PacketType::SubAck, output, |version, body| {
            subscribe::write_suback(packet_id, reasons, None, version, body)
        });
    }

    /// Answers UNSUBSCRIBE with one reason per filter; MQTT 3.1.1 says none of them.
    pub fn unsuback(&mut self, packet_id: PacketId, reasons: &[ReasonCode], output: &mut Output) {
        self.send(PacketType::UnsubAck, output, |version, body| {
            subscribe::write_unsuback(packet_id, reasons, None, version, body)
        });
    }

    /// Sends a message. The payload is shared with every other subscriber unless it is small.
    ///
    /// Ask [`Output::has_room`] first: a message is put in even if there is none.
    #[inline]
    pub fn publish(
        &mut self,
        frame: &PublishFrame<'_>,
        outgoing: &Outgoing<'_>,
        output: &mut Output,
    ) -> Sent {
        let State::Connected(Session { terms, outgoing: aliases, .. }) = &mut self.state else {
            return Sent::NotConnected;
        };
        let Dialect { version, packet_bytes_max } = terms.dialect;
        let mut naming = aliases.propose(frame.topic);
        let mut is_written = frame.write(version, outgoing, naming, packet_bytes_max, output);
        if !is_written && matches!(naming, Naming::WithAlias(_)) {
            // Setting an alias takes a few bytes more than not to.
            naming = Naming::Whole;
            is_written = frame.write(version, outgoing, naming, packet_bytes_max, output);
        }
        if !is_written {
            return Sent::TooLarge;
        }
        aliases.note(frame.topic, naming);
        Sent::Written
    }

    /// Closes the connection because the client broke a rule.
    pub(super) fn fail(&mut self, error: ProtocolError, output: &mut Output) {
        self.close_with(error.reason_code(), CloseCause::Protocol { source: error }, output);
    }

    /// Says what can be said, and closes.
    pub(super) fn close_with(
        &mut self,
        reason: ReasonCode,
        cause: CloseCause,
        output: &mut Output,
    ) {
        match &self.state {
            State::Closed(_) => return,
            State::Connected(session) => {
                if session.terms.dialect.version == ProtocolVersion::V5 {
                    let (reason, server_reference) = self.settings.refer(for_disconnect(reason));
                    let dialect = session.terms.dialect;
                    let packet = Disconnect { server_reference, ..Disconnect::new(reason) };
                    if !put_if_fits(&Packet::Disconnect(packet), dialect, output) {
                        let packet = Packet::Disconnect(Disconnect::new(reason));
                        put_if_fits(&packet, dialect, output);
                    }
                }
            }
            State::ExpectVerdict { terms, .. } | State::ExpectAuth { terms, .. } => {
                let terms = *terms;
                self.send_connack(terms.dialect, ConnAck::refused(reason), output);
            }
            // Whoever has not spoken MQTT so far gets no answer at all.
            State::ExpectConnect { speaks: Some(version), .. } => {
                let dialect = Dialect { version: *version, packet_bytes_max: usize::MAX };
                self.send_connack(dialect, ConnAck::refused(reason), output);
            }
            State::ExpectConnect { speaks: None, .. } => {}
        }
        self.packet_deadline = None;
        self.state = State::Closed(cause);
    }

    fn refuse(&mut self, connack: ConnAck, output: &mut Output) {
        let reason = connack.reason;
        if let State::ExpectVerdict { terms, .. } = &self.state {
            let terms = *terms;
            self.send_connack(terms.dialect, connack, output);
            self.state = State::Closed(CloseCause::ByServer { reason });
        }
    }

    /// Writes CONNACK. What is only for people to read is left out if the client has no room for it
    /// (MQTT-3.2.2-19, MQTT-3.2.2-20).
    fn send_connack(&mut self, dialect: Dialect, mut connack: ConnAck, output: &mut Output) {
        if connack.reason.is_failure() {
            connack.session_present = false;
            connack.reason = for_connack(connack.reason);
            if dialect.version == ProtocolVersion::V5 {
                (connack.reason, connack.server_reference) = self.settings.refer(connack.reason);
            }
            let cannot_be_said = dialect.version == ProtocolVersion::V311
                && connack.reason.connect_return_code().is_none();
            if cannot_be_said {
                return;
            }
        }
        let mut packet = Packet::ConnAck(Box::new(connack));
        if put_if_fits(&packet, dialect, output) {
            return;
        }
        if let Packet::ConnAck(connack) = &mut packet {
            connack.reason_string = None;
            connack.user.clear();
            if connack.reason.is_failure() {
                connack.server_reference = None;
            }
        }
        if !put_if_fits(&packet, dialect, output) {
            let reason = ReasonCode::PacketTooLarge;
            self.state = State::Closed(CloseCause::ByServer { reason });
        }
    }

    /// Returns whether the version has words for `reason` in PUBACK and PUBREC.
    fn can_say(&self, reason: ReasonCode) -> bool {
        self.version() == Some(ProtocolVersion::V5) || !reason.is_failure()
    }

    fn end_receipt(&mut self, packet_id: PacketId) {
        if let State::Connected(session) = &mut self.state {
            session.window.end(packet_id);
            session.is_blocked = false;
        }
    }

    #[inline]
    fn ack(
        &mut self,
        packet: PacketType,
        packet_id: PacketId,
        reason: ReasonCode,
        output: &mut Output,
    ) {
        let State::Connected(session) = &self.state else {
            return;
        };
        let [high, low] = packet_id.as_u16().to_be_bytes();
        let first = packet.first_byte();
        let is_plain =
            reason == ReasonCode::Success || session.terms.dialect.version == ProtocolVersion::V311;
        let bytes: &[u8] =
            if is_plain { &[first, 2, high, low] } else { &[first, 3, high, low, reason.code()] };
        if bytes.len() > session.terms.dialect.packet_bytes_max {
            return self.close(ReasonCode::PacketTooLarge, output);
        }
        output.tail().put_slice(bytes);
    }

    /// Writes an answer that the client needs; without room for it there, the connection is of no use.
    fn send(
        &mut self,
        packet: PacketType,
        output: &mut Output,
        body: impl FnOnce(ProtocolVersion, &mut BytesMut) -> Result<(), EncodeError>,
    ) {
        let State::Connected(session) = &self.state else {
            return;
        };
        let dialect = session.terms.dialect;
        let tail = output.tail();
        let start = tail.len();
        let written = writer::packet(tail, packet.first_byte(), |tail| body(dialect.version, tail));
        if written.is_err() || tail.len() - start > dialect.packet_bytes_max {
            tail.truncate(start);
            self.close(ReasonCode::PacketTooLarge, output);
        }
    }
}

/// Writes a packet unless the client does not take it; returns whether it did.
fn put_if_fits(packet: &Packet, dialect: Dialect, output: &mut Output) -> bool {
    let tail = output.tail();
    let start = tail.len();
    let fits = packet.encode(dialect.version, tail).is_ok()
        && tail.len() - start <= dialect.packet_bytes_max;
    if !fits {
        tail.truncate(start);
    }
    fits
}

/// Returns the reason, or the nearest that CONNACK has (MQTT 5.0, section 3.2.2.2).
fn for_connack(reason: ReasonCode) -> ReasonCode {
    if reasons::belongs_to(reason, PacketType::ConnAck) {
        return reason;
    }
    match reason {
        ReasonCode::ServerShuttingDown
        | ReasonCode::SessionTakenOver
        | ReasonCode::AdministrativeAction => ReasonCode::ServerUnavailable,
        ReasonCode::MessageRateTooHigh => ReasonCode::ConnectionRateExceeded,
        _ => ReasonCode::UnspecifiedError,
    }
}

/// Returns the reason, or the nearest that DISCONNECT has (MQTT 5.0, section 3.14.2.1).
fn for_disconnect(reason: ReasonCode) -> ReasonCode {
    if reasons::belongs_to(reason, PacketType::Disconnect) {
        return reason;
    }
    match reason {
        ReasonCode::UnsupportedProtocolVersion => ReasonCode::ProtocolError,
        ReasonCode::ClientIdentifierNotValid
        | ReasonCode::BadUserNameOrPassword
        | ReasonCode::Banned
        | ReasonCode::BadAuthenticationMethod => ReasonCode::NotAuthorized,
        ReasonCode::ServerUnavailable => ReasonCode::ServerShuttingDown,
        _ => ReasonCode::UnspecifiedError,
    }
}
