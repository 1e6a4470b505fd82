//! Uplinks: tasks that carry what the journal holds to a cloud, and bring commands down.
//!
//! [`UplinkTask`] owns the core of [`tidegate_uplink`], a reader of the journal and one connection;
//! [`UplinkHandle`] is what everybody else holds.

mod audit;
mod backlog;
mod command;
mod connection;
mod handle;
mod intake;
mod link;
mod listener;
mod outcome;
mod replaceable;
mod run;
mod seat;
mod settings;
mod shared;
mod spill;
mod state;
mod switch;
mod task;
mod tunnel;
mod watched;
mod writes;

pub use self::{
    audit::Audit,
    command::{CommandAck, IncomingCommand},
    connection::{SparkplugB, board_commands, hub_commands},
    handle::{ConnectionState, Snapshot, UplinkContext, UplinkHandle, new},
    intake::{Bridged, Intake, Watcher},
    outcome::OutcomeSender,
    replaceable::Replaceable,
    seat::Seat,
    settings::{
        AmqpQueue, AmqpTarget, AstarteSettings, CommandRoute, Dialect, Endpoint, FleetSettings,
        HttpTarget, LinkSettings, Login, MqttVersion, RouteError, UplinkSettings, WebSocketRequest,
    },
    state::{Entries, forget, renew_epochs},
    switch::{Branch, SecondQueue, Switch},
    task::{UplinkError, UplinkTask},
};

#[cfg(test)]
mod tests;
