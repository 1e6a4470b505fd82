//! `[mqtt]`, `[coap]` and `[http]`: where clients and devices connect.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tidegate_settings::{Issue, Issues, Node, Span, TableReader, read};

use super::context::Context;
use super::tls;

/// Where clients or devices of one protocol connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// The addresses; at least one.
    pub listen: Vec<SocketAddr>,
    /// Whether clients without credentials are let in. Only with loopback addresses.
    pub anonymous: bool,
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
    tcp: Vec<(SocketAddr, Span)>,
    udp: Vec<(SocketAddr, Span)>,
}

const MQTT_LISTEN_DEFAULT: SocketAddr = loopback(1883);
const COAP_LISTEN_DEFAULT: SocketAddr = loopback(5683);
const HTTP_LISTEN_DEFAULT: SocketAddr = loopback(8080);
const ANONYMOUS_DEFAULT: bool = false;
const ALLOW_PLAIN_DEFAULT: bool = false;

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
        let (default, taken, key, what) = match protocol {
            Protocol::Mqtt => (MQTT_LISTEN_DEFAULT, &mut taken.tcp, "tls", "TLS"),
            Protocol::Coap => (COAP_LISTEN_DEFAULT, &mut taken.udp, "dtls", "DTLS"),
            Protocol::Http => (HTTP_LISTEN_DEFAULT, &mut taken.tcp, "tls", "TLS"),
        };
        let listener = Self::read_plain(&mut table, default, taken, issues);
        table.table(key, |tls, issues| tls::refuse(tls, what, context, issues), issues);
        table.finish(issues);
        Some(listener)
    }

    /// Reads the keys of the listener without encryption.
    fn read_plain(
        table: &mut TableReader<'_>,
        default: SocketAddr,
        taken: &mut Vec<(SocketAddr, Span)>,
        issues: &mut Issues,
    ) -> Self {
        let located =
            |node: &Node, issues: &mut Issues| Some((listen_address(node, issues)?, node.span));
        let listen = if table.has("listen") {
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
            check_taken(*address, *at, taken, issues);
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

fn check_taken(
    address: SocketAddr,
    at: Span,
    taken: &mut Vec<(SocketAddr, Span)>,
    issues: &mut Issues,
) {
    let clash = taken.iter().find(|(other, _)| {
        let same_ip = other.ip() == address.ip()
            || (other.is_ipv4() == address.is_ipv4()
                && (other.ip().is_unspecified() || address.ip().is_unspecified()));
        address.port() != 0 && other.port() == address.port() && same_ip
    });
    if let Some((other, first)) = clash {
        let issue = Issue::error(at, format!("`{address}` is taken already, by `{other}`"));
        issues
            .push(issue.with_hint("choose another port").with_related(*first, "first taken here"));
    }
    taken.push((address, at));
}
