//! One configured server: connecting, serving, and going on when the connection breaks.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use opcua::{client::Session, types::StatusCode};
use tidegate_adapter_api::{Adapter, AdapterContext, AdapterError};
use tidegate_model::AdapterName;
use tracing::{info, warn};

use crate::{
    command::{self, Commands},
    delivery::Deliveries,
    error::LinkError,
    link::{Ended, Link, Resumed},
    publish::Publisher,
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
/// Pause before a broken connection is taken up again; it doubles while connections break soon.
const RESUME_PAUSE: Duration = Duration::from_millis(200);
/// Longest such pause; a connection that lived as long has shown that it works.
const RESUME_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Monitors and writes nodes of one OPC UA server.
pub struct OpcUaAdapter {
    settings: OpcUaSettings,
    kept: Option<Kept>,
}

/// What outlives a run: subscriptions a server may still have, and messages under way.
struct Kept {
    shared: Shared,
    deliveries: Deliveries,
    was_connected: bool,
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
            Kept { shared, deliveries: Deliveries::new(refused, pauses), was_connected: false }
        });
        let mut link = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            opened = Link::open(settings) => opened?,
            never = command::refuse_all(&mut context.commands) => match never {},
        };
        let mut resumed = Resumed::NewSession;
        let mut pause = RESUME_PAUSE;
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
                    // Closing the session deletes its subscriptions.
                    link.close(CLOSE_PATIENCE).await;
                    kept.shared.table().clear(Why::Network);
                    return Err(error);
                }
            };
            resumed = match ended {
                Ended::Dead(status) => return Err(LinkError::Lost { status }),
                Ended::Broken(status) => {
                    warn!(adapter = %settings.name, %status, "Connection lost");
                    // What breaks the connection may come again with it.
                    let is_short = connected_at.elapsed() < RESUME_PAUSE_MAX;
                    pause = if is_short { (2 * pause).min(RESUME_PAUSE_MAX) } else { RESUME_PAUSE };
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
    let Kept { shared, deliveries, .. } = kept;
    let AdapterContext { points, intake, commands, .. } = context;
    let limits =
        takeover::take_over(name, session, shared, resumed).await.map_err(|error| lost(error.0))?;
    let mut publisher = Publisher::new(name, session, shared, intake, deliveries);
    publisher.catch_up().await.map_err(|error| lost(error.0))?;
    let upkeep = Upkeep { name, session, shared, limits, rebrowse: settings.rebrowse };
    let command_points = points.clone();
    let mut writer = Commands::new(name, session, shared);
    tokio::select! {
        error = upkeep.run(points) => Err(lost(error.0)),
        error = publisher.run() => Err(lost(error.0)),
        never = writer.run(commands, &command_points) => Ok(never),
    }
}

fn lost(status: StatusCode) -> LinkError {
    LinkError::Lost { status }
}
