//! What no polite client sends, beyond the statements: streams that are cut, torn, mixed up and random (broker.31).

use std::time::Duration;

use tidegate_store::simulation::Random;

use super::client::Client;
use super::packets::{
    BOTH, Connect, PINGREQ, Publish, V5, Version, Will, ack, disconnect, kind, prop, subscribe,
    unsubscribe,
};
use super::server::{server, unique};
use crate::support::wait;
use crate::support::wire::End;

/// A whole conversation of a client that does everything.
fn conversation(version: Version, topic: &str) -> Vec<Vec<u8>> {
    let properties = if version == V5 {
        [prop::user("name", "value"), prop::u32(prop::MESSAGE_EXPIRY, 100)].concat()
    } else {
        Vec::new()
    };
    let will = Will::new(&format!("{topic}/will"), "gone");
    vec![
        // A number changed by chance must not be that of somebody else's client.
        Connect::new(version, &unique("hostile/")).with_will(will).bytes(),
        subscribe(version, 1, &[], &[(topic.as_bytes(), 2), (b"other/+/#", 0)]),
        Publish::new(topic, "nought").and(&properties).bytes(version),
        Publish::new(topic, "one").qos(1, 2).and(&properties).bytes(version),
        Publish::new(topic, "two").qos(2, 3).and(&properties).retain().bytes(version),
        ack(kind::PUBREL, 3, 0),
        PINGREQ.to_vec(),
        unsubscribe(version, 4, &["other/+/#"]),
        Publish::new(topic, "").qos(1, 5).retain().bytes(version),
    ]
}

/// Reads until the acknowledgement of the last message of a conversation.
#[track_caller]
fn hear_out(client: &mut Client) {
    let mut last = [kind::PUBACK, kind::PUBCOMP, kind::UNSUBACK, kind::SUBACK].to_vec();
    let mut acknowledged = 0;
    while !last.is_empty() {
        let packet = client.next();
        let found = packet.head >> 4;
        if found == kind::PUBACK {
            acknowledged += 1;
            if acknowledged < 2 {
                continue;
            }
        }
        last.retain(|kind| *kind != found);
    }
}

/// However the network cuts the stream, the same is understood.
#[test]
fn broker_31_packets_may_come_byte_by_byte() {
    for version in BOTH {
        let mut client = Client::open(version);
        for byte in conversation(version, &unique("torn/")).concat() {
            client.send(&[byte]);
        }
        assert_eq!(client.take_connack().reason, 0);
        hear_out(&mut client);
    }
}

#[test]
fn broker_31_many_packets_may_come_in_one_write() {
    for version in BOTH {
        let mut client = Client::open(version);
        client.send(&conversation(version, &unique("torn/")).concat());
        assert_eq!(client.take_connack().reason, 0);
        hear_out(&mut client);
        client.leave();
    }
}

/// A client that has sent all it wants and closes its half still hears the answers, or the end; its will is published.
#[test]
fn broker_31_half_closed_sockets_are_ends() {
    for version in BOTH {
        let topic = unique("half/");
        let mut witness = Client::connect(version);
        witness.subscribe(&format!("{topic}/will"), 0);
        let mut client = Client::open(version);
        client.send(&conversation(version, &topic)[..5].concat());
        assert_eq!(client.take_connack().reason, 0);
        client.wire.close_half();
        assert_eq!(client.wire.end(), End::Cut);
        assert_eq!(witness.take().payload, "gone");
    }
}

/// A packet that is begun and never finished holds up nobody else, and is no end as long as its time is not over.
#[test]
fn broker_31_half_a_packet_waits() {
    for version in BOTH {
        let mut client = Client::connect(version);
        let publish = Publish::new(&unique("late/"), "payload").qos(1, 9).bytes(version);
        let (half, rest) = publish.split_at(publish.len() / 2);
        client.send(half);
        let mut other = Client::connect(version);
        other.ping();
        assert_eq!(client.next_within(Duration::from_millis(200)), None);
        client.send(rest);
        client.expect_ack(kind::PUBACK, 9);
    }
}

/// Packets that make no sense now, and are no breach: an answer to nothing is passed over or answered in its kind.
#[test]
fn broker_31_answers_to_nothing() {
    for version in BOTH {
        let mut client = Client::connect(version);
        for id in [1, 2, 65_535] {
            client.send(&ack(kind::PUBACK, id, 0));
            client.send(&ack(kind::PUBCOMP, id, 0));
            client.ping();
            client.send(&ack(kind::PUBREL, id, 0));
            client.expect_ack(kind::PUBCOMP, id);
            client.send(&ack(kind::PUBREC, id, 0));
            client.expect_ack(kind::PUBREL, id);
        }
    }
}

/// One identifier for different things at once, as only a mixed-up client has it.
#[test]
fn broker_31_one_identifier_for_everything() {
    for version in BOTH {
        let topic = unique("mixed/");
        let mut client = Client::connect(version);
        let bytes = [
            subscribe(version, 7, &[], &[(topic.as_bytes(), 0)]),
            Publish::new(&topic, "two").qos(2, 7).bytes(version),
            Publish::new(&topic, "one").qos(1, 7).bytes(version),
            ack(kind::PUBREL, 7, 0),
            unsubscribe(version, 7, &[&topic]),
        ];
        client.send(&bytes.concat());
        let mut found = Vec::new();
        while !found.contains(&kind::UNSUBACK) || !found.contains(&kind::PUBCOMP) {
            found.push(client.next().head >> 4);
        }
        for kind in [kind::SUBACK, kind::PUBREC, kind::PUBACK] {
            assert!(found.contains(&kind), "{found:?}");
        }
        client.drain();
    }
}

/// Rolls a die with so many sides.
fn roll(random: &mut Random, sides: usize) -> usize {
    usize::try_from(random.below(sides as u64)).expect("below `sides`")
}

/// Changes a stream: bytes turned, cut out, doubled, thrown in, or packets in another order.
fn mutate(random: &mut Random, mut packets: Vec<Vec<u8>>) -> Vec<u8> {
    let mut roll = |sides| roll(random, sides);
    if roll(3) == 0 {
        let (one, other) = (roll(packets.len()), roll(packets.len()));
        packets.swap(one, other);
    }
    let mut stream = packets.concat();
    for _ in 0..=roll(4) {
        let at = roll(stream.len());
        let value = u8::try_from(roll(256)).expect("a byte");
        match roll(6) {
            0 => stream[at] = value,
            1 => stream[at] ^= 1 << roll(8),
            2 => stream.insert(at, value),
            3 => drop(stream.drain(at..stream.len().min(at + 1 + roll(8)))),
            4 => stream.extend_from_within(at..),
            _ => stream.truncate(at.max(1)),
        }
        if stream.is_empty() {
            stream.push(value);
        }
    }
    stream
}

/// Streams of the every-change tier; twenty times as many in the deep one.
const STREAMS: u64 = 400;

/// Memory that may stay behind after all of them.
const GROWTH_KIB_MAX: u64 = 24 * 1_024;

/// Streams that once were sound: the gateway lives, others go on, and what was held is given back.
#[test]
fn broker_31_random_changes_of_sound_streams() {
    let is_deep = std::env::var("TIDEGATE_TIER").is_ok_and(|tier| tier == "all");
    let count = if is_deep { 20 * STREAMS } else { STREAMS };
    let topic = unique("witness/");
    let mut witness = Client::connect(V5);
    witness.subscribe(&topic, 1);
    let before = server().memory_kib();
    for seed in 1..=count {
        let mut random = Random::new(seed);
        let version = BOTH[roll(&mut random, 2)];
        let mut packets = conversation(version, "mutated/topic");
        packets.push(disconnect(version, 0, &[]));
        let mut client = Client::open(version);
        client.send(&mutate(&mut random, packets));
        client.wire.close_half();
        // Whatever comes, its packets are whole and the connection ends.
        let ended = wait::within(wait::DEADLINE, || {
            matches!(client.wire.read(wait::DEADLINE), Err(End::Cut)).then_some(())
        });
        assert!(ended.is_some(), "seed {seed}: the connection stays");
        if seed % 100 == 0 {
            Client::connect(V5).publish(&Publish::new(&topic, "on").qos(1, 1));
            assert_eq!(witness.take().payload, "on", "seed {seed}");
        }
    }
    let after = server().memory_kib();
    assert!(after < before + GROWTH_KIB_MAX, "{before} KiB have become {after} KiB");
    assert_eq!(server().panics(), Vec::<String>::new());
}
