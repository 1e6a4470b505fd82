//! What each fuzz target does with its bytes: a target panics if what it holds true is not.
//!
//! The functions need nothing of libFuzzer, so that `tests/corpus.rs` drives them too, on every change.

mod mqtt;
mod state;
mod topics;

pub use mqtt::{mqtt_v5, mqtt_v311};
pub use state::mqtt_state;
pub use topics::topic_match;
