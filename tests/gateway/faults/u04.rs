//! U04, bad line: half a second of delay with jitter and 64 kbit/s, together. Loss and a small MTU are the kernel's to hide:
//! they look like more of both.

use std::{thread, time::Duration};

use serde_json::json;

use crate::support::chaos::fate::{Fate, Trouble};

use super::{figure, lines::Lines};

/// Bytes a second of 64 kbit/s.
const RATE: u32 = 8_000;

/// U04: more comes than the line carries: it waits on disk, the connection stays, and all of it arrives.
#[test]
fn uplink_43_fault_u04_a_bad_line_is_used_as_it_is() {
    let fates = vec![Fate::after(0, Trouble::Slow(Duration::from_millis(500), RATE))];
    let more = "batch = { readings = 50, age = \"200ms\" }\n";
    let mut lines = Lines::start(fates, 1, more);
    let mut delivered = vec![0];
    let mut queued = Vec::new();
    for _ in 0..figure(5, 60) {
        // Some 25 bytes each, uncompressed: twice what a second takes.
        lines.read(600);
        thread::sleep(Duration::from_secs(1));
        let uplink = lines.uplink();
        delivered.push(uplink["delivered"].as_u64().expect("a number"));
        queued.push(uplink["queued"].as_u64().expect("a number"));
    }
    println!("delivered {delivered:?}, queued {queued:?}");
    assert!(delivered.is_sorted() && *delivered.last().unwrap() > 0, "{delivered:?}");
    assert!(queued.iter().any(|queued| *queued > 600), "the line was too slow: {queued:?}");
    assert_eq!(lines.uplink()["connections"], 1, "no time-out");
    // The line gets better; otherwise this would take its time.
    lines.proxy.calm();
    lines.assert_all_arrived();
    let uplink = lines.uplink();
    assert!(uplink["connections"].as_u64() <= Some(2), "{uplink}");
    assert_eq!(uplink["balanced"], json!(true));
}
