//! Server side of one connection: what a client may send when, and how it is answered.

mod authentication;
mod batch;
mod keep_alive;
mod machine;
mod outgoing_aliases;
mod receive_window;
mod replies;
mod session;
mod topic_aliases;

pub use batch::{ClientPacket, PacketBatch};
pub use machine::{CloseCause, Connection};
pub use replies::Sent;

#[cfg(test)]
mod tests;
