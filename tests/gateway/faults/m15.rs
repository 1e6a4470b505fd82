//! M15: rights and accounts taken away from those who are connected.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::plant::{Plant, access};
use crate::support::{
    programs, wait,
    wire::{End, Hello, Wire},
};

const QUIET: Duration = Duration::from_millis(300);
const HOUR: u32 = 3_600;

/// Within which a change acts (promise C8).
const ACTS_WITHIN: Duration = Duration::from_secs(1);

/// M15, C8: a grant is withdrawn under subscriptions, a queue, exchanges of QoS 2 both ways and a will.
#[test]
fn fault_m15_rights_withdrawn_while_connected() {
    let all = access("alice", &["a/#", "b/#"]);
    let some = access("alice", &["b/#"]);
    let mut plant = Plant::start(&all, "");
    let rules = plant.note();
    let mut operator = plant.connect("operator", "operator");
    let mut watcher = plant.connect("operator", "watcher");
    assert_eq!(watcher.subscribe("a/will", 1), 1);
    let will = Some(("a/will", "alice is gone"));
    let token = plant.token("alice").to_owned();
    let login = Some(("alice", token.as_str()));
    let hello =
        Hello { login, client_id: "alice", clean: false, expiry: HOUR, will, ..Hello::default() };
    let (mut alice, _) = Wire::connect(plant.mqtt, &hello);
    assert_eq!(alice.subscribe("a/#", 2), 2);
    assert_eq!(alice.subscribe("b/#", 2), 2);
    publish_numbers(&mut operator);
    let first = alice.message(wait::DEADLINE).expect("the first message");
    assert_eq!((first.topic.as_str(), first.qos), ("a/n", 2));
    alice.messages(QUIET);
    // An exchange of hers is under way: PUBREC has come, PUBREL not gone.
    alice.send_publish("a/mine", "1", 2, 77);
    assert_eq!(alice.expect(5).body[..2], 77_u16.to_be_bytes());

    let mut times = Vec::new();
    for _ in 0..3 {
        plant.change(&all, &[]);
        let start = Instant::now();
        plant.rewrite(&some, &[]);
        let mut probe = plant.connect("alice", "probe");
        wait::until("the right to be gone", || {
            (probe.publish("a/probe", "1") == 0x87).then_some(())
        });
        times.push(start.elapsed());
    }
    times.sort();
    println!("the change acts after {times:?}");
    assert!(times[1] <= ACTS_WITHIN, "C8: {times:?}");

    // The exchange that began before ends; a new one is refused.
    alice.acknowledge(6, 77);
    assert_eq!(alice.expect(7).body[..2], 77_u16.to_be_bytes());
    alice.send_publish("a/mine", "2", 2, 78);
    assert_eq!(alice.expect(5).body, [0, 78, 0x87]);
    assert!(operator.publish("a/live", "1") < 0x80, "taken, and nobody may have it");
    assert_eq!(alice.messages(QUIET), []);
    // What was in flight goes on, and what waited is withheld: only `b` comes.
    alice.acknowledge(5, first.packet_id);
    alice.expect(6);
    alice.acknowledge(7, first.packet_id);
    let next = alice.messages(QUIET);
    assert!(!next.is_empty() && next.iter().all(|m| m.topic == "b/n"), "{next:?}");

    // She breaks off: no will, and what she had in flight is not sent again.
    let denied = plant.count("denied/alice");
    drop(alice);
    wait::until("the will to be dropped", || (plant.count("wills-dropped") == 1).then_some(()));
    let without_will = Hello { will: None, ..hello.clone() };
    let (_, refused) = Wire::try_connect(plant.mqtt, &hello);
    assert_eq!(refused, Err(0x87), "a will she may not have");
    let (mut alice, present) = Wire::connect(plant.mqtt, &without_will);
    assert!(present);
    let numbers = finish_exchanges(&mut alice);
    let odd: Vec<String> = (0..100).filter(|n| n % 2 == 1).map(|n| n.to_string()).collect();
    assert_eq!(numbers, odd, "G1: all that she may have came");
    assert!(plant.count("denied/alice") > denied + 1, "counted");
    assert_eq!(watcher.messages(QUIET), [], "no will");
    assert_eq!(plant.count("queued"), 0);
    drop((alice, operator, watcher));
    rules.check(&plant.gateway);
}

/// More messages than may be in flight, half of them on either topic: the rest waits.
fn publish_numbers(operator: &mut Wire) {
    for number in 0..100 {
        let topic = if number % 2 == 0 { "a/n" } else { "b/n" };
        operator.send_publish(topic, &number.to_string(), 2, number + 1);
        operator.expect(5);
        operator.acknowledge(6, number + 1);
        operator.expect(7);
    }
}

/// Ends what is in flight and takes what waits until nothing comes any more; returns the numbers, each once.
///
/// Messages come on `b/n` alone.
fn finish_exchanges(alice: &mut Wire) -> Vec<String> {
    let mut numbers = BTreeSet::new();
    while let Ok(Some(packet)) = alice.read(QUIET) {
        let (kind, packet_id) = match packet.head >> 4 {
            3 => {
                let (topic, rest) = packet.body[2..].split_at(3);
                assert_eq!(topic, b"b/n", "only what she may have");
                let payload = String::from_utf8_lossy(&rest[3..]);
                numbers.insert(payload.parse::<u32>().expect("a number"));
                (5, [rest[0], rest[1]])
            }
            6 => (7, [packet.body[0], packet.body[1]]),
            other => panic!("a packet of type {other}"),
        };
        alice.acknowledge(kind, u16::from_be_bytes(packet_id));
    }
    numbers.into_iter().map(|number| number.to_string()).collect()
}

/// M15: of an account that was removed while the gateway was down nothing is published either, though its rules are
/// still there; the will of another one is.
#[test]
fn fault_m15_a_principal_is_removed_while_the_gateway_is_down() {
    let all = [access("alice", &["a/#"]), access("bob", &["a/#"])].concat();
    let mut plant = Plant::start(&all, "");
    let operator = plant.token("operator").to_owned();
    let watching = Hello {
        login: Some(("operator", &operator)),
        client_id: "watcher",
        clean: false,
        expiry: HOUR,
        ..Hello::default()
    };
    let (mut watcher, _) = Wire::connect(plant.mqtt, &watching);
    assert_eq!(watcher.subscribe("a/#", 1), 1);
    let accounts = ["alice", "bob"].map(|name| (name, plant.token(name).to_owned()));
    let clients = accounts.each_ref().map(|(name, token)| {
        let will = Some(("a/will", *name));
        let login = Some((*name, token.as_str()));
        let hello =
            Hello { login, client_id: name, clean: false, expiry: HOUR, will, ..Hello::default() };
        Wire::connect(plant.mqtt, &hello).0
    });
    plant.gateway.kill9();
    drop((clients, watcher));
    plant.rewrite(&all, &["alice"]);
    plant.gateway.start_again();
    let (mut watcher, is_present) = Wire::connect(plant.mqtt, &watching);
    assert!(is_present);
    let will = watcher.message(wait::DEADLINE).expect("bob's will");
    assert_eq!((will.topic.as_str(), will.payload.as_str()), ("a/will", "bob"));
    assert_eq!(watcher.messages(QUIET), [], "nothing of alice");
}

/// M15: an account is removed under its connections: they are closed with 0x87, and nothing comes from them any more.
#[test]
fn fault_m15_a_principal_is_removed_while_connected() {
    let all = access("alice", &["a/#"]);
    let mut plant = Plant::start(&all, "");
    let rules = plant.note().with_password_checks();
    let mut watcher = plant.connect("operator", "watcher");
    assert_eq!(watcher.subscribe("a/#", 1), 1);
    let token = plant.token("alice").to_owned();
    let login = Some(("alice", token.as_str()));
    let will = Some(("a/will", "alice is gone"));
    let five =
        Hello { login, client_id: "five", clean: false, expiry: HOUR, will, ..Hello::default() };
    let four = Hello { version: 4, client_id: "four", ..five.clone() };
    let (mut first, _) = Wire::connect(plant.mqtt, &five);
    let (mut second, _) = Wire::connect(plant.mqtt, &four);
    first.send_publish("a/begun", "1", 2, 5);
    first.expect(5);
    assert_eq!(
        watcher.message(wait::DEADLINE).expect("what was taken is published").topic,
        "a/begun"
    );
    let post = |token: &str| {
        let url = format!("http://127.0.0.1:{}/v1/topics/a/web", plant.http);
        let bearer = format!("Authorization: Bearer {token}");
        programs::curl(&["-H", &bearer, "-d", "1", &url]).0
    };
    assert_eq!(post(&token), 201);
    assert_eq!(watcher.message(wait::DEADLINE).expect("a message").topic, "a/web");

    let start = Instant::now();
    plant.rewrite(&all, &["alice"]);
    assert_eq!(first.end(), End::Told(0x87));
    println!("closed after {:?}", start.elapsed());
    assert_eq!(second.end(), End::Cut);
    for hello in [&five, &four] {
        let (_, refused) = Wire::try_connect(plant.mqtt, hello);
        assert_eq!(refused, Err(if hello.version == 5 { 0x86 } else { 4 }));
    }
    let post = |token: &str| {
        let url = format!("http://127.0.0.1:{}/v1/topics/a/web", plant.http);
        let bearer = format!("Authorization: Bearer {token}");
        programs::curl(&["-H", &bearer, "-d", "1", &url]).0
    };
    assert_eq!(post(&token), 401);
    assert_eq!(watcher.messages(QUIET), [], "no will, nothing");
    drop((first, second, watcher));
    rules.check(&plant.gateway);
}
