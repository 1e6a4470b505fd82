//! Scales that POST weight and standstill as JSON over a kept-alive HTTP/1.1 connection.

mod client;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use self::client::Client;
use super::{
    super::walk::{Walk, decimal},
    Row, Signal,
    signal::Failures,
};
use crate::supervise::Stage;

/// How often each scale reports; every report is two readings.
const EVERY: Duration = Duration::from_millis(400);
/// The scales.
const SCALES: [&str; 2] = ["scale-1", "scale-2"];
/// How long an answer may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Starts the scales.
pub(super) fn start(gateway: SocketAddr, stage: &mut Stage) -> Row {
    let failures = Arc::<Failures>::default();
    let mut signals = Vec::new();
    for (name, seed) in SCALES.into_iter().zip(201..) {
        let weight = Signal::acknowledged(format!("hall1/{name}/weight"));
        let stable = Signal::acknowledged(format!("hall1/{name}/stable"));
        signals.extend([Arc::clone(&weight), Arc::clone(&stable)]);
        let scale = Scale {
            client: Client::new(gateway),
            path: format!("/ingest/{name}"),
            weight,
            stable,
            walk: Walk::new(10, 15, seed),
            failures: Arc::clone(&failures),
        };
        stage.spawn(scale.run(stage.stop_token()));
    }
    Row { protocol: "HTTP", devices: "2 scales", signals, failures }
}

struct Scale {
    client: Client,
    path: String,
    weight: Arc<Signal>,
    stable: Arc<Signal>,
    walk: Walk,
    failures: Arc<Failures>,
}

impl Scale {
    async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = 0;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let hundredths = self.walk.step();
            let stable = hundredths.abs_diff(last) < 10;
            last = hundredths;
            let weight = decimal(hundredths);
            self.weight.show(format!("{weight} kg"));
            self.stable.show(stable.to_string());
            let body = format!(r#"{{"weight":{weight},"stable":{stable}}}"#);
            match timeout(ANSWER_PATIENCE, self.client.post(&self.path, body.as_bytes())).await {
                // Both members or none: one acknowledgement stands for both.
                Ok(Ok(200..=299)) => {
                    self.weight.note_acknowledged();
                    self.stable.note_acknowledged();
                }
                Ok(_) => self.failures.note(),
                Err(_) => {
                    // A late answer must not be taken for that of the next request.
                    self.client.close();
                    self.failures.note();
                }
            }
        }
    }
}
