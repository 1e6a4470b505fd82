//! U01, long outage and drain.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{rules::memory, wait};

use super::{figure, lines::Lines};

/// So long an uplink waits at most before it tries to connect again.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Readings that come at once while the backlog drains.
const BURST: u64 = 20;
/// How much faster the backlog drains than readings come.
const RATIO: u64 = 5;
/// By how much memory may have grown over the backlog, in KiB: it waits on disk.
const GROWTH_MAX: u64 = 24 << 10;

/// U01: order per stream and numbers without holes over an outage; the backlog drains at least five times as fast as
/// readings come, which go on coming meanwhile; memory does not grow with the backlog.
///
/// Readings go up in the order in which they came: live ones have no share of their own, they wait behind the backlog.
#[test]
fn uplink_43_fault_u01_a_long_outage_is_drained() {
    let more = "max-bytes = \"512MiB\"\nbatch = { readings = 500, age = \"200ms\" }\n";
    let mut lines = Lines::start(Vec::new(), 1, more);
    lines.broker.stop();
    let before = memory(lines.gateway.id(), "VmRSS");
    let backlog = figure(20_000, 500_000);
    let begun = Instant::now();
    lines.read(backlog);
    let arrival = backlog as f64 / begun.elapsed().as_secs_f64();
    lines.broker.start_again();
    // The pause between attempts has grown meanwhile, to a minute at most.
    let is_up = || (lines.uplink()["connected"] == true).then_some(());
    wait::within(2 * PAUSE_MAX, is_up).expect("the connection");
    let (begun, mut live) = (Instant::now(), 0);
    while lines.uplink()["delivered"].as_u64() < Some(backlog) {
        lines.read(BURST);
        live += BURST;
        assert!(live * RATIO <= backlog, "{live} came meanwhile: {}", lines.uplink());
    }
    let took = begun.elapsed();
    let peak = memory(lines.gateway.id(), "VmHWM");
    println!(
        "{arrival:.0} a second came; drained in {took:?}, while {live} came; {before} KiB, peak {peak}"
    );
    lines.assert_all_arrived();
    assert!(peak <= before + GROWTH_MAX, "{peak} KiB, {before} before");
    assert_eq!(lines.uplink()["dropped"], json!({}));
}
