//! Reason codes of MQTT 5.0 and the return codes of 3.1.1 that stand for them.

use std::fmt;

use tidegate_model::Qos;

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why something was done or refused (MQTT 5.0, section 2.4). Codes from 0x80 on are failures.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $name = $code,)*
        }

        impl ReasonCode {
            /// Every reason code, in numeric order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Takes the byte of the wire.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Returns the name in the words of the standard, in lower case.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reason_codes! {
    /// Success; also: normal disconnection, granted QoS 0.
    #[default]
    Success = 0x00, "success";
    /// The subscription was granted at QoS 1.
    GrantedQos1 = 0x01, "granted QoS 1";
    /// The subscription was granted at QoS 2.
    GrantedQos2 = 0x02, "granted QoS 2";
    /// The client leaves and wants its will published.
    DisconnectWithWill = 0x04, "disconnect with will message";
    /// The message was accepted, and nobody has subscribed to it.
    NoMatchingSubscribers = 0x10, "no matching subscribers";
    /// There was no such subscription to remove.
    NoSubscriptionExisted = 0x11, "no subscription existed";
    /// The authentication needs another step.
    ContinueAuthentication = 0x18, "continue authentication";
    /// A new authentication begins.
    ReAuthenticate = 0x19, "re-authenticate";
    /// The sender gives no reason, or none of the others fits.
    UnspecifiedError = 0x80, "unspecified error";
    /// The packet cannot be parsed.
    MalformedPacket = 0x81, "malformed packet";
    /// The packet breaks a rule of the protocol or comes out of turn.
    ProtocolError = 0x82, "protocol error";
    /// The receiver does not accept it, for reasons of its own.
    ImplementationSpecificError = 0x83, "implementation specific error";
    /// The server does not speak this version.
    UnsupportedProtocolVersion = 0x84, "unsupported protocol version";
    /// The client identifier is valid, but not allowed.
    ClientIdentifierNotValid = 0x85, "client identifier not valid";
    /// User name or password is wrong.
    BadUserNameOrPassword = 0x86, "bad user name or password";
    /// The client has no right to do this.
    NotAuthorized = 0x87, "not authorized";
    /// The server is not available.
    ServerUnavailable = 0x88, "server unavailable";
    /// The server is busy; later may be better.
    ServerBusy = 0x89, "server busy";
    /// The client has been banned by an administrator.
    Banned = 0x8A, "banned";
    /// The server is going down.
    ServerShuttingDown = 0x8B, "server shutting down";
    /// The authentication method is not supported, or not the one in use.
    BadAuthenticationMethod = 0x8C, "bad authentication method";
    /// Nothing was heard for one and a half times the keep alive.
    KeepAliveTimeout = 0x8D, "keep alive timeout";
    /// Another connection has taken over the session.
    SessionTakenOver = 0x8E, "session taken over";
    /// The topic filter is not accepted.
    TopicFilterInvalid = 0x8F, "topic filter invalid";
    /// The topic name is not accepted.
    TopicNameInvalid = 0x90, "topic name invalid";
    /// The packet identifier is already in use.
    PacketIdentifierInUse = 0x91, "packet identifier in use";
    /// The packet identifier is not known.
    PacketIdentifierNotFound = 0x92, "packet identifier not found";
    /// More messages are in flight than the receive maximum allows.
    ReceiveMaximumExceeded = 0x93, "receive maximum exceeded";
    /// The topic alias is 0 or greater than the maximum.
    TopicAliasInvalid = 0x94, "topic alias invalid";
    /// The packet is larger than the receiver accepts.
    PacketTooLarge = 0x95, "packet too large";
    /// Messages arrive faster than the receiver accepts.
    MessageRateTooHigh = 0x96, "message rate too high";
    /// A limit of the receiver has been reached.
    QuotaExceeded = 0x97, "quota exceeded";
    /// The connection is closed by an administrator.
    AdministrativeAction = 0x98, "administrative action";
    /// The payload is not of the format that was said.
    PayloadFormatInvalid = 0x99, "payload format invalid";
    /// The server keeps no retained messages.
    RetainNotSupported = 0x9A, "retain not supported";
    /// The server does not support this QoS.
    QosNotSupported = 0x9B, "QoS not supported";
    /// The client should use another server for now.
    UseAnotherServer = 0x9C, "use another server";
    /// The client should use another server from now on.
    ServerMoved = 0x9D, "server moved";
    /// The server has no shared subscriptions.
    SharedSubscriptionsNotSupported = 0x9E, "shared subscriptions not supported";
    /// Connections arrive faster than the server accepts.
    ConnectionRateExceeded = 0x9F, "connection rate exceeded";
    /// The connection has lasted as long as it may.
    MaximumConnectTime = 0xA0, "maximum connect time";
    /// The server has no subscription identifiers.
    SubscriptionIdentifiersNotSupported = 0xA1, "subscription identifiers not supported";
    /// The server has no wildcard subscriptions.
    WildcardSubscriptionsNotSupported = 0xA2, "wildcard subscriptions not supported";
}

impl ReasonCode {
    /// Returns the byte of the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Returns whether something was refused or failed.
    pub const fn is_failure(self) -> bool {
        self.code() >= 0x80
    }

    /// Returns the code with which SUBACK grants a QoS.
    pub const fn granted(qos: Qos) -> Self {
        match qos {
            Qos::AtMostOnce => Self::Success,
            Qos::AtLeastOnce => Self::GrantedQos1,
            Qos::ExactlyOnce => Self::GrantedQos2,
        }
    }

    /// Returns the return code of a 3.1.1 CONNACK that comes nearest (MQTT 3.1.1, table 3.1), if the
    /// reason can be said at all: protocol violations close the connection without an answer.
    pub const fn connect_return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            Self::ServerUnavailable
            | Self::ServerBusy
            | Self::ServerShuttingDown
            | Self::UseAnotherServer
            | Self::ServerMoved
            | Self::QuotaExceeded
            | Self::ConnectionRateExceeded => Some(3),
            Self::BadUserNameOrPassword => Some(4),
            Self::NotAuthorized
            | Self::Banned
            | Self::BadAuthenticationMethod
            | Self::TopicNameInvalid
            | Self::RetainNotSupported
            | Self::QosNotSupported => Some(5),
            _ => None,
        }
    }

    /// Takes the return code of a 3.1.1 CONNACK.
    pub const fn from_connect_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (0x{:02X})", self.as_str(), self.code())
    }
}
