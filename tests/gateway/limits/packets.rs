//! Limits of single packets: whoever breaks one is told which, counted, and closed; nobody else is (broker.12).

use super::Bench;
use crate::support::wire::{End, Hello, Wire, binary, packet, string};

const LIMITS: &str = "\
[limits.mqtt]
max-connect-bytes = \"1KiB\"
max-packet-bytes = \"8KiB\"
max-properties-bytes = \"1KiB\"
max-user-properties = 3
max-topic-bytes = \"256B\"
max-topic-levels = 4
max-topic-aliases = 2
receive-maximum = 5
";

/// What is sent, by the version, to break which limit, and what MQTT 5 answers.
struct Case {
    limit: &'static str,
    reason: u8,
    bytes: fn(&Wire) -> Vec<u8>,
    /// Whether 3.1.1 can break it at all.
    is_for_both: bool,
}

const USER_PROPERTY: [u8; 7] = [0x26, 0, 1, b'k', 0, 1, b'v'];

fn publish(wire: &Wire, topic: &str, properties: &[u8]) -> Vec<u8> {
    wire.publish_packet(topic.as_bytes(), "x", 0, 0, properties)
}

fn subscribe(wire: &Wire, filter: &str) -> Vec<u8> {
    let properties: &[u8] = if wire.version() == 5 { &[0] } else { &[] };
    packet(0x82, &[&[0, 9][..], properties, &string(filter), &[0]].concat())
}

/// More messages of QoS 2 than a client may leave open: 64 times as many where it cannot be told.
fn unreleased(wire: &Wire) -> Vec<u8> {
    let count = if wire.version() == 5 { 6 } else { 5 * 64 + 1 };
    (1..=count).flat_map(|id| wire.publish_packet(b"limits/open", "x", 2, id, &[])).collect()
}

fn large_property(wire: &Wire) -> Vec<u8> {
    let property = [&[0x26][..], &string("k"), &binary(&[b'v'; 1_024])].concat();
    publish(wire, "limits/x", &property)
}

const DEEP: &str = "a/b/c/d/e";

#[rustfmt::skip]
const CASES: [Case; 9] = [
    // The announcement alone: 9,000 bytes are to follow.
    Case { limit: "mqtt.max-packet-bytes",     reason: 0x95, bytes: |_| vec![0x30, 0xa8, 0x46], is_for_both: true },
    Case { limit: "mqtt.receive-maximum",      reason: 0x93, bytes: unreleased, is_for_both: true },
    Case { limit: "mqtt.max-topic-aliases",    reason: 0x94, bytes: |wire| publish(wire, "limits/x", &[0x23, 0, 3]), is_for_both: false },
    Case { limit: "mqtt.max-topic-levels",     reason: 0x90, bytes: |wire| publish(wire, DEEP, &[]), is_for_both: true },
    Case { limit: "mqtt.max-topic-levels",     reason: 0x8f, bytes: |wire| subscribe(wire, DEEP), is_for_both: true },
    Case { limit: "mqtt.max-topic-bytes",      reason: 0x90, bytes: |wire| publish(wire, &"t".repeat(257), &[]), is_for_both: true },
    Case { limit: "mqtt.max-topic-bytes",      reason: 0x8f, bytes: |wire| subscribe(wire, &"t".repeat(257)), is_for_both: true },
    Case { limit: "mqtt.max-user-properties",  reason: 0x95, bytes: |wire| publish(wire, "limits/x", &USER_PROPERTY.repeat(4)), is_for_both: false },
    Case { limit: "mqtt.max-properties-bytes", reason: 0x95, bytes: large_property, is_for_both: false },
];

#[test]
fn broker_12_limits_of_packets_end_the_connection() {
    let bench = Bench::start(LIMITS);
    let (mut other, _) = Wire::connect(bench.mqtt, &hello(5, "other"));
    let (mut reader, _) = Wire::connect(bench.mqtt, &hello(5, "reader"));
    assert_eq!(reader.subscribe("others/#", 0), 0);
    for Case { limit, reason, bytes, is_for_both } in CASES {
        for version in [4, 5] {
            if version == 4 && !is_for_both {
                continue;
            }
            let before = bench.refusals(limit);
            let (mut wire, _) = Wire::connect(bench.mqtt, &hello(version, "breaker"));
            wire.send(&bytes(&wire));
            let expected = if version == 5 { End::Told(reason) } else { End::Cut };
            assert_eq!(wire.end(), expected, "{limit}, version {version}");
            assert_eq!(bench.refusals_after(limit, before), before + 1, "{limit}, {version}");
        }
        assert_eq!(other.publish("others/x", limit), 0, "others are served");
    }

    let long = "c".repeat(1_025);
    let (_, refused) = Wire::try_connect(bench.mqtt, &hello(5, &long));
    assert_eq!(refused, Err(0x95), "packet too large");
    let mut wire = Wire::open(bench.mqtt, 4);
    wire.send(&hello(4, &long).to_bytes());
    assert_eq!(wire.end(), End::Cut);
    assert_eq!(bench.refusals_after("mqtt.max-connect-bytes", 1), 2, "the exact number");

    let got: Vec<String> = reader.messages(super::QUIET).into_iter().map(|it| it.payload).collect();
    assert_eq!(got, CASES.map(|case| case.limit), "and what was theirs has come");
    let metrics = bench.metrics();
    let sample = "tidegate_mqtt_limit_refusals_total{limit=\"mqtt.max-connect-bytes\"} 2";
    assert!(metrics.lines().any(|line| line == sample), "{metrics}");
}

fn hello(version: u8, client_id: &str) -> Hello<'_> {
    Hello { version, client_id, ..Hello::default() }
}
