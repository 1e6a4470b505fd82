//! What clients were refused because of a limit, counted under the name of the setting (`docs/limits.md`).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tidegate_mqtt::{CloseCause, ProtocolError, packet::PacketType};

/// A limit that ends or refuses a connection. Those that refuse single messages, filters or sessions are counted by the
/// core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Open connections.
    Connections,
    /// Open connections from one address.
    ConnectionsPerAddress,
    /// Handshakes of TLS or WebSocket under way.
    Handshakes,
    /// From accept to authenticated.
    ConnectDeadline,
    /// A CONNECT packet, or an AUTH.
    ConnectBytes,
    /// Any other packet.
    PacketBytes,
    /// Messages that a client has not seen acknowledged.
    ReceiveMaximum,
    /// Topic aliases that a client sets.
    TopicAliases,
    /// Levels of a topic or filter.
    TopicLevels,
    /// Bytes of a topic or filter.
    TopicBytes,
    /// User properties of a packet.
    UserProperties,
    /// All properties of a packet.
    PropertiesBytes,
}

impl Limit {
    /// All, in the order of their declaration.
    const ALL: [Self; 12] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::Handshakes,
        Self::ConnectDeadline,
        Self::ConnectBytes,
        Self::PacketBytes,
        Self::ReceiveMaximum,
        Self::TopicAliases,
        Self::TopicLevels,
        Self::TopicBytes,
        Self::UserProperties,
        Self::PropertiesBytes,
    ];

    /// Returns the key of the setting within `[limits]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Connections => "net.max-connections",
            Self::ConnectionsPerAddress => "net.max-connections-per-address",
            Self::Handshakes => "net.max-handshakes",
            Self::ConnectDeadline => "net.connect-deadline",
            Self::ConnectBytes => "mqtt.max-connect-bytes",
            Self::PacketBytes => "mqtt.max-packet-bytes",
            Self::ReceiveMaximum => "mqtt.receive-maximum",
            Self::TopicAliases => "mqtt.max-topic-aliases",
            Self::TopicLevels => "mqtt.max-topic-levels",
            Self::TopicBytes => "mqtt.max-topic-bytes",
            Self::UserProperties => "mqtt.max-user-properties",
            Self::PropertiesBytes => "mqtt.max-properties-bytes",
        }
    }

    /// Returns the limit for which a connection was closed, if it was for one.
    pub fn of_cause(cause: &CloseCause) -> Option<Self> {
        match cause {
            CloseCause::ConnectTimeout => Some(Self::ConnectDeadline),
            CloseCause::Protocol { source } => Self::of_error(source),
            _ => None,
        }
    }

    fn of_error(error: &ProtocolError) -> Option<Self> {
        Some(match error {
            ProtocolError::PacketTooLarge {
                packet: PacketType::Connect | PacketType::Auth,
                ..
            } => Self::ConnectBytes,
            ProtocolError::PacketTooLarge { .. } => Self::PacketBytes,
            ProtocolError::ReceiveMaximum { .. } => Self::ReceiveMaximum,
            ProtocolError::TopicAlias { .. } => Self::TopicAliases,
            ProtocolError::TopicTooDeep { .. } | ProtocolError::TopicFilterTooDeep { .. } => {
                Self::TopicLevels
            }
            ProtocolError::TopicTooLong { .. } | ProtocolError::TopicFilterTooLong { .. } => {
                Self::TopicBytes
            }
            ProtocolError::TooManyUserProperties { .. } => Self::UserProperties,
            ProtocolError::PropertiesTooLong { .. } => Self::PropertiesBytes,
            _ => return None,
        })
    }
}

/// How often each limit has refused somebody.
#[derive(Debug, Default)]
pub struct LimitCounters([AtomicU64; Limit::ALL.len()]);

impl LimitCounters {
    /// Counts one refusal.
    pub fn count(&self, limit: Limit) {
        self.0[limit as usize].fetch_add(1, Relaxed);
    }

    /// Returns the key of each limit with the number of its refusals.
    pub fn samples(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Limit::ALL.iter().map(|&limit| (limit.key(), self.0[limit as usize].load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_a_counter_of_its_own() {
        let counters = LimitCounters::default();
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, index, "{limit:?} stands at its place");
            (0..=index).for_each(|_| counters.count(limit));
        }
        let samples: Vec<_> = counters.samples().collect();
        for (index, (key, count)) in samples.iter().enumerate() {
            assert_eq!((*key, *count), (Limit::ALL[index].key(), index as u64 + 1));
        }
    }

    #[test]
    fn a_broken_rule_is_no_limit() {
        let rule = CloseCause::Protocol { source: ProtocolError::SecondConnect };
        assert_eq!(Limit::of_cause(&rule), None);
        assert_eq!(Limit::of_cause(&CloseCause::KeepAliveTimeout), None);
    }
}
