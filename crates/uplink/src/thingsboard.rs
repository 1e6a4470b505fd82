//! The gateway interface of ThingsBoard: readings as telemetry and attributes of devices, and calls to them.
//!
//! By its pages "MQTT Gateway API" and "MQTT Device API", and by what its server does with what it cannot read: it closes
//! the connection.

mod naming;
mod rpc;
mod sheet;

pub use self::{
    naming::{BoardKind, BoardNamingError, BoardPlace, BoardRule},
    rpc::{BoardCall, BoardOrder, answer_payload, answer_topic, own_call},
    sheet::{BoardRow, BoardSheet, RowRefusal},
};

use self::naming::{place, topic};

/// Where a gateway says that a device is there.
pub const CONNECT_TOPIC: &str = "v1/gateway/connect";
/// Where calls to devices come.
pub const CALL_TOPIC: &str = "v1/gateway/rpc";
/// Where calls to the gateway itself come.
pub const OWN_CALL_FILTER: &str = "v1/devices/me/rpc/request/+";

/// What a gateway of ThingsBoard is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardSettings {
    /// Which device and key a topic is.
    pub rules: Vec<BoardRule>,
    /// The profile of devices that are not known yet.
    pub device_type: String,
    /// Whether it is told how good a value is, under a key of its own.
    pub quality: bool,
    /// Whether calls are commands.
    pub commands: bool,
}

impl BoardSettings {
    /// Returns where the readings of a topic stand: by the rule with the most literal levels, the first of equals; with the
    /// gateway itself, under the topic, where no rule takes it.
    pub fn place(&self, topic: &str) -> BoardPlace {
        place(&self.rules, topic)
    }

    /// Returns the topic whose readings stand there; `None` if its name cannot be told from that.
    pub fn topic(&self, device: Option<&str>, key: &str) -> Option<String> {
        topic(&self.rules, device, key)
    }

    /// Returns what says that a device is there.
    pub fn connect_payload(&self, device: &str) -> Vec<u8> {
        let mut payload = Vec::from("{\"device\":");
        tidegate_model::json::write_string(device, &mut payload);
        payload.extend_from_slice(b",\"type\":");
        tidegate_model::json::write_string(&self.device_type, &mut payload);
        payload.push(b'}');
        payload
    }
}

#[cfg(test)]
mod tests;
