//! Control packets: what they hold, and how they are read and written.

mod ack;
mod connack;
pub(crate) mod connect;
mod control;
mod disconnect;
mod header;
pub(crate) mod message_properties;
mod publish;
pub(crate) mod reasons;
pub(crate) mod subscribe;

pub use ack::{Ack, Explanation};
pub use connack::ConnAck;
pub use connect::{Connect, Will};
pub use control::Packet;
pub use disconnect::{Auth, Disconnect};
pub(crate) use header::FixedHeader;
pub use header::PacketType;
pub(crate) use publish::flags as publish_flags;
pub use publish::{Delivery, Publish, PublishPacket};
pub use subscribe::{
    RetainHandling, ShareName, SubAck, Subscribe, Subscription, SubscriptionKey, UnsubAck,
    Unsubscribe,
};

#[cfg(test)]
mod tests;
