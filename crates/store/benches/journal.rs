//! What one record costs on its way into the journal and out of it.
#![allow(missing_docs, reason = "the macros of criterion make undocumented functions")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate_model::{
    AdapterName, Message, Origin, Payload, Presentation, Principal, Qos, Reading, Timestamp, Topic,
    Unit, Value,
};
use tidegate_store::record::{MessageDecoder, encode_message};
use tidegate_store::simulation::SimulatedDisk;
use tidegate_store::{Journal, JournalOptions, Position, Seq, TakerId, Transaction};

const RECORDS: u64 = 10_000;
const GROUP: u64 = 100;
const TAKER: TakerId = TakerId::new(1);

fn sample(number: u64) -> Message {
    let arrival = Timestamp::from_unix_millis(1_772_366_400_123 + number as i64);
    let origin = Origin { adapter: AdapterName::new("coap").expect("a name") };
    let mut reading = Reading::new(Value::Double(21.5 + number as f64), arrival, origin);
    reading.unit = Some(Unit::new("Cel").expect("a unit"));
    Message {
        topic: Topic::new(&format!("hall1/press-{}/temperature", number % 40)).expect("a topic"),
        payload: Payload::reading(reading, Presentation::Envelope),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: None,
        publisher: Principal::new("press-line").expect("a name"),
        arrival,
    }
}

fn body(message: &Message) -> Vec<u8> {
    let mut body = Vec::with_capacity(128);
    encode_message(message, &mut body).expect("it is flat");
    body
}

fn transaction(number: u64, body: &[u8]) -> Transaction {
    let mut transaction = Transaction::with_capacity(160);
    transaction.append(Seq::new(number), &[(TAKER, number)], body).expect("it is small");
    transaction
}

/// The codec of messages.
fn codec(criterion: &mut Criterion) {
    let messages: Vec<Message> = (0..1_000).map(sample).collect();
    let bodies: Vec<Bytes> = messages.iter().map(|message| body(message).into()).collect();
    let mut group = criterion.benchmark_group("store/message");
    group.throughput(Throughput::Elements(messages.len() as u64));
    group.bench_function("encode", |bencher| {
        bencher
            .iter(|| messages.iter().map(|message| body(black_box(message)).len()).sum::<usize>());
    });
    group.bench_function("decode", |bencher| {
        let mut decoder = MessageDecoder::new();
        bencher.iter(|| {
            for body in &bodies {
                black_box(decoder.decode(black_box(body)).expect("we wrote it"));
            }
        });
    });
    group.finish();
}

/// Building transactions, and writing them in groups of 100 to storage in memory.
fn append(criterion: &mut Criterion) {
    let body = body(&sample(1));
    let mut group = criterion.benchmark_group("store/append");
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("transaction", |bencher| {
        bencher.iter(|| {
            for number in 1..=RECORDS {
                black_box(transaction(number, black_box(&body)));
            }
        });
    });
    let transactions: Vec<_> = (1..=RECORDS).map(|number| transaction(number, &body)).collect();
    group.bench_function("write_and_commit", |bencher| {
        bencher.iter(|| {
            let disk = SimulatedDisk::new();
            let (mut journal, _) =
                Journal::open(disk, JournalOptions::new(1)).expect("a new disk works");
            for group in transactions.chunks(GROUP as usize) {
                journal.write(group);
                journal.commit().expect("the disk works");
            }
            journal.durable_seq()
        });
    });
    group.finish();
}

/// Reading one taker's records back, checksums and all.
fn read(criterion: &mut Criterion) {
    let disk = SimulatedDisk::new();
    let (mut journal, _) = Journal::open(disk, JournalOptions::new(1)).expect("a new disk works");
    for number in 1..=RECORDS {
        journal.write([&transaction(number, &body(&sample(number)))]);
        if number.is_multiple_of(GROUP) {
            journal.commit().expect("the disk works");
        }
    }
    let mut group = criterion.benchmark_group("store/read");
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("next_block", |bencher| {
        bencher.iter(|| {
            let mut reader = journal.catalog().reader(TAKER, Position::START);
            let mut count = 0;
            loop {
                let block = reader.next_block(500, 1 << 20).expect("the disk works");
                if block.is_empty() {
                    break count;
                }
                count += block.len();
            }
        });
    });
    group.finish();
}

criterion_group!(benches, codec, append, read);
criterion_main!(benches);
