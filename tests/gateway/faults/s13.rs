//! S13, frozen process: as far as the uplink and local clients are concerned.

use std::{thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    load::Load,
    wire::{Hello, Wire},
};

use super::{figure, lines::Lines};

/// Readings a tenth of a second.
const BURST: u16 = 20;

/// S13: stopped for longer than the far broker waits for its keep alive, and let go: the uplink comes back, a local client
/// that was quiet keeps its connection, and nothing acknowledged is lost.
#[test]
fn uplink_43_fault_s13_a_frozen_process_goes_on() {
    let more = "keep-alive = \"5s\"\nbatch = { readings = 10, age = \"50ms\" }\n";
    let mut lines = Lines::start(Vec::new(), 1, more);
    let (mut quiet, _) =
        Wire::connect(lines.mqtt, &Hello { client_id: "quiet", ..Hello::default() });
    let load = Load::start(lines.mqtt, BURST);
    lines.until("the first readings", |uplink| uplink["delivered"].as_u64() > Some(100));
    let process = i32::try_from(lines.gateway.id()).ok().and_then(Pid::from_raw);
    let process = process.expect("a process has a number");
    kill_process(process, Signal::STOP).expect("it is ours");
    thread::sleep(Duration::from_secs(figure(9, 20)));
    kill_process(process, Signal::CONT).expect("it is ours");
    lines.until("the uplink to be back", |uplink| uplink["connections"].as_u64() >= Some(2));
    assert_eq!(quiet.publish("plant/quiet", "1"), 0, "the connection is still there");
    let acknowledged = load.stop();
    lines.until("the rest", |uplink| uplink["queued"] == 0);
    let report = lines.assert_has(&acknowledged);
    println!("{} acknowledged, {} came twice", acknowledged.count(), report["duplicates"]);
}
