use tidegate_model::{Message, Payload, Principal, Qos, Topic, UplinkName};
use tidegate_rules::MemoryLimits;
use tidegate_store::{Seq, record};

use super::*;
use crate::{
    decoder::{self, Batch as Decoded, Limits},
    ledger::DropReason,
    profile::Profile,
    settings::{BatchLimits, Compression, Format, TimeUnit, TopicTemplate, WhenFull},
};

/// When the tests begin.
const BEGIN_MILLIS: i64 = 1_772_000_000_000;

/// A core whose journal makes everything durable at once.
pub(super) struct Bench {
    pub(super) core: Core,
    pub(super) now: Now,
    pub(super) next: u64,
    pub(super) moved: Vec<Moved>,
    pub(super) entries: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Bench {
    pub(super) fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            gateway: "gw".into(),
            name: UplinkName::new("cloud").unwrap(),
            epoch: 1,
            rules: Vec::new(),
            rule_memory: MemoryLimits::default(),
            format: Format::Columns,
            time_unit: TimeUnit::Millis,
            compression: Compression::None,
            topic: TopicTemplate::new("up", "gw", Format::Columns).unwrap(),
            batch: BatchLimits { readings: 4, bytes: 64 << 10, ..BatchLimits::default() },
            when_full: WhenFull::DropOldest,
            max_bytes: 1 << 20,
            profile: Profile::Mqtt,
            max_age: None,
            recovered: 0,
            streams_max: 10,
        };
        change(&mut settings);
        let now = Now {
            elapsed: Duration::ZERO,
            wall: Timestamp::from_unix_millis(BEGIN_MILLIS),
            steady: Timestamp::from_unix_millis(BEGIN_MILLIS),
            wall_is_trusted: true,
        };
        let core = Core::open(settings, [], now).unwrap();
        Self { core, now, next: 1, moved: Vec::new(), entries: Default::default() }
    }

    pub(super) fn pass(&mut self, millis: u64) {
        let duration = Duration::from_millis(millis);
        self.now.elapsed += duration;
        self.now.wall = self.now.wall.saturating_add(duration);
        self.now.steady = self.now.steady.saturating_add(duration);
        self.core.handle_timeout(self.now);
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        while let Some(write) = self.core.poll_write() {
            for change in write.changes {
                match change {
                    Change::Put { key, value } => drop(self.entries.insert(key, value)),
                    Change::Delete { key } => drop(self.entries.remove(&key)),
                }
            }
            self.core.handle_written(write.id, self.now);
            self.moved.extend(write.moved);
        }
    }

    pub(super) fn put(&mut self, topic: &str, payload: &str) {
        let item = self.item(topic, payload);
        self.core.handle_item(&item, self.now);
        self.settle();
    }

    /// Makes the next record, which arrives now.
    fn item(&mut self, topic: &str, payload: &str) -> Item {
        let message = Message {
            topic: Topic::new(topic).unwrap(),
            payload: Payload::bytes(payload.as_bytes().to_vec()),
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: None,
            publisher: Principal::anonymous(),
            arrival: self.now.wall,
        };
        let mut body = Vec::new();
        record::encode_message(&message, &mut body).unwrap();
        let item =
            Item::Record { seq: Seq::new(self.next * 2), ordinal: self.next, body: body.into() };
        self.next += 1;
        item
    }

    pub(super) fn connect(&mut self, packet_bytes_max: usize) {
        self.core.handle_connected(packet_bytes_max, self.now);
    }

    pub(super) fn sent(&mut self) -> Vec<(SendId, Decoded)> {
        std::iter::from_fn(|| self.core.poll_send())
            .map(|message| {
                let payload = &message.publication.payload;
                (message.id, decoder::decode(payload, &Limits::OWN).unwrap())
            })
            .collect()
    }

    pub(super) fn answer(&mut self, id: SendId, ack: Ack) {
        self.core.handle_ack(id, ack);
        self.settle();
    }

    pub(super) fn outcomes(&self) -> Outcomes {
        let mut outcomes = Outcomes::default();
        self.moved.iter().for_each(|moved| outcomes.add(&moved.outcomes));
        outcomes
    }
}

#[test]
fn a_batch_is_closed_by_count_bytes_or_age() {
    let mut bench = Bench::new(|settings| settings.batch.bytes = 600);
    bench.connect(usize::MAX);
    for number in 0..4 {
        bench.put("a", &number.to_string());
    }
    assert_eq!(bench.sent()[0].1.readings.len(), 4, "by count");
    bench.put("a", &format!("\"{}\"", "x".repeat(200)));
    bench.put("a", &format!("\"{}\"", "x".repeat(200)));
    assert_eq!(bench.sent()[0].1.readings.len(), 1, "by bytes");
    bench.put("a", &format!("\"{}\"", "x".repeat(5_000)));
    assert_eq!(bench.sent()[0].1.readings.len(), 1, "the second one");
    bench.pass(1_001);
    assert_eq!(bench.sent().len(), 0, "the large one went alone, at once");
    bench.put("a", "1");
    assert!(bench.sent().is_empty());
    bench.pass(1_000);
    assert_eq!(bench.sent()[0].1.readings.len(), 1, "by age");
}

#[test]
fn nothing_is_sent_before_its_decisions_are_durable() {
    let mut bench = Bench::new(|settings| settings.batch.readings = 1);
    bench.connect(usize::MAX);
    let body = {
        bench.put("a", "1");
        let first = bench.sent();
        bench.answer(first[0].0, Ack::Accepted);
        bench.moved.clear();
        let mut body = Vec::new();
        let message = Message {
            topic: Topic::new("a").unwrap(),
            payload: Payload::bytes("2"),
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: None,
            publisher: Principal::anonymous(),
            arrival: bench.now.wall,
        };
        record::encode_message(&message, &mut body).unwrap();
        body
    };
    let item = Item::Record { seq: Seq::new(9), ordinal: 2, body: body.into() };
    bench.core.handle_item(&item, bench.now);
    assert_eq!(bench.core.poll_send(), None);
    let write = bench.core.poll_write().unwrap();
    assert_eq!(bench.core.poll_send(), None);
    bench.core.handle_written(write.id, bench.now);
    assert!(bench.core.poll_send().is_some());
}

#[test]
fn the_cursor_moves_over_a_contiguous_prefix_only() {
    let mut bench = Bench::new(|settings| settings.batch.readings = 1);
    bench.connect(usize::MAX);
    for number in 0..3 {
        bench.put("a", &number.to_string());
    }
    let sent = bench.sent();
    bench.answer(sent[1].0, Ack::Accepted);
    bench.answer(sent[2].0, Ack::Accepted);
    assert_eq!(bench.moved, []);
    bench.answer(sent[0].0, Ack::Accepted);
    assert_eq!(bench.moved.len(), 1);
    assert_eq!((bench.moved[0].records, bench.moved[0].cursor.ordinal), (3, 3));
    assert_eq!(bench.outcomes().delivered, 3);
    // An answer that comes twice, or too late, changes nothing.
    bench.answer(sent[0].0, Ack::Accepted);
    assert_eq!(bench.moved.len(), 1);
}

#[test]
fn the_window_holds_sixteen_batches() {
    let mut bench = Bench::new(|settings| settings.batch.readings = 1);
    bench.connect(usize::MAX);
    let mut taken = 0;
    while bench.core.wants_items() {
        bench.put("a", &taken.to_string());
        taken += 1;
    }
    assert_eq!(taken, 16);
    let sent = bench.sent();
    assert_eq!(sent.len(), 16);
    bench.answer(sent[0].0, Ack::Accepted);
    assert!(bench.core.wants_items());
}

/// U05: whoever closes the connection on a batch gets it in pieces, one at a time.
#[test]
fn fault_u05_three_closed_connections_divide_a_batch_and_end_a_reading() {
    let mut bench = Bench::new(|settings| settings.batch.readings = 3);
    for payload in ["1", "666", "3"] {
        bench.put("a", payload);
    }
    let (mut closed, mut accepted) = (0, Vec::new());
    while accepted.len() < 2 || !bench.core.is_idle() {
        bench.connect(usize::MAX);
        loop {
            let sent = bench.sent();
            let Some((id, batch)) = sent.first() else { break };
            let values: Vec<String> =
                batch.readings.iter().map(|reading| reading.value.to_string()).collect();
            if values.contains(&"666".to_owned()) {
                closed += 1;
                bench.core.handle_disconnected(Disconnect::ByPeer, bench.now);
                bench.settle();
                break;
            }
            accepted.extend(values);
            bench.answer(*id, Ack::Accepted);
        }
        bench.pass(1_000);
        assert!(closed < 10, "it comes to an end");
    }
    assert_eq!(accepted, ["1", "1", "3"], "the first once more, to see whether it is well");
    assert_eq!(closed, 6, "three on the batch, three on the reading");
    let outcomes = bench.outcomes();
    assert_eq!(outcomes.delivered, 2);
    assert_eq!(outcomes.dropped.get(&DropReason::DeadLetter), Some(&1));
    assert_eq!(bench.core.status().dead_letters, 1);
    assert!(bench.core.status().last_refusal.unwrap().contains("3 times running"));
}

/// U05: a far side that closes on everything without a word is unwell: no reading is at fault, whatever it takes.
#[test]
fn fault_u05_a_far_side_that_is_unwell_costs_no_reading() {
    for took_one_before in [true, false] {
        let mut bench = Bench::new(|settings| settings.batch.readings = 1);
        if took_one_before {
            bench.put("a", "0");
            bench.connect(usize::MAX);
            let sent = bench.sent();
            bench.answer(sent[0].0, Ack::Accepted);
        }
        for payload in ["1", "2", "3"] {
            bench.put("a", payload);
        }
        for _ in 0..50 {
            bench.connect(usize::MAX);
            bench.sent();
            bench.core.handle_disconnected(Disconnect::Closed, bench.now);
            bench.settle();
            bench.pass(60_000);
        }
        bench.connect(usize::MAX);
        while !bench.core.is_idle() {
            for (id, _) in bench.sent() {
                bench.answer(id, Ack::Accepted);
            }
        }
        let outcomes = bench.outcomes();
        assert_eq!(outcomes.delivered, 3 + u64::from(took_one_before), "{outcomes:?}");
        assert_eq!(outcomes.dropped.len(), 0, "{outcomes:?}");
    }
}

/// U05: one that closes without a word on one reading alone is asked whether it takes what it took before; then the reading
/// is at fault. What it took before comes twice.
#[test]
fn fault_u05_a_reading_is_at_fault_if_others_are_taken() {
    let mut bench = Bench::new(|settings| settings.batch.readings = 1);
    for payload in ["1", "666", "3"] {
        bench.put("a", payload);
    }
    let (mut closed, mut accepted) = (0, Vec::new());
    while accepted.len() < 3 || !bench.core.is_idle() {
        bench.connect(usize::MAX);
        'line: loop {
            let sent = bench.sent();
            if sent.is_empty() {
                break;
            }
            for (id, batch) in sent {
                // What tells of a gap has none.
                let value = batch.readings.first().map(|reading| reading.value.to_string());
                if value.as_deref() == Some("666") {
                    closed += 1;
                    bench.core.handle_disconnected(Disconnect::Closed, bench.now);
                    bench.settle();
                    break 'line;
                }
                accepted.extend(value);
                bench.answer(id, Ack::Accepted);
            }
        }
        bench.pass(1_000);
        assert!(closed < 10, "it comes to an end");
    }
    assert_eq!(accepted, ["1", "1", "1", "1", "3"], "the first again to see whether it is well");
    assert_eq!(closed, 5, "three times behind one that is taken");
    let outcomes = bench.outcomes();
    assert_eq!((outcomes.delivered, outcomes.dropped.get(&DropReason::DeadLetter)), (2, Some(&1)));
}

/// U05: a link that breaks now behind what it took, now on it, proves nothing against an innocent reading.
#[test]
fn fault_u05_an_innocent_reading_outlives_a_bad_link() {
    let mut bench = Bench::new(|settings| settings.batch.readings = 1);
    bench.put("a", "1");
    bench.connect(usize::MAX);
    let first = bench.sent().remove(0).0;
    bench.answer(first, Ack::Accepted);
    bench.put("a", "2");
    for round in 0..30 {
        bench.connect(usize::MAX);
        let sent = bench.sent().remove(0);
        let is_probe = sent.1.readings[0].value.to_string() == "1";
        assert_eq!(is_probe, round >= 2, "round {round}");
        // Of three probes that are sent, two pass.
        if is_probe && round % 3 != 0 {
            bench.answer(sent.0, Ack::Accepted);
            assert_eq!(bench.sent().len(), 1, "round {round}");
        }
        bench.core.handle_disconnected(Disconnect::Closed, bench.now);
        bench.settle();
        bench.pass(1_000);
    }
    bench.connect(usize::MAX);
    while !bench.core.is_idle() {
        for (id, _) in bench.sent() {
            bench.answer(id, Ack::Accepted);
        }
    }
    let outcomes = bench.outcomes();
    assert_eq!((outcomes.delivered, outcomes.dropped.len()), (2, 0));
}

/// U05: the third strike itself moves the cursor past a reading that is given up; nothing else need happen.
#[test]
fn fault_u05_the_third_strike_moves_the_cursor() {
    let mut bench = Bench::new(|settings| settings.batch.readings = 1);
    bench.put("a", "666");
    for strike in 1..=3 {
        assert_eq!(bench.moved, [], "before strike {strike}");
        bench.connect(usize::MAX);
        assert_eq!(bench.sent().len(), 1, "strike {strike}");
        bench.core.handle_disconnected(Disconnect::ByPeer, bench.now);
        bench.settle();
    }
    let [moved] = bench.moved.as_slice() else { panic!("{:?}", bench.moved) };
    assert_eq!((moved.records, moved.cursor.ordinal), (1, 1));
    assert_eq!(moved.outcomes.dropped.get(&DropReason::DeadLetter), Some(&1));
    // The move is in the journal, too: the next start does not send it again.
    let pairs = bench.entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    let settings = bench.core.settings().clone();
    let restarted = Core::open(settings, pairs, bench.now).unwrap();
    assert_eq!((restarted.cursor().ordinal, restarted.restoring.len()), (1, 0));
}

/// U02: a network that breaks is no reason to give anything up.
#[test]
fn fault_u02_broken_networks_are_no_refusals() {
    let mut bench = Bench::new(|settings| settings.batch.readings = 1);
    bench.put("a", "1");
    for _ in 0..20 {
        bench.connect(usize::MAX);
        assert_eq!(bench.sent().len(), 1);
        bench.core.handle_disconnected(Disconnect::Otherwise, bench.now);
    }
    bench.connect(usize::MAX);
    let sent = bench.sent();
    bench.answer(sent[0].0, Ack::Accepted);
    assert_eq!(bench.outcomes().delivered, 1);
}

/// U05: a refusal of the topic is final; the numbers become a gap.
#[test]
fn fault_u05_a_refused_topic_is_a_dead_letter() {
    let mut bench = Bench::new(|_| {});
    bench.connect(usize::MAX);
    for number in 0..4 {
        bench.put("a", &number.to_string());
    }
    let sent = bench.sent();
    bench.answer(sent[0].0, Ack::RefusedTopic { reason: "NotAuthorized".into() });
    assert_eq!(bench.outcomes().dropped.get(&DropReason::DeadLetter), Some(&4));
    assert_eq!(bench.core.poll_timeout(), Some(bench.now.elapsed + Duration::from_secs(1)));
    bench.pass(1_000);
    let gaps = bench.sent().remove(0).1.gaps;
    assert_eq!(
        (&*gaps[0].stream, gaps[0].from, gaps[0].to, &*gaps[0].why),
        ("a", 1, 4, "dead-letter")
    );
}

#[test]
fn what_the_far_side_cannot_take_is_divided_before_it_is_sent() {
    let mut bench = Bench::new(|_| {});
    bench.put("a", &format!("\"{}\"", "x".repeat(2_000)));
    for number in 0..3 {
        bench.put("a", &number.to_string());
    }
    bench.connect(1_000);
    let sent = bench.sent();
    let sizes: Vec<usize> = sent.iter().map(|(_, batch)| batch.readings.len()).collect();
    assert_eq!(sizes, [1, 1, 1]);
    for (id, _) in sent {
        bench.answer(id, Ack::Accepted);
    }
    assert_eq!(bench.outcomes().delivered, 3);
    assert_eq!(bench.outcomes().dropped.get(&DropReason::DeadLetter), Some(&1));
}

#[test]
fn readings_that_waited_for_an_outage_are_marked() {
    let mut bench = Bench::new(|settings| settings.batch.readings = 1);
    bench.put("a", "0");
    bench.connect(usize::MAX);
    bench.put("a", "1");
    bench.core.handle_disconnected(Disconnect::Otherwise, bench.now);
    bench.pass(1_000);
    bench.put("a", "2");
    bench.pass(60_000);
    bench.put("a", "3");
    bench.connect(usize::MAX);
    bench.put("a", "4");
    let replayed: Vec<bool> =
        bench.sent().iter().map(|(_, batch)| batch.readings[0].replayed).collect();
    assert_eq!(replayed, [false, false, false, true, false]);
}

/// What was decided when an outage began has waited for its end, too, for who says so of each reading.
#[test]
fn a_connection_of_its_own_is_told_what_has_waited() {
    let mut bench = Bench::new(|settings| {
        settings.format = Format::Typed;
        settings.topic = TopicTemplate::new("{topic}", "gw", Format::Typed).unwrap();
    });
    let sent = |bench: &mut Bench| {
        bench.pass(2_000);
        let mut said = Vec::new();
        while let Some(next) = bench.core.poll_send() {
            said.push(next.publication.typed.unwrap().replayed);
            bench.core.handle_ack(next.id, Ack::Accepted);
        }
        bench.settle();
        said
    };
    bench.put("a", "1");
    assert!(sent(&mut bench).is_empty());
    bench.pass(4_000);
    bench.core.handle_connected(usize::MAX, bench.now);
    bench.put("a", "2");
    assert_eq!(sent(&mut bench), [true, false]);
}

/// D29: what came before the process started may have been sent by the one before, however lately that was, and whatever
/// the clock says; a kill takes the memory of it.
#[test]
fn a_connection_of_its_own_is_told_what_may_have_been_sent_before_a_kill() {
    let mut bench = Bench::new(|settings| {
        settings.format = Format::Typed;
        settings.topic = TopicTemplate::new("{topic}", "gw", Format::Typed).unwrap();
        settings.batch.readings = 1;
        settings.recovered = 2;
    });
    bench.connect(usize::MAX);
    let mut said = Vec::new();
    for number in 0..4 {
        bench.put("a", &number.to_string());
        bench.pass(10);
        while let Some(next) = bench.core.poll_send() {
            said.push(next.publication.typed.unwrap().replayed);
            bench.core.handle_ack(next.id, Ack::Accepted);
        }
    }
    assert_eq!(said, [true, true, false, false]);
}

/// uplink.1: what has waited for too long is dropped, decided or not, with a gap; what is younger stays.
#[test]
fn uplink_1_records_wait_for_so_long_and_no_longer() {
    let mut bench = Bench::new(|settings| settings.max_age = Some(Duration::from_secs(100)));
    let load = Load::default();
    for minute in 0..4 {
        for number in 0..6 {
            bench.put("a", &(minute * 10 + number).to_string());
        }
        bench.pass(30_000);
        bench.core.handle_load(load, bench.now);
        bench.settle();
    }
    // After 120 s the first six are too old; two of them share a batch with younger ones, which age closed.
    assert_eq!(bench.outcomes().dropped.get(&DropReason::Age), Some(&6));
    bench.now.wall_is_trusted = false;
    bench.pass(1_000_000);
    bench.core.handle_load(load, bench.now);
    bench.settle();
    assert_eq!(
        bench.outcomes().dropped.get(&DropReason::Age),
        Some(&6),
        "the clock is not trusted"
    );
    bench.now.wall = Timestamp::from_unix_millis(BEGIN_MILLIS + 120_000);
    bench.now.wall_is_trusted = true;
    bench.connect(usize::MAX);
    let sent = bench.sent();
    let numbers: Vec<i64> =
        sent.iter().flat_map(|(_, batch)| &batch.readings).map(|reading| reading.number).collect();
    assert_eq!(numbers, (7..=24).collect::<Vec<_>>());
    for (id, _) in sent {
        bench.answer(id, Ack::Accepted);
    }
    bench.pass(1_000);
    let gaps = bench.sent().remove(0).1.gaps;
    assert_eq!((&*gaps[0].stream, gaps[0].from, gaps[0].to, &*gaps[0].why), ("a", 1, 6, "age"));
}

/// uplink.1: a record that is too old when it is read takes its number and goes, and a restart decides no differently.
#[test]
fn uplink_1_old_records_are_dropped_as_they_are_read() {
    let mut bench = Bench::new(|settings| {
        settings.max_age = Some(Duration::from_secs(100));
        settings.batch.readings = 100;
    });
    let old = bench.now.wall;
    bench.pass(200_000);
    let recent = bench.now.wall;
    for (arrival, value) in [(old, "1"), (recent, "2"), (old, "3"), (recent, "4")] {
        bench.now.wall = arrival;
        let item = bench.item("a", value);
        bench.now.wall = recent;
        bench.core.handle_item(&item, bench.now);
    }
    bench.core.flush();
    bench.settle();
    let entries = bench.entries.clone();
    let pairs = || entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    let settings = bench.core.settings().clone();
    let core = Core::open(settings, pairs(), bench.now).unwrap();
    bench.core = core;
    bench.next = 1;
    for (arrival, value) in [(old, "1"), (recent, "2"), (old, "3"), (recent, "4")] {
        bench.now.wall = arrival;
        let item = bench.item("a", value);
        bench.now.wall = recent;
        bench.core.handle_item(&item, bench.now);
    }
    bench.settle();
    bench.connect(usize::MAX);
    let sent = bench.sent();
    let readings = sent.iter().flat_map(|(_, batch)| &batch.readings);
    let numbers: Vec<i64> = readings.map(|reading| reading.number).collect();
    assert_eq!(numbers, [2, 4]);
    for (id, _) in sent {
        bench.answer(id, Ack::Accepted);
    }
    assert_eq!(bench.outcomes().dropped.get(&DropReason::Age), Some(&2));
    assert_eq!(bench.outcomes().delivered, 2);
}

/// uplink.1, A6: a clock that is set makes no record old that has just come.
#[test]
fn uplink_1_a_clock_that_is_set_makes_nothing_old() {
    let mut bench = Bench::new(|settings| settings.max_age = Some(Duration::from_secs(100)));
    bench.put("a", "1");
    bench.pass(2_000);
    // A day later, says the clock; two seconds, say we.
    bench.now.wall = bench.now.wall.saturating_add(Duration::from_secs(86_400));
    bench.core.handle_load(Load::default(), bench.now);
    bench.settle();
    assert_eq!(bench.outcomes().dropped.get(&DropReason::Age), None);
    // What was stamped by a clock that was never set has no age, however long it waits.
    bench.now.wall = Timestamp::from_unix_millis(1_000);
    let item = bench.item("a", "2");
    bench.now.wall = Timestamp::from_unix_millis(BEGIN_MILLIS);
    bench.pass(200_000);
    bench.core.handle_item(&item, bench.now);
    bench.pass(2_000);
    bench.connect(usize::MAX);
    let sent = bench.sent();
    let numbers = sent.iter().flat_map(|(_, batch)| &batch.readings).map(|reading| reading.number);
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn streams_beyond_the_limit_are_dropped_and_counted() {
    let mut bench = Bench::new(|settings| settings.streams_max = 2);
    bench.connect(usize::MAX);
    for topic in ["a", "b", "c", "a"] {
        bench.put(topic, "1");
    }
    bench.pass(1_000);
    for (id, _) in bench.sent() {
        bench.answer(id, Ack::Accepted);
    }
    assert_eq!(bench.outcomes().delivered, 3);
    assert_eq!(bench.outcomes().dropped.get(&DropReason::Streams), Some(&1));
}

#[test]
fn a_store_that_is_tight_gets_the_oldest_back_a_share_at_a_time() {
    let mut bench = Bench::new(|settings| settings.batch.readings = 100);
    for _ in 0..3 {
        for number in 0..100 {
            bench.put("a", &number.to_string());
        }
    }
    let load = Load { queued_bytes: 16_000, store_is_tight: true };
    bench.core.handle_load(load, bench.now);
    bench.settle();
    assert_eq!(bench.outcomes().dropped.get(&DropReason::Full), Some(&100));
    assert_eq!(bench.moved.len(), 1);
}

#[test]
fn a_new_directory_epoch_gives_numbers_anew() {
    let mut bench = Bench::new(|settings| settings.batch.readings = 1);
    bench.put("a", "1");
    bench.put("a", "2");
    bench.connect(usize::MAX);
    let sent = bench.sent();
    assert_eq!((sent[1].1.epoch, sent[1].1.readings[0].number), (1, 2));
    bench.answer(sent[0].0, Ack::Accepted);
    let pairs = || bench.entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    // The same epoch goes on, with the batch that was not acknowledged first.
    let same = Core::open(bench.core.settings().clone(), pairs(), bench.now).unwrap();
    assert_eq!((same.cursor().ordinal, same.restoring.len()), (1, 1));
    let mut settings = bench.core.settings().clone();
    settings.epoch = 2;
    let mut other = Core::open(settings, pairs(), bench.now).unwrap();
    assert_eq!((other.cursor().ordinal, other.restoring.len(), other.streams.len()), (1, 0, 0));
    assert_eq!(other.totals().delivered, 1);
    let item = Item::Damaged {
        first_seq: Seq::new(4),
        last_seq: Seq::new(4),
        records: 1,
        position: Position { seq: Seq::new(4), ordinal: 2 },
    };
    other.handle_item(&item, bench.now);
    other.flush();
    let write = other.poll_write().unwrap();
    assert!(
        write.changes.len() > 3,
        "what belongs to the old epoch is deleted with the first write"
    );
}

#[test]
fn state_that_may_be_stale_is_renewed_and_a_retired_uplink_keeps_its_numbers() {
    let mut bench = Bench::new(|settings| settings.batch.readings = 1);
    bench.put("a", "1");
    bench.put("a", "2");
    let name = bench.core.settings().name.clone();
    let with = |changes: Vec<Change>| {
        let mut entries = bench.entries.clone();
        for change in changes {
            match change {
                Change::Put { key, value } => drop(entries.insert(key, value)),
                Change::Delete { key } => drop(entries.remove(&key)),
            }
        }
        entries
    };
    let pairs = || bench.entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    let open = |entries: &std::collections::BTreeMap<Vec<u8>, Vec<u8>>| {
        let settings = Settings { epoch: 1, ..bench.core.settings().clone() };
        let pairs = entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        Core::open(settings, pairs, bench.now).unwrap()
    };
    let renewed = open(&with(renew(&name, pairs(), 1, 77).unwrap()));
    assert_eq!(renewed.settings().epoch, 78);
    assert_eq!((renewed.restoring.len(), renewed.streams.len()), (0, 0));
    let mut retired = open(&with(retire(&name, pairs()).unwrap()));
    assert_eq!((retired.settings().epoch, retired.restoring.len()), (1, 0));
    let stream = retired.streams.id(&Topic::new("a").unwrap()).unwrap();
    assert_eq!(retired.streams.at(stream).next, 3);
}

/// uplink.21: what the far side would close the connection for is never sent: it is set aside at once, or divided.
#[test]
fn what_a_profile_does_not_take_is_not_sent() {
    let mut bench = Bench::new(|settings| {
        settings.profile = Profile::AwsIotCore;
        settings.format = Format::Message;
        settings.topic = TopicTemplate::new("up/{topic}", "gw", Format::Message).unwrap();
    });
    bench.connect(usize::MAX);
    bench.put("1/2/3/4/5/6/7/8", "1");
    bench.put("1/2/3/4/5/6/7", "2");
    bench.put("a", &format!("\"{}\"", "x".repeat(128 << 10)));
    let sent: Vec<Outgoing> = std::iter::from_fn(|| bench.core.poll_send()).collect();
    let topics: Vec<&str> = sent.iter().map(|sent| &*sent.publication.topic).collect();
    assert_eq!(topics, ["up/1/2/3/4/5/6/7"]);
    bench.answer(sent[0].id, Ack::Accepted);
    let outcomes = bench.outcomes();
    assert_eq!((outcomes.delivered, outcomes.dropped[&DropReason::DeadLetter]), (1, 2));

    let mut bench = Bench::new(|settings| {
        settings.profile = Profile::AwsIotCore;
        settings.batch.bytes = 1 << 20;
    });
    bench.connect(usize::MAX);
    for _ in 0..4 {
        bench.put("a", &format!("\"{}\"", "x".repeat(50 << 10)));
    }
    let sent = bench.sent();
    assert!(sent.len() > 1, "200 KiB do not go in one piece");
    let numbers: Vec<i64> =
        sent.iter().flat_map(|(_, batch)| batch.readings.iter().map(|it| it.number)).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}
