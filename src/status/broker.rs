//! What status and metrics say of the broker.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Map, Value, json};
use tidegate_broker::SessionQueue;

use super::{by_reason, counter, gauge};
use crate::broker::{BrokerHandle, ListenerCounters};

/// Sessions that are shown with what waits for them.
const SESSIONS_SHOWN: usize = 20;

pub(super) fn to_json(broker: &BrokerHandle, listener: Option<&ListenerCounters>) -> Value {
    let core = broker.core();
    let (summary, counters) = (core.summary(), core.counters().clone());
    let sessions = core.longest_queues(SESSIONS_SHOWN);
    let denials: Map<String, Value> = core
        .denials()
        .iter()
        .map(|(principal, count)| (principal.as_str().into(), (*count).into()))
        .collect();
    drop(core);
    let dropped: Map<String, Value> = counters
        .dropped()
        .into_iter()
        .map(|(reason, count)| (reason.into(), count.into()))
        .collect();
    let mut all = json!({
        "sessions": summary.sessions,
        "sessions-persistent": summary.persistent,
        "connected": summary.connected,
        "subscriptions": summary.subscriptions,
        "subscriptions-shared": summary.shared_subscriptions,
        "shared-groups": summary.shared_groups,
        "queued": summary.queued,
        "queued-bytes": summary.queued_bytes,
        "in-flight": summary.in_flight,
        "longest-queues": sessions.iter().map(session_json).collect::<Vec<_>>(),
        "retained": summary.retained,
        "retained-bytes": summary.retained_bytes,
        "received": counters.received,
        "delivered": counters.delivered,
        "expired": counters.expired,
        "sessions-refused": counters.sessions_refused,
        "takeovers-refused": counters.takeovers_refused,
        "subscriptions-refused": counters.subscriptions_refused,
        "retained-refused": counters.retained_refused,
        "wills-dropped": counters.wills_dropped,
        "denied": denials,
        "passed-on": counters.passed_on,
        "passed-on-bytes": counters.passed_on_bytes,
        "carried-forward": counters.carried_records,
        "carried-forward-bytes": counters.carried_bytes,
        "dropped": dropped,
        "limit-refusals": limit_refusals(listener),
    });
    for (key, value) in connections(listener) {
        all[key] = value.into();
    }
    all
}

fn connections(listener: Option<&ListenerCounters>) -> [(&'static str, u64); 10] {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let of = |read: fn(&ListenerCounters) -> u64| listener.map_or(0, read);
    [
        ("connections", listener.map_or(0, |listener| count(listener.open.load(Relaxed)))),
        (
            "connections-opening",
            listener.map_or(0, |listener| count(listener.opening.load(Relaxed))),
        ),
        ("connections-accepted", of(|listener| listener.accepted.load(Relaxed))),
        ("connections-refused", of(|listener| listener.refused.load(Relaxed))),
        ("connections-panicked", of(|listener| listener.panics.load(Relaxed))),
        ("handshake-failures", of(|listener| listener.handshake_failures.load(Relaxed))),
        ("protocol-errors", of(|listener| listener.protocol_errors.load(Relaxed))),
        ("login-failures", of(|listener| listener.login_failures.load(Relaxed))),
        ("bytes-received", of(|listener| listener.bytes_received.load(Relaxed))),
        ("bytes-sent", of(|listener| listener.bytes_sent.load(Relaxed))),
    ]
}

/// Returns the refusals by the key of the limit.
fn limit_refusals(listener: Option<&ListenerCounters>) -> Map<String, Value> {
    let samples = listener.into_iter().flat_map(|listener| listener.limits.samples());
    samples.map(|(key, count)| (key.into(), count.into())).collect()
}

fn session_json(session: &SessionQueue) -> Value {
    json!({
        "client-id": session.client_id.as_str(),
        "principal": session.principal.as_str(),
        "connected": session.is_connected,
        "queued": session.queued,
        "queued-bytes": session.queued_bytes,
        "in-flight": session.in_flight,
        "dropped": session.dropped,
    })
}

/// Appends the samples of what [`to_json`] has returned; clients are not among the labels.
pub(super) fn metrics(text: &mut String, broker: &Value) {
    for (key, name) in [
        ("connections", "tidegate_mqtt_connections"),
        ("sessions", "tidegate_mqtt_sessions"),
        ("sessions-persistent", "tidegate_mqtt_sessions_persistent"),
        ("connected", "tidegate_mqtt_sessions_connected"),
        ("subscriptions", "tidegate_mqtt_subscriptions"),
        ("subscriptions-shared", "tidegate_mqtt_subscriptions_shared"),
        ("shared-groups", "tidegate_mqtt_shared_groups"),
        ("queued", "tidegate_mqtt_queued_messages"),
        ("queued-bytes", "tidegate_mqtt_queued_bytes"),
        ("in-flight", "tidegate_mqtt_in_flight_messages"),
        ("retained", "tidegate_mqtt_retained_messages"),
        ("retained-bytes", "tidegate_mqtt_retained_bytes"),
    ] {
        gauge(text, name, &broker[key]);
    }
    for (key, name) in [
        ("connections-accepted", "tidegate_mqtt_connections_accepted_total"),
        ("connections-refused", "tidegate_mqtt_connections_refused_total"),
        ("connections-panicked", "tidegate_mqtt_connections_panicked_total"),
        ("protocol-errors", "tidegate_mqtt_protocol_errors_total"),
        ("login-failures", "tidegate_mqtt_login_failures_total"),
        ("bytes-received", "tidegate_mqtt_bytes_received_total"),
        ("bytes-sent", "tidegate_mqtt_bytes_sent_total"),
        ("received", "tidegate_messages_received_total"),
        ("delivered", "tidegate_messages_delivered_total"),
        ("expired", "tidegate_messages_expired_total"),
        ("sessions-refused", "tidegate_mqtt_sessions_refused_total"),
        ("takeovers-refused", "tidegate_mqtt_takeovers_refused_total"),
        ("subscriptions-refused", "tidegate_mqtt_subscriptions_refused_total"),
        ("retained-refused", "tidegate_retained_refused_total"),
        ("wills-dropped", "tidegate_wills_dropped_total"),
        ("passed-on", "tidegate_messages_passed_on_total"),
        ("carried-forward", "tidegate_carried_forward_total"),
        ("carried-forward-bytes", "tidegate_carried_forward_bytes_total"),
    ] {
        counter(text, name, &broker[key]);
    }
    by_reason(text, "tidegate_messages_dropped_total", "reason", &broker["dropped"]);
    by_reason(text, "tidegate_denied_total", "principal", &broker["denied"]);
    by_reason(text, "tidegate_mqtt_limit_refusals_total", "limit", &broker["limit-refusals"]);
}
