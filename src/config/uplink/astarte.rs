//! `[uplink.astarte]`: who the gateway is in a realm of Astarte, and what it says and hears there.

use std::{collections::BTreeSet, sync::Arc};

use ring::digest;
use tidegate_astarte::{
    Device, DeviceId, Interface, Interfaces, Ownership, Realm, RouteError, Routes, Setup, Way,
};
use tidegate_model::TopicFilter;
use tidegate_settings::{Issue, Issues, Node, Span, TableReader, read};
use tidegate_tls::Trust;

use super::endpoint::{EndpointConfig, UplinkTls};
use super::url::LinkUrl;
use crate::config::context::Context;
use crate::config::{files, secret, tls};

/// A device of Astarte.
#[derive(Clone, Debug)]
pub struct AstarteConfig {
    /// Who it is, and what it says and hears.
    pub setup: Arc<Setup>,
    /// Whom it believes: the pairing service and the broker; the operating system's authorities if absent.
    pub trust: Option<Trust>,
    /// The topics for which there is a map.
    pub topics: Vec<TopicFilter>,
    /// The pairing service, and the credentials secret as its token.
    pub(super) pairing: EndpointConfig,
}

/// Keys of other connections: pairing says where the broker is, and gives out what to show there.
const NOT_HERE: [&str; 17] = [
    "url",
    "via",
    "username",
    "password",
    "token",
    "ca",
    "crl",
    "cert",
    "key",
    "alpn",
    "backup",
    "profile",
    "version",
    "client-id",
    "session-expiry",
    "commands",
    "results",
];
/// Keys of payloads that are made in another way.
const NOT_MADE: [&str; 5] = ["topic", "compress", "compress-level", "time-unit", "batch"];

const PAIRING_EXAMPLE: &str = "pairing = \"https://api.example/pairing\"";
const MAP_EXAMPLE: &str = "{ topic = \"hall1/{press}/temperature\", interface = \"org.example.Press\", path = \"/{press}/temperature\" }";

/// Returns whether an uplink is a device of Astarte.
pub(super) fn is_asked_for(table: &TableReader<'_>) -> bool {
    table.node("format").and_then(Node::as_str) == Some("astarte")
}

/// Reads `[uplink.astarte]` of an uplink of that format, and notes keys that have no meaning there; beside another format
/// the table itself is noted.
pub(super) fn read_device(
    table: &mut TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<AstarteConfig> {
    if !is_asked_for(table) {
        let message = "`[uplink.astarte]` is for `format = \"astarte\"`";
        table.refuse("astarte", message, "write that format, or remove the table", issues);
        return None;
    }
    for key in NOT_HERE {
        let message = format!("`{key}` has no meaning with `format = \"astarte\"`");
        let hint = "pairing says where the broker is, and who the gateway is there: see `[uplink.astarte]`";
        table.refuse(key, &message, hint, issues);
    }
    for key in NOT_MADE {
        let message = format!("`{key}` has no meaning with `format = \"astarte\"`");
        table.refuse(key, &message, "its interfaces say what is sent, and where", issues);
    }
    let read = |device: TableReader<'_>, issues: &mut Issues| read_table(device, context, issues);
    let example = "[uplink.astarte]";
    table.required_table("astarte", example, read, issues)
}

fn read_table(
    mut table: TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<AstarteConfig> {
    let realm = |node: &Node, issues: &mut Issues| {
        checked(node, Realm::new(read::string(node, issues)?), "such as \"test\"", issues)
    };
    let realm = table.required_like("realm", "realm = \"test\"", realm, issues);
    let device = read_id(&mut table, issues);
    let pairing = table.required_like("pairing", PAIRING_EXAMPLE, read_pairing, issues);
    let secret = |node: &Node, issues: &mut Issues| secret::read(node, context, issues);
    let example = "secret = { credential = \"astarte\" }";
    let secret = table.required_like("secret", example, secret, issues);
    let trust = tls::read_trust(&mut table, "ca", context, issues);
    let folder_at = table.value_span("interfaces");
    let folder =
        table.required_like("interfaces", "interfaces = \"interfaces\"", read::text, issues);
    let known = folder.map(|folder| read_interfaces(&folder, folder_at, context, issues));
    let known = known.unwrap_or_default();
    let ways = Ways { known: &known, has_known: !known.is_empty() };
    let up = ways.read(&mut table, "map", Ownership::Device, issues);
    let down = ways.read(&mut table, "command", Ownership::Server, issues);
    if !table.has("map") && !table.has("command") {
        let issue = Issue::error(table.span(), "nothing says what goes to Astarte");
        issues.push(issue.with_hint(format!("add `[[uplink.astarte.map]]`: {MAP_EXAMPLE}")));
    }
    let named: BTreeSet<&str> =
        up.iter().chain(&down).map(|way| way.interface().as_str()).collect();
    let named = known.iter().filter(|it| named.contains(it.name().as_str())).cloned();
    let interfaces = Interfaces::new(named);
    if let Err(clash) = &interfaces {
        issues.error(folder_at, clash.to_string(), "use one of them only");
    }
    table.finish(issues);
    let topics = up.iter().filter_map(|way| TopicFilter::new(&way.filter()).ok()).collect();
    let trust = trust?;
    let pairing_url = pairing?;
    let tls = pairing_url.is_encrypted().then(|| UplinkTls {
        trust: trust.clone(),
        identity: None,
        alpn: vec!["http/1.1".to_owned()],
    });
    Some(AstarteConfig {
        setup: Arc::new(Setup {
            device: Device::new(realm?, device?),
            interfaces: interfaces.ok()?,
            routes: Routes::new(up, down),
        }),
        trust,
        topics,
        pairing: EndpointConfig { url: pairing_url, login: None, token: Some(secret?), tls },
    })
}

fn checked<T, E: std::fmt::Display>(
    node: &Node,
    result: Result<T, E>,
    hint: &str,
    issues: &mut Issues,
) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            issues.error(node.span, error.to_string(), hint);
            None
        }
    }
}

/// Reads `device`, or `device-namespace` and `hardware-id`, of which it is made.
fn read_id(table: &mut TableReader<'_>, issues: &mut Issues) -> Option<DeviceId> {
    let id = |node: &Node, issues: &mut Issues| {
        let hint = "as `astartectl` or the realm's list of devices shows it";
        checked(node, DeviceId::new(read::string(node, issues)?), hint, issues)
    };
    let (namespace_given, hardware_given) =
        (table.key_span("device-namespace"), table.key_span("hardware-id"));
    let namespace = table.optional("device-namespace", read_uuid, issues);
    let hardware = table.optional("hardware-id", read::text, issues);
    match (namespace_given, hardware_given) {
        (None, None) => {
            table.required_like("device", "device = \"V_zv6ThCCtXWveQ8mPjsKg\"", id, issues)
        }
        (Some(at), None) | (None, Some(at)) => {
            let hint = "write both, or `device` in their place";
            issues.error(at, "`device-namespace` and `hardware-id` go together", hint);
            table.take("device");
            None
        }
        (Some(_), Some(_)) => {
            let message = "`device-namespace` and `hardware-id` make the id already";
            table.refuse("device", message, "remove it, or both of them", issues);
            Some(DeviceId::from_bytes(uuid_v5(namespace?, hardware?.as_bytes())))
        }
    }
}

fn read_uuid(node: &Node, issues: &mut Issues) -> Option<[u8; 16]> {
    let text = read::string(node, issues)?;
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(&digits).ok();
    let uuid = bytes.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    if uuid.is_none() {
        let hint = "write it like \"f79ad91f-c638-4889-ae74-9d001a3b4cf8\"";
        issues.error(node.span, format!("`{text}` is no UUID"), hint);
    }
    uuid
}

/// Makes a UUID of a name (RFC 9562, section 5.5).
fn uuid_v5(namespace: [u8; 16], name: &[u8]) -> [u8; 16] {
    let mut digest = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(&namespace);
    digest.update(name);
    let digest = digest.finish();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest.as_ref()[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x50;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

fn read_pairing(node: &Node, issues: &mut Issues) -> Option<LinkUrl> {
    let url = LinkUrl::read(node, issues)?;
    let Some((_, query)) = url.http_target() else {
        let message = "the pairing service is reached by HTTP";
        issues.error(node.span, message, format!("write `{PAIRING_EXAMPLE}`"));
        return None;
    };
    if query.is_some() {
        issues.error(
            node.span,
            "the pairing service's URL has no query",
            "remove what follows `?`",
        );
        return None;
    }
    if !url.is_encrypted() && !url.host().is_loopback() {
        let message = "the credentials secret would cross the network unencrypted";
        issues.error(node.span, message, "write `https://`");
        return None;
    }
    Some(url)
}

/// Reads all descriptions of interfaces in a folder.
fn read_interfaces(
    folder: &str,
    at: Span,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Vec<Interface> {
    let path = context.path(folder);
    let hint = "a folder with the JSON files that are installed in the realm";
    let found = match files::expand(&path, "*.json") {
        Ok(found) if !found.is_empty() => found,
        Ok(_) => {
            let message = format!("there is no `*.json` in `{}`", path.display());
            issues.error(at, message, hint);
            return Vec::new();
        }
        Err(error) => {
            issues.error(at, format!("`{}` cannot be read: {error}", path.display()), hint);
            return Vec::new();
        }
    };
    let mut interfaces: Vec<Interface> = Vec::new();
    for file in found {
        let name = file.strip_prefix(context.directory).unwrap_or(&file).display().to_string();
        let text = match files::read_text(&file) {
            Ok(text) => text,
            Err(error) => {
                issues.error(at, format!("`{name}` {error}"), hint);
                continue;
            }
        };
        match Interface::from_json(text.as_bytes()) {
            Ok(interface) if interfaces.iter().any(|it| it.name() == interface.name()) => {
                let message =
                    format!("`{name}`: `{}` stands in another file, too", interface.name());
                issues.error(at, message, "a device has one version of an interface");
            }
            Ok(interface) => interfaces.push(interface),
            Err(errors) => {
                for error in errors {
                    let hint = "it must be as the realm has it";
                    issues.error(at, format!("`{name}`: {error}"), hint);
                }
            }
        }
    }
    interfaces
}

/// What ways are checked against.
struct Ways<'i> {
    known: &'i [Interface],
    /// Whether there are any; if not, that was said already.
    has_known: bool,
}

impl Ways<'_> {
    /// Reads `[[uplink.astarte.map]]` or `[[uplink.astarte.command]]`.
    fn read(
        &self,
        table: &mut TableReader<'_>,
        key: &'static str,
        ownership: Ownership,
        issues: &mut Issues,
    ) -> Vec<Way> {
        let read = |way: TableReader<'_>, issues: &mut Issues| {
            let at = way.span();
            Some((at, self.read_way(way, ownership, issues)?))
        };
        let ways = table.tables(key, read, issues);
        for (index, (at, way)) in ways.iter().enumerate() {
            let meets = |(_, other): &&(Span, Way)| match ownership {
                Ownership::Device => way.meets(other),
                Ownership::Server => way.meets_below(other),
            };
            if let Some((first, _)) = ways[..index].iter().find(meets) {
                let message = match ownership {
                    Ownership::Device => "a topic would go two ways, or two topics to one path",
                    Ownership::Server => "a path would come down two ways",
                };
                let issue = Issue::error(*at, message).with_related(*first, "the other one");
                issues.push(issue.with_hint("narrow one of them"));
            }
        }
        ways.into_iter().map(|(_, way)| way).collect()
    }

    fn read_way(
        &self,
        mut table: TableReader<'_>,
        ownership: Ownership,
        issues: &mut Issues,
    ) -> Option<Way> {
        let topic_example = "topic = \"hall1/{press}/temperature\"";
        let topic = table.required_like("topic", topic_example, read::text, issues);
        let example = "interface = \"org.example.Press\"";
        let interface = table.required_like("interface", example, read::text, issues);
        let path =
            table.required_like("path", "path = \"/{press}/temperature\"", read::text, issues);
        let spans = ["topic", "interface", "path"].map(|key| table.value_span(key));
        table.finish(issues);
        let (topic, name, path) = (topic?, interface?, path?);
        let Some(interface) = self.known.iter().find(|it| it.name().as_str() == name) else {
            if self.has_known {
                let names: Vec<&str> = self.known.iter().map(|it| it.name().as_str()).collect();
                let hint = format!("known are {}", names.join(", "));
                issues.error(spans[1], format!("no file describes the interface `{name}`"), hint);
            }
            return None;
        };
        match Way::new(interface, ownership, &topic, &path) {
            Ok(way) => Some(way),
            Err(error) => {
                let (at, hint) = match &error {
                    RouteError::Topic(_) => {
                        (spans[0], "a local topic; `{name}` stands for a level, or for part of one")
                    }
                    RouteError::Interface(_) => (
                        spans[1],
                        "`map` is for interfaces of the device, `command` for those of the server",
                    ),
                    RouteError::Path(_) => (
                        spans[2],
                        "literal levels are as in the endpoint; captures of the topic stand for its parameters",
                    ),
                };
                issues.error(at, error.to_string(), hint);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The UUID that RFC 9562 gives for a name, section A.4.
    #[test]
    fn uuids_are_made_of_names() {
        let dns = [
            0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4,
            0x30, 0xc8,
        ];
        let uuid = uuid_v5(dns, b"www.example.com");
        let expected = "2ed6657de927568b95e12665a8aea6a2";
        assert_eq!(data_encoding::HEXLOWER.encode(&uuid), expected);
    }
}
