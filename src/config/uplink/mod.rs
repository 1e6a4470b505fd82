//! `[[uplink]]`: where telemetry goes, what may come down, and how much may wait.

mod astarte;
mod batch;
mod commands;
mod endpoint;
mod link;
mod rule;
mod sparkplug;
mod table;
mod template;
mod url;
mod waiting;
mod way;

pub use astarte::AstarteConfig;
pub use batch::BatchLimits;
pub use commands::CommandsConfig;
pub use endpoint::{EndpointConfig, UplinkLogin, UplinkTls};
pub use link::{LinkConfig, MqttVersion};
pub(super) use table::{FILTER_HINT, read};
pub use table::{PayloadFormat, UplinkConfig, WhenFull};
pub use template::{TopicTemplate, TopicTemplateError};
pub use tidegate_uplink::{Compression, Level, TimeUnit};
pub use url::{LinkHost, LinkUrl};
pub use waiting::WaitingConfig;
