//! `[limits] memory-ceiling` with the real binary: it refuses with the right codes, stays below, and recovers
//! (broker.12).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    crowd::Crowds,
    gateway::Gateway,
    ports,
    rules::memory,
    site::Site,
    wait,
    wire::{Hello, Wire},
};

/// The ceiling in this test, in MiB.
const CEILING: u64 = 96;
/// Sessions that do not read what waits for them.
const SESSIONS: usize = 12;
const PAYLOAD: usize = 16 << 10;

fn hello(version: u8, client_id: &str) -> Hello<'_> {
    Hello { version, client_id, clean: false, expiry: 3_600, login: None, will: None }
}

fn name(session: usize) -> String {
    format!("absent-{session}")
}

fn pressure(gateway: &Gateway) -> (String, Value) {
    let memory = gateway.status(&[])["memory"].clone();
    (memory["pressure"].as_str().expect("a word").to_owned(), memory)
}

/// Publishes to the sessions in turn until that is refused. Returns how many were taken, and the reason.
fn publish_until_refused(writer: &mut Wire) -> (usize, u8) {
    let payload = "x".repeat(PAYLOAD);
    for count in 0.. {
        let reason = writer.publish(&format!("queue/{}", count % SESSIONS), &payload);
        if reason != 0 {
            return (count, reason);
        }
        assert!(count < 100_000, "nothing is ever refused");
    }
    unreachable!("the loop has no end")
}

/// broker.12: near the ceiling messages and clients are refused; sessions are drained, and then all is as before.
#[test]
fn broker_12_the_memory_ceiling_refuses_and_recovers() {
    let port = ports::free_port();
    let config = format!(
        "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{port}\"]\nanonymous = true\n\
         [limits]\nmemory-ceiling = \"{CEILING}MiB\"\n"
    );
    let gateway = Gateway::start(&Site::new(&config, &[]));
    for session in 0..SESSIONS {
        let (mut wire, _) = Wire::connect(port, &hello(5, &name(session)));
        assert_eq!(wire.subscribe(&format!("queue/{session}"), 1), 1);
    }
    let (mut writer, _) = Wire::connect(port, &hello(5, "writer"));
    let (taken, reason) = publish_until_refused(&mut writer);
    let (word, shown) = pressure(&gateway);
    println!("{taken} messages were taken, then {shown}");
    assert_eq!(reason, 0x97, "quota exceeded");
    assert_eq!(word, "full", "{shown}");

    let (_, refused) = Wire::try_connect(port, &hello(5, "stranger"));
    assert_eq!(refused, Err(0x89), "server busy");
    let (_, refused) = Wire::try_connect(port, &hello(4, "old stranger"));
    assert_eq!(refused, Err(3), "server unavailable");
    // Quality of service 0 promises nothing and is dropped; nothing of it breaks the connection.
    writer.send_publish("queue/0", "dropped", 0, 0);
    assert_eq!(writer.publish("queue/0", "still full"), 0x97);

    // Whoever has a session is let in and takes what waits for it.
    let mut drained = 0;
    for session in 0..SESSIONS {
        let (mut wire, is_present) = Wire::connect(port, &hello(5, &name(session)));
        assert!(is_present);
        drained += wire.messages(Duration::from_millis(500)).len();
    }
    assert_eq!(drained, taken, "what was acknowledged came");
    wait::until("memory to be free", || (pressure(&gateway).0 == "free").then_some(()));
    assert_eq!(writer.publish("queue/0", "welcome"), 0);
    Wire::connect(port, &hello(5, "stranger"));

    let (_, shown) = pressure(&gateway);
    assert_eq!(shown["refused"]["clients"], 2, "{shown}");
    assert_eq!(shown["refused"]["messages"], 3, "{shown}");
    let peak = memory(gateway.id(), "VmHWM");
    println!("at most {peak} KiB of {}", CEILING << 10);
    assert!(peak < CEILING << 10, "{peak} KiB were in use");
    let tight = |line: &String| line.contains("Memory is tight");
    let told = gateway.output().lines().iter().filter(|line| tight(line)).count();
    assert_eq!(told, 1, "it is told once");
}

/// Returns how many of a crowd are left, and how many have ended.
fn left(crowds: &mut Crowds, name: &str) -> (u64, u64) {
    let report = crowds.report(name);
    let number = |key: &str| report[key].as_u64().expect("a number");
    (number("open"), number("ended"))
}

/// broker.12: near the ceiling the newest 32 connections without a login stay, and who has a session comes through.
#[test]
fn broker_12_near_the_ceiling_few_strangers_stay() {
    let [port, websocket] = std::array::from_fn(|_| ports::free_port());
    let config = format!(
        "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{port}\"]\nanonymous = true\n\
         [mqtt.websocket]\nlisten = [\"127.0.0.1:{websocket}\"]\n\
         [limits]\nmemory-ceiling = \"{CEILING}MiB\"\n\
         [limits.net]\nconnect-deadline = \"10m\"\n"
    );
    let gateway = Gateway::start(&Site::new(&config, &[]));
    for session in 0..SESSIONS {
        let (mut wire, _) = Wire::connect(port, &hello(5, &name(session)));
        assert_eq!(wire.subscribe(&format!("queue/{session}"), 1), 1);
    }
    let mut crowds = Crowds::start();
    let open = || gateway.status(&[])["broker"]["connections"].as_u64();
    // In the middle of a handshake, and before CONNECT. The gateway has to have taken the older ones first: what is
    // ready for the peer may still wait to be accepted, and the listeners do not wait for each other.
    for (crowd, port, all) in [("first", websocket, 60), ("second", port, 120)] {
        crowds.gather(crowd, "silent", port, 60, json!({}));
        crowds.ready(crowd);
        wait::until("all to be taken", || (open() >= Some(all)).then_some(()));
    }
    assert_eq!(pressure(&gateway).1["refused"]["connections"], 0, "there is room for all");

    let (mut writer, _) = Wire::connect(port, &hello(5, "writer"));
    publish_until_refused(&mut writer);
    wait::until("most of them to go", || {
        (left(&mut crowds, "first").0 == 0 && left(&mut crowds, "second").0 == 32).then_some(())
    });
    crowds.gather("third", "silent", websocket, 20, json!({}));
    crowds.ready("third");
    wait::until("older ones to go for them", || {
        (left(&mut crowds, "second").0 == 12 && left(&mut crowds, "third").0 == 20).then_some(())
    });
    assert_eq!(pressure(&gateway).0, "full", "all the while");
    for session in 0..SESSIONS {
        let (mut wire, is_present) = Wire::connect(port, &hello(5, &name(session)));
        assert!(is_present, "whoever has a session comes through");
        wire.messages(Duration::from_millis(500));
    }
    wait::until("memory to be free", || (pressure(&gateway).0 == "free").then_some(()));
    let ended: u64 = ["first", "second", "third"].map(|it| left(&mut crowds, it).1).iter().sum();
    assert_eq!(pressure(&gateway).1["refused"]["connections"], ended, "the exact number");
    crowds.gather("fourth", "silent", port, 60, json!({}));
    crowds.ready("fourth");
    wait::until("them to be taken", || (open() >= Some(60 + 20)).then_some(()));
    assert_eq!(left(&mut crowds, "fourth"), (60, 0), "there is room again");
}
