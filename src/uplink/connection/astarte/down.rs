//! Commands on their way down: what each belongs to, and how many are open.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tidegate_astarte::{Keep, Order};
use tidegate_model::{Value, json};
use tidegate_mqtt::PacketId;
use tidegate_uplink::Encoding;

use super::super::super::{link::Incoming, settings::AstarteSettings};

/// Commands that may be open; more wait.
const OPEN_MAX: usize = 256;

/// What need not be acknowledged is let go when so many wait.
const WAITING_MAX: usize = 1_024;

/// The commands of one connection.
#[derive(Debug, Default)]
pub(super) struct Down {
    waiting: VecDeque<(Order, bool, Option<PacketId>)>,
    /// By the number under which they were handed on.
    open: BTreeMap<u16, (Option<Keep>, Option<PacketId>)>,
    /// How many commands of a message are not safe yet.
    left: BTreeMap<PacketId, usize>,
    next: u16,
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
    /// Returns whether there is room for what nobody would send again.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
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
        self.waiting.extend(orders.into_iter().map(|order| (order, retained, of)));
        false
    }

    /// Returns the next command that may be handed on.
    pub(super) fn next(&mut self) -> Option<Incoming> {
        if self.open.len() >= OPEN_MAX {
            return None;
        }
        let (Order { topic, value, keep }, retained, of) = self.waiting.pop_front()?;
        // Far fewer are open than there are numbers.
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(number, (keep, of));
        Some(Incoming {
            topic: format!("{}{topic}", AstarteSettings::COMMANDS).into(),
            payload: command(&value),
            packet: Some(number),
            retained,
            content_type: Some(Encoding::Json.content_type().to_owned()),
            content_encoding: None,
            reply_to: None,
            said: None,
        })
    }

    /// Takes notice that a command is safe.
    pub(super) fn done(&mut self, number: u16) -> Option<Done> {
        let (keep, of) = self.open.remove(&number)?;
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
}

/// Makes the gateway's own command of a value.
fn command(value: &Value) -> Bytes {
    let mut payload = Vec::from("{\"value\":");
    json::write_value(value, &mut payload);
    payload.push(b'}');
    payload.into()
}
