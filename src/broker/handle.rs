//! The one way to the broker core: a lock, held for one batch, and the journal behind it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::{Mutex, MutexGuard};
use tidegate_adapter_api::{Outcome, Receipt, ReceiptSender, Refusal};
use tidegate_broker::{Admission, Broker, ConnectionId, DueWill, RouteRefusal, Source, Tick};
use tidegate_model::Message;
use tidegate_store::Transaction;

use crate::{
    clock::Clock,
    store::{Completion, StoreHandle},
};

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
    core: Mutex<Broker>,
    store: StoreHandle,
    clock: Clock,
    next_connection: AtomicU64,
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
    /// Takes a core whose state has been recovered.
    pub fn new(core: Broker, store: StoreHandle, clock: Clock) -> Self {
        let shared =
            Shared { core: Mutex::new(core), store, clock, next_connection: AtomicU64::new(1) };
        Self { shared: Arc::new(shared) }
    }

    /// Locks the core. Hold it for one batch, and submit what it returns before giving it up.
    pub fn core(&self) -> MutexGuard<'_, Broker> {
        self.shared.core.lock()
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
        let admission = self.admission();
        let mut core = self.core();
        let routing = core.route(messages, source, admission)?;
        if let Some(transaction) = routing.transaction {
            let completion = if routing.awaited { completion() } else { Completion::None };
            self.shared.store.submit(transaction, completion);
        }
        Ok(Published { awaited: routing.awaited, matched: routing.matched })
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
        core: &MutexGuard<'_, Broker>,
        transaction: Option<Transaction>,
        completion: Completion,
    ) {
        debug_assert!(std::ptr::eq(MutexGuard::mutex(core), &raw const self.shared.core));
        if let Some(transaction) = transaction {
            self.shared.store.submit(transaction, completion);
        }
    }

    /// Publishes the wills of a tick, checked against the rights that their publishers have now.
    ///
    /// `core` is the lock under which the tick was made: its transaction comes before any later decision.
    pub fn publish_wills(&self, core: MutexGuard<'_, Broker>, tick: Tick) {
        self.submit(&core, tick.transaction, Completion::None);
        let allowed: Vec<Message> = tick
            .wills
            .into_iter()
            .filter(|DueWill { principal, client_id, message }| {
                core.rules().rights(principal, Some(client_id)).may_publish(&message.topic)
            })
            .map(|will| will.message)
            .collect();
        drop(core);
        for message in allowed {
            // A will that finds no room is refused like any message; nobody waits for it.
            let _ = self.publish(vec![message], Source::Gateway, || Completion::None);
        }
    }

    /// Lets sessions expire and publishes wills whose time has come.
    pub fn tick(&self) {
        let mut core = self.core();
        let tick = core.tick(self.clock().steady());
        self.publish_wills(core, tick);
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
        RouteRefusal::RetainedQuota => {
            Refusal::Invalid { reason: "the quota of retained messages is used up".into() }
        }
        RouteRefusal::TooLarge => Refusal::TooLarge { limit: tidegate_store::BODY_BYTES_MAX },
    }
}
