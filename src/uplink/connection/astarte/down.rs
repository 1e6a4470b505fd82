//! Commands on their way down: what each belongs to, and how many are open.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tidegate_astarte::{Keep, Order};
use tidegate_model::{Topic, Value, json};
use tidegate_mqtt::PacketId;
use tidegate_uplink::Encoding;

use super::super::super::{link::Incoming, settings::AstarteSettings};

/// Commands that may be open; more wait.
const OPEN_MAX: usize = 256;
/// Bytes of commands that may be open; one may be larger.
const OPEN_BYTES_MAX: usize = 8 << 20;

/// Nothing more is read while so many commands wait.
const WAITING_MAX: usize = 1_024;
/// Nothing more is read while commands of so many bytes wait.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// The commands of one connection.
#[derive(Debug, Default)]
pub(super) struct Down {
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// By the number under which they were handed on.
    open: BTreeMap<u16, Open>,
    open_bytes: usize,
    /// How many commands of a message are not safe yet.
    left: BTreeMap<PacketId, usize>,
    next: u16,
}

/// A command that is not handed on yet.
#[derive(Debug)]
struct Waiting {
    topic: Topic,
    payload: Bytes,
    keep: Option<Keep>,
    retained: bool,
    of: Option<PacketId>,
}

/// A command that is not safe yet.
#[derive(Debug)]
struct Open {
    bytes: usize,
    keep: Option<Keep>,
    of: Option<PacketId>,
}

/// A command that is safe.
#[derive(Debug)]
pub(super) struct Done {
    /// What is to be remembered now.
    pub(super) keep: Option<Keep>,
    /// The message it came by.
    pub(super) of: Option<PacketId>,
    /// Whether that message has no other that is not safe.
    pub(super) is_last: bool,
}

impl Down {
    /// Returns whether more may be read; a message that was read is taken, whatever it brings.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX && self.waiting_bytes < WAITING_BYTES_MAX
    }

    /// Returns whether no command is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.open.is_empty()
    }

    /// Takes the commands of a message; returns whether there was none, so that it is done with.
    pub(super) fn take(
        &mut self,
        orders: Vec<Order>,
        retained: bool,
        of: Option<PacketId>,
    ) -> bool {
        if orders.is_empty() {
            return true;
        }
        if let Some(of) = of {
            self.left.insert(of, orders.len());
        }
        for Order { topic, value, keep } in orders {
            let payload = command(&value);
            self.waiting_bytes += payload.len();
            self.waiting.push_back(Waiting { topic, payload, keep, retained, of });
        }
        false
    }

    /// Returns the next command that may be handed on.
    pub(super) fn next(&mut self) -> Option<Incoming> {
        let is_full = |next: &Waiting| {
            self.open.len() >= OPEN_MAX || self.open_bytes + next.payload.len() > OPEN_BYTES_MAX
        };
        if is_full(self.waiting.front()?) && !self.open.is_empty() {
            return None;
        }
        let Waiting { topic, payload, keep, retained, of } = self.waiting.pop_front()?;
        let bytes = payload.len();
        self.waiting_bytes -= bytes;
        self.open_bytes += bytes;
        // Far fewer are open than there are numbers.
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(number, Open { bytes, keep, of });
        Some(Incoming {
            topic: format!("{}{topic}", AstarteSettings::COMMANDS).into(),
            payload,
            packet: Some(number),
            retained,
            content_type: Some(Encoding::Json.content_type().to_owned()),
            content_encoding: None,
            reply_to: None,
            said: None,
            beside: None,
        })
    }

    /// Takes notice that a command is safe.
    pub(super) fn done(&mut self, number: u16) -> Option<Done> {
        let Open { bytes, keep, of } = self.open.remove(&number)?;
        self.open_bytes -= bytes;
        let is_last = of.is_some_and(|of| match self.left.get_mut(&of) {
            Some(left) if *left > 1 => {
                *left -= 1;
                false
            }
            _ => {
                self.left.remove(&of);
                true
            }
        });
        Some(Done { keep, of, is_last })
    }

    /// Gives the place of a command back that is left to the next connection; its message stays without an answer.
    /// Returns what would have been remembered.
    pub(super) fn withhold(&mut self, number: u16) -> Option<Keep> {
        let Open { bytes, keep, .. } = self.open.remove(&number)?;
        self.open_bytes -= bytes;
        keep
    }
}

/// Makes the gateway's own command of a value.
fn command(value: &Value) -> Bytes {
    let mut payload = Vec::from("{\"value\":");
    json::write_value(value, &mut payload);
    payload.push(b'}');
    payload.into()
}
