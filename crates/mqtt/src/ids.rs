//! Small numbers with rules of their own: packet and subscription identifiers, session expiry.

use std::{
    fmt,
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

/// Identifies an exchange of packets that needs an answer; never 0 (MQTT 5.0, section 2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The first packet identifier.
    pub const FIRST: Self = Self(NonZeroU16::MIN);

    /// Takes a number of the wire; 0 is none.
    #[inline]
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number of the wire.
    #[inline]
    pub const fn as_u16(self) -> u16 {
        self.0.get()
    }

    /// Returns the identifier after this one; after the last comes the first.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(number) => Self(number),
            None => Self::FIRST,
        }
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The number that a client gives to a subscription, 1 to 268 435 455 (MQTT 5.0, section 3.8.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    /// Takes a number of the wire; 0 and numbers above 268 435 455 are none.
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) if number.get() <= crate::varint::MAX => Some(Self(number)),
            _ => None,
        }
    }

    /// Returns the number of the wire.
    pub const fn as_u32(self) -> u32 {
        self.0.get()
    }
}

/// How long a session outlives its connection (MQTT 5.0, section 3.1.2.11.2).
///
/// MQTT 3.1.1 knows the two ends only: a clean session ends at close, any other never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionExpiry(u32);

impl SessionExpiry {
    /// The session ends with its connection.
    pub const AT_CLOSE: Self = Self(0);
    /// The session does not expire.
    pub const NEVER: Self = Self(u32::MAX);

    /// Takes a number of seconds; `u32::MAX` means never.
    pub const fn from_secs(seconds: u32) -> Self {
        Self(seconds)
    }

    /// Returns the seconds of the wire.
    pub const fn as_secs(self) -> u32 {
        self.0
    }

    /// Returns the time after close, or `None` if the session never expires.
    pub const fn as_duration(self) -> Option<Duration> {
        match self.0 {
            u32::MAX => None,
            seconds => Some(Duration::from_secs(seconds as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_they_say() {
        assert_eq!(PacketId::new(7).map(|id| id.to_string()).as_deref(), Some("7"));
        assert_eq!(SessionExpiry::from_secs(60).as_duration(), Some(Duration::from_secs(60)));
        assert_eq!(SessionExpiry::AT_CLOSE.as_duration(), Some(Duration::ZERO));
        assert_eq!(SessionExpiry::NEVER.as_duration(), None);
    }
}
