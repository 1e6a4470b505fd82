//! What AWS IoT Core has beside topics and payloads: custom authorizers, certificates that it gives out itself, signed
//! URLs, and shadows.

mod authorizer;
mod fleet;
mod shadow;
mod sigv4;

pub use self::authorizer::{AuthorizerError, AuthorizerToken, CustomAuthorizer};
pub use self::fleet::{FleetAnswer, FleetRefusal, FleetRequest, FleetTemplate, FleetTemplateError};
pub use self::shadow::{
    Shadow, ShadowCounts, ShadowError, ShadowNote, ShadowOrder, ShadowOrderId, ShadowPath,
    ShadowPathError, ShadowRequest, ShadowSettings, ShadowState, ShadowView,
};
pub use self::sigv4::{SigV4, SigV4Error};
