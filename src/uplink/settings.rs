//! What an uplink is told by its configuration.

use std::{
    fmt::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tidegate_model::{CommandKind, Topic, TopicFilter};
use tidegate_rules::Selector;
use tidegate_tls::{ClientSetup, ClientTls, Trust};
use tidegate_uplink::{
    FleetTemplate, HubSettings, Pauses, Rates, Settings, ShadowSettings, SigV4,
    bridge::{Bridge, InRoute},
    decoder::Limits,
    thingsboard::BoardSettings,
};
use tokio::sync::Notify;

use super::{
    connection::SparkplugB,
    replaceable::Replaceable,
    seat::Seat,
    switch::{Branch, SecondQueue},
};
use crate::dial::{Way, authority};

/// Everything about one uplink.
#[derive(Clone, Debug)]
pub struct UplinkSettings {
    /// Which topics it takes.
    pub selector: Selector,
    /// Where it is decided whether it takes what comes in; at each of them it must.
    pub branches: Vec<Branch>,
    /// What it makes of them.
    pub core: Settings,
    /// Where they go.
    pub link: LinkSettings,
    /// How large what comes down may be.
    pub downlink: Limits,

    /// How long a stop may take to deliver what is under way.
    pub grace: Duration,
}

/// The version of MQTT that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MqttVersion {
    /// 3.1.1.
    V3_1_1,
    /// 5.0.
    #[default]
    V5,
}

/// A connection to a broker.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Brokers that will do, the preferred first; at least one.
    pub endpoints: Vec<Endpoint>,
    /// How they are reached.
    pub way: Way,
    /// The place on the connection of another uplink, in place of one of its own.
    pub seat: Option<Arc<Seat>>,
    /// The places of others on this one's connection.
    pub passengers: Vec<Arc<Seat>>,
    /// The second queue of this uplink, which is among the passengers.
    pub second: Option<SecondQueue>,
    /// The version of MQTT.
    pub version: MqttVersion,
    /// The client identifier: the same after every restart, and of this uplink alone.
    pub client_id: String,
    /// How long the connection may be silent; at least 5 s.
    pub keep_alive: Duration,
    /// How long the broker may take to answer a message before the connection is given up.
    pub ack_timeout: Duration,
    /// How many messages may be without an answer.
    pub in_flight_max: usize,
    /// How fast the broker takes messages.
    pub rates: Rates,
    /// How fast goes what has waited for a connection.
    pub replay_rates: Rates,
    /// How long to wait between attempts to connect.
    pub pauses: Pauses,
    /// Told when what a connection believes or shows was replaced.
    pub renewed: Arc<Notify>,
    /// How long the broker keeps what comes down while the connection is lost (MQTT 5).
    pub session_expiry: Duration,
    /// What may come down; nothing without it.
    pub commands: Option<CommandRoute>,
    /// Below which topic outcomes of commands go up.
    pub results: Option<Topic>,
    /// What is spoken over MQTT, if it is more than topics and payloads.
    pub dialect: Option<Dialect>,
    /// What comes down to be published here, and what of that goes out again.
    pub bridge: Bridge,
    /// How AWS IoT Core is asked for a certificate, if it is to give one out.
    pub fleet: Option<Arc<FleetSettings>>,
    /// The shadow of AWS IoT Core that goes by this connection, if one does.
    pub shadow: Option<Arc<ShadowSettings>>,
}

/// How AWS IoT Core is asked for a certificate. What the endpoints show is the claim.
#[derive(Clone, Debug)]
pub struct FleetSettings {
    /// The template, and what it is told.
    pub template: FleetTemplate,
    /// Where key and certificate are kept.
    pub folder: PathBuf,
    /// Whom each endpoint believes.
    pub setups: Vec<ClientSetup>,
}

/// What a far side wants said over MQTT in a way of its own: its connection makes that of payloads, or of readings in the
/// format [`Typed`](tidegate_uplink::Format::Typed).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Dialect {
    /// An edge node of Sparkplug B.
    SparkplugB(Arc<SparkplugB>),
    /// Astarte: the gateway is a device of a realm.
    Astarte(Arc<AstarteSettings>),
    /// Azure IoT Hub, which carries what is said of a payload in its topic; each connection takes the settings as they are.
    IotHub(Replaceable<Arc<HubSettings>>),
    /// ThingsBoard: a gateway with devices.
    ThingsBoard(Arc<BoardSettings>),
}

/// A device of Astarte. The endpoint of its link is the pairing service.
#[derive(Clone, Debug)]
pub struct AstarteSettings {
    /// Who it is, and what it says and hears.
    pub setup: Arc<tidegate_astarte::Setup>,
    /// Whom it believes to be the broker.
    pub trust: Trust,
    /// Where its key and certificate are kept.
    pub folder: PathBuf,
    /// What its connections know for sure of the far side.
    pub certainty: tidegate_astarte::Certainty,
}

impl AstarteSettings {
    /// What the topics of commands begin with on their way through the gateway.
    pub(super) const COMMANDS: &str = "$astarte/";

    /// Returns the way of commands, if any can come.
    pub fn commands(&self) -> Option<CommandRoute> {
        let filter = TopicFilter::new(&format!("{}#", Self::COMMANDS)).ok()?;
        let route = CommandRoute::new(filter).ok();
        route.filter(|_| self.setup.routes.have_commands())
    }
}

impl LinkSettings {
    /// The default of [`keep_alive`](Self::keep_alive).
    pub const KEEP_ALIVE_DEFAULT: Duration = Duration::from_secs(30);
    /// The default of [`ack_timeout`](Self::ack_timeout).
    pub const ACK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
    /// The default of [`in_flight_max`](Self::in_flight_max), and the most.
    pub const IN_FLIGHT_MAX: usize = 512;
    /// The default of [`session_expiry`](Self::session_expiry).
    pub const SESSION_EXPIRY_DEFAULT: Duration = Duration::from_secs(24 * 3_600);

    /// Returns what is subscribed to.
    pub(super) fn heard(&self) -> Vec<&TopicFilter> {
        let commands = self.commands.iter().map(CommandRoute::filter);
        commands.chain(self.bridge.inbound.iter().map(InRoute::filter)).collect()
    }

    /// Returns whether anything may come down, which the far side is to keep while there is no connection.
    pub(super) fn hears(&self) -> bool {
        !self.heard().is_empty()
    }
}

/// One broker that an uplink may connect to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The handshakes, if the connection is encrypted.
    pub tls: Option<Arc<ClientTls>>,
    /// How WebSocket frames are asked for, if MQTT goes in those.
    pub websocket: Option<WebSocketRequest>,
    /// Where batches are posted, if it is no broker but a server of HTTP.
    pub http: Option<HttpTarget>,
    /// Where messages are published, if it is a broker of AMQP.
    pub amqp: Option<AmqpTarget>,
    /// User name and password, if the broker wants them, as they are now.
    pub login: Replaceable<Option<Login>>,
}

/// How WebSocket frames are asked for. Its `Debug` form hides what the headers say.
#[derive(Clone, Default)]
pub struct WebSocketRequest {
    /// The path.
    pub path: Arc<str>,
    /// Headers beside those of the protocol, as they are now: names and values.
    pub headers: Replaceable<Vec<(String, String)>>,
    /// What the request is signed with, each anew, as it is now.
    pub signer: Replaceable<Option<SigV4>>,
}

impl fmt::Debug for WebSocketRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WebSocketRequest").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Where batches are posted. Its `Debug` form hides the token.
#[derive(Clone)]
pub struct HttpTarget {
    /// The path that each topic is put behind, without a `/` at its end.
    pub path: String,
    /// What follows `?`.
    pub query: Option<String>,
    /// A bearer token (RFC 6750), as it is now.
    pub token: Replaceable<Option<String>>,
}

impl HttpTarget {
    /// Returns path and query for a topic; what a URL does not take is percent-encoded (RFC 3986, section 2.1).
    pub(super) fn target(&self, topic: &str) -> String {
        let mut target = format!("{}/", self.path);
        for byte in topic.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    target.push(char::from(byte));
                }
                other => {
                    let _ = write!(target, "%{other:02X}");
                }
            }
        }
        if let Some(query) = &self.query {
            let _ = write!(target, "?{query}");
        }
        target
    }
}

/// Where messages are published at a broker of AMQP 0.9.1.
#[derive(Clone, Debug)]
pub struct AmqpTarget {
    /// The virtual host.
    pub vhost: String,
    /// The exchange; empty for the default one, whose keys are names of queues.
    pub exchange: String,
    /// The queue out of which commands come, if any do.
    pub commands: Option<AmqpQueue>,
}

impl AmqpQueue {
    /// The most that [`payload_bytes_max`](Self::payload_bytes_max) may be: as much as comes down by MQTT.
    pub const PAYLOAD_BYTES_MAX: usize = 512 << 10;
}

/// A queue out of which commands come.
#[derive(Clone, Debug)]
pub struct AmqpQueue {
    /// Its name.
    pub name: String,
    /// The largest payload that is taken in; a message with a larger one is refused, and nothing is kept of it.
    pub payload_bytes_max: usize,
}

impl fmt::Debug for HttpTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("HttpTarget");
        shown.field("path", &self.path).field("query", &self.query).finish_non_exhaustive()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&authority(&self.host, self.port))
    }
}

/// A user name with its password. Its `Debug` form hides both, as a name may be an access token.
#[derive(Clone)]
pub struct Login {
    /// The user name.
    pub username: String,
    /// The password; empty if there is none.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Login").finish_non_exhaustive()
    }
}

/// Where commands come down: a filter that ends in `/#`, whose fixed part is taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRoute {
    filter: TopicFilter,
    fixed: Arc<str>,
}

/// A filter is not one for commands.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`commands` must end in `/#` and hold no other wildcard, like \"tidegate/gw/cmd/#\"")]
pub struct RouteError;

impl CommandRoute {
    /// Takes a filter.
    ///
    /// # Errors
    ///
    /// [`RouteError`] if it does not end in `/#` or holds another wildcard.
    pub fn new(filter: TopicFilter) -> Result<Self, RouteError> {
        let fixed = filter.as_str().strip_suffix('#').ok_or(RouteError)?;
        if !fixed.ends_with('/') || fixed.contains(['+', '#']) {
            return Err(RouteError);
        }
        let fixed = fixed.into();
        Ok(Self { filter, fixed })
    }

    /// Returns the filter to subscribe to.
    pub fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// Returns the local topic that a command is for, without `/set` or `/call`, and its kind.
    pub fn target(&self, topic: &str) -> Option<(Topic, CommandKind)> {
        let below = topic.strip_prefix(&*self.fixed)?;
        let (below, kind) = match below.strip_suffix("/call") {
            Some(below) => (below, CommandKind::Call),
            None => (below, CommandKind::Write),
        };
        Some((Topic::new(below).ok()?, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_become_paths() {
        let target = |path: &str, query: Option<&str>, topic: &str| {
            let query = query.map(str::to_owned);
            HttpTarget { path: path.to_owned(), query, token: Replaceable::default() }.target(topic)
        };
        #[rustfmt::skip]
        let cases = [
            ("",       None,          "a/b",       "/a/b"),
            ("/in",    None,          "a b/ü?#%",  "/in/a%20b/%C3%BC%3F%23%25"),
            ("/in/x",  Some("qos=1"), "a.b-c_d~e", "/in/x/a.b-c_d~e?qos=1"),
        ];
        for (path, query, topic, expected) in cases {
            assert_eq!(target(path, query, topic), expected);
        }
    }
}
