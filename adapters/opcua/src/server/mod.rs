//! A small OPC UA server: variables in a namespace of their own, and of namespace 0 what clients need.
//!
//! It serves numbers that its owner reports and that clients may write; devices for demonstrations and tests
//! are made of it. It stands on `async-opcua-server` without the generated address space: see
//! `docs/decisions/0002-opcua-size.md`.

mod core_nodes;
mod running;
mod variables;

pub use running::{ServerError, ServerSettings, VariableServer};
pub use variables::{Access, Variable, VariableIndex};
