//! `[[uplink]]`: where telemetry goes, what may come down, and how much may wait.

mod astarte;
mod aws_iot;
mod aws_shadow;
mod batch;
mod bridge;
mod commands;
mod endpoint;
mod iot_hub;
mod link;
mod rule;
mod sparkplug;
mod stand_in;
mod table;
mod template;
mod thingsboard;
mod url;
mod waiting;
mod way;

pub use astarte::AstarteConfig;
pub use aws_iot::AwsConfig;
pub use aws_shadow::ShadowConfig;
pub use batch::BatchLimits;
pub(super) use bridge::check_bridges;
pub use bridge::{BridgeConfig, InboundConfig};
pub use commands::CommandsConfig;
pub use endpoint::{EndpointConfig, UplinkLogin, UplinkTls};
pub use link::{LinkConfig, MqttVersion};
pub(in crate::config) use stand_in::Above;
pub use stand_in::StandInConfig;
pub(super) use table::{FILTER_HINT, read};
pub use table::{PayloadFormat, UplinkConfig, WhenFull};
pub use template::{TopicTemplate, TopicTemplateError};
pub use thingsboard::ThingsBoardConfig;
pub use tidegate_uplink::{Compression, Level, TimeUnit};
pub use url::{LinkHost, LinkUrl};
pub use waiting::WaitingConfig;
