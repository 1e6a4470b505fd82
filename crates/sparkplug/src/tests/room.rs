//! What does not fit: births, messages and topics that are larger than the broker takes.

use std::{collections::BTreeMap, time::Duration};

use tidegate_model::Value;

use super::rig::{Rig, Seen, kinds, seqs, settings};
use crate::{Event, MetricValue, Settings};

/// As a strict host: every packet fits, numbers have no gaps, data is of what was announced, and every reading is carried
/// once or refused once.
struct Host {
    packet_bytes_max: usize,
    seq: u64,
    announced: BTreeMap<String, Vec<u64>>,
    tickets: Vec<u16>,
    refused: Vec<(u16, String)>,
    no_room: Vec<usize>,
    values: Vec<MetricValue>,
}

impl Host {
    fn new(packet_bytes_max: usize) -> Self {
        Self {
            packet_bytes_max,
            seq: 255,
            announced: BTreeMap::new(),
            tickets: Vec::new(),
            refused: Vec::new(),
            no_room: Vec::new(),
            values: Vec::new(),
        }
    }

    fn listen(&mut self, rig: &mut Rig) {
        rig.session.flush(rig.now);
        for event in rig.events() {
            match event {
                Event::Publish(message) => {
                    assert!(message.packet_bytes() <= self.packet_bytes_max, "{}", message.topic);
                    self.take(Seen::of(message));
                }
                Event::Refused { ticket, reason } => self.refused.push((ticket, reason)),
                Event::NoRoom { metrics, bytes_max, .. } => {
                    assert!(bytes_max < self.packet_bytes_max);
                    self.no_room.push(metrics);
                }
                _ => {}
            }
        }
    }

    fn take(&mut self, seen: Seen) {
        let levels: Vec<&str> = seen.topic.split('/').collect();
        self.seq = if levels[2] == "NBIRTH" { 0 } else { (self.seq + 1) % 256 };
        assert_eq!(seen.payload.seq, Some(self.seq), "{}", seen.topic);
        let part = levels.get(4).unwrap_or(&"").to_string();
        let aliases: Vec<u64> = seen.payload.metrics.iter().filter_map(|it| it.alias).collect();
        if levels[2].contains("BIRTH") {
            self.announced.insert(part, aliases);
        } else {
            assert!(aliases.iter().all(|alias| self.announced[&part].contains(alias)));
        }
        self.tickets.extend(seen.tickets);
        self.values.extend(seen.payload.metrics.into_iter().filter_map(|it| it.value));
    }

    /// Every reading up to this one has one fate.
    fn has_all(&self, last: u16) {
        let refused = self.refused.iter().map(|(ticket, _)| *ticket);
        let mut all: Vec<u16> = self.tickets.iter().copied().chain(refused).collect();
        all.sort_unstable();
        assert_eq!(all, (1..=last).collect::<Vec<_>>());
    }
}

fn limited(packet_bytes_max: usize, settings: Settings) -> (Rig, Host) {
    let mut rig = Rig::begin(settings, crate::Memory::new());
    rig.session.limit_bytes(packet_bytes_max);
    rig.session.handle_subscribed(rig.now);
    (rig, Host::new(packet_bytes_max))
}

/// A birth is as large as the broker takes it: metrics without room are told of, and their readings refused; all others go on.
#[test]
fn births_have_as_many_metrics_as_there_is_room_for() {
    let (mut rig, mut host) = limited(1_000, settings());
    let mut last = 0;
    for round in 0..4 {
        for number in 0..60 {
            last = rig.row(&format!("h/a/metric-{number}"), f64::from(round));
        }
        last = last.max(rig.row("h/b/t", 1.0));
        rig.pass(Duration::from_secs(2));
        host.listen(&mut rig);
    }
    rig.ask_rebirth();
    rig.pass(Duration::from_secs(5));
    host.listen(&mut rig);
    let announced = host.announced["a"].len();
    assert!((20..40).contains(&announced), "{announced}");
    assert_eq!(host.announced["b"].len(), 1);
    assert_eq!(host.no_room, [60 - announced], "it is told once");
    host.has_all(last);
    assert_eq!(host.refused.len(), 4 * (60 - announced));
    assert!(host.refused.iter().all(|(_, reason)| reason.contains("no room")));
}

/// Before a metric is left out, large values are: they come as data behind the birth.
#[test]
fn large_values_make_room_for_metrics() {
    let (mut rig, mut host) = limited(1_000, settings());
    let text = |number: usize| Value::string(&format!("{number}").repeat(300));
    for number in 0..6 {
        rig.row_at(&format!("h/a/m{number}"), text(number), 0, false);
    }
    host.listen(&mut rig);
    host.has_all(6);
    assert_eq!((host.refused.len(), host.announced["a"].len()), (0, 6));
    assert_eq!(host.values.iter().filter(|it| matches!(it, MetricValue::String(_))).count(), 6);
}

/// Values too large to be kept over a restart are not lost with the birth that they bring about, and births know them.
#[test]
fn large_first_values_arrive() {
    let (mut rig, mut host) = limited(10_000_000, settings());
    let text = MetricValue::String("x".repeat(100_000).into());
    for number in 0..12 {
        rig.row_at(&format!("h/a/m{number}"), Value::string(&"x".repeat(100_000)), 0, false);
    }
    host.listen(&mut rig);
    host.has_all(12);
    assert_eq!(host.values.iter().filter(|value| **value == text).count(), 12);
    // Of what is remembered there is a bound, though: the rest is null until it comes again.
    rig.ask_rebirth();
    rig.pass(Duration::from_secs(5));
    host.values.clear();
    host.listen(&mut rig);
    assert_eq!(host.values.iter().filter(|value| **value == text).count(), 10);
}

/// Data is divided by its size on the wire; a single reading that is too large is refused, and takes no number.
#[test]
fn messages_are_divided_before_they_are_numbered() {
    for aliases in [true, false] {
        let (mut rig, mut host) = limited(600, Settings { aliases, ..settings() });
        rig.row_at("h/a/a-name-that-takes-room", Value::string(""), 0, false);
        rig.row_at("free", Value::string(""), 0, false);
        host.listen(&mut rig);
        rig.pass(Duration::from_secs(2));
        let mut last = 2;
        for length in 0..100_usize {
            let text = Value::string(&"x".repeat(length * 7));
            rig.row_at("free", text.clone(), 1, false);
            last = rig.row_at("h/a/a-name-that-takes-room", text, 1, false);
        }
        host.listen(&mut rig);
        host.has_all(last);
        // 7 bytes more or less make the difference.
        let refused = host.refused.len();
        assert!((28..60).contains(&refused), "{refused}");
        assert!(host.refused.iter().all(|(_, reason)| reason.contains("bytes")));
    }
}

/// A profile bounds payloads and topics whatever the broker says.
#[test]
fn profiles_bound_payloads_and_topics() {
    let bounded =
        Settings { payload_bytes_max: Some(500), topic_bytes_max: Some(40), ..settings() };
    let mut rig = Rig::online(bounded);
    rig.row_at("h/a/t", Value::string(""), 0, false);
    assert_eq!(kinds(&rig.flush()), ["DBIRTH/e/a"]);
    let large = rig.row_at("h/a/t", Value::string(&"x".repeat(500)), 0, false);
    let far = rig.row(&format!("h/{}/t", "d".repeat(30)), 1.0);
    let refused = rig.refused();
    assert_eq!(refused.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), [far, large]);
    assert!(refused[0].1.contains("topics"), "{refused:?}");
    rig.row_at("h/a/t", Value::string("x"), 0, false);
    assert_eq!(seqs(&rig.flush()), [Some(2)]);
}
