//! HTTP devices and clients: mapped paths that devices post to, the topic space, health and metrics.
//!
//! HTTP/1.1 on an accept loop of our own, because every wait has a deadline here: for the head of a
//! request, its body, the next request, and a peer that does not read. No compression, no cookies, no
//! cross-origin access.

mod adapter;
mod api;
mod body;
mod connection;
mod counters;
mod health;
mod idempotency;
mod ingest;
mod listener;
mod login;
mod management;
mod origin;
mod percent;
mod problem;
mod site;
mod stream;
mod topics;

pub use adapter::{Encrypted, HttpAdapter, HttpSettings};
