//! What may leave the building: which topics an uplink takes, and its deadband, minimum interval and
//! change-only rules.
//!
//! [`Selector`] is stateless and runs before a record is appended. [`Rules`] has memory, runs behind
//! the cursor of the uplink, and takes its time from the readings: the same readings in the same
//! order give the same verdicts.

mod memory;
mod rule;
mod rules;
mod selector;

pub use memory::MemoryLimits;
pub use rule::{Rule, RuleName, RuleNameError};
pub use rules::{Rules, Verdict};
pub use selector::Selector;
