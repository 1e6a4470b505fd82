//! M16: strings that are none.

use std::time::Duration;

use super::plant::{Plant, access};
use crate::support::{
    wait,
    wire::{End, Wire, binary, packet, string},
};

const QUIET: Duration = Duration::from_millis(300);

/// A string that is broken, and what breaks it.
fn broken() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a byte that begins nothing", b"ok/\xff".to_vec()),
        ("a sequence cut off", b"ok/\xe2\x82".to_vec()),
        ("an overlong slash", b"ok\xc0\xafa".to_vec()),
        ("a surrogate", b"ok/\xed\xa0\x80".to_vec()),
        ("two surrogates", b"ok/\xed\xa0\xbd\xed\xb8\x80".to_vec()),
        ("beyond the last character", b"ok/\xf4\x90\x80\x80".to_vec()),
        ("U+0000", b"ok/\0".to_vec()),
    ]
}

/// Makes a packet for a connection of its version.
type Maker = Box<dyn Fn(&Wire) -> Vec<u8>>;

/// What comes of a packet: MQTT 5 is told why, 3.1.1 is cut off.
struct Case {
    name: String,
    reason: u8,
    packet: Maker,
}

fn case(name: impl Into<String>, reason: u8, packet: impl Fn(&Wire) -> Vec<u8> + 'static) -> Case {
    Case { name: name.into(), reason, packet: Box::new(packet) }
}

fn subscribe(version: u8, filter: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    packet(0x82, &[&[0, 9][..], properties, &binary(filter), &[1]].concat())
}

fn cases(version: u8) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text) in broken() {
        let (topic, filter) = (text.clone(), text);
        // MQTT-1.5.4-1 and -2: malformed, U+0000 too.
        cases.push(case(format!("topic: {name}"), 0x81, move |wire| {
            wire.publish_packet(&topic, "x", 1, 3, &[])
        }));
        cases.push(case(format!("filter: {name}"), 0x81, move |_| subscribe(version, &filter)));
    }
    for (topic, reason) in [("ok/+", 0x90), ("ok/#", 0x90), ("ok/a#", 0x90), ("", 0x82)] {
        cases.push(case(format!("topic {topic:?}"), reason, move |wire| {
            wire.publish_packet(topic.as_bytes(), "x", 1, 3, &[])
        }));
    }
    for (name, topic) in [
        ("long", "x".repeat(65_535)),
        ("above the limit", "x".repeat(4_097)),
        ("deep", "/".repeat(64)),
    ] {
        let filter = topic.clone();
        cases.push(case(format!("{name} topic"), 0x90, move |wire| {
            wire.publish_packet(topic.as_bytes(), "x", 1, 3, &[])
        }));
        cases.push(case(format!("{name} filter"), 0x8f, move |_| {
            subscribe(version, filter.as_bytes())
        }));
    }
    for filter in ["", "ok/#/a", "ok/a#", "ok/a+", "ok/+a/b"] {
        cases.push(case(format!("filter {filter:?}"), 0x8f, move |_| {
            subscribe(version, filter.as_bytes())
        }));
    }
    if version == 5 {
        for filter in ["$share//t", "$share/g", "$share/g/", "$share/g+/t", "$share/#/t"] {
            cases.push(case(format!("filter {filter:?}"), 0x8f, move |_| {
                subscribe(version, filter.as_bytes())
            }));
        }
        for alias in [0_u16, 33, 65_535] {
            cases.push(case(format!("alias {alias}"), 0x94, move |wire| {
                let property = [&[0x23][..], &alias.to_be_bytes()].concat();
                wire.publish_packet(b"ok/a", "x", 1, 3, &property)
            }));
        }
        cases.push(case("an alias that was never set", 0x82, |wire| {
            wire.publish_packet(b"", "x", 1, 3, &[0x23, 0, 5])
        }));
        cases.push(case("a user property that is none", 0x81, |wire| {
            let property = [&[0x26][..], &binary(b"\xff"), &string("x")].concat();
            wire.publish_packet(b"ok/a", "x", 1, 3, &property)
        }));
        cases.push(case("a response topic with a wildcard", 0x90, |wire| {
            let property = [&[0x08][..], &string("ok/+")].concat();
            wire.publish_packet(b"ok/a", "x", 1, 3, &property)
        }));
    }
    cases
}

/// M16: each is answered as the standard says, and nothing of it gets further than the decoder.
#[test]
fn fault_m16_bad_strings() {
    let mut plant = Plant::start(&access("eve", &["ok/#", "#"]), "");
    plant.gateway.terminate();
    plant.gateway.set("TIDEGATE_LOG", "debug");
    plant.gateway.start_again();
    let mut watcher = plant.connect("operator", "watcher");
    assert_eq!(watcher.subscribe("#", 1), 1);
    let mut count = 0;
    for version in [4, 5] {
        for Case { name, reason, packet } in cases(version) {
            let hello = crate::support::wire::Hello { version, ..plant.hello("eve", "bad") };
            let (mut wire, _) = Wire::connect(plant.mqtt, &hello);
            let bytes = packet(&wire);
            wire.send(&bytes);
            let expected = if version == 5 { End::Told(reason) } else { End::Cut };
            assert_eq!(wire.end(), expected, "version {version}, {name}");
            count += 1;
        }
        count += connects(&plant, version);
    }
    println!("{count} bad strings");
    assert_eq!(plant.count("protocol-errors"), count, "G6: the exact number");

    // A byte order mark and control characters are characters: they pass, unchanged, and are escaped in the log.
    let mut eve = plant.connect("eve", "bad\u{1b}[31m\u{7f}\u{85}\u{2028}id");
    for topic in ["\u{feff}ok/a", "ok/\u{1b}[31mred", "ok/new\nline"] {
        assert_eq!(eve.publish(topic, "1"), 0, "{topic:?}");
        let message = watcher.message(wait::DEADLINE).expect("a message");
        assert_eq!((message.topic.as_str(), message.payload.as_str()), (topic, "1"));
    }
    // Breaking the protocol as that client brings it into the log.
    eve.send(&[0xf1, 0]);
    eve.end();
    assert_eq!(watcher.messages(QUIET), [], "nothing else got through");
    let log = plant.gateway.output().lines();
    let raw = log.iter().find(|line| {
        line.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{feff}' | '\u{fffd}'))
    });
    assert_eq!(raw, None, "escaped");
    assert!(log.iter().any(|line| line.contains("broke the protocol")), "it is in the log");
    assert!(log.iter().all(|line| !line.contains("panicked")), "G5");
}

/// The same in a CONNECT, before anybody has logged in: 3.1.1 and 5 are cut off or told.
fn connects(plant: &Plant, version: u8) -> u64 {
    let head = [&string("MQTT")[..], &[version, 0xc2, 0, 60]].concat();
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    let mut count = 0;
    for (name, text) in broken() {
        for place in 0..3 {
            let field = |at| if at == place { binary(&text) } else { string("eve") };
            // The password is binary data, and has no characters.
            let strings = [field(0), field(1), string("x")].concat();
            let body = if place < 2 {
                [&head, properties, &strings].concat()
            } else {
                [&binary(&text)[..], &[version, 2, 0, 60], properties, &string("x")].concat()
            };
            let mut wire = Wire::open(plant.mqtt, version);
            wire.send(&packet(0x10, &body));
            match wire.read(wait::DEADLINE) {
                Err(End::Cut) => {}
                Ok(Some(answer)) => {
                    assert_eq!(answer.head, 0x20, "{name} {place}: {answer:?}");
                    assert!(answer.body[1] != 0, "{name} {place}");
                    assert_eq!(wire.end(), End::Cut);
                }
                other => panic!("{name} {place}: {other:?}"),
            }
            count += 1;
        }
    }
    count
}
