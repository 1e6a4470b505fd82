//! `[[uplink]]`: where telemetry goes, what may come down, and how much may wait.

mod batch;
mod commands;
mod link;
mod rule;
mod table;
mod template;

pub use batch::BatchLimits;
pub use commands::CommandsConfig;
pub use link::{LinkHost, LinkUrl, MqttVersion, UplinkLogin, UplinkTls};
pub use table::{Compression, PayloadFormat, UplinkConfig, WhenFull};
pub(super) use table::{FILTER_HINT, read};
pub use template::{TopicTemplate, TopicTemplateError};
