//! Section 4.8.2: shared subscriptions.

use super::client::Client;
use super::packets::{Connect, Publish, V5, ack, kind, subscribe};
use super::server::unique;

statements! {
    mqtt5_4_8_2_1_a_name_of_one_character_at_least => wrong_shares();
    mqtt5_4_8_2_2_the_name_and_the_filter => wrong_shares();
    mqtt5_3_8_3_4_no_local_is_not_for_shared_subscriptions => no_local_is_not_for_shared_subscriptions();
    mqtt5_4_8_2_3_each_member_at_its_own_qos => each_member_at_its_own_qos();
    mqtt5_4_8_2_4_what_was_cut_off_goes_on => what_was_cut_off_goes_on();
    mqtt5_4_8_2_5_what_ended_with_its_session_is_not_sent_to_others => what_ended_with_its_session();
    mqtt5_4_8_2_6_what_was_refused_is_not_sent_to_others => what_was_refused();
}

fn wrong_shares() {
    let wrong = [
        "$share/",
        "$share//a",
        "$share/g",
        "$share/g/",
        "$share/g+/a",
        "$share/#/a",
        "$share/+/a",
    ];
    for filter in wrong {
        let mut client = Client::connect(V5);
        client.send(&subscribe(V5, 1, &[], &[(filter.as_bytes(), 0)]));
        client.ends(0x8f);
    }
    let mut client = Client::connect(V5);
    for filter in ["$share/g/a", "$share/g/#", "$share/g//", "$share/g g/+/b"] {
        assert_eq!(client.subscribe(filter, 0), 0, "{filter}");
    }
}

fn no_local_is_not_for_shared_subscriptions() {
    let mut client = Client::connect(V5);
    client.send(&subscribe(V5, 1, &[], &[(b"$share/g/a", 4)]));
    client.ends(0x82);
}

/// Returns a topic, and the filter by which a group shares it.
fn shared() -> (String, String) {
    let topic = unique("shared/");
    let filter = format!("$share/{}/{topic}", unique("group"));
    (topic, filter)
}

fn each_member_at_its_own_qos() {
    let (topic, filter) = shared();
    let mut members: Vec<_> = (0..=2).map(|_| Client::connect(V5)).collect();
    for (qos, member) in (0..).zip(&mut members) {
        assert_eq!(member.subscribe(&filter, qos), qos);
    }
    let mut publisher = Client::connect(V5);
    for number in 1..=30 {
        publisher.publish(&Publish::new(&topic, &number.to_string()).qos(2, number));
    }
    let mut found = Vec::new();
    for (qos, member) in (0..).zip(&mut members) {
        for message in member.drain() {
            assert_eq!(message.qos, qos);
            found.push(message.payload.parse::<u16>().expect("payloads are numbers"));
        }
    }
    found.sort_unstable();
    assert_eq!(found, (1..=30).collect::<Vec<_>>(), "each once, to one of them");
}

/// A group of a lasting member, which has got a message of QoS 2, and another that comes to it later.
fn half_taken() -> (Connect, Client, Client, u16) {
    let (topic, filter) = shared();
    let connect = Connect::lasting(V5, &unique("member"));
    let mut member = Client::with(&connect);
    member.subscribe(&filter, 2);
    Client::connect(V5).publish(&Publish::new(&topic, "one").qos(2, 1));
    let message = member.message();
    assert_eq!((message.qos, message.payload.as_str()), (2, "one"));
    let mut other = Client::connect(V5);
    other.subscribe(&filter, 2);
    (connect, member, other, message.id)
}

fn what_was_cut_off_goes_on() {
    for is_received in [false, true] {
        let (connect, mut member, mut other, id) = half_taken();
        if is_received {
            member.send(&ack(kind::PUBREC, id, 0));
            member.expect_ack(kind::PUBREL, id);
        }
        drop(member);
        let mut member = Client::with(&connect);
        assert!(member.connack.present);
        if !is_received {
            let message = member.message();
            assert_eq!((message.id, message.dup, message.payload.as_str()), (id, true, "one"));
            member.send(&ack(kind::PUBREC, id, 0));
        }
        member.expect_ack(kind::PUBREL, id);
        member.send(&ack(kind::PUBCOMP, id, 0));
        assert_eq!(member.drain(), []);
        assert_eq!(other.drain(), [], "it was another's");
    }
}

fn what_ended_with_its_session() {
    let (connect, member, mut other, _) = half_taken();
    drop(member);
    let again = Client::with(&Connect { clean: true, ..connect });
    assert!(!again.connack.present, "its session has ended");
    assert_eq!(other.drain(), []);
}

fn what_was_refused() {
    for (qos, answer) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        let (topic, filter) = shared();
        let mut members = [V5, V5].map(Client::connect);
        for member in &mut members {
            member.subscribe(&filter, 2);
        }
        Client::connect(V5).publish(&Publish::new(&topic, "one").qos(qos, 1));
        let mut taken = 0;
        for member in &mut members {
            for message in member.drain() {
                member.send(&ack(answer, message.id, 0x83));
                taken += 1;
            }
        }
        assert_eq!(taken, 1);
        for member in &mut members {
            assert_eq!(member.drain(), []);
        }
    }
}
