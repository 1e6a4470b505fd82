//! An uplink's writes on their way to the disk, whichever run made them.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tidegate_store::Transaction;
use tidegate_uplink::Moved;

use super::listener::WriteListener;
use crate::store::{Completion, StoreHandle};

/// Numbers the writes of an uplink, and keeps what is to be booked when they are durable.
///
/// It outlives the runs of the task: what a run that failed has submitted is stored all the same, and
/// so it is booked all the same.
#[derive(Debug, Default)]
pub(super) struct Writes {
    listener: Arc<WriteListener>,
    submitted: Mutex<Submitted>,
}

#[derive(Debug, Default)]
struct Submitted {
    /// The token of the last write.
    last: u64,
    /// Moves of the cursor that are not durable yet, or not booked, with the tokens of their writes.
    moves: VecDeque<(u64, Moved)>,
}

impl Writes {
    /// Submits a write and returns its token; tokens follow each other. `moved` is to be booked when
    /// the write is durable.
    pub(super) fn submit(
        &self,
        store: &StoreHandle,
        transaction: Transaction,
        moved: Option<Moved>,
    ) -> u64 {
        let mut submitted = self.submitted.lock();
        submitted.last += 1;
        let token = submitted.last;
        submitted.moves.extend(moved.map(|moved| (token, moved)));
        let listener = Arc::clone(&self.listener);
        store.submit(transaction, Completion::Shared(listener, token));
        token
    }

    /// Returns the token of the last durable write.
    pub(super) fn durable(&self) -> u64 {
        self.listener.durable()
    }

    /// Takes the oldest move that is durable and not booked yet.
    pub(super) fn take_moved(&self) -> Option<Moved> {
        let durable = self.durable();
        let mut submitted = self.submitted.lock();
        let (_, moved) = submitted.moves.pop_front_if(|(token, _)| *token <= durable)?;
        Some(moved)
    }

    /// Returns whether a write was not stored; then none after it is.
    pub(super) fn have_failed(&self) -> bool {
        self.listener.has_failed()
    }

    /// Waits for news of the writes. Cancel-safe.
    pub(super) async fn changed(&self) {
        self.listener.changed().await;
    }

    /// Waits until every write is durable, or none will be any more. Cancel-safe.
    pub(super) async fn settled(&self) {
        let last = self.submitted.lock().last;
        while self.durable() < last && !self.have_failed() {
            self.changed().await;
        }
    }
}
