//! The connection of an uplink.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::UplinkName;
use tidegate_settings::{ByteSize, Issue, Issues, Node, TableReader, read};
use tidegate_uplink::{HubSettings, Profile, Rates};

use super::astarte::AstarteConfig;
use super::aws_iot::{AwsConfig, AwsEntry, read_aws};
use super::endpoint::{EndpointConfig, Side, read_backup, read_endpoint};
use super::iot_hub::read_hub;
use super::way::read_way;
use crate::config::context::Context;
use crate::dial::Way;

/// A version of the protocol. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttVersion {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.0.
    V5,
}

const VERSION_DEFAULT: MqttVersion = MqttVersion::V5;
const KEEP_ALIVE_DEFAULT: Duration = Duration::from_secs(60);
/// Every virtual host has it, and queues choose there by words of the topic, as subscribers do elsewhere.
const EXCHANGE_DEFAULT: &str = "amq.topic";
/// The longest short string (AMQP 0.9.1, section 4.2.5.3).
const EXCHANGE_BYTES_MAX: usize = 255;
const ACK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

impl MqttVersion {
    pub(super) fn read(node: &Node, issues: &mut Issues) -> Option<Self> {
        use tidegate_settings::NodeValue::{Integer, String};
        match &node.value {
            Integer(5) => return Some(Self::V5),
            String(text) if text == "5" || text == "5.0" => return Some(Self::V5),
            String(text) if text == "3.1.1" => return Some(Self::V3),
            _ => {}
        }
        issues.error(node.span, "the version of MQTT is not known", "write `5` or \"3.1.1\"");
        None
    }
}

/// The connection: to whom, and how.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Brokers that will do, the preferred first; at least one.
    pub endpoints: Vec<EndpointConfig>,
    /// How they are reached.
    pub way: Way,
    /// What kind of far side it is.
    pub profile: Profile,
    /// The version of MQTT to speak.
    pub version: MqttVersion,
    /// The client id if one is given: the broker keeps the session under it.
    pub client_id: Option<String>,
    /// How often the connection is tried when nothing is sent.
    pub keep_alive: Duration,
    /// How long a message may be without an answer.
    pub ack_timeout: Duration,
    /// How many may be.
    pub in_flight_max: usize,
    /// How long the broker keeps what comes down while there is no connection.
    pub session_expiry: Duration,
    /// How fast the broker takes messages.
    pub rates: Rates,
    /// The exchange that messages are published to, over AMQP; empty for the default one.
    pub exchange: String,
    /// Which device of Azure IoT Hub it is, with that profile.
    pub hub: Option<Arc<HubSettings>>,
    /// What AWS IoT Core is told beside, with that profile.
    pub aws: AwsConfig,
}

impl LinkConfig {
    /// Returns what is spoken there, or at one that steps in, if it is not MQTT.
    pub(super) fn other_protocol(&self) -> Option<&'static str> {
        self.endpoints.iter().find_map(|endpoint| endpoint.url.other_protocol())
    }

    /// Returns whether batches are posted there, or at one that steps in, and nothing can come down.
    pub(super) fn posts(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.url.http_target().is_some())
    }
}

/// The keys of a connection, which an uplink that shares another's does not have.
const KEYS: [&str; 24] = [
    "url",
    "username",
    "password",
    "token",
    "ca",
    "crl",
    "cert",
    "key",
    "alpn",
    "backup",
    "exchange",
    "proxy",
    "interface",
    "profile",
    "azure-iot-hub",
    "aws-iot-core",
    "version",
    "client-id",
    "keep-alive",
    "ack-timeout",
    "session-expiry",
    "max-in-flight",
    "commands",
    "commands-queue",
];

/// Reads `via`: the connection of an uplink that stands above.
pub(super) fn read_shared(
    table: &mut TableReader<'_>,
    carriers: &BTreeMap<String, LinkConfig>,
    issues: &mut Issues,
) -> Option<(UplinkName, LinkConfig)> {
    let at = table.value_span("via");
    let name = table.optional("via", read::text, issues)?;
    for key in KEYS.into_iter().chain(["max-messages-per-second", "max-bytes-per-second"]) {
        if let Some(at) = table.key_span(key) {
            table.take(key);
            let message = format!("`{key}` is for the uplink that has the connection");
            issues.error(at, message, "remove it here, or remove `via`");
        }
    }
    let Some(link) = carriers.get(&name) else {
        let message = format!("no uplink above has the name `{name}` and a connection of its own");
        issues.error(at, message, "name one that stands before this one");
        return None;
    };
    Some((UplinkName::new(&name).ok()?, link.clone()))
}

/// Where the far side is. Complete.
#[derive(Clone, Copy, Debug)]
pub(super) enum Far<'d> {
    /// `url` and what goes with it say it.
    Given,
    /// A pairing service says it, unless its table is wrong; the keys of [`Given`](Self::Given) were refused.
    Pairing(Option<&'d AstarteConfig>),
}

/// Reads the keys of the connection; `None` without a broker, which is noted.
pub(super) fn read_link(
    table: &mut TableReader<'_>,
    far: Far<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<LinkConfig> {
    let words = [
        ("mqtt", Profile::Mqtt),
        ("aws-iot-core", Profile::AwsIotCore),
        ("azure-iot-hub", Profile::AzureIotHub),
        ("azure-event-grid", Profile::AzureEventGrid),
    ];
    let profile = table.optional_or("profile", Profile::Mqtt, read::word(&words), issues);
    let hub = read_hub(table, profile, context, issues);
    let side = Side { profile, entry: AwsEntry::of(table) };
    let aws = read_aws(table, profile, context, issues);
    let preferred = match far {
        Far::Given => read_endpoint(table, side, context, issues),
        Far::Pairing(device) => device.map(|device| device.pairing.clone()),
    };
    let read = |backup: TableReader<'_>, issues: &mut Issues| {
        read_backup(backup, preferred.as_ref(), side, context, issues)
    };
    let backups = table.tables("backup", read, issues);
    let is_amqp = preferred.iter().chain(&backups).any(|it| it.url.vhost().is_some());
    let exchange = read_exchange(table, is_amqp, issues);
    let profile = if is_amqp { Profile::Amqp } else { profile };
    let bounds = profile.bounds();
    let way = read_way(table, context, issues);
    let version = read_version(table, profile, issues);
    let client_id = table.optional("client-id", read::text, issues);
    let client_id = hub.as_ref().map(|hub| hub.device.id().to_owned()).or(client_id);
    check_client_id(table, client_id.as_deref(), profile, issues);
    let (least, most) = bounds.keep_alive;
    let keep_alives = read::duration_within(least..=most);
    let keep_alive = table.optional_or("keep-alive", KEEP_ALIVE_DEFAULT, keep_alives, issues);
    let timeouts = read::duration_within(Duration::from_secs(1)..=Duration::from_secs(3_600));
    let ack_timeout = table.optional_or("ack-timeout", ACK_TIMEOUT_DEFAULT, timeouts, issues);
    let (usual, longest) = bounds.session_expiry;
    let expiries = read::duration_within(Duration::from_secs(60)..=longest);
    let session_expiry = table.optional_or("session-expiry", usual, expiries, issues);
    let (usual, most) = bounds.in_flight;
    let in_flight_max = table.optional_or("max-in-flight", usual, read::integer(1..=most), issues);
    let (usual, most) = bounds.rates;
    let message_rates = read::integer(1..=most.messages.unwrap_or(1_000_000));
    let byte_rates = read_byte_rate(most.bytes.unwrap_or(1 << 30));
    let messages = table.optional("max-messages-per-second", message_rates, issues);
    let bytes = table.optional("max-bytes-per-second", byte_rates, issues);
    let rates = Rates { messages: messages.or(usual.messages), bytes: bytes.or(usual.bytes) };
    preferred.map(|preferred| LinkConfig {
        endpoints: std::iter::once(preferred).chain(backups).collect(),
        way,
        profile,
        version,
        client_id,
        keep_alive,
        ack_timeout,
        in_flight_max,
        session_expiry,
        rates,
        exchange,
        hub,
        aws,
    })
}

/// Reads `exchange`, which only AMQP has.
fn read_exchange(table: &mut TableReader<'_>, is_amqp: bool, issues: &mut Issues) -> String {
    let at = table.key_span("exchange");
    let read = |node: &Node, issues: &mut Issues| {
        let text = read::string(node, issues)?;
        if text.len() > EXCHANGE_BYTES_MAX {
            let message = "the name of an exchange has at most 255 bytes";
            issues.error(node.span, message, "such as \"amq.topic\"");
            return None;
        }
        Some(text.to_owned())
    };
    let exchange = table.optional("exchange", read, issues);
    if let (Some(at), false) = (at, is_amqp) {
        issues.error(at, "`exchange` is for `amqp://` and `amqps://`", "remove it");
    }
    exchange.unwrap_or_else(|| EXCHANGE_DEFAULT.to_owned())
}

/// Reads the version; some far sides know only one.
fn read_version(table: &mut TableReader<'_>, profile: Profile, issues: &mut Issues) -> MqttVersion {
    let at = table.value_span("version");
    let version = table.optional("version", MqttVersion::read, issues);
    if profile != Profile::AzureIotHub {
        return version.unwrap_or(VERSION_DEFAULT);
    }
    if version == Some(MqttVersion::V5) {
        issues.error(at, "Azure IoT Hub speaks MQTT 3.1.1", "remove `version`");
    }
    MqttVersion::V3
}

/// Notes a client identifier that the far side would not take.
fn check_client_id(
    table: &TableReader<'_>,
    id: Option<&str>,
    profile: Profile,
    issues: &mut Issues,
) {
    if let Some(reason) = id.and_then(|id| profile.refuses_client_id(id)) {
        let message = format!("the broker does not take this client id: {reason}");
        let issue = Issue::error(table.value_span("client-id"), message);
        issues.push(issue.with_hint("choose another, or remove the key"));
    }
}

pub(super) fn read_byte_rate(most: u32) -> impl Fn(&Node, &mut Issues) -> Option<u32> {
    move |node, issues| {
        let sizes = ByteSize::kib(1)..=ByteSize::kib(u64::from(most) >> 10);
        let size = read::byte_size_within(sizes)(node, issues)?;
        u32::try_from(size.get()).ok()
    }
}
