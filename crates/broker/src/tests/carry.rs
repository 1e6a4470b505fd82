//! Records of sessions that are carried forward: nothing is lost, doubled or put out of order.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidegate_store::Seq;

use super::*;

impl House {
    /// Acknowledges a message at the quality of service it was sent with.
    pub(super) fn finish(&mut self, attachment: Attachment, packet_id: u16) {
        if self.core.acknowledged(attachment, packet_id).unwrap() {
            let progress = self.core.take_progress(attachment);
            self.store(progress);
            return;
        }
        let received = self.core.received(attachment, packet_id).unwrap().expect("in flight");
        self.store(received);
        let (known, completed) = self.core.completed(attachment, packet_id).unwrap();
        assert!(known);
        self.store(completed);
    }

    /// Carries forward what can be, then lets go of what nobody needs.
    fn carry(&mut self, horizon: Seq, bytes_max: usize) -> u64 {
        let carried = self.core.carry(horizon, bytes_max);
        self.journal.write(&carried.transactions);
        self.journal.commit().unwrap();
        let floor = self.core.first_needed().unwrap_or(self.core.last_seq().next());
        self.journal.release(floor).unwrap();
        carried.records
    }
}

/// main.9: an offline session with one unread message does not keep the journal from being released.
#[test]
fn one_unread_message_does_not_hold_the_journal() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "alarm", Qos::AtLeastOnce);
    house.publish("alarm", "unread", Qos::AtLeastOnce);
    let keeper = house.connect("b", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(keeper, "bulk", Qos::AtLeastOnce);
    for number in 0..1_000 {
        house.publish("bulk", &format!("{number:0200}"), Qos::AtLeastOnce);
        let due = house.take(keeper);
        house.acknowledge(keeper, due[0].rsplit('/').next().unwrap().parse().unwrap());
    }
    let before = house.journal.catalog().bytes();
    house.journal.release(house.core.first_needed().unwrap()).unwrap();
    assert_eq!(house.journal.catalog().bytes(), before, "the unread message holds all of it");
    let horizon = house.journal.catalog().horizon(64 << 10);
    assert_eq!(house.carry(horizon, 1 << 20), 1);
    assert!(house.journal.catalog().bytes() < before / 2);
    assert_eq!(house.core.counters().carried_records, 1);

    let mut house = house.cut_power();
    let attachment = house.connect("a", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(attachment), ["alarm=unread/1"]);
}

/// D7: exchanges of quality of service 2 go on with their identifiers after their records have moved.
#[test]
fn exchanges_under_way_move_too() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "#", Qos::ExactlyOnce);
    for payload in ["1", "2", "3"] {
        house.publish("t", payload, Qos::ExactlyOnce);
    }
    assert_eq!(house.take(attachment), ["t=1/1", "t=2/2", "t=3/3"]);
    let transaction = house.core.received(attachment, 2).unwrap().unwrap();
    house.store(transaction);
    let (_, transaction) = house.core.completed(attachment, 1).unwrap();
    house.store(transaction);
    house.publish("t", "4", Qos::ExactlyOnce);
    assert_eq!(house.carry(Seq::new(u64::MAX), 1 << 20), 3);

    let mut house = house.cut_power();
    let attachment = house.connect("a", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(attachment), ["release/2", "t=3/3!", "t=4/1"]);
    let (known, transaction) = house.core.completed(attachment, 2).unwrap();
    assert!(known);
    house.store(transaction);
    let mut house = house.cut_power();
    let attachment = house.connect("a", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(attachment), ["t=3/3!", "t=4/1!"]);
}

/// Copies count only when all of them are there; until then the old records do, and nothing comes twice.
#[test]
fn a_carrying_that_is_cut_off_leaves_no_trace() {
    let mut house = House::new();
    for name in ["a", "b"] {
        let attachment = house.connect(name, Expiry::After(HOUR), true, None).attachment;
        house.subscribe(attachment, "#", Qos::ExactlyOnce);
    }
    for number in 0..14 {
        let payload = format!("{number}{}", "x".repeat(900_000));
        house.publish("t", &payload, Qos::ExactlyOnce);
    }
    let carried = house.core.carry(Seq::new(u64::MAX), 64 << 20);
    assert!(carried.transactions.len() > 2, "it takes several transactions");
    assert_eq!(carried.records, 14, "what waits for two sessions is appended once");
    for durable in 0..=carried.transactions.len() {
        let is_whole = durable == carried.transactions.len();
        let disk = house.disk.power_cut(Fate::Dropped);
        let mut cut = House::open(disk, house.now, BrokerLimits::default());
        cut.journal.write(&carried.transactions[..durable]);
        cut.journal.commit().unwrap();
        for _ in 0..2 {
            cut = cut.cut_power();
            for name in ["a", "b"] {
                let attachment = cut.connect(name, Expiry::After(HOUR), false, None).attachment;
                let first = cut.take(attachment);
                assert_eq!(first.len(), 10, "the window; {durable} parts");
                let session = &cut.core.sessions[attachment.session.0];
                assert_eq!(session.queue.len(), 4, "{durable} parts");
            }
        }
        let needed = cut.core.first_needed().unwrap();
        assert_eq!(needed > Seq::new(14), is_whole, "{durable} parts");
        assert_eq!(cut.core.is_struck(Seq::new(15)), !is_whole && durable > 0);
        let transaction = cut.core.forget_struck(Seq::new(100));
        assert_eq!(transaction.is_some(), !is_whole && durable > 0);
        cut.store(transaction);
        assert!(!cut.cut_power().core.is_struck(Seq::new(15)));
    }
}

/// The numbers of copies that never came are not given to new messages.
#[test]
fn a_torn_carrying_takes_no_new_message_with_it() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "t", Qos::AtLeastOnce);
    for number in 0..8 {
        let payload = format!("{number}{}", "x".repeat(900_000));
        house.publish("t", &payload, Qos::AtLeastOnce);
    }
    let carried = house.core.carry(Seq::new(u64::MAX), 64 << 20);
    assert!(carried.transactions.len() > 1);
    house.journal.write(&carried.transactions[..1]);
    house.journal.commit().unwrap();
    let mut house = house.cut_power();
    house.publish("t", "acknowledged", Qos::AtLeastOnce);
    let mut house = house.cut_power();
    let attachment = house.connect("a", Expiry::After(HOUR), false, None).attachment;
    let due = house.take(attachment);
    assert_eq!((due.len(), due.last().unwrap().as_str()), (9, "t=acknowledged/9"));
}

/// A carrying for many sessions keeps its budget, and may be cut off like any other.
#[test]
fn many_sessions_with_the_same_messages_move_bit_by_bit() {
    let mut house = House::new();
    for name in 0..60 {
        let expiry = Expiry::After(HOUR);
        let attachment = house.connect(&name.to_string(), expiry, true, None).attachment;
        house.subscribe(attachment, "t", Qos::AtLeastOnce);
    }
    for number in 0..500 {
        house.publish("t", &number.to_string(), Qos::AtLeastOnce);
    }
    let carried = house.core.carry(Seq::new(501), 200 << 10);
    assert!(carried.bytes < 200 << 10, "{}", carried.bytes);
    assert_eq!(carried.records, 500, "what is shared is appended once");
    let first = house.core.first_needed().unwrap();
    assert_eq!(first, Seq::new(1), "the others wait for their turn");
    let mut house = house.cut_power();
    for _ in 0..60 {
        house.carry(Seq::new(501), 200 << 10);
    }
    assert!(house.core.first_needed().unwrap() > Seq::new(500), "all of them have moved");
    let mut house = house.cut_power();
    for name in 0..60 {
        let expiry = Expiry::After(HOUR);
        let attachment = house.connect(&name.to_string(), expiry, false, None).attachment;
        assert_eq!(house.core.sessions[attachment.session.0].queue.len(), 500);
        assert_eq!(house.take(attachment)[0], "t=0/1");
    }
}

/// What stays in use is not carried round and round.
#[test]
fn carrying_keeps_to_its_allowance() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "t", Qos::AtLeastOnce);
    for _ in 0..100 {
        house.publish("t", &"x".repeat(1_000), Qos::AtLeastOnce);
    }
    let mut carried = 0;
    loop {
        let allowance = house.core.carry_allowance(64 << 10);
        if allowance == 0 {
            break;
        }
        assert!(house.carry(Seq::new(u64::MAX), allowance) > 0);
        carried += 1;
        assert!(carried < 10, "it ends without new messages");
    }
    for _ in 0..200 {
        house.publish("t", &"x".repeat(1_000), Qos::AtLeastOnce);
    }
    assert!(house.core.carry_allowance(64 << 10) > 0, "new messages allow it again");
}

#[derive(Clone, Debug)]
enum Step {
    /// Publishes to one session or to all.
    Publish(Option<usize>),
    /// Takes what is due and acknowledges some of it, by its place.
    Acknowledge(usize, Vec<prop::sample::Index>),
    Carry(u8, u16),
    /// Carries, and cuts the power when some of the transactions are durable.
    TornCarry(u8, prop::sample::Index),
    CutPower,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::option::of(0..SESSIONS).prop_map(Step::Publish),
        3 => (0..SESSIONS, prop::collection::vec(any::<prop::sample::Index>(), 0..4))
            .prop_map(|(session, which)| Step::Acknowledge(session, which)),
        2 => (any::<u8>(), any::<u16>()).prop_map(|(share, bytes)| Step::Carry(share, bytes)),
        1 => (any::<u8>(), any::<prop::sample::Index>())
            .prop_map(|(share, parts)| Step::TornCarry(share, parts)),
        1 => Just(Step::CutPower),
    ]
}

const SESSIONS: usize = 3;

/// The attachments of all sessions, in order.
fn attach(house: &mut House) -> Vec<Attachment> {
    (0..SESSIONS)
        .map(|number| {
            house.connect(&number.to_string(), Expiry::After(HOUR), false, None).attachment
        })
        .collect()
}

proptest! {
    /// Whatever is published, acknowledged, carried and cut off: each session gets what it has not
    /// acknowledged, in order.
    #[test]
    fn sessions_keep_their_order(steps in prop::collection::vec(step(), 1..80)) {
        let mut house = House::new();
        let mut attachments = attach(&mut house);
        for (number, attachment) in attachments.iter().enumerate() {
            house.subscribe(*attachment, &format!("{number}"), Qos::ExactlyOnce);
            house.subscribe(*attachment, "all", Qos::ExactlyOnce);
        }
        let mut expected: Vec<Vec<String>> = vec![Vec::new(); SESSIONS];
        // What each session was sent and has not acknowledged: packet identifiers by payload.
        let mut sent: Vec<BTreeMap<String, u16>> = vec![BTreeMap::new(); SESSIONS];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Publish(to) => {
                    let topic = to.map_or("all".to_owned(), |to| to.to_string());
                    let payload = format!("{number:04}");
                    let qos = if number % 2 == 0 { Qos::AtLeastOnce } else { Qos::ExactlyOnce };
                    house.publish(&topic, &payload, qos);
                    for (session, list) in expected.iter_mut().enumerate() {
                        if to.is_none_or(|to| to == session) {
                            list.push(payload.clone());
                        }
                    }
                }
                Step::Acknowledge(session, which) => {
                    for text in house.take(attachments[session]) {
                        let (payload, packet_id) = split(&text);
                        sent[session].insert(payload, packet_id);
                    }
                    for index in which {
                        if sent[session].is_empty() {
                            break;
                        }
                        let payload = index.get(&sent[session].keys().cloned().collect::<Vec<_>>()).clone();
                        let packet_id = sent[session].remove(&payload).unwrap();
                        house.finish(attachments[session], packet_id);
                        expected[session].retain(|waiting| *waiting != payload);
                    }
                }
                Step::Carry(share, bytes) => {
                    let last = house.core.last_seq().get();
                    house.carry(Seq::new(last * u64::from(share) / 255), bytes.into());
                }
                Step::TornCarry(share, parts) => {
                    let last = house.core.last_seq().get();
                    let horizon = Seq::new(last * u64::from(share) / 255);
                    let carried = house.core.carry(horizon, usize::MAX);
                    let durable = parts.index(carried.transactions.len() + 1);
                    house.journal.write(&carried.transactions[..durable]);
                    house.journal.commit().unwrap();
                    house = house.cut_power();
                    attachments = attach(&mut house);
                    sent = vec![BTreeMap::new(); SESSIONS];
                }
                Step::CutPower => {
                    house = house.cut_power();
                    attachments = attach(&mut house);
                    sent = vec![BTreeMap::new(); SESSIONS];
                }
            }
        }
        let mut house = house.cut_power();
        for (session, attachment) in attach(&mut house).into_iter().enumerate() {
            let mut got = Vec::new();
            loop {
                let due = house.take(attachment);
                if due.is_empty() {
                    break;
                }
                for text in due {
                    let (payload, packet_id) = split(&text);
                    got.push(payload);
                    house.finish(attachment, packet_id);
                }
            }
            // Exchanges of quality of service 2 that are under way go first: order is promised for messages of
            // the same quality of service (MQTT 5.0, section 4.6), which their numbers tell here.
            let of_kind = |list: &[String], rest| -> Vec<String> {
                let is_of_kind = |payload: &&String| payload.parse::<u32>().unwrap() % 2 == rest;
                list.iter().filter(is_of_kind).cloned().collect()
            };
            prop_assert_eq!(got.len(), expected[session].len());
            for rest in [0, 1] {
                prop_assert_eq!(of_kind(&got, rest), of_kind(&expected[session], rest));
            }
        }
    }
}

/// Splits `topic=payload/packet id`.
fn split(text: &str) -> (String, u16) {
    let (_, rest) = text.split_once('=').unwrap();
    let (payload, packet_id) = rest.split_once('/').unwrap();
    (payload.to_owned(), packet_id.trim_end_matches(['!', 'r']).parse().unwrap())
}
