//! Old temperature sensors that publish tenths of a degree over MQTT 3.1.1 with QoS 1.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::walk::{Walk, decimal},
    Row, Signal,
    signal::Failures,
};
use crate::supervise::Stage;

/// How often each sensor reports.
const EVERY: Duration = Duration::from_millis(200);
/// The sensors, and the limits of their temperatures.
const SENSORS: [(&str, i64, i64); 2] = [("dryer", 110, 140), ("oven", 180, 240)];
/// Messages between the publisher and the connection.
const QUEUE: usize = 16;
/// How long a stop waits for acknowledgements.
const ACK_PATIENCE: Duration = Duration::from_secs(3);
/// How long a connection that failed is left alone.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Starts the sensors.
pub(super) fn start(gateway: SocketAddr, stage: &mut Stage) -> Row {
    let failures = Arc::<Failures>::default();
    let mut signals = Vec::new();
    for ((id, low, high), seed) in SENSORS.into_iter().zip(101..) {
        let signal = Signal::acknowledged(format!("hall1/{id}/temperature"));
        signals.push(Arc::clone(&signal));
        let mut options =
            MqttOptions::new(format!("demo-{id}"), gateway.ip().to_string(), gateway.port());
        options.set_keep_alive(Duration::from_secs(30));
        let (client, events) = AsyncClient::new(options, QUEUE);
        let sensor = Arc::new(Sensor {
            topic: format!("legacy/{id}/T"),
            signal,
            failures: Arc::clone(&failures),
            published: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            answered: Notify::new(),
        });
        stage.spawn(Arc::clone(&sensor).connect(events));
        stage.spawn(sensor.measure(client, Walk::new(low, high, seed), stage.stop_token()));
    }
    Row { protocol: "MQTT", devices: "2 old sensors", signals, failures }
}

struct Sensor {
    topic: String,
    signal: Arc<Signal>,
    failures: Arc<Failures>,
    published: AtomicU64,
    acknowledged: AtomicU64,
    answered: Notify,
}

impl Sensor {
    /// Publishes until it is stopped, then waits for what is not acknowledged yet.
    async fn measure(
        self: Arc<Self>,
        client: AsyncClient,
        mut walk: Walk,
        stop: CancellationToken,
    ) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let tenths = walk.step() / 10;
            self.signal.show(format!("{} Cel", decimal(tenths * 10)));
            // Waits for room in the queue while the gateway does not answer; the next value waits with it.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                published = client.publish(&*self.topic, QoS::AtLeastOnce, false, tenths.to_string()) => {
                    match published {
                        Ok(()) => self.published.fetch_add(1, Ordering::Relaxed),
                        // The other half has ended.
                        Err(_) => return,
                    };
                }
            }
        }
        // What cannot be acknowledged in time was not handed over, and is not counted as such.
        let _ = timeout(ACK_PATIENCE, self.all_answered()).await;
        let _ = client.disconnect().await;
    }

    async fn all_answered(&self) {
        while self.acknowledged.load(Ordering::Relaxed) < self.published.load(Ordering::Relaxed) {
            self.answered.notified().await;
        }
    }

    /// Drives the connection until the publisher has said good-bye.
    async fn connect(self: Arc<Self>, mut events: EventLoop) {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::PubAck(_))) => {
                    self.signal.note_acknowledged();
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    self.answered.notify_one();
                }
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                Ok(_) => {}
                Err(rumqttc::ConnectionError::RequestsDone) => return,
                Err(_) => {
                    self.failures.note();
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}
