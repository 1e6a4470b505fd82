//! What AWS IoT Core has beside topics and payloads: custom authorizers, and certificates that it gives out itself.

mod authorizer;
mod fleet;

pub use self::authorizer::{AuthorizerError, AuthorizerToken, CustomAuthorizer};
pub use self::fleet::{FleetAnswer, FleetRefusal, FleetRequest, FleetTemplate, FleetTemplateError};
