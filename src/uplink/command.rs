//! Commands from the cloud, on their way to whoever carries them out.

use bytes::Bytes;
use tidegate_model::{CommandKind, Topic, UplinkName, Value};
use tidegate_uplink::{ReplyTo, ShadowOrderId, decoder::DecodeError, downlink::Plain};
use tokio::sync::mpsc;

/// One command as the cloud sent it.
#[derive(Debug)]
pub struct IncomingCommand {
    /// The uplink that brought it.
    pub uplink: UplinkName,
    /// The local topic it is for, without `/set` or `/call`.
    pub target: Topic,
    /// Whether it writes or calls.
    pub kind: CommandKind,
    /// The payload as it was sent.
    pub payload: Bytes,
    /// What makes text of it for local readers, if it may be none.
    pub plain: Option<Plain>,
    /// The id that stands beside the payload, for one whose payload has none.
    pub id: Option<String>,
    /// What the payload says, or why it cannot be read: then the command is refused with that reason.
    pub value: Result<Value, DecodeError>,
    /// Whether it was a retained message: those are refused.
    pub retained: bool,
    /// Where its sender wants the answer, beside the uplink's `results`.
    pub reply_to: Option<ReplyTo>,
    /// Tells the cloud that the command is safe.
    pub ack: CommandAck,
}

/// Names a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckId {
    /// It came in this packet of one connection.
    Packet {
        /// The number of the connection.
        connection: u64,
        /// The packet identifier.
        packet: u16,
    },
    /// A shadow made it, which wants to know.
    Shadow(ShadowOrderId),
}

/// What has become of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is safe.
    Safe(AckId),
    /// It was refused, which its sender is told.
    Refused(AckId),
    /// It was not taken in, and is left to the next connection.
    Withheld(AckId),
}

/// The cloud's wait for an acknowledgement.
///
/// Dropped without [`settle`](Self::settle), the acknowledgement is withheld: the cloud sends the
/// command again on the next connection.
#[derive(Debug)]
#[must_use]
pub struct CommandAck {
    id: AckId,
    acks: mpsc::Sender<Settled>,
    is_settled: bool,
}

impl CommandAck {
    pub(super) fn new(id: AckId, acks: mpsc::Sender<Settled>) -> Self {
        Self { id, acks, is_settled: false }
    }

    /// Lets the cloud know that the command and its id are durable, or that it was refused with an
    /// outcome that is. Never blocks; of no effect once the connection is gone.
    pub fn settle(mut self) {
        self.is_settled = true;
        // A queue that is full means that far more commands are open than a broker keeps in flight.
        // Then this one comes again.
        let _ = self.acks.try_send(Settled::Safe(self.id));
    }

    /// Lets the cloud know that the command was refused or found no room, with an outcome that says so. Never blocks.
    pub fn refuse(mut self) {
        self.is_settled = true;
        let _ = self.acks.try_send(Settled::Refused(self.id));
    }

    /// Returns whether a command that is withheld comes again soon, on the same connection, under the same id.
    pub(crate) fn comes_again(&self) -> bool {
        matches!(self.id, AckId::Shadow(_))
    }

    /// Leaves it to whoever calls to see to the acknowledgement.
    pub(super) fn take_over(mut self) -> AckId {
        self.is_settled = true;
        self.id
    }
}

#[cfg(test)]
impl CommandAck {
    /// Returns that of a shadow's command, and what tells whether the command is safe or else withheld.
    pub(crate) fn of_shadow() -> (Self, impl Future<Output = bool>) {
        let (acks, mut settled) = mpsc::channel(1);
        let is_safe = async move { matches!(settled.recv().await, Some(Settled::Safe(_))) };
        (Self::new(AckId::Shadow(ShadowOrderId::default()), acks), is_safe)
    }
}

impl Drop for CommandAck {
    fn drop(&mut self) {
        if !self.is_settled {
            // Its place on the connection is free again.
            let _ = self.acks.try_send(Settled::Withheld(self.id));
        }
    }
}
