//! Persistent sessions of MQTT through kills: acknowledged is delivered, in order, and with quality of service 2 once
//! (broker.34, promises D2, D3, D6, D7).

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    gateway::Gateway,
    peer::Peer,
    ports,
    site::Site,
    wait,
    wire::{Hello, Wire},
};

/// Messages that each publisher has to get through at most.
const COUNT: u32 = 100_000;
/// Messages that wait for the session that is not there.
const QUEUED: u32 = 100_000;
/// How many publications the gateway is sent before it has acknowledged the first.
const WINDOW: u32 = 64;

/// Publishers: protocol version, quality of service, topic.
const PUBLISHERS: [(u8, u8, &str); 3] = [(4, 1, "line/a"), (5, 1, "line/b"), (5, 2, "line/c")];
/// Subscribers: protocol version and quality of service.
const SUBSCRIBERS: [(u8, u8); 4] = [(4, 1), (5, 1), (4, 2), (5, 2)];

fn site(mqtt: u16, more: &str) -> Site {
    Site::new(
        &format!(
            "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n\
             [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n{more}"
        ),
        &[],
    )
}

fn client_name(role: &str, version: u8, qos: u8) -> String {
    format!("{role}-{version}-{qos}")
}

fn connect(peer: &mut Peer, port: u16, version: u8, name: &str) {
    peer.ask(
        "connect",
        json!({
            "client": name, "client_id": name, "host": "127.0.0.1", "port": port, "version": version,
            "clean": false, "reconnect": true, "properties": {"SessionExpiryInterval": 3600},
        }),
    );
}

fn kills() -> u32 {
    if std::env::var("TIDEGATE_TIER").is_ok_and(|tier| tier == "all") { 100 } else { 10 }
}

/// The numbers that a subscriber got on a topic, in the order in which they came.
fn numbers(messages: &[Value], topic: &str) -> Vec<u64> {
    let own = messages.iter().filter(|message| message["topic"] == topic);
    let number = |message: &Value| message["payload"].as_str()?.parse().ok();
    own.map(|message| number(message).expect("its payload is a number")).collect()
}

/// broker.34: subscribers and publishers with persistent sessions through `kill -9`.
#[test]
fn broker_34_sessions_survive_kills_with_nothing_lost() {
    let port = ports::free_port();
    let mut gateway = Gateway::start(&site(port, ""));
    let mut readers = Peer::start("mqtt_client.py", &[]);
    for (version, qos) in SUBSCRIBERS {
        let name = client_name("reader", version, qos);
        connect(&mut readers, port, version, &name);
        readers.ask("subscribe", json!({"client": name, "filters": [["line/+", qos]]}));
    }
    let mut writers: Vec<(Peer, &str, u8)> = Vec::new();
    for (version, qos, topic) in PUBLISHERS {
        let name = client_name("writer", version, qos);
        let mut peer = Peer::start("mqtt_client.py", &[]);
        connect(&mut peer, port, version, &name);
        let series = json!({
            "name": "load", "client": name, "topic": topic, "qos": qos, "count": COUNT, "timeout": 60.0,
        });
        peer.ask("series", series);
        writers.push((peer, topic, qos));
    }
    for cycle in 0..kills() {
        // Moments between 60 and 440 ms, another one each time.
        std::thread::sleep(Duration::from_millis(u64::from(60 + cycle * 97 % 380)));
        gateway.kill9();
        gateway.start_again();
    }
    let acknowledged: Vec<(&str, u8, BTreeSet<u64>)> = writers
        .iter_mut()
        .map(|(peer, topic, qos)| {
            let state = peer.ask("series_stop", json!({"name": "load"}));
            let numbers = state["acked"].as_array().expect("a list of numbers");
            (*topic, *qos, numbers.iter().filter_map(Value::as_u64).collect())
        })
        .collect();
    for (version, qos) in SUBSCRIBERS {
        let name = client_name("reader", version, qos);
        let messages = wait::until("all that was acknowledged", || {
            let messages = readers.ask("messages", json!({"client": name}));
            let messages = messages.as_array().expect("a list of messages").clone();
            let is_complete = acknowledged.iter().all(|(topic, _, wanted)| {
                wanted.is_subset(&numbers(&messages, topic).into_iter().collect())
            });
            is_complete.then_some(messages)
        });
        for (topic, published_with, wanted) in &acknowledged {
            assert!(wanted.len() > 10, "{topic}: too little was acknowledged: {}", wanted.len());
            let came = numbers(&messages, topic);
            let mut seen = BTreeSet::new();
            let first: Vec<u64> = came.iter().copied().filter(|it| seen.insert(*it)).collect();
            assert!(first.is_sorted(), "{name} got {topic} out of order");
            let twice = came.len() - first.len();
            println!("{name}, {topic}: {} acknowledged, {twice} twice", wanted.len());
            if (qos, *published_with) == (2, 2) {
                assert_eq!(twice, 0, "{name} got {topic} more than once");
            }
        }
    }
}

/// Publishes messages of quality of service 1, [`WINDOW`] at a time, and waits for each acknowledgement.
fn publish_all(publisher: &mut Wire, topic: &str, count: u32) {
    let mut batch = Vec::new();
    for first in (0..count).step_by(WINDOW as usize) {
        let last = count.min(first + WINDOW);
        batch.clear();
        for number in first..last {
            let packet_id = u16::try_from(number - first + 1).expect("the window is small");
            let text = number.to_string();
            batch.extend(publisher.publish_packet(topic.as_bytes(), &text, 1, packet_id, &[]));
        }
        publisher.send(&batch);
        for _ in first..last {
            let acknowledgement = publisher.expect(4);
            let reason = acknowledgement.body.get(2).copied().unwrap_or(0);
            assert_eq!(reason, 0, "message {first} and those behind it");
        }
    }
}

/// broker.34: 100,000 messages wait for a session that is not there, through `kill -9`: all come, in order, once but
/// for those in flight.
#[test]
fn broker_34_a_long_queue_survives_a_kill() {
    let port = ports::free_port();
    let limits =
        "[limits.mqtt]\nsession-queue-messages = 200000\nsession-queue-bytes = \"256MiB\"\n";
    let mut gateway = Gateway::start(&site(port, limits));
    let absent = Hello {
        version: 5,
        client_id: "absent",
        clean: false,
        expiry: 3_600,
        login: None,
        will: None,
    };
    let (mut reader, _) = Wire::connect(port, &absent);
    reader.subscribe("deep/#", 1);
    drop(reader);
    let writer = Hello { client_id: "writer", clean: true, expiry: 0, ..absent.clone() };
    let (mut writer, _) = Wire::connect(port, &writer);
    let begun = Instant::now();
    publish_all(&mut writer, "deep/queue", QUEUED);
    let published = begun.elapsed();
    gateway.kill9();
    gateway.start_again();
    let ready = gateway.ready_after();

    let begun = Instant::now();
    let mut came: Vec<u32> = Vec::new();
    for (end, then) in
        [(QUEUED / 3, Then::Leave), (2 * QUEUED / 3, Then::Kill), (QUEUED, Then::Stay)]
    {
        let (mut reader, is_present) = Wire::connect(port, &absent);
        assert!(is_present, "the session is there (D10)");
        let got = take(&mut reader, end, came.last().copied());
        // What was in flight may come once more.
        let (next, first) = (came.last().map_or(0, |last| last + 1), got.first().copied());
        let again = next.checked_sub(first.unwrap_or(next)).expect("nothing is left out");
        assert!(again <= WINDOW, "{again} came twice");
        came.truncate(came.len() - again as usize);
        came.extend(got);
        match then {
            Then::Leave | Then::Stay => {}
            Then::Kill => {
                await_noted(&mut reader);
                gateway.kill9();
                gateway.start_again();
            }
        }
    }
    println!(
        "{QUEUED} messages: published in {published:?}, ready {ready:?} after the kill, drained in {:?}",
        begun.elapsed()
    );
    assert_eq!(came, (0..QUEUED).collect::<Vec<_>>(), "all of them, in order");
}

/// What ends a part of the draining.
#[derive(Clone, Copy, Debug)]
enum Then {
    Leave,
    Kill,
    Stay,
}

/// Waits until the journal knows what a reader has acknowledged, which it hears of with one of the next syncs (D6): by
/// the answer to a ping the broker has passed it on, and by a SUBACK behind that it is on disk (D8).
fn await_noted(reader: &mut Wire) {
    reader.send(&[0xc0, 0]);
    reader.expect(13);
    assert_eq!(reader.subscribe("deep/#", 1), 1);
}

/// Takes messages up to the number `end`, and checks that they follow each other.
fn take(reader: &mut Wire, end: u32, last: Option<u32>) -> Vec<u32> {
    let mut came: Vec<u32> = Vec::new();
    while came.last().copied().or(last).is_none_or(|last| last + 1 < end) {
        let message = reader.message(wait::DEADLINE).expect("the next message comes");
        let number = message.payload.parse().expect("it is a number");
        assert!(
            came.last().is_none_or(|last| number == last + 1),
            "{number} after {:?}",
            came.last()
        );
        reader.acknowledge(4, message.packet_id);
        came.push(number);
    }
    came
}
