//! What is promised to nobody costs nothing: promises D1, D5 and D13.

use super::*;

/// D1, broker.10: quality of service 0 is acknowledged to nobody and stored for nobody, connected or not.
#[test]
fn broker_10_quality_of_service_0_is_not_stored() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "#", Qos::ExactlyOnce);
    let sent = vec![message("t", "1", Qos::AtMostOnce)];
    let routing = house.core.route(sent, Source::Gateway, Admission::Open).unwrap();
    assert!(routing.matched && !routing.awaited && routing.transaction.is_none());
    assert_eq!(house.take(attachment), ["t=1"]);
    let tick = house.core.disconnect(attachment, Disconnect::Abnormal, house.now).unwrap();
    house.store(tick.transactions);
    let sent = vec![message("t", "2", Qos::AtMostOnce)];
    let routing = house.core.route(sent, Source::Gateway, Admission::Open).unwrap();
    assert!(!routing.awaited && routing.transaction.is_none());
    let mut house = house.cut_power();
    let attachment = house.connect("a", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(attachment), Vec::<String>::new());
}

/// D1: what finds a full queue is dropped and counted, whatever its quality of service.
#[test]
fn broker_10_a_full_queue_drops_and_counts() {
    let limits = BrokerLimits { queue_messages: 2, ..BrokerLimits::default() };
    let now = Timestamp::from_unix_millis(1_000_000);
    let mut house = House::open(SimulatedDisk::new(), now, limits);
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "#", Qos::AtLeastOnce);
    for (payload, qos) in [
        ("1", Qos::AtMostOnce),
        ("2", Qos::AtLeastOnce),
        ("3", Qos::AtMostOnce),
        ("4", Qos::AtLeastOnce),
    ] {
        house.publish("t", payload, qos);
    }
    assert_eq!(house.core.counters().dropped_queue_full, 2);
    assert_eq!(house.take(attachment), ["t=1", "t=2/1"]);
}

/// broker.12: a queue is bounded by bytes too, and costs nobody else anything.
#[test]
fn broker_12_a_queue_is_bounded_by_bytes() {
    let limits = BrokerLimits { queue_bytes: 4 << 10, ..BrokerLimits::default() };
    let now = Timestamp::from_unix_millis(1_000_000);
    let mut house = House::open(SimulatedDisk::new(), now, limits);
    let slow = house.connect("slow", Expiry::After(HOUR), true, None).attachment;
    let quick = house.connect("quick", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(slow, "#", Qos::AtLeastOnce);
    house.subscribe(quick, "#", Qos::AtLeastOnce);
    let payload = "x".repeat(1 << 10);
    for _ in 0..10 {
        house.publish("t", &payload, Qos::AtLeastOnce);
        let due = house.take(quick);
        let [delivery] = due.as_slice() else { panic!("the quick one misses nothing: {due:?}") };
        let (_, packet_id) = delivery.rsplit_once('/').expect("it has an identifier");
        house.acknowledge(quick, packet_id.parse().unwrap());
    }
    let waiting = house.take(slow).len() as u64;
    assert!((3..=4).contains(&waiting), "{waiting} KiB wait, and what surrounds them");
    assert_eq!(house.core.counters().dropped_queue_full, 10 - waiting);
}

/// D5: where nobody needs a message durable, its acknowledgement waits for nothing.
#[test]
fn broker_10_clean_sessions_cost_no_sync() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::AtDisconnect, true, None).attachment;
    let filters = [(TopicFilter::new("#").unwrap(), options(Qos::ExactlyOnce))];
    let (_, transaction) =
        house.core.subscribe(attachment, &filters, house.now, Admission::Closed).unwrap();
    assert!(transaction.is_none());
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let sent = vec![message("t", "1", qos)];
        let routing = house.core.route(sent, Source::Gateway, Admission::Closed).unwrap();
        assert!(routing.matched && !routing.awaited && routing.transaction.is_none());
    }
    let source = Source::ExactlyOnce(attachment, 1);
    let sent = vec![message("t", "2", Qos::ExactlyOnce)];
    let routing = house.core.route(sent, source, Admission::Closed).unwrap();
    assert!(!routing.awaited && routing.transaction.is_none());
    let house = house.cut_power();
    assert_eq!(house.core.summary().sessions, 0);
}

/// D13: a retained message of quality of service 0 is not waited for; after a crash there is the old value or the new.
#[test]
fn broker_10_retained_quality_of_service_0_is_old_or_new() {
    let retained = |payload| Message { retain: true, ..message("t", payload, Qos::AtMostOnce) };
    for (is_synced, expected) in [(true, "t=2r"), (false, "t=1r")] {
        let mut house = House::new();
        house.route(vec![retained("1")], Source::Gateway).unwrap();
        let routing =
            house.core.route(vec![retained("2")], Source::Gateway, Admission::Open).unwrap();
        assert!(!routing.awaited && routing.transaction.is_some());
        if is_synced {
            house.store(routing.transaction);
        }
        let mut house = house.cut_power();
        let attachment = house.connect("a", Expiry::AtDisconnect, true, None).attachment;
        house.subscribe(attachment, "t", Qos::AtMostOnce);
        assert_eq!(house.take(attachment), [expected]);
    }
}
