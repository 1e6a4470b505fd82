//! Packet identifiers that come round while some are in use (broker.2).

use std::collections::BTreeSet;

use super::*;

impl House {
    /// Publishes one message and returns the packet identifier under which it goes to `client`.
    fn send_one(&mut self, client: Attachment) -> u16 {
        let sent = vec![message("t", "x", Qos::AtLeastOnce)];
        self.core.route(sent, Source::Gateway, Admission::Open).unwrap();
        let mut due = Vec::new();
        self.core.take_due(client, self.now, 100, &mut due).unwrap();
        match &due[..] {
            [Due::Publish { packet_id: Some(packet_id), .. }] => *packet_id,
            other => panic!("one message was due: {other:?}"),
        }
    }

    /// A client that allows `receive_maximum` messages in flight, and is subscribed.
    fn subscriber(&mut self, receive_maximum: u16) -> Attachment {
        let request = self.request("c", Expiry::AtDisconnect, true, None);
        let request = ConnectRequest { receive_maximum, ..request };
        let client = self.core.connect(request, self.now).unwrap().attachment;
        self.subscribe(client, "t", Qos::AtLeastOnce);
        client
    }
}

/// broker.2: identifiers whose messages are never acknowledged are passed by, however often the others come round.
#[test]
fn broker_2_identifiers_in_use_are_passed_by_when_they_come_round() {
    let mut house = House::new();
    let client = house.subscriber(10);
    let kept: Vec<u16> = (0..3).map(|_| house.send_one(client)).collect();
    assert_eq!(kept, [1, 2, 3]);
    let mut used = BTreeSet::new();
    for _ in 0..65_535 - 3 {
        let packet_id = house.send_one(client);
        assert!(used.insert(packet_id), "{packet_id} comes again before its turn");
        assert!(house.core.acknowledged(client, packet_id).unwrap());
    }
    assert!(used.range(..=3).next().is_none(), "0 is none, and three are in use");
    assert_eq!((used.first(), used.last()), (Some(&4), Some(&65_535)));
    assert_eq!(house.send_one(client), 4, "it has come round");
    assert!(house.core.acknowledged(client, 2).unwrap(), "the first ones are still in flight");
}

/// broker.2: a window that is full around the turn holds each identifier once.
#[test]
fn broker_2_a_full_window_around_the_turn_holds_each_identifier_once() {
    let mut house = House::new();
    let client = house.subscriber(64);
    for expected in 1..=65_510 {
        assert_eq!(house.send_one(client), expected);
        assert!(house.core.acknowledged(client, expected).unwrap());
    }
    let window: BTreeSet<u16> = (0..64).map(|_| house.send_one(client)).collect();
    assert_eq!(window, (65_511..=65_535).chain(1..=39).collect());
    house.publish("t", "waits", Qos::AtLeastOnce);
    assert!(!house.core.has_due(client), "the window is full");
    assert!(house.core.acknowledged(client, 65_535).unwrap());
    assert_eq!(house.take(client), ["t=waits/40"]);
}
