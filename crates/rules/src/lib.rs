//! What may leave the building: which topics an uplink takes, and what its rules leave out, change, mark
//! and sum up.
//!
//! [`Selector`] is stateless and runs before a record is appended. [`Rules`] has memory and runs behind
//! the cursor of the uplink. It goes by the times of the readings, and by the wall clock only as it is
//! told: the same calls in the same order have the same results, also after [`Rules::save`] and
//! [`Rules::restore`].

mod accumulate;
mod anomaly;
mod convert;
mod effects;
mod memory;
mod plan;
mod rule;
mod rules;
mod saved;
mod selector;
mod swinging_door;
mod thin;
mod window;
pub mod wire;

pub use anomaly::{Anomaly, EventTopic, Season};
pub use convert::{Conversion, Linear, Rounding, between, known_units};
pub use effects::{Effects, Made, Verdict};
pub use memory::MemoryLimits;
pub use rule::{Action, Rule, RuleName, RuleNameError};
pub use rules::Rules;
pub use saved::{Changes, Restored};
pub use selector::Selector;
pub use swinging_door::SwingingDoor;
pub use thin::{Deadband, Thinning};
pub use window::{Function, Quantile, Window};

#[cfg(test)]
mod tests;
