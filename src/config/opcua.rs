//! `[[opcua]]`: servers to read from and write to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::AdapterName;
use tidegate_settings::{Issues, Node, TableReader, read};

use super::context::Context;
use super::secret::{self, Secret};
use super::unique::Unique;

/// A server to read from and write to.
#[derive(Clone, Debug)]
pub struct OpcUaConfig {
    /// The name that mappings use.
    pub name: AdapterName,
    /// Where it is.
    pub endpoint: OpcUaEndpoint,
    /// How messages are protected.
    pub security: OpcUaSecurity,
    /// As whom to log in.
    pub login: OpcUaLogin,
    /// How often to look for nodes that appeared.
    pub rebrowse: Duration,
}

/// How messages to a server are protected. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpcUaSecurity {
    /// Not at all.
    None,
    /// Nobody can change them.
    Sign,
    /// Nobody can change or read them.
    SignAndEncrypt,
}

/// As whom to log in at a server. Complete.
#[derive(Clone, Debug)]
pub enum OpcUaLogin {
    /// As nobody.
    Anonymous,
    /// By name and password.
    Password {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
}

/// The address of a server: `opc.tcp://host:port/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OpcUaEndpoint(Arc<str>);

const SECURITY_DEFAULT: OpcUaSecurity = OpcUaSecurity::SignAndEncrypt;
const REBROWSE_DEFAULT: Duration = Duration::from_secs(60);

impl OpcUaConfig {
    pub(super) fn read(
        mut table: TableReader<'_>,
        context: &Context<'_>,
        names: &mut Unique,
        known: &mut Vec<AdapterName>,
        issues: &mut Issues,
    ) -> Option<Self> {
        let name_hint = "use 1 to 64 letters, digits, `-`, `_` and `.`";
        let parse_name = read::parsed("a server's name", name_hint, AdapterName::new);
        let name = table.required_like("name", "name = \"plc7\"", parse_name, issues);
        if let Some(name) = &name {
            names.note(name.as_str(), table.value_span("name"), issues);
            known.push(name.clone());
        }
        let example = "endpoint = \"opc.tcp://192.0.2.7:4840\"";
        let endpoint = table.required_like("endpoint", example, OpcUaEndpoint::read, issues);
        let words = [
            ("none", OpcUaSecurity::None),
            ("sign", OpcUaSecurity::Sign),
            ("sign-and-encrypt", OpcUaSecurity::SignAndEncrypt),
        ];
        let security = table.optional_or("security", SECURITY_DEFAULT, read::word(&words), issues);
        let login = read_login(&mut table, security, context, issues);
        let intervals = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
        let rebrowse = table.optional_or(
            "rebrowse",
            REBROWSE_DEFAULT,
            read::duration_within(intervals),
            issues,
        );
        table.finish(issues);
        Some(Self { name: name?, endpoint: endpoint?, security, login: login?, rebrowse })
    }
}

fn read_login(
    table: &mut TableReader<'_>,
    security: OpcUaSecurity,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<OpcUaLogin> {
    let username_at = table.key_span("username");
    let password_at = table.key_span("password");
    let username = table.optional("username", read::text, issues);
    let password =
        table.optional("password", |node, issues| secret::read(node, context, issues), issues);
    let insecure = table.optional_or("allow-insecure-password", false, read::boolean, issues);
    match (username_at, password_at) {
        (None, None) => Some(OpcUaLogin::Anonymous),
        (Some(at), None) => {
            let hint = "add `password = { credential = \"plc7-password\" }`";
            issues.error(at, "`username` needs a `password`", hint);
            None
        }
        (None, Some(at)) => {
            issues.error(at, "`password` needs a `username`", "add `username`");
            None
        }
        (Some(_), Some(at)) => {
            // OPC 10000-4, 7.40.4: without a security policy the password goes out as it is.
            if security == OpcUaSecurity::None && !insecure {
                issues.error(
                    at,
                    "the password would cross the network unencrypted",
                    "use `security = \"sign-and-encrypt\"`, or write `allow-insecure-password = true`",
                );
            }
            Some(OpcUaLogin::Password { username: username?, password: password? })
        }
    }
}

impl OpcUaEndpoint {
    /// Returns the address as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(node: &Node, issues: &mut Issues) -> Option<Self> {
        const HINT: &str = "write it like \"opc.tcp://192.0.2.7:4840\"";
        let text = read::string(node, issues)?;
        let Some(rest) = text.strip_prefix("opc.tcp://") else {
            let message = "an OPC UA endpoint begins with `opc.tcp://`";
            issues.error(node.span, message, HINT);
            return None;
        };
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.contains('@') {
            let hint = "remove what stands before the `@`; use the keys `username` and `password`";
            issues.error(node.span, "credentials do not belong in an address", hint);
            return None;
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        let clean = !text.chars().any(|letter| letter.is_whitespace() || letter.is_control());
        if host.is_empty() || !port_fits || !clean {
            issues.error(node.span, format!("`{text}` is not the address of a server"), HINT);
            return None;
        }
        Some(Self(text.into()))
    }
}

impl fmt::Display for OpcUaEndpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
