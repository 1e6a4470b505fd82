//! The table `[[uplink]]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_model::{TopicFilter, UplinkName};
use tidegate_rules::Rule;
use tidegate_settings::{Issue, Issues, Node, Span, TableReader, read};
use tidegate_uplink::{Profile, ShadowSettings};

use super::astarte::{self, AstarteConfig};
use super::bridge::{Around, BridgeConfig};
use super::commands::{check_echo, read_commands};
use super::link::{Far, read_link, read_shared};
use super::rule::read_rule;
use super::sparkplug::read_sparkplug;
use super::stand_in::{self, Above, StandInConfig};
use super::thingsboard::read_thingsboard;
use super::waiting::check_live_first;
use super::{
    BatchLimits, CommandsConfig, Compression, Level, LinkConfig, MqttVersion, ThingsBoardConfig,
    TimeUnit, TopicTemplate, TopicTemplateError, WaitingConfig,
};
use crate::config::context::Context;
use crate::config::gateway::GatewayId;
use crate::config::unique::Unique;

/// Where telemetry goes, what may come down, and how much may wait.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// The name under which it counts.
    pub name: UplinkName,
    /// The connection; that of [`via`](Self::via) if it is shared.
    pub link: LinkConfig,
    /// The uplink whose connection this one shares.
    pub via: Option<UplinkName>,
    /// For which uplink this one stands in; it takes its topics meanwhile, and no others.
    pub stand_in: Option<StandInConfig>,
    /// Who goes first on a shared connection: the higher; who has it has 0.
    pub priority: i32,
    /// The client id: the broker keeps the session under it.
    pub client_id: String,
    /// What may leave the building.
    pub topics: Vec<TopicFilter>,
    /// The topic at the broker.
    pub topic: TopicTemplate,
    /// How readings are written.
    pub format: PayloadFormat,
    /// The unit of times in batches.
    pub time_unit: TimeUnit,
    /// How payloads are compressed.
    pub compression: Compression,
    /// When a batch is full.
    pub batch: BatchLimits,
    /// What may come down; nothing if absent.
    pub commands: Option<CommandsConfig>,
    /// What becomes of records that wait.
    pub waiting: WaitingConfig,
    /// What is left out, in this order.
    pub rules: Vec<Rule>,
    /// Which edge node it is, if the format is [`PayloadFormat::SparkplugB`].
    pub sparkplug: Option<Arc<tidegate_sparkplug::Settings>>,
    /// Who it is in a realm of Astarte, with that format.
    pub astarte: Option<AstarteConfig>,
    /// What comes down to be published here, and what goes up as it is.
    pub bridge: BridgeConfig,
    /// What its devices are in ThingsBoard, with that format.
    pub thingsboard: Option<ThingsBoardConfig>,
    /// The shadow at AWS IoT Core that goes by its own connection, if one does.
    pub shadow: Option<Arc<ShadowSettings>>,
}

/// How readings are written (`docs/telemetry-envelope.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadFormat {
    /// Batches in columns, BSON.
    Columns,
    /// Batches in columns packed into bytes, BSON.
    Packed,
    /// One BSON document a reading.
    Message,
    /// One JSON document a reading.
    Json,
    /// Payloads as they are.
    Raw,
    /// Metrics of an edge node of Sparkplug B and of its devices.
    SparkplugB,
    /// As the interfaces of a device of Astarte say.
    Astarte,
    /// Telemetry and attributes of the devices of a gateway of ThingsBoard.
    ThingsBoard,
}

impl PayloadFormat {
    /// Returns whether each reading is a message of its own.
    pub fn is_per_reading(self) -> bool {
        matches!(self, Self::Message | Self::Json | Self::Raw) || self.is_dialect()
    }

    /// Returns whether it says more than payloads, on topics of its own and a connection of its own.
    pub fn is_dialect(self) -> bool {
        matches!(self, Self::SparkplugB | Self::Astarte | Self::ThingsBoard)
    }
}

/// What an uplink does when nothing more may wait. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Lets its oldest records go, counted, with a gap record.
    DropOldest,
    /// Refuses what arrives locally.
    Refuse,
}

impl UplinkConfig {
    /// Returns the name under which a second queue counts, which an uplink has that lets live readings go first.
    pub fn second_name(name: &UplinkName) -> Option<UplinkName> {
        UplinkName::new(&format!("{name}.2")).ok()
    }
}

/// The property `topic` of a batch for Azure IoT Hub.
const HUB_TOPIC_DEFAULT: &str = "tidegate/{gateway}/{encoding}";
const FORMAT_DEFAULT: PayloadFormat = PayloadFormat::Columns;

pub(in crate::config) const FILTER_HINT: &str = "`+` stands alone for one level, `#` alone at the end for the rest, such as \"hall1/+/temperature\"";
const TEMPLATE_HINT: &str = "known are `{gateway}`, `{uplink}`, `{encoding}` and `{topic}`";

/// Reads one `[[uplink]]`.
pub(in crate::config) fn read(
    mut table: TableReader<'_>,
    gateway: &GatewayId,
    context: &Context<'_>,
    names: &mut Unique,
    above: &Above,
    issues: &mut Issues,
) -> Option<UplinkConfig> {
    let name = read_name(&mut table, names, issues)?;
    let device = astarte::read_device(&mut table, context, issues);
    let (via, link, priority) =
        read_connection(&mut table, context, &above.carriers, device.as_ref(), issues);
    let profile = link.as_ref().map_or_else(Profile::default, |link| link.profile);
    let (stand_in, topics) = read_taken(&mut table, above, via.as_ref(), device.as_ref(), issues);

    let format = table.optional_or("format", FORMAT_DEFAULT, PayloadFormat::read, issues);
    let is_sparkplug = format == PayloadFormat::SparkplugB;
    let sparkplug = read_sparkplug(&mut table, gateway, is_sparkplug, issues);
    let is_board = format == PayloadFormat::ThingsBoard;
    let thingsboard = read_thingsboard(&mut table, is_board, context, issues);
    let topic = read_topic(&mut table, gateway, &name, format, profile, issues);
    let compression = read_compression(&mut table, format, issues);
    let (time_unit, batch) = read_batches(&mut table, format, issues);
    let (commands, commands_at) =
        read_common_commands(&mut table, gateway, &name, format, profile, issues);
    check_posts(&table, format, commands_at, link.as_ref(), issues);
    let bridge = {
        let around = Around {
            gateway,
            uplink: &name,
            format,
            topics: &topics,
            link: link.as_ref(),
            via: via.as_ref(),
            commands: commands.as_ref(),
            topic: topic.as_ref(),
        };
        BridgeConfig::read(&mut table, &around, issues)
    };
    let waiting = WaitingConfig::read(&mut table, issues);
    let rules = read_rules(&mut table, &topics, gateway, issues);
    if waiting.live_share.is_some() {
        check_live_first(&table, &name, format, via.is_none(), &rules, names, issues);
    }
    if let Some(topic) = &topic {
        let link = link.as_ref();
        check_published(&table, topic, link, format, compression, issues);
        check_echo(&table, topic, commands.as_ref(), issues);
    }
    let own_id = || format!("{gateway}-{name}");
    let client_id = link.as_ref().and_then(|link| link.client_id.clone()).unwrap_or_else(own_id);
    let own_link = link.as_ref().filter(|_| via.is_none());
    let shadow = settle_shadow(&table, own_link, &client_id, format, issues);
    table.finish(issues);
    Some(UplinkConfig {
        topic: topic?,
        client_id,
        link: link?,
        via,
        stand_in,
        priority,
        name,
        topics,
        format,
        time_unit,
        compression,
        batch,
        commands,
        waiting,
        rules,
        sparkplug,
        astarte: device,
        bridge,
        thingsboard,
        shadow,
    })
}

/// Reads the commands of an uplink whose dialect has none of its own, and where the keys stand.
fn read_common_commands(
    table: &mut TableReader<'_>,
    gateway: &GatewayId,
    name: &UplinkName,
    format: PayloadFormat,
    profile: Profile,
    issues: &mut Issues,
) -> (Option<CommandsConfig>, [Option<Span>; 2]) {
    if format.is_dialect() || profile == Profile::AzureIotHub {
        return (None, [None, None]);
    }
    let at = [table.key_span("commands"), table.key_span("commands-queue")];
    (read_commands(table, gateway, name, issues), at)
}

fn read_rules(
    table: &mut TableReader<'_>,
    topics: &[TopicFilter],
    gateway: &GatewayId,
    issues: &mut Issues,
) -> Vec<Rule> {
    let mut names = Unique::new("rules of this uplink named");
    let read = |rule: TableReader<'_>, issues: &mut Issues| {
        read_rule(rule, topics, gateway, &mut names, issues)
    };
    table.tables("rule", read, issues)
}

/// Returns the shadow that goes by the uplink's own connection, if one does.
fn settle_shadow(
    table: &TableReader<'_>,
    link: Option<&LinkConfig>,
    client_id: &str,
    format: PayloadFormat,
    issues: &mut Issues,
) -> Option<Arc<ShadowSettings>> {
    let shadow = link?.aws.shadow.as_ref()?;
    if format.is_dialect() {
        let message = "a shadow does not go by the connection of this format";
        let hint = "write another `format`, or remove `shadow`";
        issues.error(table.value_span("format"), message, hint);
    }
    if link?.endpoints.len() > 1 {
        let message = "a shadow is kept at one endpoint: another one has other wishes";
        let hint = "remove `backup`, or give the shadow to an uplink of its own";
        issues.error(table.value_span("backup"), message, hint);
    }
    shadow.settle(client_id, issues)
}

fn read_name(
    table: &mut TableReader<'_>,
    names: &mut Unique,
    issues: &mut Issues,
) -> Option<UplinkName> {
    let hint = "use 1 to 64 letters, digits, `-`, `_` and `.`";
    let parse = read::parsed("an uplink's name", hint, UplinkName::new);
    let name = table.required_like("name", "name = \"cloud\"", parse, issues);
    // A wrong name is noted already; the rest of the table is checked with another.
    let name = name.or_else(|| UplinkName::new("unnamed").ok())?;
    if table.has("name") {
        names.note(name.as_str(), table.value_span("name"), issues);
    }
    Some(name)
}

/// Reads for whom the uplink stands in, if it does, and which topics it takes.
fn read_taken(
    table: &mut TableReader<'_>,
    above: &Above,
    via: Option<&UplinkName>,
    device: Option<&AstarteConfig>,
    issues: &mut Issues,
) -> (Option<StandInConfig>, Vec<TopicFilter>) {
    if table.has("stand-in") {
        // What is wrong with it is noted; it has no topics of its own in any case.
        let (stand_in, topics) = stand_in::read(table, above, via, issues).unzip();
        (stand_in, topics.unwrap_or_default())
    } else {
        (None, read_topics(table, device, issues))
    }
}

impl PayloadFormat {
    fn read(node: &Node, issues: &mut Issues) -> Option<Self> {
        let words = [
            ("columns", Self::Columns),
            ("packed", Self::Packed),
            ("message", Self::Message),
            ("json", Self::Json),
            ("raw", Self::Raw),
            ("sparkplug-b", Self::SparkplugB),
            ("astarte", Self::Astarte),
            ("thingsboard", Self::ThingsBoard),
        ];
        read::word(&words)(node, issues)
    }
}

/// Reads `compress` and `compress-level`.
fn read_compression(
    table: &mut TableReader<'_>,
    format: PayloadFormat,
    issues: &mut Issues,
) -> Compression {
    let words = [
        ("none", Compression::None),
        ("zlib", Compression::default()),
        ("gzip", Compression::Gzip(Level::DEFAULT)),
    ];
    let at = table.value_span("compress");
    let compression = table.optional_or("compress", Compression::None, read::word(&words), issues);
    let level_at = table.key_span("compress-level");
    let level = table.optional("compress-level", read::integer(1..=9_u8), issues);
    let level = level.and_then(Level::new);
    match (compression, level) {
        (Compression::None, _) => {
            if let Some(at) = level_at {
                let message = "`compress-level` has no effect: nothing is compressed";
                issues.error(at, message, "add `compress = \"zlib\"`, or remove it");
            }
            Compression::None
        }
        (_, _) if format == PayloadFormat::Raw => {
            let message = "the format \"raw\" passes payloads unchanged";
            issues.error(at, message, "remove `compress`, or write another `format`");
            Compression::None
        }
        (compression, None) => compression,
        (Compression::Zlib(_), Some(level)) => Compression::Zlib(level),
        (Compression::Gzip(_), Some(level)) => Compression::Gzip(level),
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

/// Reads `topic`; a dialect has its own, and for a hub it is a property that may be left out.
fn read_topic(
    table: &mut TableReader<'_>,
    gateway: &GatewayId,
    uplink: &UplinkName,
    format: PayloadFormat,
    profile: Profile,
    issues: &mut Issues,
) -> Option<TopicTemplate> {
    if format.is_dialect() {
        return TopicTemplate::new("{topic}", gateway, uplink).ok();
    }
    if profile == Profile::AzureIotHub && !table.has("topic") {
        // Absent, but to be named among the keys that there are.
        table.take("topic");
        let usual = if format.is_per_reading() { "{topic}" } else { HUB_TOPIC_DEFAULT };
        return TopicTemplate::new(usual, gateway, uplink).ok();
    }
    let template = |node: &Node, issues: &mut Issues| read_template(node, gateway, uplink, issues);
    let example = "topic = \"tidegate/{gateway}/{encoding}\"";
    table.required_like("topic", example, template, issues)
}

pub(super) fn read_template(
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

/// Reads the keys of batches, and notes them beside a format that has none.
fn read_batches(
    table: &mut TableReader<'_>,
    format: PayloadFormat,
    issues: &mut Issues,
) -> (TimeUnit, BatchLimits) {
    let keys = ["batch", "time-unit"].map(|key| (key, table.key_span(key)));
    let words = [("ms", TimeUnit::Millis), ("us", TimeUnit::Micros)];
    let time_unit = table.optional_or("time-unit", TimeUnit::default(), read::word(&words), issues);
    let batch = table.table("batch", BatchLimits::read, issues).unwrap_or_default();
    for (key, at) in keys.into_iter().filter(|_| format.is_per_reading()) {
        if let Some(at) = at {
            let message = format!("`{key}` has no effect: this format sends each reading alone");
            let issue = Issue::hint(at, message);
            issues.push(issue.with_hint("remove it, or write `format = \"columns\"`"));
        }
    }
    (time_unit, batch)
}

/// Reads `topics`; those of a device's maps where it is left out there.
fn read_topics(
    table: &mut TableReader<'_>,
    device: Option<&AstarteConfig>,
    issues: &mut Issues,
) -> Vec<TopicFilter> {
    if astarte::is_asked_for(table) && !table.has("topics") {
        // Absent, but to be named among the keys that there are.
        table.take("topics");
        return device.map(|device| device.topics.clone()).unwrap_or_default();
    }
    table.required_list("topics", "topics = [\"hall1/#\"]", read_filter, issues)
}

/// Reads the connection: an own one, or that of another and who goes first there.
fn read_connection(
    table: &mut TableReader<'_>,
    context: &Context<'_>,
    carriers: &BTreeMap<String, LinkConfig>,
    device: Option<&AstarteConfig>,
    issues: &mut Issues,
) -> (Option<UplinkName>, Option<LinkConfig>, i32) {
    let is_device = astarte::is_asked_for(table);
    let is_shared = table.has("via") && !is_device;
    let (via, link) = if is_shared {
        read_shared(table, carriers, issues).unzip()
    } else {
        // Absent, but to be named among the keys that there are.
        table.take("via");
        let far = if is_device { Far::Pairing(device) } else { Far::Given };
        (None, read_link(table, far, context, issues))
    };
    let priority_at = table.key_span("priority");
    let priority = table.optional_or("priority", 0, read::integer(-100..=100), issues);
    if let (Some(at), false) = (priority_at, is_shared) {
        let hint = "it has 0; give those that share its connection more, or less";
        issues.error(at, "`priority` is for uplinks that share a connection", hint);
    }
    (via, link, priority)
}

/// Notes what does not go by whatever is spoken in place of MQTT: dialects, and commands without a queue.
fn check_posts(
    table: &TableReader<'_>,
    format: PayloadFormat,
    [commands_at, queue_at]: [Option<Span>; 2],
    link: Option<&LinkConfig>,
    issues: &mut Issues,
) {
    let is_amqp = link.is_some_and(|link| link.profile == Profile::Amqp);
    if let (Some(at), Some(_), false) = (queue_at, link, is_amqp) {
        issues.error(at, "`commands-queue` is for `amqp://` and `amqps://`", "remove it");
    }
    let Some(link) = link.filter(|link| link.other_protocol().is_some()) else { return };
    if matches!(format, PayloadFormat::SparkplugB | PayloadFormat::ThingsBoard) {
        let hint = "write a URL with `mqtt://`, `mqtts://`, `ws://` or `wss://`";
        issues.error(table.value_span("format"), "this format is spoken over MQTT alone", hint);
    }
    match (commands_at, queue_at) {
        (Some(at), _) if link.posts() => {
            let message = "nothing comes down by HTTP: `commands` has no meaning";
            issues.error(at, message, "remove it, or the addresses with `http://` and `https://`");
        }
        (Some(at), None) => {
            let hint =
                "add `commands-queue = \"…\"`, a queue that is there and bound to keys of commands";
            issues.error(at, "over AMQP commands come out of a queue", hint);
        }
        _ => {}
    }
}

/// Notes a topic that does not fit the far side, or what is published there.
fn check_published(
    table: &TableReader<'_>,
    topic: &TopicTemplate,
    link: Option<&LinkConfig>,
    format: PayloadFormat,
    compression: Compression,
    issues: &mut Issues,
) {
    if let Some(link) = link {
        check_topic(table, topic, link.profile, issues);
    }
    // A hub is told in another way what a payload is.
    let is_told = link
        .is_none_or(|link| link.version == MqttVersion::V5 || link.profile == Profile::AzureIotHub);
    check_format(table, topic, format, is_told, compression, issues);
}

/// Notes a topic that the far side would not take, whatever stands in for `{topic}`.
fn check_topic(
    table: &TableReader<'_>,
    topic: &TopicTemplate,
    profile: Profile,
    issues: &mut Issues,
) {
    if let Err(refusal) = profile.check_topic(&topic.fill("bson.z", "x")) {
        let hint = "choose another; see docs/config.md, `profile`";
        issues.error(
            table.value_span("topic"),
            format!("the broker does not take this topic: {refusal}"),
            hint,
        );
    }
}

/// Notes a topic that does not fit what is published there.
fn check_format(
    table: &TableReader<'_>,
    topic: &TopicTemplate,
    format: PayloadFormat,
    is_told: bool,
    compression: Compression,
    issues: &mut Issues,
) {
    let at = table.value_span("topic");
    match format {
        format if format.is_per_reading() && !topic.has_topic() => issues.error(
            at,
            "each reading needs a topic of its own in this format, and `{topic}` is missing",
            "write it like \"tidegate/{gateway}/{topic}\"",
        ),
        PayloadFormat::Columns | PayloadFormat::Packed if topic.has_topic() => issues.error(
            at,
            "a batch holds readings of many topics: `{topic}` has no meaning in this format",
            "remove `{topic}`, or write `format = \"message\"`",
        ),
        _ => {}
    }
    if compression != Compression::None && !is_told && !topic.has_encoding() {
        issues.error(
            at,
            "with MQTT 3.1.1 the topic must tell whether a message is compressed",
            "put `{encoding}` into it, such as \"tidegate/{gateway}/{encoding}\"",
        );
    }
}
