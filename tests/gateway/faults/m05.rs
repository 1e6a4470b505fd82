//! M05: sockets that say nothing, handshakes that stall, and a CONNECT that takes its time.

use std::time::Duration;

use serde_json::{Value, json};

use super::{figure, plant::Plant};
use crate::support::{
    crowd::Crowds,
    wire::{Hello, Wire},
};

/// The beginning of a record with a ClientHello that never comes.
const STALLED: &str = "160301020001";

/// By how much the deadline may be missed on a busy machine.
const LATE: f64 = 3.0;

/// M05: each is closed by the one deadline from the accept on, and nobody else notices.
#[test]
fn fault_m05_slow_connects_and_stalled_handshakes() {
    let (count, deadline) = figure((100, 3_u32), (666, 10));
    let plant = Plant::start("", &format!("[limits.net]\nconnect-deadline = \"{deadline}s\"\n"));
    let rules = plant.note();
    let mut crowds = Crowds::start();
    let hello = Hello { client_id: "slow", ..Hello::default() };
    let slow = json!({"rest": hex(&hello.to_bytes()), "interval": f64::from(deadline) / 5.0});
    // A third of each kind, and half of the first two on either listener.
    let kinds = [
        ("silent", plant.mqtt, json!({}), count / 2),
        ("silent", plant.mqtts, json!({}), count - count / 2),
        ("silent", plant.mqtts, json!({"first": STALLED}), count / 2),
        ("silent", plant.https, json!({"first": STALLED}), count - count / 2),
        ("dribble", plant.mqtt, slow.clone(), count / 2),
        ("dribble", plant.mqtts, json!({"rest": STALLED, "interval": 2.0}), count - count / 2),
    ];
    let names: Vec<String> = (0..kinds.len()).map(|number| format!("crowd-{number}")).collect();
    for (number, (name, (kind, port, mut more, count))) in names.iter().zip(kinds).enumerate() {
        // Each crowd from its own address: one has a share of the places only.
        more["source"] = json!(format!("127.0.0.{}", 10 + number));
        crowds.gather(name, kind, port, count, more);
    }
    for (number, name) in names.iter().enumerate() {
        let report = crowds.over(name);
        println!("{name}: {report}");
        assert_eq!(report["answered"], 0, "nobody is told anything: {report}");
        // HTTP counts from the accept, too, but by its own deadline.
        let limit = if number == 3 { 10.0 } else { f64::from(deadline) };
        let lasted = |which: &str| report[which].as_f64().expect("a number");
        assert!(lasted("longest") <= limit + LATE, "{report}");
        assert!(lasted("shortest") >= limit - 0.5, "closed for the deadline alone: {report}");
    }
    assert_eq!(plant.count("connections-opening"), 0, "every place is given back");
    let failed = u64::try_from(count - count / 2 + count / 2 + count - count / 2).expect("small");
    assert_eq!(plant.count("handshake-failures"), failed, "G6: the exact number");
    // All but those on the HTTP listener, which has its own deadline.
    let all = u64::try_from(3 * (count / 2) + 2 * (count - count / 2)).expect("small");
    assert_eq!(plant.count("limit-refusals/net.connect-deadline"), all, "G6: the exact number");
    drop(crowds);
    rules.check(&plant.gateway);
}

/// M05: one address has its share of the connections and of the handshakes; others have theirs.
#[test]
fn fault_m05_one_address_has_its_share() {
    let limits = "[limits.net]\nmax-connections-per-address = 60\nmax-handshakes = 40\n";
    let plant = Plant::start("", limits);
    let rules = plant.note();
    let mut crowds = Crowds::start();
    let greedy = |first: &str| json!({"first": first, "source": "127.0.0.3"});
    // Of 50 handshakes 20 are taken: half of what there is.
    crowds.gather("handshakes", "silent", plant.mqtts, 50, greedy(STALLED));
    crowds.ready("handshakes");
    assert_left(&mut crowds, "handshakes", 20);
    assert_eq!(plant.count("connections-opening"), 20);
    assert_eq!(plant.count("connections-refused"), 30, "G6: the exact number");
    // Plain ones: 40 more connections make 60.
    crowds.gather("connections", "silent", plant.mqtt, 50, greedy(""));
    crowds.ready("connections");
    assert_left(&mut crowds, "connections", 40);
    assert_eq!(plant.count("connections-refused"), 40);
    assert_eq!(plant.count("limit-refusals/net.max-handshakes"), 30);
    assert_eq!(plant.count("limit-refusals/net.max-connections-per-address"), 10);
    // From another address there is room for all.
    let (mut other, _) = Wire::connect(plant.mqtt, &plant.hello("operator", "other"));
    assert_eq!(other.subscribe("x", 1), 1);
    for name in ["handshakes", "connections"] {
        crowds.leave(name);
    }
    drop((other, crowds));
    rules.check(&plant.gateway);
}

/// Waits until as many connections are left of a crowd.
#[track_caller]
fn assert_left(crowds: &mut Crowds, name: &str, expected: u64) {
    let left = || crowds.report(name);
    let mut report = Value::Null;
    let mut left = left;
    let found = crate::support::wait::within(Duration::from_secs(8), || {
        report = left();
        (report["open"] == expected).then_some(())
    });
    assert!(found.is_some(), "{expected} of {name} are left: {report}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
