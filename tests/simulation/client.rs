//! A client that keeps to the standard: what it remembers, and what it answers.

use std::collections::{BTreeSet, VecDeque};

use tidegate_broker::{Expiry, SubscriptionOptions};
use tidegate_model::{Qos, TopicFilter};

/// Which protocol a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V311,
    V5,
}

/// What a client sends.
#[derive(Clone, Debug)]
pub(crate) enum ToServer {
    Publish { message: u64, packet_id: Option<u16> },
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Subscribe(Vec<(TopicFilter, SubscriptionOptions)>),
    Unsubscribe(Vec<TopicFilter>),
    Disconnect(Option<Expiry>),
}

/// What a client is sent.
#[derive(Clone, Debug)]
pub(crate) enum ToClient {
    ConnAck { session_present: bool },
    Publish { entry: u64, qos: Qos, packet_id: Option<u16> },
    PubAck(u16),
    PubRec { packet_id: u16, is_refused: bool },
    PubRel(u16),
    PubComp(u16),
    Answered,
}

/// A message that a client has sent and that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outgoing {
    packet_id: u16,
    message: u64,
    is_received: bool,
}

/// One client with its session state.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) version: Version,
    /// Its connection, by number.
    pub(crate) link: Option<u64>,
    /// Whether its connection was accepted.
    pub(crate) is_accepted: bool,
    outgoing: VecDeque<Outgoing>,
    next_packet_id: u16,
    /// Packet identifiers of quality of service 2 that wait for PUBREL.
    received: BTreeSet<u16>,
    /// What it is going to send.
    pub(crate) acks: VecDeque<ToServer>,
}

impl Client {
    pub(crate) fn new(version: Version) -> Self {
        Self {
            version,
            link: None,
            is_accepted: false,
            outgoing: VecDeque::new(),
            next_packet_id: 1,
            received: BTreeSet::new(),
            acks: VecDeque::new(),
        }
    }

    /// Loses the connection and what was on its way.
    pub(crate) fn lose_connection(&mut self) {
        self.link = None;
        self.is_accepted = false;
        self.acks.clear();
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.outgoing.is_empty() && self.acks.is_empty()
    }

    pub(crate) fn may_publish(&self) -> bool {
        self.is_accepted && self.outgoing.len() < 16
    }

    /// Sends a new message.
    pub(crate) fn publish(&mut self, message: u64, qos: Qos) -> ToServer {
        if qos == Qos::AtMostOnce {
            return ToServer::Publish { message, packet_id: None };
        }
        let packet_id = loop {
            let packet_id = self.next_packet_id;
            self.next_packet_id = packet_id % 40 + 1;
            if self.outgoing.iter().all(|outgoing| outgoing.packet_id != packet_id) {
                break packet_id;
            }
        };
        self.outgoing.push_back(Outgoing { packet_id, message, is_received: false });
        ToServer::Publish { message, packet_id: Some(packet_id) }
    }

    /// Takes a packet. Returns the entry of the model whose message reaches the application, if one does, and what is
    /// sent at once.
    pub(crate) fn take(&mut self, packet: &ToClient) -> (Option<u64>, Vec<ToServer>) {
        match *packet {
            ToClient::ConnAck { session_present } => {
                self.is_accepted = true;
                return (None, self.resume(session_present));
            }
            ToClient::Publish { entry, qos, packet_id } => {
                return (self.receive(entry, qos, packet_id), Vec::new());
            }
            ToClient::PubRel(packet_id) => {
                self.received.remove(&packet_id);
                self.acks.push_back(ToServer::PubComp(packet_id));
            }
            ToClient::PubRec { packet_id, is_refused: false } => {
                let known = self.outgoing.iter_mut().find(|it| it.packet_id == packet_id);
                known.expect("the server answers what it was sent").is_received = true;
                self.acks.push_back(ToServer::PubRel(packet_id));
            }
            ToClient::PubAck(packet_id)
            | ToClient::PubComp(packet_id)
            | ToClient::PubRec { packet_id, is_refused: true } => {
                self.outgoing.retain(|outgoing| outgoing.packet_id != packet_id);
            }
            ToClient::Answered => {}
        }
        (None, Vec::new())
    }

    fn receive(&mut self, entry: u64, qos: Qos, packet_id: Option<u16>) -> Option<u64> {
        match (qos, packet_id) {
            (Qos::AtLeastOnce, Some(packet_id)) => self.acks.push_back(ToServer::PubAck(packet_id)),
            (Qos::ExactlyOnce, Some(packet_id)) => {
                self.acks.push_back(ToServer::PubRec(packet_id));
                if !self.received.insert(packet_id) {
                    return None;
                }
            }
            _ => {}
        }
        Some(entry)
    }

    /// Goes on with its session, or forgets it (MQTT 5.0, section 4.1 and 4.4).
    fn resume(&mut self, session_present: bool) -> Vec<ToServer> {
        if !session_present {
            self.outgoing.clear();
            self.received.clear();
        }
        let again = self.outgoing.iter().map(|outgoing| match *outgoing {
            Outgoing { packet_id, is_received: true, .. } => ToServer::PubRel(packet_id),
            Outgoing { packet_id, message, .. } => {
                ToServer::Publish { message, packet_id: Some(packet_id) }
            }
        });
        again.collect()
    }
}
