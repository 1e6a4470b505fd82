//! What a start makes of sessions whose subscriptions, rights or connections have changed in between.

use super::*;
use crate::access::AccessEntry;
use tidegate_model::Glob;

/// A session with a message at packet identifier 1 that waits for PUBREC and one at 2 that waits for PUBCOMP.
fn with_exchanges() -> (House, Attachment) {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "t", Qos::ExactlyOnce);
    house.publish("t", "1", Qos::ExactlyOnce);
    house.publish("t", "2", Qos::ExactlyOnce);
    assert_eq!(house.take(attachment), ["t=1/1", "t=2/2"]);
    let transaction = house.core.received(attachment, 2).unwrap().unwrap();
    house.store(transaction);
    (house, attachment)
}

/// D7: an exchange under way ends as it began, whatever the subscription says by now.
#[test]
fn a_lowered_subscription_does_not_change_an_exchange() {
    let (mut house, attachment) = with_exchanges();
    house.subscribe(attachment, "t", Qos::AtLeastOnce);
    let mut house = house.cut_power();
    let attachment = house.connect("a", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(attachment), ["t=1/1!", "release/2"]);
    assert!(house.core.received(attachment, 1).unwrap().is_some());
    for packet_id in [1, 2] {
        assert!(house.core.completed(attachment, packet_id).unwrap().0, "{packet_id}");
    }
    assert_eq!(house.core.first_needed(), None);
}

/// C7: what may not be received any more is not sent again; the exchange ends in order, so that the client does not take
/// the next message under the packet identifier for a repetition, and leaves nothing behind.
#[test]
fn an_exchange_whose_rights_have_gone_ends() {
    let (house, _) = with_exchanges();
    let disk = house.disk.power_cut(Fate::Dropped);
    let entry = AccessEntry {
        principal: Glob::new("somebody-else"),
        publish: Vec::new(),
        subscribe: Vec::new(),
        command: Vec::new(),
        manage: None,
    };
    let rules = AccessRules::new(vec![entry]);
    let mut house = House::open_with(disk, house.now, BrokerLimits::default(), rules);
    assert_eq!(house.core.counters().denied, 1, "the other one has been received already");
    let attachment = house.connect("a", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(attachment), ["release/1", "release/2"]);
    for packet_id in [1, 2] {
        let (is_known, transaction) = house.core.completed(attachment, packet_id).unwrap();
        assert!(is_known, "{packet_id}");
        house.store(transaction);
    }
    assert_eq!(house.core.first_needed(), None);
    let outbound = |(key, _): &(&Bytes, &Bytes)| key.starts_with(b"bo");
    let (_, recovery) = Journal::open(house.disk, journal_options()).unwrap();
    assert_eq!(recovery.state.iter().filter(|entry| outbound(&(entry.0, entry.1))).count(), 0);
}

/// A stored message whose subscription was lowered to quality of service 0 is confirmed all the same.
#[test]
fn what_was_stored_is_confirmed() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "t", Qos::AtLeastOnce);
    house.publish("t", "1", Qos::AtLeastOnce);
    house.subscribe(attachment, "t", Qos::AtMostOnce);
    let mut house = house.cut_power();
    let attachment = house.connect("a", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(attachment), ["t=1/1"]);
    house.acknowledge(attachment, 1);
    assert_eq!(house.core.first_needed(), None);
}

/// A record is not released before its taking is stored: a power cut shows no damage.
#[test]
fn the_floor_follows_what_is_stored() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "t", Qos::AtLeastOnce);
    for _ in 0..100 {
        house.publish("t", &"x".repeat(1_000), Qos::AtLeastOnce);
        let due = house.take(attachment);
        let packet_id = due[0].rsplit('/').next().unwrap().parse().unwrap();
        assert!(house.core.acknowledged(attachment, packet_id).unwrap());
    }
    let (progress, is_complete) = house.core.take_all_progress();
    assert!(is_complete);
    house.store(progress);
    let floor = house.core.first_needed().unwrap_or(house.core.last_seq().next());
    assert!(house.journal.release(floor).unwrap().segments > 0);
    house.cut_power();
}
