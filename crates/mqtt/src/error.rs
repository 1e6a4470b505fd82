//! What a peer can do wrong, and the reason code that answers it.

use thiserror::Error;
use tidegate_model::{TopicError, TopicFilterError};

use crate::{ReasonCode, packet::PacketType, property::Property};

/// Why a packet is not accepted. Each variant closes the connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The type of the packet is reserved (MQTT 5.0, section 2.1.2).
    #[error("packet type {number} is reserved")]
    ReservedPacketType {
        /// The four bits of the type.
        number: u8,
    },
    /// The flags of the fixed header are not those of the type (MQTT-2.1.3-1).
    #[error("{packet} has the fixed header flags {flags:04b}")]
    FixedHeaderFlags {
        /// The type of the packet.
        packet: PacketType,
        /// The four bits found.
        flags: u8,
    },
    /// A variable byte integer is longer than four bytes or than needed (MQTT-1.5.5-1).
    #[error("variable byte integer is too long")]
    VariableByteInteger,
    /// The packet is larger than accepted.
    #[error("{packet} of {bytes} bytes, at most {limit} are accepted")]
    PacketTooLarge {
        /// The type of the packet.
        packet: PacketType,
        /// Size announced by its fixed header.
        bytes: usize,
        /// Size accepted.
        limit: usize,
    },
    /// A field or list reaches beyond the end of what holds it.
    #[error("field reaches beyond the end of the packet")]
    Truncated,
    /// Bytes are left over at the end of the packet.
    #[error("{bytes} bytes are left over at the end of the packet")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// A text is not UTF-8 (MQTT-1.5.4-1).
    #[error("text is not UTF-8")]
    Utf8,
    /// A text holds U+0000 (MQTT-1.5.4-2).
    #[error("text contains U+0000")]
    Null,
    /// A property does not exist (MQTT 5.0, section 2.2.2.2).
    #[error("property 0x{number:X} does not exist")]
    UnknownProperty {
        /// Its number.
        number: u32,
    },
    /// A property does not belong into this packet.
    #[error("property {property} is not allowed here")]
    MisplacedProperty {
        /// Which one.
        property: Property,
    },
    /// A property that may be given once is repeated.
    #[error("property {property} is given twice")]
    RepeatedProperty {
        /// Which one.
        property: Property,
    },
    /// A property has a value that the standard does not allow.
    #[error("property {property} has a value that is not allowed")]
    PropertyValue {
        /// Which one.
        property: Property,
    },
    /// The list of properties is longer than accepted.
    #[error("properties of {bytes} bytes, at most {limit} are accepted")]
    PropertiesTooLong {
        /// Length found.
        bytes: usize,
        /// Length accepted.
        limit: usize,
    },
    /// There are more user properties than accepted.
    #[error("more than {limit} user properties")]
    TooManyUserProperties {
        /// Number accepted.
        limit: usize,
    },
    /// A topic breaks the rules of topics.
    #[error("topic is not valid")]
    Topic {
        /// Which rule.
        source: TopicError,
    },
    /// A topic or filter is longer than accepted.
    #[error("topic of {bytes} bytes, at most {limit} are accepted")]
    TopicTooLong {
        /// Length found.
        bytes: usize,
        /// Length accepted.
        limit: usize,
    },
    /// A topic has more levels than accepted.
    #[error("topic of more than {limit} levels")]
    TopicTooDeep {
        /// Number accepted.
        limit: usize,
    },
    /// A topic filter breaks the rules of filters.
    #[error("topic filter is not valid")]
    TopicFilter {
        /// Which rule.
        source: TopicFilterError,
    },
    /// A topic filter is longer than accepted.
    #[error("topic filter of {bytes} bytes, at most {limit} are accepted")]
    TopicFilterTooLong {
        /// Length found.
        bytes: usize,
        /// Length accepted.
        limit: usize,
    },
    /// A topic filter has more levels than accepted.
    #[error("topic filter of more than {limit} levels")]
    TopicFilterTooDeep {
        /// Number accepted.
        limit: usize,
    },
    /// A shared subscription has no valid share name or no filter (MQTT-4.8.2-1, MQTT-4.8.2-2).
    #[error("shared subscription is not of the form $share/<name>/<filter>")]
    SharedSubscription,
    /// A shared subscription asks for no local (MQTT-3.8.3-4).
    #[error("shared subscription with no local")]
    SharedNoLocal,
    /// A subscription asks for QoS 3 or retain handling 3 (MQTT 5.0, section 3.8.3.1).
    #[error("subscription with QoS 3 or retain handling 3")]
    SubscriptionOptions,
    /// SUBSCRIBE or UNSUBSCRIBE without a filter (MQTT-3.8.3-2, MQTT-3.10.3-2).
    #[error("{packet} without a topic filter")]
    NoFilters {
        /// The type of the packet.
        packet: PacketType,
    },
    /// There are more filters in one packet than accepted.
    #[error("more than {limit} topic filters in one packet")]
    TooManyFilters {
        /// Number accepted.
        limit: usize,
    },
    /// The packet identifier is 0 (MQTT-2.2.1-3).
    #[error("packet identifier 0")]
    PacketIdZero,
    /// Both bits of a QoS are set (MQTT-3.3.1-4, MQTT-3.1.2-12).
    #[error("QoS 3")]
    Qos,
    /// DUP is set at QoS 0 (MQTT-3.3.1-2).
    #[error("DUP at QoS 0")]
    DupAtQos0,
    /// A bit or value that must not be used is used.
    #[error("reserved bit or value in {packet}")]
    Reserved {
        /// The type of the packet.
        packet: PacketType,
    },
    /// A reason code does not exist or does not belong to this packet.
    #[error("{packet} with reason code 0x{code:02X}")]
    Reason {
        /// The type of the packet.
        packet: PacketType,
        /// The code found.
        code: u8,
    },
    /// The flags of CONNECT contradict each other (MQTT-3.1.2-9 to MQTT-3.1.2-22).
    #[error("flags of CONNECT contradict each other")]
    ConnectFlags,
    /// The first packet is not CONNECT (MQTT-3.1.0-1).
    #[error("expected CONNECT, got {packet}")]
    ExpectedConnect {
        /// What came instead.
        packet: PacketType,
    },
    /// The first packet is CONNECT of another protocol (MQTT-3.1.2-1).
    #[error("protocol name is not MQTT")]
    ProtocolName,
    /// The version is none of those spoken (MQTT-3.1.2-2).
    #[error("protocol level {level} is not supported")]
    ProtocolLevel {
        /// The level asked for.
        level: u8,
    },
    /// A 3.1.1 client without identifier wants its session kept (MQTT 3.1.1, MQTT-3.1.3-8).
    #[error("client without identifier wants its session kept")]
    NoClientId,
    /// The client names an authentication method that is not offered (MQTT-4.12.0-1).
    #[error("authentication method is not supported")]
    ExtendedAuthentication,
    /// An AUTH names no method, or another one than CONNECT (MQTT-4.12.0-5, MQTT-4.12.1-1).
    #[error("AUTH without the authentication method of CONNECT")]
    AuthenticationMethod,
    /// An AUTH of a step that is not due (MQTT-4.12.0-3).
    #[error("AUTH out of turn: {reason}")]
    AuthOutOfTurn {
        /// The step.
        reason: ReasonCode,
    },
    /// A packet other than AUTH and DISCONNECT before CONNACK (MQTT-3.1.2-30).
    #[error("expected AUTH, got {packet}")]
    ExpectedAuth {
        /// What came instead.
        packet: PacketType,
    },
    /// A second CONNECT (MQTT-3.1.0-2).
    #[error("second CONNECT")]
    SecondConnect,
    /// A packet that only a server may send, or that has no place now.
    #[error("a client may not send {packet}")]
    NotForServers {
        /// The type of the packet.
        packet: PacketType,
    },
    /// A property that only a server may send (MQTT-3.3.4-6).
    #[error("a client may not send the property {property}")]
    ServerProperty {
        /// Which one.
        property: Property,
    },
    /// A topic alias is 0 or above the maximum (MQTT-3.3.2-8, MQTT-3.3.2-9).
    #[error("topic alias {alias}, at most {limit} are accepted")]
    TopicAlias {
        /// The alias found.
        alias: u16,
        /// The greatest alias accepted.
        limit: u16,
    },
    /// There is neither a topic nor an alias with a topic.
    #[error("PUBLISH without a topic")]
    NoTopic,
    /// More messages are in flight than accepted (MQTT-3.3.4-9).
    #[error("more than {limit} messages in flight")]
    ReceiveMaximum {
        /// Number accepted.
        limit: u16,
    },
    /// DISCONNECT prolongs a session that was to end at close (MQTT 5.0, section 3.14.2.2.2).
    #[error("DISCONNECT prolongs a session that ends at close")]
    SessionExpiry,
}

impl ProtocolError {
    /// Returns the reason code that tells the peer.
    pub fn reason_code(&self) -> ReasonCode {
        match self {
            Self::ReservedPacketType { .. }
            | Self::FixedHeaderFlags { .. }
            | Self::VariableByteInteger
            | Self::Truncated
            | Self::TrailingBytes { .. }
            | Self::Utf8
            | Self::Null
            | Self::UnknownProperty { .. }
            | Self::MisplacedProperty { .. }
            | Self::Qos
            | Self::DupAtQos0
            | Self::Reserved { .. }
            | Self::ConnectFlags => ReasonCode::MalformedPacket,
            Self::PacketTooLarge { .. }
            | Self::PropertiesTooLong { .. }
            | Self::TooManyUserProperties { .. } => ReasonCode::PacketTooLarge,
            Self::Topic { .. } | Self::TopicTooLong { .. } | Self::TopicTooDeep { .. } => {
                ReasonCode::TopicNameInvalid
            }
            Self::TopicFilter { .. }
            | Self::TopicFilterTooLong { .. }
            | Self::TopicFilterTooDeep { .. }
            | Self::SharedSubscription => ReasonCode::TopicFilterInvalid,
            Self::TooManyFilters { .. } => ReasonCode::QuotaExceeded,
            Self::RepeatedProperty { .. }
            | Self::PropertyValue { .. }
            | Self::SharedNoLocal
            | Self::SubscriptionOptions
            | Self::NoFilters { .. }
            | Self::PacketIdZero
            | Self::Reason { .. }
            | Self::ExpectedConnect { .. }
            | Self::AuthenticationMethod
            | Self::AuthOutOfTurn { .. }
            | Self::ExpectedAuth { .. }
            | Self::SecondConnect
            | Self::NotForServers { .. }
            | Self::ServerProperty { .. }
            | Self::NoTopic
            | Self::SessionExpiry => ReasonCode::ProtocolError,
            Self::ProtocolName | Self::ProtocolLevel { .. } => {
                ReasonCode::UnsupportedProtocolVersion
            }
            Self::NoClientId => ReasonCode::ClientIdentifierNotValid,
            Self::ExtendedAuthentication => ReasonCode::BadAuthenticationMethod,
            Self::TopicAlias { .. } => ReasonCode::TopicAliasInvalid,
            Self::ReceiveMaximum { .. } => ReasonCode::ReceiveMaximumExceeded,
        }
    }
}

/// Why a packet of our own cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A text or binary field is longer than its 16-bit length can say.
    #[error("field of {bytes} bytes, at most 65535 fit")]
    FieldTooLong {
        /// Length of the field.
        bytes: usize,
    },
    /// The packet is longer than any packet may be (MQTT 5.0, section 2.1.4).
    #[error("packet of {bytes} bytes, at most 268435455 fit")]
    PacketTooLong {
        /// Length behind the fixed header.
        bytes: usize,
    },
}
