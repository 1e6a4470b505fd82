//! Shared subscriptions under random orders of events: no message is lost, none of quality of service 2 is doubled.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Clients of the group.
const CLIENTS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Publish(Qos),
    /// Takes what is due, and finishes the oldest so many.
    Work(usize, usize),
    Leave(usize),
    /// Connects; whether a new session is asked for.
    Come(usize, bool),
    CutPower,
    Tick,
}

fn any_step() -> impl Strategy<Value = Step> {
    let qos = prop_oneof![Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)];
    prop_oneof![
        6 => qos.prop_map(Step::Publish),
        4 => (0..CLIENTS, 0_usize..6).prop_map(|(client, count)| Step::Work(client, count)),
        2 => (0..CLIENTS).prop_map(Step::Leave),
        3 => (0..CLIENTS, prop::bool::weighted(0.2)).prop_map(|(client, clean)| Step::Come(client, clean)),
        1 => Just(Step::CutPower),
        1 => Just(Step::Tick),
    ]
}

struct Model {
    house: House,
    attached: [Option<Attachment>; CLIENTS],
    qos: BTreeMap<String, Qos>,
    finished: BTreeMap<String, u32>,
    /// What was sent with quality of service 2 to a session that has ended: it goes to nobody else.
    ended: BTreeSet<String>,
    number: u32,
}

impl Model {
    fn new() -> Self {
        let mut model = Self {
            house: House::new(),
            attached: [None; CLIENTS],
            qos: BTreeMap::new(),
            finished: BTreeMap::new(),
            ended: BTreeSet::new(),
            number: 0,
        };
        for client in 0..CLIENTS {
            model.come(client, true);
        }
        model
    }

    fn come(&mut self, client: usize, is_clean: bool) {
        if is_clean {
            self.note_end(client);
        }
        let name = format!("c{client}");
        let outcome = self.house.connect(&name, Expiry::After(HOUR), is_clean, None);
        if !outcome.session_present {
            self.house.subscribe(outcome.attachment, "$share/g/t", Qos::ExactlyOnce);
        }
        self.attached[client] = Some(outcome.attachment);
    }

    /// Notes which exchanges end with a session.
    fn note_end(&mut self, client: usize) {
        let name = (Principal::anonymous(), ClientId::new(&format!("c{client}")).unwrap());
        let Some(key) = self.house.core.by_client.get(&name) else { return };
        let inflight = self.house.core.sessions[key.0].inflight.iter();
        let begun = inflight.filter(|inflight| inflight.delivery.qos == Qos::ExactlyOnce);
        self.ended.extend(begun.map(|inflight| {
            let payload = inflight.delivery.routed.message.payload.to_bytes();
            String::from_utf8_lossy(&payload).into_owned()
        }));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish(qos) => {
                let payload = format!("{:010}", self.number);
                self.number += 1;
                self.house.publish("t", &payload, *qos);
                self.qos.insert(payload, *qos);
            }
            Step::Work(client, count) => self.work(*client, *count),
            Step::Leave(client) => {
                if let Some(attachment) = self.attached[*client].take() {
                    let now = self.house.now;
                    let how = Disconnect::Abnormal;
                    let tick = self.house.core.disconnect(attachment, how, now).unwrap();
                    self.house.store(tick.transactions);
                }
            }
            Step::Come(client, is_clean) => self.come(*client, *is_clean),
            Step::Tick => {
                let tick = self.house.core.tick(self.house.now);
                self.house.store(tick.transactions);
            }
            Step::CutPower => {
                let disk = self.house.disk.power_cut(Fate::Dropped);
                let connections = self.house.connections;
                self.house = House::open(disk, self.house.now, BrokerLimits::default());
                self.house.connections = connections;
                self.attached = [None; CLIENTS];
            }
        }
    }

    fn work(&mut self, client: usize, count: usize) {
        let Some(attachment) = self.attached[client] else { return };
        let mut due = Vec::new();
        let transaction =
            self.house.core.take_due(attachment, self.house.now, 100, &mut due).unwrap();
        self.house.store(transaction);
        for _ in 0..count {
            let session = &self.house.core.sessions[attachment.session().0];
            let Some(oldest) = session.inflight.front() else { return };
            let packet_id = oldest.packet_id;
            let payload = oldest.delivery.routed.message.payload.to_bytes();
            let payload = String::from_utf8_lossy(&payload).into_owned();
            self.house.finish(attachment, packet_id);
            *self.finished.entry(payload).or_insert(0) += 1;
        }
    }

    /// Lets everybody come and work until nothing is left.
    fn drain(&mut self) {
        for client in 0..CLIENTS {
            if self.attached[client].is_none() {
                self.come(client, false);
            }
        }
        for _ in 0..1_000 {
            (0..CLIENTS).for_each(|client| self.work(client, 100));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// broker.5, D14: whatever happens, every message is finished by a member; one of quality of service 2 once.
    #[test]
    fn no_message_of_a_group_is_lost(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        model.drain();
        for (payload, qos) in &model.qos {
            let times = model.finished.get(payload).copied().unwrap_or(0);
            if *qos == Qos::AtLeastOnce {
                prop_assert!(times >= 1, "{payload} is lost");
            } else if !model.ended.contains(payload) {
                prop_assert_eq!(times, 1, "{}", payload);
            } else {
                prop_assert!(times <= 1, "{payload} is doubled");
            }
        }
        prop_assert_eq!(model.house.core.summary().queued, 0);
    }
}
