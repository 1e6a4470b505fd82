//! The journal: one log of segments that holds everything the gateway must not forget.
//!
//! Two things live in it. *Data records* are messages for takers (uplinks, sessions, the retained
//! slot), each with a journal-wide [`Seq`] and, per taker, an ordinal without holes, so that a
//! missing record is provable. The *key-value state* holds what is small and changes: cursors,
//! sessions, subscriptions, stream numbers, command ids.
//!
//! A [`Transaction`] changes both at once, all or nothing. [`Journal::write`] and
//! [`Journal::commit`] make any number of transactions durable with one write and one sync; a
//! [`Reader`] yields one taker's records while the writer goes on. [`Journal::open`] recovers from
//! whatever a crash or a worn medium has left behind and reports exactly what is missing.
//!
//! The crate reaches storage through [`FileSystem`] alone and has no clock, no thread and no random
//! source. The layout of the files is described in `src/format/mod.rs`.

mod catalog;
mod damage;
mod file_system;
mod format;
mod input;
mod journal;
mod options;
mod position;
mod reader;
pub mod record;
mod recovery;
mod scanner;
mod small_file;
mod spill;
mod state;
mod summary;
mod sweep;
mod transaction;

#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
#[cfg(test)]
mod tests;

pub use self::catalog::{Catalog, SegmentView};
pub use self::damage::{Damage, DamageId, DamageKind, TakerLoss};
pub use self::file_system::{File, FileSystem};
pub use self::journal::{Commit, CommitError, Counters, Journal, Released};
pub use self::options::{JournalOptions, Visibility};
pub use self::position::{Position, Seq, TakerId};
pub use self::reader::{Audit, Item, Reader, Skipped};
pub use self::recovery::{OpenError, Recovery};
pub use self::spill::{QueueReader, SpillEntry, SpillError, Spilled, Stopped};
pub use self::summary::TakerSummary;
pub use self::transaction::{
    BODY_BYTES_MAX, KEY_BYTES_MAX, TRANSACTION_BYTES_MAX, Transaction, TransactionError,
    VALUE_BYTES_MAX,
};
