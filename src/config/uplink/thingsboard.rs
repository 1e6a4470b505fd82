//! `[uplink.thingsboard]`: what the devices of a gateway of ThingsBoard are.

use std::sync::Arc;

use tidegate_settings::{Issue, Issues, Node, TableReader, read};
use tidegate_uplink::thingsboard::{BoardKind, BoardNamingError, BoardRule, BoardSettings};

use crate::config::context::Context;
use crate::config::secret::{self, Secret};

/// A gateway of ThingsBoard.
#[derive(Clone, Debug)]
pub struct ThingsBoardConfig {
    /// What its devices are.
    pub settings: Arc<BoardSettings>,
    /// What it logs in with, if not with what the uplink has.
    pub access_token: Option<Secret>,
}

/// The key of the table.
const KEY: &str = "thingsboard";
const TYPE_DEFAULT: &str = "default";
const PATTERN_HINT: &str = "such as \"hall1/{press}/{metric}\": a capture stands for one level";
const NAME_HINT: &str = "captures of `topics` stand in braces, such as \"{press}\"";

/// Keys of other uplinks that have no place here, and what to do about them.
const NOT_WANTED: [(&str, &str, &str); 6] = [
    ("topic", "the format \"thingsboard\" has topics of its own", "remove `topic`"),
    (
        "commands",
        "the format \"thingsboard\" has topics of its own for commands",
        "write `commands = true` in `[uplink.thingsboard]`",
    ),
    ("results", "ThingsBoard has outcomes as answers of calls", "remove `results`"),
    ("compress", "ThingsBoard does not know compression", "remove `compress`"),
    ("version", "the format \"thingsboard\" is spoken over MQTT 3.1.1", "remove `version`"),
    (
        "via",
        "a gateway of ThingsBoard has a connection of its own",
        "write `url` in place of `via`",
    ),
];

/// Reads the table of an uplink of this format; notes it in one of another.
pub(super) fn read_thingsboard(
    table: &mut TableReader<'_>,
    is_wanted: bool,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<ThingsBoardConfig> {
    if !is_wanted {
        let hint = "add `format = \"thingsboard\"`, or remove the table";
        table.refuse(KEY, "`thingsboard` is for uplinks of that format", hint, issues);
        return None;
    }
    for (key, message, hint) in NOT_WANTED {
        table.refuse(key, message, hint, issues);
    }
    let has_login = table.has("username") || table.has("cert");
    let read = |table: TableReader<'_>, issues: &mut Issues| {
        read_gateway(table, has_login, context, issues)
    };
    let example = "thingsboard = { access-token = { credential = \"thingsboard\" } }";
    table.required_table(KEY, example, read, issues)
}

fn read_gateway(
    mut table: TableReader<'_>,
    has_login: bool,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<ThingsBoardConfig> {
    let token_at = table.key_span("access-token");
    let secret = |node: &Node, issues: &mut Issues| secret::read(node, context, issues);
    let access_token = table.optional("access-token", secret, issues);
    match (token_at, has_login) {
        (Some(at), true) => {
            let message = "the uplink has a login already";
            issues.error(at, message, "remove it, or `username`, or `cert` and `key`");
        }
        (None, false) => {
            let issue = Issue::error(table.span(), "nothing says how to log in at ThingsBoard");
            let hint = "add `access-token = { credential = \"…\" }`, or `username` or `cert` to the uplink";
            issues.push(issue.with_hint(hint));
        }
        _ => {}
    }
    let device_type = table.optional("type", read::text, issues);
    let quality = table.optional_or("quality", true, read::boolean, issues);
    let commands = table.optional_or("commands", false, read::boolean, issues);
    let rules = table.tables("device", read_device, issues);
    table.finish(issues);
    if token_at.is_some() && access_token.is_none() {
        return None;
    }
    let device_type = device_type.unwrap_or_else(|| TYPE_DEFAULT.to_owned());
    let settings = Arc::new(BoardSettings { rules, device_type, quality, commands });
    Some(ThingsBoardConfig { settings, access_token })
}

/// Reads one `[[uplink.thingsboard.device]]`.
fn read_device(mut table: TableReader<'_>, issues: &mut Issues) -> Option<BoardRule> {
    fn text<'a>(node: &'a Node, issues: &mut Issues) -> Option<(&'a Node, &'a str)> {
        read::string(node, issues).map(|text| (node, text))
    }
    let example = "topics = \"hall1/{press}/{metric}\"";
    let topics = table.required_like("topics", example, text, issues);
    let device = table.required_like("device", "device = \"{press}\"", text, issues);
    let key = table.required_like("metric", "metric = \"{metric}\"", text, issues);
    let words = [("telemetry", BoardKind::Telemetry), ("attribute", BoardKind::Attribute)];
    let kind = table.optional_or("as", BoardKind::default(), read::word(&words), issues);
    table.finish(issues);
    let (topics_at, topics) = topics?;
    if let Err(error) = BoardRule::check_pattern(topics) {
        note(topics_at, &error, PATTERN_HINT, issues);
        return None;
    }
    // Each text is tried with a right one in the place of the other, so that every fault is told.
    for (at, rule) in [
        (
            device.map(|it| it.0),
            device.map(|(_, device)| BoardRule::new(topics, device, "k", kind)),
        ),
        (key.map(|it| it.0), key.map(|(_, key)| BoardRule::new(topics, "d", key, kind))),
    ] {
        if let (Some(at), Some(Err(error))) = (at, rule) {
            note(at, &error, NAME_HINT, issues);
        }
    }
    BoardRule::new(topics, device?.1, key?.1, kind).ok()
}

fn note(node: &Node, error: &BoardNamingError, hint: &str, issues: &mut Issues) {
    let text = node.as_str().unwrap_or_default();
    issues.error(node.span, format!("`{text}` cannot be used: {error}"), hint);
}
