//! An uplink in status and metrics.

use serde_json::{Map, Value, json};
use tidegate_store::Seq;

use super::handle::{Audit, ConnectionState, Snapshot, UplinkHandle};

/// Tells how an uplink is doing, as JSON. Cheap to clone.
#[derive(Clone, Debug)]
pub struct UplinkStatus(UplinkHandle);

/// Tells which records an uplink still needs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Floor(UplinkHandle);

impl Floor {
    /// Makes the floor of an uplink.
    pub fn new(uplink: UplinkHandle) -> Self {
        Self(uplink)
    }

    /// Returns the first record that the uplink may still need.
    pub fn get(&self) -> Seq {
        self.0.cursor().borrow().next()
    }
}

impl UplinkStatus {
    /// Makes the status of an uplink.
    pub fn new(uplink: UplinkHandle) -> Self {
        Self(uplink)
    }

    /// Returns one snapshot: the members of the ledger, and how connection and queue are doing.
    pub fn to_json(&self) -> Value {
        snapshot_json(&self.0.snapshot())
    }

    /// Walks the journal, counts again, and says whether the books agree.
    pub async fn audit(&self) -> Value {
        match self.0.audit().await {
            Ok(audit) => audit_json(&audit),
            Err(error) => json!({ "sound": false, "error": error.to_string() }),
        }
    }
}

fn snapshot_json(snapshot: &Snapshot) -> Value {
    let ledger = &snapshot.ledger;
    let outcomes = &ledger.outcomes;
    let filtered: Map<String, Value> =
        outcomes.filtered.iter().map(|(rule, count)| (rule.to_string(), (*count).into())).collect();
    let dropped: Map<String, Value> = outcomes
        .dropped
        .iter()
        .map(|(reason, count)| (reason.as_str().to_owned(), (*count).into()))
        .collect();
    let (connection, retry_at) = match &snapshot.connection {
        ConnectionState::Idle => ("idle", None),
        ConnectionState::Connecting => ("connecting", None),
        ConnectionState::Connected => ("connected", None),
        ConnectionState::Waiting { until } => ("waiting", Some(until.to_string())),
    };
    json!({
        "received": ledger.received,
        "delivered": outcomes.delivered,
        "filtered": filtered,
        "expired": outcomes.expired,
        "dropped": dropped,
        "queued": ledger.queued,
        "balanced": ledger.is_balanced(),
        "sound": ledger.is_sound(),
        "queued-bytes": snapshot.queued_bytes,
        "refusing": snapshot.is_refusing,
        "connected": snapshot.connection == ConnectionState::Connected,
        "connection": connection,
        "since": snapshot.since.to_string(),
        "retry-at": retry_at,
        "connections": snapshot.connections,
        "last-error": snapshot.last_error,
        "last-refusal": snapshot.core.last_refusal,
        "dead-letters": snapshot.core.dead_letters,
        "batches-open": snapshot.core.batches_open,
        "in-flight": snapshot.core.in_flight,
        "oldest-waiting": snapshot.core.oldest.map(|oldest| oldest.to_string()),
        "streams": snapshot.core.streams,
        "bytes-sent": snapshot.bytes_sent,
        "readings-per-second": snapshot.readings_per_second,
        "commands": snapshot.commands,
        "outcomes-waiting": snapshot.outcomes_waiting,
    })
}

fn audit_json(audit: &Audit) -> Value {
    json!({
        "sound": audit.is_sound(),
        "received": audit.snapshot.ledger.received,
        "queued": audit.queued,
        "queued-in-books": audit.snapshot.ledger.queued,
        "damaged": audit.damaged,
        "missing": i64::try_from(audit.snapshot.ledger.missing()).unwrap_or(i64::MAX),
    })
}
