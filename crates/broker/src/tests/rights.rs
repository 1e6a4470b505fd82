//! Rights that change while messages wait, are in flight, or the gateway is down (promise C7, M15).

use super::*;
use crate::access::{AccessEntry, AccessFilter, Glob};

/// Everybody may publish everywhere and receive what `readable` matches.
fn rules(readable: &[&str]) -> AccessRules {
    let filters =
        |texts: &[&str]| texts.iter().map(|text| AccessFilter::parse(text).unwrap()).collect();
    AccessRules::new(vec![AccessEntry {
        principal: Glob::new("*"),
        publish: filters(&["#"]),
        subscribe: filters(readable),
        command: filters(&["#"]),
        manage: None,
    }])
}

/// A house with a persistent client that has `secret/…` and `open/…` waiting.
fn with_waiting(qos: Qos) -> House {
    let now = Timestamp::from_unix_millis(1_000_000);
    let limits = BrokerLimits::default();
    let mut house = House::open_with(SimulatedDisk::new(), now, limits, rules(&["#"]));
    let client = house.connect("c", Expiry::After(HOUR), false, None).attachment;
    house.subscribe(client, "#", qos);
    house.core.disconnect(client, Disconnect::Abnormal, house.now).unwrap();
    for topic in ["secret/1", "open/1", "secret/2", "open/2"] {
        house.publish(topic, "x", qos);
    }
    house
}

#[test]
fn fault_m15_what_waits_is_withheld_when_the_right_is_gone() {
    let mut house = with_waiting(Qos::AtLeastOnce);
    house.core.set_rules(rules(&["open/#"]));
    let client = house.connect("c", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(client), ["open/1=x/1", "open/2=x/2"]);
    assert_eq!(house.core.counters().denied, 2);
    assert_eq!(house.core.denials().values().sum::<u64>(), 2);
    house.acknowledge(client, 1);
    house.acknowledge(client, 2);
    assert_eq!(house.core.first_needed(), None, "what was withheld is done with");
    // A right that comes back is in time for what still waits.
    house.core.disconnect(client, Disconnect::Abnormal, house.now).unwrap();
    house.publish("secret/3", "x", Qos::AtLeastOnce);
    assert_eq!(house.core.counters().denied, 3, "not even queued");
    house.publish("open/3", "x", Qos::AtLeastOnce);
    house.core.set_rules(rules(&["secret/#"]));
    house.core.set_rules(rules(&["open/#"]));
    let client = house.connect("c", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(client), ["open/3=x/3"]);
}

#[test]
fn fault_m15_what_is_in_flight_is_not_sent_again() {
    let mut house = with_waiting(Qos::AtLeastOnce);
    let client = house.connect("c", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(client).len(), 4);
    house.core.set_rules(rules(&["open/#"]));
    let client = house.connect("c", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(client), ["open/1=x/2!", "open/2=x/4!"]);
    assert_eq!(house.core.counters().denied, 2);
}

/// The client may know the packet identifier: without a PUBREL it would take the next message under it for a repetition.
#[test]
fn fault_m15_an_exactly_once_exchange_ends_without_its_message() {
    for cut in [false, true] {
        let mut house = with_waiting(Qos::ExactlyOnce);
        let client = house.connect("c", Expiry::After(HOUR), false, None).attachment;
        assert_eq!(house.take(client).len(), 4);
        if cut {
            let (disk, now) = (house.disk.power_cut(Fate::Dropped), house.now);
            house = House::open_with(disk, now, BrokerLimits::default(), rules(&["open/#"]));
        } else {
            house.core.set_rules(rules(&["open/#"]));
        }
        let client = house.connect("c", Expiry::After(HOUR), false, None).attachment;
        let again = ["release/1", "open/1=x/2!", "release/3", "open/2=x/4!"];
        assert_eq!(house.take(client), again, "cut: {cut}");
        assert_eq!(house.core.counters().denied, 2);
        // The release is on disk: it is what comes after a power cut, whatever the rules say then.
        let mut house = house.cut_power();
        let client = house.connect("c", Expiry::After(HOUR), false, None).attachment;
        assert_eq!(house.take(client).len(), 4);
        assert!(house.core.completed(client, 1).unwrap().0);
    }
}

/// A reader inside the gateway, such as one on behalf of an HTTP client.
#[derive(Default)]
struct Reader(AtomicU64);

impl crate::LocalSubscriber for Reader {
    fn deliver(&self, _: &Arc<crate::Routed>) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn is_gone(&self) -> bool {
        false
    }
}

#[test]
fn readers_of_other_protocols_get_what_their_principals_may_receive() {
    let mut house = House::new();
    house.core.set_rules(rules(&["open/#"]));
    let reader = Arc::new(Reader::default());
    let all = TopicFilter::new("#").unwrap();
    house.core.add_local(&Principal::anonymous(), &all, options(Qos::AtLeastOnce), reader.clone());
    let count = |house: &mut House, topic| {
        house.publish(topic, "x", Qos::AtLeastOnce);
        reader.0.swap(0, Ordering::Relaxed)
    };
    assert_eq!((count(&mut house, "open/1"), count(&mut house, "secret/1")), (1, 0));
    house.core.set_rules(rules(&["secret/#"]));
    assert_eq!((count(&mut house, "open/1"), count(&mut house, "secret/1")), (0, 1));
}

/// uplink.21: parts of the gateway get what the configuration names, whatever clients may do.
#[test]
fn parts_of_the_gateway_need_no_rights() {
    let mut house = House::new();
    let reader = Arc::new(Reader::default());
    let own = TopicFilter::new("hall/lamp").unwrap();
    house.core.add_own(&own, crate::SubscriptionOptions::LOCAL, reader.clone());
    for filters in [&["open/#"][..], &[]] {
        house.core.set_rules(rules(filters));
        for topic in ["hall/lamp", "hall/lamp/set", "hall/other"] {
            house.publish(topic, "x", Qos::AtLeastOnce);
        }
        assert_eq!(reader.0.swap(0, Ordering::Relaxed), 1);
    }
    assert_eq!(house.core.counters().denied, 0);
    assert!(!house.core.has_subscriber(&Topic::new("hall/lamp").unwrap()));
}

/// C10: names that foreign issuers of tokens give do not fill the memory; those beyond count together.
#[test]
fn denials_are_told_apart_for_so_many_only() {
    let mut house = House::new();
    for number in 0..5_000 {
        house.core.note_denial(&Principal::new(&format!("device-{number}")).unwrap());
    }
    let known = Principal::new("device-0").unwrap();
    house.core.note_denial(&known);
    let others = Principal::new("*").unwrap();
    let denials = house.core.denials();
    assert_eq!((denials.len(), denials[&known], denials[&others]), (4_097, 2, 904));
}
