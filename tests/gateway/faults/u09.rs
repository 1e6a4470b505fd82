//! U09, replayed, late and duplicated commands: what comes down is carried out once, and told as often as it is asked.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    wait,
    wire::{Hello, Wire},
};

use super::lines::Lines;

const TOPIC: &str = "cmd/hall1/setpoint";
/// Nothing that was going to come takes so long.
const QUIET: Duration = Duration::from_millis(300);
const ATTEMPTS: u32 = 50;

/// The outcomes that have gone up, as JSON.
fn outcomes(lines: &mut Lines, count: usize) -> Vec<Value> {
    wait::until("the outcomes", || {
        let asked = json!({"count": count, "timeout": 1.0});
        let others = lines.cloud.try_ask("wait_others", asked).ok()?;
        let others = others.as_array()?.iter();
        let parse = |other: &Value| serde_json::from_str(other["payload"].as_str()?).ok();
        Some(others.filter_map(parse).collect())
    })
}

/// Who carries commands out: a client that has subscribed to them.
fn device(port: u16) -> Wire {
    let (mut device, _) = Wire::connect(port, &Hello { client_id: "device", ..Hello::default() });
    assert_eq!(device.subscribe("hall1/setpoint/set", 1), 1);
    device
}

/// U09: the same id twice, and again behind a kill -9: carried out once, with the same outcome each time; one that has
/// expired, and one whose id was used for another topic, are not carried out, and their outcomes say so.
#[test]
fn uplink_43_fault_u09_a_command_is_carried_out_once() {
    let more = "commands = \"cmd/#\"\nresults = \"tidegate/lines/result\"\n";
    let mut lines = Lines::start(Vec::new(), 1, more);
    lines.until("the uplink", |uplink| uplink["connected"] == true);
    let mut device_now = device(lines.mqtt);
    let send = |lines: &mut Lines, topic: &str, command: Value| {
        let payload = command.to_string();
        lines.cloud.ask("publish", json!({"topic": topic, "payload": payload}));
    };
    let command = json!({"value": 66.5, "id": "c-1", "expires": "2099-01-01T00:00:00Z"});
    // The subscription may come a little after the connection: what is sent before it comes to nobody.
    for _ in 0..ATTEMPTS {
        send(&mut lines, TOPIC, command.clone());
        let has_come = || (lines.uplink()["commands"] != 0).then_some(());
        if wait::within(QUIET, has_come).is_some() {
            break;
        }
    }
    for _ in 0..2 {
        send(&mut lines, TOPIC, command.clone());
    }
    let told = outcomes(&mut lines, 3);
    assert!(told.iter().all(|it| it["id"] == "c-1" && it["outcome"] == "accepted"), "{told:?}");
    let received = device_now.messages(QUIET);
    assert_eq!(received.len(), 1, "{received:?}");

    // What the cloud has acknowledged is not told again; that is on disk before what comes behind it.
    lines.until("the outcomes to be settled", |uplink| uplink["outcomes-waiting"] == 0);
    lines.read(1);
    lines.gateway.kill9();
    lines.gateway.start_again();
    let mut device_now = device(lines.mqtt);
    lines.until("the uplink", |uplink| uplink["connected"] == true);
    send(&mut lines, TOPIC, command);
    let told = outcomes(&mut lines, 4);
    assert_eq!((&told[3]["id"], &told[3]["outcome"]), (&json!("c-1"), &json!("accepted")));
    let late = json!({"value": 1, "id": "c-2", "expires": "2020-01-01T00:00:00Z"});
    send(&mut lines, TOPIC, late);
    let told = outcomes(&mut lines, 5);
    assert_eq!((&told[4]["id"], &told[4]["outcome"]), (&json!("c-2"), &json!("expired")));
    send(&mut lines, "cmd/hall1/other", json!({"value": 1, "id": "c-1"}));
    let told = outcomes(&mut lines, 6);
    assert_eq!((&told[5]["id"], &told[5]["outcome"]), (&json!("c-1"), &json!("refused")));
    assert_eq!(device_now.messages(QUIET), []);
}
