//! What each packet of a client means for the broker.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tidegate_adapter_api::{Login, LoginRefusal, Peer, Refusal};
use tidegate_broker::{
    Admission, ConnectRefusal, ConnectRequest, Disconnect, Expiry, InboundId, Source, Superseded,
    Will,
    access::{AccessFilter, Rights},
};
use tidegate_model::{ClientId, Message, Payload, Principal, Qos, TopicFilter};
use tidegate_mqtt::{
    ClientPacket, Password, ProtocolVersion, ReasonCode, SessionExpiry, Text,
    packet::{self, Ack, ConnAck, Connect, Delivery, Publish},
};

use super::{Driver, replies::Reply};
use crate::{memory::Pressure, store::Completion};

/// Where in its handling a message of the client got stuck.
enum Refused {
    Superseded,
    Refusal(Refusal),
}

impl From<Superseded> for Refused {
    fn from(_: Superseded) -> Self {
        Self::Superseded
    }
}

impl Driver<'_> {
    /// Acts on one packet.
    pub(super) fn handle(&mut self, packet: ClientPacket) {
        #[cfg(test)]
        self.strike(&packet);
        let result = match packet {
            ClientPacket::Connect(connect) if connect.authentication_method.is_some() => {
                self.begin_proof(connect);
                Ok(())
            }
            ClientPacket::Connect(connect) => {
                self.arriving = Some(connect);
                Ok(())
            }
            ClientPacket::Auth(auth) => {
                self.auth(&auth);
                Ok(())
            }
            ClientPacket::Publish(publish) => self.publish(publish),
            ClientPacket::PubAck(ack) => self.puback(&ack),
            ClientPacket::PubRec(ack) => self.pubrec(&ack),
            ClientPacket::PubRel(ack) => self.pubrel(&ack),
            ClientPacket::PubComp(ack) => self.pubcomp(&ack),
            ClientPacket::Subscribe(subscribe) => self.subscribe(subscribe),
            ClientPacket::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe),
            ClientPacket::Disconnect(disconnect) => {
                let expiry = disconnect.session_expiry.map(expiry);
                self.farewell = Some(if disconnect.wants_will() {
                    Disconnect::Abnormal
                } else {
                    Disconnect::Normal { expiry }
                });
                Ok(())
            }
        };
        if let Err(Superseded) = result {
            self.lose_session();
        }
    }

    /// Lets a client in that has said who it is, or not.
    pub(super) async fn connect(&mut self, connect: Connect) {
        let name = connect.user_name.as_ref().map(|name| name.as_str());
        let password = connect.password.as_ref().map_or(&b""[..], |password| password.expose());
        let credentials = match (name, &connect.password) {
            (None, None) => None,
            (name, _) => Some((name.unwrap_or_default(), password)),
        };
        let peer = Peer { address: self.peer.ip(), certificate: self.certificate.as_ref() };
        let login = match self.access.login_with(credentials, peer).await {
            Ok(login) => login,
            Err(refusal) => {
                self.counters.login_failures.fetch_add(1, Ordering::Relaxed);
                self.connection.reject(reason_of(refusal), &mut self.output);
                return;
            }
        };
        self.login = Some(login.clone());
        if let Err(reason) = self.begin_session(connect, login, None) {
            self.connection.reject(reason, &mut self.output);
        }
    }

    /// Gives a client its session. `proof` is what it is told at the end of an exchange that has proven who it is.
    pub(super) fn begin_session(
        &mut self,
        connect: Connect,
        login: Login,
        proof: Option<Password>,
    ) -> Result<(), ReasonCode> {
        let broker = self.ingest.broker();
        let connection = broker.next_connection();
        let assigned = connect.client_id.is_none();
        let client_id = match connect.client_id {
            Some(client_id) => client_id,
            None => assigned_client_id(connection.0).ok_or(ReasonCode::ServerUnavailable)?,
        };
        let arrival = broker.clock().wall();
        let will = connect.will.map(|will| to_will(*will, &login.principal, arrival));
        if will.as_ref().is_some_and(|will| will.message.topic.is_dollar()) {
            return Err(ReasonCode::NotAuthorized);
        }
        if will.as_ref().is_some_and(Will::is_stored) && broker.admission() == Admission::Closed {
            // It could not be kept (promise D11).
            return Err(ReasonCode::QuotaExceeded);
        }
        let request = ConnectRequest {
            principal: login.principal.clone(),
            credential: login.credential,
            client_id: client_id.clone(),
            clean_start: connect.clean_start,
            expiry: expiry(connect.session_expiry),
            will,
            receive_maximum: connect.receive_maximum.get(),
            connection,
            wake: self.replies.signal(),
        };
        let has_session = || broker.core().has_session(&login.principal, &client_id);
        if broker.ceiling().pressure() > Pressure::Free
            && !has_session()
            && !broker.ceiling().admits_client()
        {
            return Err(ReasonCode::ServerBusy);
        }
        let mut core = broker.core();
        // Its credential may have been withdrawn since it was checked; who loses it later is expelled.
        if !self.access.is_good(&login) {
            return Err(ReasonCode::NotAuthorized);
        }
        let outcome =
            core.connect(request, broker.clock().steady()).map_err(|refusal| match refusal {
                ConnectRefusal::QuotaExceeded => ReasonCode::QuotaExceeded,
                ConnectRefusal::TakeoverRate => ReasonCode::ConnectionRateExceeded,
                ConnectRefusal::ClientIdTooLong => ReasonCode::ClientIdentifierNotValid,
                ConnectRefusal::WillNotAuthorized => ReasonCode::NotAuthorized,
            })?;
        let wanted = connect.request_response_information;
        let topics = self.settings.response_topics.as_ref().filter(|_| wanted);
        let response_information = topics.and_then(|topics| {
            let rights = core.rights(outcome.attachment).ok()?;
            response_information(topics, &login.principal, &client_id, rights)
        });
        self.attachment = Some(outcome.attachment);
        self.is_resumed = outcome.session_present;
        // A session that is taken up again has what waited for it.
        self.may_have_due = true;
        let connack = ConnAck {
            session_expiry: granted_expiry(outcome.expiry, connect.session_expiry),
            assigned_client_id: assigned.then_some(client_id),
            response_information,
            authentication_data: proof,
            ..ConnAck::accepted(outcome.session_present)
        };
        let reply = Reply::Accept(Box::new(connack));
        if outcome.transactions.is_empty() {
            self.replies.push_ready(reply);
        } else {
            // The end of an old session and the will are on disk first (promises D9 and D11).
            let completion = self.replies.await_disk(reply);
            broker.submit_all(&core, outcome.transactions, completion);
        }
        drop(core);
        self.ingest.publish_wills(outcome.wills);
        Ok(())
    }

    fn publish(&mut self, publish: Publish) -> Result<(), Superseded> {
        let delivery = publish.delivery;
        // Only then may it have to wait.
        let may_stall = delivery.qos() > Qos::AtMostOnce
            && self.connection.version() == Some(ProtocolVersion::V311);
        let again = may_stall.then(|| publish.clone());
        match self.try_publish(publish) {
            Ok(()) => Ok(()),
            Err(Refused::Superseded) => Err(Superseded),
            Err(Refused::Refusal(refusal)) => {
                self.refuse_publish(again, delivery, &refusal);
                Ok(())
            }
        }
    }

    fn try_publish(&mut self, mut publish: Publish) -> Result<(), Refused> {
        let attachment = self.attachment.ok_or(Refused::Superseded)?;
        let ingest = self.ingest;
        let broker = ingest.broker();
        if let Delivery::ExactlyOnce { packet_id, .. } = publish.delivery {
            let mut core = broker.core();
            if let (InboundId::Repeated, transaction) =
                core.inbound_id(attachment, packet_id.as_u16())?
            {
                let reply = Reply::PubRec(packet_id, ReasonCode::Success);
                self.replies.submit(broker, &core, transaction, reply);
                return Ok(());
            }
        }
        let (publisher, may_publish) = {
            let mut core = broker.core();
            let may_publish =
                !publish.topic.is_dollar() && core.rights(attachment)?.may_publish(&publish.topic);
            (core.principal(attachment)?.clone(), may_publish)
        };
        if !may_publish {
            return Err(Refused::Refusal(ingest.denied_publication(&publisher)));
        }
        let source = match publish.delivery {
            Delivery::ExactlyOnce { packet_id, .. } => {
                Source::ExactlyOnce(attachment, packet_id.as_u16())
            }
            _ => Source::Session(attachment),
        };
        let properties = publish.take_properties(|| broker.clock().steady());
        let message = Message {
            topic: publish.topic,
            payload: Payload::bytes(publish.payload),
            qos: publish.delivery.qos(),
            retain: publish.retain,
            properties,
            publisher,
            arrival: broker.clock().wall(),
        };
        let replies = &mut self.replies;
        let published = ingest.publish(message, source, || replies.completion()).map_err(
            |refusal| match broker.core().principal(attachment) {
                Ok(_) => Refused::Refusal(refusal),
                Err(Superseded) => Refused::Superseded,
            },
        )?;
        let reason =
            if published.matched { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers };
        let reply = match publish.delivery {
            Delivery::AtMostOnce => return Ok(()),
            Delivery::AtLeastOnce { packet_id, .. } => Reply::PubAck(packet_id, reason),
            Delivery::ExactlyOnce { packet_id, .. } => Reply::PubRec(packet_id, reason),
        };
        if published.awaited {
            self.replies.push(reply)
        } else {
            self.replies.push_ready(reply)
        }
        Ok(())
    }

    /// Says why a message was not taken, in the words of the version.
    fn refuse_publish(&mut self, again: Option<Publish>, delivery: Delivery, refusal: &Refusal) {
        let reason = match refusal {
            Refusal::NotAuthorized => ReasonCode::NotAuthorized,
            Refusal::Busy { .. }
            | Refusal::StorageFull
            | Refusal::RetainedQuota
            | Refusal::TooLarge { .. } => ReasonCode::QuotaExceeded,
            Refusal::ShuttingDown => ReasonCode::ServerShuttingDown,
            _ => ReasonCode::ImplementationSpecificError,
        };
        match (self.connection.version(), delivery) {
            // Nothing was promised; it is counted where it was refused.
            (_, Delivery::AtMostOnce) => {}
            (Some(ProtocolVersion::V5), Delivery::AtLeastOnce { packet_id, .. }) => {
                self.replies.push_ready(Reply::PubAck(packet_id, reason));
            }
            (Some(ProtocolVersion::V5), Delivery::ExactlyOnce { packet_id, .. }) => {
                self.replies.push_ready(Reply::PubRec(packet_id, reason));
            }
            // 3.1.1 has no words: what may find room later waits, and nothing more is read (promise D2).
            _ if reason == ReasonCode::QuotaExceeded
                && !matches!(refusal, Refusal::TooLarge { .. } | Refusal::RetainedQuota) =>
            {
                self.stalled = again.map(Box::new);
            }
            // An acknowledgement would be a lie; the connection ends (MQTT 3.1.1, section 3.3.5).
            _ => self.connection.close(reason, &mut self.output),
        }
    }

    /// Tries a message again that found no room.
    pub(super) fn retry_stalled(&mut self) {
        if let Some(publish) = self.stalled.take()
            && let Err(Superseded) = self.publish(*publish)
        {
            self.lose_session();
        }
    }

    fn puback(&mut self, ack: &Ack) -> Result<(), Superseded> {
        let attachment = self.attachment.ok_or(Superseded)?;
        self.ingest.broker().core().acknowledged(attachment, ack.packet_id.as_u16())?;
        self.acknowledged();
        Ok(())
    }

    fn pubrec(&mut self, ack: &Ack) -> Result<(), Superseded> {
        let attachment = self.attachment.ok_or(Superseded)?;
        let broker = self.ingest.broker();
        if ack.reason.is_failure() {
            // The client will never take it (MQTT 5.0, section 4.3.3).
            let mut core = broker.core();
            let (_, transaction) = core.completed(attachment, ack.packet_id.as_u16())?;
            broker.submit(&core, transaction, Completion::None);
            drop(core);
            self.acknowledged();
            return Ok(());
        }
        let mut core = broker.core();
        let reply = |reason| Reply::PubRel(ack.packet_id, reason);
        match core.received(attachment, ack.packet_id.as_u16())? {
            Some(Some(transaction)) => {
                let completion = self.replies.await_disk(reply(ReasonCode::Success));
                broker.submit(&core, Some(transaction), completion);
            }
            Some(None) => self.replies.push_ready(reply(ReasonCode::Success)),
            // It is answered too, so that the client can finish (MQTT 5.0, section 3.6.2.1).
            None => self.replies.push_ready(reply(ReasonCode::PacketIdentifierNotFound)),
        }
        Ok(())
    }

    fn pubrel(&mut self, ack: &Ack) -> Result<(), Superseded> {
        let attachment = self.attachment.ok_or(Superseded)?;
        let broker = self.ingest.broker();
        let mut core = broker.core();
        let (is_known, transaction) = core.released(attachment, ack.packet_id.as_u16())?;
        // Who has found its session may release what it does not know to be released: that is no error, and some clients
        // take the other word for one. A session that has just begun knows all there is (MQTT 5.0, section 3.7.2.1).
        let reason = if is_known || self.is_resumed {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        let reply = Reply::PubComp(ack.packet_id, reason);
        self.replies.submit(broker, &core, transaction, reply);
        Ok(())
    }

    fn pubcomp(&mut self, ack: &Ack) -> Result<(), Superseded> {
        let attachment = self.attachment.ok_or(Superseded)?;
        let broker = self.ingest.broker();
        let mut core = broker.core();
        let (_, transaction) = core.completed(attachment, ack.packet_id.as_u16())?;
        broker.submit(&core, transaction, Completion::None);
        drop(core);
        self.acknowledged();
        Ok(())
    }
}

/// Returns how a refused login is told.
pub(super) fn reason_of(refusal: LoginRefusal) -> ReasonCode {
    match refusal {
        LoginRefusal::Busy => ReasonCode::ServerBusy,
        // A right password would be refused as well: it is not called wrong (MQTT 5.0, section 3.2.2.2).
        LoginRefusal::Delayed { .. } => ReasonCode::ConnectionRateExceeded,
        LoginRefusal::CredentialsRequired => ReasonCode::NotAuthorized,
        LoginRefusal::BadCredentials => ReasonCode::BadUserNameOrPassword,
    }
}

fn expiry(expiry: SessionExpiry) -> Expiry {
    match expiry.as_duration() {
        Some(Duration::ZERO) => Expiry::AtDisconnect,
        Some(after) => Expiry::After(after),
        None => Expiry::After(Duration::MAX),
    }
}

/// Returns the session expiry to tell the client, if it is not the one it asked for.
fn granted_expiry(granted: Expiry, asked: SessionExpiry) -> Option<SessionExpiry> {
    let granted = match granted {
        Expiry::AtDisconnect => SessionExpiry::AT_CLOSE,
        Expiry::After(after) => {
            SessionExpiry::from_secs(u32::try_from(after.as_secs()).unwrap_or(u32::MAX))
        }
    };
    (granted != asked).then_some(granted)
}

fn to_will(will: packet::Will, principal: &Principal, arrival: tidegate_model::Timestamp) -> Will {
    Will {
        delay: Duration::from_secs(will.delay_s.into()),
        expiry: will.message_expiry_s.map(|seconds| Duration::from_secs(seconds.into())),
        message: Message {
            topic: will.topic,
            payload: Payload::bytes(will.payload),
            qos: will.qos,
            retain: will.retain,
            properties: will.properties.map(|properties| Arc::new(*properties)),
            publisher: principal.clone(),
            arrival,
        },
    }
}

/// Returns the topic below which a client may have answers, if it may subscribe to all of that (MQTT 5.0, section
/// 3.2.2.3.15).
fn response_information(
    topics: &AccessFilter,
    principal: &Principal,
    client_id: &ClientId,
    rights: &Rights,
) -> Option<Text> {
    let topic = topics.resolve(principal, Some(client_id))?;
    let below = TopicFilter::new(&format!("{topic}/#")).ok()?;
    rights.may_subscribe(&below).then(|| Text::new(topic.as_str()).ok())?
}

/// Returns an identifier for a client that brought none; unique while the gateway and its sessions live.
fn assigned_client_id(connection: u64) -> Option<ClientId> {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), connection);
    ClientId::new(&format!("auto-{random:016x}-{connection}")).ok()
}
