//! S05, power cuts against the real binary.

use crate::{kill, support::disk::DataDisk};

use super::figure;

/// S05: on a disk that loses what was not synced, names of files among it, nothing acknowledged is lost.
#[test]
fn uplink_43_fault_s05_power_cuts_under_mixed_load() {
    let Some(disk) = DataDisk::mount() else { return };
    kill::under_mixed_load(figure(8, 50), |gateway| disk.carry(gateway), |seed| disk.cut(seed));
    let counts = disk.counts();
    println!("{counts:?}");
    assert!(counts.file_syncs > 0 && counts.folder_syncs > 0, "{counts:?}");
}
