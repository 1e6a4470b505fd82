//! U01, long outage and drain.

use std::time::Instant;

use serde_json::json;

use crate::support::rules::memory;

use super::{figure, lines::Lines};

/// Readings that go on coming while the backlog drains, and how many of them at once.
const LIVE: u64 = 1_000;
const BURST: u64 = 20;
/// By how much memory may have grown over the backlog, in KiB: it waits on disk.
const GROWTH_MAX: u64 = 24 << 10;

/// U01: order per stream and numbers without holes over an outage; the backlog drains at least five times as fast as
/// readings come, which go on coming meanwhile; memory does not grow with the backlog.
///
/// Readings go up in the order in which they came, so live ones wait behind the backlog: their fifth of the rate takes a
/// replay policy, which uplinks do not have yet.
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
    lines.until("the connection", |uplink| uplink["connected"] == true);
    let begun = Instant::now();
    for _ in 0..LIVE / BURST {
        lines.read(BURST);
    }
    let live = LIVE as f64 / begun.elapsed().as_secs_f64();
    lines
        .until("the backlog to be drained", |uplink| uplink["delivered"].as_u64() >= Some(backlog));
    let drain = backlog as f64 / begun.elapsed().as_secs_f64();
    let peak = memory(lines.gateway.id(), "VmHWM");
    println!(
        "arrival {arrival:.0}, drain {drain:.0}, live {live:.0} a second; {before} KiB, peak {peak}"
    );
    let report = lines.assert_all_arrived();
    assert_eq!(report["holes"], 0);
    assert!(drain >= 5.0 * live || drain >= 5_000.0, "drained at {drain:.0} a second");
    assert!(peak <= before + GROWTH_MAX, "{peak} KiB, {before} before");
    assert_eq!(lines.uplink()["dropped"], json!({}));
}
