//! Section 4.9 and the limits that both sides name in CONNECT and CONNACK: receive maximum, packet size, topic aliases.

use super::client::{Client, Message};
use super::packets::{Connect, PINGREQ, Publish, V3, V5, ack, kind, prop, subscribe};
use super::server::unique;
use crate::support::wire::packet;

statements! {
    mqtt5_3_1_2_24_no_packet_is_too_large => messages_too_large_are_dropped();
    mqtt5_3_1_2_25_as_if_it_had_been_sent => messages_too_large_are_dropped();
    mqtt5_3_1_2_26_aliases_keep_to_the_maximum => aliases_of_the_server();
    mqtt5_3_3_2_11_aliases_keep_to_the_maximum => aliases_of_the_server();
    mqtt5_3_1_2_27_without_a_maximum_no_aliases => aliases_of_the_server();
    mqtt5_3_3_2_8_an_alias_is_not_0 => wrong_aliases();
    mqtt5_3_3_2_9_an_alias_is_not_above_the_maximum => wrong_aliases();
    mqtt5_3_2_2_17_an_alias_is_not_above_the_maximum => wrong_aliases();
    mqtt5_3_3_2_12_all_aliases_up_to_the_maximum => all_aliases_up_to_the_maximum();
    mqtt5_3_3_2_7_aliases_end_with_their_connection => aliases_end_with_their_connection();
    mqtt5_3_2_2_15_a_packet_too_large_ends_it => packets_too_large();
    mqtt5_3_3_4_7_more_than_the_receive_maximum => more_than_the_receive_maximum();
    mqtt5_3_3_4_9_the_clients_receive_maximum => the_clients_receive_maximum();
    mqtt5_4_9_0_1_the_first_quota => the_clients_receive_maximum();
    mqtt5_4_9_0_2_nothing_without_quota => the_clients_receive_maximum();
    mqtt5_3_3_4_10_other_packets_without_quota => other_packets_without_quota();
    mqtt5_4_9_0_3_other_packets_without_quota => other_packets_without_quota();
}

fn messages_too_large_are_dropped() {
    let topic = unique("large/");
    let properties =
        [prop::u32(prop::MAXIMUM_PACKET, 100), prop::u16(prop::RECEIVE_MAXIMUM, 1)].concat();
    let connect = Connect::lasting(V5, &unique("client")).and(&properties);
    let mut client = Client::with(&connect);
    client.subscribe(&topic, 2);
    let mut publisher = Client::connect(V5);
    // Sizes around the limit: fixed header, topic, identifier, properties, payload.
    let overhead = 2 + 2 + topic.len() + 2 + 1;
    for (number, size) in [(1, 100), (2, 101), (3, 5_000), (4, 99), (5, 101), (6, 100)] {
        let payload = format!("{number}{}", "x".repeat(size - overhead - 1));
        for qos in [1, 2] {
            publisher.publish(&Publish::new(&topic, &payload).qos(qos, number));
        }
    }
    // One at a time, by its receive maximum: what was dropped holds no place.
    for number in ["1", "1", "4", "4", "6", "6"] {
        let message = client.message();
        assert_eq!(&message.payload[..1], number);
        match message.qos {
            1 => client.send(&ack(kind::PUBACK, message.id, 0)),
            _ => {
                client.send(&ack(kind::PUBREC, message.id, 0));
                client.expect_ack(kind::PUBREL, message.id);
                client.send(&ack(kind::PUBCOMP, message.id, 0));
            }
        }
    }
    client.ping();
    drop(client);
    let mut client =
        Client::with(&Connect::lasting(V5, &String::from_utf8_lossy(&connect.client_id)));
    assert!(client.connack.present);
    assert_eq!(client.drain(), [], "they are gone for good");
}

fn aliases_of_the_server() {
    let root = unique("aliased");
    for maximum in [None, Some(0), Some(2)] {
        let property = maximum.map_or_else(Vec::new, |it| prop::u16(prop::ALIAS_MAXIMUM, it));
        let mut client = Client::with(&Connect::new(V5, &unique("client")).and(&property));
        client.subscribe(&format!("{root}/#"), 0);
        let mut publisher = Client::connect(V5);
        let mut known = std::collections::BTreeMap::new();
        for number in [1, 2, 3, 1, 1, 2, 3, 4, 1] {
            let topic = format!("{root}/a/long/topic/for/which/an/alias/would/pay/{number}");
            publisher.send(&Publish::new(&topic, &number.to_string()).bytes(V5));
            let Message { topic: found, properties, payload, .. } = client.message();
            assert_eq!(payload, number.to_string());
            let alias = properties.number(prop::ALIAS);
            if let Some(alias) = alias {
                assert!(maximum.is_some_and(|most| (1..=most.into()).contains(&alias)), "{alias}");
                if !found.is_empty() {
                    known.insert(alias, found.clone());
                }
            }
            let meant =
                if found.is_empty() { &known[&alias.expect("one of both")] } else { &found };
            assert_eq!(*meant, topic);
        }
    }
}

/// Returns the greatest alias that the server takes.
fn alias_maximum(client: &Client) -> u16 {
    let maximum = client.connack.properties.number(prop::ALIAS_MAXIMUM).expect("it is named");
    u16::try_from(maximum).expect("two bytes")
}

fn wrong_aliases() {
    let maximum = alias_maximum(&Client::connect(V5));
    for alias in [0, maximum + 1, u16::MAX] {
        let mut client = Client::connect(V5);
        client.send(&Publish::new("a", "").and(&prop::u16(prop::ALIAS, alias)).bytes(V5));
        client.ends(0x94);
    }
    // One that has not been set stands for nothing.
    let mut client = Client::connect(V5);
    client.send(&Publish::new("", "").and(&prop::u16(prop::ALIAS, 1)).bytes(V5));
    client.ends(0x82);
}

fn all_aliases_up_to_the_maximum() {
    let root = unique("aliased");
    let mut client = Client::connect(V5);
    let maximum = alias_maximum(&client);
    client.subscribe(&format!("{root}/#"), 0);
    for round in ["a", "b"] {
        for alias in 1..=maximum {
            let publish = Publish::new(&format!("{root}/{round}/{alias}"), "set");
            client.send(&publish.and(&prop::u16(prop::ALIAS, alias)).bytes(V5));
            client.message();
        }
        for alias in (1..=maximum).rev() {
            client.send(&Publish::new("", "used").and(&prop::u16(prop::ALIAS, alias)).bytes(V5));
            assert_eq!(client.message().topic, format!("{root}/{round}/{alias}"));
        }
    }
}

fn aliases_end_with_their_connection() {
    let connect = Connect::lasting(V5, &unique("client"));
    let alias = prop::u16(prop::ALIAS, 1);
    let mut client = Client::with(&connect);
    client.publish(&Publish::new(&unique("aliased/"), "").and(&alias));
    client.publish(&Publish::new("", "").and(&alias));
    drop(client);
    let mut client = Client::with(&connect);
    assert!(client.connack.present);
    client.send(&Publish::new("", "").and(&alias).bytes(V5));
    client.ends(0x82);
}

fn packets_too_large() {
    let maximum = Client::connect(V5).connack.properties.number(prop::MAXIMUM_PACKET);
    let maximum = maximum.expect("it is named") as usize;
    let topic = unique("large/");
    // Three bytes of length, from 16,384 bytes on to 2 MiB.
    let overhead = 1 + 3 + 2 + topic.len() + 2 + 1;
    let publish = |size: usize| Publish::new(&topic, &"x".repeat(size - overhead)).qos(1, 1);
    let mut client = Client::connect(V5);
    assert_eq!(client.publish(&publish(maximum)), 0x10, "one byte less would be a shame");
    client.send(&publish(maximum + 1).bytes(V5));
    client.ends(0x95);
    // The head alone tells: nobody waits for 268 MB.
    for head in [[0x30, 0xff, 0xff, 0xff, 0x7f], [0x82, 0xff, 0xff, 0xff, 0x7f]] {
        let mut client = Client::connect(V5);
        client.send(&head);
        client.ends(0x95);
        let mut old = Client::connect(V3);
        old.send(&head);
        old.ends_silently();
    }
}

fn more_than_the_receive_maximum() {
    let maximum = Client::connect(V5).connack.properties.number(prop::RECEIVE_MAXIMUM);
    let maximum = u16::try_from(maximum.expect("it is named")).expect("two bytes");
    let topic = unique("many/");
    let mut client = Client::connect(V5);
    for id in 1..=maximum {
        client.send(&Publish::new(&topic, "").qos(2, id).bytes(V5));
        assert_eq!(client.expect_ack(kind::PUBREC, id), 0x10);
    }
    // The same again is none more, nor is QoS 0.
    client.send(&Publish::new(&topic, "").qos(2, 1).dup().bytes(V5));
    assert_eq!(client.expect_ack(kind::PUBREC, 1), 0);
    client.publish(&Publish::new(&topic, ""));
    client.send(&ack(kind::PUBREL, 1, 0));
    client.expect_ack(kind::PUBCOMP, 1);
    client.send(&Publish::new(&topic, "").qos(2, 1).bytes(V5));
    client.expect_ack(kind::PUBREC, 1);
    client.send(&Publish::new(&topic, "").qos(1, maximum + 1).bytes(V5));
    client.ends(0x93);
}

fn the_clients_receive_maximum() {
    for maximum in [1, 3] {
        let topic = unique("window/");
        let property = prop::u16(prop::RECEIVE_MAXIMUM, maximum);
        let mut client = Client::with(&Connect::new(V5, &unique("client")).and(&property));
        client.subscribe(&topic, 2);
        let mut publisher = Client::connect(V5);
        for number in 1..=8 {
            publisher.publish(
                &Publish::new(&topic, &number.to_string()).qos(1 + number as u8 % 2, number),
            );
        }
        let mut open: Vec<Message> = (0..maximum).map(|_| client.message()).collect();
        let mut next = maximum + 1;
        for _ in 0..8 {
            client.ping();
            let message = open.remove(0);
            if message.qos == 2 {
                client.send(&ack(kind::PUBREC, message.id, 0));
                assert_eq!(client.expect_ack(kind::PUBREL, message.id), 0);
                // It holds its place until PUBCOMP.
                client.ping();
                client.send(&ack(kind::PUBCOMP, message.id, 0));
            } else {
                client.send(&ack(kind::PUBACK, message.id, 0));
            }
            if next <= 8 {
                let message = client.message();
                assert_eq!(message.payload, next.to_string());
                open.push(message);
                next += 1;
            }
        }
        client.ping();
    }
}

fn other_packets_without_quota() {
    let topic = unique("window/");
    let property = prop::u16(prop::RECEIVE_MAXIMUM, 1);
    let mut client = Client::with(&Connect::new(V5, &unique("client")).and(&property));
    client.subscribe(&topic, 1);
    let mut publisher = Client::connect(V5);
    publisher.publish(&Publish::new(&topic, "one").qos(1, 1));
    publisher.publish(&Publish::new(&topic, "two").qos(1, 2));
    let first = client.message();
    let other = unique("other/");
    client.send(&subscribe(V5, 5, &[], &[(other.as_bytes(), 1)]));
    client.expect_reasons(kind::SUBACK, 5);
    assert_eq!(client.publish(&Publish::new(&unique("x/"), "").qos(1, 1)), 0x10);
    assert_eq!(client.publish(&Publish::new(&unique("x/"), "").qos(2, 2)), 0x10);
    client.unsubscribe(&[&other]);
    client.send(&PINGREQ);
    assert_eq!(client.next().head, 0xd0);
    client.send(&ack(kind::PUBACK, first.id, 0));
    assert_eq!(client.message().payload, "two");
}

/// 3.1.1 knows no receive maximum: a client may have as many open as it likes, and is answered in turn.
#[test]
fn clients_of_3_1_1_have_no_receive_maximum() {
    let topic = unique("many/");
    let mut client = Client::connect(V3);
    let ids = 1..=300_u16;
    let bytes: Vec<u8> =
        ids.clone().flat_map(|id| Publish::new(&topic, "").qos(2, id).bytes(V3)).collect();
    client.send(&bytes);
    for id in ids.clone() {
        assert_eq!(client.expect_ack(kind::PUBREC, id), 0);
    }
    client.send(&ids.clone().flat_map(|id| ack(kind::PUBREL, id, 0)).collect::<Vec<u8>>());
    for id in ids {
        assert_eq!(client.expect_ack(kind::PUBCOMP, id), 0);
    }
}

/// What is read at once and has to wait for answers does not wait for more to be read.
#[test]
fn many_packets_in_one_write_are_all_taken() {
    for version in [V3, V5] {
        let topic = unique("many/");
        let mut client = Client::connect(version);
        // In 5.0 no more than the receive maximum, which 3.1.1 is not told.
        let ids = 1..=if version == V3 { 1_000_u16 } else { 60 };
        let publish = |id| Publish::new(&topic, "").qos(1, id).bytes(version);
        client.send(&ids.clone().flat_map(publish).collect::<Vec<u8>>());
        for id in ids {
            client.expect_ack(kind::PUBACK, id);
        }
        client.send(&PINGREQ.repeat(5_000));
        for _ in 0..5_000 {
            assert_eq!(client.next().head, 0xd0);
        }
    }
}

/// Limits of the server's own are told, each by its reason.
#[test]
fn the_servers_limits_are_told() {
    let levels = "a/".repeat(200);
    let mut client = Client::connect(V5);
    client.send(&Publish::new(&levels, "").bytes(V5));
    client.ends(0x90);
    let mut client = Client::connect(V5);
    client.send(&subscribe(V5, 1, &[], &[(levels.as_bytes(), 0)]));
    client.ends(0x8f);
    let mut client = Client::connect(V5);
    let users: Vec<u8> = (0..2_000).flat_map(|_| prop::user("a", "b")).collect();
    client.send(&Publish::new("a", "").and(&users).bytes(V5));
    client.ends(0x95);
    let mut client = Client::open(V5);
    client.send(&packet(0x10, &[0; 100_000]));
    client.ends_silently();
}
