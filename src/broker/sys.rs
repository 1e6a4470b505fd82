//! What the broker tells of itself below `$SYS/broker`, under the names that other brokers use.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tidegate_broker::{BrokerCounters, BrokerSummary};
use tidegate_model::{Message, Payload, Principal, Qos, Topic};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{BrokerHandle, ListenerCounters};

/// Publishes the broker's figures from time to time.
#[derive(Clone, Debug)]
pub struct SysTopics {
    /// The broker.
    pub broker: BrokerHandle,
    /// Its listeners.
    pub listeners: Arc<ListenerCounters>,
    /// How often.
    pub interval: Duration,
}

impl SysTopics {
    /// Works until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.publish(),
            }
        }
    }

    fn publish(&self) {
        let clock = self.broker.clock();
        let mut core = self.broker.core();
        let figures = figures(&core.summary(), core.counters(), &self.listeners);
        let texts = [
            ("version", concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("uptime", format!("{} seconds", clock.uptime().as_secs())),
        ];
        let figures = figures.into_iter().map(|(name, figure)| (name, figure.to_string()));
        let messages = texts.into_iter().chain(figures).map(|(name, text)| Message {
            topic: Topic::new(&format!("$SYS/broker/{name}")).expect("the names are topics"),
            payload: Payload::bytes(text),
            qos: Qos::AtMostOnce,
            retain: true,
            properties: None,
            publisher: Principal::new("gateway").expect("it is short"),
            arrival: clock.wall(),
        });
        core.publish_sys(messages.collect());
    }
}

/// Returns the figures by the rest of their topics.
fn figures(
    summary: &BrokerSummary,
    counters: &BrokerCounters,
    listeners: &ListenerCounters,
) -> Vec<(&'static str, u64)> {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let dropped = counters.dropped();
    let all_dropped = dropped.iter().map(|(_, count)| count).sum();
    let mut figures = vec![
        ("clients/connected", count(summary.connected)),
        ("clients/disconnected", count(summary.sessions - summary.connected)),
        ("clients/total", count(summary.sessions)),
        ("messages/received", counters.received),
        ("messages/sent", counters.delivered),
        ("messages/stored", count(summary.queued + summary.retained)),
        ("messages/dropped", all_dropped),
        ("messages/expired", counters.expired),
        ("retained messages/count", count(summary.retained)),
        ("subscriptions/count", count(summary.subscriptions)),
        ("shared_subscriptions/count", count(summary.shared_subscriptions)),
        ("bytes/received", listeners.bytes_received.load(Relaxed)),
        ("bytes/sent", listeners.bytes_sent.load(Relaxed)),
        ("connections/accepted", listeners.accepted.load(Relaxed)),
        ("connections/refused", listeners.refused.load(Relaxed)),
    ];
    figures.extend(dropped.map(|(reason, count)| match reason {
        "queue-full" => ("messages/dropped/queue-full", count),
        "too-large" => ("messages/dropped/too-large", count),
        "reader-full" => ("messages/dropped/reader-full", count),
        _ => ("messages/dropped/not-authorized", count),
    }));
    figures
}
