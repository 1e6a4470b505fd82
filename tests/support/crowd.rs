//! Many connections at once, held by a peer of their own.

use serde_json::{Value, json};

use super::peer::Peer;

/// The peer that holds crowds of connections.
#[derive(Debug)]
pub(crate) struct Crowds(Peer);

impl Crowds {
    /// Starts the peer; it holds nothing yet.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self(Peer::start("crowd.py", &[]))
    }

    /// Opens `count` connections to a port of this machine that behave as `kind` says, in the background.
    #[track_caller]
    pub(crate) fn gather(&mut self, name: &str, kind: &str, port: u16, count: usize, more: Value) {
        let mut options = json!({"name": name, "kind": kind, "port": port, "count": count});
        if let (Value::Object(options), Value::Object(more)) = (&mut options, more) {
            options.extend(more);
        }
        self.0.ask("gather", options);
    }

    /// Waits until every connection is there or has failed; returns how they are.
    #[track_caller]
    pub(crate) fn ready(&mut self, name: &str) -> Value {
        self.0.ask("ready", json!({"name": name, "timeout": 25.0}))
    }

    /// Returns how the connections are.
    #[track_caller]
    pub(crate) fn report(&mut self, name: &str) -> Value {
        self.0.ask("report", json!({"name": name}))
    }

    /// Waits until every connection has ended; returns how they did.
    #[track_caller]
    pub(crate) fn over(&mut self, name: &str) -> Value {
        self.0.ask("over", json!({"name": name, "timeout": 28.0}))
    }

    /// Returns how many connections answer a PINGREQ.
    #[track_caller]
    pub(crate) fn ping(&mut self, name: &str) -> u64 {
        self.0.ask("ping", json!({"name": name})).as_u64().expect("a number")
    }

    /// Breaks every connection.
    #[track_caller]
    pub(crate) fn leave(&mut self, name: &str) {
        self.0.ask("leave", json!({"name": name}));
    }
}
