//! Messages on their way into the gateway, and the acknowledgements that follow their receipts.
//!
//! A message is acknowledged to the server only when its readings are durable or nobody needs them so
//! (ARCHITECTURE, "The receipt"). What the gateway does not take now is kept and handed in again; while it
//! waits, nothing overtakes it and no more messages are asked for.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tidegate_adapter_api::{Counter, Intake, Outcome, ReadingBatch, Refusal};
use tokio::time::sleep_until;

use crate::table::SubscriptionId;

/// Messages handed in or waiting; at this load no more are asked for.
const LOAD_MAX: usize = 64;
/// Shortest and longest pause after a refusal.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// The pause when the gateway gives none.
const PAUSE_DEFAULT: Duration = Duration::from_secs(1);

/// A message of a subscription.
pub(crate) type MessageKey = (SubscriptionId, u32);

/// Readings that are handed in with one receipt: a message, or a single reading of one.
#[derive(Debug)]
struct Part {
    message: MessageKey,
    batch: ReadingBatch,
}

type Open = Pin<Box<dyn Future<Output = (Part, Outcome)> + Send>>;

/// Everything between the server and the journal.
pub(crate) struct Deliveries {
    waiting: VecDeque<Part>,
    open: FuturesUnordered<Open>,
    /// Parts of each message that are not settled.
    parts: HashMap<MessageKey, usize>,
    acknowledgements: Vec<MessageKey>,
    paused_until: Option<Instant>,
    refused: Counter,
    pauses: Counter,
}

impl Deliveries {
    pub(crate) fn new(refused: Counter, pauses: Counter) -> Self {
        Self {
            waiting: VecDeque::new(),
            open: FuturesUnordered::new(),
            parts: HashMap::new(),
            acknowledgements: Vec::new(),
            paused_until: None,
            refused,
            pauses,
        }
    }

    /// Takes the readings of a message; one without any is settled at once, unless more of it is expected.
    pub(crate) fn push(&mut self, message: MessageKey, batch: ReadingBatch) {
        self.expect_more(message);
        self.push_rest(message, batch);
    }

    /// Notes that more readings of a message will come: it is not settled before.
    pub(crate) fn expect_more(&mut self, message: MessageKey) {
        *self.parts.entry(message).or_default() += 1;
    }

    /// Takes readings that were expected.
    pub(crate) fn push_rest(&mut self, message: MessageKey, batch: ReadingBatch) {
        if batch.readings.is_empty() {
            self.settled(message);
        } else {
            self.waiting.push_back(Part { message, batch });
        }
    }

    /// Notes that the server may forget a message.
    pub(crate) fn acknowledge(&mut self, message: MessageKey) {
        self.acknowledgements.push(message);
    }

    /// Returns whether a message is still under way.
    pub(crate) fn is_open(&self, message: MessageKey) -> bool {
        self.parts.contains_key(&message)
    }

    /// Returns whether more messages may be asked for.
    pub(crate) fn has_room(&self) -> bool {
        self.paused_until.is_none() && self.waiting.len() + self.open.len() < LOAD_MAX
    }

    /// Takes the messages that may be acknowledged.
    pub(crate) fn take_acknowledgements(&mut self) -> Vec<MessageKey> {
        std::mem::take(&mut self.acknowledgements)
    }

    /// Waits for the next thing to do and does it: hands in what waits, or takes a receipt's outcome.
    ///
    /// Cancel-safe. Never returns while there is nothing under way.
    pub(crate) async fn advance(&mut self, intake: &Intake) {
        let paused_until = self.paused_until;
        let ready = async {
            if let Some(until) = paused_until {
                sleep_until(until.into()).await;
            }
            intake.room().await;
        };
        tokio::select! {
            Some((part, outcome)) = self.open.next() => self.settle(part, outcome),
            () = ready, if !self.waiting.is_empty() => {
                self.paused_until = None;
                self.submit(intake);
            }
            else => std::future::pending().await,
        }
    }

    fn submit(&mut self, intake: &Intake) {
        let Some(part) = self.waiting.pop_front() else { return };
        let mut receipt = intake.submit(part.batch.clone());
        // A refusal comes at once: take it before the next message, so that none overtakes this one.
        match (&mut receipt).now_or_never() {
            Some(outcome) => self.settle(part, outcome),
            None => self.open.push(Box::pin(async move {
                let outcome = receipt.await;
                (part, outcome)
            })),
        }
    }

    fn settle(&mut self, part: Part, outcome: Outcome) {
        let refusal = match outcome {
            Outcome::Durable | Outcome::Accepted => return self.settled(part.message),
            Outcome::Refused(refusal) => refusal,
        };
        match refusal {
            Refusal::Busy { retry_after } => self.hold(part, retry_after),
            Refusal::StorageFull | Refusal::ShuttingDown => self.hold(part, PAUSE_DEFAULT),
            // One reading the gateway does not take must not cost the others of its message.
            _ if part.batch.readings.len() > 1 => self.split(part),
            _ => {
                self.refused.increment();
                self.settled(part.message);
            }
        }
    }

    fn settled(&mut self, message: MessageKey) {
        let left = self.parts.get_mut(&message).map(|parts| {
            *parts -= 1;
            *parts
        });
        if left == Some(0) {
            self.parts.remove(&message);
            self.acknowledgements.push(message);
        }
    }

    fn hold(&mut self, part: Part, pause: Duration) {
        self.pauses.increment();
        self.paused_until = Some(Instant::now() + pause.clamp(PAUSE.0, PAUSE.1));
        self.waiting.push_front(part);
    }

    fn split(&mut self, part: Part) {
        let Part { message, batch } = part;
        if let Some(parts) = self.parts.get_mut(&message) {
            *parts += batch.readings.len() - 1;
        }
        let ReadingBatch { readings, generation, principal, delivery, exchange: _ } = batch;
        for reading in readings.into_iter().rev() {
            let principal = principal.clone();
            let readings = vec![reading];
            let exchange = None;
            let batch = ReadingBatch { readings, generation, principal, delivery, exchange };
            self.waiting.push_front(Part { message, batch });
        }
    }
}

#[cfg(test)]
mod tests;
