//! Outcomes of commands, on their way to the cloud.

use bytes::Bytes;
use tidegate_model::Topic;
use tidegate_store::Transaction;
use tidegate_uplink::{Outcome, ReplyTo};
use tokio::sync::mpsc;
use tracing::error;

/// What the cloud is to hear of one command, and what is stored in the same write.
#[derive(Debug)]
pub(super) struct Told {
    /// One for each topic on which it is told: at most two.
    pub(super) outcomes: Vec<Outcome>,
    /// What counts only together with them.
    pub(super) record: Transaction,
}

/// Takes outcomes of commands that an uplink brought. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OutcomeSender {
    queue: mpsc::Sender<Told>,
    results: Option<Topic>,
}

impl OutcomeSender {
    /// Outcomes that may wait to be journalled. Far fewer commands are under way at once.
    pub(super) const CAPACITY: usize = 1_024;

    pub(super) fn new(queue: mpsc::Sender<Told>, results: Option<Topic>) -> Self {
        Self { queue, results }
    }

    /// Hands in what became of a command for `target`, as JSON: published below the uplink's `results`,
    /// and on `reply_to` if its sender wants that, at least once, also across restarts. Never blocks.
    ///
    /// `record` becomes durable in one write with the outcome, or not at all: whoever notes there that
    /// the command has ended can be sure that its outcome is not lost.
    pub fn send(
        &self,
        target: &Topic,
        reply_to: Option<&ReplyTo>,
        body: Vec<u8>,
        record: Transaction,
    ) {
        let payload = Bytes::from(body);
        let below_results = self.results.as_ref().map(|results| Outcome {
            topic: format!("{results}/{target}").into(),
            payload: payload.clone(),
            correlation: None,
        });
        let replied = reply_to.map(|reply_to| Outcome {
            topic: reply_to.topic.clone(),
            payload,
            correlation: reply_to.correlation.clone(),
        });
        let outcomes = below_results.into_iter().chain(replied).collect();
        if self.queue.try_send(Told { outcomes, record }).is_err() {
            error!(topic = %target, "Outcome of a command is lost, as too many wait");
        }
    }
}
