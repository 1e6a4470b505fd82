//! `cargo xtask bench`: the figures of docs/performance.md, on this machine, in one table.

mod backlog;
mod broker;
mod child;
mod figures;
mod gateway;
mod identity;
mod load;
mod options;
mod peers;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::figures::{Rounds, Table, per_reading};
use self::gateway::{Gateway, Site};
use self::load::coap::Coap;
use self::load::echo::{Echo, EchoServer};
use self::load::http::Http;
use self::load::mqtt::Mqtt;
use self::load::{Answered, Load};
pub(crate) use self::options::Options;
use self::options::Subject;
use self::peers::{Mosquitto, Plant};
use crate::places::Places;
use crate::process;

/// For how long each load runs.
const TIME: Duration = Duration::from_secs(5);

/// How often each side of a comparison is loaded.
const ROUNDS: usize = 5;
const STARTS: usize = 10;
const IDLE_NODES: usize = 100;
const IDLE_TIME: Duration = Duration::from_secs(10);
const BUSY_NODES: usize = 1_000;

/// As many as are answered: 64 devices that each wait for their answer.
const FLAT_OUT: Load =
    Load { connections: 4, window: 16, readings: 400_000, time: TIME, rate: None };
const HTTP: Load = Load { connections: 32, window: 1, ..FLAT_OUT };
/// As many as are open at once by the gateway's receive maximum, nearly.
const MQTT: Load = Load { window: 60, ..FLAT_OUT };
/// As many as a plant sends, all day.
const PACED: Load = Load { rate: Some(5_000), time: Duration::from_secs(3), ..MQTT };
const WARM_UP: Load = Load { readings: 400, ..FLAT_OUT };

/// What a stretch of load cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    readings: u64,
    cpu: Duration,
    /// Until the last answer to a device.
    elapsed: Duration,
    /// From then to the cloud's last acknowledgement; with the batch age of 1 s the lowest is near 1 s.
    drain: Option<Duration>,
    /// Payload sent to the cloud.
    cloud_bytes: u64,
    /// Syncs of the journal, each for a group of readings.
    commits: u64,
}

/// Where the gateways of a run are, and what they are made of.
#[derive(Debug)]
struct Run<'p> {
    places: &'p Places,
    binary: PathBuf,
    folder: PathBuf,
    python: PathBuf,
    plant: PathBuf,
}

/// Builds the gateway if needed, measures, and prints the table.
pub(crate) fn run(places: &Places, options: &Options) -> Result<()> {
    let binary = options.binary(places)?;
    let folder = places.target.join(format!("bench-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let run = Run {
        places,
        binary,
        folder: folder.clone(),
        python: places.cache.join("python/bin/python"),
        plant: places.root.join("xtask/src/bench/plant.py"),
    };
    let table = match options.subject {
        Subject::Telemetry => run.measure(),
        Subject::Backlog => backlog::measure(&run),
        Subject::Identity => identity::measure(&run),
        Subject::Broker(ref choice) => broker::measure(&run, choice),
    };
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    print!("{}", table?);
    Ok(())
}

impl Run<'_> {
    fn measure(&self) -> Result<Table> {
        let mut table = Table::default();
        self.at_rest(&mut table)?;
        let echo = echo()?;
        table.row("CPU a datagram, bare UDP echo", "-", per_reading(&echo));
        let cloud = Mosquitto::start(&self.folder, None)?;
        let local = self.gateway("local", Site::default())?;
        let up = self.gateway("up", Site { cloud: Some(cloud.port), ..Site::default() })?;
        table.pair("CoAP PUT", "30 µs", &[coap(&local, false)?, coap(&up, true)?]);
        table.pair("HTTP POST, keep-alive", "30 µs", &[http(&local, false)?, http(&up, true)?]);
        table.pair(
            "MQTT publish, QoS 1",
            "-",
            &[mqtt(&local, MQTT, false)?, mqtt(&up, MQTT, true)?],
        );
        let site = Site { cloud: Some(cloud.port), seldom_synced: true, ..Site::default() };
        let lazy = self.gateway("lazy", site)?;
        self.way_up(&mut table, &cloud, [&local, &up, &lazy])?;
        drop((local, up, lazy));
        let values = [self.opcua(None)?, self.opcua(Some(cloud.port))?];
        table.pair("OPC UA value, 1,000 nodes", "20 µs", &values);
        table.json_message();
        Ok(table)
    }

    /// Start, memory and size.
    fn at_rest(&self, table: &mut Table) -> Result<()> {
        let mut starts = Vec::with_capacity(STARTS);
        for number in 0..STARTS {
            let gateway = self.gateway(&format!("start-{number}"), Site::default())?;
            starts.push(gateway.ready_after);
        }
        starts.sort_unstable();
        let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1_000.0);
        let median = (starts[STARTS / 2 - 1] + starts[STARTS / 2]) / 2;
        let shown =
            format!("{} ({} to {})", millis(median), millis(starts[0]), millis(starts[STARTS - 1]));
        table.row("Start to ready, empty store, median of 10", "100 ms", shown);
        let cloud = Mosquitto::start(&self.folder, None)?;
        let plant = Plant::start(&self.python, &self.plant, IDLE_NODES)?;
        let site = Site { cloud: Some(cloud.port), plant: Some(plant.port), ..Site::default() };
        let gateway = self.gateway("idle", site)?;
        gateway.wait_for_received(IDLE_NODES as u64)?;
        let before = gateway.cpu()?;
        thread::sleep(IDLE_TIME);
        let idle = gateway.cpu()?.saturating_sub(before).as_secs_f64() / IDLE_TIME.as_secs_f64();
        table.row(
            "Idle memory (RSS), OPC UA client with 100 nodes",
            "20 MiB",
            mebibytes(gateway.rss_bytes()?),
        );
        table.row("CPU of the same, idle", "-", format!("{:.1} % of a core", idle * 100.0));
        table.row("Binary, stripped", "22 MiB", mebibytes(self.stripped_bytes()?));
        Ok(())
    }

    fn gateway(&self, name: &str, site: Site<'_>) -> Result<Gateway> {
        Gateway::start(&self.binary, self.folder.join(name), site)
    }

    fn stripped_bytes(&self) -> Result<u64> {
        let copy = self.folder.join("stripped");
        process::run(process::command("strip").arg("-o").arg(&copy).arg(&self.binary))?;
        Ok(fs::metadata(copy)?.len())
    }

    fn opcua(&self, cloud: Option<u16>) -> Result<Cost> {
        let mut plant = Plant::start(&self.python, &self.plant, BUSY_NODES)?;
        let name = if cloud.is_some() { "opcua-up" } else { "opcua" };
        let gateway =
            self.gateway(name, Site { cloud, plant: Some(plant.port), ..Site::default() })?;
        gateway.wait_for_received(BUSY_NODES as u64)?;
        if cloud.is_some() {
            gateway.wait_for_delivered(BUSY_NODES as u64)?;
        }
        measure(&gateway, cloud.is_some(), || {
            let before = gateway.received()?;
            plant.run(TIME)?;
            thread::sleep(Duration::from_millis(300)); // for the last publish answer
            Ok(Answered { readings: gateway.received()? - before })
        })
    }

    /// What the way from a topic to the cloud costs at a steady rate, beside mosquitto's bridge: all sides run at
    /// once and are loaded in turn, round after round, so that what else the machine does meets all of them.
    fn way_up(
        &self,
        table: &mut Table,
        cloud: &Mosquitto,
        [local, up, lazy]: [&Gateway; 3],
    ) -> Result<()> {
        let alone = Mosquitto::start(&self.folder, None)?;
        let bridge = Mosquitto::start(&self.folder, Some(cloud.port))?;
        let mut rounds = Rounds::default();
        for _ in 0..ROUNDS {
            rounds.local.push(mqtt(local, PACED, false)?);
            rounds.alone.push(mosquitto(&alone)?);
            rounds.up.push(mqtt(up, PACED, true)?);
            rounds.bridge.push(mosquitto(&bridge)?);
            rounds.lazy.push(mqtt(lazy, PACED, true)?);
        }
        table.rounds(&rounds);
        Ok(())
    }
}

/// What the same publishes cost mosquitto, alone or as a bridge.
fn mosquitto(broker: &Mosquitto) -> Result<Cost> {
    load::run(WARM_UP, || Mqtt::connect(broker.port))?;
    let (before, start) = (broker.cpu()?, Instant::now());
    let answered = load::run(PACED, || Mqtt::connect(broker.port))?;
    let elapsed = start.elapsed();
    thread::sleep(Duration::from_millis(500)); // the bridge's last acknowledgements
    let cpu = broker.cpu()?.saturating_sub(before);
    Ok(Cost { readings: answered.readings, cpu, elapsed, drain: None, cloud_bytes: 0, commits: 0 })
}

fn coap(gateway: &Gateway, has_uplink: bool) -> Result<Cost> {
    load::run(WARM_UP, || Coap::connect(gateway.coap))?;
    measure(gateway, has_uplink, || load::run(FLAT_OUT, || Coap::connect(gateway.coap)))
}

fn http(gateway: &Gateway, has_uplink: bool) -> Result<Cost> {
    load::run(Load { window: 1, ..WARM_UP }, || Http::connect(gateway.http))?;
    measure(gateway, has_uplink, || load::run(HTTP, || Http::connect(gateway.http)))
}

fn mqtt(gateway: &Gateway, load: Load, has_uplink: bool) -> Result<Cost> {
    load::run(WARM_UP, || Mqtt::connect(gateway.mqtt))?;
    measure(gateway, has_uplink, || load::run(load, || Mqtt::connect(gateway.mqtt)))
}

/// Runs a load and tells what it cost the gateway, with an uplink until all of it is acknowledged there.
fn measure(
    gateway: &Gateway,
    has_uplink: bool,
    load: impl FnOnce() -> Result<Answered>,
) -> Result<Cost> {
    let mut bytes_before = 0;
    if has_uplink {
        gateway.wait_for_delivered(gateway.received()?)?;
        bytes_before = gateway.bytes_sent()?;
    }
    let (received, commits) = (gateway.received()?, gateway.commits()?);
    let (before, start) = (gateway.cpu()?, Instant::now());
    let answered = load()?;
    let elapsed = start.elapsed();
    if has_uplink {
        gateway.wait_for_delivered(received + answered.readings)?;
    }
    let drain = has_uplink.then(|| start.elapsed().saturating_sub(elapsed));
    let cpu = gateway.cpu()?.saturating_sub(before);
    let cloud_bytes = if has_uplink { gateway.bytes_sent()? - bytes_before } else { 0 };
    let commits = gateway.commits()? - commits;
    Ok(Cost { readings: answered.readings, cpu, elapsed, drain, cloud_bytes, commits })
}

fn echo() -> Result<Cost> {
    let server = EchoServer::start()?;
    let (port, start) = (server.port(), Instant::now());
    let answered = load::run(FLAT_OUT, || Echo::connect(port))?;
    let elapsed = start.elapsed();
    Ok(Cost {
        readings: answered.readings,
        cpu: server.stop()?,
        elapsed,
        drain: None,
        cloud_bytes: 0,
        commits: 0,
    })
}

fn mebibytes(bytes: u64) -> String {
    // Two decimals of at most some hundred: exact enough.
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
