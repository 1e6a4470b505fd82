//! The connection of an uplink.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use tidegate_settings::{Issue, Issues, Node, TableReader, read};
use tidegate_tls::{ClientSetup, Identity, Trust, client_config};

use crate::config::context::Context;
use crate::config::secret::{self, Secret};
use crate::config::tls;

/// Where a cloud broker is: `mqtt://host:port`, or `mqtts://host:port` with TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LinkUrl {
    is_encrypted: bool,
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
const ENCRYPTED_PORT_DEFAULT: u16 = 8883;
const VERSION_DEFAULT: MqttVersion = MqttVersion::V5;
const KEEP_ALIVE_DEFAULT: Duration = Duration::from_secs(60);
const URL_HINT: &str = "write it like \"mqtts://cloud.example:8883\"";

impl LinkUrl {
    /// Returns the host.
    pub fn host(&self) -> &LinkHost {
        &self.host
    }

    /// Returns whether the connection is made with TLS.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
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
        let is_encrypted = match scheme {
            "mqtt" => false,
            "mqtts" => true,
            "wss" | "ws" | "http" | "https" | "amqps" => {
                let message = format!("`{scheme}://` is not available in this version");
                issues.error(scheme_at, message, "use `mqtts://`, or `mqtt://` without encryption");
                return None;
            }
            _ => {
                issues.error(scheme_at, format!("`{scheme}://` is not known here"), URL_HINT);
                return None;
            }
        };
        let url = parse_authority(rest, is_encrypted);
        if let Ok(LinkUrl { is_encrypted: true, host: LinkHost::Address(IpAddr::V6(_)), .. }) = url
        {
            issues.error(
                node.span,
                "`mqtts://` does not take an IPv6 address in this version",
                "write the name that stands in the broker's certificate",
            );
            return None;
        }
        if let Err(message) = &url {
            issues.error(node.span, *message, URL_HINT);
        }
        url.ok()
    }
}

fn parse_authority(rest: &str, is_encrypted: bool) -> Result<LinkUrl, &'static str> {
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
        _ => (rest, if is_encrypted { ENCRYPTED_PORT_DEFAULT } else { PORT_DEFAULT }),
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
    Ok(LinkUrl { is_encrypted, host, port })
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
        let scheme = if self.is_encrypted { "mqtts" } else { "mqtt" };
        match &self.host {
            LinkHost::Address(IpAddr::V6(address)) => {
                write!(formatter, "{scheme}://[{address}]:{}", self.port)
            }
            LinkHost::Address(address) => write!(formatter, "{scheme}://{address}:{}", self.port),
            LinkHost::Name(name) => write!(formatter, "{scheme}://{name}:{}", self.port),
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

/// Whom an encrypted link believes, and what it shows.
#[derive(Clone, Debug)]
pub struct UplinkTls {
    /// The authorities of `ca`; those of the operating system without it.
    pub trust: Option<Trust>,
    /// `cert` and `key`.
    pub identity: Option<Identity>,
}

/// The keys of the connection.
pub(super) struct Link {
    pub(super) url: Option<LinkUrl>,
    pub(super) version: MqttVersion,
    pub(super) client_id: Option<String>,
    pub(super) keep_alive: Duration,
    pub(super) login: Option<UplinkLogin>,
    pub(super) tls: Option<UplinkTls>,
}

/// Reads the keys of the connection.
pub(super) fn read_link(
    table: &mut TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Link {
    let example = "url = \"mqtts://cloud.example:8883\"";
    let url = table.required_like("url", example, LinkUrl::read, issues);
    let version = table.optional_or("version", VERSION_DEFAULT, MqttVersion::read, issues);
    let client_id = table.optional("client-id", read::text, issues);
    let keep_alives = read::duration_within(Duration::from_secs(5)..=Duration::from_secs(3_600));
    let keep_alive = table.optional_or("keep-alive", KEEP_ALIVE_DEFAULT, keep_alives, issues);
    let tls = if url.as_ref().is_some_and(|url| !url.is_encrypted) {
        refuse_tls(table, context, issues);
        None
    } else {
        read_tls(table, context, issues)
    };
    let login = read_login(table, url.as_ref(), context, issues);
    Link { url, version, client_id, keep_alive, login, tls }
}

/// Notes keys that mean nothing without encryption.
fn refuse_tls(table: &mut TableReader<'_>, context: &Context<'_>, issues: &mut Issues) {
    let places = ["ca", "crl", "cert", "key"].map(|key| (key, table.key_span(key)));
    for key in ["ca", "crl", "cert"] {
        table.optional(key, read::text, issues);
    }
    table.optional("key", |node, issues| secret::read(node, context, issues), issues);
    for (key, at) in places {
        if let Some(at) = at {
            let message = format!("`{key}` has no effect: `mqtt://` does not encrypt");
            issues.error(at, message, "write `mqtts://` in `url`, or remove the key");
        }
    }
}

/// Reads `ca`, `crl`, `cert` and `key`.
fn read_tls(
    table: &mut TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<UplinkTls> {
    let trust_at = table.value_span("ca");
    let trust = tls::read_trust(table, "ca", context, issues);
    let (cert_at, key_at) = (table.value_span("cert"), table.value_span("key"));
    let given = (table.key_span("cert"), table.key_span("key"));
    let cert = table.optional("cert", |node, issues| tls::read_pem(node, context, issues), issues);
    let key = table.optional("key", |node, issues| secret::read(node, context, issues), issues);
    let identity = match given {
        (None, None) => None,
        (Some(_), Some(_)) => Some(tls::identity(&cert?, cert_at, key?.expose(), key_at, issues)?),
        (Some(at), None) => {
            issues.error(at, "`cert` needs a `key`", "add `key = { file = \"…\" }`");
            return None;
        }
        (None, Some(at)) => {
            issues.error(at, "`key` needs a `cert`", "add `cert = \"…\"`");
            return None;
        }
    };
    let tls = UplinkTls { trust: trust?, identity };
    if let Some(trust) = tls.trust.clone() {
        let setup = ClientSetup { trust, identity: None, protocols: Vec::new() };
        if let Err(error) = client_config(setup) {
            issues.error(trust_at, error.to_string(), "see `ca` and `crl`");
            return None;
        }
    }
    Some(tls)
}

/// Reads the keys of the login.
fn read_login(
    table: &mut TableReader<'_>,
    url: Option<&LinkUrl>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<UplinkLogin> {
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
        && !url.is_encrypted
        && !url.host.is_loopback()
    {
        let issue = Issue::hint(at, "the password crosses the network unencrypted");
        issues.push(issue.with_hint("write `mqtts://` in `url`"));
    }
    username.map(|username| UplinkLogin { username, password })
}
