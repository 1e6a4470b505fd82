//! `[uplink.azure-iot-hub]`: which device of a hub the gateway is, and how it logs in.

use std::sync::Arc;
use std::time::Duration;

use tidegate_settings::{Issue, Issues, Node, TableReader, read};
use tidegate_uplink::{HubDevice, HubSettings, HubSigner, Profile, SharedAccessKey};

use super::url::parse_authority;
use crate::config::context::Context;
use crate::config::secret;

/// The key of the table.
const KEY: &str = "azure-iot-hub";
const EXAMPLE: &str = "azure-iot-hub = { device = \"gw-1\" }";
const LIFETIME_DEFAULT: Duration = Duration::from_secs(3_600);
/// Shorter ones would be for nothing but connecting, longer ones would not be renewed in time where a clock is wrong.
const LIFETIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(30 * 24 * 3_600);

/// Keys of other connections, and what says it here.
const NOT_HERE: [(&str, &str); 6] = [
    ("username", "it is made of the hub's name and `device`"),
    ("password", "write `shared-access-key` in `[uplink.azure-iot-hub]`, or `cert` and `key`"),
    ("client-id", "write `device` in `[uplink.azure-iot-hub]`"),
    ("commands", "write `commands = true` in `[uplink.azure-iot-hub]`"),
    ("results", "outcomes go to the hub as messages, or as answers of direct methods"),
    ("session-expiry", "the hub says how long it keeps messages"),
];

/// Reads the table of an uplink with this profile; notes it in one with another.
pub(super) fn read_hub(
    table: &mut TableReader<'_>,
    profile: Profile,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<Arc<HubSettings>> {
    if profile != Profile::AzureIotHub {
        let hint = "add `profile = \"azure-iot-hub\"`, or remove the table";
        table.refuse(KEY, "`azure-iot-hub` is for uplinks with that profile", hint, issues);
        return None;
    }
    for (key, hint) in NOT_HERE {
        let message = format!("`{key}` has no meaning with `profile = \"azure-iot-hub\"`");
        table.refuse(key, &message, hint, issues);
    }
    let has_certificate = table.has("cert");
    let read = |table: TableReader<'_>, issues: &mut Issues| {
        read_table(table, has_certificate, context, issues)
    };
    table.required_table(KEY, EXAMPLE, read, issues)
}

fn read_table(
    mut table: TableReader<'_>,
    has_certificate: bool,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<Arc<HubSettings>> {
    let hint = "as the hub's list of devices shows it";
    let device = read::parsed("the id of a device", hint, HubDevice::new);
    let device = table.required_like("device", "device = \"gw-1\"", device, issues);
    let hub_given = table.has("hub");
    let hub = table.optional("hub", read_host, issues);
    let signer = read_signer(&mut table, has_certificate, context, issues);
    let commands = table.optional_or("commands", false, read::boolean, issues);
    table.finish(issues);
    if hub_given && hub.is_none() {
        return None;
    }
    Some(Arc::new(HubSettings { device: device?, hub, signer: signer?, commands }))
}

/// Reads the hub's host name.
fn read_host(node: &Node, issues: &mut Issues) -> Option<Arc<str>> {
    let text = read::string(node, issues)?;
    let is_host = !text.contains(':') && parse_authority(text, 8883).is_ok();
    if !is_host {
        let hint = "such as \"contoso.azure-devices.net\"";
        issues.error(node.span, format!("`{text}` is not a host name"), hint);
    }
    is_host.then(|| text.into())
}

/// Reads the key and what goes with it; `Some(None)` with a certificate.
fn read_signer(
    table: &mut TableReader<'_>,
    has_certificate: bool,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<Option<HubSigner>> {
    let at = table.key_span("shared-access-key");
    let key =
        table.optional("shared-access-key", |node, issues| read_key(node, context, issues), issues);
    let policy_at = table.key_span("policy");
    let policy = table.optional("policy", read::text, issues);
    let lifetime_at = table.key_span("lifetime");
    let lifetimes = read::duration_within(LIFETIMES);
    let lifetime = table.optional_or("lifetime", LIFETIME_DEFAULT, lifetimes, issues);
    match (at, has_certificate) {
        (Some(_), false) => {
            Some(Some(HubSigner { key: key?, policy: policy.map(Into::into), lifetime }))
        }
        (Some(at), true) => {
            let message = "the hub wants a key or a certificate, not both";
            issues.error(at, message, "remove it, or `cert` and `key`");
            None
        }
        (None, false) => {
            let issue = Issue::error(table.span(), "nothing says how to log in at the hub");
            let hint = "add `shared-access-key = { credential = \"hub-key\" }`, or `cert` and `key` to the uplink";
            issues.push(issue.with_hint(hint));
            None
        }
        (None, true) => {
            for (key, at) in [("policy", policy_at), ("lifetime", lifetime_at)] {
                if let Some(at) = at {
                    let message = format!("`{key}` has no effect: there is no `shared-access-key`");
                    issues.error(at, message, "remove it");
                }
            }
            Some(None)
        }
    }
}

fn read_key(node: &Node, context: &Context<'_>, issues: &mut Issues) -> Option<SharedAccessKey> {
    let secret = secret::read(node, context, issues)?;
    let key = SharedAccessKey::new(secret.expose());
    if let Err(error) = &key {
        issues.error(
            node.span,
            error.to_string(),
            "see `az iot hub device-identity show-connection-string`",
        );
    }
    key.ok()
}
