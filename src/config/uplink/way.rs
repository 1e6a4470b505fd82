//! How the brokers of an uplink are reached: a proxy, an interface.

use std::sync::Arc;

use tidegate_settings::{Issue, Issues, Node, TableReader, read};

use super::url::parse_authority;
use crate::config::context::Context;
use crate::config::secret;
use crate::dial::{Proxy, ProxyKind, Way};

const PROXY_HINT: &str =
    "write it like \"http://proxy.example:3128\" or \"socks5://127.0.0.1:1080\"";
/// The longest name of an interface (`IFNAMSIZ` of Linux, less its end).
const INTERFACE_BYTES_MAX: usize = 15;

/// Reads `proxy` and `interface`.
pub(super) fn read_way(
    table: &mut TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Way {
    let read = |proxy: TableReader<'_>, issues: &mut Issues| read_proxy(proxy, context, issues);
    let proxy = table.table("proxy", read, issues).map(Arc::new);
    let interface = table.optional("interface", read_interface, issues);
    Way { proxy, interface }
}

fn read_proxy(
    mut table: TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<Proxy> {
    let url = table.required_like("url", "url = \"http://proxy.example:3128\"", read_url, issues);
    let username = table.optional("username", read::text, issues);
    let password_at = table.key_span("password");
    let password =
        table.optional("password", |node, issues| secret::read(node, context, issues), issues);
    table.finish(issues);
    if let (Some(at), None) = (password_at, &username) {
        issues.push(Issue::error(at, "`password` needs a `username`").with_hint("add `username`"));
        return None;
    }
    let password = password.map(|password| password.expose().to_owned()).unwrap_or_default();
    let (kind, host, port) = url?;
    Some(Proxy { kind, host, port, login: username.map(|username| (username, password)) })
}

fn read_url(node: &Node, issues: &mut Issues) -> Option<(ProxyKind, String, u16)> {
    let text = read::string(node, issues)?;
    let known = text.split_once("://").and_then(|(scheme, rest)| match scheme {
        "http" => Some((ProxyKind::Http, rest, 3128)),
        "socks5" | "socks5h" => Some((ProxyKind::Socks5, rest, 1080)),
        _ => None,
    });
    let Some((kind, rest, port)) = known else {
        issues.error(node.span, format!("`{text}` is not the URL of a proxy"), PROXY_HINT);
        return None;
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let found = if authority.contains('@') {
        Err("credentials do not belong in a URL: use `username` and `password`")
    } else {
        parse_authority(authority, port)
    };
    match found {
        Ok((host, port)) => Some((kind, host.to_string(), port)),
        Err(message) => {
            issues.error(node.span, message, PROXY_HINT);
            None
        }
    }
}

fn read_interface(node: &Node, issues: &mut Issues) -> Option<Arc<str>> {
    let text = read::string(node, issues)?;
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    if text.is_empty() || text.len() > INTERFACE_BYTES_MAX || !text.bytes().all(allowed) {
        issues.error(
            node.span,
            format!("`{text}` is not the name of an interface"),
            "such as \"wwan0\"",
        );
        return None;
    }
    Some(text.into())
}
