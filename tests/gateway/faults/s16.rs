//! S16, start with a large backlog.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    rules::memory,
    wire::{Hello, Wire},
};

use super::{figure, lines::Lines};

/// Bytes of one record; 16 MiB on each change, 128 MiB in the tier of all cases.
const RECORD_BYTES: usize = 16 << 10;
/// The default memory ceiling, in KiB.
const CEILING: u64 = 128 << 10;

/// S16: ready in 2 s whatever waits, the first record leaves within 1 s of the connection, in order, within the ceiling.
#[test]
fn uplink_43_fault_s16_a_start_with_a_backlog() {
    let more =
        "max-bytes = \"512MiB\"\nbatch = { readings = 50, bytes = \"256KiB\", age = \"200ms\" }\n";
    let mut lines = Lines::start(Vec::new(), 1, more);
    lines.until("the uplink", |uplink| uplink["connected"] == true);
    lines.broker.stop();
    let (mut wire, _) =
        Wire::connect(lines.mqtt, &Hello { client_id: "plant", ..Hello::default() });
    let count: u64 = figure(1_024, 8_192);
    let filling = "x".repeat(RECORD_BYTES);
    for value in 1..=count {
        assert_eq!(wire.publish("plant/text", &format!("\"{value} {filling}\"")), 0);
    }
    lines.gateway.kill9();
    lines.gateway.start_again();
    let ready = lines.gateway.ready_after();
    assert!(ready <= Duration::from_secs(2), "ready after {ready:?}");
    assert_eq!(lines.uplink()["queued"], count);
    lines.broker.start_again();
    lines.until("the connection", |uplink| uplink["connected"] == true);
    let begun = Instant::now();
    lines.until("the first records", |uplink| uplink["delivered"].as_u64() > Some(0));
    let first = begun.elapsed();
    let uplink = lines.until("all", |uplink| uplink["delivered"] == count);
    let peak = memory(lines.gateway.id(), "VmHWM");
    println!(
        "ready after {ready:?}, first after {first:?}, all after {:?}, {peak} KiB",
        begun.elapsed()
    );
    assert!(first <= Duration::from_secs(1), "{first:?}");
    assert!(peak <= CEILING, "{peak} KiB");
    assert_eq!(uplink["balanced"], true, "{uplink}");
    lines.cloud.ask("wait", json!({"count": count}));
    lines.assert_book();
}
