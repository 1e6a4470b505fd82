//! Answers that wait for the disk, in the order in which they were asked for.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tidegate_broker::Due;
use tidegate_model::{Qos, Timestamp};
use tidegate_mqtt::{
    Connection, Outgoing, Output, PacketId, ReasonCode, Sent,
    packet::{ConnAck, Delivery},
};
use tidegate_store::Transaction;

use super::signal::Signal;
use crate::{
    broker::{BrokerHandle, CoreGuard},
    store::Completion,
};

/// An answer to a client.
#[derive(Debug)]
pub(super) enum Reply {
    Accept(Box<ConnAck>),
    PubAck(PacketId, ReasonCode),
    PubRec(PacketId, ReasonCode),
    PubRel(PacketId, ReasonCode),
    PubComp(PacketId, ReasonCode),
    SubAck(PacketId, Vec<ReasonCode>),
    UnsubAck(PacketId, Vec<ReasonCode>),
    Deliveries(Vec<Due>),
}

/// Answers in order; each waits for the change it stands for, and for those before it.
#[derive(Debug)]
pub(super) struct Replies {
    waiting: VecDeque<(u64, Reply)>,
    /// How many of them nothing may overtake: CONNACK, and deliveries.
    barriers: usize,
    last_token: u64,
    signal: Arc<Signal>,
}

impl Replies {
    pub(super) fn new(signal: Arc<Signal>) -> Self {
        Self { waiting: VecDeque::new(), barriers: 0, last_token: 0, signal }
    }

    pub(super) fn signal(&self) -> Arc<Signal> {
        Arc::clone(&self.signal)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether an answer waits that deliveries must not overtake.
    pub(super) fn holds_back_deliveries(&self) -> bool {
        self.barriers > 0
    }

    /// Adds an answer that waits for a change; hand the completion in with the change.
    pub(super) fn await_disk(&mut self, reply: Reply) -> Completion {
        let completion = self.completion();
        self.push(reply);
        completion
    }

    /// Makes a completion for a change whose answer is added with [`push`](Self::push) afterwards.
    pub(super) fn completion(&mut self) -> Completion {
        self.last_token += 1;
        Completion::Shared(self.signal.clone(), self.last_token)
    }

    /// Adds an answer behind all changes so far.
    pub(super) fn push(&mut self, reply: Reply) {
        self.push_behind(self.last_token, reply);
    }

    /// Submits what a reply promises, if anything, and lets the reply wait for it.
    pub(super) fn submit(
        &mut self,
        broker: &BrokerHandle,
        core: &CoreGuard<'_>,
        transaction: Option<Transaction>,
        reply: Reply,
    ) {
        match transaction {
            Some(transaction) => {
                let completion = self.await_disk(reply);
                broker.submit(core, Some(transaction), completion);
            }
            None => self.push_ready(reply),
        }
    }

    /// Adds an answer that waits for no change of its own, but not before earlier answers.
    pub(super) fn push_ready(&mut self, reply: Reply) {
        let token = self.waiting.back().map_or(0, |(token, _)| *token);
        self.push_behind(token, reply);
    }

    fn push_behind(&mut self, token: u64, reply: Reply) {
        self.barriers += usize::from(reply.is_barrier());
        self.waiting.push_back((token, reply));
    }

    /// Gives memory back that no answer needs.
    pub(super) fn release_memory(&mut self) {
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
    }

    /// Returns the next answer whose change is durable.
    pub(super) fn next_ready(&mut self) -> Option<Reply> {
        let durable = self.signal.durable();
        self.waiting.front().filter(|(token, _)| *token <= durable)?;
        let (_, reply) = self.waiting.pop_front()?;
        self.barriers -= usize::from(reply.is_barrier());
        Some(reply)
    }
}

impl Reply {
    fn is_barrier(&self) -> bool {
        matches!(self, Self::Accept(_) | Self::Deliveries(_))
    }

    /// Puts the answer into the output, unless it is deliveries.
    pub(super) fn write(self, connection: &mut Connection, output: &mut Output) {
        match self {
            Self::Accept(connack) => {
                connection.accept(std::time::Instant::now(), &connack, output);
            }
            Self::PubAck(packet_id, reason) => connection.puback(packet_id, reason, output),
            Self::PubRec(packet_id, reason) => connection.pubrec(packet_id, reason, output),
            Self::PubRel(packet_id, reason) => connection.pubrel(packet_id, reason, output),
            Self::PubComp(packet_id, reason) => connection.pubcomp(packet_id, reason, output),
            Self::SubAck(packet_id, reasons) => connection.suback(packet_id, &reasons, output),
            Self::UnsubAck(packet_id, reasons) => connection.unsuback(packet_id, &reasons, output),
            Self::Deliveries(_) => {}
        }
    }
}

/// Puts one delivery into the output, unless it is larger than the client takes.
pub(super) fn write_due(
    due: &Due,
    now: Timestamp,
    connection: &mut Connection,
    output: &mut Output,
) -> Sent {
    let (delivery, packet_id, dup) = match due {
        Due::Release { packet_id } => {
            if let Some(packet_id) = PacketId::new(*packet_id) {
                connection.pubrel(packet_id, ReasonCode::Success, output);
            }
            return Sent::Written;
        }
        Due::Publish { delivery, packet_id, dup } => (delivery, *packet_id, *dup),
    };
    let message = &delivery.routed.message;
    let how = match (delivery.qos, packet_id.and_then(PacketId::new)) {
        (Qos::AtLeastOnce, Some(packet_id)) => Delivery::AtLeastOnce { packet_id, dup },
        (Qos::ExactlyOnce, Some(packet_id)) => Delivery::ExactlyOnce { packet_id, dup },
        _ => Delivery::AtMostOnce,
    };
    let expires = message.properties.as_ref().and_then(|properties| properties.expires);
    let outgoing = Outgoing {
        delivery: how,
        retain: delivery.retain,
        subscription_ids: &delivery.subscription_ids,
        message_expiry_s: expires.map(|expires| remaining_seconds(expires.saturating_since(now))),
    };
    let frame = delivery.routed.frames.get(message);
    frame.map_or(Sent::TooLarge, |frame| connection.publish(&frame, &outgoing, output))
}

/// Returns whole seconds, rounded up: a message that still lives does not say 0.
fn remaining_seconds(remaining: Duration) -> u32 {
    let seconds = remaining.as_secs() + u64::from(remaining.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
