//! M13: somebody else's client identifier.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    figure,
    plant::{Plant, access},
};
use crate::support::wire::{End, Hello, Wire};

const QUIET: Duration = Duration::from_millis(300);
const HOUR: u32 = 3_600;

/// How often a second one session may change hands.
const TAKEOVERS_MAX: u64 = 10;

fn plant() -> Plant {
    let shared = ["shared/#", "wills/#"];
    let access = ["alice", "bob"].map(|name| access(name, &shared));
    Plant::start(
        &access.concat(),
        &format!("[limits.mqtt]\nmax-takeovers-per-second = {TAKEOVERS_MAX}\n"),
    )
}

/// M13: a session belongs to a principal and a client identifier; nobody else's name reaches it.
#[test]
fn fault_m13_client_id_hijack() {
    let plant = plant();
    let rules = plant.note();
    let mut watcher = plant.connect("operator", "watcher");
    assert_eq!(watcher.subscribe("wills/#", 1), 1);
    let mut operator = plant.connect("operator", "operator");
    let alices = Hello {
        clean: false,
        expiry: HOUR,
        will: Some(("wills/alice", "alice is gone")),
        ..plant.hello("alice", "same")
    };
    let (mut alice, present) = Wire::connect(plant.mqtt, &alices);
    assert!(!present);
    assert_eq!(alice.subscribe("shared/#", 2), 2);

    // Alice has one message in flight, and is there; Bob comes with her name in every way.
    assert_eq!(operator.publish("shared/1", "1"), 0);
    let first = alice.message(QUIET).expect("the first message");
    assert_eq!((first.topic.as_str(), first.qos), ("shared/1", 1));
    // The last time he finds a session, and it is his own.
    for (clean, is_present) in [(false, false), (true, false), (false, true)] {
        let will = Some(("wills/bob", "bob is gone"));
        let bobs = Hello { clean, expiry: HOUR, will, ..plant.hello("bob", "same") };
        let (mut bob, present) = Wire::connect(plant.mqtt, &bobs);
        assert_eq!(present, is_present);
        assert_eq!(bob.messages(QUIET), [], "nothing of hers");
        // A PUBACK for what is in flight to her.
        bob.acknowledge(4, first.packet_id);
        bob.send(&[0xe0, 0]);
        assert_eq!(bob.end(), End::Cut);
        assert_eq!(alice.subscribe("shared/#", 2), 2, "she is there");
    }
    drop(alice);
    let will = watcher.message(QUIET * 10).expect("her will, for she has broken off");
    assert_eq!(will.topic, "wills/alice");

    // Alice is away; what waits for her is hers.
    assert_eq!(operator.publish("shared/2", "2"), 0);
    let bobs = Hello { clean: false, expiry: HOUR, ..plant.hello("bob", "same") };
    let (mut bob, _) = Wire::connect(plant.mqtt, &bobs);
    assert_eq!(bob.messages(QUIET), []);
    bob.send(&[0xe0, 0]);
    let (mut alice, present) = Wire::connect(plant.mqtt, &alices);
    assert!(present);
    let got = alice.messages(QUIET);
    let shown: Vec<_> = got.iter().map(|message| (message.topic.as_str(), message.dup)).collect();
    assert_eq!(shown, [("shared/1", true), ("shared/2", false)]);
    alice.send(&[0xe0, 0]);
    assert_eq!(alice.end(), End::Cut);
    assert_eq!(watcher.messages(QUIET), [], "whoever says good-bye leaves no will");
    drop((operator, watcher, bob));
    rules.check(&plant.gateway);
}

/// M13: a takeover by the same principal tells the old connection and loses nothing; its rate is limited.
#[test]
fn fault_m13_takeovers_lose_nothing_and_are_limited() {
    let plant = plant();
    let rules = plant.note();
    let mut operator = plant.connect("operator", "operator");
    let hello = Hello { clean: false, expiry: HOUR, ..plant.hello("alice", "fought-for") };
    let older = Hello { version: 4, ..hello.clone() };
    let (mut first, _) = Wire::connect(plant.mqtt, &older);
    assert_eq!(first.subscribe("shared/#", 1), 1);
    let (mut second, present) = Wire::connect(plant.mqtt, &hello);
    assert!(present);
    assert_eq!(first.end(), End::Cut, "3.1.1 has no word for it");
    let (third, present) = Wire::connect(plant.mqtt, &hello);
    assert!(present);
    assert_eq!(second.end(), End::Told(0x8e));

    let mut holder = third;
    let (mut sent, mut received) = (BTreeSet::new(), BTreeSet::new());
    let (mut takeovers, mut refused) = (0_u64, 0_u64);
    let start = Instant::now();
    while start.elapsed() < figure(Duration::from_secs(3), Duration::from_secs(30)) {
        let number = sent.len().to_string();
        assert_eq!(operator.publish("shared/n", &number), 0);
        sent.insert(number);
        let (wire, result) = Wire::try_connect(plant.mqtt, &hello);
        match result {
            Ok(present) => {
                assert!(present);
                // What the holder before had read is its own; it acknowledged none of it.
                holder = wire;
                takeovers += 1;
            }
            Err(reason) => {
                assert_eq!(reason, 0x9f, "connection rate exceeded");
                refused += 1;
            }
        }
        // Now and then somebody acknowledges.
        if sent.len() % 5 == 0 {
            received
                .extend(holder.messages(Duration::from_millis(5)).into_iter().map(|m| m.payload));
        }
    }
    let seconds = start.elapsed().as_secs() + 2;
    println!("{takeovers} takeovers and {refused} refused in {:?}", start.elapsed());
    assert!(takeovers > 0 && refused > 0 && takeovers <= seconds * TAKEOVERS_MAX);
    assert_eq!(plant.count("takeovers-refused"), refused, "G6: the exact number");
    received.extend(holder.messages(Duration::from_secs(1)).into_iter().map(|m| m.payload));
    assert_eq!(received, sent, "G1: acked {}, received {}", sent.len(), received.len());
    drop((operator, holder));
    rules.check(&plant.gateway);
}
