//! OPC UA servers as devices: monitored items become readings, commands become writes.
//!
//! One [`OpcUaAdapter`] serves one configured server. A connection runs three loops side by side: *upkeep*
//! finds nodes and creates monitored items, *publish* takes messages and passes them on, *commands* write.
//! What is monitored is kept by namespace URI in a table that outlives the connection; a server that kept
//! its subscriptions goes on with them, and every other one is subscribed to anew.

mod adapter;
mod browse;
mod call;
mod command;
mod deadband;
mod delivery;
mod endpoint;
mod error;
mod items;
mod link;
mod namespaces;
mod pki;
mod plan;
mod publish;
mod sequence;
mod services;
mod settings;
mod shared;
mod stretches;
mod structures;
mod table;
mod takeover;
mod upkeep;
mod value;

#[cfg(feature = "server")]
pub mod server;

pub use adapter::OpcUaAdapter;
pub use settings::{
    Endpoint, EndpointError, Limits, OpcUaSettings, REBROWSE_DEFAULT, Security, UnknownSecurity,
    UserLogin,
};
