//! What AWS IoT Core has beside topics and payloads: custom authorizers, and certificates that it gives out itself.

mod authorizer;

pub use self::authorizer::{AuthorizerError, AuthorizerToken, CustomAuthorizer};
