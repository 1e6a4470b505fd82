//! What is counted, and who is known: small things that others rely on.

use super::*;

/// M12: two clients of one name take each other's place so often in a second, and no more; the next second begins anew.
#[test]
fn takeovers_are_counted_and_limited() {
    let limits = BrokerLimits { takeovers_per_second: 2, ..BrokerLimits::default() };
    let mut house = House::open(SimulatedDisk::new(), Timestamp::from_unix_millis(0), limits);
    let connect = |house: &mut House| {
        let request = house.request("a", Expiry::AtDisconnect, true, None);
        house.core.connect(request, house.now).map(drop).is_ok()
    };
    let taken: Vec<bool> = (0..4).map(|_| connect(&mut house)).collect();
    assert_eq!(taken, [true, true, true, false], "the first takes over from nobody");
    assert_eq!(house.core.counters().takeovers_refused, 1);
    house.now = house.now.saturating_add(Duration::from_secs(1));
    assert!(connect(&mut house));
}

/// broker.12: the share of a principal is looked at for each of its sessions, and only then.
#[test]
fn sessions_of_a_principal_are_bounded() {
    let limits = BrokerLimits { sessions_per_principal: 2, ..BrokerLimits::default() };
    let mut house = House::open(SimulatedDisk::new(), Timestamp::from_unix_millis(0), limits);
    let mut connect = |client: &str, principal: &str| {
        let mut request = house.request(client, Expiry::AtDisconnect, true, None);
        request.principal = Principal::new(principal).unwrap();
        house.core.connect(request, house.now).is_ok()
    };
    assert!(connect("1", "a") && connect("2", "a"));
    assert!(!connect("3", "a"));
    assert!(connect("4", "b") && connect("5", "b"), "another has a share of its own");
    assert_eq!(house.core.counters().sessions_refused, 1);
}

#[test]
fn a_session_is_known_by_principal_and_client() {
    let mut house = House::new();
    let client = |id: &str| ClientId::new(id).unwrap();
    let anonymous = Principal::anonymous();
    assert!(!house.core.has_session(&anonymous, &client("a")));
    house.connect("a", Expiry::AtDisconnect, true, None);
    assert!(house.core.has_session(&anonymous, &client("a")));
    assert!(!house.core.has_session(&anonymous, &client("b")));
    assert!(!house.core.has_session(&Principal::new("p").unwrap(), &client("a")));
}

/// What is too old when it is due is not sent, and counted once for each.
#[test]
fn messages_that_expire_in_the_queue_are_counted() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::AtDisconnect, true, None).attachment;
    house.subscribe(attachment, "#", Qos::AtLeastOnce);
    for payload in ["1", "2", "3"] {
        let mut expiring = message("t", payload, Qos::AtLeastOnce);
        let seconds = if payload == "3" { 100 } else { 1 };
        let expires = Some(house.now.saturating_add(Duration::from_secs(seconds)));
        let properties = tidegate_model::Properties { expires, ..Default::default() };
        expiring.properties = Some(properties.into());
        house.route(vec![expiring], Source::Gateway).unwrap();
    }
    house.now = house.now.saturating_add(Duration::from_secs(2));
    assert_eq!(house.take(attachment), ["t=3/1"]);
    assert_eq!((house.core.counters().expired, house.core.counters().delivered), (2, 1));
}

/// An uplink that is configured no more is forgotten, with its number; one that comes back gets another.
#[test]
fn uplinks_that_are_gone_are_retired() {
    let mut house = House::new();
    let mut transaction = Transaction::new();
    let kept = house.core.uplink_taker("kept", &mut transaction);
    let also_kept = house.core.uplink_taker("also kept", &mut transaction);
    let gone = house.core.uplink_taker("gone", &mut transaction);
    house.store(Some(transaction));
    let mut transaction = Transaction::new();
    assert_eq!(
        house.core.retire_uplinks(&["kept", "also kept", "new"], &mut transaction),
        ["gone"]
    );
    assert_eq!(house.core.retire_uplinks(&["kept", "also kept"], &mut transaction), [""; 0]);
    house.store(Some(transaction));
    let mut house = house.cut_power();
    let mut transaction = Transaction::new();
    assert_eq!(house.core.uplink_taker("kept", &mut transaction), kept);
    assert_eq!(house.core.uplink_taker("also kept", &mut transaction), also_kept);
    assert!(transaction.is_empty(), "nothing is to be stored");
    assert_ne!(house.core.uplink_taker("gone", &mut transaction), gone);
}

/// A value that takes the place of another takes its room, too.
#[test]
fn last_values_that_are_replaced_take_up_no_room() {
    let mut house = House::new();
    for _ in 0..40 {
        house.publish("t/1", &"x".repeat(1_000_000), Qos::AtMostOnce);
    }
    for number in 2..=10 {
        house.publish(&format!("t/{number}"), &"x".repeat(1_000_000), Qos::AtMostOnce);
    }
    let all = TopicFilter::new("#").unwrap();
    assert_eq!(house.core.list(&all, None, 1_000).len(), 10);
}

/// broker.12: what retained messages take up is told, and given back when they go.
#[test]
fn the_size_of_retained_messages_is_told() {
    let mut house = House::new();
    let retain = |house: &mut House, topic: &str, payload: &str| {
        let message = Message { retain: true, ..message(topic, payload, Qos::AtLeastOnce) };
        house.route(vec![message], Source::Gateway).unwrap();
        house.core.summary().retained_bytes
    };
    let one = retain(&mut house, "t/1", &"x".repeat(1_000));
    assert!((1_000..2_000).contains(&one), "{one}");
    assert_eq!(retain(&mut house, "t/2", &"x".repeat(1_000)), 2 * one);
    assert_eq!(retain(&mut house, "t/2", ""), one);
    assert_eq!(retain(&mut house, "t/1", &"x".repeat(2_000)), one + 1_000);
    assert_eq!(retain(&mut house, "t/1", ""), 0);
}
