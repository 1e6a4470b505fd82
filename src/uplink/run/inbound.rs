//! Messages that a bridge brings: published here in the order in which they came, and acknowledged in that order once
//! they are on disk.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tidegate_adapter_api::Refusal;
use tidegate_broker::access::command_target;
use tidegate_model::{Message, Payload, Principal, Properties, Qos, Topic};
use tidegate_uplink::bridge::{PathFault, check_path};
use tokio::sync::Notify;
use tracing::debug;

use super::Run;
use crate::uplink::{
    command::AckId,
    link::{Incoming, LinkError, Said},
};

/// Messages that may wait for the broker here to take them; over MQTT 5 the far side is told to send fewer.
const WAITING_MAX: usize = 1_024;
/// Bytes of payloads that may wait.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Messages that may be on their way to the disk.
const OPEN_MAX: usize = 1_024;
/// After so long the broker is asked again that had no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Messages of one connection, between their arrival and their acknowledgement.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// What is not with the broker yet; without a message there is only something to acknowledge.
    waiting: VecDeque<(Option<u16>, Option<Message>)>,
    waiting_bytes: usize,
    /// Handed to the broker, in the order of arrival, and whether each is on disk.
    open: VecDeque<(u16, Arc<AtomicBool>)>,
    /// When the broker is asked again, if it had no room.
    retry_at: Option<Instant>,
    /// Told when one more is on disk.
    settled: Arc<Notify>,
}

impl Inbound {
    /// Waits until more may be acknowledged. Cancel-safe.
    pub(super) async fn settled(&self) {
        self.settled.notified().await;
    }

    /// Returns when something is due, if ever.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Returns whether nothing is on its way to the disk.
    pub(super) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    fn push(&mut self, packet: Option<u16>, message: Option<Message>) -> Result<(), LinkError> {
        let bytes = size(message.as_ref());
        if self.waiting.len() >= WAITING_MAX || self.waiting_bytes + bytes > WAITING_BYTES_MAX {
            // What is not acknowledged comes again.
            let reason = "the far side sends more than can be taken in for now";
            return Err(LinkError::transient(reason));
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back((packet, message));
        Ok(())
    }

    fn pop(&mut self) -> Option<(Option<u16>, Option<Message>)> {
        let (packet, message) = self.waiting.pop_front()?;
        self.waiting_bytes -= size(message.as_ref());
        Some((packet, message))
    }

    /// Puts the message that was popped and handed over last back to the front.
    fn take_back(&mut self, packet: Option<u16>, message: Message) {
        self.open.pop_back();
        self.waiting_bytes += size(Some(&message));
        self.waiting.push_front((packet, Some(message)));
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
    }

    /// Notes that a message is with the broker; returns what is to be set once it is on disk.
    fn hand_over(&mut self, packet: u16) -> Arc<AtomicBool> {
        let is_done = Arc::new(AtomicBool::new(false));
        self.open.push_back((packet, Arc::clone(&is_done)));
        is_done
    }

    /// Returns the next message that may be acknowledged (MQTT 5.0, section 4.6: in the order of arrival).
    fn take_settled(&mut self) -> Option<u16> {
        let (packet, _) = self.open.pop_front_if(|(_, done)| done.load(Ordering::Acquire))?;
        Some(packet)
    }
}

impl Run<'_> {
    /// Takes a message of a bridge, if it is one; gives anything else back.
    pub(super) fn take_in(&mut self, incoming: Incoming) -> Option<Incoming> {
        let bridge = &self.shared.settings.link.bridge;
        let topic = std::str::from_utf8(&incoming.topic).ok();
        let Some(local) = topic.and_then(|topic| bridge.local(topic)) else {
            return Some(incoming);
        };
        let packet = incoming.packet;
        let local = local.map_err(|_| "topic");
        let made = local.and_then(|topic| self.bridged_message(topic, incoming));
        if let Err(reason) = &made {
            debug!(uplink = %self.name(), reason, "A message of the far side is not taken in");
            self.shared.bridged.lock().refuse(reason);
        }
        if let Err(error) = self.inbound.push(packet, made.ok()) {
            self.disconnect(error);
        }
        None
    }

    /// Makes the message that is published here, or says why none is.
    fn bridged_message(&self, topic: Topic, incoming: Incoming) -> Result<Message, &'static str> {
        if topic.is_dollar()
            || topic.as_str().len() > self.shared.settings.link.bridge.topic_bytes_max
        {
            return Err("topic");
        }
        if command_target(&topic).is_some() {
            // Commands come down by `commands`, which says what may be commanded.
            return Err("command-topic");
        }
        let arrival = self.shared.clock.wall();
        let properties = properties(&incoming, self.shared.clock.steady());
        let gateway = &self.shared.settings.core.gateway;
        check_path(properties.as_ref(), gateway).map_err(|fault| match fault {
            PathFault::Loop => "loop",
            PathFault::Hops => "hops",
        })?;
        let qos = if incoming.packet.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce };
        Ok(Message {
            topic,
            payload: Payload::bytes(incoming.payload),
            qos,
            retain: incoming.retained,
            properties: properties.map(Arc::new),
            publisher: Principal::uplink(self.name()),
            arrival,
        })
    }

    /// Hands over what the broker takes, and acknowledges what is on disk.
    pub(super) fn settle_inbound(&mut self) {
        if self.inbound.retry_at.is_none_or(|due| due <= Instant::now()) {
            self.inbound.retry_at = None;
            // What comes during a stop is left to the next start.
            if self.stop_deadline.is_none() {
                self.hand_in();
            }
        }
        while let Some(packet) = self.inbound.take_settled() {
            let connection = self.connection_number;
            self.acknowledge(AckId::Packet { connection, packet });
        }
    }

    fn hand_in(&mut self) {
        while self.inbound.open.len() < OPEN_MAX {
            let Some((packet, message)) = self.inbound.pop() else { return };
            let done = packet.map(|packet| self.inbound.hand_over(packet));
            let is_done = match message {
                Some(message) => match self.publish_here(message.clone(), done.clone()) {
                    Ok(is_awaited) => !is_awaited,
                    Err(refusal) if is_temporary(&refusal) && packet.is_some() => {
                        self.inbound.take_back(packet, message);
                        self.report(&refusal.to_string(), "What comes down has to wait");
                        return;
                    }
                    Err(refusal) => {
                        self.shared.bridged.lock().refuse(reason(&refusal));
                        self.report(&refusal.to_string(), "What comes down is refused here");
                        true
                    }
                },
                None => true,
            };
            if let (Some(done), true) = (done, is_done) {
                done.store(true, Ordering::Release);
            }
        }
    }

    /// Publishes a message here; returns whether it is to be waited for until `done` is set.
    fn publish_here(
        &self,
        message: Message,
        done: Option<Arc<AtomicBool>>,
    ) -> Result<bool, Refusal> {
        let settled = Arc::clone(&self.inbound.settled);
        let durable = Box::new(move || {
            if let Some(done) = done {
                done.store(true, Ordering::Release);
            }
            settled.notify_one();
        });
        let is_awaited = self.shared.intake.publish(message, durable)?;
        self.shared.bridged.lock().published += 1;
        Ok(is_awaited)
    }
}

fn size(message: Option<&Message>) -> usize {
    message.map_or(0, |message| message.payload.size_estimate())
}

/// Returns what the publisher said beside the payload, if anything; `now` is steady.
fn properties(incoming: &Incoming, now: tidegate_model::Timestamp) -> Option<Properties> {
    let none = Said::default();
    let said = incoming.said.as_deref().unwrap_or(&none);
    let user = said.user.iter();
    let properties = Properties {
        payload_is_utf8: said.payload_is_utf8,
        expires: said.expires_in.map(|time| now.saturating_add(time)),
        content_type: incoming.content_type.as_deref().map(Into::into),
        response_topic: None,
        correlation_data: None,
        user: user.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect(),
    };
    (properties != Properties::default()).then_some(properties)
}

fn is_temporary(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Busy { .. } | Refusal::StorageFull | Refusal::ShuttingDown)
}

fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::TooLarge { .. } => "too-large",
        Refusal::RetainedQuota => "retained-quota",
        Refusal::NotAuthorized => "not-authorized",
        _ if is_temporary(refusal) => "busy",
        _ => "invalid",
    }
}
