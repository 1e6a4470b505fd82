//! Uplinks: tasks that carry what the journal holds to a cloud, and bring commands down.
//!
//! [`UplinkTask`] owns the core of [`tidegate_uplink`], a reader of the journal and one connection;
//! [`UplinkHandle`] is what everybody else holds.

mod backlog;
mod command;
mod handle;
mod link;
mod link_mqtt;
mod listener;
mod outcome;
mod settings;
mod task;

pub use self::{
    command::{CommandAck, IncomingCommand},
    handle::{
        Audit, ConnectionState, Snapshot, UplinkContext, UplinkHandle, forget, new, renew_epochs,
    },
    outcome::OutcomeSender,
    settings::{CommandRoute, LinkSettings, Login, MqttVersion, RouteError, UplinkSettings},
    task::{UplinkError, UplinkTask},
};

#[cfg(test)]
mod tests;
