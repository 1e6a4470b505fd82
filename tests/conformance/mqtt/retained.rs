//! Section 3.3.1.3: retained messages, and when a subscription gets them.

use super::client::Client;
use super::packets::{Publish, V3, V5, Version};
use super::server::unique;

statements! {
    mqtt3_3_3_1_5_a_message_is_retained => a_message_is_retained(V3);
    mqtt5_3_3_1_5_a_message_is_retained => a_message_is_retained(V5);
    mqtt3_3_3_1_6_a_new_subscription_gets_what_is_retained => all_matching_topics(V3);
    mqtt5_3_3_1_9_a_subscription_gets_what_is_retained => all_matching_topics(V5);
    mqtt3_3_3_1_7_qos_zero_replaces_what_was_retained => a_message_is_retained(V3);
    mqtt3_3_3_1_8_what_was_retained_has_retain_set => a_message_is_retained(V3);
    mqtt3_3_3_1_9_a_live_message_has_retain_clear => a_live_message_has_retain_clear(V3);
    mqtt5_3_3_1_12_a_live_message_has_retain_clear => a_live_message_has_retain_clear(V5);
    mqtt5_3_3_1_13_retain_as_published => retain_as_published();
    mqtt3_3_3_1_10_no_payload_removes => no_payload_removes(V3);
    mqtt5_3_3_1_6_no_payload_removes => no_payload_removes(V5);
    mqtt3_3_3_1_11_no_payload_is_not_kept => no_payload_removes(V3);
    mqtt5_3_3_1_7_no_payload_is_not_kept => no_payload_removes(V5);
    mqtt3_3_3_1_12_without_retain_nothing_is_kept => without_retain_nothing_is_kept(V3);
    mqtt5_3_3_1_8_without_retain_nothing_is_kept => without_retain_nothing_is_kept(V5);
    mqtt5_3_3_1_10_retain_handling_1 => retain_handling_1();
    mqtt5_3_3_1_11_retain_handling_2 => retain_handling_2();
}

/// What a new subscription gets: payload, QoS and RETAIN of each.
#[track_caller]
fn kept(version: Version, filter: &str) -> Vec<(String, u8, bool)> {
    let mut client = Client::connect(version);
    client.subscribe(filter, 2);
    let mut kept: Vec<_> =
        client.drain().into_iter().map(|it| (it.payload, it.qos, it.retain)).collect();
    kept.sort();
    kept
}

fn a_message_is_retained(version: Version) {
    let topic = unique("retained/");
    let mut client = Client::connect(version);
    for (payload, qos) in [("one", 1), ("two", 2), ("none", 0), ("last", 1)] {
        client.publish(&Publish::new(&topic, payload).qos(qos, 1).retain());
        assert_eq!(kept(version, &topic), [(payload.to_owned(), qos, true)]);
    }
}

fn all_matching_topics(version: Version) {
    let root = unique("retained");
    let mut client = Client::connect(version);
    for topic in ["a", "a/b", "c"] {
        client.publish(&Publish::new(&format!("{root}/{topic}"), topic).qos(1, 1).retain());
    }
    let payloads = |filter: &str| {
        let kept = kept(version, &format!("{root}/{filter}"));
        kept.into_iter().map(|(payload, ..)| payload).collect::<Vec<_>>()
    };
    assert_eq!(payloads("#"), ["a", "a/b", "c"]);
    assert_eq!(payloads("+"), ["a", "c"]);
    assert_eq!(payloads("a/+"), ["a/b"]);
    assert_eq!(payloads("x"), [""; 0]);
}

fn a_live_message_has_retain_clear(version: Version) {
    let topic = unique("retained/");
    let mut client = Client::connect(version);
    client.subscribe(&topic, 1);
    Client::connect(version).publish(&Publish::new(&topic, "live").qos(1, 1).retain());
    assert!(!client.take().retain);
}

fn retain_as_published() {
    let topic = unique("retained/");
    let mut client = Client::connect(V5);
    client.subscribe(&topic, 0x08);
    client.send(&Publish::new(&topic, "kept").retain().bytes(V5));
    client.send(&Publish::new(&topic, "not kept").bytes(V5));
    assert_eq!(client.drain().iter().map(|it| it.retain).collect::<Vec<_>>(), [true, false]);
    let mut other = Client::connect(V5);
    other.subscribe(&topic, 0x08);
    assert!(other.message().retain);
}

fn no_payload_removes(version: Version) {
    for qos in 0..=2 {
        let topic = unique("retained/");
        let mut client = Client::connect(version);
        client.subscribe(&topic, 2);
        let mut publisher = Client::connect(version);
        publisher.publish(&Publish::new(&topic, "kept").qos(1, 1).retain());
        publisher.publish(&Publish::new(&topic, "").qos(qos, 2).retain());
        let live: Vec<_> = client.drain().into_iter().map(|it| it.payload).collect();
        assert_eq!(live, ["kept", ""], "it is delivered as any other");
        assert_eq!(kept(version, &topic), []);
        // Where there was nothing, nothing is kept.
        publisher.publish(&Publish::new(&topic, "").qos(qos, 3).retain());
        assert_eq!(kept(version, &topic), []);
    }
}

fn without_retain_nothing_is_kept(version: Version) {
    let topic = unique("retained/");
    let mut client = Client::connect(version);
    client.publish(&Publish::new(&topic, "passes").qos(1, 1));
    assert_eq!(kept(version, &topic), []);
    client.publish(&Publish::new(&topic, "stays").qos(1, 1).retain());
    client.publish(&Publish::new(&topic, "passes").qos(1, 1));
    client.publish(&Publish::new(&topic, "").qos(1, 1));
    assert_eq!(kept(version, &topic), [("stays".to_owned(), 1, true)]);
}

fn retain_handling_1() {
    let topic = unique("retained/");
    let mut client = Client::connect(V5);
    client.publish(&Publish::new(&topic, "kept").qos(1, 1).retain());
    client.subscribe(&topic, 0x10);
    assert_eq!(client.drain().len(), 1, "the subscription is new");
    client.subscribe(&topic, 0x10);
    assert_eq!(client.drain(), [], "it was there");
    client.unsubscribe(&[&topic]);
    client.subscribe(&topic, 0x10);
    assert_eq!(client.drain().len(), 1, "it is new again");
}

fn retain_handling_2() {
    let topic = unique("retained/");
    let mut client = Client::connect(V5);
    client.publish(&Publish::new(&topic, "kept").qos(1, 1).retain());
    client.subscribe(&topic, 0x20);
    assert_eq!(client.drain(), []);
    client.send(&Publish::new(&topic, "live").bytes(V5));
    assert_eq!(client.drain().len(), 1);
}
