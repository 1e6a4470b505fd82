//! The tables of the configuration file: from the tree of `crates/settings` to checked domain types.
//!
//! [`load`] reads the file and the mapping files it names, and reports every problem of all of them at once.
//! Behind it nothing is text any more: a [`Config`] needs no further check. Every default is a constant of
//! the module that reads the key. Secrets come from credentials, files or the environment; [`Secret`] does
//! not print them, and [`render`] masks what looks like one in the lines it shows.

mod access;
mod broker;
mod context;
mod files;
mod gateway;
mod jwt;
mod limits;
mod listener;
mod load;
mod mask;
mod mentions;
mod opcua;
mod principal;
mod push;
mod render;
mod root;
mod secret;
mod store;
mod time;
mod tls;
mod unique;
mod uplink;

pub use broker::BrokerConfig;
pub use context::Environment;
pub use gateway::{GatewayConfig, GatewayId};
pub use jwt::{JwtConfig, JwtKeys};
pub use limits::{
    AuthLimits, CoapLimits, DownlinkLimits, HttpLimits, JsonLimits, Limits, MqttLimits, NetLimits,
    OpcUaLimits,
};
pub use listener::{ListenerConfig, WebSocketConfig};
pub use load::{
    LoadError, Loaded, MappingFile, data_dir, load, load_generation, load_set, load_with,
    push_folder, watched_paths,
};
pub use mentions::{Mention, mentions};
pub use opcua::{OpcUaConfig, OpcUaEndpoint, OpcUaLogin, OpcUaSecurity};
pub use principal::PrincipalConfig;
pub use push::PushConfig;
pub use render::{Style, render, render_json};
pub use root::Config;
pub use secret::Secret;
pub use store::{Durability, StoreConfig};
pub use time::TimeConfig;
pub use tls::TlsConfig;
pub use uplink::{
    AstarteConfig, AwsConfig, BatchLimits, BridgeConfig, CommandsConfig, Compression,
    EndpointConfig, InboundConfig, Level, LinkConfig, LinkHost, LinkUrl, MqttVersion,
    PayloadFormat, ShadowConfig, StandInConfig, ThingsBoardConfig, TimeUnit, TopicTemplate,
    TopicTemplateError, UplinkConfig, UplinkLogin, UplinkTls, WaitingConfig, WhenFull,
};

#[cfg(test)]
mod tests;
