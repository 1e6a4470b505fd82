//! The one way to the broker core: a lock, held for one batch, and the journal behind it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tidegate_adapter_api::{Outcome, Receipt, ReceiptSender, Refusal};
use tidegate_broker::{Admission, Broker, Carried, ConnectionId, DueWill, RouteRefusal, Source};
use tidegate_model::Message;
use tidegate_store::{Seq, Transaction};

use super::guard::{CoreGuard, CoreLock};
use crate::{
    clock::Clock,
    memory::{Ceiling, Pressure},
    store::{Completion, StoreHandle},
};

/// When those are told to come again for whom there is no memory.
const BUSY_FOR: Duration = Duration::from_secs(5);

/// The broker core with the journal behind it. Cheap to clone.
///
/// The core is one shard behind a lock that is held while it routes one batch: no I/O, no waiting. A
/// transaction enters the journal's queue before the lock is given up, so that the order of the log is that of
/// the core's decisions.
#[derive(Clone, Debug)]
pub struct BrokerHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    core: CoreLock,
    store: StoreHandle,
    clock: Clock,
    next_connection: AtomicU64,
    ceiling: Arc<Ceiling>,
}

/// What became of published messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Whether the completion that was handed in will be called.
    pub awaited: bool,
    /// Whether anyone took any of the messages.
    pub matched: bool,
}

impl BrokerHandle {
    /// Takes a core whose state has been recovered; memory has no ceiling.
    pub fn new(core: Broker, store: StoreHandle, clock: Clock) -> Self {
        Self::with_ceiling(core, store, clock, Ceiling::new(u64::MAX))
    }

    /// Takes a core whose state has been recovered, and the ceiling of memory near which it is not asked any more.
    pub fn with_ceiling(core: Broker, store: StoreHandle, clock: Clock, ceiling: Ceiling) -> Self {
        let shared = Shared {
            core: CoreLock::new(core),
            store,
            clock,
            next_connection: AtomicU64::new(1),
            ceiling: Arc::new(ceiling),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns the ceiling of memory.
    pub fn ceiling(&self) -> &Arc<Ceiling> {
        &self.shared.ceiling
    }

    /// Locks the core. Hold it for one batch, and submit what it returns before giving it up.
    ///
    /// # Panics
    ///
    /// If somebody has panicked under the lock: the process ends then ([`failed`](Self::failed)).
    pub fn core(&self) -> CoreGuard<'_> {
        self.shared.core.lock()
    }

    /// Returns whether somebody has panicked under the lock of the core.
    pub fn has_failed(&self) -> bool {
        self.shared.core.has_failed()
    }

    /// Waits until somebody has panicked under the lock of the core, which nobody gets any more then. Cancel-safe.
    pub async fn failed(&self) {
        self.shared.core.failed().await;
    }

    /// Returns the journal.
    pub fn store(&self) -> &StoreHandle {
        &self.shared.store
    }

    /// Returns the clocks.
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Returns a number that no connection has had.
    pub fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.shared.next_connection.fetch_add(1, Ordering::Relaxed))
    }

    /// Routes messages that belong together, and appends them for those who need them durable.
    ///
    /// `completion` is called when they are durable, if `awaited` is returned.
    ///
    /// # Errors
    ///
    /// [`RouteRefusal`]; nothing was kept and `completion` is not called.
    pub fn publish(
        &self,
        messages: Vec<Message>,
        source: Source,
        completion: impl FnOnce() -> Completion,
    ) -> Result<Published, RouteRefusal> {
        self.publish_with(messages, source, |_, _| false, completion)
    }

    /// Does the same as [`publish`](Self::publish) and adds to the transaction what becomes durable with the
    /// messages.
    ///
    /// `note` is called under the lock of the core, with the transaction and whether it is awaited already; it
    /// returns whether what it has added must be awaited.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish); `note` is not called.
    pub fn publish_with(
        &self,
        messages: Vec<Message>,
        source: Source,
        note: impl FnOnce(&mut Transaction, bool) -> bool,
        completion: impl FnOnce() -> Completion,
    ) -> Result<Published, RouteRefusal> {
        if !self.shared.ceiling.admits(&messages) {
            return Err(RouteRefusal::MemoryFull);
        }
        let admission = self.admission();
        let mut core = self.core();
        let routing = core.route(messages, source, admission)?;
        for before in routing.before {
            self.shared.store.submit(before, Completion::None);
        }
        let mut transaction = routing.transaction.unwrap_or_default();
        let awaited = note(&mut transaction, routing.awaited) || routing.awaited;
        if !transaction.is_empty() {
            let completion = if awaited { completion() } else { Completion::None };
            self.shared.store.submit(transaction, completion);
        }
        Ok(Published { awaited, matched: routing.matched })
    }

    /// Does the same as [`publish`](Self::publish) and returns a receipt.
    pub fn publish_with_receipt(&self, messages: Vec<Message>, source: Source) -> Receipt {
        let mut waiting = None;
        let result = self.publish(messages, source, || {
            let (sender, receipt) = Receipt::pair();
            waiting = Some(receipt);
            durable(sender)
        });
        match (result, waiting) {
            (Ok(_), Some(receipt)) => receipt,
            (Ok(_), None) => Receipt::ready(Outcome::Accepted),
            (Err(refusal), _) => Receipt::ready(Outcome::Refused(refuse(refusal))),
        }
    }

    /// Makes a change durable that was decided under the lock `core`.
    pub fn submit(
        &self,
        core: &CoreGuard<'_>,
        transaction: Option<Transaction>,
        completion: Completion,
    ) {
        debug_assert!(core.is_of(&self.shared.core));
        if let Some(transaction) = transaction {
            self.shared.store.submit(transaction, completion);
        }
    }

    /// Makes a change durable that was decided under the lock `core` and takes several transactions; the completion is
    /// that of the last.
    pub fn submit_all(
        &self,
        core: &CoreGuard<'_>,
        mut transactions: Vec<Transaction>,
        completion: Completion,
    ) {
        let last = transactions.pop();
        for transaction in transactions {
            self.submit(core, Some(transaction), Completion::None);
        }
        self.submit(core, last, completion);
    }

    /// Publishes a will with what was made of it, and ends it in the same transaction.
    ///
    /// One that finds no room is tried again later; one that is refused for good ends, counted.
    ///
    /// # Errors
    ///
    /// [`RouteRefusal`] if the will was not published now.
    pub fn publish_will(&self, will: DueWill, messages: Vec<Message>) -> Result<(), RouteRefusal> {
        let admission = self.admission();
        let is_full = self.shared.ceiling.pressure() == Pressure::Full;
        let mut core = self.core();
        let routed = if is_full {
            Err(RouteRefusal::MemoryFull)
        } else {
            core.route_will(&will, messages, admission)
        };
        match routed {
            Ok(routing) => {
                self.submit_all(&core, routing.before, Completion::None);
                self.submit(&core, routing.transaction, Completion::None);
                Ok(())
            }
            Err(refusal) => {
                let dropped = match refusal {
                    RouteRefusal::StorageFull | RouteRefusal::MemoryFull => {
                        core.postpone_will(will)
                    }
                    _ => Some(will),
                };
                let transaction = dropped.map(|will| core.drop_will(&will));
                self.submit(&core, transaction, Completion::None);
                Err(refusal)
            }
        }
    }

    /// Ends a will that may not be published any more; it is counted.
    pub fn drop_will(&self, will: &DueWill) {
        let mut core = self.core();
        let transaction = core.drop_will(will);
        self.submit(&core, Some(transaction), Completion::None);
    }

    /// Lets sessions expire, and returns the wills whose time has come.
    pub fn tick(&self) -> Vec<DueWill> {
        let mut core = self.core();
        let tick = core.tick(self.clock().steady());
        self.submit_all(&core, tick.transactions, Completion::None);
        tick.wills
    }

    /// Carries forward what sessions need from before `horizon`, about `bytes_max` of it.
    pub fn carry(&self, horizon: Seq, bytes_max: usize) -> Carried {
        let mut core = self.core();
        let mut carried = core.carry(horizon, bytes_max);
        self.submit_all(&core, std::mem::take(&mut carried.transactions), Completion::None);
        carried
    }

    /// Stores what sessions have taken, and returns the first record that one of them still needs, if any.
    ///
    /// `None` if not all could be stored at once: nothing may be released yet.
    pub fn needed_by_sessions(&self) -> Option<Option<Seq>> {
        let oldest =
            self.shared.store.catalog().segments().first().map(|segment| segment.first_seq);
        let mut core = self.core();
        let (progress, is_complete) = core.take_all_progress();
        self.submit(&core, progress, Completion::None);
        let forgotten = oldest.and_then(|oldest| core.forget_struck(oldest));
        self.submit(&core, forgotten, Completion::None);
        is_complete.then(|| core.first_needed())
    }

    /// Returns whether the journal takes what must be durable.
    pub fn admission(&self) -> Admission {
        if self.shared.store.is_accepting() { Admission::Open } else { Admission::Closed }
    }
}

/// Returns a completion that resolves a receipt.
pub fn durable(sender: ReceiptSender) -> Completion {
    Completion::call(move |result| match result {
        Ok(()) => sender.resolve(Outcome::Durable),
        Err(_) => sender.resolve(Outcome::Refused(Refusal::ShuttingDown)),
    })
}

/// Says a refusal of the core in the words of the adapters.
pub fn refuse(refusal: RouteRefusal) -> Refusal {
    match refusal {
        RouteRefusal::StorageFull => Refusal::StorageFull,
        RouteRefusal::MemoryFull => Refusal::Busy { retry_after: BUSY_FOR },
        RouteRefusal::RetainedQuota => Refusal::RetainedQuota,
        RouteRefusal::Superseded => {
            Refusal::Invalid { reason: "the session belongs to another connection now".into() }
        }
        RouteRefusal::TooLarge => Refusal::TooLarge { limit: tidegate_store::BODY_BYTES_MAX },
    }
}
