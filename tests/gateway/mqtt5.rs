//! What MQTT 5 has beyond the exchange of messages, with real clients.

use std::time::Duration;

use serde_json::json;

use crate::mqtt::Broker;
use crate::support::wire::{End, Hello, Wire, binary, packet};

/// broker.5, D14: each message of a group reaches one member, with both versions; what a member leaves behind reaches the
/// others, also across kill -9.
#[test]
fn broker_5_a_group_shares_its_messages() {
    let mut broker = Broker::start("");
    let members = [("a", 5), ("b", 4), ("c", 5)];
    for (name, version) in members {
        let connack = broker.connect_persistent(name, version, false);
        assert!(connack["properties"]["SharedSubscriptionAvailable"].is_null(), "{connack}");
        assert_eq!(broker.subscribe(name, "$share/g/jobs/+", 1), json!([1]), "{name}");
    }
    broker.connect("s", 5, json!({}));
    for number in 0..30 {
        assert_eq!(broker.publish("s", "jobs/x", &format!("{number:02}"), 1, false), json!(0));
    }
    let mut all = Vec::new();
    for (name, _) in members {
        let taken = broker.payloads(name, 8);
        assert!(taken.len() <= 12, "{name} has taken {}", taken.len());
        all.extend(taken);
    }
    all.sort();
    let expected: Vec<String> = (0..30).map(|number| format!("{number:02}")).collect();
    assert_eq!(all, expected, "each once");

    for (name, _) in members {
        broker.paho.ask("disconnect", json!({"client": name}));
    }
    for number in 0..10 {
        assert_eq!(broker.publish("s", "jobs/x", &number.to_string(), 1, false), json!(0));
    }
    broker.gateway.kill9();
    broker.gateway.start_again();
    // Who comes first takes what waits for all; in what order the others' arrive is not promised.
    assert_eq!(broker.connect_persistent("b", 4, false)["session_present"], json!(true));
    let mut taken = broker.payloads("b", 10);
    taken.sort();
    assert_eq!(taken, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    for name in ["a", "c"] {
        assert_eq!(broker.connect_persistent(name, 5, false)["session_present"], json!(true));
    }
    assert_eq!(broker.status()["queued"], json!(0));
}

/// MQTT-4.8.2-1, MQTT-3.8.3-4, MQTT-4.8.2-6: what a shared subscription may not be; a refusal by the client ends a message.
#[test]
fn broker_5_a_shared_subscription_has_rules() {
    let broker = Broker::start("");
    let subscribe = |filter: &str, options: u8| {
        packet(0x82, &[&[0, 1, 0][..], &binary(filter.as_bytes()), &[options]].concat())
    };
    for (filter, options, reason) in
        [("$share/g/t", 0b101, 0x82), ("$share//t", 1, 0x8f), ("$share/g+/t", 1, 0x8f)]
    {
        let (mut wire, _) = Wire::connect(broker.port, &Hello::default());
        wire.send(&subscribe(filter, options));
        assert_eq!(wire.end(), End::Told(reason), "{filter}");
    }
    let members = ["m1", "m2"].map(|client_id| {
        let (mut wire, _) = Wire::connect(broker.port, &Hello { client_id, ..Hello::default() });
        assert_eq!(wire.subscribe("$share/g/t", 1), 1);
        wire
    });
    let [mut first, mut second] = members;
    let (mut sender, _) = Wire::connect(broker.port, &Hello { client_id: "s", ..Hello::default() });
    assert_eq!(sender.publish("t", "1"), 0);
    let quiet = Duration::from_millis(300);
    let (taker, other) = match first.message(quiet) {
        Some(_) => (&mut first, &mut second),
        None => (&mut second, &mut first),
    };
    // PUBACK with a failure.
    taker.send(&packet(0x40, &[0, 1, 0x83, 0]));
    assert_eq!(other.message(quiet), None, "nobody else gets what a member has refused");
}
