//! Speed of the codec: reading PUBLISH, and writing one message to many subscribers.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate_model::Topic;
use tidegate_mqtt::{
    Connection, Limits, NO_PROPERTIES, Outgoing, Output, PacketId, ProtocolVersion, PublishFrame,
    Sent, Settings,
    packet::{ConnAck, Connect, Delivery, Packet, PublishPacket},
};

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V311, ProtocolVersion::V5];
const TOPIC: &str = "plant/hall-3/press-7/temperature";
const SUBSCRIBERS: u16 = 100;
/// PUBLISH packets in one read.
const PACKETS: usize = 64;

fn payload(bytes: usize) -> Bytes {
    Bytes::from(vec![b'x'; bytes])
}

fn publish(qos1: bool) -> Packet {
    let delivery = match PacketId::new(7) {
        Some(packet_id) if qos1 => Delivery::AtLeastOnce { packet_id, dup: false },
        _ => Delivery::AtMostOnce,
    };
    let topic = Topic::new(TOPIC).expect("a topic");
    Packet::Publish(PublishPacket { delivery, ..PublishPacket::new(topic, payload(100)) })
}

fn connected(version: ProtocolVersion, output: &mut Output) -> Connection {
    let settings =
        Settings { receive_maximum: 1_024.try_into().expect("above 0"), ..Settings::default() };
    let now = now();
    let mut connection = Connection::new(now, Arc::new(settings));
    let mut input = BytesMut::new();
    let connect = Connect { keep_alive_s: 60, ..Connect::new(version) };
    Packet::Connect(Box::new(connect)).encode(version, &mut input).expect("a short packet");
    assert_eq!(connection.handle_input(now, &mut input, output).len(), 1);
    assert!(connection.accept(now, &ConnAck::accepted(false), output));
    output.clear();
    connection
}

#[expect(clippy::disallowed_methods, reason = "a connection wants a time to count from")]
fn now() -> Instant {
    Instant::now()
}

fn wire(packet: &Packet, version: ProtocolVersion) -> BytesMut {
    let mut wire = BytesMut::new();
    for _ in 0..PACKETS {
        packet.encode(version, &mut wire).expect("a short packet");
    }
    wire
}

/// PUBLISH of 100 bytes, 64 in one read: the bare codec, and the connection with its rules.
fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode PUBLISH 100 B");
    group.throughput(Throughput::Elements(PACKETS as u64));
    let limits = Limits::default();
    for version in VERSIONS {
        let wire = wire(&publish(false), version);
        group.bench_function(BenchmarkId::new("codec", version), |bencher| {
            bencher.iter_batched(
                || BytesMut::from(&wire[..]),
                |mut input| {
                    while let Ok(Some(packet)) = Packet::split_off(&mut input, version, &limits) {
                        black_box(packet);
                    }
                },
                BatchSize::SmallInput,
            );
        });
        let mut output = Output::with_limit(1 << 20);
        let mut connection = connected(version, &mut output);
        let now = now();
        group.bench_function(BenchmarkId::new("connection", version), |bencher| {
            bencher.iter_batched(
                || BytesMut::from(&wire[..]),
                |mut input| {
                    let batch = connection.handle_input(now, &mut input, &mut output);
                    assert_eq!(batch.len(), PACKETS);
                    batch
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// One message to 100 subscribers: with a shared frame, and encoded anew for each.
fn fan_out(criterion: &mut Criterion) {
    for bytes in [100, 10_000] {
        let mut group = criterion.benchmark_group(format!("fan-out {bytes} B to {SUBSCRIBERS}"));
        group.throughput(Throughput::Elements(SUBSCRIBERS.into()));
        for version in VERSIONS {
            let topic = Topic::new(TOPIC).expect("a topic");
            let payload = payload(bytes);
            let mut output = Output::with_limit(1 << 20);
            let mut connection = connected(version, &mut output);
            group.bench_function(BenchmarkId::new("shared frame", version), |bencher| {
                bencher.iter(|| {
                    let frame = PublishFrame::new(&topic, &payload, &NO_PROPERTIES);
                    for id in 1..=SUBSCRIBERS {
                        let packet_id = PacketId::new(id).expect("above 0");
                        let delivery = Delivery::AtLeastOnce { packet_id, dup: false };
                        let outgoing = Outgoing::new(delivery);
                        let sent = connection.publish(&frame, &outgoing, &mut output);
                        assert_eq!(sent, Sent::Written);
                    }
                    black_box(output.len());
                    output.clear();
                });
            });
            group.bench_function(BenchmarkId::new("encoded anew", version), |bencher| {
                let mut buffer = BytesMut::new();
                bencher.iter(|| {
                    for id in 1..=SUBSCRIBERS {
                        let packet_id = PacketId::new(id).expect("above 0");
                        let delivery = Delivery::AtLeastOnce { packet_id, dup: false };
                        let packet = PublishPacket {
                            delivery,
                            ..PublishPacket::new(topic.clone(), payload.clone())
                        };
                        Packet::Publish(packet).encode(version, &mut buffer).expect("it fits");
                    }
                    black_box(buffer.len());
                    buffer.clear();
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = decode, fan_out
}
criterion_main!(benches);
