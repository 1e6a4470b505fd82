//! The contract between the gateway and its field protocol adapters.
//!
//! An adapter crate depends on this crate and on the model, never on the gateway. What it gets is an
//! [`AdapterContext`]; what it gives are readings through an [`Intake`] and outcomes of commands. How the
//! bodies of requests become readings is the same for all of them: [`payload`].

pub mod payload;

mod access;
mod adapter;
mod command_request;
mod counters;
mod door;
mod error;
mod exchange;
mod health;
mod host;
mod intake;
mod point;
mod reach;
mod receipt;
#[cfg(feature = "test-kit")]
pub mod test_kit;
mod topic_space;

pub use access::{Access, Authenticator, Login, LoginRefusal, LoginResult, Peer};
pub use adapter::{Adapter, AdapterContext};
pub use command_request::{CommandReply, CommandRequest};
pub use counters::{Counter, CounterSample, Counters};
pub use door::{Door, Gate};
pub use error::AdapterError;
pub use exchange::{EXCHANGE_PART_BYTES_MAX, Exchange, Keep, RecalledExchange};
pub use health::{Health, HealthSource};
pub use host::is_address_or_localhost;
pub use intake::{Delivery, Intake, IntakeSink, PointReading, ReadingBatch};
pub use point::{OpcUaPoint, PathPoint, Point, PointAddress, PointId, PointSet};
pub use reach::{Reach, Reached};
pub use receipt::{Outcome, Receipt, ReceiptSender, Refusal};
pub use topic_space::{LastMessage, Publication, TopicEvents, TopicSpace, TopicSpaceBackend};
