//! Where a cloud broker is.

use std::fmt;
use std::net::IpAddr;

use tidegate_settings::{Issues, Node, read};
use tidegate_uplink::percent_decoded;

/// Where a cloud is: `mqtt://host:port`, `ws://host:port/path` in WebSocket frames, `http://host:port/path?query` for
/// posts, `amqp://host:port/vhost`, or with TLS `mqtts://`, `wss://`, `https://` and `amqps://`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LinkUrl {
    scheme: Scheme,
    host: LinkHost,
    port: u16,
    /// The path to ask for frames, or to post behind, with the query; or the virtual host.
    path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scheme {
    Mqtt,
    Mqtts,
    Ws,
    Wss,
    Http,
    Https,
    Amqp,
    Amqps,
}

impl Scheme {
    fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Mqtt,
            Self::Mqtts,
            Self::Ws,
            Self::Wss,
            Self::Http,
            Self::Https,
            Self::Amqp,
            Self::Amqps,
        ];
        all.into_iter().find(|it| it.as_str() == text)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Http => "http",
            Self::Https => "https",
            Self::Amqp => "amqp",
            Self::Amqps => "amqps",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Mqtt => 1883,
            Self::Mqtts => 8883,
            Self::Ws | Self::Http => 80,
            Self::Wss | Self::Https => 443,
            Self::Amqp => 5672,
            Self::Amqps => 5671,
        }
    }

    fn is_encrypted(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss | Self::Https | Self::Amqps)
    }

    fn has_frames(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    fn is_amqp(self) -> bool {
        matches!(self, Self::Amqp | Self::Amqps)
    }
}

/// The host of a [`LinkUrl`]. Complete.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LinkHost {
    /// An address.
    Address(IpAddr),
    /// A name to look up.
    Name(String),
}

const URL_HINT: &str = "write it like \"mqtts://cloud.example:8883\"";
const AMQP_HINT: &str = "write it like \"amqps://rabbit.example/plant\"";
const WEBSOCKET_PATH_DEFAULT: &str = "/mqtt";

impl LinkUrl {
    /// Returns the host.
    pub fn host(&self) -> &LinkHost {
        &self.host
    }

    /// Returns whether the connection is made with TLS.
    pub fn is_encrypted(&self) -> bool {
        self.scheme.is_encrypted()
    }

    /// Returns the path to ask for WebSocket frames, if MQTT goes in those.
    pub fn websocket_path(&self) -> Option<&str> {
        self.scheme.has_frames().then_some(&self.path)
    }

    /// Asks for WebSocket frames by another path than the usual one, if frames are asked for and no path is given.
    pub(super) fn suit_websocket_path(&mut self, path: &str) {
        if self.scheme.has_frames() && self.path == WEBSOCKET_PATH_DEFAULT {
            path.clone_into(&mut self.path);
        }
    }

    /// Returns the path to post behind, without a `/` at its end, and the query, if it is no broker but a server of HTTP.
    pub fn http_target(&self) -> Option<(&str, Option<&str>)> {
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.path.as_str(), None),
        };
        self.scheme.is_http().then(|| (path.trim_end_matches('/'), query))
    }

    /// Returns the virtual host, if it is a broker of AMQP: `/` if none is given, as brokers name the first.
    pub fn vhost(&self) -> Option<String> {
        let named = percent_decoded(self.path.strip_prefix('/').unwrap_or_default());
        let named = named.filter(|name| !name.is_empty()).unwrap_or_else(|| "/".to_owned());
        self.scheme.is_amqp().then_some(named)
    }

    /// Returns what is spoken there, if it is not MQTT.
    pub(super) fn other_protocol(&self) -> Option<&'static str> {
        match self.scheme {
            Scheme::Mqtt | Scheme::Mqtts | Scheme::Ws | Scheme::Wss => None,
            Scheme::Http | Scheme::Https => Some("HTTP"),
            Scheme::Amqp | Scheme::Amqps => Some("AMQP"),
        }
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
        let Some(scheme) = Scheme::parse(scheme) else {
            let at = node.span_within(0..scheme.len());
            let hint = "known are `mqtt://`, `mqtts://`, `ws://`, `wss://`, `http://`, `https://`, `amqp://` and `amqps://`";
            issues.error(at, format!("`{scheme}://` is not known here"), hint);
            return None;
        };
        let url = parse_rest(scheme, rest);
        if let Err(message) = &url {
            issues.error(node.span, *message, if scheme.is_amqp() { AMQP_HINT } else { URL_HINT });
        }
        url.ok()
    }
}

fn parse_rest(scheme: Scheme, rest: &str) -> Result<LinkUrl, &'static str> {
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("credentials do not belong in a URL: use the keys `username` and `password`");
    }
    let path = match path {
        path if scheme.is_amqp() => {
            check_vhost(path)?;
            path.to_owned()
        }
        "" | "/" if !scheme.has_frames() => String::new(),
        _ if !scheme.has_frames() && !scheme.is_http() => {
            return Err("a broker's URL has no path without WebSocket");
        }
        "" => WEBSOCKET_PATH_DEFAULT.to_owned(),
        path if path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') => path.to_owned(),
        _ => return Err("the path holds something that does not belong there"),
    };
    let (host, port) = parse_authority(authority, scheme.port())?;
    Ok(LinkUrl { scheme, host, port, path })
}

/// Checks the part of a URL that names a virtual host: one level, percent-encoded, of 255 bytes at most.
fn check_vhost(path: &str) -> Result<(), &'static str> {
    let name = path.strip_prefix('/').unwrap_or(path);
    if name.contains(['/', '?', '#']) {
        return Err(
            "behind the host stands the name of a virtual host alone, a `/` in it as `%2F`",
        );
    }
    let decoded = percent_decoded(name).filter(|name| name.len() <= 255);
    decoded.map(drop).ok_or("this is not the name of a virtual host")
}

/// Reads `host`, `host:port` or the like with an IPv6 address in brackets.
pub(super) fn parse_authority(
    text: &str,
    port_default: u16,
) -> Result<(LinkHost, u16), &'static str> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port > 0);
            (host, port.ok_or("the port must be a number from 1 to 65535")?)
        }
        _ => (text, port_default),
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
    Ok((host, port))
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
        let Self { scheme, host, port, path } = self;
        let scheme = scheme.as_str();
        match host {
            LinkHost::Address(IpAddr::V6(address)) => {
                write!(formatter, "{scheme}://[{address}]:{port}{path}")
            }
            LinkHost::Address(address) => write!(formatter, "{scheme}://{address}:{port}{path}"),
            LinkHost::Name(name) => write!(formatter, "{scheme}://{name}:{port}{path}"),
        }
    }
}

impl fmt::Display for LinkHost {
    /// Writes a host without the brackets of an IPv6 address.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::Name(name) => formatter.write_str(name),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// uplink.26: the path is one name, encoded; the broker's first virtual host is named `/`.
    #[test]
    fn a_path_names_a_virtual_host() {
        #[rustfmt::skip]
        let cases = [
            ("h",          Some("/")),
            ("h/",         Some("/")),
            ("h:5673/%2F", Some("/")),
            ("h/plant",    Some("plant")),
            ("h/a%2Fb",    Some("a/b")),
            ("h/a/b",      None),
            ("h/a?b=1",    None),
            ("h/%2",       None),
        ];
        for (rest, expected) in cases {
            let vhost = parse_rest(Scheme::Amqp, rest).ok().and_then(|url| url.vhost());
            assert_eq!(vhost.as_deref(), expected, "{rest}");
        }
        assert_eq!(parse_rest(Scheme::Https, "h/a").unwrap().vhost(), None);
        let url = parse_rest(Scheme::Amqps, "h/a%2Fb").unwrap();
        assert_eq!(url.to_string(), "amqps://h:5671/a%2Fb");
    }
}
