//! M02, M12, M22: what a packet costs in memory depends on what was sent, never on what was announced.
//!
//! One test in a process of its own, as it counts every byte that is allocated.

use std::{sync::Arc, time::Instant};

use bytes::BytesMut;
use peak_alloc::PeakAlloc;
use tidegate_mqtt::{
    Connection, Limits, Output, ProtocolVersion, Settings,
    packet::{ConnAck, Connect, Packet},
};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// M22: four times the input plus 64 KiB.
fn allowance(wire: &[u8]) -> usize {
    4 * wire.len() + 64 * 1024
}

/// Runs `work` and returns the most bytes that were allocated meanwhile, above those before.
fn peak_of<T>(work: impl FnOnce() -> T) -> usize {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    drop(work());
    ALLOCATED.peak_usage().saturating_sub(before)
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut wire = vec![first];
    let mut rest = body.len();
    loop {
        let low = u8::try_from(rest % 128).expect("below 128");
        rest /= 128;
        wire.push(if rest == 0 { low } else { low | 0x80 });
        if rest == 0 {
            wire.extend(body);
            return wire;
        }
    }
}

/// Returns a list of properties with its length, which takes two bytes.
fn properties(list: &[u8]) -> Vec<u8> {
    let (low, high) = (list.len() % 128, list.len() / 128);
    let length = [low | 0x80, high].map(|it| u8::try_from(it).expect("below 16 KiB"));
    [&length[..], list].concat()
}

/// Streams behind CONNECT that cost as much as possible for their length.
fn hostile_streams() -> Vec<(&'static str, Vec<u8>)> {
    let user = properties(&b"\x26\0\0\0\0".repeat(64));
    let with_user = |before: &[u8], after: &[u8]| [before, &user[..], after].concat();
    let publish = framed(0x30, &with_user(b"\0\x01t", b""));
    let subscribe = framed(0x82, &[&b"\0\x01\0"[..], &b"\0\x01f\0".repeat(256)].concat());
    let shared = framed(0x82, &[&b"\0\x01\0"[..], &b"\0\x0A$share/g/f\0".repeat(256)].concat());
    let unsubscribe = framed(0xA2, &[&b"\0\x01\0"[..], &b"\0\x01f".repeat(256)].concat());
    vec![
        ("announced and never sent", vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F]),
        ("announced below the limit", vec![0x30, 0xFF, 0xFF, 0x3F]),
        ("text length of 65,535", framed(0x30, b"\0\x01t\x03\x03\xFF\xFF")),
        ("property length beyond the packet", framed(0x30, b"\0\x01t\xFF\x7F")),
        (
            "too many user properties",
            framed(0x30, &[&b"\0\x01t"[..], &properties(&b"\x26\0\0\0\0".repeat(3_000))].concat()),
        ),
        ("empty messages", framed(0x30, b"\0\x01t\0").repeat(10_000)),
        ("user properties", publish.repeat(200)),
        ("filters", subscribe.repeat(50)),
        ("shared filters", shared.repeat(50)),
        ("removals", unsubscribe.repeat(50)),
        (
            "acknowledgements with user properties",
            framed(0x40, &with_user(b"\0\x01\0", b"")).repeat(200),
        ),
        ("pings", [0xC0, 0].repeat(10_000)),
        ("disconnect with user properties", framed(0xE0, &with_user(b"\0", b""))),
    ]
}

#[expect(clippy::disallowed_methods, reason = "a connection wants a time to count from")]
fn connected(now: &mut Option<Instant>, output: &mut Output) -> Connection {
    let start = *now.get_or_insert_with(Instant::now);
    let mut connection = Connection::new(start, Arc::new(Settings::default()));
    let connect = Packet::Connect(Box::new(Connect::new(ProtocolVersion::V5)));
    let mut input = BytesMut::new();
    connect.encode(ProtocolVersion::V5, &mut input).expect("a short packet");
    assert_eq!(connection.handle_input(start, &mut input, output).len(), 1);
    assert!(connection.accept(start, &ConnAck::accepted(false), output));
    connection
}

#[test]
fn fault_m22_memory_follows_what_was_sent() {
    assert!(peak_of(|| vec![0_u8; 1 << 20]) >= 1 << 20, "the counter counts");
    let mut now = None;
    for (what, wire) in hostile_streams() {
        let mut input = BytesMut::from(&wire[..]);
        let limits = Limits::default();
        let codec = peak_of(|| Packet::split_off(&mut input, ProtocolVersion::V5, &limits));
        assert!(codec <= allowance(&wire), "codec: {what}: {codec} bytes for {}", wire.len());

        let mut output = Output::with_limit(16 * 1024);
        let mut connection = connected(&mut now, &mut output);
        output.clear();
        let start = now.expect("connected");
        let mut input = BytesMut::from(&wire[..]);
        let mut most = 0;
        loop {
            let (left, mut taken) = (input.len(), 0);
            most = most.max(peak_of(|| {
                let batch = connection.handle_input(start, &mut input, &mut output);
                taken = batch.len();
                batch
            }));
            output.clear();
            if taken == 0 && input.len() == left {
                break;
            }
        }
        // Batch by batch: what one call takes is bounded, however much waits in the input.
        assert!(most <= 64 * 1024, "connection: {what}: {most} bytes at once");
    }
}
