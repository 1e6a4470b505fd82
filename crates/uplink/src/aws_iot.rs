//! What AWS IoT Core has beside topics and payloads: custom authorizers, certificates that it gives out itself, and
//! signed URLs.

mod authorizer;
mod fleet;
mod sigv4;

pub use self::authorizer::{AuthorizerError, AuthorizerToken, CustomAuthorizer};
pub use self::fleet::{FleetAnswer, FleetRefusal, FleetRequest, FleetTemplate, FleetTemplateError};
pub use self::sigv4::{SigV4, SigV4Error};
