//! Shared subscriptions: who takes a message, and who takes it when that one is gone (broker.5, promise D14).

use super::*;
use crate::access::{AccessEntry, AccessFilter};
use tidegate_model::Glob;
use tidegate_mqtt::SubscriptionId;

const JOBS: &str = "$share/g/jobs/#";

impl House {
    /// Connects a client whose session outlives the connection, and lets it join the group.
    fn lasting(&mut self, client_id: &str, qos: Qos) -> Attachment {
        let attachment = self.connect(client_id, Expiry::After(HOUR), true, None).attachment;
        self.subscribe(attachment, JOBS, qos);
        attachment
    }

    /// The same with a session that ends with the connection.
    fn passing(&mut self, client_id: &str, qos: Qos) -> Attachment {
        let attachment = self.connect(client_id, Expiry::AtDisconnect, true, None).attachment;
        self.subscribe(attachment, JOBS, qos);
        attachment
    }

    fn resume(&mut self, client_id: &str) -> Attachment {
        let outcome = self.connect(client_id, Expiry::After(HOUR), false, None);
        assert!(outcome.session_present, "{client_id}");
        outcome.attachment
    }

    fn publish_all(&mut self, count: usize, qos: Qos) {
        for number in 0..count {
            self.publish("jobs/x", &number.to_string(), qos);
        }
    }

    fn leave(&mut self, attachment: Attachment) {
        let tick = self.core.disconnect(attachment, Disconnect::Abnormal, self.now).unwrap();
        self.store(tick.transactions);
    }

    fn end(&mut self, attachment: Attachment) {
        let now = Disconnect::Normal { expiry: Some(Expiry::AtDisconnect) };
        let tick = self.core.disconnect(attachment, now, self.now).unwrap();
        self.store(tick.transactions);
    }

    fn tick(&mut self) {
        let tick = self.core.tick(self.now);
        self.store(tick.transactions);
    }

    /// Takes the payloads that are due.
    fn payloads(&mut self, attachment: Attachment) -> Vec<String> {
        let payload = |text: &String| {
            let behind = text.split_once('=').map_or(text.as_str(), |(_, behind)| behind);
            behind.split('/').next().unwrap_or_default().to_owned()
        };
        self.take(attachment).iter().map(payload).collect()
    }
}

/// broker.5: each message goes to one member; equals take turns, and who has less to do comes first.
#[test]
fn the_least_loaded_member_takes_a_message() {
    let mut house = House::new();
    let members = ["a", "b", "c"].map(|name| house.passing(name, Qos::AtLeastOnce));
    house.publish_all(6, Qos::AtLeastOnce);
    let taken = members.map(|member| house.payloads(member));
    assert_eq!(taken, [["0", "3"], ["1", "4"], ["2", "5"]]);
    // `b` is done with its messages, `a` with one of them.
    house.acknowledge(members[1], 1);
    house.acknowledge(members[1], 2);
    house.acknowledge(members[0], 1);
    house.publish_all(3, Qos::AtLeastOnce);
    let taken = members.map(|member| house.payloads(member));
    assert_eq!(taken, [vec!["1"], vec!["0", "2"], vec![]]);
}

/// broker.5: of a large group only some are looked at, in turn, and still everybody gets a share.
#[test]
fn a_large_group_takes_turns() {
    let mut house = House::new();
    let members: Vec<Attachment> =
        (0..20).map(|number| house.passing(&format!("m{number}"), Qos::AtLeastOnce)).collect();
    house.publish_all(60, Qos::AtLeastOnce);
    let counts: Vec<usize> = members.iter().map(|member| house.payloads(*member).len()).collect();
    assert_eq!(counts, [3; 20]);
}

/// broker.5, D14: while a member is connected it takes what comes; else it is stored for one that is not, also across a
/// restart, which brings the groups back.
#[test]
fn members_with_a_connection_come_first() {
    let mut house = House::new();
    let [a, b] = ["a", "b"].map(|name| house.lasting(name, Qos::AtLeastOnce));
    house.leave(a);
    house.publish_all(2, Qos::AtLeastOnce);
    assert_eq!(house.payloads(b), ["0", "1"]);
    house.acknowledge(b, 1);
    house.acknowledge(b, 2);
    house.leave(b);
    house.publish_all(4, Qos::AtLeastOnce);

    let mut house = house.cut_power();
    assert_eq!((house.core.summary().shared_groups, house.core.summary().queued), (1, 4));
    // Who comes first takes what waits for the others, too.
    let b = house.resume("b");
    house.tick();
    let mut taken = house.payloads(b);
    taken.sort();
    assert_eq!(taken, ["0", "1", "2", "3"]);
    let a = house.resume("a");
    assert_eq!(house.payloads(a), [""; 0]);
    house.publish_all(1, Qos::AtLeastOnce);
    assert_eq!(house.payloads(a), ["0"], "`b` has four in flight");
}

/// broker.5, D14: what a member had not acknowledged when its session ended goes to another, in order, and is durable
/// with the end of the session.
#[test]
fn what_a_session_leaves_behind_passes_on() {
    let mut house = House::new();
    let a = house.lasting("a", Qos::AtLeastOnce);
    house.publish_all(12, Qos::AtLeastOnce);
    assert_eq!(house.payloads(a).len(), 10, "two wait for room in the window");
    house.acknowledge(a, 2);
    let b = house.lasting("b", Qos::AtLeastOnce);
    let now = Disconnect::Normal { expiry: Some(Expiry::AtDisconnect) };
    let tick = house.core.disconnect(a, now, house.now).unwrap();
    assert_eq!(house.core.counters().passed_on, 11);

    // The power goes before the end of the session is on disk: the session is still there, with its messages.
    let image = house.disk.image_after_cut(Fate::Dropped);
    let mut lost = House::open(image, house.now, BrokerLimits::default());
    let again = lost.resume("a");
    assert_eq!(lost.payloads(again), ["0", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    assert_eq!(lost.core.summary().queued, 1);

    house.store(tick.transactions);
    let expected = ["0", "2", "3", "4", "5", "6", "7", "8", "9", "10"];
    assert_eq!(house.payloads(b), expected);
    let mut house = house.cut_power();
    assert!(!house.connect("a", Expiry::After(HOUR), false, None).session_present);
    let b = house.resume("b");
    assert_eq!(house.payloads(b), expected);
}

/// MQTT-4.8.2-4, MQTT-4.8.2-5: an exchange of quality of service 2 that has begun goes on with its client or ends with
/// its session; what was not sent passes on.
#[test]
fn an_exchange_of_quality_of_service_2_does_not_pass_on() {
    let mut house = House::new();
    let a = house.lasting("a", Qos::ExactlyOnce);
    house.publish_all(12, Qos::ExactlyOnce);
    assert_eq!(house.payloads(a).len(), 10);
    let released = house.core.received(a, 1).unwrap().unwrap();
    house.store(released);
    let b = house.lasting("b", Qos::ExactlyOnce);
    house.leave(a);
    assert_eq!(house.payloads(b), ["10", "11"], "they were not sent");
    let a = house.resume("a");
    let due = house.take(a);
    assert_eq!((due.len(), &due[0][..], &due[1][..]), (10, "release/1", "jobs/x=1/2!"));
    house.end(a);
    assert_eq!(house.payloads(b), [""; 0]);
    let mut house = house.cut_power();
    let b = house.resume("b");
    assert_eq!(house.payloads(b), ["10", "11"]);
}

/// broker.5: what waits at a disconnect goes to those who are there, in the journal too; what was sent stays.
#[test]
fn what_waits_passes_on_at_a_disconnect() {
    let mut house = House::new();
    let a = house.lasting("a", Qos::AtLeastOnce);
    house.publish_all(15, Qos::AtLeastOnce);
    assert_eq!(house.payloads(a).len(), 10);
    let b = house.lasting("b", Qos::AtLeastOnce);
    house.leave(a);
    assert_eq!(house.payloads(b), ["10", "11", "12", "13", "14"]);
    assert_eq!(house.core.counters().passed_on, 5);

    let mut house = house.cut_power();
    let [a, b] = ["a", "b"].map(|name| house.resume(name));
    assert_eq!(house.payloads(b), ["10", "11", "12", "13", "14"]);
    assert_eq!(house.payloads(a), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    for packet_id in 1..=10 {
        house.acknowledge(a, packet_id);
    }
    let mut house = house.cut_power();
    let a = house.resume("a");
    assert_eq!(house.payloads(a), [""; 0]);
}

/// D2: what is stored for a member does not pass to one for whom it would not be, unless the session has ended.
#[test]
fn what_is_stored_stays_stored() {
    let mut house = House::new();
    let a = house.lasting("a", Qos::AtLeastOnce);
    house.publish_all(12, Qos::AtLeastOnce);
    house.payloads(a);
    let passing = house.passing("passing", Qos::AtLeastOnce);
    house.leave(a);
    assert_eq!(house.payloads(passing), [""; 0]);
    let a = house.resume("a");
    house.end(a);
    assert_eq!(house.payloads(passing).len(), 10);
    assert_eq!(house.core.counters().passed_on, 12);
}

/// broker.5: more may pass on than one transaction holds; a power cut in the middle loses nothing and doubles nothing.
#[test]
fn passing_on_takes_effect_as_a_whole() {
    for is_clean_start in [false, true] {
        let mut house = House::new();
        let a = house.lasting("a", Qos::ExactlyOnce);
        for number in 0..30 {
            house.publish("jobs/x", &format!("{number:0100}"), Qos::ExactlyOnce);
        }
        house.leave(a);
        let b = house.lasting("b", Qos::ExactlyOnce);
        house.tick();
        let waiting =
            |house: &House, who: Attachment| house.core.sessions[who.session().0].queue.len();
        assert_eq!(waiting(&house, b), 30, "it has taken over what waited");
        let c = house.lasting("c", Qos::ExactlyOnce);
        let transactions = if is_clean_start {
            let request = house.request("b", Expiry::After(HOUR), true, None);
            house.core.connect(request, house.now).unwrap().transactions
        } else {
            house.core.disconnect(b, Disconnect::Abnormal, house.now).unwrap().transactions
        };
        assert_eq!(waiting(&house, c), 30);
        assert!(transactions.len() > 2, "it takes several");
        for durable in 0..=transactions.len() {
            let image = house.disk.image_after_cut(Fate::Dropped);
            let mut cut = House::open(image, house.now, BrokerLimits::default());
            cut.store(transactions[..durable].iter().cloned());
            let mut cut = cut.cut_power();
            assert_eq!(cut.core.summary().queued, 30, "{durable} of {}", transactions.len());
            let holder = if durable == transactions.len() { "c" } else { "b" };
            let holder = cut.resume(holder);
            assert_eq!(waiting(&cut, holder), 30, "{durable} of {}", transactions.len());
        }
    }
}

/// MQTT 5.0, section 4.8.2: retained messages are not sent on a shared subscription.
#[test]
fn retained_messages_are_not_shared() {
    let mut house = House::new();
    let retained = Message { retain: true, ..message("jobs/x", "kept", Qos::AtLeastOnce) };
    house.route(vec![retained], Source::Gateway).unwrap();
    let a = house.passing("a", Qos::AtLeastOnce);
    assert_eq!(house.payloads(a), [""; 0]);
}

/// MQTT 5.0, section 4.8.2: with a subscription of its own beside, a client may get two copies; both survive.
#[test]
fn a_subscription_of_ones_own_gives_a_copy_of_its_own() {
    let mut house = House::new();
    let a = house.lasting("a", Qos::AtLeastOnce);
    house.subscribe(a, "jobs/+", Qos::AtLeastOnce);
    house.subscribe(a, "$share/other/jobs/x", Qos::AtLeastOnce);
    house.publish_all(1, Qos::AtLeastOnce);
    let mut house = house.cut_power();
    let a = house.resume("a");
    assert_eq!(house.take(a), ["jobs/x=0/1", "jobs/x=0/2", "jobs/x=0/3"]);
    for packet_id in 1..=3 {
        house.acknowledge(a, packet_id);
    }
    assert_eq!(house.core.first_needed(), None);
}

/// MQTT-4.8.2-3, MQTT-3.3.4-3: each member gets its own quality of service and identifier; a subscription replaces the
/// one before.
#[test]
fn each_member_has_its_own_options() {
    let mut house = House::new();
    let a = house.passing("a", Qos::AtLeastOnce);
    let identifier = SubscriptionId::new(7);
    let wanted = SubscriptionOptions { identifier, ..options(Qos::AtMostOnce) };
    let filters = [(TopicFilter::new(JOBS).unwrap(), wanted)];
    let b = house.connect("b", Expiry::AtDisconnect, true, None).attachment;
    for _ in 0..2 {
        house.core.subscribe(b, &filters, house.now, Admission::Open).unwrap();
    }
    house.subscribe(a, JOBS, Qos::AtLeastOnce);
    assert_eq!(house.core.summary().subscriptions, 2);
    house.publish_all(2, Qos::ExactlyOnce);
    let mut due = Vec::new();
    house.core.take_due(a, house.now, 10, &mut due).unwrap();
    house.core.take_due(b, house.now, 10, &mut due).unwrap();
    let shown: Vec<_> = due
        .iter()
        .map(|due| match due {
            Due::Publish { delivery, .. } => (delivery.qos, delivery.subscription_ids.clone()),
            Due::Release { .. } => panic!("nothing is released"),
        })
        .collect();
    let identifiers = identifier.into_iter().collect();
    assert_eq!(shown, [(Qos::AtLeastOnce, vec![]), (Qos::AtMostOnce, identifiers)]);
}

/// broker.5: who has unsubscribed takes nothing more; the last one ends the group.
#[test]
fn an_empty_group_is_gone() {
    let mut house = House::new();
    let [a, b] = ["a", "b"].map(|name| house.lasting(name, Qos::AtLeastOnce));
    let filters = [TopicFilter::new(JOBS).unwrap()];
    for (member, left) in [(a, 1), (b, 0)] {
        let (existed, transaction) = house.core.unsubscribe(member, &filters).unwrap();
        assert_eq!(existed, [true]);
        house.store(transaction);
        assert_eq!(house.core.summary().shared_groups, left);
        assert_eq!(house.publish("jobs/x", "1", Qos::AtLeastOnce).matched, left == 1);
    }
    assert!(house.core.subscriptions.is_empty());
    assert_eq!(house.payloads(a), [""; 0]);
    assert_eq!(house.payloads(b), ["1"]);
    let house = house.cut_power();
    assert_eq!(house.core.summary().shared_groups, 0);
}

/// broker.5, M14: rights are looked at on the filter that is shared, and on each topic for each member.
#[test]
fn rights_count_for_each_member() {
    let rules = |subscribe: &str| {
        AccessRules::new(vec![AccessEntry {
            principal: Glob::new("anonymous"),
            publish: Vec::new(),
            subscribe: vec![AccessFilter::parse(subscribe).unwrap()],
            command: Vec::new(),
            manage: None,
        }])
    };
    let disk = SimulatedDisk::new();
    let now = Timestamp::from_unix_millis(1_000_000);
    let mut house = House::open_with(disk, now, BrokerLimits::default(), rules("jobs/#"));
    let a = house.passing("a", Qos::AtLeastOnce);
    let asked = ["$share/g/#", "$share/g/$SYS/#"]
        .map(|text| (TopicFilter::new(text).unwrap(), options(Qos::AtLeastOnce)));
    let (results, _) = house.core.subscribe(a, &asked, house.now, Admission::Open).unwrap();
    assert_eq!(results, [SubscribeResult::NotAuthorized; 2]);

    house.passing("b", Qos::AtLeastOnce);
    house.core.set_rules(rules("jobs/{client-id}/#"));
    let published = house.publish("jobs/b/x", "1", Qos::AtLeastOnce);
    assert!(published.matched);
    assert_eq!((house.payloads(a).len(), house.core.counters().denied), (0, 0));
    let published = house.publish("jobs/c/x", "1", Qos::AtLeastOnce);
    assert!(!published.matched, "nobody takes it: the publisher hears 0x10");
    assert_eq!(house.core.counters().denied, 1);
}

/// broker.5, D14: what waits for a member that loses the right to it passes on to one that may have it, after a power cut
/// too; it is withheld if nobody may.
#[test]
fn broker_5_what_a_member_may_not_have_any_more_passes_on() {
    let rules = |subscribe: &str| {
        AccessRules::new(vec![AccessEntry {
            principal: Glob::new("anonymous"),
            publish: Vec::new(),
            subscribe: vec![AccessFilter::parse(subscribe).unwrap()],
            command: Vec::new(),
            manage: None,
        }])
    };
    let now = Timestamp::from_unix_millis(1_000_000);
    let limits = BrokerLimits::default();
    let mut house = House::open_with(SimulatedDisk::new(), now, limits, rules("jobs/#"));
    let a = house.lasting("a", Qos::AtLeastOnce);
    house.lasting("b", Qos::AtLeastOnce);
    for payload in ["1", "2", "3", "4"] {
        house.publish("jobs/b/x", payload, Qos::AtLeastOnce);
    }
    for payload in ["5", "6"] {
        house.publish("jobs/c/x", payload, Qos::AtLeastOnce);
    }
    house.core.set_rules(rules("jobs/{client-id}/#"));
    assert_eq!(house.payloads(a), [""; 0]);
    let counters = house.core.counters();
    assert_eq!((counters.passed_on, counters.denied), (2, 1), "1 and 3 pass on, 5 is withheld");
    assert!(!house.core.has_due(a));
    let mut house = house.cut_power();
    house.core.set_rules(rules("jobs/{client-id}/#"));
    let (a, b) = (house.resume("a"), house.resume("b"));
    assert_eq!(house.payloads(a), [""; 0]);
    assert_eq!(house.payloads(b), ["2", "4", "1", "3"]);
    assert_eq!(house.core.counters().denied, 1, "6 is withheld");
}

/// D5: where everybody who matches is denied, nobody matches.
#[test]
fn denied_subscribers_do_not_count_as_takers() {
    let mut house = House::new();
    let a = house.connect("a", Expiry::AtDisconnect, true, None).attachment;
    house.subscribe(a, "t", Qos::AtLeastOnce);
    assert!(house.publish("t", "1", Qos::AtLeastOnce).matched);
    let nothing = AccessEntry {
        principal: Glob::new("somebody-else"),
        publish: Vec::new(),
        subscribe: Vec::new(),
        command: Vec::new(),
        manage: None,
    };
    house.core.set_rules(AccessRules::new(vec![nothing]));
    assert!(!house.publish("t", "2", Qos::AtLeastOnce).matched);
}

/// A4: a group without room drops, counted; a group counts among the filters of its members.
#[test]
fn groups_have_the_limits_of_their_members() {
    let limits = BrokerLimits { queue_messages: 2, filters_per_session: 1, ..Default::default() };
    let now = Timestamp::from_unix_millis(1_000_000);
    let mut house = House::open(SimulatedDisk::new(), now, limits);
    let a = house.passing("a", Qos::AtLeastOnce);
    let more = [(TopicFilter::new("t").unwrap(), options(Qos::AtMostOnce))];
    let (results, _) = house.core.subscribe(a, &more, house.now, Admission::Open).unwrap();
    assert_eq!(results, [SubscribeResult::QuotaExceeded]);
    house.passing("b", Qos::AtLeastOnce);
    house.publish_all(5, Qos::AtLeastOnce);
    assert_eq!((house.core.summary().queued, house.core.counters().dropped_queue_full), (4, 1));
    house.end(a);
    assert_eq!(house.core.counters().dropped_queue_full, 3, "`b` has no room for what `a` leaves");
}
