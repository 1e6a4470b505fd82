//! The runtime of Tidegate: tasks, sockets, files, signals and wiring. No protocol rules.
//!
//! `pipeline` builds every stage in the order of the picture in `ARCHITECTURE.md`.

pub mod broker;
pub mod clock;
pub mod commander;
pub mod commands;
pub mod config;
pub mod control;
pub mod demo;
pub mod dial;
pub mod exchanges;
pub mod expiry;
pub mod ingest;
pub mod jwt;
pub mod listening;
pub mod memory;
pub mod pipeline;
pub mod points;
mod private_folder;
pub mod push;
mod secret_file;
pub mod service;
pub mod status;
pub mod store;
pub mod supervise;
pub mod telemetry;
pub mod time_trust;
pub mod uplink;
