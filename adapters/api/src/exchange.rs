//! Requests that a peer may repeat, and the answers they get again.

use std::time::Duration;

use bytes::Bytes;

/// Most bytes that each part of an [`Exchange`] may have.
pub const EXCHANGE_PART_BYTES_MAX: usize = 255;

/// What gives way when many exchanges are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keep {
    /// A sender that asks anew has its earlier answers: of each the newest few are kept, and when there are too
    /// many senders, the oldest exchange of all goes. Nothing is kept where nothing is stored.
    Newest,
    /// Each is kept for its whole time, also where nothing else is stored; while there are too many, a further
    /// one is refused as busy.
    All,
}

/// Names the exchange to which something handed in belongs, so that a repetition is recognised after a restart.
///
/// It becomes durable together with what is handed in, all or nothing, and comes back through
/// [`Intake::recall`](crate::Intake::recall) when the adapter or the gateway starts again. Within one run the
/// adapter itself recognises repetitions. Names and answer are the adapter's own, each of at most
/// [`EXCHANGE_PART_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What gives way.
    pub keep: Keep,
    /// Who would repeat it.
    pub sender: Bytes,
    /// Which of the sender's exchanges it is; with [`Keep::Newest`] it takes the place of an earlier one.
    pub id: Bytes,
    /// The answer that is given when it is durable.
    pub answer: Bytes,
    /// How long the sender may repeat it.
    pub lifetime: Duration,
}

/// An exchange that was answered before the adapter started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecalledExchange {
    /// Who would repeat it.
    pub sender: Bytes,
    /// Which of the sender's exchanges it is.
    pub id: Bytes,
    /// The answer that was given.
    pub answer: Bytes,
    /// How much of its time is left.
    pub remaining: Duration,
}
