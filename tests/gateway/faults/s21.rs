//! S21, what a message costs in writes.

use std::{fs, thread, time::Duration};

use crate::support::wire::{Hello, Wire};

use super::{figure, lines::Lines};

/// Bytes of a payload, its quotes among them.
const PAYLOAD: u64 = 100;
/// Bytes of MQTT around it: fixed header, topic with its length, packet identifier.
const HEADER: u64 = 2 + 2 + TOPIC.len() as u64 + 2;
const TOPIC: &str = "plant/cost";
/// Messages of a client on their way at full rate: fewer than the receive maximum.
const WINDOW: u16 = 60;
const WRITERS: u64 = 8;
/// A block, as the file system counts what is written.
const BLOCK: u64 = 4_096;
/// What a lone message may cost, in blocks: with it, with the subscriber's answer, and with what the uplink decided and
/// delivered, each of which may lie in two. The catalogue wants one.
const BLOCKS_MAX: u64 = 6;

/// Returns what a process has had the system write to storage, in bytes (proc(5)).
fn written(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/io")).expect("our own process");
    let count = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    count.and_then(|count| count.parse().ok()).expect("a number")
}

/// S21: with a persistent subscriber and an uplink that are drained, at most 3 bytes are written for each byte of the
/// messages at full rate, and for a lone message no more blocks than it has steps.
#[test]
fn uplink_43_fault_s21_bytes_written_for_a_message() {
    let lines = Lines::start(Vec::new(), 1, "");
    lines.until("the uplink", |uplink| uplink["connected"] == true);
    let hello = |client_id| Hello { client_id, clean: false, expiry: 3_600, ..Hello::default() };
    let (mut reader, _) = Wire::connect(lines.mqtt, &hello("reader"));
    assert_eq!(reader.subscribe("plant/#", 1), 1);
    let connect = |writer: u64| {
        let client_id = format!("writer-{writer}");
        Wire::connect(lines.mqtt, &Hello { client_id: &client_id, ..Hello::default() }).0
    };
    let mut writers: Vec<Wire> = (0..WRITERS).map(connect).collect();
    let filling = "x".repeat(PAYLOAD as usize - 2);
    let rounds = figure(50_000, 1_000_000) / (WRITERS * u64::from(WINDOW));
    let count = rounds * WRITERS * u64::from(WINDOW);
    let before = written(lines.gateway.id());
    for _ in 0..rounds {
        for writer in &mut writers {
            let packet =
                |id| writer.publish_packet(TOPIC.as_bytes(), &format!("\"{filling}\""), 1, id, &[]);
            let burst: Vec<u8> = (1..=WINDOW).flat_map(packet).collect();
            writer.send(&burst);
        }
        for writer in &mut writers {
            for _ in 0..WINDOW {
                let answer = writer.expect(4);
                assert_eq!(answer.body.get(2).copied().unwrap_or(0), 0, "{answer:?}");
            }
        }
        for _ in 0..WRITERS * u64::from(WINDOW) {
            let packet = reader.expect_publish();
            let message = reader.parse(&packet);
            reader.acknowledge(4, message.packet_id);
        }
    }
    lines.until("all", |uplink| uplink["delivered"] == count && uplink["queued"] == 0);
    let bytes = written(lines.gateway.id()) - before;
    let share = bytes as f64 / (count * (PAYLOAD + HEADER)) as f64;
    println!("{count} messages at full rate: {bytes} bytes, {share:.2} for each of theirs");
    assert!(share <= 3.0, "{bytes} bytes were written, {share:.2} times what the messages have");

    // Alone, each a second after the other: nothing else has to be written.
    let lone: u64 = figure(5, 60);
    let before = written(lines.gateway.id());
    for _ in 0..lone {
        assert_eq!(writers[0].publish(TOPIC, "\"lone\""), 0);
        let message = reader.message(Duration::from_secs(5)).expect("it comes");
        reader.acknowledge(4, message.packet_id);
        thread::sleep(Duration::from_secs(1));
    }
    lines.until("all", |uplink| uplink["delivered"] == count + lone);
    let bytes = (written(lines.gateway.id()) - before) / lone;
    println!("alone: {bytes} bytes for a message, {} blocks", bytes.div_ceil(BLOCK));
    assert!(bytes <= BLOCKS_MAX * BLOCK, "{bytes} bytes for a message");
}
