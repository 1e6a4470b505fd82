//! U10, the cloud forgot us: its broker comes back without what it knew.

use serde_json::json;

use crate::support::{
    capture::Capture,
    chaos::{
        fate::{Fate, Trouble},
        proxy::{Chaos, Course},
    },
    mosquitto::{Mosquitto, Options},
    programs, wait,
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

/// U10: what the far side has acknowledged and lost is its own loss: it is not sent again, and the numbers show it, to the
/// receiver and to `tidegate verify`.
#[test]
fn uplink_43_fault_u10_what_the_far_side_loses_is_seen() {
    let fates = vec![Fate::after(2, Trouble::Lie(3))];
    let mut lines = Lines::start(fates, 1, "batch = { readings = 10, age = \"10s\" }\n");
    let capture = Capture::start(&lines.broker);
    lines.until("the uplink", |uplink| uplink["connected"] == true);
    // One batch after the other, so that the third to the fifth are those.
    for batch in 1..=10 {
        lines.read(10);
        lines.until("the batch", |uplink| uplink["delivered"] == 10 * batch);
    }
    assert_eq!(lines.uplink()["balanced"], true, "what was acknowledged was delivered");
    lines.cloud.ask("wait", json!({"count": 70}));
    let report = lines.cloud.ask("report", json!({}));
    let expected: Vec<u64> = (21..=50).collect();
    assert_eq!(report["streams"][0]["holes"], json!(expected), "{report}");
    assert_eq!(report["duplicates"], 0);
    let file = capture.write("all", &capture.lines());
    let said = programs::tidegate(&["verify", &file]);
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("missing 30 of plant/count"), "{}", said.stdout);
    assert!(said.stdout.contains(": 21-50\n"), "{}", said.stdout);
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
