//! What has become of a shadow.

use std::collections::BTreeMap;

/// What a shadow did, since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowCounts {
    /// Desired values that became commands.
    pub commands: u64,
    /// Values that the service has taken.
    pub reported: u64,
    /// Local values that were not taken, by reason: by the service, or not fit for it.
    pub refused: BTreeMap<&'static str, u64>,
    /// What came down and was left out, by reason.
    pub ignored: BTreeMap<&'static str, u64>,
    /// Requests that had no answer in time.
    pub unanswered: u64,
}

impl ShadowCounts {
    pub(super) fn refuse(&mut self, reason: &'static str, values: u64) {
        *self.refused.entry(reason).or_insert(0) += values;
    }

    pub(super) fn ignore(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            *self.ignored.entry(reason).or_insert(0) += count;
        }
    }
}

/// A shadow at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowView {
    /// Whether the service has all that local topics say, as far as it is known.
    pub is_in_step: bool,
    /// The version of the document that came last.
    pub version: Option<u64>,
    /// Desired values that wait for those before them, or for somebody who can carry them out.
    pub waiting: usize,
    /// Why it is left out of the connection for now, if it is.
    pub left_out: Option<String>,
    /// What it did.
    pub counts: ShadowCounts,
}
