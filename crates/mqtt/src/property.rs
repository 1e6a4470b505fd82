//! The properties of MQTT 5.0 (section 2.2.2): their numbers, and lists of them being read.

use std::{fmt, num::NonZeroU16, num::NonZeroU32};

use bytes::Bytes;

use crate::{
    Password, ProtocolError, SubscriptionId, Text,
    packet::{Explanation, PacketType},
    reader::Reader,
};

macro_rules! properties {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        /// A property, by the name of the standard (MQTT 5.0, table 2-4).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the names are those of the standard")]
        pub enum Property {
            $($name = $number,)*
        }

        impl Property {
            /// Every property, in numeric order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Takes the number of the wire.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for Property {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self {
                    $(Self::$name => $text,)*
                })
            }
        }
    };
}

properties! {
    PayloadFormatIndicator = 0x01, "Payload Format Indicator";
    MessageExpiryInterval = 0x02, "Message Expiry Interval";
    ContentType = 0x03, "Content Type";
    ResponseTopic = 0x08, "Response Topic";
    CorrelationData = 0x09, "Correlation Data";
    SubscriptionIdentifier = 0x0B, "Subscription Identifier";
    SessionExpiryInterval = 0x11, "Session Expiry Interval";
    AssignedClientIdentifier = 0x12, "Assigned Client Identifier";
    ServerKeepAlive = 0x13, "Server Keep Alive";
    AuthenticationMethod = 0x15, "Authentication Method";
    AuthenticationData = 0x16, "Authentication Data";
    RequestProblemInformation = 0x17, "Request Problem Information";
    WillDelayInterval = 0x18, "Will Delay Interval";
    RequestResponseInformation = 0x19, "Request Response Information";
    ResponseInformation = 0x1A, "Response Information";
    ServerReference = 0x1C, "Server Reference";
    ReasonString = 0x1F, "Reason String";
    ReceiveMaximum = 0x21, "Receive Maximum";
    TopicAliasMaximum = 0x22, "Topic Alias Maximum";
    TopicAlias = 0x23, "Topic Alias";
    MaximumQos = 0x24, "Maximum QoS";
    RetainAvailable = 0x25, "Retain Available";
    UserProperty = 0x26, "User Property";
    MaximumPacketSize = 0x27, "Maximum Packet Size";
    WildcardSubscriptionAvailable = 0x28, "Wildcard Subscription Available";
    SubscriptionIdentifierAvailable = 0x29, "Subscription Identifier Available";
    SharedSubscriptionAvailable = 0x2A, "Shared Subscription Available";
}

impl Property {
    /// Returns the number of the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// A list of properties that is being read: [`next`](Self::next), then the value with the method of its
/// type.
#[derive(Debug)]
pub(crate) struct PropertyReader<'a> {
    reader: Reader<'a>,
    seen: u64,
    user_count: usize,
    current: Property,
}

impl<'a> PropertyReader<'a> {
    #[inline]
    pub(crate) fn new(reader: Reader<'a>) -> Self {
        Self { reader, seen: 0, user_count: 0, current: Property::UserProperty }
    }

    /// Returns which property comes next, or `None` at the end of the list.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Property>, ProtocolError> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        let number = self.reader.varint()?;
        let property =
            Property::from_number(number).ok_or(ProtocolError::UnknownProperty { number })?;
        self.current = property;
        let bit = 1_u64 << property.number();
        if self.seen & bit != 0 && !self.may_repeat(property) {
            return Err(ProtocolError::RepeatedProperty { property });
        }
        self.seen |= bit;
        Ok(Some(property))
    }

    fn may_repeat(&self, property: Property) -> bool {
        match property {
            Property::UserProperty => true,
            Property::SubscriptionIdentifier => self.reader.packet == PacketType::Publish,
            _ => false,
        }
    }

    /// Returns the error for a property that does not belong into this list.
    pub(crate) fn misplaced(&self) -> ProtocolError {
        ProtocolError::MisplacedProperty { property: self.current }
    }

    /// Returns the error for a value that is not allowed.
    pub(crate) fn wrong_value(&self) -> ProtocolError {
        ProtocolError::PropertyValue { property: self.current }
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ProtocolError> {
        self.reader.u16()
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.reader.u32()
    }

    pub(crate) fn non_zero_u16(&mut self) -> Result<NonZeroU16, ProtocolError> {
        NonZeroU16::new(self.u16()?).ok_or_else(|| self.wrong_value())
    }

    pub(crate) fn non_zero_u32(&mut self) -> Result<NonZeroU32, ProtocolError> {
        NonZeroU32::new(self.u32()?).ok_or_else(|| self.wrong_value())
    }

    pub(crate) fn bool(&mut self) -> Result<bool, ProtocolError> {
        match self.reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.wrong_value()),
        }
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, ProtocolError> {
        self.reader.str()
    }

    pub(crate) fn text(&mut self) -> Result<Text, ProtocolError> {
        self.reader.text()
    }

    pub(crate) fn binary(&mut self) -> Result<Bytes, ProtocolError> {
        self.reader.binary()
    }

    pub(crate) fn password(&mut self) -> Result<Password, ProtocolError> {
        let bytes = self.binary()?;
        Ok(Password::new(bytes).expect("a field of the wire has at most 65 535 bytes"))
    }

    pub(crate) fn topic(&mut self) -> Result<tidegate_model::Topic, ProtocolError> {
        self.reader.topic()?.ok_or_else(|| self.wrong_value())
    }

    pub(crate) fn subscription_id(&mut self) -> Result<SubscriptionId, ProtocolError> {
        SubscriptionId::new(self.reader.varint()?).ok_or_else(|| self.wrong_value())
    }

    /// Takes the name and value of a user property, borrowed.
    pub(crate) fn user_pair(&mut self) -> Result<(&'a str, &'a str), ProtocolError> {
        let limit = self.reader.limits.user_properties;
        self.user_count += 1;
        if self.user_count > limit {
            return Err(ProtocolError::TooManyUserProperties { limit });
        }
        Ok((self.reader.str()?, self.reader.str()?))
    }

    /// Takes the name and value of a user property.
    pub(crate) fn user(&mut self) -> Result<(Text, Text), ProtocolError> {
        let (name, value) = self.user_pair()?;
        let text = |text| Text::new(text).expect("`str` has checked what a text must be");
        Ok((text(name), text(value)))
    }

    /// Takes the current property if it is part of an explanation.
    pub(crate) fn explanation(
        &mut self,
        explanation: &mut Option<Box<Explanation>>,
    ) -> Result<(), ProtocolError> {
        match self.current {
            Property::ReasonString => {
                explanation.get_or_insert_default().reason_string = Some(self.text()?);
            }
            Property::UserProperty => {
                let pair = self.user()?;
                explanation.get_or_insert_default().user.push(pair);
            }
            _ => return Err(self.misplaced()),
        }
        Ok(())
    }
}
