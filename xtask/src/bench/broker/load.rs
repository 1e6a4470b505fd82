//! The loads: who publishes to whom, how much, and what it should cost.

/// Clients that publish and clients that are subscribed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) name: &'static str,
    pub(super) publishers: usize,
    pub(super) subscribers: usize,
    pub(super) qos: u8,
    /// Bytes of each payload; at least what [`wire::Stamp`](super::wire::Stamp) needs.
    pub(super) payload: usize,
    /// PUBLISH packets that a client hands to its socket at once.
    pub(super) packets_per_write: usize,
    /// Most messages of one publisher that are not delivered everywhere, and most that are not acknowledged.
    pub(super) window: usize,
    /// Messages a second of all publishers; without, as many as the windows allow.
    pub(super) rate: Option<u32>,
    /// Subscriptions of each subscriber that match nothing.
    pub(super) idle_filters: usize,
    /// Whether the subscribers' sessions outlive their connections.
    pub(super) is_persistent: bool,
    /// Processor time of the broker for a delivered message, in memory mode.
    pub(super) aim: &'static str,
}

const GATHER: Load = Load {
    name: "100 publishers to 1 wildcard subscriber, QoS 0, 64 B",
    publishers: 100,
    subscribers: 1,
    qos: 0,
    payload: 64,
    packets_per_write: 1,
    window: 64,
    rate: None,
    idle_filters: 0,
    is_persistent: false,
    aim: "7.5 µs",
};

pub(super) const LOADS: [Load; 9] = [
    GATHER,
    Load { name: "the same, 16 packets a write", packets_per_write: 16, aim: "2.0 µs", ..GATHER },
    Load { name: "the same at 10,000 a second", rate: Some(10_000), aim: "52 µs", ..GATHER },
    Load {
        name: "1 publisher to 500 subscribers, QoS 0, 64 B",
        publishers: 1,
        subscribers: 500,
        aim: "1.5 µs",
        ..GATHER
    },
    Load {
        name: "50 pairs, QoS 1, 128 B",
        publishers: 50,
        subscribers: 50,
        qos: 1,
        payload: 128,
        window: 20,
        aim: "12 µs",
        ..GATHER
    },
    Load {
        name: "10 pairs, QoS 2, 128 B",
        publishers: 10,
        subscribers: 10,
        qos: 2,
        payload: 128,
        window: 20,
        aim: "26 µs",
        ..GATHER
    },
    Load {
        name: "100 publishers to 10 persistent sessions, QoS 1, 64 B",
        subscribers: 10,
        qos: 1,
        is_persistent: true,
        aim: "-",
        ..GATHER
    },
    Load {
        name: "100 pairs, QoS 0, 64 B, among 100 subscriptions",
        subscribers: 100,
        aim: "-",
        ..GATHER
    },
    Load {
        name: "100 pairs, QoS 0, 64 B, among 100,000 subscriptions",
        subscribers: 100,
        idle_filters: 999,
        aim: "-",
        ..GATHER
    },
];

impl Load {
    /// What a gateway carries that is fifty times as slow as usual.
    pub(super) const SMALL: Self = Self {
        name: "instructions: 10 publishers to 1 wildcard subscriber, QoS 0, 64 B, 16 packets a write",
        publishers: 10,
        packets_per_write: 16,
        ..GATHER
    };

    /// Returns the subscriber that gets what a publisher sends; all of them if there is one publisher.
    pub(super) fn subscriber_of(&self, publisher: usize) -> usize {
        publisher % self.subscribers
    }

    /// Returns how many subscribers get each message.
    pub(super) fn copies(&self) -> usize {
        if self.publishers == 1 { self.subscribers } else { 1 }
    }

    /// Returns whether a relay of bytes does the same: acknowledgements must have one way back.
    pub(super) fn is_relayed(&self) -> bool {
        self.qos == 0 || self.qos == 1 && self.publishers == self.subscribers
    }

    /// Returns the topic of a publisher, in a part of the topic space of its own for each `tag`.
    pub(super) fn topic(&self, tag: &str, publisher: usize) -> String {
        format!("bench/{tag}/{}/device-{publisher}", self.subscriber_of(publisher))
    }

    /// Returns a filter of a subscriber that matches nothing.
    pub(super) fn idle_filter(tag: &str, subscriber: usize, number: usize) -> String {
        match number % 3 {
            0 => format!("bench/{tag}/{subscriber}/idle-{number}"),
            1 => format!("bench/{tag}/+/idle-{subscriber}-{number}"),
            _ => format!("bench/{tag}-{number}/{subscriber}/#"),
        }
    }

    /// Returns the filter of a subscriber.
    pub(super) fn filter(&self, tag: &str, subscriber: usize) -> String {
        match self.publishers {
            1 => self.topic(tag, 0),
            publishers if publishers == self.subscribers => self.topic(tag, subscriber),
            _ => format!("bench/{tag}/{subscriber}/+"),
        }
    }
}
