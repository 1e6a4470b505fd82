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
