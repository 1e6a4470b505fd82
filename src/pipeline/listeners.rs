//! The listeners of a configuration: who is let in, and what they show.

use std::{net::SocketAddr, sync::Arc};

use tidegate_adapter_api::Access;
use tidegate_settings::ByteSize;
use tidegate_tls::{ServerPrepared, ServerSetup, ServerTls, TlsError};

use super::{StartError, gates::Gates};
use crate::{
    broker::{
        Account, Accounts, ConnectionSettings, Endpoint, EventLoops, MqttListener, MqttSettings,
        ThrottleSettings, WebSocketSettings,
    },
    config::{Config, JwtKeys, ListenerConfig, TlsConfig, WebSocketConfig},
    ingest::Ingest,
    jwt::{Issuer, Issuers, KeyAddress, KeySource},
    listening::Protocol,
};

/// Frames may hold a little more than the largest packet.
const WEBSOCKET_BYTES_BEYOND: usize = 16 << 10;

/// Returns who may log in.
pub(super) fn accounts(config: &Config) -> impl Iterator<Item = Account> {
    config.principals.iter().map(|principal| Account {
        principal: principal.name.clone(),
        password_hash: principal.password_hash.as_ref().map(|hash| hash.expose().trim().to_owned()),
        scram: principal.scram.clone(),
        certificate: principal.certificate.clone(),
        tokens: principal.tokens.clone(),
    })
}

/// Returns whose tokens are believed. Keys that are fetched from the same address as before go on.
pub(super) fn issuers(config: &Config, before: &Issuers) -> Issuers {
    Issuers::new(config.jwt.iter().map(|jwt| {
        let keys = match &jwt.keys {
            JwtKeys::Given(keys) => Arc::new(KeySource::given(keys.clone())),
            JwtKeys::At(address) => {
                let place = |known: &KeyAddress| known.is_at(address);
                let old = before.iter().find(|issuer| issuer.keys.address().is_some_and(place));
                match old.map(|issuer| &issuer.keys) {
                    Some(keys) if keys.address() == Some(address) => Arc::clone(keys),
                    // The same keys by other means: who has logged in with them stays.
                    Some(keys) => Arc::new(KeySource::fetched_again(address.clone(), keys)),
                    None => Arc::new(KeySource::fetched(address.clone())),
                }
            }
        };
        Issuer {
            name: jwt.issuer.clone(),
            audience: jwt.audience.clone(),
            claim: jwt.claim.clone(),
            principals: jwt.principals.clone(),
            keys,
        }
    }))
}

/// Makes the accounts of a configuration.
pub(super) fn open_accounts(config: &Config) -> Arc<Accounts> {
    let limits = &config.limits.auth;
    let throttle = ThrottleSettings { failures: limits.failures, delay_max: limits.delay_max };
    Arc::new(Accounts::new(accounts(config), issuers(config, &Issuers::default()), throttle))
}

/// The certificates of all encrypted listeners, to be replaced while they are used.
#[derive(Debug)]
pub(super) struct Certificates {
    pub(super) mqtt: Option<Arc<ServerTls>>,
    pub(super) websocket: Option<Arc<ServerTls>>,
    pub(super) http: Option<Arc<ServerTls>>,
}

/// What the encrypted listeners of a configuration show and ask for.
struct Setups {
    mqtt: Option<ServerSetup>,
    websocket: Option<ServerSetup>,
    http: Option<ServerSetup>,
}

impl Setups {
    fn of(config: &Config) -> Self {
        let with = |tls: &TlsConfig, protocols: &[&[u8]]| ServerSetup {
            protocols: protocols.iter().map(|name| name.to_vec()).collect(),
            ..tls.setup.clone()
        };
        let websocket = config.mqtt.as_ref().and_then(|mqtt| mqtt.websocket.as_ref());
        let tls = |listener: &Option<ListenerConfig>| listener.as_ref()?.tls.clone();
        Self {
            // Registered with IANA for MQTT over TLS; clients that name nothing are served as well.
            mqtt: tls(&config.mqtt).map(|tls| with(&tls, &[b"mqtt"])),
            websocket: websocket
                .and_then(|websocket| websocket.tls.as_ref().map(|tls| with(tls, &[b"http/1.1"]))),
            http: tls(&config.http).map(|tls| with(&tls, &[b"http/1.1"])),
        }
    }
}

impl Certificates {
    /// Takes those of a configuration.
    pub(super) fn new(config: &Config) -> Result<Self, StartError> {
        let make = |setup: Option<ServerSetup>| {
            let made = setup.map(ServerTls::new).transpose();
            made.map(|tls| tls.map(Arc::new))
                .map_err(|error| StartError::Setting(error.to_string()))
        };
        let Setups { mqtt, websocket, http } = Setups::of(config);
        Ok(Self { mqtt: make(mqtt)?, websocket: make(websocket)?, http: make(http)? })
    }

    /// Prepares those of another configuration, to be set from the next handshakes on; connections keep theirs.
    pub(super) fn prepare(
        &self,
        config: &Config,
    ) -> Result<Vec<(&Arc<ServerTls>, ServerPrepared)>, TlsError> {
        let Setups { mqtt, websocket, http } = Setups::of(config);
        let all = [(&self.mqtt, mqtt), (&self.websocket, websocket), (&self.http, http)];
        all.into_iter()
            .filter_map(|(tls, setup)| tls.as_ref().zip(setup))
            .map(|(tls, setup)| Ok((tls, ServerPrepared::new(setup)?)))
            .collect()
    }
}

/// Binds every address of `[mqtt]` whose gate is open, if there is such a table.
pub(super) fn listen_mqtt(
    config: &Config,
    ingest: &Ingest,
    accounts: &Arc<Accounts>,
    certificates: &Certificates,
    gates: &Gates,
) -> Result<Option<MqttListener>, StartError> {
    let Some(listener) = &config.mqtt else { return Ok(None) };
    let settings = settings(config, listener, accounts);
    let endpoints = endpoints(listener, &settings, accounts, certificates, gates);
    let loops = EventLoops::start(listener.broker.event_loops).map_err(StartError::Thread)?;
    let bound = MqttListener::bind(endpoints, settings, loops, ingest.clone());
    bound.map(Some).map_err(|(address, source)| StartError::Listen {
        protocol: "MQTT",
        address: address.to_string(),
        source,
    })
}

fn settings(config: &Config, listener: &ListenerConfig, accounts: &Arc<Accounts>) -> MqttSettings {
    let (limits, net) = (&config.limits.mqtt, &config.limits.net);
    let bytes = |size: ByteSize| usize::try_from(size.get()).unwrap_or(usize::MAX);
    let protocol = tidegate_mqtt::Settings {
        limits: tidegate_mqtt::Limits {
            connect_bytes: bytes(limits.max_connect_bytes),
            packet_bytes: bytes(limits.max_packet_bytes),
            topic_levels: limits.max_topic_levels,
            topic_bytes: bytes(limits.max_topic_bytes),
            user_properties: limits.max_user_properties,
            properties_bytes: bytes(limits.max_properties_bytes),
            ..tidegate_mqtt::Limits::default()
        },
        connect_timeout: net.connect_deadline,
        keep_alive_max_s: u16::try_from(limits.max_keepalive.as_secs()).unwrap_or(u16::MAX),
        receive_maximum: limits
            .receive_maximum
            .try_into()
            .expect("the configuration allows 1 and more"),
        topic_alias_maximum: limits.max_topic_aliases,
        topic_aliases_used: limits.max_topic_aliases_out,
        server_reference: listener.broker.server_reference.clone(),
        authentication_methods: &[tidegate_scram::METHOD],
        ..tidegate_mqtt::Settings::default()
    };
    MqttSettings {
        connection: ConnectionSettings {
            protocol: Arc::new(protocol),
            accounts: Arc::clone(accounts),
            response_topics: listener.broker.response_topics.clone(),
        },
        connections_max: net.max_connections,
        connections_per_address_max: net.max_connections_per_address,
        handshakes_max: net.max_handshakes,
    }
}

/// Returns the addresses in the order of [`Gates::listeners`].
fn endpoints(
    listener: &ListenerConfig,
    settings: &MqttSettings,
    accounts: &Arc<Accounts>,
    certificates: &Certificates,
    gates: &Gates,
) -> Vec<Endpoint> {
    let access = |anonymous| Access::new(Arc::clone(accounts) as _, anonymous);
    let limits = &settings.connection.protocol.limits;
    let (connect_bytes, packet_bytes) = (limits.connect_bytes, limits.packet_bytes);
    let upgrade = |config: &WebSocketConfig| {
        Arc::new(WebSocketSettings {
            path: config.path.clone(),
            origins: config.origins.clone(),
            first_message_bytes_max: connect_bytes + WEBSOCKET_BYTES_BEYOND,
            message_bytes_max: packet_bytes + WEBSOCKET_BYTES_BEYOND,
        })
    };
    let mut endpoints = Vec::new();
    let mut add = |protocol, listen: &[SocketAddr], tls, websocket, access: Access| {
        endpoints.extend(listen.iter().map(|&address| Endpoint {
            address,
            tls: Option::clone(&tls),
            websocket: Option::clone(&websocket),
            access: access.clone(),
            gate: gates.of(protocol).of_address(address),
        }));
    };
    add(Protocol::Mqtt, &listener.listen, None, None, access(listener.anonymous));
    if let Some(tls) = &listener.tls {
        add(Protocol::Mqtts, &tls.listen, certificates.mqtt.clone(), None, access(false));
    }
    if let Some(config) = &listener.websocket {
        let upgrade = upgrade(config);
        let (plain, anonymous) = (Some(Arc::clone(&upgrade)), access(config.anonymous));
        add(Protocol::WebSocket, &config.listen, None, plain, anonymous);
        if let Some(tls) = &config.tls {
            let shown = certificates.websocket.clone();
            add(Protocol::WebSocketTls, &tls.listen, shown, Some(upgrade), access(false));
        }
    }
    endpoints
}
