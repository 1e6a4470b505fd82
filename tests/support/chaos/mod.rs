//! A line between an uplink and a broker on which things go wrong, as a seed says or as a test lists (uplink.40).
//!
//! A [`Chaos`](proxy::Chaos) listens on some ports and passes what comes on to one broker. Each connection has a [`Fate`](fate::Fate), which
//! strikes once so many PUBACKs have passed: not a moment of the clock, so that the same seed meets the same packets
//! again. It reads of MQTT what that takes: where packets end, their type, and the identifier of PUBLISH and PUBACK.
//!
//! A gateway has one connection at a time: when the next one comes, what the one before still holds is gone, as a
//! broker drops it that sees its client a second time. No acknowledgement is made up for what the broker has not
//! got, but by [`Trouble::Lie`](fate::Trouble::Lie): that is a loss of the far side's.

pub(crate) mod draw;
pub(crate) mod fate;
mod line;
mod packets;
pub(crate) mod proxy;
