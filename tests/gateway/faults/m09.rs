//! M09: a subscriber that never reads.

use std::{collections::BTreeSet, time::Duration};

use super::{
    figure,
    plant::{Plant, access},
};
use crate::support::wire::{Hello, Wire};

/// Messages that may wait for one session.
const QUEUE: u64 = 200;
/// Messages that may be in flight to one client.
const IN_FLIGHT: u64 = 64;
const PAYLOAD: usize = 16 << 10;
/// Messages sent before their acknowledgements are awaited.
const BURST: u16 = 32;

/// M09: with each quality of service it costs itself only: its queue has an end, what is beyond is counted, all others
/// are served; and when it reads at last, it finds what was not dropped, in order.
#[test]
fn fault_m09_a_subscriber_that_never_reads() {
    let limits =
        format!("[limits.mqtt]\nsession-queue-messages = {QUEUE}\nreceive-maximum = {IN_FLIGHT}\n");
    let plant = Plant::start(&access("eve", &["flood/#"]), &limits);
    let rules = plant.note();
    let mut operator = plant.connect("operator", "operator");
    for qos in 0..=2_u8 {
        let topic = format!("flood/{qos}");
        let client_id = format!("deaf-{qos}");
        let hello = Hello { clean: false, expiry: 3_600, ..plant.hello("eve", &client_id) };
        let (mut deaf, _) = Wire::connect(plant.mqtt, &hello);
        assert_eq!(deaf.subscribe(&topic, qos), qos);
        let before = plant.count("dropped/queue-full");
        // More than sockets and queues hold together.
        let sent = flood(&mut operator, &topic, qos.max(1), figure(60, 600));
        let dropped = plant.count("dropped/queue-full") - before;
        let status = plant.gateway.status(&[]);
        let worst = &status["broker"]["longest-queues"][0];
        assert_eq!(worst["client-id"], client_id, "it is shown: {worst}");
        assert_eq!(worst["queued"], QUEUE, "its queue is full, and no fuller: {worst}");
        assert_eq!(worst["dropped"], dropped, "{worst}");
        assert!(dropped > 0, "{sent} were sent");
        if qos > 0 {
            assert_eq!(sent - dropped, QUEUE + IN_FLIGHT, "the window and the queue are full");
        }

        // It reads at last, and finds all that was not dropped.
        let mut got = read_all(&mut deaf, sent - dropped);
        println!("QoS {qos}: {sent} sent, {dropped} dropped, {} received", got.len());
        assert_eq!(got.len() as u64, sent - dropped, "G1");
        assert!(got.is_sorted(), "in order");
        got.dedup();
        assert_eq!(got.len() as u64, sent - dropped, "none twice");
        deaf.send(&[0xe0, 0]);
        deaf.end();
    }
    drop(operator);
    rules.check(&plant.gateway);
}

/// Publishes bursts of numbered messages, each of them acknowledged; returns how many.
fn flood(wire: &mut Wire, topic: &str, qos: u8, bursts: u64) -> u64 {
    let mut count = 0;
    for _ in 0..bursts {
        for id in 1..=BURST {
            wire.send_publish(topic, &format!("{count:0PAYLOAD$}"), qos, id);
            count += 1;
        }
        for id in 1..=BURST {
            assert_eq!(wire.expect(if qos == 1 { 4 } else { 5 }).body[..2], id.to_be_bytes());
            if qos == 2 {
                wire.acknowledge(6, id);
            }
        }
        for id in (1..=BURST).take_while(|_| qos == 2) {
            assert_eq!(wire.expect(7).body[..2], id.to_be_bytes());
        }
    }
    count
}

/// Reads and acknowledges so many messages, and no more come; returns their numbers.
fn read_all(wire: &mut Wire, count: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut open = BTreeSet::new();
    loop {
        let is_over = numbers.len() as u64 >= count && open.is_empty();
        let limit = Duration::from_millis(if is_over { 300 } else { 10_000 });
        let packet = wire.read(limit).expect("the connection stays");
        let Some(packet) = packet else { return numbers };
        match packet.head >> 4 {
            3 => {
                let message = wire.parse(&packet);
                numbers.push(message.payload.parse().expect("a number"));
                match message.qos {
                    1 => wire.acknowledge(4, message.packet_id),
                    2 => {
                        open.insert(message.packet_id);
                        wire.acknowledge(5, message.packet_id);
                    }
                    _ => {}
                }
            }
            6 => {
                let id = u16::from_be_bytes([packet.body[0], packet.body[1]]);
                open.remove(&id);
                wire.acknowledge(7, id);
            }
            _ => panic!("found {packet:?}"),
        }
    }
}
