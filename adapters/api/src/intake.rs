//! The way in for readings.

use std::{fmt, sync::Arc};

use tidegate_model::{AdapterName, Captures, Principal, Reading};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Exchange, Keep, LastMessage, PointId, RecalledExchange, Receipt, Refusal};

/// Open receipts an adapter may have; see the table of queues in `ARCHITECTURE.md`.
const OPEN_RECEIPTS_MAX: usize = 1_024;

/// A reading with the point it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointReading {
    /// The mapping entry.
    pub point: PointId,
    /// What the captures of its address stood for; with `each`, the name of the member comes last.
    pub captures: Captures,
    /// What was read.
    pub reading: Reading,
}

/// Whether somebody waits for the receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// The sender waits for an answer, or can be paused.
    #[default]
    Confirmed,
    /// The sender expects no answer; under pressure the batch is dropped and counted.
    Unconfirmed,
}

/// Readings that are taken together: all of them or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadingBatch {
    /// The readings, in order.
    pub readings: Vec<PointReading>,
    /// The load of the mappings to which the point numbers belong.
    pub generation: u64,
    /// The client on whose behalf they are published; `None` for what the adapter itself has read.
    pub principal: Option<Principal>,
    /// Whether somebody waits for the receipt.
    pub delivery: Delivery,
    /// The exchange that the batch belongs to, if it must be recognised after a restart.
    pub exchange: Option<Exchange>,
}

/// What stands behind an [`Intake`]: mapping, access rules, broker.
pub trait IntakeSink: Send + Sync {
    /// Takes or refuses a batch at once, and resolves the receipt when its messages are durable.
    ///
    /// `permit` is held until then.
    fn submit(
        &self,
        adapter: &AdapterName,
        batch: ReadingBatch,
        permit: OwnedSemaphorePermit,
    ) -> Receipt;

    /// Counts a batch that was refused because too many receipts were open.
    fn refuse_busy(&self, adapter: &AdapterName, batch: &ReadingBatch) -> Refusal;

    /// Returns the last message of a point.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotAuthorized`] if the principal may not subscribe to its topic.
    fn last(
        &self,
        principal: &Principal,
        generation: u64,
        point: PointId,
        captures: &Captures,
    ) -> Result<Option<LastMessage>, Refusal>;

    /// Returns the exchanges that were answered, before the gateway started or since, oldest first: none, unless
    /// the sink keeps them.
    fn recall(&self, keep: Keep) -> Vec<RecalledExchange> {
        let _ = keep;
        Vec::new()
    }
}

/// Takes readings from one adapter. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    adapter: AdapterName,
    sink: Arc<dyn IntakeSink>,
    open: Arc<Semaphore>,
}

impl Intake {
    /// Makes the intake of the named adapter.
    pub fn new(adapter: AdapterName, sink: Arc<dyn IntakeSink>) -> Self {
        Self { adapter, sink, open: Arc::new(Semaphore::new(OPEN_RECEIPTS_MAX)) }
    }

    /// Returns the name of the adapter, for [`tidegate_model::Origin`].
    pub fn adapter(&self) -> &AdapterName {
        &self.adapter
    }

    /// Hands in readings. Never blocks.
    ///
    /// The receipt resolves once: `Durable` after the sync that covers all of them, `Accepted` when
    /// nobody needs them durable, `Refused` with the reason otherwise. Answer the peer only then.
    pub fn submit(&self, batch: ReadingBatch) -> Receipt {
        match Arc::clone(&self.open).try_acquire_owned() {
            Ok(permit) => self.sink.submit(&self.adapter, batch, permit),
            Err(_) => Receipt::ready(crate::Outcome::Refused(
                self.sink.refuse_busy(&self.adapter, &batch),
            )),
        }
    }

    /// Waits until a batch can be handed in: for sources that can be paused. Cancel-safe.
    pub async fn room(&self) {
        let _permit = self.open.acquire().await.expect("the semaphore is never closed");
    }

    /// Returns the last message of a point, as its clients may read it.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotAuthorized`] if the principal may not subscribe to its topic.
    pub fn last(
        &self,
        principal: &Principal,
        generation: u64,
        point: PointId,
        captures: &Captures,
    ) -> Result<Option<LastMessage>, Refusal> {
        self.sink.last(principal, generation, point, captures)
    }

    /// Waits until everything that was handed in has its outcome. Cancel-safe.
    pub async fn settled(&self) {
        let all = u32::try_from(OPEN_RECEIPTS_MAX).expect("a small number");
        let _permits = self.open.acquire_many(all).await.expect("the semaphore is never closed");
    }

    /// Returns the exchanges that were answered, before the gateway started or since, oldest first.
    ///
    /// An exchange whose receipt is open is among them: a run that takes over from one that failed waits until all
    /// is [`settled`](Self::settled) first.
    pub fn recall(&self, keep: Keep) -> Vec<RecalledExchange> {
        self.sink.recall(keep)
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Intake").field("adapter", &self.adapter).finish_non_exhaustive()
    }
}
