//! U03, half-open connection: what is sent vanishes, both ways, and nobody says so.

use std::time::{Duration, Instant};

use crate::support::chaos::fate::{Fate, Towards, Trouble};

use super::lines::Lines;

const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// For a machine that is slow to look.
const SLACK: Duration = Duration::from_secs(2);

/// U03: found within one and a half keep alives, also while there is nothing to send; who publishes here notices nothing;
/// all of it arrives.
#[test]
fn uplink_43_fault_u03_a_half_open_connection_is_found() {
    let fates = vec![Fate::after(3, Trouble::BlackHole(Towards::Both))];
    let more = "keep-alive = \"5s\"\nbatch = { readings = 10, age = \"50ms\" }\n";
    let mut lines = Lines::start(fates, 2, more);
    // Three batches, and then silence.
    lines.read(30);
    lines.until("three batches", |uplink| uplink["delivered"] == 30);
    let begun = Instant::now();
    let published = Instant::now();
    lines.read(1);
    assert!(published.elapsed() < Duration::from_secs(1), "the local side does not wait");
    lines.until("the end of the connection", |uplink| uplink["connections"] == 2);
    let took = begun.elapsed();
    println!("found after {took:?}");
    assert!(took <= KEEP_ALIVE + KEEP_ALIVE / 2 + SLACK, "{took:?}");
    assert!(took >= KEEP_ALIVE / 2, "it was the silence: {took:?}");
    lines.read(30);
    let report = lines.assert_all_arrived();
    assert_eq!(report["duplicates"], 0, "what had vanished had not arrived");
}
