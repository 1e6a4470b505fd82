//! Properties (MQTT 5.0, section 2.2.2): what may stand where, and how often.

use super::{V5, check_refused};
use crate::{
    ProtocolError, ProtocolVersion, ReasonCode,
    packet::PacketType,
    property::Property,
    testing::{decoded, field, framed},
};

/// One list of properties of the standard, and the packet around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    In(PacketType),
    Will,
}

const PLACES: [Place; 14] = [
    Place::In(PacketType::Connect),
    Place::Will,
    Place::In(PacketType::ConnAck),
    Place::In(PacketType::Publish),
    Place::In(PacketType::PubAck),
    Place::In(PacketType::PubRec),
    Place::In(PacketType::PubRel),
    Place::In(PacketType::PubComp),
    Place::In(PacketType::Subscribe),
    Place::In(PacketType::SubAck),
    Place::In(PacketType::Unsubscribe),
    Place::In(PacketType::UnsubAck),
    Place::In(PacketType::Disconnect),
    Place::In(PacketType::Auth),
];

/// Table 2-4, retold: where each property may stand.
fn may_stand_in(property: Property, place: Place) -> bool {
    use Property as P;
    const CONNECT: Place = Place::In(PacketType::Connect);
    const CONNACK: Place = Place::In(PacketType::ConnAck);
    const PUBLISH: Place = Place::In(PacketType::Publish);
    const SUBSCRIBE: Place = Place::In(PacketType::Subscribe);
    const DISCONNECT: Place = Place::In(PacketType::Disconnect);
    const AUTH: Place = Place::In(PacketType::Auth);
    let places: &[Place] = match property {
        P::PayloadFormatIndicator
        | P::MessageExpiryInterval
        | P::ContentType
        | P::ResponseTopic
        | P::CorrelationData => &[PUBLISH, Place::Will],
        P::SubscriptionIdentifier => &[PUBLISH, SUBSCRIBE],
        P::SessionExpiryInterval => &[CONNECT, CONNACK, DISCONNECT],
        P::AssignedClientIdentifier
        | P::ServerKeepAlive
        | P::ResponseInformation
        | P::MaximumQos
        | P::RetainAvailable
        | P::WildcardSubscriptionAvailable
        | P::SubscriptionIdentifierAvailable
        | P::SharedSubscriptionAvailable => &[CONNACK],
        P::AuthenticationMethod | P::AuthenticationData => &[CONNECT, CONNACK, AUTH],
        P::RequestProblemInformation | P::RequestResponseInformation => &[CONNECT],
        P::WillDelayInterval => &[Place::Will],
        P::ServerReference => &[CONNACK, DISCONNECT],
        P::ReceiveMaximum | P::TopicAliasMaximum | P::MaximumPacketSize => &[CONNECT, CONNACK],
        P::TopicAlias => &[PUBLISH],
        P::ReasonString => {
            return !matches!(
                place,
                CONNECT | Place::Will | PUBLISH | SUBSCRIBE | Place::In(PacketType::Unsubscribe)
            );
        }
        P::UserProperty => &PLACES,
    };
    places.contains(&place)
}

/// A property with a value that is always allowed.
fn example(property: Property) -> Vec<u8> {
    use Property as P;
    let value = match property {
        P::PayloadFormatIndicator
        | P::RequestProblemInformation
        | P::RequestResponseInformation
        | P::MaximumQos
        | P::RetainAvailable
        | P::WildcardSubscriptionAvailable
        | P::SubscriptionIdentifierAvailable
        | P::SharedSubscriptionAvailable
        | P::SubscriptionIdentifier => vec![1],
        P::ServerKeepAlive | P::ReceiveMaximum | P::TopicAliasMaximum | P::TopicAlias => vec![0, 1],
        P::MessageExpiryInterval
        | P::SessionExpiryInterval
        | P::WillDelayInterval
        | P::MaximumPacketSize => vec![0, 0, 0, 1],
        P::ContentType
        | P::ResponseTopic
        | P::CorrelationData
        | P::AssignedClientIdentifier
        | P::AuthenticationMethod
        | P::AuthenticationData
        | P::ResponseInformation
        | P::ServerReference
        | P::ReasonString => field("x"),
        P::UserProperty => [field("n"), field("v")].concat(),
    };
    [&[property.number()][..], &value].concat()
}

/// A packet with this list of properties and otherwise nothing special.
fn packet_with(place: Place, properties: &[u8]) -> Vec<u8> {
    let list = [&[u8::try_from(properties.len()).unwrap()][..], properties].concat();
    let (first, before, after): (u8, &[u8], &[u8]) = match place {
        Place::In(PacketType::Connect) => (0x10, b"\0\x04MQTT\x05\x02\0\0", b"\0\x01c"),
        Place::Will => (0x10, b"\0\x04MQTT\x05\x06\0\0\0\0\x01c", b"\0\x01w\0\0"),
        Place::In(PacketType::ConnAck) => (0x20, &[0, 0], &[]),
        Place::In(PacketType::Publish) => (0x30, b"\0\x01t", b"payload"),
        Place::In(PacketType::PubRel) => (0x62, &[0, 1, 0], &[]),
        Place::In(packet @ (PacketType::PubAck | PacketType::PubRec | PacketType::PubComp)) => {
            ((packet as u8) << 4, &[0, 1, 0], &[])
        }
        Place::In(PacketType::Subscribe) => (0x82, &[0, 1], b"\0\x01f\0"),
        Place::In(PacketType::SubAck) => (0x90, &[0, 1], &[0]),
        Place::In(PacketType::Unsubscribe) => (0xA2, &[0, 1], b"\0\x01f"),
        Place::In(PacketType::UnsubAck) => (0xB0, &[0, 1], &[0]),
        Place::In(PacketType::Disconnect) => (0xE0, &[0], &[]),
        Place::In(PacketType::Auth) => (0xF0, &[0x18], &[]),
        Place::In(PacketType::PingReq | PacketType::PingResp) => panic!("no properties"),
    };
    framed(first, &[before, &list, after].concat())
}

/// Section 2.2.2.2; M12: a property outside its packets is malformed, inside them it is read.
#[test]
fn fault_m12_each_property_has_its_packets() {
    for place in PLACES {
        for &property in Property::ALL {
            let properties = match property {
                // Data without a method is refused for another reason.
                Property::AuthenticationData => {
                    [example(Property::AuthenticationMethod), example(property)].concat()
                }
                _ => example(property),
            };
            let read = decoded(&packet_with(place, &properties), ProtocolVersion::V5);
            if may_stand_in(property, place) {
                assert!(read.is_ok(), "{property} in {place:?}: {read:?}");
            } else {
                let error = read.expect_err("a misplaced property");
                assert!(
                    matches!(error, ProtocolError::MisplacedProperty { .. }),
                    "{property} in {place:?}: {error}"
                );
                assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
            }
        }
    }
}

/// Section 2.2.2.2; M12: only user properties, and subscription identifiers in PUBLISH, may repeat.
#[test]
fn fault_m12_repeated_properties_are_protocol_errors() {
    for place in PLACES {
        for &property in Property::ALL.iter().filter(|&&it| may_stand_in(it, place)) {
            let twice = [example(property), example(property)].concat();
            let read = decoded(&packet_with(place, &twice), ProtocolVersion::V5);
            let may_repeat = property == Property::UserProperty
                || (property, place)
                    == (Property::SubscriptionIdentifier, Place::In(PacketType::Publish));
            if may_repeat {
                assert!(read.is_ok(), "{property} in {place:?}: {read:?}");
            } else {
                assert_eq!(
                    read,
                    Err(ProtocolError::RepeatedProperty { property }),
                    "{property} in {place:?}"
                );
            }
        }
    }
}

#[test]
fn numbers_that_are_no_property_are_malformed() {
    let known: Vec<u8> = Property::ALL.iter().map(|it| it.number()).collect();
    for number in (0..=127).filter(|number| !known.contains(number)) {
        let wire = packet_with(Place::In(PacketType::Publish), &[number, 0, 0, 0, 0]);
        check_refused(&number.to_string(), V5, &wire, ReasonCode::MalformedPacket);
    }
    // M03: a number with more bytes than needed.
    let wire = packet_with(Place::In(PacketType::Publish), &[0x81, 0x00, 1]);
    check_refused("over-long", V5, &wire, ReasonCode::MalformedPacket);
}

/// M03, M04: the length of the list is checked like every other.
#[test]
fn fault_m03_m04_property_lengths_that_lie_are_malformed() {
    #[rustfmt::skip]
    let cases: [(&str, &[u8]); 5] = [
        ("beyond the packet",       b"\0\x01t\x05\x01\x01"),
        ("within a property",       b"\0\x01t\x01\x01\x01"),
        ("five bytes",              b"\0\x01t\x80\x80\x80\x80\x01"),
        ("not terminated",          b"\0\x01t\x80"),
        ("more bytes than needed",  b"\0\x01t\x82\x00\x01\x01"),
    ];
    for (rule, body) in cases {
        check_refused(rule, V5, &framed(0x30, body), ReasonCode::MalformedPacket);
    }
}
