//! M11: more retained messages than there may be.

use super::plant::{Plant, access};
use crate::support::{
    programs::curl,
    wire::{End, Wire},
};

const QUOTA: u8 = 0x97;

/// M11: retained messages are bounded for each principal, in all and by bytes; slots can be replaced and emptied.
#[test]
fn fault_m11_retained_messages_are_bounded() {
    let accounts = ["alice", "bob"].map(|name| access(name, &["r/#"])).concat();
    let limits = "[limits.mqtt]\nretained-per-principal = 3\nretained-count = 5\nretained-bytes = \"8KiB\"\n";
    let plant = Plant::start(&accounts, limits);
    let rules = plant.note();
    let mut alice = plant.connect("alice", "a");
    let mut bob = plant.connect("bob", "b");
    let (large, refused) = ("x".repeat(8 << 10), |count| {
        assert_eq!(plant.count("retained-refused"), count, "G6: the exact number");
    });
    for number in 1..=3 {
        assert_eq!(retain(&mut alice, &format!("r/a{number}"), "x", 1), 0);
    }
    assert_eq!(retain(&mut alice, "r/a4", "x", 1), QUOTA, "three for each");
    assert_eq!(retain(&mut alice, "r/a4", "x", 2), QUOTA, "with both qualities of service");
    refused(2);
    assert_eq!(retain(&mut alice, "r/a3", "y", 1), 0, "a slot can be replaced");
    assert_eq!(retain(&mut bob, "r/b1", "x", 1), 0, "others have their share");
    assert_eq!(retain(&mut bob, "r/b2", &large, 1), QUOTA, "8 KiB for all");
    assert_eq!(retain(&mut bob, "r/b2", "x", 1), 0);
    assert_eq!(retain(&mut bob, "r/b3", "x", 1), QUOTA, "five for all");
    refused(4);
    assert_eq!(plant.count("retained"), 5);

    // 3.1.1 has no word: the connection ends. HTTP has one.
    let older = crate::support::wire::Hello { version: 4, ..plant.hello("bob", "old") };
    let (mut old, _) = Wire::connect(plant.mqtt, &older);
    old.send(&retained(&old, "r/b3", "x", 1));
    assert_eq!(old.end(), End::Cut);
    let url = format!("http://127.0.0.1:{}/v1/topics/r/b3", plant.http);
    let token = format!("Authorization: Bearer {}", plant.token("bob"));
    let put = ["-X", "PUT", "-H", &token, "-d", "x", &url];
    assert_eq!(curl(&put).0, 507);
    // With QoS 0 it is dropped, and the connection goes on.
    bob.send(&retained(&bob, "r/b3", "x", 0));
    assert!(bob.publish("r/b3", "not retained") < 0x80);
    refused(7);

    assert_eq!(retain(&mut alice, "r/a1", "", 1), 0, "a slot can be emptied");
    assert_eq!(retain(&mut bob, "r/b3", "x", 1), 0, "which makes room");
    assert_eq!(plant.count("retained"), 5);
    drop((alice, bob, old));
    rules.check(&plant.gateway);
}

fn retained(wire: &Wire, topic: &str, payload: &str, qos: u8) -> Vec<u8> {
    let mut packet = wire.publish_packet(topic.as_bytes(), payload, qos, 7, &[]);
    packet[0] |= 1;
    packet
}

/// Publishes a retained message, and returns the reason of the answer; QoS 2 goes no further than that.
fn retain(wire: &mut Wire, topic: &str, payload: &str, qos: u8) -> u8 {
    wire.send(&retained(wire, topic, payload, qos));
    let reason = wire.expect(3 + qos).body.get(2).copied().unwrap_or(0);
    // Nobody subscribes, which a client of MQTT 5 is told.
    if reason == 0x10 { 0 } else { reason }
}
