//! One configured server: connecting, serving, and going on when the connection breaks.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use opcua::{client::Session, types::StatusCode};
use tidegate_adapter_api::{Adapter, AdapterContext, AdapterError, Intake};
use tidegate_model::AdapterName;
use tracing::{info, warn};

use crate::{
    command::{self, Commands},
    delivery::Deliveries,
    error::LinkError,
    link::{Ended, Link, Resumed},
    publish::{Held, Publisher},
    settings::OpcUaSettings,
    shared::Shared,
    stretches::Why,
    takeover,
    upkeep::Upkeep,
};

/// How long a stop waits for the server to close the session; the whole stop takes a second at most.
const STOP_PATIENCE: Duration = Duration::from_millis(800);
/// How long a run that failed waits for it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);
/// Pause before a broken connection is taken up again, at first and at most.
const RESUME_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Monitors and writes nodes of one OPC UA server.
pub struct OpcUaAdapter {
    settings: OpcUaSettings,
    kept: Option<Kept>,
}

/// What outlives a run: subscriptions a server may still have, and messages under way.
struct Kept {
    shared: Shared,
    deliveries: Deliveries,
    held: Held,
    was_connected: bool,
}

/// How long to wait before a broken connection is taken up again: what broke it may come again with it.
#[derive(Default)]
struct ResumePause {
    last: Option<Duration>,
}

impl ResumePause {
    /// Returns the pause after a connection that lived so long: double the last one, unless it lived for the
    /// longest pause, which shows that it works.
    fn after(&mut self, lived: Duration) -> Duration {
        let (first, most) = RESUME_PAUSE;
        let doubled = self.last.map(|last| (2 * last).min(most));
        let pause = doubled.filter(|_| lived < most).unwrap_or(first);
        self.last = Some(pause);
        pause
    }
}

impl OpcUaAdapter {
    /// Makes the adapter of one server; it connects when it is run.
    pub fn new(settings: OpcUaSettings) -> Self {
        Self { settings, kept: None }
    }

    async fn serve(&mut self, context: &mut AdapterContext) -> Result<(), LinkError> {
        let Self { settings, kept } = self;
        let shutdown = context.shutdown.clone();
        let kept = kept.get_or_insert_with(|| {
            let shared = Shared::new(&context.counters, &settings.limits);
            let (refused, pauses) =
                (shared.counted.readings_refused.clone(), shared.counted.pauses.clone());
            let deliveries = Deliveries::new(refused, pauses);
            Kept { shared, deliveries, held: Held::default(), was_connected: false }
        });
        let mut link = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            opened = Link::open(settings) => opened?,
            never = command::refuse_all(&mut context.commands) => match never {},
        };
        let mut resumed = Resumed::NewSession;
        let mut pause = ResumePause::default();
        loop {
            let connected_at = Instant::now();
            kept.note_connected(&settings.name, resumed);
            let session = Arc::clone(link.session());
            let ended = tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    link.close(STOP_PATIENCE).await;
                    kept.shared.table().clear(Why::Network);
                    return Ok(());
                }
                ended = link.drive() => ended,
                failed = exchange(settings, &session, kept, context, resumed) => {
                    let Err(error) = failed;
                    kept.hand_on_held(&context.intake);
                    // Closing the session deletes its subscriptions.
                    link.close(CLOSE_PATIENCE).await;
                    kept.shared.table().clear(Why::Network);
                    return Err(error);
                }
            };
            kept.hand_on_held(&context.intake);
            resumed = match ended {
                Ended::Dead(status) => return Err(LinkError::Lost { status }),
                Ended::Broken(status) => {
                    warn!(adapter = %settings.name, %status, "Connection lost");
                    let pause = pause.after(connected_at.elapsed());
                    let resume = async {
                        tokio::time::sleep(pause).await;
                        link.resume().await
                    };
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return Ok(()),
                        resumed = resume => resumed?,
                        never = command::refuse_all(&mut context.commands) => match never {},
                    }
                }
            };
        }
    }
}

impl Adapter for OpcUaAdapter {
    fn name(&self) -> &AdapterName {
        &self.settings.name
    }

    async fn run(&mut self, context: &mut AdapterContext) -> Result<(), AdapterError> {
        let served = Box::pin(self.serve(context)).await;
        served.map_err(|error| error.at(self.settings.endpoint.as_str()))
    }
}

impl Kept {
    /// Hands on the values that wait for layouts, without them: the connection that asked for these is gone.
    fn hand_on_held(&mut self, intake: &Intake) {
        let Self { shared, deliveries, held, .. } = self;
        held.hand_on(shared, intake, deliveries);
    }

    fn note_connected(&mut self, name: &AdapterName, resumed: Resumed) {
        if self.was_connected {
            self.shared.counted.reconnects.increment();
        }
        let same_session = resumed == Resumed::SameSession;
        info!(adapter = %name, again = self.was_connected, same_session, "Connected");
        self.was_connected = true;
    }
}

/// Exchanges values and commands over one connection until it is of no more use.
async fn exchange(
    settings: &OpcUaSettings,
    session: &Arc<Session>,
    kept: &mut Kept,
    context: &mut AdapterContext,
    resumed: Resumed,
) -> Result<Infallible, LinkError> {
    let name = &settings.name;
    let Kept { shared, deliveries, held, .. } = kept;
    let AdapterContext { points, intake, commands, reach, .. } = context;
    let limits =
        takeover::take_over(name, session, shared, resumed).await.map_err(|error| lost(error.0))?;
    let mut publisher = Publisher::new(name, session, shared, intake, deliveries, held);
    publisher.catch_up().await.map_err(|error| lost(error.0))?;
    let upkeep = Upkeep { name, session, shared, limits, rebrowse: settings.rebrowse };
    let command_points = points.clone();
    let mut writer = Commands::new(name, session, shared);
    let _reached = reach.hold();
    tokio::select! {
        error = upkeep.run(points) => Err(lost(error.0)),
        error = publisher.run() => Err(lost(error.0)),
        never = writer.run(commands, &command_points) => Ok(never),
    }
}

fn lost(status: StatusCode) -> LinkError {
    LinkError::Lost { status }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_break_soon_are_taken_up_ever_later() {
        let mut pause = ResumePause::default();
        #[rustfmt::skip]
        let cases = [
            // lived, pause, in ms
            (5,         200),
            (5,         400),
            (9_999,     800),
            (0,         1_600),
            (0,         3_200),
            (0,         6_400),
            (0,         10_000),
            (9_999,     10_000),
            (10_000,    200),
            (0,         400),
            (3_600_000, 200),
        ];
        for (lived, expected) in cases {
            assert_eq!(pause.after(Duration::from_millis(lived)).as_millis(), expected, "{lived}");
        }
    }
}
