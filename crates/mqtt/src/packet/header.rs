//! The fixed header that begins every packet (MQTT 5.0, section 2.1).

use std::fmt;

use crate::{ProtocolError, varint};

/// The type of a packet (MQTT 5.0, table 2-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// Every packet type, in numeric order.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::ConnAck,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::PingReq,
        Self::PingResp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// Takes type and flags out of the first byte of a packet.
    ///
    /// # Errors
    ///
    /// If the type is reserved, or the flags are not those of the type (MQTT-2.1.3-1). The flags of
    /// PUBLISH are checked with the rest of it.
    #[inline]
    pub fn from_first_byte(byte: u8) -> Result<Self, ProtocolError> {
        let number = byte >> 4;
        let Some(&packet) = Self::ALL.get(usize::from(number).wrapping_sub(1)) else {
            return Err(ProtocolError::ReservedPacketType { number });
        };
        let flags = byte & 0x0F;
        if packet != Self::Publish && flags != packet.flags() {
            return Err(ProtocolError::FixedHeaderFlags { packet, flags });
        }
        Ok(packet)
    }

    /// Returns the first byte of a packet of this type; that of PUBLISH without its flags.
    #[inline]
    pub(crate) const fn first_byte(self) -> u8 {
        (self as u8) << 4 | self.flags()
    }

    const fn flags(self) -> u8 {
        match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        })
    }
}

/// Type, flags and length of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FixedHeader {
    pub(crate) packet: PacketType,
    pub(crate) flags: u8,
    /// Bytes of the fixed header itself.
    pub(crate) header_bytes: usize,
    /// Bytes behind it: the Remaining Length.
    pub(crate) body_bytes: usize,
}

impl FixedHeader {
    /// Reads the header at the start of `input`; `None` if it is incomplete.
    #[inline]
    pub(crate) fn peek(input: &[u8]) -> Result<Option<Self>, ProtocolError> {
        let Some((&first, rest)) = input.split_first() else {
            return Ok(None);
        };
        let packet = PacketType::from_first_byte(first)?;
        Ok(varint::read(rest)?.map(|(remaining, length_bytes)| Self {
            packet,
            flags: first & 0x0F,
            header_bytes: 1 + length_bytes,
            body_bytes: remaining as usize,
        }))
    }

    /// Returns the size of the whole packet.
    #[inline]
    pub(crate) fn packet_bytes(&self) -> usize {
        self.header_bytes + self.body_bytes
    }
}
