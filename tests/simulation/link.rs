//! The server's side of one connection: the order of `src/broker/connection`, without sockets and bytes.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tidegate_broker::{Attachment, Wake};

use crate::client::{ToClient, ToServer, Version};

/// Remembers that the broker called.
#[derive(Debug, Default)]
pub(crate) struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Answers that wait for the disk: until `behind` is durable. `needs` is what the model wants durable first.
#[derive(Debug)]
struct Reply {
    behind: u64,
    packets: Vec<(ToClient, u64)>,
    is_barrier: bool,
}

/// A SUBSCRIBE that takes several visits to the broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscribing {
    /// The last transaction that it has led to.
    pub(crate) awaited: Option<u64>,
    /// What the model wants durable before the SUBACK.
    pub(crate) needs: u64,
}

/// One connection, from its CONNECT to the moment at which the server notices its end.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: usize,
    pub(crate) version: Version,
    pub(crate) attachment: Attachment,
    pub(crate) bell: Arc<Bell>,
    pub(crate) receive_maximum: u16,
    /// Whether the broker may have something.
    pub(crate) may_have_due: bool,
    pub(crate) has_progress: bool,
    /// Whether the client is gone.
    pub(crate) is_cut: bool,
    /// A message of a 3.1.1 client that found no room; nothing is read meanwhile.
    pub(crate) stalled: Option<ToServer>,
    /// A SUBSCRIBE that is being acted on; nothing is read meanwhile.
    pub(crate) subscribing: Option<Subscribing>,
    pub(crate) to_server: VecDeque<ToServer>,
    pub(crate) to_client: VecDeque<ToClient>,
    replies: VecDeque<Reply>,
}

impl Link {
    pub(crate) fn new(
        client: usize,
        version: Version,
        attachment: Attachment,
        bell: Arc<Bell>,
        receive_maximum: u16,
    ) -> Self {
        Self {
            client,
            version,
            attachment,
            bell,
            receive_maximum,
            may_have_due: true,
            has_progress: false,
            is_cut: false,
            stalled: None,
            subscribing: None,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            replies: VecDeque::new(),
        }
    }

    /// Returns whether the broker has called since the last time, or something else may have become due.
    pub(crate) fn is_called(&mut self) -> bool {
        self.may_have_due |= self.bell.0.swap(false, Ordering::Relaxed);
        self.may_have_due
    }

    /// Adds an answer behind its own change, or with none behind those that wait already.
    pub(crate) fn reply(&mut self, awaited: Option<u64>, needs: u64, packet: ToClient) {
        let is_barrier = matches!(packet, ToClient::ConnAck { .. });
        self.push(awaited, vec![(packet, needs)], is_barrier);
    }

    /// Adds deliveries that nothing may overtake.
    pub(crate) fn deliver_behind(&mut self, awaited: u64, packets: Vec<(ToClient, u64)>) {
        self.push(Some(awaited), packets, true);
    }

    fn push(&mut self, awaited: Option<u64>, packets: Vec<(ToClient, u64)>, is_barrier: bool) {
        let last = self.replies.back().map_or(0, |reply| reply.behind);
        let behind = awaited.unwrap_or(last).max(last);
        self.replies.push_back(Reply { behind, packets, is_barrier });
    }

    pub(crate) fn holds_back_deliveries(&self) -> bool {
        self.replies.iter().any(|reply| reply.is_barrier)
    }

    /// Sends the answers whose changes are durable. Returns what must be durable for them.
    pub(crate) fn release_replies(&mut self, durable: u64) -> u64 {
        let mut needed = 0;
        while let Some(reply) = self.replies.pop_front_if(|reply| reply.behind <= durable) {
            for (packet, needs) in reply.packets {
                needed = needed.max(needs);
                self.to_client.push_back(packet);
            }
        }
        needed
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.replies.is_empty()
            && self.to_server.is_empty()
            && self.to_client.is_empty()
            && self.stalled.is_none()
            && self.subscribing.is_none()
    }
}
