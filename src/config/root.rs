//! The top level of the file, and what concerns several tables.

use tidegate_broker::access::AccessEntry;
use tidegate_model::AdapterName;
use tidegate_settings::{Issue, Issues, Node, TableReader};

use super::access;
use super::context::Context;
use super::gateway::{GatewayConfig, GatewayId, MappingGlob};
use super::jwt::JwtConfig;
use super::limits::Limits;
use super::listener::{ListenerConfig, Protocol, Taken};
use super::opcua::OpcUaConfig;
use super::principal::PrincipalConfig;
use super::push::PushConfig;
use super::store::StoreConfig;
use super::unique::Unique;
use super::uplink::{self, Above, UplinkConfig};

/// Everything the gateway is told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this is, and where its files are.
    pub gateway: GatewayConfig,
    /// What is kept on disk.
    pub store: StoreConfig,
    /// Bounds for everything a peer can make large.
    pub limits: Limits,
    /// Where MQTT clients connect, if anywhere.
    pub mqtt: Option<ListenerConfig>,
    /// Where CoAP devices send, if anywhere.
    pub coap: Option<ListenerConfig>,
    /// Where HTTP clients connect, if anywhere.
    pub http: Option<ListenerConfig>,
    /// OPC UA servers, in file order; names are unique.
    pub opcua: Vec<OpcUaConfig>,
    /// Who may log in; names are unique.
    pub principals: Vec<PrincipalConfig>,
    /// Whose tokens are believed; issuers are unique.
    pub jwt: Vec<JwtConfig>,
    /// Who may do what, in file order.
    pub access: Vec<AccessEntry>,
    /// Where telemetry goes, in file order; names are unique.
    pub uplinks: Vec<UplinkConfig>,
    /// Who may push, if anybody may.
    pub push: Option<PushConfig>,
}

/// What mapping files need of the configuration.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Where they are.
    pub(super) mappings: Vec<MappingGlob>,
    /// The servers they may name.
    pub(super) opcua_servers: Vec<AdapterName>,
    /// Whether there may be more servers, in tables that are wrong.
    pub(super) more_servers: bool,
}

const GATEWAY_EXAMPLE: &str = "gateway = { id = \"gw\", data-dir = \"data\" }";

impl Config {
    /// Reads the whole file. What it returns must be used only if `issues` has no errors.
    ///
    /// What mapping files need goes into `found` even if there are errors elsewhere.
    pub(super) fn read(
        root: &Node,
        context: &Context<'_>,
        found: &mut Found,
        issues: &mut Issues,
    ) -> Option<Self> {
        let mut table = TableReader::root(root, issues)?;
        let read = |table: TableReader<'_>, issues: &mut Issues| {
            GatewayConfig::read(table, context, &mut found.mappings, issues)
        };
        let gateway = table.required_table("gateway", GATEWAY_EXAMPLE, read, issues);
        let store = table.table("store", StoreConfig::read, issues).unwrap_or_default();
        let limits = table.table("limits", Limits::read, issues).unwrap_or_default();
        let mut taken = Taken::default();
        let mut listener = |key, protocol, issues: &mut Issues| {
            let read = |table: TableReader<'_>, issues: &mut Issues| {
                ListenerConfig::read(protocol, table, context, &mut taken, issues)
            };
            table.table(key, read, issues)
        };
        let mqtt = listener("mqtt", Protocol::Mqtt, issues);
        let coap = listener("coap", Protocol::Coap, issues);
        let http = listener("http", Protocol::Http, issues);
        let errors_before = issues.error_count();
        let mut names = Unique::new("servers named");
        let read = |table: TableReader<'_>, issues: &mut Issues| {
            OpcUaConfig::read(table, context, &mut names, &mut found.opcua_servers, issues)
        };
        let opcua = table.tables("opcua", read, issues);
        let opcua_wrong = issues.error_count() > errors_before;
        let mut names = Unique::new("principals named");
        let mut certificates = Unique::new("principals with the certificate");
        let read = |table: TableReader<'_>, issues: &mut Issues| {
            PrincipalConfig::read(table, context, &mut names, &mut certificates, issues)
        };
        let principals = table.tables("principal", read, issues);
        let mut issuers = Unique::new("issuers named");
        let read = |table: TableReader<'_>, issues: &mut Issues| {
            JwtConfig::read(table, context, &mut issuers, issues)
        };
        let jwt = table.tables("jwt", read, issues);
        let access = read_access(&mut table, &principals, &jwt, issues);
        // A missing id is noted already; the uplinks are checked with another.
        let id = gateway
            .as_ref()
            .map(|gateway| gateway.id.clone())
            .or_else(|| GatewayId::new("gateway"))?;
        let uplinks = read_uplinks(&mut table, &id, context, issues);
        let push = table.table("push", PushConfig::read, issues);
        if !issues.has_errors() {
            check_reachable(
                &table,
                &[("mqtt", &mqtt), ("coap", &coap), ("http", &http)],
                &principals,
                issues,
            );
            if let Some((push, at)) = push.as_ref().zip(table.node("push")) {
                push.check(at, &uplinks, issues);
            }
        }
        check_built(&table, issues);
        table.finish(issues);
        found.more_servers = opcua_wrong || (opcua.is_empty() && issues.has_errors());
        Some(Self {
            gateway: gateway?,
            store,
            limits,
            mqtt,
            coap,
            http,
            opcua,
            principals,
            jwt,
            access,
            uplinks,
            push,
        })
    }
}

/// Reads `[[access]]`, with a hint where an entry is about nobody.
fn read_access(
    table: &mut TableReader<'_>,
    principals: &[PrincipalConfig],
    jwt: &[JwtConfig],
    issues: &mut Issues,
) -> Vec<AccessEntry> {
    let read = |table: TableReader<'_>, issues: &mut Issues| {
        let at = table.value_span("principal");
        let rule = access::read(table, issues)?;
        let glob = &rule.principal;
        let somebody = glob.matches("anonymous")
            || glob.to_string().starts_with("uplink:")
            || principals.iter().any(|principal| glob.matches(principal.name.as_str()))
            // Which names there will be is up to the issuer.
            || !jwt.is_empty();
        if !somebody {
            let issue = Issue::hint(at, format!("no principal is named `{glob}`"));
            issues.push(issue.with_hint("add a `[[principal]]`, or correct the name"));
        }
        Some(rule)
    };
    table.tables("access", read, issues)
}

/// Reads `[[uplink]]`, and finds uplinks that would take each other's place at the same broker.
fn read_uplinks(
    table: &mut TableReader<'_>,
    gateway: &GatewayId,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Vec<UplinkConfig> {
    let mut names = Unique::new("uplinks named");
    let mut sessions = Unique::new("uplinks that use the session");
    let mut nodes = Unique::new("uplinks that are the edge node");
    let mut devices = Unique::new("uplinks that are the device");
    let mut above = Above::default();
    let read = |table: TableReader<'_>, issues: &mut Issues| {
        let (at, node_at) = (table.value_span("client-id"), table.value_span("sparkplug-b"));
        let device_at = table.value_span("astarte");
        let named = table.has("client-id");
        let uplink = uplink::read(table, gateway, context, &mut names, &above, issues)?;
        if named {
            for endpoint in &uplink.link.endpoints {
                sessions.note(&format!("{} at {}", uplink.client_id, endpoint.url), at, issues);
            }
        }
        for node in uplink.sparkplug.iter().map(|settings| &settings.node) {
            for endpoint in &uplink.link.endpoints {
                let node = format!("{}/{} at {}", node.group, node.id, endpoint.url);
                nodes.note(&node, node_at, issues);
            }
        }
        for device in uplink.astarte.iter().map(|settings| &settings.setup.device) {
            devices.note(device.base(), device_at, issues);
        }
        above.note(&uplink);
        Some(uplink)
    };
    let uplinks = table.tables("uplink", read, issues);
    uplink::check_bridges(&uplinks, issues);
    uplinks
}

/// Notes tables of protocols that this build leaves out.
fn check_built(table: &TableReader<'_>, issues: &mut Issues) {
    let protocols = [
        ("coap", "CoAP", cfg!(feature = "coap")),
        ("http", "HTTP", cfg!(feature = "http")),
        ("opcua", "OPC UA", cfg!(feature = "opcua")),
    ];
    for (key, protocol, built) in protocols {
        if let (Some(at), false) = (table.key_span(key), built) {
            let message = format!("this build of the gateway leaves out {protocol}");
            issues.error(
                at,
                message,
                format!("remove the table, or build with the feature `{key}`"),
            );
        }
    }
}

/// Hints at listeners to which nobody can connect.
fn check_reachable(
    table: &TableReader<'_>,
    listeners: &[(&str, &Option<ListenerConfig>)],
    principals: &[PrincipalConfig],
    issues: &mut Issues,
) {
    for (key, listener) in listeners {
        let closed = listener.as_ref().is_some_and(|listener| !listener.anonymous);
        if closed && principals.is_empty() && !table.has("principal") {
            let issue =
                Issue::hint(table.value_span(key), format!("nobody can connect to `{key}`"));
            issues
                .push(issue.with_hint("add a `[[principal]]`, or `anonymous = true` on loopback"));
        }
    }
}
