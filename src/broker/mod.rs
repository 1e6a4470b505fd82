//! Tokio drivers over the broker core and the MQTT connections.

mod connection;
mod guard;
mod handle;
mod limits;
mod listener;
mod login;
mod loops;
mod probe;
mod sys;
mod token;
mod topics;

pub use connection::ConnectionSettings;
pub use connection::WebSocketSettings;
pub use guard::CoreGuard;
pub use handle::{BrokerHandle, Published, durable, refuse};
pub use limits::{Limit, LimitCounters};
pub use listener::{Endpoint, ListenerCounters, MqttListener, MqttSettings};
pub use login::{
    Account, Accounts, Proven, ScramRefusal, ThrottleSettings, hash_password, is_password_hash,
};
pub use loops::EventLoops;
pub use sys::SysTopics;
pub use token::{InvalidToken, NoRandomBytes, TOKEN_PREFIX, Token, TokenHash, parse_tokens};
pub use topics::{Topics, last_message};

#[cfg(test)]
mod tests;
