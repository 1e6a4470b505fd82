//! What the broker tells of itself, on topics and as figures (broker.7, broker.14).

use super::*;

fn sys(name: &str, payload: &str) -> Message {
    Message { retain: true, ..message(&format!("$SYS/broker/{name}"), payload, Qos::AtLeastOnce) }
}

fn house_with_rules(subscribe: &[&str]) -> House {
    use crate::access::{AccessEntry, AccessFilter, Glob};
    let entry = AccessEntry {
        principal: Glob::new("anonymous"),
        publish: Vec::new(),
        subscribe: subscribe.iter().map(|text| AccessFilter::parse(text).unwrap()).collect(),
        command: Vec::new(),
        manage: None,
    };
    let now = Timestamp::from_unix_millis(1_000_000);
    let (disk, limits) = (SimulatedDisk::new(), BrokerLimits::default());
    House::open_with(disk, now, limits, AccessRules::new(vec![entry]))
}

/// broker.7: whoever subscribes to `$SYS` gets the present values at once and the next ones as they come; `#` does not
/// match them, no uplink takes them, and nothing of them is stored.
#[test]
fn broker_7_the_present_values_greet_a_subscriber() {
    let mut house = house_with_rules(&["#", "$SYS/#"]);
    let mut transaction = Transaction::new();
    let taker = house.core.uplink_taker("cloud", &mut transaction);
    house.store(Some(transaction));
    house.core.add_uplink(UplinkRoute {
        taker,
        selects: Arc::new(|_| true),
        refuses: Arc::new(|| false),
        appended: Arc::new(|_, _| panic!("an uplink takes what the broker tells of itself")),
    });
    let all = house.connect("all", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(all, "#", Qos::AtLeastOnce);
    house.core.publish_sys(vec![sys("uptime", "1"), sys("version", "x")]);
    let client = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    let filters = [(TopicFilter::new("$SYS/broker/+").unwrap(), options(Qos::ExactlyOnce))];
    let (_, transaction) =
        house.core.subscribe(client, &filters, house.now, Admission::Open).unwrap();
    house.store(transaction);
    assert_eq!(house.take(client), ["$SYS/broker/uptime=1r", "$SYS/broker/version=xr"]);
    house.core.publish_sys(vec![sys("uptime", "2")]);
    assert_eq!(house.take(client), ["$SYS/broker/uptime=2"]);
    assert_eq!(house.take(all), [""; 0]);
    assert_eq!(house.core.ordinal(taker), 0);
    assert_eq!(house.core.last_seq(), tidegate_store::Seq::ORIGIN);

    let topic = Topic::new("$SYS/broker/uptime").unwrap();
    assert_eq!(house.core.last(&topic).unwrap().message.payload.to_bytes(), "2");
    let filter = |text| TopicFilter::new(text).unwrap();
    assert_eq!(house.core.list(&filter("$SYS/#"), None, 10).len(), 2);
    assert_eq!(house.core.list(&filter("#"), None, 10).len(), 0);
}

/// broker.7: only who has a right that names `$SYS` may read it.
#[test]
fn broker_7_a_right_to_everything_is_none_to_sys() {
    let mut house = house_with_rules(&["#"]);
    house.core.publish_sys(vec![sys("uptime", "1")]);
    let client = house.connect("a", Expiry::AtDisconnect, true, None).attachment;
    for text in ["$SYS/#", "$SYS/broker/uptime", "$share/g/$SYS/#"] {
        let filters = [(TopicFilter::new(text).unwrap(), options(Qos::AtMostOnce))];
        let (results, _) =
            house.core.subscribe(client, &filters, house.now, Admission::Open).unwrap();
        assert_eq!(results, [SubscribeResult::NotAuthorized], "{text}");
    }
}

/// broker.14: the sums, and the sessions with the longest queues, the longest first; who has lost something is among them.
#[test]
fn broker_14_the_longest_queues_are_told() {
    let limits = BrokerLimits { queue_messages: 3, ..BrokerLimits::default() };
    let now = Timestamp::from_unix_millis(1_000_000);
    let mut house = House::open(SimulatedDisk::new(), now, limits);
    for (name, filter) in [("none", "nothing"), ("two", "t/2"), ("full", "t/#"), ("lost", "t/#")] {
        let attachment = house.connect(name, Expiry::After(HOUR), true, None).attachment;
        house.subscribe(attachment, filter, Qos::AtLeastOnce);
    }
    for topic in ["t/1", "t/2", "t/3", "t/2"] {
        house.publish(topic, "x", Qos::AtLeastOnce);
    }
    let lost = house.connect("lost", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(lost).len(), 3);
    let shown = |house: &House, limit| -> Vec<_> {
        let queues = house.core.longest_queues(limit);
        let short = |queue: crate::SessionQueue| {
            assert_eq!(queue.queued_bytes > 0, queue.queued > 0);
            (queue.client_id.to_string(), queue.queued, queue.in_flight, queue.dropped)
        };
        queues.into_iter().map(short).collect()
    };
    let [full, two, lost] = [("full", 3, 0, 1), ("two", 2, 0, 0), ("lost", 0, 3, 1)]
        .map(|(name, queued, sent, dropped)| (name.to_owned(), queued, sent, dropped));
    assert_eq!(shown(&house, 10), [full.clone(), two.clone(), lost]);
    assert_eq!(shown(&house, 2), [full, two]);
    let summary = house.core.summary();
    assert_eq!((summary.sessions, summary.persistent, summary.connected), (4, 4, 4));
    assert_eq!((summary.queued, summary.in_flight, summary.subscriptions), (5, 3, 4));
    assert_eq!(house.core.counters().dropped()[0], ("queue-full", 2));
}

/// A4: present values are no way around the limit of a queue.
#[test]
fn broker_7_present_values_keep_to_the_queue() {
    let limits = BrokerLimits { queue_messages: 3, ..BrokerLimits::default() };
    let now = Timestamp::from_unix_millis(1_000_000);
    let rules = house_with_rules(&["$SYS/#"]).core.rules().entries().to_vec();
    let mut house = House::open_with(SimulatedDisk::new(), now, limits, AccessRules::new(rules));
    house.core.publish_sys(vec![sys("uptime", "1"), sys("version", "x")]);
    let client = house.connect("a", Expiry::AtDisconnect, true, None).attachment;
    for _ in 0..3 {
        house.subscribe(client, "$SYS/#", Qos::AtMostOnce);
    }
    assert_eq!((house.core.summary().queued, house.core.counters().dropped_queue_full), (3, 3));
}
