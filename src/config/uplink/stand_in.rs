//! `[uplink.stand-in]`: the uplink that takes what comes in while another has no connection.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_model::{TopicFilter, UplinkName};
use tidegate_settings::{Issues, TableReader, read};

use super::{LinkConfig, UplinkConfig, astarte};

/// For whom an uplink stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandInConfig {
    /// The uplink whose topics it takes meanwhile.
    pub name: UplinkName,
    /// So long that one has no connection before it steps in.
    pub after: Duration,
    /// So long that one has a connection before it steps back.
    pub back_after: Duration,
}

/// What an uplink may refer to: those that stand above it.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Above {
    /// Those that have a connection which others may share, by name.
    pub(super) carriers: BTreeMap<String, LinkConfig>,
    /// Those that may have a stand-in, with their topics, by name.
    stood_in: BTreeMap<String, Vec<TopicFilter>>,
}

impl Above {
    /// Takes an uplink that was read.
    pub(in crate::config) fn note(&mut self, uplink: &UplinkConfig) {
        if uplink.via.is_none() && !uplink.format.is_dialect() {
            self.carriers.insert(uplink.name.to_string(), uplink.link.clone());
        }
        match &uplink.stand_in {
            // One is enough, and it has none itself.
            Some(stand_in) => drop(self.stood_in.remove(stand_in.name.as_str())),
            None => drop(self.stood_in.insert(uplink.name.to_string(), uplink.topics.clone())),
        }
    }
}

const AFTER_DEFAULT: Duration = Duration::from_secs(60);
const BACK_AFTER_DEFAULT: Duration = Duration::from_secs(300);

/// Reads `stand-in`, and the topics of the uplink it is for.
pub(super) fn read(
    table: &mut TableReader<'_>,
    above: &Above,
    via: Option<&UplinkName>,
    issues: &mut Issues,
) -> Option<(StandInConfig, Vec<TopicFilter>)> {
    let at = table.key_span("stand-in")?;
    if astarte::is_asked_for(table) {
        let message = "a device of Astarte has topics of its own, and stands in for nobody";
        table.refuse("stand-in", message, "remove the table, or write another `format`", issues);
        return None;
    }
    let message = "a stand-in takes the topics of the uplink that it stands in for";
    table.refuse("topics", message, "remove `topics`, or `stand-in`", issues);
    let stand_in = table.table("stand-in", read_table, issues)?;
    if via == Some(&stand_in.name) {
        let hint = "give it a connection of its own, or that of another";
        issues.error(at, "a stand-in cannot go by the connection that is away", hint);
    }
    let Some(topics) = above.stood_in.get(stand_in.name.as_str()) else {
        let message =
            format!("no uplink above has the name `{}` and may have a stand-in", stand_in.name);
        issues.error(
            at,
            message,
            "name one that stands before this one, is none itself and has none yet",
        );
        return None;
    };
    Some((stand_in, topics.clone()))
}

/// Reads the table itself.
fn read_table(mut table: TableReader<'_>, issues: &mut Issues) -> Option<StandInConfig> {
    let hint = "the name of an uplink that stands above";
    let parse_name = read::parsed("an uplink's name", hint, UplinkName::new);
    let name = table.required_like("for", "for = \"cloud\"", parse_name, issues);
    let times = read::duration_within(Duration::from_secs(1)..=Duration::from_secs(86_400));
    let after = table.optional_or("after", AFTER_DEFAULT, &times, issues);
    let back_after = table.optional_or("back-after", BACK_AFTER_DEFAULT, &times, issues);
    table.finish(issues);
    Some(StandInConfig { name: name?, after, back_after })
}
