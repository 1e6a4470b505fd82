//! Section 3.1.2.5: the will of a client, when it is published and when it is forgotten.

use std::time::{Duration, Instant};

use super::client::{Client, Message};
use super::packets::{Connect, Publish, V3, V5, Version, Will, disconnect, prop};
use super::server::unique;

statements! {
    mqtt3_3_1_2_8_a_will_is_kept_and_published => a_will_is_published(V3);
    mqtt5_3_1_2_7_a_will_is_kept => a_will_is_published(V5);
    mqtt5_3_1_2_8_a_will_is_published => a_will_is_published(V5);
    mqtt5_3_1_2_8_after_its_delay_or_the_session => a_will_waits_for_its_delay();
    mqtt3_3_1_2_10_a_will_is_published_once => a_will_is_forgotten(V3);
    mqtt5_3_1_2_10_a_will_is_published_once => a_will_is_forgotten(V5);
    mqtt3_3_1_2_12_without_a_will_nothing_is_published => a_will_is_forgotten(V3);
    mqtt3_3_14_4_3_disconnect_makes_it_forgotten => disconnect_makes_a_will_forgotten(V3);
    mqtt5_3_14_4_3_disconnect_makes_it_forgotten => disconnect_makes_a_will_forgotten(V5);
    mqtt3_3_1_2_16_a_will_is_not_retained => a_will_is_retained_or_not(V3, false);
    mqtt5_3_1_2_14_a_will_is_not_retained => a_will_is_retained_or_not(V5, false);
    mqtt3_3_1_2_17_a_will_is_retained => a_will_is_retained_or_not(V3, true);
    mqtt5_3_1_2_15_a_will_is_retained => a_will_is_retained_or_not(V5, true);
    mqtt5_3_1_3_9_a_client_that_is_back_has_no_will_published => a_client_is_back_in_time();
    mqtt5_3_1_3_10_user_properties_keep_their_order => a_will_has_properties();
}

/// A client that watches the topic of a will.
fn witness(version: Version, topic: &str) -> Client {
    let mut witness = Client::connect(version);
    assert_eq!(witness.subscribe(topic, 2), 2);
    witness
}

fn dying(version: Version, will: Will) -> Client {
    Client::with(&Connect::new(version, &unique("dying")).with_will(will))
}

fn a_will_is_published(version: Version) {
    for qos in 0..=2 {
        let topic = unique("will/");
        let mut witness = witness(version, &topic);
        let client = dying(version, Will { qos, ..Will::new(&topic, "gone") });
        assert_eq!(witness.drain(), [], "not yet");
        drop(client);
        let Message { payload, qos: found, retain, dup, .. } = witness.take();
        assert_eq!((payload.as_str(), found, retain, dup), ("gone", qos, false, false));
    }
    // So it is when the client breaks the protocol, or another takes its place.
    let topic = unique("will/");
    let mut witness = witness(version, &topic);
    let connect = Connect::new(version, &unique("dying")).with_will(Will::new(&topic, "gone"));
    let mut client = Client::with(&connect);
    client.send(&[0x00, 0x00]);
    client.ends(0x81);
    assert_eq!(witness.take().payload, "gone");
    let _first = Client::with(&connect);
    let _second = Client::with(&Connect { will: None, ..connect });
    assert_eq!(witness.take().payload, "gone");
}

fn a_will_waits_for_its_delay() {
    let topic = unique("will/");
    let mut witness = witness(V5, &topic);
    let will = |delay| Will {
        properties: prop::u32(prop::WILL_DELAY, delay),
        ..Will::new(&topic, "gone")
    };
    let connect = Connect::lasting(V5, &unique("dying"));
    let client = Client::with(&connect.clone().with_will(will(1)));
    let end = Instant::now();
    drop(client);
    assert_eq!(witness.take().payload, "gone");
    assert!(end.elapsed() >= Duration::from_millis(950), "{:?}", end.elapsed());
    // The session ends before the delay does.
    let brief = Connect { properties: prop::u32(prop::SESSION_EXPIRY, 1), ..connect };
    let client = Client::with(&brief.with_will(will(3_600)));
    let end = Instant::now();
    drop(client);
    assert_eq!(witness.take().payload, "gone");
    assert!(end.elapsed() >= Duration::from_millis(950), "{:?}", end.elapsed());
    drop(dying(V5, will(3_600)));
    assert_eq!(witness.take().payload, "gone", "a session that ends at close");
    // DISCONNECT with 0x04 wants it published.
    let client = dying(V5, will(0));
    client.leave_with(&disconnect(V5, 0x04, &[]));
    assert_eq!(witness.take().payload, "gone");
}

fn a_will_is_forgotten(version: Version) {
    let topic = unique("will/");
    let mut witness = witness(version, &topic);
    let connect = Connect::lasting(version, &unique("dying"));
    drop(Client::with(&connect.clone().with_will(Will::new(&topic, "gone"))));
    assert_eq!(witness.take().payload, "gone");
    drop(Client::with(&connect));
    let again = Client::with(&connect);
    assert!(again.connack.present);
    again.leave();
    assert_eq!(witness.drain(), [], "the session goes on without the will");
}

fn disconnect_makes_a_will_forgotten(version: Version) {
    let topic = unique("will/");
    let mut witness = witness(version, &topic);
    dying(version, Will::new(&topic, "gone")).leave();
    assert_eq!(witness.drain(), []);
}

fn a_will_is_retained_or_not(version: Version, retain: bool) {
    let topic = unique("will/");
    let mut live = witness(version, &topic);
    let will = Will { retain, qos: 1, ..Will::new(&topic, "gone") };
    drop(dying(version, will));
    assert!(!live.take().retain, "to whom was subscribed, it is a message like others");
    let mut late = witness(version, &topic);
    let kept = late.drain();
    let found: Vec<_> = kept.iter().map(|it| (it.payload.as_str(), it.retain)).collect();
    assert_eq!(found, if retain { vec![("gone", true)] } else { vec![] });
    Client::connect(version).publish(&Publish::new(&topic, "").qos(1, 1).retain());
}

fn a_client_is_back_in_time() {
    let topic = unique("will/");
    let mut witness = witness(V5, &topic);
    let will = Will { properties: prop::u32(prop::WILL_DELAY, 1), ..Will::new(&topic, "gone") };
    let connect = Connect::lasting(V5, &unique("dying"));
    drop(Client::with(&connect.clone().with_will(will)));
    let client = Client::with(&connect);
    assert!(client.connack.present);
    assert_eq!(witness.next_within(Duration::from_millis(1_800)), None);
    drop(client);
    assert_eq!(witness.drain(), [], "the new connection has no will");
}

fn a_will_has_properties() {
    let topic = unique("will/");
    let mut witness = witness(V5, &topic);
    let user = [("b", "1"), ("a", "2"), ("b", "1"), ("", "")];
    let properties = [
        prop::user("b", "1"),
        prop::user("a", "2"),
        prop::u8(prop::PAYLOAD_FORMAT, 1),
        prop::user("b", "1"),
        prop::text(prop::CONTENT_TYPE, "text/plain"),
        prop::text(prop::RESPONSE_TOPIC, "answers"),
        prop::bytes(prop::CORRELATION, b"\0\xff"),
        prop::u32(prop::MESSAGE_EXPIRY, 500),
        prop::user("", ""),
    ];
    drop(dying(V5, Will { properties: properties.concat(), ..Will::new(&topic, "gone") }));
    let Message { properties: found, .. } = witness.take();
    assert_eq!(found.user(), user);
    assert_eq!(found.text(prop::CONTENT_TYPE).as_deref(), Some("text/plain"));
    assert_eq!(found.text(prop::RESPONSE_TOPIC).as_deref(), Some("answers"));
    assert_eq!(found.number(prop::PAYLOAD_FORMAT), Some(1));
    assert!(found.number(prop::MESSAGE_EXPIRY).is_some_and(|left| (490..=500).contains(&left)));
    assert_eq!(found.number(prop::WILL_DELAY), None, "it is no property of PUBLISH");
}
