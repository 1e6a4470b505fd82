//! Limits that are told, waited for or dropped at, and refuse nobody (broker.12).

use std::collections::BTreeSet;

use super::{Bench, QUIET};
use crate::support::wire::{Hello, Packet, Wire, packet, string};

fn contains(packet: &Packet, property: &[u8]) -> bool {
    packet.body.windows(property.len()).any(|window| window == property)
}

#[test]
fn broker_12_clients_are_told_what_they_get() {
    let bench = Bench::start(
        "[limits.mqtt]\nmax-keepalive = \"30s\"\nmax-session-expiry = \"2m\"\nreceive-maximum = 7\n\
         max-packet-bytes = \"64KiB\"\nmax-topic-aliases = 9\n",
    );
    let hello = Hello { client_id: "asker", clean: false, expiry: 3_600, ..Hello::default() };
    let mut wire = Wire::open(bench.mqtt, 5);
    wire.send(&hello.to_bytes());
    let answer = wire.expect(2);
    #[rustfmt::skip]
    let told: [(&str, &[u8]); 5] = [
        ("server keep alive",       &[0x13, 0, 30]),
        ("session expiry interval", &[0x11, 0, 0, 0, 120]),
        ("receive maximum",         &[0x21, 0, 7]),
        ("maximum packet size",     &[0x27, 0, 1, 0, 0]),
        ("topic alias maximum",     &[0x22, 0, 9]),
    ];
    for (name, property) in told {
        assert!(contains(&answer, property), "{name}: {answer:?}");
    }
}

/// What is in a message: its topic, its alias, and its packet identifier.
fn read_message(wire: &mut Wire) -> (String, Option<u16>, u16) {
    let packet = wire.expect_publish();
    let (size, rest) = packet.body.split_first_chunk::<2>().expect("a topic");
    let (topic, rest) = rest.split_at(usize::from(u16::from_be_bytes(*size)));
    let (id, rest) = rest.split_first_chunk::<2>().expect("an identifier");
    let properties = &rest[1..1 + usize::from(rest[0])];
    // The gateway adds no other property to these messages.
    let alias = match properties {
        [] => None,
        [0x23, high, low] => Some(u16::from_be_bytes([*high, *low])),
        other => panic!("found the properties {other:?}"),
    };
    (String::from_utf8_lossy(topic).into_owned(), alias, u16::from_be_bytes(*id))
}

#[test]
fn broker_12_a_slow_client_has_a_window() {
    let bench = Bench::start("[limits.mqtt]\nreceive-maximum = 5\nmax-topic-aliases-out = 2\n");
    let mut slow = Wire::open(bench.mqtt, 5);
    // A client that takes ten topic aliases and any number of messages.
    let head = [&string("MQTT")[..], &[5, 2, 0, 60, 3, 0x22, 0, 10]].concat();
    slow.send(&packet(0x10, &[head, string("slow")].concat()));
    assert_eq!(slow.expect(2).body[1], 0);
    assert_eq!(slow.subscribe("w/#", 1), 1);
    let (mut writer, _) = Wire::connect(bench.mqtt, &Hello { client_id: "w", ..Hello::default() });
    for number in 0..8 {
        assert_eq!(writer.publish(&format!("w/a/longer/topic/{}", number % 4), "x"), 0);
    }
    let mut aliases = BTreeSet::new();
    for sent in 0..8 {
        if sent >= 5 {
            // The window is full: an answer to a ping comes before another message.
            slow.send(&[0xc0, 0]);
            assert_eq!(
                slow.read(crate::support::wait::DEADLINE).map(|it| it.map(|it| it.head)),
                Ok(Some(0xd0))
            );
            slow.acknowledge(4, sent - 4);
        }
        let (topic, alias, id) = read_message(&mut slow);
        assert_eq!(id, sent + 1);
        assert!(!topic.is_empty() || alias.is_some());
        aliases.extend(alias);
    }
    assert_eq!(aliases, BTreeSet::from([1, 2]), "further topics have none");
}

/// Publishes `count` messages to a session that is away, and returns how many it gets, and how many were dropped.
fn overfill(bench: &Bench, count: usize, payload: &str) -> (usize, u64) {
    let keeper = Hello { client_id: "keeper", clean: false, expiry: 600, ..Hello::default() };
    let (mut wire, _) = Wire::connect(bench.mqtt, &keeper);
    assert_eq!(wire.subscribe("q/#", 1), 1);
    wire.send(&[0xe0, 0]);
    wire.end();
    let before = bench.count("dropped/queue-full");
    let (mut writer, _) = Wire::connect(bench.mqtt, &Hello { client_id: "w", ..Hello::default() });
    for _ in 0..count {
        // MQTT 5 is told when nobody has taken it (0x10).
        assert!(writer.publish("q/x", payload) < 0x80, "publishers are served");
    }
    let dropped = bench.count("dropped/queue-full") - before;
    let status = bench.gateway.status(&[]);
    assert_eq!(status["broker"]["longest-queues"][0]["client-id"], "keeper", "{status}");
    assert_eq!(status["broker"]["longest-queues"][0]["dropped"], dropped, "{status}");
    let (mut wire, present) = Wire::connect(bench.mqtt, &keeper);
    assert!(present);
    (wire.messages(QUIET).len(), dropped)
}

#[test]
fn broker_12_queues_are_bounded_by_messages_and_by_bytes() {
    let bench = Bench::start("[limits.mqtt]\nsession-queue-messages = 5\n");
    assert_eq!(overfill(&bench, 8, "x"), (5, 3), "messages");
    drop(bench);
    let bench = Bench::start(
        "[limits.mqtt]\nmax-packet-bytes = \"8KiB\"\nmax-properties-bytes = \"1KiB\"\n\
         session-queue-bytes = \"16KiB\"\n",
    );
    let (got, dropped) = overfill(&bench, 30, &"x".repeat(1_024));
    assert_eq!(got + usize::try_from(dropped).expect("few"), 30, "each is one or the other");
    // What a message takes beside its payload counts as well.
    assert!((8..=16).contains(&got), "{got} of 1 KiB in 16 KiB");
}

#[test]
fn broker_12_a_session_has_so_many_filters() {
    let bench = Bench::start("[limits.mqtt]\nmax-filters-per-session = 3\n");
    for (version, refusal, count) in [(5, 0x97, 1), (4, 0x80, 2)] {
        let hello = Hello { version, client_id: "many", ..Hello::default() };
        let (mut wire, _) = Wire::connect(bench.mqtt, &hello);
        for filter in ["a", "b", "c", "a"] {
            assert_eq!(wire.subscribe(filter, 1), 1, "{filter}");
        }
        assert_eq!(wire.subscribe("d", 1), refusal);
        assert_eq!(bench.count("subscriptions-refused"), count, "the exact number");
        assert_eq!(wire.publish("c", "still here"), 0);
        assert_eq!(wire.messages(QUIET).len(), 1, "and served");
        wire.send(&[0xe0, 0]);
        wire.end();
    }
}
