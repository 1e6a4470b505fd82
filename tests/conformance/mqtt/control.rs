//! Sections 3.12 to 3.14: PINGREQ and DISCONNECT; and what every answer leaves out.

use super::client::{Client, Properties};
use super::packets::{
    Connect, PINGREQ, Publish, V3, V5, Version, ack, disconnect, kind, prop, subscribe, unsubscribe,
};
use super::server::unique;
use crate::support::wire::{End, packet};

statements! {
    mqtt3_3_12_4_1_pingreq_is_answered => pingreq_is_answered(V3);
    mqtt5_3_12_4_1_pingreq_is_answered => pingreq_is_answered(V5);
    mqtt3_3_14_1_1_reserved_flags_of_disconnect => reserved_flags_of_disconnect(V3);
    mqtt5_3_14_1_1_reserved_flags_of_disconnect => reserved_flags_of_disconnect(V5);
    mqtt5_3_14_0_1_no_disconnect_before_connack => no_disconnect_before_connack();
    mqtt5_3_14_2_1_the_reasons_of_disconnect => the_reasons_of_disconnect();
    mqtt5_3_14_2_2_the_server_names_no_session_expiry => answers_are_bare();
    mqtt5_3_14_2_3_disconnect_fits_without_reason_string => answers_are_bare();
    mqtt5_3_14_2_4_disconnect_fits_without_user_properties => answers_are_bare();
    mqtt5_3_1_2_29_answers_without_problem_information => answers_are_bare();
    mqtt5_3_4_2_2_puback_fits_without_reason_string => answers_are_bare();
    mqtt5_3_4_2_3_puback_fits_without_user_properties => answers_are_bare();
    mqtt5_3_5_2_2_pubrec_fits_without_reason_string => answers_are_bare();
    mqtt5_3_5_2_3_pubrec_fits_without_user_properties => answers_are_bare();
    mqtt5_3_6_2_2_pubrel_fits_without_reason_string => answers_are_bare();
    mqtt5_3_6_2_3_pubrel_fits_without_user_properties => answers_are_bare();
    mqtt5_3_7_2_2_pubcomp_fits_without_reason_string => answers_are_bare();
    mqtt5_3_7_2_3_pubcomp_fits_without_user_properties => answers_are_bare();
    mqtt5_3_9_2_1_suback_fits_without_reason_string => answers_are_bare();
    mqtt5_3_9_2_2_suback_fits_without_user_properties => answers_are_bare();
    mqtt5_3_11_2_1_unsuback_fits_without_reason_string => answers_are_bare();
    mqtt5_3_11_2_2_unsuback_fits_without_user_properties => answers_are_bare();
    mqtt5_3_14_4_1_nothing_follows_disconnect => nothing_follows_disconnect(V5);
    mqtt5_3_14_4_2_who_disconnects_closes => nothing_follows_disconnect(V5);
    mqtt3_3_14_4_2_what_follows_disconnect_is_not_heard => nothing_follows_disconnect(V3);
}

fn pingreq_is_answered(version: Version) {
    let mut client = Client::connect(version);
    client.send(&PINGREQ.repeat(100));
    for _ in 0..100 {
        assert_eq!(client.next().head, 0xd0);
    }
    for wrong in [&[0xc0, 1, 0][..], &[0xc1, 0], &[0xc8, 0]] {
        let mut client = Client::connect(version);
        client.send(wrong);
        client.ends(0x81);
    }
}

fn reserved_flags_of_disconnect(version: Version) {
    for flags in 1..16 {
        let mut client = Client::connect(version);
        client.send(&[0xe0 | flags, 0]);
        client.ends(0x81);
    }
}

fn no_disconnect_before_connack() {
    let wrong = Connect::new(V5, "c").and(&prop::u16(prop::RECEIVE_MAXIMUM, 0)).bytes();
    let method = prop::text(prop::AUTH_METHOD, "SCRAM-SHA-256");
    let data = prop::bytes(prop::AUTH_DATA, b"n,,n=ann,r=nonce");
    let scram = Connect::new(V5, &unique("client")).and(&[method, data].concat()).bytes();
    for bytes in [wrong, vec![0xc0, 0], vec![0x00, 0], [scram, PINGREQ.to_vec()].concat()] {
        let mut client = Client::open(V5);
        client.send(&bytes);
        loop {
            match client.wire.read(crate::support::wait::DEADLINE) {
                Ok(Some(packet)) => assert!([0x20, 0xf0].contains(&packet.head), "{packet:?}"),
                end => break assert_eq!(end, Err(End::Cut)),
            }
        }
    }
}

fn the_reasons_of_disconnect() {
    // Those of the server stand beside each breach; these are what a client may say.
    let own = [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
    for reason in own {
        Client::connect(V5).leave_with(&disconnect(V5, reason, &[]));
    }
    Client::connect(V5).leave_with(&packet(0xe0, &[]));
    Client::connect(V5).leave_with(&packet(0xe0, &[0]));
    for reason in [0x01, 0x02, 0x10, 0x18, 0x84, 0x91, 0xa3, 0xff] {
        let mut client = Client::connect(V5);
        client.send(&disconnect(V5, reason, &[]));
        let end = client.wire.end();
        assert!([0x81, 0x82].map(End::Told).contains(&end), "{reason:#x}: {end:?}");
    }
}

fn answers_are_bare() {
    // With the smallest packets that can be, and without problem information: nothing is added in any case.
    let small = prop::u32(prop::MAXIMUM_PACKET, 40);
    for more in [Vec::new(), prop::u8(prop::REQUEST_PROBLEM, 0), small] {
        let topic = unique("bare/");
        let mut client = Client::with(&Connect::new(V5, &unique("client")).and(&more));
        let refused = "$SYS/no";
        let requests = [
            (Publish::new(refused, "").qos(1, 1).bytes(V5), kind::PUBACK),
            (Publish::new(refused, "").qos(2, 2).bytes(V5), kind::PUBREC),
            (ack(kind::PUBREL, 3, 0), kind::PUBCOMP),
            (ack(kind::PUBREC, 4, 0), kind::PUBREL),
            (subscribe(V5, 5, &[], &[(topic.as_bytes(), 1)]), kind::SUBACK),
            (unsubscribe(V5, 6, &["never"]), kind::UNSUBACK),
        ];
        for (bytes, kind) in requests {
            client.send(&bytes);
            let packet = client.expect(kind);
            let properties = match kind {
                kind::SUBACK | kind::UNSUBACK => Properties::parse(&mut &packet.body[2..]),
                _ if packet.body.len() > 3 => Properties::parse(&mut &packet.body[3..]),
                _ => Properties::default(),
            };
            assert_eq!(properties, Properties::default(), "{packet:?}");
        }
        client.send(&[0x00, 0]);
        let farewell = client.expect(kind::DISCONNECT);
        assert!(farewell.body.len() <= 2, "{farewell:?}");
        assert!(farewell.body.get(1).is_none_or(|length| *length == 0), "{farewell:?}");
    }
}

fn nothing_follows_disconnect(version: Version) {
    let topic = unique("behind/");
    let mut witness = Client::connect(version);
    witness.subscribe(&topic, 0);
    let mut client = Client::connect(version);
    let publish = Publish::new(&topic, "not heard").bytes(version);
    client.send(&[disconnect(version, 0, &[]), publish, PINGREQ.to_vec()].concat());
    client.ends_silently();
    assert_eq!(witness.drain(), []);
    if version == V5 {
        // The server's own DISCONNECT is the last that it sends.
        let mut client = Client::connect(V5);
        client.send(&[&[0x00, 0][..], &PINGREQ, &PINGREQ].concat());
        assert_eq!(client.next().head, 0xe0);
        client.ends_silently();
    }
}
