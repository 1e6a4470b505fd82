//! The connection of an uplink.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use tidegate_settings::{Issues, Node, TableReader, read};

use crate::config::context::Context;
use crate::config::secret::{self, Secret};

/// Where a cloud broker is: `mqtt://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LinkUrl {
    host: LinkHost,
    port: u16,
}

/// The host of a [`LinkUrl`]. Complete.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LinkHost {
    /// An address.
    Address(IpAddr),
    /// A name to look up.
    Name(String),
}

/// A version of the protocol. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttVersion {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.0.
    V5,
}

/// As whom to log in at a cloud broker.
#[derive(Clone, Debug)]
pub struct UplinkLogin {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Option<Secret>,
}

const PORT_DEFAULT: u16 = 1883;
const VERSION_DEFAULT: MqttVersion = MqttVersion::V5;
const KEEP_ALIVE_DEFAULT: Duration = Duration::from_secs(60);
const URL_HINT: &str = "write it like \"mqtt://cloud.example:1883\"";

impl LinkUrl {
    /// Returns the host.
    pub fn host(&self) -> &LinkHost {
        &self.host
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn read(node: &Node, issues: &mut Issues) -> Option<Self> {
        let text = read::string(node, issues)?;
        let Some((scheme, rest)) = text.split_once("://") else {
            issues.error(node.span, format!("`{text}` is not a URL"), URL_HINT);
            return None;
        };
        let scheme_at = node.span_within(0..scheme.len());
        match scheme {
            "mqtt" => {}
            "mqtts" | "wss" | "ws" | "http" | "https" | "amqps" => {
                let message = format!("`{scheme}://` is not available in this version");
                issues.error(
                    scheme_at,
                    message,
                    "use `mqtt://`, through a tunnel if the network is not trusted",
                );
                return None;
            }
            _ => {
                issues.error(scheme_at, format!("`{scheme}://` is not known here"), URL_HINT);
                return None;
            }
        }
        let url = parse_authority(rest);
        if let Err(message) = &url {
            issues.error(node.span, *message, URL_HINT);
        }
        url.ok()
    }
}

fn parse_authority(rest: &str) -> Result<LinkUrl, &'static str> {
    if rest.contains('@') {
        return Err("credentials do not belong in a URL: use the keys `username` and `password`");
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err("a broker's URL has no path");
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port > 0);
            (host, port.ok_or("the port must be a number from 1 to 65535")?)
        }
        _ => (rest, PORT_DEFAULT),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match (bracketed, host.parse()) {
        (Some(address), _) => {
            let address =
                address.parse().map_err(|_| "the address in brackets is not an IPv6 address")?;
            LinkHost::Address(IpAddr::V6(address))
        }
        (None, Ok(address @ IpAddr::V4(_))) => LinkHost::Address(address),
        (None, Ok(IpAddr::V6(_))) => return Err("an IPv6 address stands in brackets"),
        (None, Err(_)) => LinkHost::Name(check_host_name(host)?),
    };
    Ok(LinkUrl { host, port })
}

fn check_host_name(host: &str) -> Result<String, &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
        return Err("the host is not a name or an address");
    }
    Ok(host.to_owned())
}

impl fmt::Display for LinkUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            LinkHost::Address(IpAddr::V6(address)) => {
                write!(formatter, "mqtt://[{address}]:{}", self.port)
            }
            LinkHost::Address(address) => write!(formatter, "mqtt://{address}:{}", self.port),
            LinkHost::Name(name) => write!(formatter, "mqtt://{name}:{}", self.port),
        }
    }
}

impl LinkHost {
    /// Returns whether nothing sent there leaves this machine.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }
}

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

/// The keys of the connection.
pub(super) struct Link {
    pub(super) url: Option<LinkUrl>,
    pub(super) version: MqttVersion,
    pub(super) client_id: Option<String>,
    pub(super) keep_alive: Duration,
    pub(super) login: Option<UplinkLogin>,
}

/// Reads the keys of the connection.
pub(super) fn read_link(
    table: &mut TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Link {
    let example = "url = \"mqtt://cloud.example:1883\"";
    let url = table.required_like("url", example, LinkUrl::read, issues);
    let version = table.optional_or("version", VERSION_DEFAULT, MqttVersion::read, issues);
    let client_id = table.optional("client-id", read::text, issues);
    let keep_alives = read::duration_within(Duration::from_secs(5)..=Duration::from_secs(3_600));
    let keep_alive = table.optional_or("keep-alive", KEEP_ALIVE_DEFAULT, keep_alives, issues);
    let login = read_login(table, url.as_ref(), context, issues);
    Link { url, version, client_id, keep_alive, login }
}

/// Reads the keys of login and encryption.
fn read_login(
    table: &mut TableReader<'_>,
    url: Option<&LinkUrl>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<UplinkLogin> {
    for key in ["ca", "cert"] {
        let given = table.key_span(key);
        table.optional(key, read::text, issues);
        if let (Some(at), Some(_)) = (given, url) {
            let message = format!("`{key}` has no effect: `mqtt://` does not encrypt");
            issues.error(at, message, "remove it; `mqtts://` is not available in this version");
        }
    }
    let key_at = table.key_span("key");
    table.optional("key", |node, issues| secret::read(node, context, issues), issues);
    if let (Some(at), Some(_)) = (key_at, url) {
        let message = "`key` has no effect: `mqtt://` does not encrypt";
        issues.error(at, message, "remove it; `mqtts://` is not available in this version");
    }
    let password_at = table.key_span("password");
    let username_given = table.has("username");
    let username = table.optional("username", read::text, issues);
    let password =
        table.optional("password", |node, issues| secret::read(node, context, issues), issues);
    if let (Some(at), false) = (password_at, username_given) {
        // MQTT 3.1.1, section 3.1.2.9.
        issues.error(at, "`password` needs a `username`", "add `username`");
    }
    if let (Some(at), Some(url)) = (password_at, url)
        && !url.host.is_loopback()
    {
        let hint = "connect through a tunnel if the network is not trusted";
        let issue =
            tidegate_settings::Issue::hint(at, "the password crosses the network unencrypted");
        issues.push(issue.with_hint(hint));
    }
    username.map(|username| UplinkLogin { username, password })
}
