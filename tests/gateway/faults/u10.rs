//! U10, the cloud forgot us: its broker comes back without what it knew.

use serde_json::json;

use crate::support::{
    chaos::proxy::{Chaos, Course},
    mosquitto::{Mosquitto, Options},
    wait,
};

use super::lines::Lines;

/// U10: what was not acknowledged is sent, what was acknowledged is not sent again, and commands come down as before.
#[test]
fn uplink_43_fault_u10_a_broker_without_memory_is_subscribed_to_again() {
    let broker = Mosquitto::start_with(Options::default());
    let proxy = Chaos::start(Course::Listed(Vec::new()), 2, broker.port());
    let more = "commands = \"cmd/#\"\nresults = \"tidegate/lines/result\"\n\
                batch = { readings = 10, age = \"50ms\" }\n";
    let mut lines = Lines::start_behind(proxy, "mqtt://127.0.0.1", broker, more, |_| {});
    lines.read(50);
    lines.until("the first readings", |uplink| uplink["delivered"] == 50);
    assert_commanded(&mut lines, 0);
    for round in 1..=2 {
        lines.broker.stop();
        lines.read(50);
        lines.broker.start_again();
        let last = lines.last;
        let uplink = lines.until("the rest", |uplink| uplink["delivered"] == last);
        assert_eq!((&uplink["balanced"], &uplink["dead-letters"]), (&json!(true), &json!(0)));
        assert_commanded(&mut lines, round);
    }
    let report = lines.cloud.ask("report", json!({}));
    assert_eq!(report["duplicates"], 0, "what was acknowledged is not sent again: {report}");
}

/// A command comes down, and its outcome goes up.
#[track_caller]
fn assert_commanded(lines: &mut Lines, round: u32) {
    let id = format!("c-{round}");
    let payload = json!({"value": 1, "id": id}).to_string();
    wait::until("the outcome of the command", || {
        // A broker without memory keeps none for whoever subscribes later; the same id counts once.
        let command = json!({"topic": "cmd/hall1/setpoint", "payload": payload});
        lines.cloud.try_ask("publish", command).ok()?;
        let others =
            lines.cloud.try_ask("wait_others", json!({"count": round + 1, "timeout": 1.0}));
        let others = others.ok()?.to_string();
        others.contains(&format!("\\\"id\\\":\\\"{id}\\\"")).then_some(())
    });
}
