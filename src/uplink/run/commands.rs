//! Commands that come down, and their outcomes on the way up.

use std::{collections::VecDeque, sync::atomic::Ordering};

use tidegate_model::{Topic, Value, json};
use tidegate_store::Transaction;
use tidegate_uplink::{
    Outcome,
    downlink::{self, Plain},
};
use tokio::sync::mpsc;
use tracing::debug;

use super::{Run, Ticket, Told, UplinkError};
use crate::uplink::{
    command::{AckId, CommandAck, IncomingCommand, Settled},
    link::{Beside, Incoming},
};

/// Commands that may wait for room.
const WAITING_MAX: usize = 256;
/// Bytes of commands that may wait for room.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// Commands that nobody has room for, and that cannot be answered: the far side waits with them.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    commands: VecDeque<IncomingCommand>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Takes a command, unless there are too many.
    pub(super) fn push(&mut self, command: IncomingCommand) -> bool {
        let bytes = self.bytes + command.payload.len();
        if self.commands.len() >= WAITING_MAX || bytes > WAITING_BYTES_MAX {
            return false;
        }
        self.bytes = bytes;
        self.commands.push_back(command);
        true
    }

    /// Hands the oldest one on; without a permit nobody carries out commands any more.
    pub(super) fn hand_on(&mut self, permit: Option<mpsc::Permit<'_, IncomingCommand>>) {
        match (permit, self.commands.pop_front()) {
            (Some(permit), Some(command)) => {
                self.bytes -= command.payload.len();
                permit.send(command);
            }
            (Some(_), None) => {}
            (None, _) => *self = Self::default(),
        }
    }
}

impl Run<'_> {
    /// Hands a command or a message of a bridge on, to be acknowledged when it is safe.
    pub(super) fn handle_incoming(&mut self, incoming: Incoming) -> Result<(), UplinkError> {
        let Some(incoming) = self.take_for_shadow(incoming) else { return Ok(()) };
        let Some(incoming) = self.take_in(incoming) else { return Ok(()) };
        let Some(packet) = incoming.packet else { return Ok(()) };
        let ack = AckId::Packet { connection: self.connection_number, packet };
        let settings = &self.shared.settings;
        let target = std::str::from_utf8(&incoming.topic).ok().and_then(|topic| {
            settings.link.commands.as_ref().and_then(|commands| commands.target(topic))
        });
        let Some((target, kind)) = target else {
            debug!(uplink = %self.name(), "The cloud sent something that is no command");
            self.refuse(ack);
            return Ok(());
        };
        self.shared.commands_total.fetch_add(1, Ordering::Relaxed);
        let said = downlink::Said {
            content_type: incoming.content_type.as_deref(),
            content_encoding: incoming.content_encoding.as_deref(),
        };
        let Beside { id, fault } = incoming.beside.map(|beside| *beside).unwrap_or_default();
        let value = match fault {
            Some(fault) => Err(fault),
            None => downlink::decode(&incoming.payload, said, &settings.downlink),
        };
        let command = IncomingCommand {
            uplink: settings.core.name.clone(),
            target,
            kind,
            payload: incoming.payload,
            plain: Some(Plain::of(said, &settings.downlink)),
            id,
            value,
            retained: incoming.retained,
            reply_to: incoming.reply_to,
            ack: CommandAck::new(ack, self.shared.acks_sender.clone()),
        };
        let command = if self.waiting.is_empty() {
            match self.shared.commands.try_send(command) {
                Err(mpsc::error::TrySendError::Full(command)) => command,
                // Or nobody carries out commands any more; the cloud keeps it for the next connection.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return Ok(()),
            }
        } else {
            command
        };
        match &settings.link.results {
            Some(results) if self.outbox.has_room() => self.answer_busy(results, command),
            _ => {
                if !self.waiting.push(command) {
                    let error = "too many commands wait";
                    self.report(error, "A command is left to the next connection");
                }
                Ok(())
            }
        }
    }

    /// Answers a command that finds too many others waiting. It is let go once that is durable.
    fn answer_busy(
        &mut self,
        results: &Topic,
        command: IncomingCommand,
    ) -> Result<(), UplinkError> {
        let mut body = Vec::from("{");
        let id = match &command.value {
            Ok(Value::Document(document)) => document.get("id"),
            _ => None,
        };
        let id = match id {
            Some(Value::String(id)) => Some(&**id),
            _ => command.id.as_deref(),
        };
        if let Some(id) = id {
            body.extend_from_slice(b"\"id\":");
            json::write_string(id, &mut body);
            body.push(b',');
        }
        body.extend_from_slice(
            b"\"outcome\":\"busy\",\"reason\":\"too many commands are waiting\",\"time\":\"",
        );
        self.shared.clock.wall().write_rfc3339(&mut body);
        body.extend_from_slice(b"\"}");
        let topic = format!("{results}/{}", command.target).into();
        let outcome = Outcome { topic, payload: body.into(), correlation: None };
        let ack = command.ack.take_over();
        self.tell(Told { outcomes: vec![outcome], record: Transaction::new() }, Some(ack))
    }

    /// Journals outcomes of a command; then it is refused, if that was left to them.
    pub(super) fn tell(
        &mut self,
        told: Told,
        then_refuse: Option<AckId>,
    ) -> Result<(), UplinkError> {
        let (ids, changes): (Vec<_>, _) =
            told.outcomes.into_iter().map(|outcome| self.outbox.push(outcome)).unzip();
        let token = self.shared.submit(told.record, changes, None)?;
        let outcomes = ids.into_iter().map(Ticket::Outcome);
        let rest = then_refuse.map_or(Ticket::Nothing, Ticket::Refuse);
        self.tickets.extend(outcomes.chain([rest]).map(|ticket| (token, ticket)));
        Ok(())
    }

    /// Takes notice of what has become of a command.
    pub(super) fn settle(&mut self, settled: Settled) {
        match settled {
            Settled::Safe(ack) => self.acknowledge(ack),
            Settled::Refused(ack) => self.refuse(ack),
            Settled::Withheld(AckId::Shadow(id)) => self.withhold_from_shadow(id),
            Settled::Withheld(AckId::Packet { connection: number, packet }) => {
                if let Some(connection) = &mut self.connection
                    && number == self.connection_number
                {
                    connection.withhold(packet);
                }
            }
        }
    }

    /// Counts something that came down and was not taken; the far side need not send it again.
    pub(super) fn refuse(&mut self, ack: AckId) {
        self.shared.commands_refused.fetch_add(1, Ordering::Relaxed);
        let AckId::Packet { connection: number, packet } = ack else {
            return self.acknowledge(ack);
        };
        if let Some(connection) = &mut self.connection
            && number == self.connection_number
        {
            connection.refuse(packet);
        }
    }

    pub(super) fn acknowledge(&mut self, ack: AckId) {
        match ack {
            AckId::Shadow(id) => {
                if let Some(shadow) = &mut self.shadow {
                    shadow.handle_safe(id);
                }
            }
            // Before it is up, too: a dialect may be sent commands while it introduces itself.
            AckId::Packet { connection: number, packet } => {
                if let Some(connection) = &mut self.connection
                    && number == self.connection_number
                {
                    connection.acknowledge(packet);
                }
            }
        }
    }
}
