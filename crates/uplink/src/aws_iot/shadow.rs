//! Device shadows: what the cloud wishes becomes commands, and what local topics say is reported.
//!
//! By the pages "Device Shadow MQTT topics" and "Device Shadow service documents". [`Shadow`] is one shadow as a state
//! machine: messages of the service and local values go in; requests, commands and notes for the journal come out. What is
//! reported is a state: of each key only the newest value counts, and nothing of it waits on disk.

mod asked;
mod counts;
mod document;
mod machine;
mod setup;
mod update;
mod wishes;

pub use self::{
    counts::{ShadowCounts, ShadowView},
    machine::{Shadow, ShadowRequest},
    setup::{ShadowError, ShadowPath, ShadowPathError, ShadowSettings, ShadowState},
    wishes::{ShadowNote, ShadowOrder, ShadowOrderId},
};

#[cfg(test)]
mod tests;
