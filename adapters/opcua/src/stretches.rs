//! Stretches without data: what they are told by when data comes again (promise D25).
//!
//! A stretch is open from the moment its node is monitored no longer until the next sample of the node, in front of
//! which its record is handed in. A connection that comes back with all that the server kept opens none.

use std::collections::HashMap;

use tidegate_model::{NodeAddress, Origin, Reading, Status, Timestamp, Unit, Value};

/// Nodes whose stretches are remembered.
const OPEN_MAX: usize = 100_000;

/// Why there was no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The server was started anew.
    ServerDown,
    /// The server was not reached.
    Network,
    /// The server dropped samples or messages, or closed the subscription.
    Dropped,
}

impl Why {
    /// Returns the status of the record.
    pub(crate) fn status(self) -> Status {
        Status::from_code(match self {
            // BadServerHalted, BadNoCommunication, BadDataLost.
            Self::ServerDown => 0x800E_0000,
            Self::Network => 0x8031_0000,
            Self::Dropped => 0x809D_0000,
        })
    }
}

/// A stretch whose end is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Until when data came, by the gateway's clock.
    pub(crate) from: Timestamp,
    pub(crate) why: Why,
}

impl Stretch {
    /// Makes the record of the stretch, which has ended.
    pub(crate) fn record(self, end: Timestamp, unit: Option<Unit>, origin: Origin) -> Reading {
        let mut reading = Reading::new(Value::Null, end, origin);
        // A clock that was set back must not turn it round.
        reading.source_time = Some(self.from.min(end));
        reading.until = Some(end);
        reading.status = self.why.status();
        reading.unit = unit;
        reading
    }
}

/// The open stretches of one server.
#[derive(Debug, Default)]
pub(crate) struct Stretches {
    open: HashMap<NodeAddress, Stretch>,
}

impl Stretches {
    /// Opens the stretch of a node, unless one is open.
    pub(crate) fn open(&mut self, node: &NodeAddress, stretch: Stretch) {
        if self.open.len() < OPEN_MAX && !self.open.contains_key(node) {
            self.open.insert(node.clone(), stretch);
        }
    }

    /// Takes the stretch that a sample of the node ends, if one is open.
    pub(crate) fn close(&mut self, node: &NodeAddress) -> Option<Stretch> {
        if self.open.is_empty() { None } else { self.open.remove(node) }
    }

    /// Notes that it was the server that was away.
    pub(crate) fn server_was_down(&mut self) {
        for stretch in self.open.values_mut() {
            if stretch.why == Why::Network {
                stretch.why = Why::ServerDown;
            }
        }
    }
}
