//! Unusual but legal clients: nothing legal is refused (broker.8).

use std::time::Duration;

use super::client::Client;
use super::packets::{
    BOTH, Connect, Publish, V3, V5, Will, ack, disconnect, kind, prop, subscribe,
};
use super::server::unique;

#[test]
fn broker_8_keep_alive_0_is_no_keep_alive() {
    for version in BOTH {
        let connect = Connect { keep_alive: 0, ..Connect::new(version, &unique("client")) };
        let mut client = Client::with(&connect);
        assert_eq!(client.next_within(Duration::from_secs(2)), None);
        client.ping();
    }
}

#[test]
fn broker_8_client_identifiers_may_be_odd_and_long() {
    let long = "x".repeat(1_000);
    for version in BOTH {
        for id in [" ", "/", "#", "+/#", "$SYS", "ü\u{10ffff}", "\u{1}", "\u{feff}", "../..", &long]
        {
            let id = format!("{id}{}", unique("-"));
            let connect = Connect::lasting(version, &id);
            assert!(!Client::with(&connect).connack.present);
            assert!(Client::with(&connect).connack.present, "{id}");
        }
    }
}

#[test]
fn broker_8_payloads_may_be_empty_or_anything() {
    for version in BOTH {
        let topic = unique("payload/");
        let mut client = Client::connect(version);
        client.subscribe(&topic, 2);
        let mut publisher = Client::connect(version);
        for qos in 0..=2 {
            publisher.publish(&Publish::new(&topic, "").qos(qos, 1));
            assert_eq!(client.take().payload, "");
            let bytes = (0..=255).collect();
            publisher.publish(&Publish { payload: bytes, ..Publish::new(&topic, "").qos(qos, 2) });
            client.take();
        }
        let will = Will { qos: 1, ..Will::new(&topic, "") };
        drop(Client::with(&Connect::new(version, &unique("dying")).with_will(will)));
        assert_eq!(client.take().payload, "", "a will may be empty too");
    }
}

#[test]
fn broker_8_many_filters_in_one_packet() {
    for version in BOTH {
        let root = unique("filters");
        let filters: Vec<_> = (0..200).map(|number| format!("{root}/{number}/+")).collect();
        let mut client = Client::connect(version);
        let wanted: Vec<_> = filters.iter().map(|filter| (filter.as_bytes(), 1)).collect();
        client.send(&subscribe(version, 1, &[], &wanted));
        assert_eq!(client.expect_reasons(kind::SUBACK, 1), vec![1; 200]);
        client.send(&Publish::new(&format!("{root}/199/x"), "").bytes(version));
        assert_eq!(client.message().topic, format!("{root}/199/x"));
        let filters: Vec<_> = filters.iter().map(String::as_str).collect();
        let expected = if version == V5 { vec![0; 200] } else { Vec::new() };
        assert_eq!(client.unsubscribe(&filters), expected);
    }
}

#[test]
fn broker_8_acknowledgements_in_any_order() {
    for version in BOTH {
        let topic = unique("order/");
        let connect = Connect::lasting(version, &unique("client"));
        let mut client = Client::with(&connect);
        client.subscribe(&topic, 1);
        let mut publisher = Client::connect(version);
        for number in 0..6 {
            publisher.publish(&Publish::new(&topic, &number.to_string()).qos(1, number + 1));
        }
        let ids: Vec<_> = (0..6).map(|_| client.message().id).collect();
        for index in [5, 0, 3, 3, 2] {
            client.send(&ack(kind::PUBACK, ids[index], 0));
        }
        client.ping();
        drop(client);
        let mut client = Client::with(&connect);
        let left: Vec<_> = client.drain().into_iter().map(|it| it.payload).collect();
        assert_eq!(left, ["1", "4"]);
    }
}

#[test]
fn broker_8_dup_at_the_first_time() {
    for version in BOTH {
        let topic = unique("dup/");
        let mut client = Client::connect(version);
        client.subscribe(&topic, 0);
        let mut publisher = Client::connect(version);
        for qos in [1, 2] {
            publisher.publish(&Publish::new(&topic, "new").qos(qos, 1).dup());
            assert_eq!(client.take().payload, "new");
        }
    }
}

#[test]
fn broker_8_empty_levels_are_levels() {
    for version in BOTH {
        let mut client = Client::connect(version);
        let root = unique("");
        let topics = ["//", "/x/", "//x//"].map(|topic| format!("{topic}{root}"));
        for topic in &topics {
            client.subscribe(topic, 1);
            client.send(&Publish::new(topic, "").bytes(version));
            assert_eq!(client.message().topic, *topic);
        }
    }
}

#[test]
fn broker_8_clean_and_lasting_by_turns() {
    for version in BOTH {
        let (topic, id) = (unique("turns/"), unique("client"));
        for round in 0..3 {
            let clean = Client::with(&Connect::new(version, &id));
            assert!(!clean.connack.present, "round {round}");
            clean.leave();
            let mut lasting = Client::with(&Connect::lasting(version, &id));
            assert!(!lasting.connack.present, "round {round}");
            lasting.subscribe(&topic, 1);
            lasting.leave();
            assert!(Client::with(&Connect::lasting(version, &id)).connack.present);
        }
    }
}

#[test]
fn broker_8_disconnect_may_change_how_long_a_session_lasts() {
    let connect = Connect::lasting(V5, &unique("client"));
    let expiry = |seconds| disconnect(V5, 0, &prop::u32(prop::SESSION_EXPIRY, seconds));
    Client::with(&connect).leave_with(&expiry(1));
    let mut witness = Client::connect(V5);
    assert_eq!(witness.next_within(Duration::from_millis(2_200)), None);
    let client = Client::with(&connect);
    assert!(!client.connack.present, "it was made shorter");
    client.leave_with(&expiry(120));
    assert!(Client::with(&connect).connack.present);
}

#[test]
fn broker_8_a_clean_start_that_lasts() {
    // 5.0 tells apart what 3.1.1 does not: forget what was, and keep what comes.
    let (id, topic) = (unique("client"), unique("kept/"));
    let expiry = prop::u32(prop::SESSION_EXPIRY, 60);
    let mut client = Client::with(&Connect::new(V5, &id).and(&expiry));
    client.subscribe(&topic, 1);
    drop(client);
    Client::connect(V5).publish(&Publish::new(&topic, "kept").qos(1, 1));
    let mut client = Client::with(&Connect::lasting(V5, &id));
    assert!(client.connack.present);
    assert_eq!(client.take().payload, "kept");
}

#[test]
fn broker_8_versions_may_change_from_connection_to_connection() {
    let (id, topic) = (unique("client"), unique("versions/"));
    let mut client = Client::with(&Connect::lasting(V5, &id));
    client.subscribe_with(&topic, 0x09, &prop::subscription_id(7));
    drop(client);
    Client::connect(V5).publish(&Publish::new(&topic, "one").qos(1, 1));
    let mut client = Client::with(&Connect::lasting(V3, &id));
    assert!(client.connack.present);
    assert_eq!(client.take().payload, "one");
    Client::connect(V3).publish(&Publish::new(&topic, "two").qos(1, 1));
    assert_eq!(client.take().payload, "two");
    client.ping();
    drop(client);
    let mut client = Client::with(&Connect::lasting(V5, &id));
    assert!(client.connack.present);
    client.send(&Publish::new(&topic, "three").bytes(V5));
    let message = client.message();
    assert_eq!(message.properties.numbers(prop::SUBSCRIPTION_ID), [7]);
}

#[test]
fn broker_8_a_user_name_without_password() {
    // It is nobody's login, and told so; it is no breach.
    for version in BOTH {
        let user_name = Some(b"somebody".to_vec());
        let connect = Connect { user_name, ..Connect::new(version, &unique("client")) };
        let reason = Client::try_with(&connect).connack.reason;
        assert!([4, 5, 0x86, 0x87].contains(&reason), "{reason:#x}");
    }
}
