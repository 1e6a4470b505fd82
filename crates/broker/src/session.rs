//! One client's state, with or without a connection.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use tidegate_model::{ClientId, CredentialId, Message, Principal, Properties, Qos, Timestamp};
use tidegate_mqtt::SubscriptionId;
use tidegate_store::{Position, TakerId};

use crate::{
    access::Rights,
    catch_up::CatchUp,
    core::BrokerLimits,
    delivery::{Delivery, Routed},
    route::Mark,
    subscriptions::Subscriptions,
};

/// How a session asks its connection to come for deliveries, or to go.
pub trait Wake: Send + Sync {
    /// Says that something is due. Must not block and must not call the broker.
    fn wake(&self);
}

/// Names one connection; never given twice while the gateway runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Names a session while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub(crate) usize);

/// What a connection shows when it acts for its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub(crate) session: SessionKey,
    pub(crate) connection: ConnectionId,
}

/// How long a session outlives its connection (MQTT 5.0, section 3.1.2.11.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It ends with the connection.
    AtDisconnect,
    /// It ends that long after the connection.
    After(Duration),
}

/// What a subscription asks for (MQTT 5.0, section 3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Highest quality of service.
    pub qos: Qos,
    /// Whether the client's own messages are left out.
    pub no_local: bool,
    /// Whether live messages keep their retain flag.
    pub retain_as_published: bool,
    /// Which retained messages are sent at subscribe time.
    pub retain_handling: RetainHandling,
    /// The identifier that deliveries carry.
    pub identifier: Option<SubscriptionId>,
}

impl SubscriptionOptions {
    /// Those of a reader inside the gateway, which asks for what is retained by itself.
    pub const LOCAL: Self = Self {
        qos: Qos::AtLeastOnce,
        no_local: false,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
        identifier: None,
    };
}

/// Which retained messages a new subscription gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainHandling {
    /// All that match.
    #[default]
    Send,
    /// All that match if the subscription is new.
    SendIfNew,
    /// None.
    DoNotSend,
}

/// What is published when a connection ends without a word (MQTT 5.0, section 3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// The message.
    pub message: Message,
    /// How long after the connection; the session's end comes first if it is earlier.
    pub delay: Duration,
    /// How long the message lives, counted from publication, if not for ever.
    pub expiry: Option<Duration>,
}

impl Will {
    /// Returns the message as it is published at `now`.
    pub(crate) fn into_message(self, now: Timestamp) -> Message {
        let Some(expiry) = self.expiry else { return self.message };
        let properties = self.message.properties.as_deref().cloned().unwrap_or_default();
        let expires = Some(now.saturating_add(expiry));
        Message { properties: Some(Arc::new(Properties { expires, ..properties })), ..self.message }
    }
}

/// Where an outgoing message of quality of service 1 or 2 stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Sent; waits for PUBACK or PUBREC.
    Sent,
    /// Quality of service 2: PUBREC came; waits for PUBCOMP.
    Released,
}

#[derive(Clone, Debug)]
pub(crate) struct Inflight {
    pub(crate) packet_id: u16,
    pub(crate) stage: Stage,
    pub(crate) delivery: Delivery,
}

pub(crate) struct Link {
    pub(crate) connection: ConnectionId,
    pub(crate) credential: CredentialId,
    pub(crate) wake: Arc<dyn Wake>,
    pub(crate) receive_maximum: u16,
    /// Whether the connection was woken and has not come yet.
    pub(crate) woken: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Link").field(&self.connection).finish()
    }
}

/// One client's state.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) principal: Principal,
    pub(crate) client_id: ClientId,
    pub(crate) rights: Arc<Rights>,
    /// Set while the session is persistent.
    pub(crate) taker: Option<TakerId>,
    pub(crate) expiry: Expiry,
    pub(crate) link: Option<Link>,
    pub(crate) disconnected_at: Option<Timestamp>,
    /// Since when takeovers are counted, and how many there were.
    pub(crate) takeovers: (Timestamp, u32),
    pub(crate) subscriptions: Subscriptions,
    /// Subscriptions that are still to get retained messages, as the client takes them; in the order in which they were
    /// made.
    pub(crate) catching_up: Vec<CatchUp>,
    /// Subscriptions of a SUBSCRIBE that is not answered yet, whose retained messages are still to be stored.
    pub(crate) storing: VecDeque<CatchUp>,
    /// Where the groups of its shared subscriptions stand.
    pub(crate) groups: Vec<usize>,
    pub(crate) queue: VecDeque<Delivery>,
    pub(crate) queue_bytes: usize,
    /// Deliveries that came to nothing.
    pub(crate) dropped: u64,
    /// How many of the queue's oldest came before the rights changed: they are looked at again before they go out.
    pub(crate) unchecked: usize,
    pub(crate) inflight: VecDeque<Inflight>,
    /// Deliveries of a resumed session that are sent again before anything new, oldest first.
    pub(crate) resend: usize,
    next_packet_id: u16,
    pub(crate) inbound_exactly_once: BTreeSet<u16>,
    /// With the number it is stored under.
    pub(crate) will: Option<Box<(u64, Will)>>,
    pub(crate) progress: Progress,
    pub(crate) mark: Mark,
}

impl Session {
    pub(crate) fn new(principal: Principal, client_id: ClientId, rights: Arc<Rights>) -> Self {
        Self {
            principal,
            client_id,
            rights,
            taker: None,
            expiry: Expiry::AtDisconnect,
            link: None,
            disconnected_at: None,
            takeovers: (Timestamp::default(), 0),
            subscriptions: Subscriptions::default(),
            catching_up: Vec::new(),
            storing: VecDeque::new(),
            groups: Vec::new(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            dropped: 0,
            unchecked: 0,
            inflight: VecDeque::new(),
            resend: 0,
            next_packet_id: 1,
            inbound_exactly_once: BTreeSet::new(),
            will: None,
            progress: Progress::default(),
            mark: Mark::default(),
        }
    }

    /// Returns a packet identifier that no message in flight has.
    pub(crate) fn take_packet_id(&mut self) -> u16 {
        loop {
            let packet_id = self.next_packet_id;
            self.next_packet_id = packet_id.checked_add(1).unwrap_or(1);
            if !self.inflight.iter().any(|inflight| inflight.packet_id == packet_id) {
                return packet_id;
            }
        }
    }

    pub(crate) fn push(&mut self, delivery: Delivery) {
        self.queue_bytes += delivery.size_estimate();
        self.queue.push_back(delivery);
        self.call();
    }

    /// Calls the connection, unless it was called and has not come yet.
    #[inline]
    pub(crate) fn call(&mut self) {
        if let Some(link) = &mut self.link
            && !link.woken
        {
            link.woken = true;
            link.wake.wake();
        }
    }

    /// Returns whether another message may wait for the session.
    pub(crate) fn has_room(&self, limits: &BrokerLimits) -> bool {
        self.queue.len() < limits.queue_messages && self.queue_bytes < limits.queue_bytes
    }

    pub(crate) fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.queue.pop_front()?;
        self.unchecked = self.unchecked.saturating_sub(1);
        // The size of a typed reading grows when its JSON is made, so the sum is kept from below.
        self.queue_bytes = self.queue_bytes.saturating_sub(delivery.size_estimate());
        if self.queue.is_empty() {
            self.queue_bytes = 0;
            give_back(&mut self.queue);
        }
        Some(delivery)
    }

    /// Takes a message out of flight; returns whether it was, with that quality of service.
    pub(crate) fn finish(&mut self, packet_id: u16, qos: Qos) -> bool {
        let Some(at) = self
            .inflight
            .iter()
            .position(|inflight| inflight.packet_id == packet_id && inflight.delivery.qos == qos)
        else {
            return false;
        };
        if at >= self.inflight.len() - self.resend {
            self.resend -= 1;
        }
        let inflight = self.inflight.remove(at).expect("found above");
        if self.inflight.is_empty() {
            give_back(&mut self.inflight);
        }
        inflight.delivery.position.into_iter().for_each(|position| self.progress.done(position));
        true
    }

    /// Returns what waits in the journal for the session, with its place there.
    pub(crate) fn stored_deliveries(&self) -> impl Iterator<Item = (&Arc<Routed>, Position)> {
        let inflight = self.inflight.iter().map(|inflight| &inflight.delivery);
        inflight
            .chain(&self.queue)
            .filter_map(|delivery| Some((&delivery.routed, delivery.position?)))
    }

    /// Whether the whole session is to be forgotten at `now`.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        match (self.expiry, self.disconnected_at) {
            (Expiry::After(after), Some(since)) => {
                self.link.is_none() && since.saturating_add(after) <= now
            }
            (Expiry::AtDisconnect, _) => self.link.is_none(),
            (Expiry::After(_), None) => false,
        }
    }
}

/// Most places that an empty queue keeps.
const PLACES_KEPT: usize = 16;

/// Gives back what a burst has left of an empty queue.
fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > PLACES_KEPT {
        *queue = VecDeque::new();
    }
}

/// How many records beyond the oldest unacknowledged one a client may be sent.
const AHEAD_MAX: u64 = 1_024;

/// How far a persistent session has taken its records: all up to a position, and some beyond it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) cursor: Position,
    /// Records beyond the cursor, in order, and whether each is done.
    pending: VecDeque<(Position, bool)>,
    pub(crate) dirty: bool,
}

impl Progress {
    /// Resumes at a stored cursor.
    pub(crate) fn at(cursor: Position) -> Self {
        Self { cursor, pending: VecDeque::new(), dirty: false }
    }

    /// Notes a record that the session is to take.
    pub(crate) fn expect(&mut self, position: Position) {
        debug_assert!(self.pending.back().is_none_or(|(last, _)| *last < position));
        self.pending.push_back((position, false));
    }

    /// Notes that a record is done with.
    pub(crate) fn done(&mut self, position: Position) {
        if let Ok(at) = self.pending.binary_search_by_key(&position, |(position, _)| *position) {
            self.pending[at].1 = true;
        }
        while let Some((position, true)) = self.pending.front().copied() {
            self.cursor = position;
            self.pending.pop_front();
            self.dirty = true;
        }
        self.dirty |= !self.pending.is_empty();
    }

    /// Looks for the records that are not done where their copies are, behind all that was expected so far.
    pub(crate) fn move_to(&mut self, mut copies: Vec<Position>) {
        debug_assert_eq!(copies.len(), self.pending.iter().filter(|(_, done)| !done).count());
        if let Some((last, _)) = self.pending.back() {
            self.cursor = *last;
        }
        copies.sort_unstable();
        self.pending = copies.into_iter().map(|position| (position, false)).collect();
        self.dirty = false;
    }

    /// Returns the records beyond the cursor that are done, by ordinal.
    pub(crate) fn done_beyond(&self) -> impl Iterator<Item = u64> {
        self.pending.iter().filter(|(_, done)| *done).map(|(position, _)| position.ordinal)
    }

    /// Whether the record at `position` must wait until the client has acknowledged the oldest one: what is
    /// done beyond the cursor is stored with it, and must not grow without end.
    pub(crate) fn is_far_ahead(&self, position: Option<Position>) -> bool {
        position.zip(self.first_needed()).is_some_and(|(position, needed)| {
            position.ordinal.saturating_sub(needed.ordinal) > AHEAD_MAX
        })
    }

    /// Returns the first record that is still needed, if any.
    pub(crate) fn first_needed(&self) -> Option<Position> {
        self.pending.front().map(|(position, _)| *position)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_store::Seq;

    use super::*;

    fn position(number: u64) -> Position {
        Position { seq: Seq::new(number * 10), ordinal: number }
    }

    #[test]
    fn the_cursor_moves_over_a_prefix_only() {
        let mut progress = Progress::default();
        (1..=4).for_each(|number| progress.expect(position(number)));
        progress.done(position(2));
        assert_eq!(
            (progress.cursor, progress.done_beyond().collect::<Vec<_>>()),
            (Position::START, vec![2])
        );
        progress.done(position(1));
        assert_eq!(progress.cursor, position(2));
        assert_eq!(progress.first_needed(), Some(position(3)));
        progress.done(position(4));
        progress.done(position(3));
        assert_eq!((progress.cursor, progress.first_needed()), (position(4), None));
    }
}
