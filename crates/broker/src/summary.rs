//! What the core says of itself: counters, sums, and the sessions for which most waits.

use std::cmp::Reverse;

use tidegate_model::{ClientId, Principal};

use crate::{core::Broker, session::Session};

/// What the core has counted since it started; each rises only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerCounters {
    /// Messages taken in, whatever their source.
    pub received: u64,
    /// Messages handed to connections.
    pub delivered: u64,
    /// Deliveries dropped because the queue of the session was full.
    pub dropped_queue_full: u64,
    /// Deliveries dropped because the message is larger than the client takes.
    pub dropped_too_large: u64,
    /// Deliveries dropped because the reader inside the gateway was full.
    pub dropped_local_full: u64,
    /// Deliveries dropped because the message expired.
    pub expired: u64,
    /// Deliveries withheld because the rights of the reader do not cover the topic.
    pub denied: u64,
    /// Connections for which there was no place among the sessions.
    pub sessions_refused: u64,
    /// Connections that came for a session which had changed hands too often.
    pub takeovers_refused: u64,
    /// Filters that were not subscribed to because the session has as many as it may have.
    pub subscriptions_refused: u64,
    /// Messages that were refused because there were too many retained ones, or too many bytes of them.
    pub retained_refused: u64,
    /// Wills that were not published: their principals had lost the right, or there was no room for them.
    pub wills_dropped: u64,
    /// The size of the bodies of records that were appended.
    pub appended_bytes: u64,
    /// Records that were appended anew so that old segments could go.
    pub carried_records: u64,
    /// What that took up in the journal.
    pub carried_bytes: u64,
    /// Messages that went from one member of a shared subscription to another.
    pub passed_on: u64,
    /// The size of the bodies of records that were appended for that.
    pub passed_on_bytes: u64,
    /// Retained messages looked at for new subscriptions, whether they matched or not.
    pub retained_looks: u64,
    /// Messages of quality of service 0 that no uplink took because storage was full or slow.
    pub not_admitted: u64,
}

impl BrokerCounters {
    /// Returns the deliveries that came to nothing, by reason.
    pub fn dropped(&self) -> [(&'static str, u64); 4] {
        [
            ("queue-full", self.dropped_queue_full),
            ("too-large", self.dropped_too_large),
            ("reader-full", self.dropped_local_full),
            ("not-authorized", self.denied),
        ]
    }
}

/// What the core holds at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerSummary {
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Sessions with a connection.
    pub connected: usize,
    /// Sessions that outlive their connections.
    pub persistent: usize,
    /// Subscriptions of all sessions.
    pub subscriptions: usize,
    /// Those among them that are shared.
    pub shared_subscriptions: usize,
    /// Groups of sessions that share a subscription.
    pub shared_groups: usize,
    /// Messages that wait for sessions.
    pub queued: usize,
    /// About how much memory they hold, in bytes; what several sessions wait for counts for each.
    pub queued_bytes: usize,
    /// Messages that were sent and not acknowledged.
    pub in_flight: usize,
    /// Retained messages.
    pub retained: usize,
    /// Bytes of retained messages.
    pub retained_bytes: usize,
}

/// A session and what waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionQueue {
    /// Whose it is.
    pub principal: Principal,
    /// Under which name.
    pub client_id: ClientId,
    /// Whether it has a connection.
    pub is_connected: bool,
    /// Messages that wait.
    pub queued: usize,
    /// About how much memory they hold, in bytes.
    pub queued_bytes: usize,
    /// Messages that were sent and not acknowledged.
    pub in_flight: usize,
    /// Deliveries to it that were dropped since the session or the gateway began, whatever the reason.
    pub dropped: u64,
}

impl Broker {
    /// Returns what there is at the moment.
    pub fn summary(&self) -> BrokerSummary {
        let mut summary = BrokerSummary {
            sessions: self.sessions.len(),
            shared_groups: self.groups.len(),
            retained: self.retained.len(),
            retained_bytes: self.retained.bytes(),
            ..BrokerSummary::default()
        };
        for (_, session) in &self.sessions {
            summary.connected += usize::from(session.link.is_some());
            summary.persistent += usize::from(session.taker.is_some());
            summary.subscriptions += session.subscriptions.len();
            summary.shared_subscriptions += session.groups.len();
            summary.queued += session.queue.len();
            summary.queued_bytes += session.queue_bytes;
            summary.in_flight += session.inflight.len();
        }
        summary
    }

    /// Returns at most `limit` sessions: those for which most messages wait, then those that have lost most. Sessions
    /// for which nothing waits and that have lost nothing are left out.
    pub fn longest_queues(&self, limit: usize) -> Vec<SessionQueue> {
        let rank = |session: &Session| (session.queue.len(), session.dropped);
        let mut ranked: Vec<((usize, u64), usize)> = self
            .sessions
            .iter()
            .map(|(key, session)| (rank(session), key))
            .filter(|(rank, _)| *rank > (0, 0))
            .collect();
        if ranked.len() > limit {
            ranked.select_nth_unstable_by_key(limit, |entry| Reverse(*entry));
            ranked.truncate(limit);
        }
        ranked.sort_unstable_by_key(|entry| Reverse(*entry));
        ranked.into_iter().map(|(_, key)| SessionQueue::of(&self.sessions[key])).collect()
    }
}

impl SessionQueue {
    fn of(session: &Session) -> Self {
        Self {
            principal: session.principal.clone(),
            client_id: session.client_id.clone(),
            is_connected: session.link.is_some(),
            queued: session.queue.len(),
            queued_bytes: session.queue_bytes,
            in_flight: session.inflight.len(),
            dropped: session.dropped,
        }
    }
}
