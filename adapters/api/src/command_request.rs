//! Commands on their way to a device.

use tidegate_model::{Captures, Command, CommandOutcome};
use tokio::sync::oneshot;

use crate::PointId;

/// A command for one device, with its reply.
#[derive(Debug)]
pub struct CommandRequest {
    /// The mapping entry.
    pub point: PointId,
    /// The load of the mappings to which the number belongs.
    pub generation: u64,
    /// What the captures of its address stand for.
    pub captures: Captures,
    /// What to do: write a value or call a method. An adapter that cannot do one of them refuses it with the
    /// words that it is not supported; it never waits for the command to expire.
    pub command: Command,
    /// Where the outcome goes.
    pub reply: CommandReply,
}

/// Takes the outcome of one command. Dropped unused, it says that the adapter stopped, and that the command may
/// have been carried out: nobody knows how far it got.
#[derive(Debug)]
pub struct CommandReply(Option<oneshot::Sender<CommandOutcome>>);

impl CommandReply {
    /// Makes a reply and the receiver of the outcome.
    pub fn pair() -> (Self, oneshot::Receiver<CommandOutcome>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }

    /// Says how the command ended.
    pub fn send(mut self, outcome: CommandOutcome) {
        if let Some(sender) = self.0.take() {
            // Nobody waits any more when the gateway stops.
            let _ = sender.send(outcome);
        }
    }
}

impl Drop for CommandReply {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(CommandOutcome::refused(
                "the adapter stopped before an answer came; the command may have been carried out",
            ));
        }
    }
}
