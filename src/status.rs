//! How the gateway is: one snapshot for the control socket, `/metrics` and the health checks.

mod broker;

use std::{
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tidegate_adapter_api::{Counters, Health};
use tidegate_broker::access::Management;
use tidegate_model::Principal;
use tidegate_uplink::ShadowView;

use crate::{
    broker::{Accounts, BrokerHandle, ListenerCounters},
    clock::Clock,
    config::Durability,
    expiry::ShownCertificate,
    ingest::Ingest,
    listening::Listening,
    store::{Admission, StoreStatus},
    supervise::Conditions,
    time_trust::TimeTrust,
    uplink::{ConnectionState, Snapshot, UplinkHandle},
};

/// Tells how the journal is.
pub type StoreTeller = Box<dyn Fn() -> StoreStatus + Send + Sync>;

/// Everything that can be asked how it is.
pub struct Status {
    /// The id of the gateway.
    pub gateway: String,
    /// The clocks.
    pub clock: Clock,
    /// When a message counts as safe.
    pub durability: Durability,
    /// Tells how the journal is.
    pub store: StoreTeller,
    /// The broker core.
    pub broker: BrokerHandle,
    /// What came in.
    pub ingest: Ingest,
    /// Who may log in.
    pub accounts: Arc<Accounts>,
    /// The MQTT listeners, if there are any.
    pub mqtt: Option<Arc<ListenerCounters>>,
    /// Who knows whether the wall clock is right.
    pub time: TimeTrust,
    /// The uplinks, by name.
    pub uplinks: Vec<UplinkHandle>,
    /// The counters of the adapters, by name.
    pub adapters: Vec<(String, Counters)>,
    /// Which supervised parts are running.
    pub conditions: Conditions,
    /// Where it listens.
    pub listening: Vec<Listening>,
    /// The certificates that the gateway shows.
    pub certificates: Mutex<Vec<ShownCertificate>>,
    /// Why the last change of the mapping files was not applied, if it was not.
    pub mapping_error: Mutex<Option<String>>,
    /// Which load of the mappings is in force.
    pub mapping_generation: Mutex<u64>,
    /// Which pushed set is in force, if sets can be pushed.
    pub push: Mutex<Value>,
    /// Why the gateway is not ready, if it is not.
    pub not_ready: Mutex<Option<String>>,
}

impl Status {
    /// Returns the same with what a walk through the journal counts.
    pub async fn audit(&self) -> Value {
        let mut status = self.to_json();
        for uplink in &self.uplinks {
            let name = uplink.name().as_str();
            let audited = match uplink.audit().await {
                Ok(audit) => {
                    let counted = json!({ "queued": audit.queued, "damaged": audit.damaged, "agrees": audit.is_sound() });
                    // The books at the moment of the count, so that both speak of the same.
                    status["uplinks"][name] = uplink_json(&audit.snapshot);
                    counted
                }
                Err(error) => json!({ "error": error.to_string(), "agrees": false }),
            };
            status["uplinks"][name]["audit"] = audited;
        }
        status
    }

    /// Returns one snapshot of everything, as `tidegate status --json` prints it.
    pub fn to_json(&self) -> Value {
        let uplinks: Map<String, Value> = self
            .uplinks
            .iter()
            .map(|uplink| (uplink.name().to_string(), uplink_json(&uplink.snapshot())))
            .collect();
        let adapters: Map<String, Value> = self
            .adapters
            .iter()
            .map(|(name, counters)| (name.clone(), counters_json(counters)))
            .collect();
        json!({
            "gateway": self.gateway,
            "version": env!("CARGO_PKG_VERSION"),
            "ready": self.not_ready.lock().is_none(),
            "not-ready-because": *self.not_ready.lock(),
            "uptime-seconds": self.clock.uptime().as_secs(),
            "clock": self.time.to_json(),
            "durability": durability(self.durability),
            "uplinks": uplinks,
            "not-admitted": self.not_admitted(),
            "left-out": self.ingest.left_out(),
            "mapping": {
                "generation": *self.mapping_generation.lock(),
                "error": *self.mapping_error.lock(),
                "faults": self.ingest.faults(),
            },
            "push": *self.push.lock(),
            "listeners": self.listening.iter().map(Listening::to_json).collect::<Vec<_>>(),
            "certificates": self.certificates_json(),
            "broker": broker::to_json(&self.broker, self.mqtt.as_deref()),
            "memory": self.broker.ceiling().to_json(),
            "logins": self.accounts.to_json(),
            "jwt": self.issuers_json(),
            "store": store_json(&(self.store)()),
            "adapters": adapters,
            "parts": self.conditions.to_json(),
        })
    }

    fn issuers_json(&self) -> Map<String, Value> {
        let issuers = self.accounts.issuers();
        issuers.iter().map(|issuer| (issuer.name.clone(), issuer.keys.to_json())).collect()
    }

    /// Says which certificates end soon.
    pub fn warn_of_certificates(&self) {
        let now = self.clock.wall();
        for certificate in self.certificates.lock().iter() {
            certificate.warn(now);
        }
    }

    fn certificates_json(&self) -> Vec<Value> {
        let now = self.clock.wall();
        self.certificates.lock().iter().map(|certificate| certificate.to_json(now)).collect()
    }

    /// What was lost before the append, by reason: outside the equation of the ledger.
    fn not_admitted(&self) -> Map<String, Value> {
        let mut reasons: Map<String, Value> = self
            .ingest
            .not_admitted()
            .into_iter()
            .map(|(reason, count)| (reason.into(), count.into()))
            .collect();
        let unconfirmed = self.broker.core().counters().not_admitted;
        if unconfirmed > 0 {
            reasons.insert("qos-0".into(), unconfirmed.into());
        }
        reasons
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Status").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

fn uplink_json(uplink: &Snapshot) -> Value {
    let outcomes = &uplink.ledger.outcomes;
    let filtered: Map<String, Value> =
        outcomes.filtered.iter().map(|(rule, count)| (rule.to_string(), (*count).into())).collect();
    let dropped: Map<String, Value> = outcomes
        .dropped
        .iter()
        .map(|(reason, count)| (reason.to_string(), (*count).into()))
        .collect();
    let made: Map<String, Value> =
        outcomes.made.iter().map(|(rule, count)| (rule.to_string(), (*count).into())).collect();
    json!({
        "received": uplink.ledger.received,
        "made": made,
        "delivered": outcomes.delivered,
        "filtered": filtered,
        "expired": outcomes.expired,
        "dropped": dropped,
        "queued": uplink.ledger.queued,
        "held": uplink.ledger.held,
        "unreadable": uplink.ledger.unreadable,
        "balanced": uplink.ledger.is_sound(),
        "queued-bytes": uplink.queued_bytes,
        "spilled": {
            "files": uplink.spilled.files,
            "records": uplink.spilled.records,
            "bytes": uplink.spilled.bytes,
        },
        "refusing": uplink.is_refusing,
        "takes": uplink.takes,
        "connected": uplink.connection == ConnectionState::Connected,
        "connection": connection(&uplink.connection),
        "endpoint": uplink.endpoint,
        "since": uplink.since.to_string(),
        "error": uplink.last_error,
        "connections": uplink.connections,
        "batches-open": uplink.core.batches_open,
        "in-flight": uplink.core.in_flight,
        "oldest": uplink.core.oldest.map(|oldest| oldest.to_string()),
        "streams": uplink.core.streams,
        "dead-letters": uplink.core.dead_letters,
        "last-refusal": uplink.core.last_refusal,
        "bytes-sent": uplink.bytes_sent,
        "readings-per-second": uplink.readings_per_second,
        "commands": uplink.commands,
        "refused-late": uplink.refused_late,
        "commands-refused": uplink.commands_refused,
        "in": { "published": uplink.bridged.published, "refused": uplink.bridged.refused },
        "outcomes-waiting": uplink.outcomes_waiting,
        "shadow": uplink.shadow.as_ref().map(shadow_json),
    })
}

fn shadow_json(shadow: &ShadowView) -> Value {
    let counts = &shadow.counts;
    json!({
        "in-step": shadow.is_in_step,
        "version": shadow.version,
        "waiting": shadow.waiting,
        "left-out": shadow.left_out,
        "commands": counts.commands,
        "reported": counts.reported,
        "refused": counts.refused,
        "ignored": counts.ignored,
        "unanswered": counts.unanswered,
    })
}

fn connection(state: &ConnectionState) -> String {
    match state {
        ConnectionState::Idle => "idle".into(),
        ConnectionState::Connecting => "connecting".into(),
        ConnectionState::Connected => "connected".into(),
        ConnectionState::Waiting { until } => format!("waiting until {until}"),
    }
}

fn store_json(store: &StoreStatus) -> Value {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    json!({
        "accepting": store.admission == Admission::Accepting,
        "segments": store.segments,
        "journal-bytes": store.journal_bytes,
        "free-bytes": store.free_bytes,
        "reserve-bytes": store.reserve_bytes,
        "waiting-bytes": store.waiting_bytes,
        "oldest-unsynced-micros": store.oldest_unsynced.map_or(0, micros),
        "sync-last-micros": micros(store.sync_last),
        "sync-p50-micros": micros(store.sync_p50),
        "sync-p99-micros": micros(store.sync_p99),
        "quarantined-bytes": store.quarantined_bytes,
        "damages": store.damages,
        "commits": store.counters.commits,
        "written-bytes": store.counters.bytes_written,
        "spilled-bytes": store.spilled_bytes,
        "flash": {
            "written-bytes": store.written.total,
            "per-day-bytes": store.written.per_day,
            "endurance-bytes": store.endurance,
            "endurance-years": years_of(store.endurance, store.written.per_day),
        },
        "checkpoint-bytes": store.counters.checkpoint_bytes,
    })
}

/// Returns how long a medium bears what is written to it in a day.
#[expect(clippy::cast_precision_loss, reason = "a forecast for people")]
fn years_of(endurance: Option<u64>, per_day: Option<u64>) -> Option<f64> {
    let (endurance, per_day) = (endurance? as f64, per_day?.max(1) as f64);
    Some((endurance / per_day / 365.25 * 10.0).round() / 10.0)
}

fn counters_json(counters: &Counters) -> Value {
    let mut by_name: Map<String, Value> = Map::new();
    for sample in counters.samples() {
        let reasons = by_name.entry(sample.name).or_insert_with(|| json!({}));
        if let Value::Object(reasons) = reasons {
            reasons.insert(sample.reason.into(), sample.value.into());
        }
    }
    by_name.into()
}

fn durability_word(durability: Durability) -> &'static str {
    match durability {
        Durability::Ack => "ack",
        Durability::Interval(_) => "interval",
        Durability::Memory => "memory",
    }
}

fn durability(durability: Durability) -> String {
    let word = durability_word(durability);
    match durability {
        Durability::Interval(interval) => format!("{word} {} ms", interval.as_millis()),
        Durability::Ack | Durability::Memory => word.into(),
    }
}

impl Health for Status {
    fn not_ready(&self) -> Option<String> {
        self.not_ready.lock().clone()
    }

    fn status(&self, manager: &Principal) -> Option<String> {
        let rights = self.ingest.rights(manager);
        rights.may_manage(Management::Read).then(|| self.to_json().to_string())
    }

    fn metrics(&self) -> String {
        let mut text = String::with_capacity(4_096);
        let status = self.to_json();
        gauge(&mut text, "tidegate_uptime_seconds", &status["uptime-seconds"]);
        gauge(&mut text, "tidegate_clock_trusted", &u8::from(self.time.is_trusted()).into());
        for uplink in &self.uplinks {
            uplink_metrics(&mut text, uplink.name().as_str(), &uplink_json(&uplink.snapshot()));
        }
        by_reason(&mut text, "tidegate_not_admitted_total", "reason", &status["not-admitted"]);
        by_reason(&mut text, "tidegate_left_out_total", "reason", &status["left-out"]);
        by_reason(
            &mut text,
            "tidegate_mapping_faults_total",
            "reason",
            &status["mapping"]["faults"],
        );
        broker::metrics(&mut text, &status["broker"]);
        memory_metrics(&mut text, &status["memory"]);
        let mode = [("mode", durability_word(self.durability))];
        line(&mut text, "tidegate_store_durability", &mode, &1.into());
        if let Value::Object(store) = &status["store"] {
            for (key, value) in store.iter().filter(|(_, value)| value.is_number()) {
                gauge(&mut text, &format!("tidegate_store_{}", key.replace('-', "_")), value);
            }
            let flash = store["flash"].as_object().into_iter().flatten();
            for (key, value) in flash.filter(|(_, value)| value.is_number()) {
                gauge(&mut text, &format!("tidegate_flash_{}", key.replace('-', "_")), value);
            }
        }
        for (part, condition) in status["parts"].as_object().into_iter().flatten() {
            let labels = [("part", part.as_str())];
            line(&mut text, "tidegate_part_restarts_total", &labels, &condition["restarts"]);
            line(&mut text, "tidegate_part_panics_total", &labels, &condition["panics"]);
        }
        login_metrics(&mut text, &self.accounts);
        for (adapter, counters) in &self.adapters {
            for sample in counters.samples() {
                let name = format!("tidegate_{}_total", sample.name);
                line(
                    &mut text,
                    &name,
                    &[("adapter", adapter), ("reason", sample.reason)],
                    &sample.value.into(),
                );
            }
        }
        text.push_str("# EOF\n");
        text
    }
}

fn memory_metrics(text: &mut String, memory: &Value) {
    gauge(text, "tidegate_memory_resident_bytes", &memory["resident-bytes"]);
    gauge(text, "tidegate_memory_ceiling_bytes", &memory["ceiling-bytes"]);
    by_reason(text, "tidegate_memory_refused_total", "what", &memory["refused"]);
}

fn login_metrics(text: &mut String, accounts: &Accounts) {
    for sample in accounts.samples() {
        let name = format!("tidegate_{}_total", sample.name);
        line(text, &name, &[("reason", sample.reason)], &sample.value.into());
    }
    for issuer in accounts.issuers().iter() {
        let labels = [("issuer", issuer.name.as_str())];
        let (keys, failures) = (issuer.keys.current().len(), issuer.keys.failures());
        line(text, "tidegate_jwt_keys", &labels, &keys.into());
        line(text, "tidegate_jwt_fetch_failures_total", &labels, &failures.into());
    }
}

fn shadow_metrics(text: &mut String, name: &str, shadow: &Value) {
    let labels = [("uplink", name)];
    for key in ["commands", "reported", "unanswered"] {
        line(text, &format!("tidegate_uplink_shadow_{key}_total"), &labels, &shadow[key]);
    }
    for key in ["refused", "ignored"] {
        for (reason, count) in shadow[key].as_object().into_iter().flatten() {
            let labels = [("uplink", name), ("reason", reason)];
            line(text, &format!("tidegate_uplink_shadow_{key}_total"), &labels, count);
        }
    }
    let in_step = u8::from(shadow["in-step"] == true).into();
    line(text, "tidegate_uplink_shadow_in_step", &labels, &in_step);
}

fn uplink_metrics(text: &mut String, name: &str, uplink: &Value) {
    let labels = [("uplink", name)];
    for key in ["received", "delivered", "expired"] {
        line(text, &format!("tidegate_uplink_{key}_total"), &labels, &uplink[key]);
    }
    line(text, "tidegate_uplink_refused_late_total", &labels, &uplink["refused-late"]);
    let refused = &uplink["commands-refused"];
    line(text, "tidegate_uplink_commands_refused_total", &labels, refused);
    if uplink["shadow"].is_object() {
        shadow_metrics(text, name, &uplink["shadow"]);
    }
    line(text, "tidegate_uplink_queued", &labels, &uplink["queued"]);
    line(text, "tidegate_uplink_spilled_bytes", &labels, &uplink["spilled"]["bytes"]);
    line(text, "tidegate_uplink_held", &labels, &uplink["held"]);
    line(text, "tidegate_uplink_unreadable", &labels, &uplink["unreadable"]);
    for (key, label) in [("made", "rule"), ("filtered", "rule"), ("dropped", "reason")] {
        if let Value::Object(counts) = &uplink[key] {
            for (value, count) in counts {
                line(
                    text,
                    &format!("tidegate_uplink_{key}_total"),
                    &[("uplink", name), (label, value)],
                    count,
                );
            }
        }
    }
    let flag = |key: &str| Value::from(u8::from(uplink[key] == Value::Bool(true)));
    line(text, "tidegate_uplink_connected", &labels, &flag("connected"));
    line(text, "tidegate_uplink_balanced", &labels, &flag("balanced"));
}

fn gauge(text: &mut String, name: &str, value: &Value) {
    line(text, name, &[], value);
}

fn counter(text: &mut String, name: &str, value: &Value) {
    line(text, name, &[], value);
}

fn by_reason(text: &mut String, name: &str, label: &str, counts: &Value) {
    if let Value::Object(counts) = counts {
        for (reason, count) in counts {
            line(text, name, &[(label, reason)], count);
        }
    }
}

/// Appends one sample of the OpenMetrics text format, section "Text format".
fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: &Value) {
    if !value.is_number() {
        return;
    }
    text.push_str(name);
    for (index, (label, value)) in labels.iter().enumerate() {
        text.push(if index == 0 { '{' } else { ',' });
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write!(text, "{label}=\"{value}\"").expect("a String takes everything");
    }
    if !labels.is_empty() {
        text.push('}');
    }
    writeln!(text, " {value}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut text = String::new();
        line(&mut text, "a_total", &[("rule", "x\"y\\z\n")], &3.into());
        assert_eq!(text, "a_total{rule=\"x\\\"y\\\\z\\n\"} 3\n");
    }
}
