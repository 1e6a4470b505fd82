//! What waits for the writer, and who is told when it is durable.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use tidegate_store::Transaction;
use tokio::sync::oneshot;

/// A transaction did not become durable, and never will: the store has stopped or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the store has stopped")]
pub struct NotStored;

/// Hears which of many transactions are durable.
///
/// The calls come from the writer's thread, in the order of submission, and must not wait.
pub trait DurableListener: Send + Sync + 'static {
    /// The transaction with this token, and all of this listener's before it, are durable.
    fn durable(&self, token: u64);

    /// The transaction with this token was not stored; neither will be any after it.
    fn not_stored(&self, token: u64) {
        let _ = token;
    }
}

/// Who is told when a transaction is durable, and how.
pub enum Completion {
    /// Nobody.
    None,
    /// One who waits for this transaction alone.
    Receipt(oneshot::Sender<Result<(), NotStored>>),
    /// A function that is called on the writer's thread and must not wait.
    Call(Box<dyn FnOnce(Result<(), NotStored>) + Send>),
    /// One who waits for many, told by token.
    Shared(Arc<dyn DurableListener>, u64),
}

impl Completion {
    /// Makes a completion of a function, which must not wait.
    pub fn call(function: impl FnOnce(Result<(), NotStored>) + Send + 'static) -> Self {
        Self::Call(Box::new(function))
    }

    /// Makes a completion and what resolves with it.
    pub fn receipt() -> (Self, oneshot::Receiver<Result<(), NotStored>>) {
        let (sender, receiver) = oneshot::channel();
        (Self::Receipt(sender), receiver)
    }

    pub(super) fn resolve(self, result: Result<(), NotStored>) {
        match self {
            Self::None => {}
            // Whoever gave up waiting need not be told.
            Self::Receipt(sender) => drop(sender.send(result)),
            Self::Call(function) => function(result),
            Self::Shared(listener, token) => match result {
                Ok(()) => listener.durable(token),
                Err(NotStored) => listener.not_stored(token),
            },
        }
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::None => "None",
            Self::Receipt(_) => "Receipt",
            Self::Call(_) => "Call",
            Self::Shared(..) => "Shared",
        };
        formatter.debug_tuple("Completion").field(&kind).finish()
    }
}

/// One submitted transaction.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) transaction: Transaction,
    pub(super) completion: Completion,
}
