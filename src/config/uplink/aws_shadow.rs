//! `[uplink.aws-iot-core.shadow]`: which values of a device shadow belong to which local topics.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use tidegate_broker::access::command_target;
use tidegate_model::Topic;
use tidegate_settings::{Issue, Issues, Node, Span, TableReader, read};
use tidegate_uplink::{ShadowError, ShadowPath, ShadowSettings, ShadowState};

/// Twenty requests a second is all that the service takes of a thing.
const INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(86_400);
const STATE_EXAMPLE: &str =
    "state = [{ path = \"press.setpoint\", topic = \"hall1/press-1/setpoint\" }]";

/// One shadow of a thing.
#[derive(Clone, Debug)]
pub struct ShadowConfig {
    thing: Option<String>,
    name: Option<String>,
    states: Vec<ShadowState>,
    interval: Duration,
    at: Span,
}

/// A key with its topic, and where both are written.
struct State {
    state: ShadowState,
    key_at: Span,
    topic_at: Span,
}

impl ShadowConfig {
    /// Returns the shadow of the thing that is named, or else has the client id for its name.
    pub(super) fn settle(
        &self,
        client_id: &str,
        issues: &mut Issues,
    ) -> Option<Arc<ShadowSettings>> {
        let thing = self.thing.as_deref().unwrap_or(client_id);
        let (states, name) = (self.states.clone(), self.name.as_deref());
        let settings = ShadowSettings::new(thing, name, states, self.interval);
        if let Err(error) = &settings {
            // All else is noted already.
            let message = format!("the client id `{client_id}` names no thing: {error}");
            issues.error(self.at, message, "add `thing`, as `aws iot list-things` shows it");
        }
        settings.ok().map(Arc::new)
    }
}

/// Reads the table.
pub(super) fn read_shadow(mut table: TableReader<'_>, issues: &mut Issues) -> Option<ShadowConfig> {
    let at = table.span();
    let (thing_at, name_at) = (table.value_span("thing"), table.value_span("name"));
    let thing = table.optional("thing", read::text, issues);
    let name = table.optional("name", read::text, issues);
    let interval = table.optional_or(
        "interval",
        ShadowSettings::INTERVAL_DEFAULT,
        read::duration_within(INTERVALS),
        issues,
    );
    let (states_at, given) = (table.value_span("state"), table.has("state"));
    let mut is_whole = true;
    let read = |table: TableReader<'_>, issues: &mut Issues| {
        let state = read_state(table, issues);
        is_whole &= state.is_some();
        state
    };
    let states = table.tables("state", read, issues);
    table.finish(issues);
    if !given {
        let issue = Issue::error(at, "nothing says what is desired and reported");
        issues.push(issue.with_hint(format!("add `{STATE_EXAMPLE}`")));
        return None;
    }
    let plain = states.iter().map(|state| state.state.clone()).collect();
    let tried = thing.as_deref().unwrap_or("thing");
    let settings = ShadowSettings::new(tried, name.as_deref(), plain, interval);
    let note = |at: Span, error: ShadowError, hint: &str, issues: &mut Issues| {
        issues.error(at, error.to_string(), hint);
    };
    match settings.as_ref().map_err(|error| *error) {
        Ok(_) => {}
        Err(error @ ShadowError::Thing) => {
            note(thing_at, error, "as `aws iot list-things` shows it", issues);
        }
        Err(error @ ShadowError::Name) => {
            note(name_at, error, "remove it for the classic shadow", issues);
        }
        Err(error @ ShadowError::States) if is_whole => {
            note(states_at, error, "more of them go into another shadow", issues);
        }
        Err(ShadowError::States) => {}
        Err(error @ ShadowError::Key(at)) => {
            let hint = "each value has a place of its own";
            note(states[at].key_at, error, hint, issues);
        }
        Err(error @ ShadowError::Topic(at)) => {
            let hint = "each value has a topic of its own";
            note(states[at].topic_at, error, hint, issues);
        }
    }
    if settings.is_err() || !is_whole {
        return None;
    }
    let states = states.into_iter().map(|state| state.state).collect();
    Some(ShadowConfig { thing, name, states, interval, at })
}

fn read_state(mut table: TableReader<'_>, issues: &mut Issues) -> Option<State> {
    let (key_at, topic_at) = (table.value_span("path"), table.value_span("topic"));
    let hint = "write it like \"press.setpoint\": dots lead into objects";
    let parse = read::parsed("a path in a shadow", hint, ShadowPath::new);
    let key = table.required_like("path", "path = \"press.setpoint\"", parse, issues);
    let example = "topic = \"hall1/press-1/setpoint\"";
    let topic = table.required_like("topic", example, read_topic, issues);
    table.finish(issues);
    let state = ShadowState { key: key?, topic: topic? };
    Some(State { state, key_at, topic_at })
}

/// Reads the local topic of a point.
fn read_topic(node: &Node, issues: &mut Issues) -> Option<Topic> {
    let hint = "the topic of one point, such as \"hall1/press-1/setpoint\"";
    let topic = read::parsed("a topic", hint, Topic::new)(node, issues)?;
    if topic.is_dollar() || command_target(&topic).is_some() {
        let message = format!("`{topic}` is not the topic of a point");
        issues.error(node.span, message, "leave out `/set` or `/call`, which are added, and `$`");
        return None;
    }
    Some(topic)
}
