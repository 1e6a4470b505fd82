//! S15, little memory: a control group that bounds it.

use std::{thread, time::Duration};

use crate::support::{
    group::MemoryGroup,
    rules::memory,
    wire::{Hello, Wire},
};

use super::lines::Lines;

/// What the gateway may have above what it has when idle, in bytes.
const ABOVE_IDLE: u64 = 64 << 20;
/// Clients that do not come for what waits for them.
const SESSIONS: u64 = 12;
const WRITERS: u64 = 5;
const PAYLOAD: usize = 16 << 10;
/// Refusals that each writer has to hear.
const REFUSED: u64 = 200;

fn absent(session: u64) -> String {
    format!("absent-{session}")
}

/// Publishes to the sessions as fast as it is answered, whatever the answer, and returns how many were taken.
fn drive(port: u16, writer: u64) -> u64 {
    let client_id = format!("writer-{writer}");
    let hello = Hello { client_id: &client_id, clean: false, expiry: 3_600, ..Hello::default() };
    let (mut wire, _) = Wire::connect(port, &hello);
    let payload = "x".repeat(PAYLOAD);
    let (mut taken, mut refused) = (0, 0);
    for number in 0..100_000 {
        match wire.publish(&format!("plant/{}", (number + writer) % SESSIONS), &payload) {
            0 => taken += 1,
            0x97 => refused += 1,
            other => panic!("an answer that was not expected: {other:#x}"),
        }
        if refused == REFUSED {
            return taken;
        }
    }
    panic!("writer {writer} was refused {refused} times of 100,000, {taken} were taken")
}

/// S15: in a group that bounds its memory 64 MiB above idle use the gateway refuses before the kernel ends it, and what it
/// has acknowledged comes, to the uplink and to clients that come back.
#[test]
fn uplink_43_fault_s15_a_group_with_little_memory() {
    let mut lines = Lines::start(Vec::new(), 1, "max-bytes = \"1GiB\"\n");
    lines.until("the uplink", |uplink| uplink["connected"] == true);
    for session in 0..SESSIONS {
        let client_id = absent(session);
        let hello =
            Hello { client_id: &client_id, clean: false, expiry: 3_600, ..Hello::default() };
        let (mut wire, _) = Wire::connect(lines.mqtt, &hello);
        assert_eq!(wire.subscribe(&format!("plant/{session}"), 1), 1);
    }
    let idle = memory(lines.gateway.id(), "VmRSS") << 10;
    lines.gateway.terminate();
    let Some(group) = MemoryGroup::new(idle + ABOVE_IDLE) else { return };
    lines.gateway.wrap(&group.words().each_ref().map(String::as_str));
    lines.broker.stop();
    lines.gateway.start_again();
    let port = lines.mqtt;
    let writers: Vec<_> = (0..WRITERS).map(|it| thread::spawn(move || drive(port, it))).collect();
    let taken: u64 = writers.into_iter().map(|writer| writer.join().expect("it is answered")).sum();
    let peak = memory(lines.gateway.id(), "VmHWM") << 10;
    println!("{taken} taken, at most {peak} bytes of {}", idle + ABOVE_IDLE);
    assert_eq!(group.killed(), 0);
    assert!(peak < idle + ABOVE_IDLE, "{peak}");
    assert_eq!(lines.uplink()["queued"], taken);
    let mut drained = 0;
    for session in 0..SESSIONS {
        let client_id = absent(session);
        let hello =
            Hello { client_id: &client_id, clean: false, expiry: 3_600, ..Hello::default() };
        let (mut wire, is_present) = Wire::connect(lines.mqtt, &hello);
        assert!(is_present);
        drained += wire.messages(Duration::from_millis(500)).len() as u64;
    }
    assert_eq!(drained, taken, "what was acknowledged came");
    lines.broker.start_again();
    let uplink = lines.until("the rest", |uplink| uplink["delivered"] == taken);
    assert_eq!((&uplink["balanced"], group.killed()), (&true.into(), 0), "{uplink}");
    lines.gateway.terminate();
}
