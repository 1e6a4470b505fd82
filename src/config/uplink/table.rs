//! The table `[[uplink]]`.

use std::time::Duration;

use tidegate_model::{Topic, TopicFilter, UplinkName};
use tidegate_rules::Rule;
use tidegate_settings::{ByteSize, Issue, Issues, Node, TableReader, read};

use super::link::read_login;
use super::rule::read_rule;
use super::{BatchLimits, LinkUrl, MqttVersion, TopicTemplate, TopicTemplateError, UplinkLogin};
use crate::config::context::Context;
use crate::config::gateway::GatewayId;
use crate::config::unique::Unique;

/// Where telemetry goes, what may come down, and how much may wait.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// The name under which it counts.
    pub name: UplinkName,
    /// The broker.
    pub url: LinkUrl,
    /// The version of MQTT to speak.
    pub version: MqttVersion,
    /// The client id: the broker keeps the session under it.
    pub client_id: String,
    /// How often the connection is tried when nothing is sent.
    pub keep_alive: Duration,
    /// As whom to log in.
    pub login: Option<UplinkLogin>,
    /// What may leave the building.
    pub topics: Vec<TopicFilter>,
    /// The topic at the broker.
    pub topic: TopicTemplate,
    /// How readings are written.
    pub format: PayloadFormat,
    /// How batches are compressed.
    pub compression: Compression,
    /// When a batch is full.
    pub batch: BatchLimits,
    /// What may come down; nothing if absent.
    pub commands: Option<CommandsConfig>,
    /// What to do when nothing more may wait.
    pub when_full: WhenFull,
    /// How much may wait.
    pub max_bytes: ByteSize,
    /// What is left out, in this order.
    pub rules: Vec<Rule>,
}

/// What may come down from a cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandsConfig {
    /// The filter to subscribe to; it ends in `/#`.
    pub filter: TopicFilter,
    /// The levels before the `#`, with the last `/`; what follows is the local topic.
    pub prefix: String,
    /// The topic below which outcomes go up.
    pub results: Topic,
}

/// How readings are written (`docs/telemetry-envelope.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadFormat {
    /// Batches in columns, BSON.
    Columns,
    /// One BSON document a reading.
    Message,
    /// One JSON document a reading.
    Json,
}

/// How batches are compressed. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1950, where that is smaller.
    Zlib,
}

/// What an uplink does when nothing more may wait. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Lets its oldest records go, counted, with a gap record.
    DropOldest,
    /// Refuses what arrives locally.
    Refuse,
}

const VERSION_DEFAULT: MqttVersion = MqttVersion::V5;
const KEEP_ALIVE_DEFAULT: Duration = Duration::from_secs(60);
const FORMAT_DEFAULT: PayloadFormat = PayloadFormat::Columns;
const COMPRESSION_DEFAULT: Compression = Compression::None;
const WHEN_FULL_DEFAULT: WhenFull = WhenFull::DropOldest;
const MAX_BYTES_DEFAULT: ByteSize = ByteSize::mib(512);
const RESULTS_DEFAULT: &str = "tidegate/{gateway}/result";

pub(in crate::config) const FILTER_HINT: &str = "`+` stands alone for one level, `#` alone at the end for the rest, such as \"hall1/+/temperature\"";
const TEMPLATE_HINT: &str = "known are `{gateway}`, `{uplink}`, `{encoding}` and `{topic}`";

/// Reads one `[[uplink]]`.
pub(in crate::config) fn read(
    mut table: TableReader<'_>,
    gateway: &GatewayId,
    context: &Context<'_>,
    names: &mut Unique,
    issues: &mut Issues,
) -> Option<UplinkConfig> {
    let name_hint = "use 1 to 64 letters, digits, `-`, `_` and `.`";
    let parse_name = read::parsed("an uplink's name", name_hint, UplinkName::new);
    let name = table.required_like("name", "name = \"cloud\"", parse_name, issues);
    // A wrong name is noted already; the rest of the table is checked with another.
    let name = name.or_else(|| UplinkName::new("unnamed").ok())?;
    if table.has("name") {
        names.note(name.as_str(), table.value_span("name"), issues);
    }
    let example = "url = \"mqtt://cloud.example:1883\"";
    let url = table.required_like("url", example, LinkUrl::read, issues);
    let version = table.optional_or("version", VERSION_DEFAULT, MqttVersion::read, issues);
    let client_id = table.optional("client-id", read::text, issues);
    let keep_alives = Duration::from_secs(5)..=Duration::from_secs(3_600);
    let keep_alive = table.optional_or(
        "keep-alive",
        KEEP_ALIVE_DEFAULT,
        read::duration_within(keep_alives),
        issues,
    );
    let login = read_login(&mut table, url.as_ref(), context, issues);
    let topics = table.required_list("topics", "topics = [\"hall1/#\"]", read_filter, issues);

    let template = |node: &Node, issues: &mut Issues| read_template(node, gateway, &name, issues);
    let example = "topic = \"tidegate/{gateway}/{encoding}\"";
    let topic = table.required_like("topic", example, template, issues);
    let format = table.optional_or("format", FORMAT_DEFAULT, PayloadFormat::read, issues);
    let words = [("none", Compression::None), ("zlib", Compression::Zlib)];
    let compression =
        table.optional_or("compress", COMPRESSION_DEFAULT, read::word(&words), issues);
    let batch_given = table.key_span("batch");
    let batch = table.table("batch", BatchLimits::read, issues).unwrap_or_default();
    let commands = read_commands(&mut table, gateway, &name, issues);
    let words = [("drop-oldest", WhenFull::DropOldest), ("refuse", WhenFull::Refuse)];
    let when_full = table.optional_or("when-full", WHEN_FULL_DEFAULT, read::word(&words), issues);
    let sizes = ByteSize::mib(1)..=ByteSize::gib(64);
    let max_bytes =
        table.optional_or("max-bytes", MAX_BYTES_DEFAULT, read::byte_size_within(sizes), issues);
    let mut rule_names = Unique::new("rules of this uplink named");
    let read = |rule: TableReader<'_>, issues: &mut Issues| {
        read_rule(rule, &topics, &mut rule_names, issues)
    };
    let rules = table.tables("rule", read, issues);
    if let Some(topic) = &topic {
        check_format(&table, topic, format, version, compression, issues);
        check_echo(&table, topic, commands.as_ref(), issues);
    }
    if let (Some(at), PayloadFormat::Message | PayloadFormat::Json) = (batch_given, format) {
        let issue = Issue::hint(at, "`batch` has no effect: this format sends each reading alone");
        issues.push(issue.with_hint("remove it, or write `format = \"columns\"`"));
    }
    table.finish(issues);
    let client_id = client_id.unwrap_or_else(|| format!("{gateway}-{name}"));
    Some(UplinkConfig {
        url: url?,
        topic: topic?,
        name,
        version,
        client_id,
        keep_alive,
        login,
        topics,
        format,
        compression,
        batch,
        commands,
        when_full,
        max_bytes,
        rules,
    })
}

impl PayloadFormat {
    fn read(node: &Node, issues: &mut Issues) -> Option<Self> {
        const LATER: [&str; 4] = ["packed", "astarte", "sparkplug-b", "raw"];
        if let Some(word) = node.as_str().filter(|word| LATER.contains(word)) {
            let message = format!("the format \"{word}\" is not available in this version");
            issues.error(node.span, message, "write \"columns\", \"message\" or \"json\"");
            return None;
        }
        let words = [("columns", Self::Columns), ("message", Self::Message), ("json", Self::Json)];
        read::word(&words)(node, issues)
    }
}

/// Reads a topic filter; braces are refused, for captures work in mappings only.
pub(in crate::config) fn read_filter(node: &Node, issues: &mut Issues) -> Option<TopicFilter> {
    let text = read::string(node, issues)?;
    if let Some(at) = text.find(['{', '}']) {
        let place = node.span_within(at..text.len());
        issues.error(place, "captures do not work here", "for any level write `+`");
        return None;
    }
    let filter = TopicFilter::new(text);
    if let Err(error) = &filter {
        issues.error(node.span, format!("`{text}` is not a topic filter: {error}"), FILTER_HINT);
    }
    filter.ok()
}

fn read_template(
    node: &Node,
    gateway: &GatewayId,
    uplink: &UplinkName,
    issues: &mut Issues,
) -> Option<TopicTemplate> {
    let text = read::string(node, issues)?;
    match TopicTemplate::new(text, gateway, uplink) {
        Ok(template) => Some(template),
        Err(error) => {
            let hint = match &error {
                TopicTemplateError::Topic(_) => "a topic to publish to has no wildcards",
                _ => TEMPLATE_HINT,
            };
            issues.error(node.span, format!("`{text}` is not a topic: {error}"), hint);
            None
        }
    }
}

fn read_commands(
    table: &mut TableReader<'_>,
    gateway: &GatewayId,
    uplink: &UplinkName,
    issues: &mut Issues,
) -> Option<CommandsConfig> {
    let fill = |text: &str| {
        text.replace("{gateway}", gateway.as_str()).replace("{uplink}", uplink.as_str())
    };
    let commands_given = table.has("commands");
    let read_prefix = |node: &Node, issues: &mut Issues| {
        const HINT: &str =
            "write it like \"tidegate/{gateway}/cmd/#\": what `#` stands for is the local topic";
        let text = read::string(node, issues)?;
        let filled = fill(text);
        let prefix = filled.strip_suffix('#').filter(|prefix| prefix.ends_with('/'));
        let fixed = prefix.filter(|prefix| !prefix.contains(['+', '#', '{', '}']));
        let filter = TopicFilter::new(&filled).ok();
        let Some((prefix, filter)) = fixed.zip(filter) else {
            issues.error(
                node.span,
                format!("`{text}` is not a fixed topic with `/#` behind it"),
                HINT,
            );
            return None;
        };
        Some((filter, prefix.to_owned()))
    };
    let commands = table.optional("commands", read_prefix, issues);
    let results_at = table.key_span("results");
    let read_results = |node: &Node, issues: &mut Issues| {
        let text = read::string(node, issues)?;
        let filled = fill(text);
        let topic = Topic::new(&filled).ok().filter(|_| !filled.contains(['{', '}']));
        if topic.is_none() {
            let hint =
                "write it like \"tidegate/{gateway}/result\"; `{gateway}` and `{uplink}` are known";
            issues.error(node.span, format!("`{text}` is not a topic"), hint);
        }
        topic
    };
    let results = table.optional("results", read_results, issues);
    if let (Some(at), false) = (results_at, commands_given) {
        let issue =
            Issue::hint(at, "`results` has no effect: nothing comes down without `commands`");
        issues.push(issue.with_hint("remove it, or add `commands`"));
    }
    let results = results.or_else(|| Topic::new(&fill(RESULTS_DEFAULT)).ok())?;
    commands.map(|(filter, prefix)| CommandsConfig { filter, prefix, results })
}

/// Notes a topic that does not fit what is published there.
fn check_format(
    table: &TableReader<'_>,
    topic: &TopicTemplate,
    format: PayloadFormat,
    version: MqttVersion,
    compression: Compression,
    issues: &mut Issues,
) {
    let at = table.value_span("topic");
    match format {
        PayloadFormat::Message | PayloadFormat::Json if !topic.has_topic() => issues.error(
            at,
            "each reading needs a topic of its own in this format, and `{topic}` is missing",
            "write it like \"tidegate/{gateway}/{topic}\"",
        ),
        PayloadFormat::Columns if topic.has_topic() => issues.error(
            at,
            "a batch holds readings of many topics: `{topic}` has no meaning in this format",
            "remove `{topic}`, or write `format = \"message\"`",
        ),
        _ => {}
    }
    let telling = topic.has_encoding() || version == MqttVersion::V5;
    if compression == Compression::Zlib && !telling {
        issues.error(
            at,
            "with MQTT 3.1.1 the topic must tell whether a message is compressed",
            "put `{encoding}` into it, such as \"tidegate/{gateway}/{encoding}\"",
        );
    }
}

/// Notes topics of our own that would come back to us as commands.
fn check_echo(
    table: &TableReader<'_>,
    topic: &TopicTemplate,
    commands: Option<&CommandsConfig>,
    issues: &mut Issues,
) {
    let Some(commands) = commands else { return };
    let sent = topic.fill("x", "x");
    for (key, topic) in [("topic", sent.as_str()), ("results", commands.results.as_str())] {
        if format!("{topic}/").starts_with(&commands.prefix) {
            let issue = Issue::error(
                table.value_span(key),
                format!("what is published to `{topic}` would come back as a command"),
            );
            let issue = issue.with_hint("publish elsewhere, or narrow `commands`");
            issues.push(issue.with_related(table.value_span("commands"), "subscribed here"));
        }
    }
}
