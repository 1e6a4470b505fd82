//! What devices know of their own readings.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tidegate_adapter_opcua::server::{VariableIndex, VariableServer};

/// The devices of one protocol.
pub(in crate::demo) struct Row {
    /// The protocol.
    pub(in crate::demo) protocol: &'static str,
    /// How many of what.
    pub(in crate::demo) devices: &'static str,
    /// What they measure.
    pub(in crate::demo) signals: Vec<Arc<Signal>>,
    /// Requests that failed, were refused or had no answer.
    pub(in crate::demo) failures: Arc<Failures>,
}

/// Counts what went wrong.
#[derive(Debug, Default)]
pub(in crate::demo) struct Failures(AtomicU64);

impl Failures {
    /// Adds one.
    pub(super) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many there were.
    pub(in crate::demo) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One quantity that a device measures, and the topic on which the mapping puts it.
pub(in crate::demo) struct Signal {
    /// The topic.
    pub(in crate::demo) topic: String,
    /// How its readings are counted.
    count: Count,
    /// The last value, as the device would show it.
    last: Mutex<String>,
}

/// How readings are counted that the gateway is known to have.
enum Count {
    /// By the acknowledgements of the gateway.
    Acknowledged(AtomicU64),
    /// By the values that the server gave to the gateway's monitored item: OPC UA acknowledges messages, not
    /// values.
    Reported(VariableServer, VariableIndex),
}

impl Signal {
    /// Makes a signal whose readings the gateway acknowledges.
    pub(super) fn acknowledged(topic: String) -> Arc<Self> {
        Arc::new(Self {
            topic,
            count: Count::Acknowledged(AtomicU64::new(0)),
            last: Mutex::default(),
        })
    }

    /// Makes a signal whose readings the gateway fetches from a variable.
    pub(super) fn reported(
        topic: String,
        server: VariableServer,
        variable: VariableIndex,
    ) -> Arc<Self> {
        Arc::new(Self { topic, count: Count::Reported(server, variable), last: Mutex::default() })
    }

    /// Notes the value that a device is about to report.
    pub(super) fn show(&self, value: String) {
        *self.last.lock() = value;
    }

    /// Counts a reading that was acknowledged.
    pub(super) fn note_acknowledged(&self) {
        match &self.count {
            Count::Acknowledged(count) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Count::Reported(..) => unreachable!("nobody acknowledges values of a server"),
        }
    }

    /// Returns how many readings the gateway is known to have.
    pub(in crate::demo) fn handed_over(&self) -> u64 {
        match &self.count {
            Count::Acknowledged(count) => count.load(Ordering::Relaxed),
            Count::Reported(server, variable) => server.reported(*variable),
        }
    }

    /// Returns the last value.
    pub(in crate::demo) fn last(&self) -> String {
        self.last.lock().clone()
    }
}
