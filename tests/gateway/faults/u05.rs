//! U05, the cloud says no: to certain records, in words or by hanging up. How long refused connections are left alone is
//! in `src/uplink/tests/refusals.rs`.

use serde_json::{Value, json};

use crate::support::{
    capture::Capture,
    chaos::fate::{Fate, Trouble},
    programs, wait,
    wire::{Hello, Wire},
};

use super::lines::Lines;

/// Stands in the one record that the far side does not take.
const POISON: &str = "666-poison";
const COUNT: u64 = 40;
/// Where it stands among the others.
const AT: u64 = 17;

/// Publishes `COUNT` readings and the bad one among them.
fn publish(port: u16) {
    let (mut wire, _) = Wire::connect(port, &Hello { client_id: "plant", ..Hello::default() });
    for value in 1..=COUNT {
        if value == AT {
            wire.publish("plant/word", &format!("\"{POISON}\""));
        }
        wire.publish("plant/count", &value.to_string());
    }
}

/// Everything but the bad record arrives, in any case it blocks nothing; it is kept as a dead letter, its number is told
/// as a gap, and status names the reason.
fn check(fates: Vec<Fate>, reason: &str) -> Value {
    let more = "batch = { readings = 10, age = \"50ms\" }\nversion = 5\n";
    let mut lines = Lines::start(fates, 6, more);
    let capture = Capture::start(&lines.broker);
    publish(lines.mqtt);
    let uplink = lines.until("everything to be settled", |uplink| {
        uplink["delivered"] == COUNT && uplink["dead-letters"] == 1
    });
    assert_eq!(
        (&uplink["balanced"], &uplink["dropped"]),
        (&json!(true), &json!({"dead-letter": 1}))
    );
    let refusal = uplink["last-refusal"].as_str().expect("the reason");
    assert!(refusal.contains(reason), "{refusal}");
    lines.cloud.ask("wait", json!({"count": COUNT}));
    let values = lines.cloud.ask("values", json!({"topic": "plant/count"}));
    let expected: Vec<u64> = (1..=COUNT).collect();
    assert_eq!(values, json!(expected));
    let gaps = wait::until("the gap to be told", || {
        let gaps = lines.cloud.ask("report", json!({}))["gaps"].clone();
        (gaps.as_array().map(Vec::len) == Some(1)).then_some(gaps)
    });
    let gap = &gaps[0];
    assert_eq!((&gap["n"], &gap["why"]), (&json!("plant/word"), &json!("dead-letter")), "{gap}");
    let file = capture.write("all", &capture.lines());
    let said = programs::tidegate(&["verify", "--from-start", &file]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("told as gaps 1"), "{}", said.stdout);
    uplink
}

/// U05: a payload that is refused (0x99): the batch is divided until the culprit stands alone; nobody is disconnected.
#[test]
fn uplink_43_fault_u05_a_refused_payload_blocks_nothing() {
    let fates = vec![Fate::after(0, Trouble::Poison(POISON, Some(0x99)))];
    let uplink = check(fates, "PayloadFormatInvalid");
    assert_eq!(uplink["connections"], 1, "{uplink}");
}

/// U05: a far side that hangs up whenever one record comes: after three times the batch is divided, after five more, three
/// of them behind another record that it took, the record is given up.
#[test]
fn uplink_43_fault_u05_a_record_that_closes_the_connection_is_given_up() {
    let fates = vec![Fate::after(0, Trouble::Poison(POISON, None)); 40];
    let uplink = check(fates, "5 times running");
    let connections = uplink["connections"].as_u64().expect("a number");
    assert!((9..=16).contains(&connections), "{connections} connections");
}
