//! Topic aliases towards the client (MQTT 5.0, section 3.3.2.3.4).

use std::num::NonZeroU32;

use proptest::{collection::vec, prelude::*};

use super::{Rig, V5, V311};
use crate::{
    NO_PROPERTIES, Outgoing, PublishFrame, Sent, Settings,
    packet::{Connect, Delivery, Packet, PublishPacket},
    testing::topic,
};

fn connected(maximum: u16, used: u16, packet_bytes: Option<u32>) -> Rig {
    let settings = Settings { topic_aliases_used: used, ..Settings::default() };
    let connect = Connect {
        topic_alias_maximum: maximum,
        maximum_packet_size: packet_bytes.and_then(NonZeroU32::new),
        ..Connect::new(V5)
    };
    Rig::connected_with(settings, connect)
}

fn send(rig: &mut Rig, text: &str, payload: &str) -> Sent {
    let (topic, payload) = (topic(text), payload.to_owned().into());
    let frame = PublishFrame::new(&topic, &payload, &NO_PROPERTIES);
    rig.connection.publish(&frame, &Outgoing::new(Delivery::AtMostOnce), &mut rig.output)
}

/// Takes the topic, if it was named, and the alias of each PUBLISH.
fn heard(rig: &mut Rig) -> Vec<(Option<String>, Option<u16>)> {
    let named = |publish: PublishPacket| {
        let topic = publish.topic.map(|topic| topic.to_string());
        (topic, publish.topic_alias.map(std::num::NonZeroU16::get))
    };
    rig.heard()
        .into_iter()
        .map(|packet| match packet {
            Packet::Publish(publish) => named(publish),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// broker.6: the first message on a topic sets its alias, the next ones have it in place of the topic; never more aliases
/// than the client takes, nor than the settings allow.
#[test]
fn broker_6_topics_get_aliases() {
    for (maximum, used) in [(2, 32), (32, 2)] {
        let mut rig = connected(maximum, used, None);
        for text in ["plant/a", "plant/b", "plant/a", "plant/c", "plant/b", "t"] {
            assert_eq!(send(&mut rig, text, "x"), Sent::Written);
        }
        let whole = |text: &str| Some(text.to_owned());
        let expected = [
            (whole("plant/a"), Some(1)),
            (whole("plant/b"), Some(2)),
            (None, Some(1)),
            (whole("plant/c"), None),
            (None, Some(2)),
            (whole("t"), None),
        ];
        assert_eq!(heard(&mut rig), expected, "{maximum} {used}");
    }
}

/// MQTT-3.1.2-26, MQTT-3.1.2-27: no alias without a maximum.
#[test]
fn broker_6_no_alias_where_none_is_taken() {
    let connections = [connected(0, 32, None), connected(32, 0, None), Rig::connected(V311)];
    for mut rig in connections {
        for _ in 0..2 {
            assert_eq!(send(&mut rig, "plant/a", "x"), Sent::Written);
            assert_eq!(heard(&mut rig), [(Some("plant/a".to_owned()), None)]);
        }
    }
}

/// broker.6: a topic that has become frequent takes the alias of one that has not come again.
#[test]
fn broker_6_frequent_topics_have_the_aliases() {
    let mut rig = connected(2, 32, None);
    for text in ["once/a", "once/b"] {
        assert_eq!(send(&mut rig, text, "x"), Sent::Written);
    }
    for _ in 0..20 {
        assert_eq!(send(&mut rig, "often/c", "x"), Sent::Written);
    }
    let named = heard(&mut rig);
    assert_eq!(named[10..], vec![(None, Some(1)); 12]);
}

/// MQTT-3.1.2-25: an alias is not set by a message that was too large to be sent, nor does it make one too large.
#[test]
fn broker_6_a_message_that_is_not_sent_sets_no_alias() {
    // Head, topic with its length, length of the properties, payload.
    let fits = 2 + 2 + 7 + 1 + 10;
    let mut rig = connected(4, 4, Some(fits));
    assert_eq!(send(&mut rig, "plant/a", "0123456789+"), Sent::TooLarge);
    assert_eq!(send(&mut rig, "plant/a", "0123456789"), Sent::Written);
    assert_eq!(heard(&mut rig), [(Some("plant/a".to_owned()), None)]);
    assert_eq!(send(&mut rig, "plant/a", "0123"), Sent::Written);
    assert_eq!(heard(&mut rig), [(Some("plant/a".to_owned()), Some(1))]);
    assert_eq!(send(&mut rig, "plant/a", "0123456789"), Sent::Written);
    assert_eq!(heard(&mut rig), [(None, Some(1))]);
}

/// broker.6: a topic of four bytes gains a byte by its alias, a shorter one nothing.
#[test]
fn broker_6_short_topics_have_no_alias() {
    let mut rig = connected(8, 8, None);
    for (text, expected) in [("a/b", None), ("a/bc", Some(1))] {
        assert_eq!(send(&mut rig, text, "x"), Sent::Written);
        assert_eq!(heard(&mut rig), [(Some(text.to_owned()), expected)]);
    }
}

/// broker.6: those that come often keep their alias; each message without one costs the next in turn some credit, and the
/// one that has none left gives its alias up.
#[test]
fn broker_6_aliases_are_taken_from_those_in_turn() {
    let mut rig = connected(3, 8, None);
    for text in ["plant/a", "plant/b", "plant/c", "plant/a", "plant/c"] {
        assert_eq!(send(&mut rig, text, "x"), Sent::Written);
    }
    rig.heard_bytes();
    // The credits are 2, 1, 2; three messages leave 1, 0, 1.
    for text in ["other/1", "other/2", "other/3"] {
        assert_eq!(send(&mut rig, text, "x"), Sent::Written);
    }
    // The turn is the first one's again: it loses what is left, and the second has nothing left.
    assert_eq!(send(&mut rig, "other/4", "x"), Sent::Written);
    assert_eq!(send(&mut rig, "other/5", "x"), Sent::Written);
    assert_eq!(send(&mut rig, "other/5", "x"), Sent::Written);
    assert_eq!(send(&mut rig, "plant/b", "x"), Sent::Written);
    let named = heard(&mut rig);
    let aliases: Vec<_> = named.iter().map(|(_, alias)| *alias).collect();
    assert_eq!(aliases, [None, None, None, None, Some(2), Some(2), None]);
    assert_eq!(named[4].0.as_deref(), Some("other/5"));
}

proptest! {
    /// broker.6: whoever follows the aliases finds every message on its topic.
    #[test]
    fn broker_6_aliases_always_mean_the_topic(
        maximum in 0..5_u16,
        packet_bytes in 24..42_u32,
        messages in vec((0..8_u8, 0..34_usize), 0..200),
    ) {
        let mut rig = connected(maximum, 32, Some(packet_bytes));
        let mut meanings = std::collections::BTreeMap::new();
        for (number, payload_bytes) in messages {
            let text = format!("plant/{number}");
            if send(&mut rig, &text, &"x".repeat(payload_bytes)) == Sent::TooLarge {
                prop_assert!(rig.output.is_empty());
                continue;
            }
            prop_assert!(rig.output.len() <= packet_bytes as usize);
            let (named, alias) = heard(&mut rig).remove(0);
            prop_assert!(alias.unwrap_or(0) <= maximum);
            if let Some((named, alias)) = named.clone().zip(alias) {
                meanings.insert(alias, named);
            }
            let meant = named.or_else(|| meanings.get(&alias?).cloned());
            prop_assert_eq!(meant, Some(text));
        }
    }
}
