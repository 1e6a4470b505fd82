//! Subscriptions, sessions, retained messages, delivery and access rules of the broker core.
//!
//! The core decides and remembers; it does no I/O. Whoever drives it submits the transactions it returns
//! to the journal, in the order in which they were returned, and waits for them where it says so.

pub mod access;

mod carry;
mod catch_up;
mod connect;
mod core;
mod deliver;
mod delivery;
mod frames;
mod last_values;
mod parts;
mod persist;
mod recover;
mod retained;
mod route;
mod route_cache;
mod session;
mod shared;
mod subscribe;
mod subscriptions;
mod summary;
mod sys;
#[cfg(test)]
mod tests;
mod tree;
mod wills;

pub use self::carry::Carried;
pub use self::connect::{ConnectOutcome, ConnectRefusal, ConnectRequest, Disconnect, Tick};
pub use self::core::{Broker, BrokerLimits, Superseded, UplinkRoute};
pub use self::deliver::{Due, InboundId};
pub use self::delivery::{Delivery, Routed};
pub use self::frames::Frames;
pub use self::recover::{RecoverError, SessionBacklog};
pub use self::route::{Admission, LocalSubscriber, RouteRefusal, Routing, Source};
pub use self::session::{
    Attachment, ConnectionId, Expiry, RetainHandling, SessionKey, SubscriptionOptions, Wake, Will,
};
pub use self::subscribe::SubscribeResult;
pub use self::summary::{BrokerCounters, BrokerSummary, SessionQueue};
pub use self::tree::SubscriptionTree;
pub use self::wills::DueWill;
