//! Sections 3.4 to 3.7 and 4.3 to 4.6: exchanges of QoS 1 and 2, their order, and what happens when they are cut off.

use std::time::Duration;

use super::client::{Client, Message};
use super::packets::{Connect, Publish, V3, V5, Version, ack, kind, prop};
use super::server::unique;

statements! {
    mqtt3_2_3_1_1_identifiers_are_not_0 => identifier_zero(V3);
    mqtt5_2_2_1_3_identifiers_are_not_0 => identifier_zero(V5);
    mqtt3_2_3_1_4_the_servers_identifiers_are_free => the_servers_identifiers_are_free(V3);
    mqtt5_2_2_1_4_the_servers_identifiers_are_free => the_servers_identifiers_are_free(V5);
    mqtt5_4_3_2_1_the_servers_identifiers_are_free => the_servers_identifiers_are_free(V5);
    mqtt5_4_3_3_1_the_servers_identifiers_are_free => the_servers_identifiers_are_free(V5);
    mqtt3_2_3_1_6_answers_have_the_identifier => answers_come_in_order(V3);
    mqtt5_2_2_1_5_answers_have_the_identifier => answers_come_in_order(V5);
    mqtt3_4_6_0_2_puback_comes_in_order => answers_come_in_order(V3);
    mqtt5_4_6_0_2_puback_comes_in_order => answers_come_in_order(V5);
    mqtt3_4_6_0_3_pubrec_comes_in_order => answers_come_in_order(V3);
    mqtt5_4_6_0_3_pubrec_comes_in_order => answers_come_in_order(V5);
    mqtt3_4_6_0_4_pubrel_comes_in_order => pubrel_comes_in_order(V3);
    mqtt5_4_6_0_4_pubrel_comes_in_order => pubrel_comes_in_order(V5);
    mqtt3_4_6_0_5_every_topic_keeps_its_order => topics_keep_their_order(V3);
    mqtt3_4_6_0_6_subscribers_see_that_order => topics_keep_their_order(V3);
    mqtt5_4_6_0_5_subscribers_see_that_order => topics_keep_their_order(V5);
    mqtt5_4_6_0_6_every_topic_keeps_its_order => topics_keep_their_order(V5);
    mqtt3_4_3_1_1_qos_0 => qos_0(V3);
    mqtt5_4_3_1_1_qos_0 => qos_0(V5);
    mqtt3_4_3_2_1_qos_1_is_open_until_puback => qos_1_is_sent_until_puback(V3);
    mqtt5_4_3_2_2_qos_1_begins_with_dup_0 => qos_1_is_sent_until_puback(V5);
    mqtt5_4_3_2_3_qos_1_is_open_until_puback => qos_1_is_sent_until_puback(V5);
    mqtt3_3_3_1_1_dup_is_set_when_sent_again => qos_1_is_sent_until_puback(V3);
    mqtt5_3_3_1_1_dup_is_set_when_sent_again => qos_1_is_sent_until_puback(V5);
    mqtt3_4_3_2_2_qos_1_is_answered => qos_1_is_answered(V3);
    mqtt5_4_3_2_4_qos_1_is_answered => qos_1_is_answered(V5);
    mqtt5_4_3_2_5_then_the_identifier_is_new => qos_1_is_answered(V5);
    mqtt3_4_3_3_1_qos_2_is_sent => qos_2_is_sent_in_two_steps(V3);
    mqtt5_4_3_3_2_qos_2_begins_with_dup_0 => qos_2_is_sent_in_two_steps(V5);
    mqtt5_4_3_3_3_qos_2_is_open_until_pubrec => qos_2_is_sent_in_two_steps(V5);
    mqtt5_4_3_3_4_pubrec_is_answered => qos_2_is_sent_in_two_steps(V5);
    mqtt5_4_3_3_5_pubrel_is_open_until_pubcomp => qos_2_is_sent_in_two_steps(V5);
    mqtt5_4_3_3_6_after_pubrel_it_is_not_sent_again => qos_2_is_sent_in_two_steps(V5);
    mqtt5_4_3_3_7_what_was_sent_does_not_expire => what_was_sent_does_not_expire();
    mqtt3_4_3_3_2_qos_2_is_taken_once => qos_2_is_taken_once(V3);
    mqtt5_4_3_3_8_qos_2_is_answered => qos_2_is_taken_once(V5);
    mqtt5_4_3_3_10_qos_2_is_taken_once => qos_2_is_taken_once(V5);
    mqtt5_4_3_3_11_pubrel_is_answered => qos_2_is_taken_once(V5);
    mqtt5_4_3_3_12_then_the_identifier_is_new => qos_2_is_taken_once(V5);
    mqtt5_4_3_3_9_after_a_refusal_the_identifier_is_new => after_a_refusal_the_identifier_is_new();
    mqtt5_4_3_3_13_expired_exchanges_go_to_their_end => expired_exchanges_go_to_their_end();
    mqtt3_4_4_0_1_what_is_open_is_sent_again => what_is_open_is_sent_again_in_order(V3);
    mqtt5_4_4_0_1_what_is_open_is_sent_again => what_is_open_is_sent_again_in_order(V5);
    mqtt3_4_6_0_1_in_the_order_of_the_first_time => what_is_open_is_sent_again_in_order(V3);
    mqtt5_4_6_0_1_in_the_order_of_the_first_time => what_is_open_is_sent_again_in_order(V5);
    mqtt5_4_4_0_2_a_refusal_ends_a_message => a_refusal_ends_a_message();
    mqtt5_3_4_2_1_the_reasons_of_puback => the_reasons_of_answers();
    mqtt5_3_5_2_1_the_reasons_of_pubrec => the_reasons_of_answers();
    mqtt5_3_6_2_1_the_reasons_of_pubrel => the_reasons_of_answers();
    mqtt5_3_7_2_1_the_reasons_of_pubcomp => the_reasons_of_answers();
    mqtt3_3_6_1_1_the_flags_of_pubrel_are_0010 => the_flags_of_pubrel(V3);
    mqtt5_3_6_1_1_the_flags_of_pubrel_are_0010 => the_flags_of_pubrel(V5);
}

fn identifier_zero(version: Version) {
    let subscribe = super::packets::subscribe(version, 0, &[], &[(b"a", 0)]);
    let unsubscribe = super::packets::unsubscribe(version, 0, &["a"]);
    let mut packets = vec![subscribe, unsubscribe];
    packets.extend([1, 2].map(|qos| Publish::new("a", "").qos(qos, 0).bytes(version)));
    let answers = [kind::PUBACK, kind::PUBREC, kind::PUBREL, kind::PUBCOMP];
    packets.extend(answers.map(|kind| ack(kind, 0, 0)));
    for bytes in packets {
        let mut client = Client::connect(version);
        client.send(&bytes);
        client.ends(0x82);
    }
}

fn the_servers_identifiers_are_free(version: Version) {
    let topic = unique("free/");
    let mut client = Client::connect(version);
    client.subscribe(&topic, 2);
    let mut publisher = Client::connect(version);
    let mut open = Vec::new();
    for number in 0..30 {
        publisher.publish(&Publish::new(&topic, "").qos(1 + number % 2, 9));
        let Message { id, .. } = client.message();
        assert!(!open.contains(&id), "{id} is in use: {open:?}");
        open.push(id);
        // Some are done, so that there are gaps; one of QoS 2 is so after its second step only.
        if number % 6 == 4 {
            client.send(&ack(kind::PUBACK, open.remove(0), 0));
            let id = open.remove(0);
            client.send(&ack(kind::PUBREC, id, 0));
            client.expect_ack(kind::PUBREL, id);
            open.push(id);
        }
    }
}

fn answers_come_in_order(version: Version) {
    for (qos, kind) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        let topic = unique("order/");
        let mut client = Client::connect(version);
        // With a subscriber that is kept, so that answers wait for the disk.
        let keeper = Connect::lasting(version, &unique("client"));
        Client::with(&keeper).subscribe(&topic, 1);
        let ids: Vec<u16> = (0..40).map(|number| 900 - number * 7).collect();
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|&id| Publish::new(&topic, "").qos(qos, id).bytes(version))
            .collect();
        client.send(&bytes);
        for id in ids {
            assert_eq!(client.expect_ack(kind, id), 0);
        }
    }
}

fn pubrel_comes_in_order(version: Version) {
    let topic = unique("order/");
    let mut client = Client::with(&Connect::lasting(version, &unique("client")));
    client.subscribe(&topic, 2);
    let mut publisher = Client::connect(version);
    for _ in 0..10 {
        publisher.publish(&Publish::new(&topic, "").qos(2, 1));
    }
    let ids: Vec<_> = (0..10).map(|_| client.message().id).collect();
    for order in [ids.clone(), ids.into_iter().rev().collect()] {
        let bytes: Vec<u8> = order.iter().flat_map(|&id| ack(kind::PUBREC, id, 0)).collect();
        client.send(&bytes);
        for id in order {
            assert_eq!(client.expect_ack(kind::PUBREL, id), 0);
        }
    }
}

fn topics_keep_their_order(version: Version) {
    let topic = unique("order/");
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(version)).collect();
    for (qos, client) in (0..).zip(&mut clients) {
        client.subscribe(&topic, qos);
    }
    for qos in 0..=2 {
        let mut publisher = Client::connect(version);
        for number in 1..=60 {
            publisher.publish(&Publish::new(&topic, &number.to_string()).qos(qos, number));
        }
        for client in &mut clients {
            for number in 1..=60 {
                assert_eq!(client.take().payload, number.to_string(), "QoS {qos}");
            }
        }
    }
}

fn qos_0(version: Version) {
    let topic = unique("zero/");
    let mut client = Client::connect(version);
    client.subscribe(&topic, 0);
    for qos in 0..=2 {
        Client::connect(version).publish(&Publish::new(&topic, "once").qos(qos, 1));
        let Message { qos, dup, id, payload, .. } = client.message();
        assert_eq!((qos, dup, id, payload.as_str()), (0, false, 0, "once"));
    }
    assert_eq!(client.drain(), [], "nothing comes twice");
}

/// A client with a lasting session that is subscribed to a topic of its own, and who publishes there.
fn lasting(version: Version) -> (Connect, Client, Client, String) {
    let (topic, connect) = (unique("lasting/"), Connect::lasting(version, &unique("client")));
    let mut client = Client::with(&connect);
    client.subscribe(&topic, 2);
    (connect, client, Client::connect(version), topic)
}

fn qos_1_is_sent_until_puback(version: Version) {
    let (connect, mut client, mut publisher, topic) = lasting(version);
    publisher.publish(&Publish::new(&topic, "one").qos(1, 1));
    let first = client.message();
    assert_eq!((first.qos, first.dup), (1, false));
    for _ in 0..2 {
        assert_eq!(client.drain(), [], "it is not sent again on the same connection");
        drop(client);
        client = Client::with(&connect);
        assert_eq!(client.message(), Message { dup: true, ..first.clone() });
    }
    client.send(&ack(kind::PUBACK, first.id, 0));
    client.ping();
    drop(client);
    assert_eq!(Client::with(&connect).drain(), []);
}

fn qos_1_is_answered(version: Version) {
    let topic = unique("one/");
    let mut client = Client::connect(version);
    client.subscribe(&topic, 0);
    let mut publisher = Client::connect(version);
    for dup in [false, true, true] {
        let publish = Publish { dup, ..Publish::new(&topic, "new").qos(1, 5) };
        assert_eq!(publisher.publish(&publish), 0);
    }
    assert_eq!(client.drain().len(), 3, "each was acknowledged, so each is new");
}

fn qos_2_is_sent_in_two_steps(version: Version) {
    let (connect, mut client, mut publisher, topic) = lasting(version);
    publisher.publish(&Publish::new(&topic, "two").qos(2, 1));
    let first = client.message();
    assert_eq!((first.qos, first.dup), (2, false));
    drop(client);
    let mut client = Client::with(&connect);
    assert_eq!(client.message(), Message { dup: true, ..first.clone() });
    client.send(&ack(kind::PUBREC, first.id, 0));
    assert_eq!(client.expect_ack(kind::PUBREL, first.id), 0);
    for _ in 0..2 {
        drop(client);
        client = Client::with(&connect);
        assert_eq!(client.expect_ack(kind::PUBREL, first.id), 0, "PUBREL alone comes again");
        assert_eq!(client.drain(), []);
    }
    client.send(&ack(kind::PUBCOMP, first.id, 0));
    client.ping();
    drop(client);
    assert_eq!(Client::with(&connect).drain(), []);
}

fn what_was_sent_does_not_expire() {
    let (connect, mut client, mut publisher, topic) = lasting(V5);
    let expiry = prop::u32(prop::MESSAGE_EXPIRY, 1);
    publisher.publish(&Publish::new(&topic, "brief").qos(2, 1).and(&expiry));
    let first = client.message();
    drop(client);
    assert_eq!(publisher.next_within(Duration::from_millis(1_500)), None);
    let mut client = Client::with(&connect);
    let again = client.message();
    assert_eq!((again.id, again.dup, again.payload.as_str()), (first.id, true, "brief"));
    client.send(&ack(kind::PUBREC, first.id, 0));
    client.expect_ack(kind::PUBREL, first.id);
}

fn qos_2_is_taken_once(version: Version) {
    let topic = unique("two/");
    let mut client = Client::connect(version);
    client.subscribe(&topic, 0);
    let connect = Connect::lasting(version, &unique("client"));
    let mut publisher = Client::with(&connect);
    let publish = Publish::new(&topic, "once").qos(2, 5);
    let again = publish.clone().dup();
    for bytes in [&publish, &again, &publish] {
        publisher.send(&bytes.bytes(version));
        assert_eq!(publisher.expect_ack(kind::PUBREC, 5), 0);
    }
    // Another connection of the same session is the same sender.
    drop(publisher);
    let mut publisher = Client::with(&connect);
    publisher.send(&again.bytes(version));
    assert_eq!(publisher.expect_ack(kind::PUBREC, 5), 0);
    assert_eq!(client.drain().len(), 1);
    for _ in 0..2 {
        publisher.send(&ack(kind::PUBREL, 5, 0));
        // A client that has found its session may not know that it has released the identifier: no error.
        assert_eq!(publisher.expect_ack(kind::PUBCOMP, 5), 0);
    }
    assert_eq!(client.drain(), [], "it was delivered at the first step");
    publisher.publish(&publish);
    assert_eq!(client.drain().len(), 1, "the identifier is free again");
}

fn after_a_refusal_the_identifier_is_new() {
    let topic = unique("refused/");
    let mut client = Client::connect(V5);
    client.subscribe(&topic, 0);
    let mut publisher = Client::connect(V5);
    assert_eq!(publisher.publish(&Publish::new("$SYS/refused", "").qos(2, 5)), 0x87);
    assert_eq!(publisher.publish(&Publish::new(&topic, "new").qos(2, 5)), 0);
    assert_eq!(client.take().payload, "new");
}

fn expired_exchanges_go_to_their_end() {
    let mut publisher = Client::connect(V5);
    let expiry = prop::u32(prop::MESSAGE_EXPIRY, 1);
    publisher.send(&Publish::new(&unique("brief/"), "").qos(2, 5).and(&expiry).bytes(V5));
    assert_eq!(publisher.expect_ack(kind::PUBREC, 5), 0x10);
    assert_eq!(publisher.next_within(Duration::from_millis(1_300)), None);
    publisher.send(&ack(kind::PUBREL, 5, 0));
    assert_eq!(publisher.expect_ack(kind::PUBCOMP, 5), 0);
}

fn what_is_open_is_sent_again_in_order(version: Version) {
    let (connect, mut client, mut publisher, topic) = lasting(version);
    for number in 0..12 {
        publisher.publish(
            &Publish::new(&topic, &number.to_string()).qos(1 + number % 2, 1 + u16::from(number)),
        );
    }
    let mut messages: Vec<_> = (0..12).map(|_| client.message()).collect();
    // One is done, one is half done: the first goes, the second waits for its end.
    client.send(&ack(kind::PUBACK, messages[4].id, 0));
    let half = messages[7].id;
    client.send(&ack(kind::PUBREC, half, 0));
    client.expect_ack(kind::PUBREL, half);
    assert_eq!(client.next_within(Duration::from_millis(300)), None, "nothing else comes again");
    drop(client);
    messages.retain(|message| message.payload != "4" && message.payload != "7");
    let mut client = Client::with(&connect);
    let (mut again, mut released) = (Vec::new(), 0);
    while again.len() < messages.len() || released == 0 {
        let packet = client.next();
        match packet.head >> 4 {
            kind::PUBREL => {
                assert_eq!(packet.body[..2], half.to_be_bytes());
                released += 1;
            }
            _ => again.push(Message::parse(&packet, version)),
        }
    }
    let expected: Vec<_> =
        messages.into_iter().map(|message| Message { dup: true, ..message }).collect();
    assert_eq!(again, expected);
}

fn a_refusal_ends_a_message() {
    let (connect, mut client, mut publisher, topic) = lasting(V5);
    publisher.publish(&Publish::new(&topic, "one").qos(1, 1));
    publisher.publish(&Publish::new(&topic, "two").qos(2, 2));
    let [one, two] = std::array::from_fn(|_| client.message());
    client.send(&ack(kind::PUBACK, one.id, 0x80));
    client.send(&ack(kind::PUBREC, two.id, 0x97));
    client.ping();
    assert_eq!(client.drain(), [], "there is no PUBREL either");
    drop(client);
    assert_eq!(Client::with(&connect).drain(), []);
}

fn the_reasons_of_answers() {
    let mut client = Client::connect(V5);
    let topic = unique("reasons/");
    let publication = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    for topic in [&topic, "$SYS/refused"] {
        for qos in [1, 2] {
            let reason = client.publish(&Publish::new(topic, "").qos(qos, 1));
            assert!(publication.contains(&reason), "{topic}, QoS {qos}: {reason:#x}");
        }
    }
    // Of exchanges that there are not.
    client.send(&ack(kind::PUBREL, 77, 0));
    assert_eq!(client.expect_ack(kind::PUBCOMP, 77), 0x92);
    client.send(&ack(kind::PUBREC, 78, 0));
    assert_eq!(client.expect_ack(kind::PUBREL, 78), 0x92);
    // And those that clients may not have.
    for (kind, reason) in [
        (kind::PUBACK, 0x92),
        (kind::PUBACK, 0x03),
        (kind::PUBREC, 0x92),
        (kind::PUBREL, 0x10),
        (kind::PUBCOMP, 0x80),
        (kind::PUBCOMP, 0xff),
    ] {
        let mut client = Client::connect(V5);
        client.send(&ack(kind, 1, reason));
        let end = client.wire.end();
        let told = [0x81, 0x82].map(crate::support::wire::End::Told);
        assert!(told.contains(&end), "{kind} with {reason:#x}: {end:?}");
    }
}

fn the_flags_of_pubrel(version: Version) {
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut client = Client::connect(version);
        client.send(&[0x60 | flags, 2, 0, 1]);
        client.ends(0x81);
    }
}
