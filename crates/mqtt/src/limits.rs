//! What a server accepts, and how long it waits.

use std::{num::NonZeroU16, time::Duration};

use crate::{ReasonCode, Text, packet::PacketType};

/// Sizes and counts above which a packet is refused, checked before anything is allocated.
///
/// The defaults are those of `docs/fault-catalogue.md`, section 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest CONNECT and AUTH, fixed header included.
    pub connect_bytes: usize,
    /// Largest packet of any other type, fixed header included.
    pub packet_bytes: usize,
    /// Most levels of a topic or filter.
    pub topic_levels: usize,
    /// Longest topic or filter in bytes.
    pub topic_bytes: usize,
    /// Most user properties in one list of properties.
    pub user_properties: usize,
    /// Longest list of properties in bytes.
    pub properties_bytes: usize,
    /// Most filters in one SUBSCRIBE or UNSUBSCRIBE.
    pub filters_per_packet: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_bytes: 64 * 1024,
            packet_bytes: 1024 * 1024,
            topic_levels: 64,
            topic_bytes: 4_096,
            user_properties: 64,
            properties_bytes: 16 * 1024,
            filters_per_packet: 256,
        }
    }
}

impl Limits {
    /// Returns how large a packet of this type may be, fixed header included.
    #[inline]
    pub const fn bytes_of(&self, packet: PacketType) -> usize {
        match packet {
            PacketType::Connect | PacketType::Auth => self.connect_bytes,
            _ => self.packet_bytes,
        }
    }
}

/// How a server treats its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What packets may hold.
    pub limits: Limits,
    /// From accepting the connection until the client is accepted, everything included.
    pub connect_timeout: Duration,
    /// From the first byte of a packet until its last.
    pub packet_timeout: Duration,
    /// The longest keep alive of a client in seconds; longer ones, and none, are replaced by it.
    pub keep_alive_max_s: u16,
    /// Most messages with QoS 1 or 2 that a client may have in flight towards us.
    pub receive_maximum: NonZeroU16,
    /// Most topic aliases that a client may set; 0 forbids them.
    pub topic_alias_maximum: u16,
    /// Most topic aliases that we set towards a client, if it takes so many; 0 sets none.
    pub topic_aliases_used: u16,
    /// Where clients may go that are sent away for want of room, or because the server ends (MQTT 5.0, section 4.11).
    pub server_reference: Option<Text>,
    /// The methods of enhanced authentication that are offered (MQTT 5.0, section 4.12).
    pub authentication_methods: &'static [&'static str],
}

impl Settings {
    /// Returns how a client is told `reason`: one that another server may make good is told with that server's name, if
    /// there is one.
    pub(crate) fn refer(&self, reason: ReasonCode) -> (ReasonCode, Option<Text>) {
        let is_for_want_of_room = matches!(
            reason,
            ReasonCode::ServerUnavailable
                | ReasonCode::ServerBusy
                | ReasonCode::ServerShuttingDown
                | ReasonCode::QuotaExceeded
        );
        match &self.server_reference {
            Some(server) if is_for_want_of_room => {
                (ReasonCode::UseAnotherServer, Some(server.clone()))
            }
            _ => (reason, None),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(10),
            packet_timeout: Duration::from_secs(60),
            keep_alive_max_s: 600,
            receive_maximum: NonZeroU16::new(64).expect("64 is not zero"),
            topic_alias_maximum: 32,
            topic_aliases_used: 32,
            server_reference: None,
            authentication_methods: &[],
        }
    }
}
