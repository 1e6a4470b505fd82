//! Somebody at the cloud who changes setpoints, and waits to hear what became of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_adapter_api::{Publication, TopicEvents, TopicSpace};
use tidegate_model::{Message, Principal, Qos, Topic, TopicFilter};
use tokio::time::{sleep, timeout};

use super::{
    cloud::{Arrivals, Cloud},
    embedded::GATEWAY_ID,
    plant::{PRESSES, Presses, setpoint_topic},
};
use crate::supervise::Stage;

/// How long after an outcome the next command comes.
const PAUSE: Duration = Duration::from_secs(4);
/// How often it is looked whether the plant can take commands.
const LOOK: Duration = Duration::from_millis(100);
/// How long an outcome may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Outcomes that may wait to be read.
const OUTCOMES_WAITING_MAX: usize = 16;
/// The setpoints that are commanded, in turn.
const SETPOINTS: [f64; 4] = [66.5, 48.0, 72.5, 55.0];

/// A command, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ordered {
    /// The local topic.
    pub(super) topic: String,
    /// The value commanded.
    pub(super) value: f64,
    /// What the gateway answered, and after how long; `None` while it is awaited.
    pub(super) outcome: Option<(String, Duration)>,
    /// What the node held after the outcome.
    pub(super) node: Option<f64>,
}

/// The last command.
pub(super) type Orders = Arc<Mutex<Option<Ordered>>>;

/// Starts to send commands through the cloud's broker; what becomes of them is put into what is returned.
///
/// # Errors
///
/// If the broker does not take the subscription.
pub(super) fn start(cloud: &Cloud, presses: Presses, stage: &mut Stage) -> anyhow::Result<Orders> {
    let filter =
        TopicFilter::new(&format!("tidegate/{GATEWAY_ID}/result/#")).context("a fixed filter")?;
    let outcomes =
        cloud.topics().subscribe(&Principal::anonymous(), &filter, OUTCOMES_WAITING_MAX)?;
    let orders = Orders::default();
    let operator = Operator {
        topics: cloud.topics().clone(),
        arrivals: cloud.shared_arrivals(),
        presses,
        outcomes,
        orders: Arc::clone(&orders),
    };
    let stop = stage.stop_token();
    stage.spawn(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = operator.work() => {}
        }
    });
    Ok(orders)
}

struct Operator {
    topics: TopicSpace,
    arrivals: Arc<Mutex<Arrivals>>,
    presses: Presses,
    outcomes: TopicEvents,
    orders: Orders,
}

impl Operator {
    async fn work(mut self) {
        for number in 0_usize.. {
            let press = number % PRESSES;
            while !self.is_ready() {
                sleep(LOOK).await;
            }
            let value = SETPOINTS[number % SETPOINTS.len()];
            let topic = setpoint_topic(press);
            let ordered = Ordered { topic, value, outcome: None, node: None };
            *self.orders.lock() = Some(ordered.clone());
            let sent = Instant::now();
            let outcome = self.command(&ordered, &format!("demo-{number}")).await;
            let node = Some(self.presses.setpoint(press));
            *self.orders.lock() =
                Some(Ordered { outcome: Some((outcome, sent.elapsed())), node, ..ordered });
            sleep(PAUSE).await;
        }
    }

    /// The gateway listens to the cloud and monitors the presses.
    fn is_ready(&self) -> bool {
        self.presses.are_watched() && self.arrivals.lock().first.is_some()
    }

    /// Sends one command and returns the word for what became of it.
    async fn command(&mut self, ordered: &Ordered, id: &str) -> String {
        let payload = json!({ "value": ordered.value, "id": id }).to_string();
        let topic = format!("tidegate/{GATEWAY_ID}/cmd/{}", ordered.topic);
        let publication = Publication {
            topic: Topic::new(&topic).expect("made of topics"),
            payload: payload.into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            content_type: Some("application/json".into()),
            exchange: None,
        };
        // Whether the broker took it shows in the outcome.
        self.topics.publish(&Principal::anonymous(), publication).await;
        let outcome = timeout(PATIENCE, async {
            while let Some(message) = self.outcomes.recv().await {
                if let Some(word) = outcome_of(&message, id) {
                    return Some(word);
                }
            }
            None
        });
        outcome.await.ok().flatten().unwrap_or_else(|| "no answer".into())
    }
}

/// Returns what a message says became of the command `id`.
fn outcome_of(message: &Message, id: &str) -> Option<String> {
    let outcome: Value = serde_json::from_slice(&message.payload.to_bytes()).ok()?;
    (outcome["id"] == id).then(|| outcome["outcome"].as_str().unwrap_or("unknown").to_owned())
}
