//! The adapter with servers over real sockets: asyncua, which is not of its own library, and the one of this crate.

mod calls;
mod faults;
mod restarts;
mod structures;
mod support;
#[cfg(feature = "server")]
mod variables;
