//! CoAP devices and clients: a server whose resources are the mapped points.
//!
//! Devices POST or PUT values to the mapped paths and hear 2.04 when the value is durable; anyone who may
//! can GET the last one. `tidegate_coap` knows the protocol, this crate moves datagrams and knows what a
//! resource means.

mod adapter;
mod alarm;
mod counters;
mod discovery;
mod exchange;
mod resource;
mod server;
mod socket;

pub use adapter::{CoapAdapter, CoapSettings};
