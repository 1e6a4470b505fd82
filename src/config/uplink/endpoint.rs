//! One broker that an uplink connects to: where it is, and who meets whom there.

use tidegate_settings::{Issue, Issues, Node, Span, TableReader, read};
use tidegate_tls::{ClientSetup, Identity, Trust, client_config};
use tidegate_uplink::Profile;

use super::aws_iot::AwsEntry;
use super::url::LinkUrl;
use crate::config::context::Context;
use crate::config::secret::{self, Secret};
use crate::config::tls;

/// A broker.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Where it is.
    pub url: LinkUrl,
    /// As whom to log in.
    pub login: Option<UplinkLogin>,
    /// What to log in with by HTTP, in place of a user name.
    pub token: Option<Secret>,
    /// Whom the connection believes and what it shows, if it is encrypted.
    pub tls: Option<UplinkTls>,
}

/// As whom to log in at a cloud broker.
#[derive(Clone, Debug)]
pub struct UplinkLogin {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Option<Secret>,
}

/// Whom an encrypted link believes, and what it shows.
#[derive(Clone, Debug)]
pub struct UplinkTls {
    /// The authorities of `ca`; those of the operating system without it.
    pub trust: Option<Trust>,
    /// `cert` and `key`.
    pub identity: Option<Identity>,
    /// The application protocols that are offered (RFC 7301), the preferred first.
    pub alpn: Vec<String>,
}

/// What kind of far side it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) profile: Profile,
    /// How AWS IoT Core lets the gateway in.
    pub(super) entry: AwsEntry,
}

/// Where Azure IoT Hub, and IoT Edge, take WebSocket frames.
const HUB_PATH: &str = "/$iothub/websocket";
/// The same for who has no certificate, as the service's own libraries ask for it.
const HUB_PATH_WITHOUT_CERTIFICATE: &str = "/$iothub/websocket?iothub-no-client-cert=true";

const TLS_KEYS: [&str; 5] = ["ca", "crl", "cert", "key", "alpn"];

/// Reads where the preferred broker is, and who meets whom there.
pub(super) fn read_endpoint(
    table: &mut TableReader<'_>,
    side: Side,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<EndpointConfig> {
    let mut endpoint = read_keys(table, context, issues)?;
    suit(table, &mut endpoint, side, issues);
    Some(endpoint)
}

/// Reads one `[[uplink.backup]]`: what it does not say is as with the preferred broker.
pub(super) fn read_backup(
    mut table: TableReader<'_>,
    preferred: Option<&EndpointConfig>,
    side: Side,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<EndpointConfig> {
    let has_login = ["username", "password", "token"].into_iter().any(|key| table.has(key));
    let has_tls = TLS_KEYS.into_iter().any(|key| table.has(key));
    let mut endpoint = read_keys(&mut table, context, issues);
    if let (Some(endpoint), Some(preferred)) = (&mut endpoint, preferred) {
        if !has_login {
            endpoint.login = preferred.login.clone();
            endpoint.token = preferred.token.clone();
            note_plain(&table, endpoint, issues);
        }
        if !has_tls && endpoint.url.is_encrypted() && preferred.tls.is_some() {
            endpoint.tls = preferred.tls.clone();
            // What is offered depends on what is spoken, and where.
            endpoint.tls.iter_mut().for_each(|tls| tls.alpn.clear());
        }
    }
    if let Some(endpoint) = &mut endpoint {
        suit(&table, endpoint, side, issues);
    }
    table.finish(issues);
    endpoint
}

fn read_keys(
    table: &mut TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<EndpointConfig> {
    let example = "url = \"mqtts://cloud.example:8883\"";
    let url = table.required_like("url", example, LinkUrl::read, issues);
    let tls = if url.as_ref().is_some_and(|url| !url.is_encrypted()) {
        let is_amqp = url.as_ref().is_some_and(|url| url.vhost().is_some());
        refuse_tls(table, is_amqp, context, issues);
        None
    } else {
        read_tls(table, context, issues)
    };
    let login = read_login(table, url.as_ref(), context, issues);
    let token = read_token(table, url.as_ref(), context, issues);
    Some(EndpointConfig { url: url?, login, token, tls })
}

/// Offers in TLS what the far side expects there, and notes what it would not let in.
fn suit(table: &TableReader<'_>, endpoint: &mut EndpointConfig, side: Side, issues: &mut Issues) {
    if endpoint.url.vhost().is_some() {
        return suit_amqp(table, endpoint, side.profile, issues);
    }
    if let (Some(_), Some(tls)) = (endpoint.url.http_target(), &mut endpoint.tls)
        && tls.alpn.is_empty()
    {
        tls.alpn = vec!["http/1.1".to_owned()];
    }
    match side.profile {
        Profile::AwsIotCore => suit_aws(table, endpoint, side.entry, issues),
        Profile::AzureIotHub => suit_hub(table, endpoint, issues),
        Profile::AzureEventGrid => suit_event_grid(table, endpoint, issues),
        _ => {}
    }
}

/// Notes what a broker of AMQP would not let in.
fn suit_amqp(
    table: &TableReader<'_>,
    endpoint: &EndpointConfig,
    profile: Profile,
    issues: &mut Issues,
) {
    let at = table.value_span("url");
    if !cfg!(feature = "amqp") {
        let message = "this build of the gateway leaves out AMQP";
        issues.error(at, message, "connect by MQTT, or build with the feature `amqp`");
    }
    if profile != Profile::Mqtt {
        let message = "what `profile` names is spoken to by MQTT";
        issues.error(at, message, "remove `profile`, or write `mqtts://`");
    }
    let by_certificate = endpoint.tls.as_ref().is_some_and(|tls| tls.identity.is_some());
    if endpoint.login.is_none() && !by_certificate {
        let issue = Issue::error(at, "a broker of AMQP wants to know who connects");
        issues.push(issue.with_hint("add `username` and `password`, or `cert` and `key`"));
    }
}

/// Notes what Azure IoT Hub would not let in, and asks for its WebSocket by its path. Whether there is a key or a
/// certificate is looked at where the key is.
fn suit_hub(table: &TableReader<'_>, endpoint: &mut EndpointConfig, issues: &mut Issues) {
    refuse_plain(table, endpoint, "Azure IoT Hub", issues);
    let by_certificate = endpoint.tls.as_ref().is_some_and(|tls| tls.identity.is_some());
    let path = if by_certificate { HUB_PATH } else { HUB_PATH_WITHOUT_CERTIFICATE };
    endpoint.url.suit_websocket_path(path);
}

/// Notes what Azure Event Grid would not let in.
fn suit_event_grid(table: &TableReader<'_>, endpoint: &EndpointConfig, issues: &mut Issues) {
    let at = table.value_span("url");
    refuse_plain(table, endpoint, "Azure Event Grid", issues);
    let Some(tls) = &endpoint.tls else { return };
    if tls.identity.is_none() {
        let issue = Issue::error(at, "Azure Event Grid knows its clients by their certificates");
        issues.push(issue.with_hint("add `cert` and `key`"));
    }
    if endpoint.login.is_none() {
        let message = "the client's authentication name is not told: it must stand in the certificate, where the \
                       namespace looks for it";
        issues.push(Issue::hint(at, message).with_hint("add it as `username`"));
    }
}

/// Notes a connection without TLS, or by posts.
fn refuse_plain(
    table: &TableReader<'_>,
    endpoint: &EndpointConfig,
    who: &str,
    issues: &mut Issues,
) {
    let at = table.value_span("url");
    if endpoint.url.http_target().is_some() {
        let message = format!("{who} is spoken to by MQTT with this profile");
        issues.error(at, message, "write `mqtts://` or `wss://`");
    } else if !endpoint.url.is_encrypted() {
        let message = format!("{who} takes encrypted connections only");
        issues.error(at, message, "write `mqtts://` or `wss://`");
    }
}

/// Notes a login that crosses the network unencrypted although it is meant for an encrypted connection.
fn note_plain(table: &TableReader<'_>, endpoint: &EndpointConfig, issues: &mut Issues) {
    let has_secret = endpoint.token.is_some()
        || endpoint.login.as_ref().is_some_and(|login| login.password.is_some());
    if has_secret && !endpoint.url.is_encrypted() && !endpoint.url.host().is_loopback() {
        let at = table.value_span("url");
        let issue = Issue::hint(at, "the uplink's login crosses the network unencrypted here");
        issues.push(issue.with_hint("encrypt, or give this one a login of its own"));
    }
}

/// Notes what AWS IoT Core would not let in, and offers the application protocol by which it tells MQTT from HTTP on
/// port 443.
fn suit_aws(
    table: &TableReader<'_>,
    endpoint: &mut EndpointConfig,
    entry: AwsEntry,
    issues: &mut Issues,
) {
    let at = table.value_span("url");
    let Some(tls) = &mut endpoint.tls else {
        if !endpoint.url.is_encrypted() {
            issues.error(at, "AWS IoT Core takes encrypted connections only", "write `mqtts://`");
        }
        return;
    };
    let is_told_apart = endpoint.url.port() == 443 || entry == AwsEntry::Authorizer;
    if endpoint.url.websocket_path().is_none() && is_told_apart && tls.alpn.is_empty() {
        let by_certificate = tls.identity.is_some();
        tls.alpn = vec![if by_certificate { "x-amzn-mqtt-ca" } else { "mqtt" }.to_owned()];
    }
    match entry {
        AwsEntry::Certificate => {}
        AwsEntry::Authorizer => return suit_authorizer(at, &endpoint.url, issues),
        AwsEntry::Signature => return suit_signer(at, &endpoint.url, issues),
    }
    if endpoint.url.websocket_path().is_some()
        && (tls.identity.is_some() || endpoint.login.is_none())
    {
        let message = "AWS IoT Core looks at no certificate where WebSocket frames are asked for";
        let hint = "write `mqtts://`, or add `[uplink.aws-iot-core.authorizer]` or `.sigv4`";
        issues.error(at, message, hint);
    } else if tls.identity.is_none() && endpoint.login.is_none() {
        let issue = Issue::error(
            at,
            "AWS IoT Core wants a certificate, or a custom authorizer's user name",
        );
        issues.push(issue.with_hint("add `cert` and `key`, or `username`"));
    }
}

/// Notes a way that does not lead to a custom authorizer of AWS IoT Core.
fn suit_authorizer(at: Span, url: &LinkUrl, issues: &mut Issues) {
    if url.port() == 8883 && url.websocket_path().is_none() {
        let issue = Issue::error(at, "a custom authorizer is not asked on port 8883");
        issues.push(issue.with_hint("write `:443`, or `wss://`"));
    }
}

/// Notes a way on which no signature of AWS IoT Core is looked at.
fn suit_signer(at: Span, url: &LinkUrl, issues: &mut Issues) {
    let message = match url.websocket_path() {
        None => "what is signed is the request for WebSocket frames",
        Some(path) if path.contains('?') => "what is signed is written behind `?`, alone",
        Some(_) => return,
    };
    issues.error(at, message, "write `wss://` and the path `/mqtt`");
}

/// Reads the name of an application protocol: 1 to 255 bytes (RFC 7301, section 3.1).
fn read_protocol(node: &Node, issues: &mut Issues) -> Option<String> {
    let text = read::text(node, issues)?;
    if text.is_empty() || text.len() > 255 {
        issues.error(node.span, "a protocol's name has 1 to 255 bytes", "such as \"mqtt\"");
        return None;
    }
    Some(text)
}

/// Notes keys that mean nothing without encryption.
fn refuse_tls(
    table: &mut TableReader<'_>,
    is_amqp: bool,
    context: &Context<'_>,
    issues: &mut Issues,
) {
    let schemes = if is_amqp { "`amqps://`" } else { "`mqtts://` or `wss://`" };
    let places = TLS_KEYS.map(|key| (key, table.key_span(key)));
    for key in ["ca", "crl", "cert"] {
        table.optional(key, read::text, issues);
    }
    table.list("alpn", read_protocol, issues);
    table.optional("key", |node, issues| secret::read(node, context, issues), issues);
    for (key, at) in places {
        if let Some(at) = at {
            let message = format!("`{key}` has no effect: the connection is not encrypted");
            issues.error(at, message, format!("write {schemes} in `url`, or remove the key"));
        }
    }
}

/// Reads the keys of an encrypted connection.
fn read_tls(
    table: &mut TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<UplinkTls> {
    let alpn = table.list("alpn", read_protocol, issues);
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
    let tls = UplinkTls { trust: trust?, identity, alpn };
    if let Some(trust) = tls.trust.clone() {
        let setup = ClientSetup { trust, identity: None, protocols: Vec::new() };
        if let Err(error) = client_config(setup) {
            issues.error(trust_at, error.to_string(), "see `ca` and `crl`");
            return None;
        }
    }
    Some(tls)
}

/// Reads `token`, which only HTTP has.
fn read_token(
    table: &mut TableReader<'_>,
    url: Option<&LinkUrl>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<Secret> {
    let at = table.key_span("token");
    let token = table.optional("token", |node, issues| secret::read(node, context, issues), issues);
    if let (Some(at), true) = (at, url.is_some_and(|url| url.http_target().is_none())) {
        let hint = "elsewhere a token is the `password`";
        issues.error(at, "`token` is for `http://` and `https://`", hint);
        return None;
    }
    token
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
        && !url.is_encrypted()
        && !url.host().is_loopback()
    {
        let issue = Issue::hint(at, "the password crosses the network unencrypted");
        let scheme = if url.vhost().is_some() { "amqps" } else { "mqtts" };
        issues.push(issue.with_hint(format!("write `{scheme}://` in `url`")));
    }
    username.map(|username| UplinkLogin { username, password })
}
