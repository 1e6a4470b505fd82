//! Whether a host application is there: STATE messages, as 3.0 and as 2.2 have them.

use tidegate_model::{Value, json};

use crate::topic::{Id, state_topic, state_topic_2};

/// Larger ones are no STATE.
const STATE_BYTES_MAX: usize = 1_024;

/// Which edition of the specification the host follows in its STATE messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateVersion {
    /// `STATE/HOST` with the text `ONLINE` or `OFFLINE`.
    V2,
    /// `spBv1.0/STATE/HOST` with JSON and a time.
    #[default]
    V3,
}

/// What a host says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostState {
    /// Whether it is there.
    pub online: bool,
    /// Since when it is, or is not, in milliseconds since 1970; 0 in 2.2, which has none.
    pub timestamp: u64,
}

impl StateVersion {
    /// Returns the topic of a host's STATE messages.
    pub fn topic(self, host: &Id) -> String {
        match self {
            Self::V2 => state_topic_2(host),
            Self::V3 => state_topic(host),
        }
    }

    /// Reads a STATE message; `None` if it is none.
    pub fn read(self, payload: &[u8]) -> Option<HostState> {
        if payload.len() > STATE_BYTES_MAX {
            return None;
        }
        match self {
            Self::V2 => match payload {
                b"ONLINE" => Some(HostState { online: true, timestamp: 0 }),
                b"OFFLINE" => Some(HostState { online: false, timestamp: 0 }),
                _ => None,
            },
            Self::V3 => {
                let Value::Document(state) = json::parse_value(payload).ok()? else { return None };
                let Value::Boolean(online) = *state.get("online")? else { return None };
                let timestamp = match *state.get("timestamp")? {
                    Value::Integer(timestamp) => u64::try_from(timestamp).ok()?,
                    Value::Unsigned(timestamp) => timestamp,
                    _ => return None,
                };
                Some(HostState { online, timestamp })
            }
        }
    }
}
