//! Tokio drivers over the broker core and the MQTT connections.

mod connection;
mod handle;
mod listener;
mod login;
mod topics;

pub use connection::ConnectionSettings;
pub use connection::WebSocketSettings;
pub use handle::{BrokerHandle, Published, durable, refuse};
pub use listener::{Endpoint, ListenerCounters, MqttListener, MqttSettings};
pub use login::{Account, Accounts, hash_password};
pub use topics::{Topics, last_message};
