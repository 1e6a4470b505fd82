//! What an edge node is told by its configuration.

use std::time::Duration;

use crate::{
    naming::DeviceRule,
    state::StateVersion,
    topic::{Id, Node},
};

/// Everything about one edge node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who it is.
    pub node: Node,
    /// The host without which nothing is sent.
    pub primary_host: Option<Id>,
    /// How that host says whether it is there.
    pub state: StateVersion,
    /// Whether data carries numbers in place of names.
    pub aliases: bool,
    /// Whether hosts may write to metrics.
    pub commands: bool,
    /// Which topics belong to devices.
    pub devices: Vec<DeviceRule>,
    /// After how long without a reading a device counts as lost; never without it.
    pub silence: Option<Duration>,
    /// After how long without a reading a metric is forgotten.
    pub forget: Duration,
    /// The largest payload that the broker takes, if that is known beforehand.
    pub payload_bytes_max: Option<usize>,
    /// The longest topic that it takes, likewise.
    pub topic_bytes_max: Option<usize>,
}

impl Settings {
    /// The default of [`forget`](Self::forget).
    pub const FORGET_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3_600);
}
