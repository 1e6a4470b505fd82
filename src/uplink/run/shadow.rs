//! The shadow that goes by a connection: it hears what comes down and what local topics say, and its commands, requests and
//! notes are seen to.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::Ordering,
};

use bytes::Bytes;
use tidegate_model::{CommandKind, Topic, json};
use tidegate_store::Transaction;
use tidegate_uplink::{
    Disconnect, Keys, Shadow, ShadowOrder, ShadowOrderId, ShadowRequest, decoder::DecodeError,
};
use tokio::sync::mpsc;

use super::{Run, Ticket, UplinkError};
use crate::uplink::{
    command::{AckId, CommandAck, IncomingCommand},
    link::{Incoming, Up},
    shared::Shared,
    watched::Seen,
};

/// Makes the shadow of an uplink, if it has one, with what the journal keeps of it.
pub(super) fn open(shared: &Shared) -> Option<Shadow> {
    let settings = shared.settings.link.shadow.clone()?;
    let prefix = Keys::new(&shared.settings.core.name).kept_prefix();
    let entries = shared.entries.lock();
    let kept = entries.range(prefix.clone()..).map_while(|(key, value)| {
        key.strip_prefix(prefix.as_slice()).map(|name| (name, value.as_slice()))
    });
    shared.watched.show_all();
    Some(Shadow::new(settings, kept, random(0), shared.clock.uptime()))
}

/// Returns any number, another one each time.
fn random(salt: u64) -> u64 {
    RandomState::new().hash_one(salt)
}

impl Run<'_> {
    /// Tells the shadow what local topics say, and does what it wants done.
    pub(super) fn look_after_shadow(&mut self) -> Result<(), UplinkError> {
        let Some(shadow) = &mut self.shadow else { return Ok(()) };
        let now = self.shared.clock.uptime();
        for (place, seen) in self.shared.watched.take_new() {
            match seen {
                Seen::Message(message) => {
                    shadow.handle_local(place, &tidegate_uplink::reading(&message));
                }
                Seen::TooLarge => shadow.handle_too_large(place),
            }
        }
        shadow.handle_timeout(now, random(self.connection_number));
        if let Some(connection) = &mut self.connection
            && let Some(filters) = shadow.poll_subscription(now)
        {
            connection.subscribe(&filters);
        }
        self.write_shadow_notes()?;
        // What comes during a stop is left to the next start.
        let shared = self.shared;
        let is_heard = |topic: &Topic| shared.intake.takes_commands(topic);
        while self.stop_deadline.is_none()
            && let Some(order) = self.shadow.as_mut().and_then(|it| it.poll_order(now, is_heard))
        {
            self.command_for_shadow(order);
        }
        while let Some(text) = self.shadow.as_mut().and_then(Shadow::poll_told) {
            self.report(&text, "A shadow at AWS IoT Core is not in step");
        }
        let mut state = self.shared.state.lock();
        if let Some(over) = self.shadow.as_mut().and_then(Shadow::poll_over) {
            state.last_error.take_if(|error| *error == over);
        }
        state.shadow = self.shadow.as_ref().map(Shadow::view);
        Ok(())
    }

    /// Writes down what is to be remembered. The journal keeps its writes in order: what follows is not durable before.
    fn write_shadow_notes(&mut self) -> Result<(), UplinkError> {
        let notes = self.shadow.as_mut().map(Shadow::poll_notes).unwrap_or_default();
        if notes.is_empty() {
            return Ok(());
        }
        let keys = Keys::new(self.name());
        let changes = notes.into_iter().map(|note| keys.keep(&note.name, note.value)).collect();
        let token = self.shared.submit(Transaction::new(), changes, None)?;
        self.tickets.push_back((token, Ticket::Noted));
        Ok(())
    }

    fn command_for_shadow(&mut self, order: ShadowOrder) {
        self.shared.commands_total.fetch_add(1, Ordering::Relaxed);
        let value = json::parse_value(&order.body);
        let ack = CommandAck::new(AckId::Shadow(order.id), self.shared.acks_sender.clone());
        let command = IncomingCommand {
            uplink: self.name().clone(),
            target: order.topic,
            kind: CommandKind::Write,
            payload: order.body.into(),
            plain: None,
            id: None,
            value: value.map_err(|error| DecodeError::NotJson { problem: error.to_string() }),
            retained: false,
            reply_to: None,
            ack,
        };
        let command = if self.waiting.is_empty() {
            match self.shared.commands.try_send(command) {
                Err(mpsc::error::TrySendError::Full(command)) => command,
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        } else {
            command
        };
        // If there is no room either, it is withheld, and desired still.
        self.waiting.push(command);
    }

    /// Takes notice of how the subscriptions of the shadow were answered.
    pub(super) fn note_shadow_subscribed(&mut self, refused: Option<String>) {
        let (now, random) = (self.shared.clock.uptime(), random(self.connection_number));
        let Some(shadow) = &mut self.shadow else { return };
        match refused {
            Some(reason) => shadow.handle_not_subscribed(&reason, now, random),
            None => shadow.handle_subscribed(),
        }
    }

    /// Takes notice that the connection is gone. Returns whether that is likely to be for the sake of the shadow.
    pub(super) fn note_disconnected_to_shadow(&mut self, how: Disconnect) -> bool {
        let (now, random) = (self.shared.clock.uptime(), random(self.connection_number));
        self.shadow.as_mut().is_some_and(|shadow| shadow.handle_disconnected(how, now, random))
    }

    /// Takes notice that a command of the shadow was not taken in.
    pub(super) fn withhold_from_shadow(&mut self, id: ShadowOrderId) {
        let (now, random) = (self.shared.clock.uptime(), random(self.connection_number));
        if let Some(shadow) = &mut self.shadow {
            shadow.handle_withheld(id, now, random);
        }
    }

    /// Takes a message for the shadow, if it is one; gives anything else back.
    pub(super) fn take_for_shadow(&mut self, incoming: Incoming) -> Option<Incoming> {
        let (now, random) = (self.shared.clock.uptime(), random(self.connection_number));
        let is_for_it = self.shadow.as_mut().is_some_and(|shadow| {
            let topic = std::str::from_utf8(&incoming.topic).unwrap_or_default();
            shadow.handle_message(topic, &incoming.payload, now, random)
        });
        if !is_for_it {
            return Some(incoming);
        }
        // A state is asked for again with each connection: nothing of it has to be kept at the service.
        if let Some(packet) = incoming.packet {
            self.acknowledge(AckId::Packet { connection: self.connection_number, packet });
        }
        None
    }

    /// Takes the next request of the shadow, if one may go.
    pub(super) fn shadow_up(&mut self) -> Option<Up> {
        let now = self.shared.clock.uptime();
        let ShadowRequest { topic, payload } = self.shadow.as_mut()?.poll_request(now)?;
        Some(Up::json(topic.into(), Bytes::from(payload), None))
    }
}
