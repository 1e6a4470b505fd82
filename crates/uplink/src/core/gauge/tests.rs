use std::{collections::BTreeMap, time::Duration};

use tidegate_model::{Topic, UplinkName};

use crate::{
    core::{Ack, Core, Outgoing, tests::Bench},
    decoder::{Limits, decode},
    ledger::DropReason,
    settings::{BatchLimits, Compression, Format, Settings},
};

fn settings(settings: &mut Settings, wire: Option<usize>, step: Option<usize>) {
    settings.format = Format::Packed;
    settings.compression = Compression::default();
    settings.max_bytes = 1 << 30;
    settings.batch = BatchLimits {
        readings: 20_000,
        age: Duration::from_secs(60),
        bytes: 4 << 20,
        wire_bytes: wire,
        metering_step: step,
    };
}

/// Hands in readings of twelve streams that wander, `pause` between two of them, and takes every batch at once.
/// Returns the sizes of payloads.
fn run(bench: &mut Bench, readings: u64, pause: Duration) -> Vec<usize> {
    let mut random = 1_u64;
    let mut values = [2_000_i64; 12];
    let mut numbers: BTreeMap<String, i64> = BTreeMap::new();
    let mut sizes = Vec::new();
    bench.connect(usize::MAX);
    for at in 0..readings {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let stream = usize::try_from(at % 12).unwrap();
        values[stream] += i64::try_from(random >> 33).unwrap() % 21 - 10;
        let value = format!("{}.{:02}", values[stream] / 100, values[stream] % 100);
        bench.put(&format!("hall1/press-{stream}/signal"), &value);
        bench.now.elapsed += pause;
        bench.now.wall = bench.now.wall.saturating_add(pause);
        bench.pass(0);
        let sent: Vec<Outgoing> = std::iter::from_fn(|| bench.core.poll_send()).collect();
        for Outgoing { id, publication } in sent {
            sizes.push(publication.payload.len());
            for reading in decode(&publication.payload, &Limits::OWN).unwrap().readings {
                // In each stream without holes and in order, divided or not.
                let last = numbers.entry(reading.stream.unwrap().to_string()).or_default();
                assert_eq!(reading.number, *last + 1);
                *last = reading.number;
            }
            bench.answer(id, Ack::Accepted);
        }
    }
    sizes
}

/// uplink.10: payloads come close to the limit of the far side, and none is above it.
#[test]
fn uplink_10_batches_are_closed_by_their_compressed_size() {
    for limit in [1 << 10, 3 << 10, 6 << 10] {
        let mut bench = Bench::new(|it| settings(it, Some(limit), None));
        let sizes = run(&mut bench, 40_000, Duration::ZERO);
        assert!(sizes.iter().all(|size| *size <= limit), "{limit}: {sizes:?}");
        let whole: usize = sizes.iter().sum();
        assert!(whole * 100 >= sizes.len() * limit * 90, "{limit}: {sizes:?}");
    }
}

/// uplink.10: batches end just under a metering step, whether one or several fit into the age of a batch.
#[test]
fn uplink_10_batches_are_closed_under_a_metering_step() {
    let step = 2 << 10;
    for (pause, most) in [(15, 1), (4, 5)] {
        let mut bench = Bench::new(|it| settings(it, None, Some(step)));
        let overhead = bench.core.encoder.metered_overhead();
        let sizes = run(&mut bench, 40_000, Duration::from_millis(pause));
        let steps: usize = sizes.iter().map(|size| (size + overhead).div_ceil(step)).sum();
        let whole: usize = sizes.iter().sum();
        assert!(steps * step * 93 <= whole * 100, "{pause} ms: {steps} steps, {sizes:?}");
        assert!(sizes.iter().all(|size| *size <= most * step), "{pause} ms: {sizes:?}");
    }
}

/// uplink.10: a reading that is too large alone is set aside, counted, and costs no other.
#[test]
fn uplink_10_a_reading_above_the_limit_is_a_dead_letter() {
    let mut bench = Bench::new(|it| {
        settings(it, Some(1_000), None);
        it.compression = Compression::None;
        it.batch.readings = 4;
    });
    bench.connect(usize::MAX);
    for text in ["1", "2", &format!("\"{}\"", "x".repeat(2_000)), "3"] {
        bench.put("a", text);
    }
    bench.pass(60_000);
    let mut numbers = Vec::new();
    for (id, batch) in bench.sent() {
        numbers.extend(batch.readings.iter().map(|reading| reading.number));
        bench.answer(id, Ack::Accepted);
    }
    assert_eq!(numbers, [1, 2, 4]);
    let outcomes = bench.outcomes();
    assert_eq!((outcomes.delivered, outcomes.dropped[&DropReason::DeadLetter]), (3, 1));
    bench.pass(60_000);
    let gaps: Vec<_> = bench.sent().into_iter().flat_map(|(_, batch)| batch.gaps).collect();
    assert_eq!((gaps[0].from, gaps[0].to, gaps.len()), (3, 3, 1));
}

/// uplink.10: a batch that was decided before a restart is divided for a limit that is new, with the same numbers.
#[test]
fn uplink_10_numbers_survive_a_smaller_limit() {
    let mut bench = Bench::new(|it| {
        settings(it, None, None);
        it.compression = Compression::None;
    });
    let bodies: Vec<String> = (0..100).map(|number| format!("{number}.5")).collect();
    let mut first = Vec::new();
    for body in &bodies {
        bench.put("a", body);
    }
    bench.pass(60_000);
    bench.connect(usize::MAX);
    for (_, batch) in bench.sent() {
        first.extend(batch.readings.into_iter().map(|reading| (reading.number, reading.value)));
    }
    assert_eq!(first.len(), 100);
    // The cloud has not answered when the gateway starts anew.
    let keys = crate::Keys::new(&UplinkName::new("cloud").unwrap());
    let entries: Vec<(Vec<u8>, Vec<u8>)> =
        bench.entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    assert!(entries.iter().any(|(key, _)| key.starts_with(keys.prefix())));
    let mut smaller = bench.core.settings().clone();
    smaller.batch.wire_bytes = Some(300);
    let pairs = entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    let core = Core::open(smaller, pairs, bench.now).unwrap();
    let mut again = Bench { core, next: 1, moved: Vec::new(), ..bench };
    for body in &bodies {
        again.put("a", body);
    }
    again.connect(usize::MAX);
    let mut second = Vec::new();
    let sent: Vec<Outgoing> = std::iter::from_fn(|| again.core.poll_send()).collect();
    for Outgoing { publication, .. } in sent {
        assert!(publication.payload.len() <= 300);
        let batch = decode(&publication.payload, &Limits::OWN).unwrap();
        second.extend(batch.readings.into_iter().map(|reading| (reading.number, reading.value)));
    }
    assert_eq!(second, first);
    assert!(again.core.streams.id(&Topic::new("a").unwrap()).is_some());
}
