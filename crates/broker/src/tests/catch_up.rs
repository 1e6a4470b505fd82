//! Retained messages for a new subscription, of which there may be more than a queue holds.

use super::*;

const RETAINED: usize = 50;

/// A house that keeps `RETAINED` messages on `t/00`, `t/01`, …; eight messages may wait for a session.
fn house(qos: Qos) -> House {
    let limits = BrokerLimits { queue_messages: 8, receive_maximum: 3, ..BrokerLimits::default() };
    let now = Timestamp::from_unix_millis(1_000_000);
    let mut house = House::open(SimulatedDisk::new(), now, limits);
    for number in 0..RETAINED {
        retain(&mut house, number, "first", qos);
    }
    house
}

fn retain(house: &mut House, number: usize, payload: &str, qos: Qos) {
    let topic = format!("t/{number:02}");
    let retained = Message { retain: true, ..message(&topic, payload, qos) };
    house.route(vec![retained], Source::Gateway).unwrap();
}

/// Takes and acknowledges until nothing is due; returns topics and payloads.
fn take_all(house: &mut House, client: Attachment) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let taken = house.take(client);
        if taken.is_empty() {
            assert!(!house.core.has_due(client));
            return all;
        }
        for shown in taken {
            let shown = shown.strip_suffix('r').map_or(shown.clone(), str::to_owned);
            if let Some((what, packet_id)) = shown.rsplit_once('/')
                && let Ok(packet_id) = packet_id.parse()
            {
                house.acknowledge(client, packet_id);
                all.push(what.to_owned());
            } else {
                all.push(shown);
            }
        }
    }
}

fn expected(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("t/{number:02}=first")).collect()
}

/// broker.4: all of them come, in order, at either quality of service, however few the queue holds.
#[test]
fn broker_4_more_retained_messages_come_than_a_queue_holds() {
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        let mut house = house(Qos::AtLeastOnce);
        let client = house.connect("c", Expiry::AtDisconnect, false, None).attachment;
        house.subscribe(client, "t/#", qos);
        assert_eq!(take_all(&mut house, client), expected(0..RETAINED), "{qos:?}");
        assert_eq!(house.core.counters().dropped_queue_full, 0);
    }
}

/// broker.4: what is replaced or removed before its turn comes as it was, and what happened then comes behind it.
#[test]
fn broker_4_what_changes_meanwhile_comes_in_order() {
    let mut house = house(Qos::AtMostOnce);
    let client = house.connect("c", Expiry::AtDisconnect, false, None).attachment;
    house.subscribe(client, "t/#", Qos::AtMostOnce);
    retain(&mut house, 40, "second", Qos::AtMostOnce);
    retain(&mut house, 41, "", Qos::AtMostOnce);
    let all = take_all(&mut house, client);
    let of = |topic: &str| -> Vec<&str> {
        all.iter().filter_map(|shown| shown.strip_prefix(topic)).collect()
    };
    assert_eq!(of("t/40="), ["first", "second"]);
    assert_eq!(of("t/41="), ["first", ""]);
    assert_eq!(all.len(), RETAINED + 2);
}

/// D8: what a persistent session gets is stored, and bounded by its queue.
#[test]
fn broker_4_retained_messages_of_a_persistent_session_survive() {
    let mut house = house(Qos::AtLeastOnce);
    let client = house.connect("c", Expiry::After(HOUR), false, None).attachment;
    house.subscribe(client, "t/#", Qos::AtLeastOnce);
    assert_eq!(house.core.counters().dropped_queue_full, RETAINED as u64 - 8);
    assert_eq!(house.take(client).len(), 3, "as many as the client takes at once");
    (1..=3).for_each(|packet_id| house.acknowledge(client, packet_id));
    let mut house = house.cut_power();
    let client = house.connect("c", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(take_all(&mut house, client), expected(3..8));
}

/// Nothing more comes for a subscription that has ended; one that is made anew is sent all of them again.
#[test]
fn broker_4_catching_up_ends_with_its_subscription() {
    let mut house = house(Qos::AtMostOnce);
    let client = house.connect("c", Expiry::After(HOUR), false, None).attachment;
    house.subscribe(client, "t/#", Qos::AtMostOnce);
    let filter = TopicFilter::new("t/#").unwrap();
    let (existed, transaction) = house.core.unsubscribe(client, &[filter]).unwrap();
    house.store(transaction);
    assert_eq!(existed, [true]);
    assert_eq!(take_all(&mut house, client), expected(0..4), "what was queued before");
    house.subscribe(client, "t/#", Qos::AtMostOnce);
    house.subscribe(client, "t/#", Qos::AtMostOnce);
    let all = take_all(&mut house, client);
    assert_eq!(all.len(), 2 * RETAINED, "all for either");
    house.subscribe(client, "t/#", Qos::AtMostOnce);
    house.core.disconnect(client, Disconnect::Abnormal, house.now).unwrap();
    house.connect("c", Expiry::AtDisconnect, true, None);
    assert!(house.core.catching_up.is_empty(), "it went with its session");
}

/// A house as above, with so many entries to look at in each visit.
fn house_with_looks(retained_looks: usize) -> House {
    let limits = BrokerLimits { retained_looks, ..BrokerLimits::default() };
    let mut house =
        House::open(SimulatedDisk::new(), Timestamp::from_unix_millis(1_000_000), limits);
    for number in 0..RETAINED {
        retain(&mut house, number, "first", Qos::AtLeastOnce);
    }
    house
}

/// Filters that begin with a wildcard; none but the last matches anything.
fn wild_filters(count: usize, qos: Qos) -> Vec<(TopicFilter, SubscriptionOptions)> {
    let mut filters: Vec<String> = (1..count).map(|number| format!("+/{number}/no")).collect();
    filters.push("+/49".to_owned());
    filters.iter().map(|filter| (TopicFilter::new(filter).unwrap(), options(qos))).collect()
}

/// Returns how many entries the core looks at in `visit`.
fn looks(house: &mut House, visit: impl FnOnce(&mut House)) -> u64 {
    let before = house.core.counters().retained_looks;
    visit(house);
    house.core.counters().retained_looks - before
}

/// broker.12, M11: whatever a SUBSCRIBE asks for, one visit to the core looks at so many retained messages and no more;
/// what is stored for a persistent session is complete before the SUBACK.
#[test]
fn broker_12_a_subscribe_looks_at_a_bounded_part_of_the_table_in_each_visit() {
    let mut house = house_with_looks(7);
    let client = house.connect("c", Expiry::After(HOUR), false, None).attachment;
    let filters = wild_filters(20, Qos::AtLeastOnce);
    let first = looks(&mut house, |house| {
        let asked = house.core.subscribe(client, &filters, house.now, Admission::Open);
        let (results, transaction) = asked.unwrap();
        assert_eq!(results, [SubscribeResult::Granted(Qos::AtLeastOnce); 20]);
        house.store(transaction);
    });
    assert_eq!(first, 7);
    let mut visits = 1;
    while house.core.is_subscribing(client) {
        let looked = looks(&mut house, |house| {
            let transaction = house.core.go_on_subscribing(client, house.now).unwrap();
            house.store(transaction);
        });
        assert!(looked <= 7, "{looked} in one visit");
        visits += 1;
    }
    assert_eq!(house.core.counters().retained_looks, 20 * RETAINED as u64);
    assert!(visits >= 20 * RETAINED / 7, "{visits}");
    assert!(house.core.catching_up.is_empty());
    let mut house = house.cut_power();
    let client = house.connect("c", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(take_all(&mut house, client), expected(49..50));
}

/// broker.12, M11: so it is with what is sent as the client takes it; as long as there is more to look at something is
/// due, and the connection was called for it.
#[test]
fn broker_12_catching_up_is_bounded_in_each_visit_and_never_forgotten() {
    let mut house = house_with_looks(7);
    let bell = Arc::new(Bell::default());
    let request = house.request("c", Expiry::AtDisconnect, false, None);
    let request = ConnectRequest { wake: bell.clone(), ..request };
    let client = house.core.connect(request, house.now).unwrap().attachment;
    let filters = wild_filters(20, Qos::AtLeastOnce);
    let first = looks(&mut house, |house| {
        house.core.subscribe(client, &filters, house.now, Admission::Open).unwrap();
    });
    assert_eq!(first, 7);
    assert_eq!(bell.0.load(Ordering::Relaxed), 1, "it is called, though nothing is queued");
    assert!(!house.core.is_subscribing(client), "the SUBACK need not wait");
    let mut shown = Vec::new();
    while house.core.has_due(client) {
        let looked = looks(&mut house, |house| shown.extend(house.take(client)));
        assert!(looked <= 7, "{looked} in one visit");
    }
    assert_eq!(shown, ["t/49=first/1r"]);
    assert_eq!(house.core.counters().retained_looks, 20 * RETAINED as u64);
    assert!(house.core.catching_up.is_empty());
}

/// broker.12, D8, D12: what is replaced while a SUBSCRIBE is being acted on comes as it was, before what replaces it,
/// after a power cut too; and so it does for several who await it, and for two subscriptions of one.
#[test]
fn broker_12_what_changes_between_visits_is_stored_in_order() {
    let mut house = house_with_looks(2);
    let filters = ["t/#", "+/40"]
        .map(|filter| (TopicFilter::new(filter).unwrap(), options(Qos::AtLeastOnce)));
    let clients = ["c", "d"].map(|name| {
        let client = house.connect(name, Expiry::After(HOUR), false, None).attachment;
        let asked = house.core.subscribe(client, &filters, house.now, Admission::Open);
        house.store(asked.unwrap().1);
        assert!(house.core.is_subscribing(client));
        client
    });
    let replaced = ["second", "third"]
        .map(|payload| Message { retain: true, ..message("t/40", payload, Qos::AtLeastOnce) });
    let routing = house.core.route(replaced.into(), Source::Gateway, Admission::Open).unwrap();
    let records: usize = routing.before.iter().map(Transaction::encoded_len).sum();
    assert!(records > 0 && records < 1_000, "one record for both clients, for each round");
    house.store(routing.before.into_iter().chain(routing.transaction));
    for client in clients {
        while house.core.is_subscribing(client) {
            let transaction = house.core.go_on_subscribing(client, house.now).unwrap();
            house.store(transaction);
        }
    }
    let mut house = house.cut_power();
    for name in ["c", "d"] {
        let client = house.connect(name, Expiry::After(HOUR), false, None).attachment;
        let all = take_all(&mut house, client);
        let of_40: Vec<&str> = all.iter().filter_map(|shown| shown.strip_prefix("t/40=")).collect();
        assert_eq!(of_40, ["first", "first", "second", "third"], "{name}");
        assert_eq!(all.len(), RETAINED + 3, "{name}");
    }
}
