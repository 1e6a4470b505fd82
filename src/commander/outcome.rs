//! Telling what became of a command: locally, to the cloud, and to a response topic.

use tidegate_model::{CommandId, CommandOutcome, Properties, Timestamp, json};
use tidegate_store::Transaction;

use super::{CommandOrder, CommandOrigin, desk::Desk};
use crate::{push::Action, store::Completion};

/// Publishes an outcome wherever it is awaited, and stores `record` with it: for a cloud in the same write
/// as the outcome, so that neither is lost without the other.
pub(super) fn tell(
    desk: &Desk,
    order: &CommandOrder,
    id: Option<&CommandId>,
    outcome: &CommandOutcome,
    record: Transaction,
) {
    let now = desk.broker.clock().wall();
    let body = outcome_json(id, outcome, now);
    let json =
        || Properties { content_type: Some("application/json".into()), ..Properties::default() };
    // What is pushed is nobody's business here.
    if !Action::is_meant_by(order.target())
        && let Ok(topic) = order.target().join(&format!("{}/result", order.suffix()))
    {
        desk.publish(topic, body.clone(), Some(json()), order.principal(), now);
    }
    match order.origin() {
        CommandOrigin::Local { response } => {
            if let Some((topic, correlation)) = response {
                let properties = Properties { correlation_data: correlation.clone(), ..json() };
                desk.publish(topic.clone(), body, Some(properties), order.principal(), now);
            }
        }
        CommandOrigin::Cloud { uplink, reply_to, .. } => {
            if let Some(sender) = desk.uplinks.get(&**uplink) {
                return sender.send(order.target(), reply_to.as_ref(), body, record);
            }
        }
    }
    if !record.is_empty() {
        desk.broker.store().submit(record, Completion::None);
    }
}

/// Returns the body of an outcome: `{"id":…,"outcome":…,"reason":…,"status":…,"value":…,"time":…}`.
pub fn outcome_json(id: Option<&CommandId>, outcome: &CommandOutcome, now: Timestamp) -> Vec<u8> {
    let mut body = Vec::with_capacity(128);
    body.push(b'{');
    if let Some(id) = id {
        body.extend_from_slice(b"\"id\":");
        json::write_string(id.as_str(), &mut body);
        body.push(b',');
    }
    body.extend_from_slice(b"\"outcome\":");
    json::write_string(outcome.kind.as_str(), &mut body);
    if let Some(reason) = &outcome.reason {
        body.extend_from_slice(b",\"reason\":");
        json::write_string(reason, &mut body);
    }
    if let Some(status) = outcome.status {
        body.extend_from_slice(format!(",\"status\":{}", status.code()).as_bytes());
    }
    if let Some(value) = &outcome.value {
        body.extend_from_slice(b",\"value\":");
        json::write_value(value, &mut body);
    }
    body.extend_from_slice(b",\"time\":\"");
    now.write_rfc3339(&mut body);
    body.extend_from_slice(b"\"}");
    body
}
