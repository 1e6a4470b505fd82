//! `[[uplink.in]]`, `strip`, `retain` and `relay`: what comes down to be published here, and what goes up as it is.

use tidegate_model::{TopicFilter, UplinkName};
use tidegate_settings::{Issue, Issues, Node, Span, TableReader, read};
use tidegate_uplink::bridge::{InRoute, moved, widened};

use super::table::{read_filter, read_template};
use super::{CommandsConfig, LinkConfig, MqttVersion, PayloadFormat, TopicTemplate, UplinkConfig};
use crate::config::gateway::GatewayId;

/// What an uplink lets through as a bridge.
#[derive(Clone, Debug, Default)]
pub struct BridgeConfig {
    /// What comes down, one for each filter.
    pub inbound: Vec<InboundConfig>,
    /// What `{topic}` of the uplink's topic is without; empty if it is the whole topic.
    pub strip: String,
    /// Whether retained messages go up as retained.
    pub retain: bool,
    /// Whether what came in by other bridges goes out.
    pub relay: bool,
    relay_at: Option<Span>,
}

/// Topics of the far side that come down.
#[derive(Clone, Debug)]
pub struct InboundConfig {
    /// Which, and where they are published here.
    pub route: InRoute,
    at: Span,
}

/// What the rest of the table says.
#[derive(Debug)]
pub(super) struct Around<'a> {
    pub(super) gateway: &'a GatewayId,
    pub(super) uplink: &'a UplinkName,
    pub(super) format: PayloadFormat,
    pub(super) topics: &'a [TopicFilter],
    pub(super) link: Option<&'a LinkConfig>,
    /// Whose connection it is, if it is another's.
    pub(super) via: Option<&'a UplinkName>,
    pub(super) commands: Option<&'a CommandsConfig>,
    pub(super) topic: Option<&'a TopicTemplate>,
}

impl BridgeConfig {
    /// Returns what another queue on the same connection lets through: nothing comes down there.
    pub fn of_second_queue(&self) -> Self {
        Self { inbound: Vec::new(), ..self.clone() }
    }

    /// Reads the keys.
    pub(super) fn read(
        table: &mut TableReader<'_>,
        around: &Around<'_>,
        issues: &mut Issues,
    ) -> Self {
        let relay_at = table.key_span("relay");
        let relay = table.optional_or("relay", false, read::boolean, issues);
        let bridge = Self {
            strip: read_up_strip(table, around, issues),
            retain: read_retain(table, around, issues),
            relay,
            relay_at,
            inbound: read_inbound(table, around, issues),
        };
        let is_single = around.format.is_per_reading() && !around.format.is_dialect();
        if let (Some(at), true, true) = (relay_at, relay && is_single, is_v3(around.link)) {
            let message = "over MQTT 3.1.1 nothing tells which gateways a message has been through: what is relayed could go round for ever";
            issues.error(at, message, "connect by MQTT 5, or remove `relay`");
        }
        bridge
    }
}

/// Returns whether messages go by MQTT 3.1.1.
fn is_v3(link: Option<&LinkConfig>) -> bool {
    link.is_some_and(|link| link.version == MqttVersion::V3 && link.other_protocol().is_none())
}

/// Reads what topics lose at the front: whole levels.
fn read_strip(table: &mut TableReader<'_>, topics: &[TopicFilter], issues: &mut Issues) -> String {
    let read = |node: &Node, issues: &mut Issues| {
        let text = read::string(node, issues)?;
        let is_start =
            text.len() > 1 && text.ends_with('/') && !text.contains(['+', '#', '{', '}']);
        if !is_start {
            let message = format!("`{text}` is not the beginning of topics up to a `/`");
            issues.error(node.span, message, "write it like \"hall1/\"");
            return None;
        }
        if let Some(other) = topics.iter().find(|filter| !filter.as_str().starts_with(text)) {
            let message = format!("`{other}` of `topics` does not begin with `{text}`");
            issues.error(node.span, message, "list only topics that begin with it");
            return None;
        }
        Some(text.to_owned())
    };
    table.optional("strip", read, issues).unwrap_or_default()
}

fn read_up_strip(table: &mut TableReader<'_>, around: &Around<'_>, issues: &mut Issues) -> String {
    let at = table.key_span("strip");
    let strip = read_strip(table, around.topics, issues);
    let has_topic = around.topic.is_none_or(TopicTemplate::has_topic);
    if let (Some(at), true) = (at, !has_topic || around.format.is_dialect()) {
        let message = "`strip` is what `{topic}` is without, which is not in `topic`";
        issues.error(at, message, "remove it");
    }
    strip
}

fn read_retain(table: &mut TableReader<'_>, around: &Around<'_>, issues: &mut Issues) -> bool {
    let at = table.key_span("retain");
    let retain = table.optional_or("retain", false, read::boolean, issues);
    if let (Some(at), true) = (at, retain && around.format != PayloadFormat::Raw) {
        let message = "only messages that go up as they are can be retained there";
        issues.error(at, message, "remove `retain`, or write `format = \"raw\"`");
    }
    let other = around.link.and_then(LinkConfig::other_protocol).filter(|_| retain);
    if let Some((at, protocol)) = at.zip(other) {
        let message = format!("nothing is retained over {protocol}");
        issues.error(at, message, "remove it, or connect by MQTT");
    }
    retain
}

/// Reads `[[uplink.in]]`.
fn read_inbound(
    table: &mut TableReader<'_>,
    around: &Around<'_>,
    issues: &mut Issues,
) -> Vec<InboundConfig> {
    let at = table.key_span("in");
    let read = |entry: TableReader<'_>, issues: &mut Issues| read_entry(entry, around, issues);
    let inbound: Vec<_> = table.tables("in", read, issues).into_iter().flatten().collect();
    let Some(at) = at else { return inbound };
    let refused = if around.via.is_some() {
        Some(("`in` is for the uplink that has the connection".to_owned(), "move it there"))
    } else if around.format.is_dialect() {
        let message = "this format has no topics that could come down";
        Some((message.to_owned(), "give it an uplink of its own"))
    } else if around.link.is_some_and(|link| link.hub.is_some()) {
        let message = "a hub has no topics that could come down";
        Some((message.to_owned(), "write `commands = true` there"))
    } else if let Some(protocol) = around.link.and_then(LinkConfig::other_protocol) {
        let message = format!("nothing comes down by {protocol}: `in` has no meaning");
        Some((message, "connect by MQTT"))
    } else {
        None
    };
    if let Some((message, hint)) = refused {
        issues.error(at, message, hint);
    }
    check_apart(&inbound, around.commands, issues);
    inbound
}

fn read_entry(
    mut entry: TableReader<'_>,
    around: &Around<'_>,
    issues: &mut Issues,
) -> Option<Vec<InboundConfig>> {
    let at = entry.value_span("topics");
    let topics = entry.required_list("topics", "topics = [\"plant/#\"]", read_filter, issues);
    for filter in topics.iter().filter(|filter| filter.as_str().starts_with("$share/")) {
        let message =
            format!("`{filter}` is shared: its messages would come to one gateway of many");
        issues.error(at, message, "subscribe to the topics themselves");
    }
    let strip = read_strip(&mut entry, &topics, issues);
    let topic_at = entry.value_span("topic");
    let template = |node: &Node, issues: &mut Issues| {
        read_template(node, around.gateway, around.uplink, issues)
    };
    let template = entry.optional("topic", template, issues);
    entry.finish(issues);
    let (before, after) = match &template {
        Some(template) => {
            let filled = template.fill(MARK, MARK);
            let mut parts = filled.split(MARK);
            match (template.has_encoding(), parts.next(), parts.next(), parts.next()) {
                (false, Some(before), Some(after), None) => (before.to_owned(), after.to_owned()),
                _ => {
                    let message = "what comes down is published on a topic of its own, with `{topic}` once and without `{encoding}`";
                    issues.error(topic_at, message, "write it like \"central/{topic}\"");
                    return None;
                }
            }
        }
        None => (String::new(), String::new()),
    };
    let route = |filter| InRoute::new(filter, &strip, &before, &after);
    Some(topics.into_iter().map(|filter| InboundConfig { route: route(filter), at }).collect())
}

/// Stands for what is filled in; no topic of a configuration holds it.
const MARK: &str = "\u{1}";

/// Notes filters that would bring a message twice, or a command as a message.
fn check_apart(inbound: &[InboundConfig], commands: Option<&CommandsConfig>, issues: &mut Issues) {
    for (place, InboundConfig { route, at }) in inbound.iter().enumerate() {
        let filter = route.filter();
        let twin = inbound[..place].iter().find(|other| other.route.filter().overlaps(filter));
        if let Some(twin) = twin {
            let message =
                format!("`{filter}` and `{}` bring the same messages", twin.route.filter());
            let issue = Issue::error(*at, message).with_hint("narrow one of them");
            issues.push(issue.with_related(twin.at, "the other is here"));
        }
        if commands.is_some_and(|commands| commands.filter.overlaps(filter)) {
            let message = format!("`{filter}` would bring what `commands` takes");
            issues.error(*at, message, "narrow it: commands are never published");
        }
    }
}

/// Notes bridges that would bring back what this gateway sends, where nothing tells the two apart.
pub(in crate::config) fn check_bridges(uplinks: &[UplinkConfig], issues: &mut Issues) {
    for bringer in uplinks {
        for sender in uplinks {
            if !is_told_apart(bringer, sender) {
                check_return(bringer, sender, issues);
            }
            check_relay(bringer, sender, issues);
        }
    }
}

/// Returns whether what one uplink sends does not come back by another, or is known then: over one connection the
/// broker knows who has published (MQTT 5.0, section 3.8.3.1), and what goes up as it is has its way with it.
fn is_told_apart(bringer: &UplinkConfig, sender: &UplinkConfig) -> bool {
    let is_v5 = |uplink: &UplinkConfig| uplink.link.version == MqttVersion::V5;
    let carrier = sender.via.as_ref().unwrap_or(&sender.name);
    let brokers = || bringer.link.endpoints.iter().map(|endpoint| &endpoint.url);
    let meets = |url: &super::LinkUrl| {
        brokers().any(|other| other.host() == url.host() && other.port() == url.port())
    };
    if *carrier == bringer.name {
        is_v5(bringer)
    } else if sender.link.endpoints.iter().any(|endpoint| meets(&endpoint.url)) {
        is_v5(bringer) && is_v5(sender) && sender.format == PayloadFormat::Raw
    } else {
        true
    }
}

fn check_return(bringer: &UplinkConfig, sender: &UplinkConfig, issues: &mut Issues) {
    for sent in sent(sender) {
        for InboundConfig { route, at } in &bringer.bridge.inbound {
            if route.filter().overlaps(&sent) {
                let (filter, name) = (route.filter(), &sender.name);
                let message = format!(
                    "`{filter}` would bring back what the uplink `{name}` sends on `{sent}`"
                );
                let hint = "narrow one of them, or use MQTT 5, which tells them apart on one connection or with `format = \"raw\"`";
                issues.error(*at, message, hint);
            }
        }
    }
}

fn check_relay(bringer: &UplinkConfig, sender: &UplinkConfig, issues: &mut Issues) {
    let carrier = sender.via.as_ref().unwrap_or(&sender.name);
    let loses_way = bringer.link.version == MqttVersion::V3 && *carrier != bringer.name;
    let Some(at) = sender.bridge.relay_at.filter(|_| sender.bridge.relay && loses_way) else {
        return;
    };
    if sender.format != PayloadFormat::Raw {
        return;
    }
    let locals = bringer.bridge.inbound.iter().map(|inbound| inbound.route.local_filter());
    for local in locals {
        if let Some(topic) = sender.topics.iter().find(|topic| topic.overlaps(&local)) {
            let name = &bringer.name;
            let message = format!(
                "what `{name}` brings over MQTT 3.1.1 does not tell which gateways it has been through: on `{topic}` it could go round for ever"
            );
            let hint = format!("give `{name}` MQTT 5, or narrow `topics`, or remove `relay`");
            issues.error(at, message, hint);
        }
    }
}

/// Returns filters for all that an uplink publishes.
fn sent(uplink: &UplinkConfig) -> Vec<TopicFilter> {
    let mut sent = Vec::new();
    match uplink.format {
        PayloadFormat::SparkplugB => sent.push(widened("spBv1.0/#")),
        // A realm's topics are nobody else's.
        PayloadFormat::Astarte => {}
        _ => {
            let filled = uplink.topic.fill("+", MARK);
            match filled.split_once(MARK) {
                Some((before, after)) => {
                    let after = after.replace(MARK, "#");
                    let strip = &uplink.bridge.strip;
                    sent.extend(
                        uplink.topics.iter().map(|topic| moved(topic, strip, before, &after)),
                    );
                }
                None => sent.push(widened(&filled)),
            }
        }
    }
    let results =
        uplink.commands.iter().map(|commands| widened(&format!("{}/#", commands.results)));
    sent.extend(results);
    sent
}
