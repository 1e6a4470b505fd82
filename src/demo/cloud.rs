//! The embedded cloud: a broker, and an application behind it that decodes and counts what arrives.

mod packet;

use std::{
    collections::VecDeque,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use parking_lot::Mutex;
use tidegate_adapter_api::{TopicEvents, TopicSpace};
use tidegate_model::{AdapterName, Message, Origin, Principal, Reading, TopicFilter, Unit, json};
use tidegate_uplink::decoder::{self, Batch, DecodedReading, Limits};
use tokio_util::sync::CancellationToken;

use super::{
    embedded::{self, GATEWAY_ID},
    tally::Tally,
};
use crate::{
    broker::Topics,
    pipeline::{ConfigSource, Gateway},
    supervise::Stage,
};

/// Batches that may wait to be decoded; the gateway sends about five a second.
const BATCHES_WAITING_MAX: usize = 4_096;
/// Readings that are kept to be shown.
const LATEST_MAX: usize = 8;

/// A running cloud.
pub(super) struct Cloud {
    broker: Gateway,
    address: String,
    topics: TopicSpace,
    arrivals: Arc<Mutex<Arrivals>>,
    application: Stage,
}

/// What has arrived at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals {
    /// The counts.
    pub(super) tally: Tally,
    /// When the first reading was decoded.
    pub(super) first: Option<Instant>,
    /// The last readings of the last batches, oldest first.
    pub(super) latest: VecDeque<DecodedReading>,
}

impl Cloud {
    /// Starts broker and application; their files go below `folder`.
    ///
    /// # Errors
    ///
    /// If the broker cannot be started.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let (config, mapping) = embedded::cloud(folder)?;
        let broker = Gateway::start(config, mapping, ConfigSource::embedded())
            .await
            .context("cannot start the cloud's broker")?;
        let address = broker.addresses.mqtt.first().context("the cloud's broker has no address")?;
        let address = format!("mqtt://{address}");
        let topics = TopicSpace::new(Arc::new(Topics::new(broker.status.ingest.clone())));
        let batches =
            TopicFilter::new(&format!("tidegate/{GATEWAY_ID}/+")).context("a fixed filter")?;
        let events = topics.subscribe(&Principal::anonymous(), &batches, BATCHES_WAITING_MAX)?;
        let arrivals = Arc::<Mutex<Arrivals>>::default();
        let mut application = Stage::new("demo cloud");
        application.spawn(take_batches(events, Arc::clone(&arrivals), application.stop_token()));
        Ok(Self { broker, address, topics, arrivals, application })
    }

    /// Returns the address of the broker: `mqtt://…`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the broker's topics, for an application that sends commands.
    pub(super) fn topics(&self) -> &TopicSpace {
        &self.topics
    }

    /// Returns what has arrived, for those who look again and again.
    pub(super) fn shared_arrivals(&self) -> Arc<Mutex<Arrivals>> {
        Arc::clone(&self.arrivals)
    }

    /// Returns what has arrived.
    pub(super) fn arrivals(&self) -> Arrivals {
        self.arrivals.lock().clone()
    }

    /// Returns how many different readings arrived, by topic.
    pub(super) fn received<'t>(&self, topics: impl Iterator<Item = &'t String>) -> Vec<u64> {
        let arrivals = self.arrivals.lock();
        topics.map(|topic| arrivals.tally.received(topic)).collect()
    }

    /// Stops the broker, decodes what it still had, and returns everything that arrived.
    ///
    /// # Errors
    ///
    /// If the broker's journal could not be synced.
    pub(super) async fn stop(self, patience: Duration) -> anyhow::Result<Arrivals> {
        let stopped = self.broker.stop(patience).await;
        self.application.stop(Instant::now() + patience).await;
        let arrivals = self.arrivals.lock().clone();
        stopped.context("the cloud's broker did not stop cleanly")?;
        Ok(arrivals)
    }
}

async fn take_batches(
    mut events: TopicEvents,
    arrivals: Arc<Mutex<Arrivals>>,
    stop: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            biased;
            // Batches first: when the application is stopped, the broker is, and nothing new arrives.
            message = events.recv() => match message {
                Some(message) => message,
                None => return,
            },
            () = stop.cancelled() => return,
        };
        arrivals.lock().take(&message, Instant::now());
    }
}

impl Arrivals {
    /// Decodes and counts a message that arrived at `now`.
    fn take(&mut self, message: &Message, now: Instant) {
        let payload = message.payload.to_bytes();
        let wire_bytes = packet::publish_bytes(
            message.topic.as_str(),
            message.properties.as_deref(),
            payload.len(),
        );
        match decoder::decode(&payload, &Limits::OWN) {
            Ok(batch) => {
                self.tally.take(&batch, wire_bytes, json_bytes(&batch));
                if !batch.readings.is_empty() {
                    self.first.get_or_insert(now);
                }
                self.latest.extend(batch.readings);
                let surplus = self.latest.len().saturating_sub(LATEST_MAX);
                self.latest.drain(..surplus);
            }
            Err(_) => self.tally.take_unreadable(wire_bytes),
        }
    }
}

/// Returns how many bytes the readings would be as one MQTT packet with JSON each.
fn json_bytes(batch: &Batch) -> u64 {
    batch.readings.iter().map(as_json).sum()
}

fn as_json(reading: &DecodedReading) -> u64 {
    let origin = Origin { adapter: AdapterName::new("cloud").expect("the word is a name") };
    let typed = Reading {
        source_time: Some(reading.time),
        until: reading.until,
        status: reading.status,
        unit: reading.unit.as_ref().and_then(|unit| Unit::new(unit).ok()),
        ..Reading::new(reading.value.clone(), reading.time, origin)
    };
    packet::publish_bytes(
        reading.stream.as_deref().unwrap_or_default(),
        None,
        json::envelope(&typed).len(),
    )
}

#[cfg(test)]
mod tests {
    use tidegate_model::{Payload, Qos, Status, Timestamp, Topic, Value};

    use super::*;

    fn message(payload: &[u8]) -> Message {
        Message {
            topic: Topic::new("tidegate/press-hall-1/bson").unwrap(),
            payload: Payload::bytes(payload.to_vec()),
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: None,
            publisher: Principal::anonymous(),
            arrival: Timestamp::from_unix_millis(0),
        }
    }

    #[test]
    fn only_what_can_be_decoded_is_received() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        arrivals.take(&message(b"no batch"), now);
        assert_eq!((arrivals.first, arrivals.tally.totals.unreadable), (None, 1));
        arrivals.take(&message(br#"{"v":21.5,"t":"2026-03-01T12:00:00.123Z","ep":1,"i":1}"#), now);
        assert_eq!((arrivals.first, arrivals.tally.totals.received), (Some(now), 1));
        assert_eq!(arrivals.latest[0].value, Value::Double(21.5));
    }

    #[test]
    fn only_the_latest_are_kept() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        for number in 1..100 {
            let row = format!(r#"{{"v":{number},"t":"2026-03-01T12:00:00Z","ep":1,"i":{number}}}"#);
            arrivals.take(&message(row.as_bytes()), now);
        }
        let kept: Vec<i64> = arrivals.latest.iter().map(|reading| reading.number).collect();
        assert_eq!(kept, [92, 93, 94, 95, 96, 97, 98, 99]);
        assert_eq!(arrivals.tally.totals.received, 99);
    }

    #[test]
    fn the_comparison_is_one_packet_with_an_envelope() {
        let reading = DecodedReading {
            stream: Some("hall1/a/t".into()),
            number: 1,
            time: Timestamp::parse("2026-03-01T12:00:00.123Z").unwrap(),
            until: None,
            value: Value::Double(21.5),
            unit: Some("Cel".into()),
            status: Status::GOOD,
            replayed: false,
        };
        let json =
            br#"{"value":21.5,"time":"2026-03-01T12:00:00.123Z","quality":"good","unit":"Cel"}"#;
        // Fixed header and packet identifier are two bytes each, so is the length of the topic.
        assert_eq!(as_json(&reading), (2 + 2 + "hall1/a/t".len() + 2 + json.len()) as u64);
    }
}
