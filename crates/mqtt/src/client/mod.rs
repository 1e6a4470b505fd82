//! The client's side of one connection of MQTT 3.1.1, for far sides with rules of their own about sessions and QoS 2.
//!
//! A publication is answered for when the far side has it for sure: at QoS 1 by PUBACK, at QoS 2 by PUBCOMP, at QoS 0 by
//! the PINGRESP to a PINGREQ that was sent after it, since packets keep their order.
//!
//! The client keeps nothing of what was on its way when a connection ends; the far side may. It would take a new message
//! under a packet identifier that it still holds for a repetition of the old one (section 4.3.3). So few identifiers are
//! used, and where a session goes on all of them are released first: a PUBREL is answered whether or not it is known.

mod flights;
mod machine;
#[cfg(test)]
mod tests;

pub use machine::{Client, ClientError, ClientEvent, ClientSettings, Received};
