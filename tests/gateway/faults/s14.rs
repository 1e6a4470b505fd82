//! S14, orderly stop under load: as far as the uplink and its session at the far broker are concerned.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{load::Load, wait};

use super::{figure, lines::Lines};

/// Readings a tenth of a second.
const BURST: u16 = 40;

/// S14: the process ends with code 0 within 10 s, or is killed 200 ms into its stop; nothing acknowledged is lost, and what
/// comes down while it is away waits in its session.
#[test]
fn uplink_43_fault_s14_a_stop_under_load_keeps_the_session_and_loses_nothing() {
    let more = "commands = \"cmd/#\"\nresults = \"tidegate/lines/result\"\n\
                batch = { readings = 20, age = \"50ms\" }\n";
    let mut lines = Lines::start(Vec::new(), 1, more);
    let load = Load::start(lines.mqtt, BURST);
    for round in 1..=figure(4, 100_u32) {
        lines.until("the uplink", |uplink| uplink["connected"] == true);
        thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        if round.is_multiple_of(2) {
            lines.gateway.ask_to_stop();
            thread::sleep(Duration::from_millis(200));
            lines.gateway.kill9();
        } else {
            let status = lines.gateway.terminate();
            assert!(status.success(), "round {round}: {status}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        }
        let id = format!("away-{round}");
        let payload = json!({"value": 1, "id": id, "expires": "2099-01-01T00:00:00Z"}).to_string();
        lines.cloud.ask("publish", json!({"topic": "cmd/hall1/setpoint", "payload": payload}));
        lines.gateway.start_again();
        wait::until("the outcome of a command that waited", || {
            let asked = json!({"count": round, "timeout": 1.0});
            let others = lines.cloud.try_ask("wait_others", asked).ok()?.to_string();
            others.contains(&id).then_some(())
        });
    }
    let acknowledged = load.stop();
    let report = lines.assert_has(&acknowledged);
    println!("{} acknowledged, {} came twice", acknowledged.count(), report["duplicates"]);
}
