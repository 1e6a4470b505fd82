//! Outcomes of commands, on their way to the cloud.

use bytes::Bytes;
use tidegate_model::Topic;
use tidegate_uplink::{Outcome, ReplyTo};
use tokio::sync::mpsc;
use tracing::error;

/// Takes outcomes of commands that an uplink brought. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OutcomeSender {
    queue: mpsc::Sender<Outcome>,
    results: Option<Topic>,
}

impl OutcomeSender {
    /// Outcomes that may wait to be journalled. Far fewer commands are under way at once.
    pub(super) const CAPACITY: usize = 1_024;

    pub(super) fn new(queue: mpsc::Sender<Outcome>, results: Option<Topic>) -> Self {
        Self { queue, results }
    }

    /// Hands in what became of a command for `target`: JSON, published below the uplink's `results` at
    /// least once, also across restarts. Never blocks.
    pub fn send(&self, target: &Topic, body: Vec<u8>) {
        self.send_to(target, None, body);
    }

    /// Does the same, and sends it to where the sender of the command wants it, too.
    pub fn send_to(&self, target: &Topic, reply_to: Option<&ReplyTo>, body: Vec<u8>) {
        let payload = Bytes::from(body);
        if let Some(results) = &self.results {
            let topic = format!("{results}/{target}").into();
            self.push(Outcome { topic, payload: payload.clone(), correlation: None });
        }
        if let Some(reply_to) = reply_to {
            let topic = reply_to.topic.clone();
            self.push(Outcome { topic, payload, correlation: reply_to.correlation.clone() });
        }
    }

    fn push(&self, outcome: Outcome) {
        if let Err(refused) = self.queue.try_send(outcome) {
            let outcome = refused.into_inner();
            error!(topic = %outcome.topic, "Outcome of a command is lost, as too many wait");
        }
    }
}
