//! The device's side of Astarte MQTT v1: interfaces, payloads, purge lists, introspection, and the order of a session.
//!
//! [`Interfaces`] says what a device has, [`Session`] what it has to say and when. What the server would answer by
//! throwing the session away is refused here first: a wrong value costs the far side a full synchronisation.

mod certainty;
mod endpoint;
mod identity;
mod interface;
mod interfaces;
mod payload;
mod purge;
mod refusal;
mod route;
mod session;
mod table;
mod value_type;

#[cfg(test)]
mod tests;

pub use self::certainty::Certainty;
pub use self::endpoint::{Endpoint, EndpointError};
pub use self::identity::{Device, DeviceId, IdentityError, Incoming, Realm};
pub use self::interface::{
    Aggregation, Content, Interface, InterfaceError, InterfaceName, Mapping, Ownership, Reliability,
};
pub use self::interfaces::{Clash, Interfaces, Target};
pub use self::payload::{Data, PAYLOAD_BYTES_MAX, PayloadError, decode, encode};
pub use self::purge::{PurgeError, read_list, write_list};
pub use self::route::{Command, Place, Route, RouteError, Routes, Way};
pub use self::session::{
    DownError, Keep, Kept, Message, Order, Property, Session, Setup, Step, Up, UpError,
};
pub use self::value_type::{Scalar, ValueError, ValueType};
