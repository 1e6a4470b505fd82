//! S12, a file system that turns read-only.

use tidegate_fault_disk::Faults;

use crate::support::{
    chaos::proxy::{Chaos, Course},
    disk::DataDisk,
    load::Load,
    mosquitto::Mosquitto,
    wait,
    wire::Wire,
};

use super::lines::Lines;

/// Readings a tenth of a second.
const BURST: u16 = 20;
const MORE: &str = "batch = { readings = 10, age = \"50ms\" }\n";

/// The exit code for storage that fails.
const STORAGE: Option<i32> = Some(74);

/// S12: under load the disk becomes read-only: the gateway ends with the code for storage, as it does when started anew
/// meanwhile. Once the disk takes writes it goes on, and nothing that was acknowledged is lost.
#[test]
fn uplink_43_fault_s12_a_disk_that_turns_read_only() {
    let Some(disk) = DataDisk::mount() else { return };
    let broker = Mosquitto::start();
    let proxy = Chaos::start(Course::Listed(Vec::new()), 1, broker.port());
    let mut lines =
        Lines::start_behind(proxy, "mqtt://127.0.0.1", broker, MORE, |gateway| disk.carry(gateway));
    let load = Load::start(lines.mqtt, BURST);
    lines.until("the first readings", |uplink| uplink["delivered"].as_u64() > Some(100));
    disk.set_faults(Faults { is_read_only: true, ..Faults::default() });
    let (code, output) = lines.gateway.wait_for_end();
    assert_eq!(code, STORAGE, "{output}");
    assert!(output.to_string().contains("Read-only file system"), "{output}");
    let written = disk.counts();
    lines.gateway.spawn();
    let (code, output) = lines.gateway.wait_for_end();
    assert_eq!(code, STORAGE, "{output}");
    assert_eq!(disk.counts().writes, written.writes, "nothing was written");
    disk.set_faults(Faults::default());
    lines.gateway.start_again();
    wait::until("the gateway to take clients", || {
        Wire::try_open(lines.mqtt, 5)?.gets_in().then_some(())
    });
    let before = lines.uplink()["received"].as_u64();
    lines.until("the load to go on", |uplink| uplink["received"].as_u64() > before);
    let acknowledged = load.stop();
    let report = lines.assert_has(&acknowledged);
    println!("{} acknowledged, {} came twice", acknowledged.count(), report["duplicates"]);
}
