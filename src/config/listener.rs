//! `[mqtt]`, `[coap]` and `[http]`: where clients and devices connect.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tidegate_settings::{Issue, Issues, Node, Span, TableReader, read};

use super::broker::BrokerConfig;
use super::context::Context;
use super::secret;
use super::tls::TlsConfig;

/// Where clients or devices of one protocol connect.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// The addresses without encryption; may be empty where there is [`tls`](Self::tls).
    pub listen: Vec<SocketAddr>,
    /// Whether clients without credentials are let in there. Only with loopback addresses.
    pub anonymous: bool,
    /// Where clients connect with TLS.
    pub tls: Option<TlsConfig>,
    /// Where MQTT clients connect in WebSocket frames.
    pub websocket: Option<WebSocketConfig>,
    /// What MQTT clients are told.
    pub broker: BrokerConfig,
}

/// `[mqtt.websocket]`: MQTT in WebSocket frames (MQTT 5.0, section 6).
#[derive(Clone, Debug)]
pub struct WebSocketConfig {
    /// The addresses without encryption; may be empty where there is [`tls`](Self::tls).
    pub listen: Vec<SocketAddr>,
    /// Whether clients without credentials are let in there. Only with loopback addresses.
    pub anonymous: bool,
    /// Where clients connect with TLS.
    pub tls: Option<TlsConfig>,
    /// The path of the URL.
    pub path: String,
    /// Web pages that may connect, as browsers name them (`https://scada.plant.example`), besides those that come
    /// from the same host and port.
    pub origins: Vec<String>,
}

/// The protocol of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Mqtt,
    Coap,
    Http,
}

/// The addresses of all listeners, to find two that want the same.
#[derive(Debug, Default)]
pub(super) struct Taken {
    tcp: Addresses,
    udp: Addresses,
}

/// Addresses of one transport, and where they are written.
#[derive(Debug, Default)]
pub(super) struct Addresses(Vec<(SocketAddr, Span)>);

const MQTT_LISTEN_DEFAULT: SocketAddr = loopback(1883);
const WEBSOCKET_LISTEN_DEFAULT: SocketAddr = loopback(8083);
const COAP_LISTEN_DEFAULT: SocketAddr = loopback(5683);
const HTTP_LISTEN_DEFAULT: SocketAddr = loopback(8080);
const ANONYMOUS_DEFAULT: bool = false;
const ALLOW_PLAIN_DEFAULT: bool = false;
const WEBSOCKET_PATH_DEFAULT: &str = "/mqtt";

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

impl ListenerConfig {
    pub(super) fn read(
        protocol: Protocol,
        mut table: TableReader<'_>,
        context: &Context<'_>,
        taken: &mut Taken,
        issues: &mut Issues,
    ) -> Option<Self> {
        let (default, taken) = match protocol {
            Protocol::Mqtt => (MQTT_LISTEN_DEFAULT, &mut taken.tcp),
            Protocol::Coap => (COAP_LISTEN_DEFAULT, &mut taken.udp),
            Protocol::Http => (HTTP_LISTEN_DEFAULT, &mut taken.tcp),
        };
        let plain = Plain::read(&mut table, default, taken, issues);
        let mut tls = |example: &str, table: &mut TableReader<'_>, issues: &mut Issues| {
            let read = |table: TableReader<'_>, issues: &mut Issues| {
                TlsConfig::read(table, example, context, taken, issues)
            };
            table.table("tls", read, issues)
        };
        let tls = match protocol {
            Protocol::Mqtt => tls("listen = [\"0.0.0.0:8883\"]", &mut table, issues),
            Protocol::Http => tls("listen = [\"0.0.0.0:8443\"]", &mut table, issues),
            Protocol::Coap => {
                table.table("dtls", |dtls, issues| refuse_dtls(dtls, context, issues), issues);
                None
            }
        };
        let broker = match protocol {
            Protocol::Mqtt => BrokerConfig::read(&mut table, issues),
            Protocol::Coap | Protocol::Http => BrokerConfig::default(),
        };
        let websocket = if protocol == Protocol::Mqtt {
            let read = |table: TableReader<'_>, issues: &mut Issues| {
                WebSocketConfig::read(table, context, taken, issues)
            };
            table.table("websocket", read, issues)
        } else {
            None
        };
        table.finish(issues);
        let Plain { listen, anonymous } = plain;
        Some(Self { listen, anonymous, tls, websocket, broker })
    }
}

impl WebSocketConfig {
    fn read(
        mut table: TableReader<'_>,
        context: &Context<'_>,
        taken: &mut Addresses,
        issues: &mut Issues,
    ) -> Option<Self> {
        let Plain { listen, anonymous } =
            Plain::read(&mut table, WEBSOCKET_LISTEN_DEFAULT, taken, issues);
        let path = table.optional("path", read_path, issues);
        let origins = table.optional("origins", read::list(read_origin), issues);
        let read = |table: TableReader<'_>, issues: &mut Issues| {
            TlsConfig::read(table, "listen = [\"0.0.0.0:8084\"]", context, taken, issues)
        };
        let tls = table.table("tls", read, issues);
        table.finish(issues);
        let path = path.unwrap_or_else(|| WEBSOCKET_PATH_DEFAULT.to_owned());
        Some(Self { listen, anonymous, tls, path, origins: origins.unwrap_or_default() })
    }
}

fn read_path(node: &Node, issues: &mut Issues) -> Option<String> {
    let text = read::text(node, issues)?;
    if !text.starts_with('/') || text.contains(['?', '#']) || !text.is_ascii() {
        let hint = "write it like \"/mqtt\"";
        issues.error(node.span, format!("`{text}` is not the path of a URL"), hint);
        return None;
    }
    Some(text)
}

fn read_origin(node: &Node, issues: &mut Issues) -> Option<String> {
    let text = read::text(node, issues)?;
    let host = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    if host.is_none_or(|host| host.is_empty() || host.contains('/')) {
        let hint = "write scheme, host and port as browsers do, such as \"https://scada.example\"";
        issues.error(node.span, format!("`{text}` is not an origin"), hint);
        return None;
    }
    Some(text.to_ascii_lowercase())
}

/// Checks `[coap.dtls]`, and notes that it cannot be used yet: leaving it out silently would leave a listener less
/// safe than its author thinks.
fn refuse_dtls(
    mut table: TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<()> {
    table.required_list("listen", "listen = [\"0.0.0.0:5684\"]", listen_address, issues);
    table.required_like("cert", "cert = \"server.pem\"", read::text, issues);
    let key = "key = { file = \"server.key\" }";
    table.required_like("key", key, |node, issues| secret::read(node, context, issues), issues);
    table.optional("client-ca", read::text, issues);
    issues.error(
        table.span(),
        "DTLS listeners are not available in this version",
        "remove the table, and listen on loopback addresses only",
    );
    table.finish(issues);
    Some(())
}

/// The keys of a listener without encryption.
struct Plain {
    listen: Vec<SocketAddr>,
    anonymous: bool,
}

impl Plain {
    fn read(
        table: &mut TableReader<'_>,
        default: SocketAddr,
        taken: &mut Addresses,
        issues: &mut Issues,
    ) -> Self {
        let located =
            |node: &Node, issues: &mut Issues| Some((listen_address(node, issues)?, node.span));
        let is_empty = |table: &TableReader<'_>| {
            let list = table.node("listen").and_then(Node::as_array);
            list.is_some_and(<[Node]>::is_empty)
        };
        let listen = if table.has("tls") && is_empty(table) {
            table.take("listen");
            Vec::new()
        } else if table.has("listen") {
            let example = format!("listen = [\"{default}\"]");
            table.required_list("listen", &example, located, issues)
        } else {
            table.take("listen");
            vec![(default, table.span())]
        };
        let anonymous = table.optional_or("anonymous", ANONYMOUS_DEFAULT, read::boolean, issues);
        let allow_plain =
            table.optional_or("allow-plain", ALLOW_PLAIN_DEFAULT, read::boolean, issues);
        for (address, at) in &listen {
            taken.check(*address, *at, issues);
            if address.ip().is_loopback() {
                continue;
            }
            if anonymous {
                let message = format!(
                    "`{address}` is not a loopback address, and `anonymous` lets anyone in"
                );
                let issue = Issue::error(*at, message).with_hint(
                    "listen on 127.0.0.1, or remove `anonymous` and add a `[[principal]]`",
                );
                issues.push(issue.with_related(table.value_span("anonymous"), "set here"));
            } else if !allow_plain {
                issues.error(
                    *at,
                    format!("`{address}` is not a loopback address, and the listener has no encryption"),
                    "listen on 127.0.0.1, or write `allow-plain = true` where the network is trusted",
                );
            }
        }
        Self { listen: listen.into_iter().map(|(address, _)| address).collect(), anonymous }
    }
}

/// Reads an address with a port, such as `127.0.0.1:1883` or `[::1]:1883`. Port 0 takes a free one.
pub(super) fn listen_address(node: &Node, issues: &mut Issues) -> Option<SocketAddr> {
    let text = read::string(node, issues)?;
    let Ok(address) = text.parse() else {
        let hint = if text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) {
            format!("put an IPv6 address in brackets and add a port, such as \"[{text}]:1883\"")
        } else if text.parse::<IpAddr>().is_ok() {
            format!("add a port, such as \"{text}:1883\"")
        } else if let Some(port) = text.strip_prefix("localhost:") {
            format!("write the address: \"127.0.0.1:{port}\"")
        } else if let Some(port) = text.strip_prefix("*:").or(text.strip_prefix(':')) {
            format!("for all addresses write \"0.0.0.0:{port}\"")
        } else {
            "write an IP address and a port, such as \"127.0.0.1:1883\"".to_owned()
        };
        issues.error(node.span, format!("`{text}` is not an address to listen on"), hint);
        return None;
    };
    Some(address)
}

impl Addresses {
    /// Takes an address, and notes if somebody has it already.
    pub(super) fn check(&mut self, address: SocketAddr, at: Span, issues: &mut Issues) {
        let clash = self.0.iter().find(|(other, _)| {
            let same_ip = other.ip() == address.ip()
                || (other.is_ipv4() == address.is_ipv4()
                    && (other.ip().is_unspecified() || address.ip().is_unspecified()));
            address.port() != 0 && other.port() == address.port() && same_ip
        });
        if let Some((other, first)) = clash {
            let issue = Issue::error(at, format!("`{address}` is taken already, by `{other}`"));
            let issue = issue.with_hint("choose another port");
            issues.push(issue.with_related(*first, "first taken here"));
        }
        self.0.push((address, at));
    }
}
