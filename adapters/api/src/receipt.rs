//! The answer to whoever hands something in.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use thiserror::Error;
use tokio::sync::oneshot;

/// Why something handed in was not taken. Nothing of it was kept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Too much is under way; the same may be taken later.
    #[error("busy, try again in {} s", .retry_after.as_secs())]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The disk has no room for anything that must be durable.
    #[error("storage is full")]
    StorageFull,
    /// There are as many retained messages as there may be, in all or of the principal, or too many bytes of them.
    #[error("the quota of retained messages is used up")]
    RetainedQuota,
    /// The principal may not do this.
    #[error("not authorized")]
    NotAuthorized,
    /// What was handed in makes no message; says which part and why.
    #[error("{reason}")]
    Invalid {
        /// What is wrong, for the sender to read.
        reason: String,
    },
    /// What was handed in is larger than allowed.
    #[error("larger than the {limit} bytes allowed")]
    TooLarge {
        /// Most bytes allowed.
        limit: usize,
    },
    /// The gateway is stopping.
    #[error("shutting down")]
    ShuttingDown,
}

/// What became of something handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on disk: the sync that covers all of it has returned.
    Durable,
    /// It was taken, and nobody needs it durable.
    Accepted,
    /// It was not taken.
    Refused(Refusal),
}

/// Resolves once, to the [`Outcome`]. Dropping it gives up the answer, not what was handed in.
#[derive(Debug)]
pub struct Receipt(State);

#[derive(Debug)]
enum State {
    Ready(Option<Outcome>),
    Waiting(oneshot::Receiver<Outcome>),
}

/// The other end of a [`Receipt`]. Dropped unused, it answers [`Refusal::ShuttingDown`].
#[derive(Debug)]
pub struct ReceiptSender(oneshot::Sender<Outcome>);

impl Receipt {
    /// Makes a receipt that is already resolved.
    pub fn ready(outcome: Outcome) -> Self {
        Self(State::Ready(Some(outcome)))
    }

    /// Makes a receipt that is resolved by the sender.
    pub fn pair() -> (ReceiptSender, Self) {
        let (sender, receiver) = oneshot::channel();
        (ReceiptSender(sender), Self(State::Waiting(receiver)))
    }
}

impl ReceiptSender {
    /// Resolves the receipt; does nothing if it was dropped.
    pub fn resolve(self, outcome: Outcome) {
        // A peer that went away does not wait for its answer.
        let _ = self.0.send(outcome);
    }
}

impl Future for Receipt {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        match &mut self.0 {
            State::Ready(outcome) => {
                Poll::Ready(outcome.take().expect("a receipt is awaited once"))
            }
            State::Waiting(receiver) => Pin::new(receiver)
                .poll(context)
                .map(|result| result.unwrap_or(Outcome::Refused(Refusal::ShuttingDown))),
        }
    }
}
