//! The connection of an uplink.

use std::time::Duration;

use tidegate_settings::{ByteSize, Issues, Node, TableReader, read};
use tidegate_uplink::Rates;

use super::endpoint::{EndpointConfig, read_backup, read_endpoint};
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
const ACK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const SESSION_EXPIRY_DEFAULT: Duration = Duration::from_secs(24 * 3_600);
const IN_FLIGHT_MAX: usize = 512;

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
}

/// Reads the keys of the connection; `None` without a broker, which is noted.
pub(super) fn read_link(
    table: &mut TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> (MqttVersion, Option<LinkConfig>) {
    let preferred = read_endpoint(table, context, issues);
    let read = |backup: TableReader<'_>, issues: &mut Issues| {
        read_backup(backup, preferred.as_ref(), context, issues)
    };
    let backups = table.tables("backup", read, issues);
    let way = read_way(table, context, issues);
    let version = table.optional_or("version", VERSION_DEFAULT, MqttVersion::read, issues);
    let client_id = table.optional("client-id", read::text, issues);
    let seconds =
        |least, most| read::duration_within(Duration::from_secs(least)..=Duration::from_secs(most));
    let keep_alive = table.optional_or("keep-alive", KEEP_ALIVE_DEFAULT, seconds(5, 3_600), issues);
    let ack_timeout =
        table.optional_or("ack-timeout", ACK_TIMEOUT_DEFAULT, seconds(1, 3_600), issues);
    let expiries = seconds(60, 365 * 24 * 3_600);
    let session_expiry =
        table.optional_or("session-expiry", SESSION_EXPIRY_DEFAULT, expiries, issues);
    let in_flight = read::integer(1..=IN_FLIGHT_MAX);
    let in_flight_max = table.optional_or("max-in-flight", IN_FLIGHT_MAX, in_flight, issues);
    let rates = Rates {
        messages: table.optional("max-messages-per-second", read::integer(1..=1_000_000), issues),
        bytes: table.optional("max-bytes-per-second", read_byte_rate, issues),
    };
    let link = preferred.map(|preferred| LinkConfig {
        endpoints: std::iter::once(preferred).chain(backups).collect(),
        way,
        version,
        client_id,
        keep_alive,
        ack_timeout,
        in_flight_max,
        session_expiry,
        rates,
    });
    (version, link)
}

fn read_byte_rate(node: &Node, issues: &mut Issues) -> Option<u32> {
    let sizes = ByteSize::kib(1)..=ByteSize::gib(1);
    let size = read::byte_size_within(sizes)(node, issues)?;
    u32::try_from(size.get()).ok()
}
