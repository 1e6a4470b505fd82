//! The task of an uplink: one run after the other, each over the same journal and books.

use std::{io, sync::Arc};

use thiserror::Error;
use tidegate_store::{SpillError, TransactionError};
use tidegate_uplink::OpenError;
use tokio_util::sync::CancellationToken;

use super::{run::Run, shared::Shared};

/// Why a run of an uplink ended. What the cloud or the network does never ends one.
#[derive(Debug, Error)]
pub enum UplinkError {
    /// What the journal keeps for the uplink cannot be read.
    #[error(transparent)]
    State(#[from] OpenError),
    /// What the journal keeps of a file with records that were moved out of it cannot be read.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// The records cannot be read.
    #[error("cannot read the journal")]
    Journal(#[from] io::Error),
    /// A change does not fit into the journal.
    #[error("cannot write to the journal")]
    Change(#[from] TransactionError),
}

impl UplinkError {
    /// Returns whether the same attempt may succeed later without anyone stepping in.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Journal(_))
    }
}

/// Carries one uplink's records to its cloud and commands down.
#[derive(Clone, Debug)]
pub struct UplinkTask {
    shared: Arc<Shared>,
}

impl UplinkTask {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs until `shutdown` is cancelled or the store has stopped; one run at a time.
    ///
    /// After the cancellation it sends what has been appended so far and waits for the cloud's
    /// acknowledgements, at most for the grace period of the settings, and not at all without a
    /// connection. A run after one that failed goes on where that one stood.
    ///
    /// # Errors
    ///
    /// [`UplinkError`]. Nothing that the cloud or the network does is one.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), UplinkError> {
        let shared = Arc::clone(&self.shared);
        let mut told = shared.outcomes.lock().await;
        let mut acks = shared.acks.lock().await;
        // What a run takes up from the one before is durable and booked, like after a restart.
        shared.writes.settled().await;
        shared.book_durable();
        if shared.writes.have_failed() {
            return Ok(());
        }
        let mut run = Run::new(&shared)?;
        let ended = run.serve(&mut told, &mut acks, &shutdown).await;
        run.close().await;
        ended
    }
}
