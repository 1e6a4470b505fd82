//! Presses behind an OPC UA server: temperatures that follow their setpoints.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use tidegate_adapter_opcua::server::{
    Access, ServerSettings, Variable, VariableIndex, VariableServer,
};
use tokio::{
    net::TcpListener,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{
    super::{embedded::PRESS_NAMESPACE, walk::decimal},
    Row, Signal,
};
use crate::supervise::Stage;

/// How many presses there are.
pub(in crate::demo) const PRESSES: usize = 3;
/// How often each temperature changes; longer than the mapping's sampling interval, so that no value is
/// skipped.
const EVERY: Duration = Duration::from_millis(250);
/// The first setpoint of the first press; each next one is 10 degrees higher.
const SETPOINT_FIRST: f64 = 40.0;

/// The presses.
#[derive(Clone)]
pub(in crate::demo) struct Presses {
    server: VariableServer,
}

impl Presses {
    /// Starts the server.
    pub(super) async fn start(folder: &Path, stage: &mut Stage) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("cannot listen for OPC UA clients")?;
        let settings = ServerSettings {
            application_uri: "urn:example:press-server".into(),
            namespace: PRESS_NAMESPACE.into(),
            pki_directory: folder.join("pki"),
        };
        let (server, serving) = VariableServer::new(settings, listener, variables())
            .context("cannot start the OPC UA server")?;
        stage.spawn(async move {
            if let Err(error) = serving.await {
                error!(%error, "The OPC UA server of the demo ended");
            }
        });
        Ok(Self { server })
    }

    /// Returns the address of the server.
    pub(super) fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// Returns the setpoint that a press has, numbered from 0.
    pub(in crate::demo) fn setpoint(&self, press: usize) -> f64 {
        self.server.value(setpoint_of(press))
    }

    /// Returns whether the gateway monitors every setpoint, and so can be expected to write them.
    pub(in crate::demo) fn are_watched(&self) -> bool {
        (0..PRESSES).all(|press| self.server.reported(setpoint_of(press)) > 0)
    }

    /// Lets the temperatures move.
    pub(super) fn operate(&self, stage: &mut Stage) -> Row {
        let signal =
            |topic: String, variable| Signal::reported(topic, self.server.clone(), variable);
        let temperatures: Vec<Arc<Signal>> = (0..PRESSES)
            .map(|press| signal(temperature_topic(press), temperature_of(press)))
            .collect();
        let setpoints: Vec<Arc<Signal>> =
            (0..PRESSES).map(|press| signal(setpoint_topic(press), setpoint_of(press))).collect();
        let all = temperatures.iter().chain(&setpoints).cloned().collect();
        stage.spawn(operate(self.clone(), temperatures, setpoints, stage.stop_token()));
        Row { protocol: "OPC UA", devices: "3 presses", signals: all, failures: Arc::default() }
    }

    /// Ends the server.
    pub(super) fn close(&self) {
        self.server.stop();
    }
}

async fn operate(
    presses: Presses,
    temperatures: Vec<Arc<Signal>>,
    setpoints: Vec<Arc<Signal>>,
    stop: CancellationToken,
) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0_u64.. {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for press in 0..PRESSES {
            let setpoint = presses.setpoint(press);
            let next = follow(presses.server.value(temperature_of(press)), setpoint, round);
            presses.server.report(temperature_of(press), next);
            temperatures[press].show(shown(next));
            setpoints[press].show(shown(setpoint));
        }
    }
}

/// Returns the temperature a moment later: a tenth of the way to the setpoint, and a little up or down.
fn follow(temperature: f64, setpoint: f64, round: u64) -> f64 {
    let ripple = if round.is_multiple_of(2) { 0.11 } else { -0.07 };
    let next = ((temperature + (setpoint - temperature) / 10.0 + ripple) * 100.0).round() / 100.0;
    // Rounding may lead back to where it was, and what does not change is not reported.
    if next.to_bits() == temperature.to_bits() { next + 0.01 } else { next }
}

#[expect(clippy::cast_possible_truncation, reason = "saturates, which is right for a picture")]
fn shown(value: f64) -> String {
    format!("{} Cel", decimal((value * 100.0).round() as i64))
}

fn variables() -> Vec<Variable> {
    let mut setpoint = SETPOINT_FIRST;
    let mut variables = Vec::new();
    for press in 1..=PRESSES {
        for (name, value, access) in [
            ("Temperature", setpoint - 5.0, Access::ReadOnly),
            ("Setpoint", setpoint, Access::Writable),
        ] {
            variables.push(Variable {
                object: format!("Press.{press}"),
                name: name.into(),
                value,
                access,
            });
        }
        setpoint += 10.0;
    }
    variables
}

fn temperature_of(press: usize) -> VariableIndex {
    VariableIndex(2 * press)
}

fn setpoint_of(press: usize) -> VariableIndex {
    VariableIndex(2 * press + 1)
}

fn temperature_topic(press: usize) -> String {
    format!("hall1/press-{}/temperature", press + 1)
}

/// Returns the topic of a press's setpoint, numbered from 0.
pub(in crate::demo) fn setpoint_topic(press: usize) -> String {
    format!("hall1/press-{}/setpoint", press + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_follows_its_setpoint_and_never_stands_still() {
        let mut temperature = 35.0;
        for round in 0..200 {
            let next = follow(temperature, 80.0, round);
            assert!(next.to_bits() != temperature.to_bits(), "stands still at {next}");
            temperature = next;
        }
        assert!((79.0..=81.0).contains(&temperature), "{temperature}");
    }

    #[test]
    fn variables_stand_where_their_indices_say() {
        let variables = variables();
        for press in 0..PRESSES {
            let (temperature, setpoint) =
                (&variables[temperature_of(press).0], &variables[setpoint_of(press).0]);
            assert_eq!(
                (&*temperature.object, &*temperature.name),
                (&*format!("Press.{}", press + 1), "Temperature")
            );
            assert_eq!((&*setpoint.object, &*setpoint.name), (&*temperature.object, "Setpoint"));
            assert_eq!(setpoint.access, Access::Writable);
        }
        assert_eq!(variables.len(), 2 * PRESSES);
    }
}
