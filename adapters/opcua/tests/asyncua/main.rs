//! The adapter with a server that is not of its own library: asyncua, over a real socket.

mod calls;
mod restarts;
mod structures;
mod support;
