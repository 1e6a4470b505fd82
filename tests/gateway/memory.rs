//! `[limits] memory-ceiling` with the real binary: it refuses with the right codes, stays below, and recovers
//! (broker.12).

use std::time::Duration;

use serde_json::Value;

use crate::support::{
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
