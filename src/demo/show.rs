//! The course of the demo: cloud, gateway and plant start, run and stop in the order of the data.

use std::{
    collections::BTreeMap,
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{
    cloud::Cloud,
    embedded,
    operator::{self, Orders},
    plant::{Foundation, Plant, Row},
    screen::{FRAME, Screen},
    snapshot::{CloudRow, GatewayRow, Rates, Snapshot, device_rows},
    summary::Summary,
};
use crate::{
    pipeline::{ConfigSource, Gateway},
    supervise::Stage,
    telemetry,
};

/// How long each step of the stop may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a stop waits until everything has arrived, before it stops the gateway nevertheless.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// Of the demo's log only what a person must know: its picture says the rest. The library behind the plant's
/// server warns of the certificate that it does not need.
const LOG_DEFAULT: &str = "error,opcua_server=off,opcua_core=off,opcua_client=off";

/// Runs the demo, for a time if one is given.
pub(super) fn run(duration: Option<Duration>) -> anyhow::Result<ExitCode> {
    telemetry::init(LOG_DEFAULT);
    let folder = tempfile::Builder::new()
        .prefix("tidegate-demo-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .context("cannot make a temporary folder")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(Box::pin(show(folder.path(), duration)));
    // Before the folder, so that nobody writes into it any more.
    runtime.shutdown_timeout(PATIENCE);
    folder.close().context("cannot remove the temporary folder")?;
    result
}

async fn show(folder: &Path, duration: Option<Duration>) -> anyhow::Result<ExitCode> {
    let mut end = End::new(duration)?;
    let cloud = Cloud::start(&folder.join("cloud")).await?;
    let foundation = Foundation::lay(&folder.join("plant")).await?;
    let (config, mapping) =
        embedded::gateway(&folder.join("gateway"), &foundation.opcua_endpoint(), cloud.address())?;
    let gateway = Gateway::start(config, mapping, ConfigSource::embedded())
        .await
        .context("cannot start the gateway")?;
    let ready = Instant::now();
    let plant = Plant::start(foundation, &gateway.addresses).await?;
    let mut operators = Stage::new("demo operator");
    let orders = operator::start(&cloud, plant.presses.clone(), &mut operators)?;
    let mut view = View::new(ready, &gateway, orders)?;

    view.watch(&plant.rows, &gateway, &cloud, &mut end).await;

    // In the order of the data: nobody commands, devices fall silent, what is under way arrives.
    view.stopping = true;
    operators.stop(Instant::now() + PATIENCE).await;
    let plant = plant.stop(PATIENCE).await;
    let handed_over = plant.handed_over();
    view.drain(&plant.rows, &handed_over, &gateway, &cloud, &mut end).await;
    let stopped = gateway.stop(PATIENCE).await.context("the gateway's journal failed");
    plant.close(PATIENCE).await;
    let arrivals = cloud.stop(PATIENCE).await?;
    stopped?;

    let first = arrivals.first.map(|first| first.duration_since(ready));
    let summary = Summary::new(&handed_over, &arrivals, first);
    view.finish(&summary)?;
    Ok(summary.exit_code())
}

/// Waits for whatever ends the demo.
struct End {
    interrupt: Signal,
    terminate: Signal,
    at: Option<Instant>,
}

impl End {
    fn new(duration: Option<Duration>) -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            at: duration.and_then(|duration| Instant::now().checked_add(duration)),
        })
    }

    /// Waits for a signal. Cancel-safe.
    async fn signal(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for a signal or the end of the time. Cancel-safe.
    async fn come(&mut self) {
        match self.at {
            Some(at) => tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {}
                () = self.signal() => {}
            },
            None => self.signal().await,
        }
    }
}

/// What is shown, and on which screen.
struct View {
    screen: Screen,
    rates: Rates,
    ready: Instant,
    orders: Orders,
    http: String,
    stopping: bool,
}

impl View {
    fn new(ready: Instant, gateway: &Gateway, orders: Orders) -> anyhow::Result<Self> {
        let http = gateway.addresses.http.first().context("the gateway has no HTTP address")?;
        let http = format!("http://{http}");
        let screen = Screen::of_stdout();
        screen.begin(&http)?;
        Ok(Self { screen, rates: Rates::default(), ready, orders, http, stopping: false })
    }

    /// Shows until the end comes, the storage fails or nobody looks any more.
    async fn watch(&mut self, rows: &[Row], gateway: &Gateway, cloud: &Cloud, end: &mut End) {
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = end.come() => return,
                () = gateway.storage_failed() => return,
                _ = frames.tick() => {}
            }
            if self.show(rows, gateway, cloud).is_err() {
                return;
            }
        }
    }

    /// Shows until everything that was handed over has arrived, a signal comes or patience ends.
    async fn drain(
        &mut self,
        rows: &[Row],
        handed_over: &BTreeMap<String, u64>,
        gateway: &Gateway,
        cloud: &Cloud,
        end: &mut End,
    ) {
        let deadline = Instant::now() + DRAIN_PATIENCE;
        let mut frames = interval(FRAME);
        while Instant::now() < deadline {
            let received = cloud.received(handed_over.keys());
            if handed_over
                .values()
                .zip(received)
                .all(|(handed_over, received)| received >= *handed_over)
            {
                return;
            }
            tokio::select! {
                biased;
                () = end.signal() => return,
                _ = frames.tick() => {}
            }
            // The summary is owed to whoever started the demo, even if nobody looks at the picture.
            let _ = self.show(rows, gateway, cloud);
        }
    }

    fn show(&mut self, rows: &[Row], gateway: &Gateway, cloud: &Cloud) -> io::Result<()> {
        let now = Instant::now();
        let elapsed = now.duration_since(self.ready);
        let arrivals = cloud.arrivals();
        let snapshot = Snapshot {
            elapsed,
            first: arrivals.first.map(|first| first.duration_since(self.ready)),
            stopping: self.stopping,
            devices: device_rows(rows, &mut self.rates, now, elapsed),
            gateway: GatewayRow::of_status(&gateway.status.to_json()),
            cloud: CloudRow::of_arrivals(&arrivals),
            latest: arrivals.latest.into(),
            ordered: self.orders.lock().clone(),
            http: self.http.clone(),
        };
        self.screen.show(&snapshot)
    }

    /// Prints the summary below the last picture.
    fn finish(self, summary: &Summary) -> io::Result<()> {
        use io::Write as _;
        self.screen.close();
        let mut output = io::stdout().lock();
        write!(output, "\n{summary}")?;
        output.flush()
    }
}
