//! Uplinks behind lines on which things go wrong, as a seed says (uplink.40).
//!
//! `TIDEGATE_CHAOS_SEED=17 cargo test --test gateway uplink_40` repeats a course alone; a failure prints it, and what went
//! wrong on each connection. `TIDEGATE_TIER=all` runs 30 minutes, with the gateway killed now and then.

mod receiver;

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use self::receiver::Receiver;
use crate::support::{
    chaos::{
        draw::Draw,
        proxy::{Chaos, Course},
    },
    gateway::Gateway,
    load::Load,
    mosquitto::Mosquitto,
    ports,
    rules::memory,
    site::Site,
    wait,
};

/// The course on each change.
const SEED: u64 = 40;
/// Ports of a proxy, each an endpoint of the uplink that rests for itself: more connections come of it in little time.
const PORTS: usize = 6;
/// Readings of a batch.
const BATCH: u64 = 10;
/// Batches that an uplink may have sent and not know the answer of.
const WINDOW: u64 = 16;
/// The most memory that the gateway may have used at any time, in KiB: it keeps what waits on disk.
const RESIDENT_MAX: u64 = 40 << 10;
/// How long it may take after the end of it all until everything has arrived.
const DRAIN: Duration = Duration::from_secs(120);

/// How much is tried.
struct Extent {
    seed: u64,
    lasts: Duration,
    /// Readings a tenth of a second.
    burst: u16,
    /// About how often the gateway is killed.
    kill_every: Option<Duration>,
}

impl Extent {
    fn new() -> Self {
        let chosen = std::env::var("TIDEGATE_CHAOS_SEED").ok().and_then(|text| text.parse().ok());
        let is_deep = std::env::var("TIDEGATE_TIER").is_ok_and(|tier| tier == "all");
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let lasts = std::env::var("TIDEGATE_CHAOS_SECONDS").ok();
        let lasts = lasts.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        Self {
            seed: chosen.unwrap_or(SEED),
            lasts: lasts.unwrap_or(if is_deep { minutes(30) } else { Duration::from_secs(20) }),
            burst: if is_deep { 10 } else { 20 },
            kill_every: is_deep.then_some(Duration::from_secs(20)),
        }
    }
}

/// Says how a failing run is repeated.
struct Repeat(u64);

impl Drop for Repeat {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("Repeat it with TIDEGATE_CHAOS_SEED={}", self.0);
        }
    }
}

/// The table of an uplink that has each port of a proxy as an endpoint.
fn uplink(name: &str, version: u8, proxy: &Chaos) -> String {
    let said = if version == 5 { "5" } else { "\"3.1.1\"" };
    let [first, others @ ..] = proxy.ports() else { panic!("a proxy has ports") };
    let mut table = format!(
        "[[uplink]]\nname = \"{name}\"\nurl = \"mqtt://127.0.0.1:{first}\"\nversion = {said}\n\
         topics = [\"plant/#\"]\ntopic = \"tidegate/{{gateway}}/{name}/{{encoding}}\"\n\
         keep-alive = \"5s\"\nack-timeout = \"2s\"\n\
         batch = {{ readings = {BATCH}, age = \"50ms\" }}\n"
    );
    for port in others {
        table += &format!("[[uplink.backup]]\nurl = \"mqtt://127.0.0.1:{port}\"\n");
    }
    table
}

/// uplink.40: two uplinks, of both versions of MQTT, behind lines that delay, throttle, lose, cut, reset, refuse and lie,
/// while readings come at a known rate. Nothing acknowledged is lost, order is kept within each stream, what comes twice
/// was in one window of what was under way, the books balance, memory is bounded.
#[test]
fn uplink_40_fault_u02_nothing_is_lost_behind_a_line_of_chaos() {
    let extent = Extent::new();
    let _repeat = Repeat(extent.seed);
    let broker = Mosquitto::start();
    let mut receiver = Receiver::start(&broker);
    let proxies = [4, 5].map(|version| {
        let course = Course::Seed(extent.seed + u64::from(version), version);
        (version, Chaos::start(course, PORTS, broker.port()))
    });
    let mqtt = ports::free_port();
    let mut config = format!(
        "[gateway]\nid = \"chaos\"\ndata-dir = \"data\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n"
    );
    for (version, proxy) in &proxies {
        config += &uplink(&format!("v{version}"), *version, proxy);
    }
    let mut gateway = Gateway::start(&Site::new(&config, &[]));
    let load = Load::start(mqtt, extent.burst);
    let (kills, peak) = endure(&extent, &mut gateway);
    let acknowledged = load.stop();
    proxies.iter().for_each(|(_, proxy)| proxy.calm());

    let books = drained(&gateway);
    let struck = proxies.iter().map(|(_, proxy)| proxy.story().len()).collect::<Vec<_>>();
    let connections = proxies.iter().map(|(_, proxy)| proxy.connections()).collect::<Vec<_>>();
    let peak = peak.max(memory(gateway.id(), "VmHWM"));
    println!(
        "{} readings acknowledged; connections {connections:?}, trouble {struck:?}; {kills} kills; {peak} KiB resident",
        acknowledged.count()
    );
    assert!(peak <= RESIDENT_MAX, "{peak} KiB resident");
    assert_no_panic(&gateway);
    let seconds = extent.lasts.as_secs();
    // Each endpoint rests a minute at most, and what strikes takes its time to be noticed.
    let least = (seconds / 20).max(8) as usize;
    assert!(struck.iter().all(|&struck| struck >= least), "there was trouble: {struck:?}");
    for name in ["v4", "v5"] {
        let uplink = &books["uplinks"][name];
        let found = (&uplink["balanced"], &uplink["audit"]["agrees"], &uplink["dead-letters"]);
        assert_eq!(found, (&json!(true), &json!(true), &json!(0)), "{uplink}");
        assert_eq!(uplink["delivered"], uplink["received"], "{uplink}");
        receiver.assert_has(name, &acknowledged);
    }
    receiver.assert_in_order();
    // A kill may come before the answers of a whole backlog are noted: four windows that wait behind an older one, as many
    // in the write under way, and those that are on their way.
    let windows = if kills > 0 { 10 } else { 1 };
    receiver.assert_reach(windows * WINDOW * BATCH);
    receiver.assert_complete();
}

/// Lets time pass, with the gateway killed now and then; returns how often it was, and its peak of memory in KiB.
fn endure(extent: &Extent, gateway: &mut Gateway) -> (u32, u64) {
    let end = Instant::now() + extent.lasts;
    let (mut kills, mut peak) = (0, 0);
    let mut draw = Draw::new(extent.seed, u64::MAX);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let Some(every) = extent.kill_every else {
            thread::sleep(left);
            break;
        };
        let most = u64::try_from(every.as_millis()).expect("seconds") * 2;
        thread::sleep(Duration::from_millis(draw.between(1_000, most)).min(left));
        peak = peak.max(memory(gateway.id(), "VmHWM"));
        assert_no_panic(gateway);
        gateway.kill9();
        gateway.start_again();
        kills += 1;
    }
    (kills, peak)
}

#[track_caller]
fn assert_no_panic(gateway: &Gateway) {
    let lines = gateway.output().lines();
    let panic = lines.iter().find(|line| line.contains("panicked"));
    assert_eq!(panic, None, "{}", gateway.output());
}

/// Waits until nothing is queued, and returns the audited status.
fn drained(gateway: &Gateway) -> serde_json::Value {
    let is_empty = || {
        let status = gateway.status(&[]);
        let queued = |name: &str| &status["uplinks"][name]["queued"];
        (queued("v4") == 0 && queued("v5") == 0).then_some(())
    };
    if wait::within(DRAIN, is_empty).is_none() {
        panic!("not drained: {}", gateway.status(&[])["uplinks"]);
    }
    gateway.status(&["--audit"])
}
