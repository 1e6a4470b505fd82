//! The way to one adapter, and how many commands may be on it.

use std::sync::Arc;

use tidegate_adapter_api::CommandRequest;
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, error::TrySendError},
};

/// Commands that wait for one adapter or are carried out by it; see the table of queues in `ARCHITECTURE.md`.
pub(super) const PER_ADAPTER: usize = 64;

/// The way to one adapter.
#[derive(Debug)]
pub(super) struct Lane {
    commands: mpsc::Sender<CommandRequest>,
    room: Arc<Semaphore>,
}

impl Lane {
    pub(super) fn new(commands: mpsc::Sender<CommandRequest>) -> Self {
        Self { commands, room: Arc::new(Semaphore::new(PER_ADAPTER)) }
    }

    /// Takes a place on the way, to be held until the command has ended; `None` if there is none.
    pub(super) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    /// Returns whether another command may be on it now; if its adapter has ended, that is told at once.
    pub(super) fn has_room(&self) -> bool {
        self.commands.is_closed()
            || (self.room.available_permits() > 0 && self.commands.capacity() > 0)
    }

    /// Hands a command over. Never blocks.
    ///
    /// # Errors
    ///
    /// If the adapter has ended, or has not yet taken as many commands that have expired since.
    pub(super) fn send(&self, request: CommandRequest) -> Result<(), TrySendError<()>> {
        self.commands.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => TrySendError::Full(()),
            TrySendError::Closed(_) => TrySendError::Closed(()),
        })
    }
}
