//! Every packet that can be, for property tests.

use std::{
    num::{NonZeroU16, NonZeroU32},
    sync::Arc,
};

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, sample::select};
use tidegate_model::{ClientId, Properties, Qos, Topic, TopicFilter};

use crate::{
    PacketId, Password, ProtocolVersion, ReasonCode, SessionExpiry, SubscriptionId, Text,
    packet::{
        Ack, Auth, ConnAck, Connect, Delivery, Disconnect, Explanation, Packet, PacketType,
        PublishPacket, RetainHandling, ShareName, SubAck, Subscribe, Subscription, SubscriptionKey,
        UnsubAck, Unsubscribe, Will, reasons::belongs_to,
    },
};

pub(crate) fn any_version() -> impl Strategy<Value = ProtocolVersion> {
    select(&[ProtocolVersion::V311, ProtocolVersion::V5][..])
}

/// A packet that the version can carry without loss.
pub(crate) fn any_packet(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    use PacketType as T;
    let acks = [T::PubAck, T::PubRec, T::PubRel, T::PubComp].map(|packet_type| {
        any_ack(version, packet_type)
            .prop_map(move |ack| match packet_type {
                T::PubAck => Packet::PubAck(ack),
                T::PubRec => Packet::PubRec(ack),
                T::PubRel => Packet::PubRel(ack),
                _ => Packet::PubComp(ack),
            })
            .boxed()
    });
    let mut kinds = Vec::from(acks);
    kinds.extend([
        any_connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))).boxed(),
        any_connack(version).prop_map(|connack| Packet::ConnAck(Box::new(connack))).boxed(),
        any_publish(version).prop_map(Packet::Publish).boxed(),
        any_subscribe(version).prop_map(Packet::Subscribe).boxed(),
        any_suback(version).prop_map(Packet::SubAck).boxed(),
        any_unsubscribe(version).prop_map(Packet::Unsubscribe).boxed(),
        any_unsuback(version).prop_map(Packet::UnsubAck).boxed(),
        Just(Packet::PingReq).boxed(),
        Just(Packet::PingResp).boxed(),
        any_disconnect(version).prop_map(Packet::Disconnect).boxed(),
    ]);
    if is_v5(version) {
        kinds.push(any_auth().prop_map(|auth| Packet::Auth(Box::new(auth))).boxed());
    }
    proptest::strategy::Union::new(kinds).boxed()
}

fn is_v5(version: ProtocolVersion) -> bool {
    version == ProtocolVersion::V5
}

/// `strategy` in MQTT 5.0, the default in MQTT 3.1.1, which has no room for it.
fn v5_only<T>(
    version: ProtocolVersion,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T>
where
    T: std::fmt::Debug + Clone + Default + 'static,
{
    if is_v5(version) { strategy.boxed() } else { Just(T::default()).boxed() }
}

fn any_string(range: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let not_null = |character| if character == '\0' { '\u{1}' } else { character };
    vec(any::<char>().prop_map(not_null), range)
        .prop_map(|characters| characters.into_iter().collect())
}

fn any_text() -> impl Strategy<Value = Text> {
    any_string(0..12).prop_map(|text| Text::new(&text).unwrap())
}

fn any_user() -> impl Strategy<Value = Vec<(Text, Text)>> {
    vec((any_text(), any_text()), 0..3)
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..64).prop_map(Bytes::from)
}

fn any_password() -> impl Strategy<Value = Password> {
    any_bytes().prop_map(|bytes| Password::new(bytes).unwrap())
}

fn any_topic() -> impl Strategy<Value = Topic> {
    any_string(1..20).prop_filter_map("not a topic", |text| Topic::new(&text).ok())
}

fn any_key() -> impl Strategy<Value = SubscriptionKey> {
    let level = prop_oneof![3 => "[a-z$]{0,3}", 1 => Just("+".to_owned())];
    let filter =
        (vec(level, 1..4), any::<bool>()).prop_filter_map("not a filter", |(levels, all)| {
            let text = levels.join("/") + if all { "/#" } else { "" };
            TopicFilter::new(&text).ok()
        });
    let share = option::weighted(0.3, "[a-zé]{1,5}".prop_map(|it| ShareName::new(&it).unwrap()));
    (share, filter).prop_map(|(share, filter)| SubscriptionKey { share, filter })
}

fn any_qos() -> impl Strategy<Value = Qos> {
    select(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][..])
}

fn any_packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|number| PacketId::new(number).unwrap())
}

fn any_subscription_id() -> impl Strategy<Value = SubscriptionId> {
    prop_oneof![1..=300_u32, 1..=268_435_455_u32]
        .prop_map(|number| SubscriptionId::new(number).unwrap())
}

fn any_non_zero_u16() -> impl Strategy<Value = NonZeroU16> {
    (1..=u16::MAX).prop_map(|number| NonZeroU16::new(number).unwrap())
}

fn any_non_zero_u32() -> impl Strategy<Value = NonZeroU32> {
    (1..=u32::MAX).prop_map(|number| NonZeroU32::new(number).unwrap())
}

fn any_session_expiry() -> impl Strategy<Value = SessionExpiry> {
    any::<u32>().prop_map(SessionExpiry::from_secs)
}

fn any_reason(packet: PacketType) -> impl Strategy<Value = ReasonCode> {
    let reasons = ReasonCode::ALL.iter().copied().filter(|&it| belongs_to(it, packet));
    select(reasons.collect::<Vec<_>>())
}

fn any_explanation() -> impl Strategy<Value = Option<Box<Explanation>>> {
    (option::of(any_text()), any_user()).prop_map(|(reason_string, user)| {
        let is_empty = reason_string.is_none() && user.is_empty();
        (!is_empty).then(|| Box::new(Explanation { reason_string, user }))
    })
}

fn any_properties() -> impl Strategy<Value = Option<Box<Properties>>> {
    (
        any::<bool>(),
        option::of(any_text()),
        option::of(any_topic()),
        option::of(any_bytes()),
        vec((any_text(), any_text()), 0..3),
    )
        .prop_map(|(payload_is_utf8, content_type, response_topic, correlation_data, user)| {
            let arc = |text: Text| -> Arc<str> { text.into_arc() };
            let properties = Properties {
                payload_is_utf8,
                expires: None,
                content_type: content_type.map(arc),
                response_topic,
                correlation_data,
                user: user.into_iter().map(|(name, value)| (arc(name), arc(value))).collect(),
            };
            (properties != Properties::default()).then(|| Box::new(properties))
        })
}

fn any_will(version: ProtocolVersion) -> impl Strategy<Value = Will> {
    let v5 = v5_only(version, (any::<u32>(), option::of(any::<u32>()), any_properties()));
    (any_topic(), any_bytes(), any_qos(), any::<bool>(), v5).prop_map(
        |(topic, payload, qos, retain, (delay_s, message_expiry_s, properties))| Will {
            topic,
            payload,
            qos,
            retain,
            delay_s,
            message_expiry_s,
            properties,
        },
    )
}

fn any_connect(version: ProtocolVersion) -> impl Strategy<Value = Connect> {
    let client_id = option::of(any_string(1..24).prop_map(|text| ClientId::new(&text).unwrap()));
    let who = (client_id, option::of(any_text()), option::of(any_password()));
    let session = (any::<bool>(), any::<u16>(), option::of(any_will(version).prop_map(Box::new)));
    let limits = v5_only(
        version,
        (
            any::<u32>(),
            option::of(any_non_zero_u16()),
            option::of(any_non_zero_u32()),
            any::<u16>(),
            option::of((any_text(), option::of(any_password()))),
        ),
    );
    let requests = v5_only(version, (any::<bool>(), any::<bool>(), any_user()));
    (who, session, limits, requests).prop_map(move |(who, session, limits, requests)| {
        let (client_id, user_name, password) = who;
        let (clean_start, keep_alive_s, will) = session;
        let (expiry_s, receive_maximum, maximum_packet_size, topic_alias_maximum, auth) = limits;
        let (request_response_information, no_problem_information, user) = requests;
        let (authentication_method, authentication_data) =
            auth.map_or((None, None), |(method, data)| (Some(method), data));
        let (clean_start, session_expiry) = match version {
            ProtocolVersion::V5 => (clean_start, SessionExpiry::from_secs(expiry_s)),
            // Without an identifier the session cannot be kept (MQTT-3.1.3-8 of 3.1.1).
            ProtocolVersion::V311 if clean_start || client_id.is_none() => {
                (true, SessionExpiry::AT_CLOSE)
            }
            ProtocolVersion::V311 => (false, SessionExpiry::NEVER),
        };
        // A password needs a user name in MQTT 3.1.1 (MQTT-3.1.2-22).
        let password = password.filter(|_| is_v5(version) || user_name.is_some());
        Connect {
            version,
            clean_start,
            keep_alive_s,
            client_id,
            will,
            user_name,
            password,
            session_expiry,
            receive_maximum: receive_maximum.unwrap_or(NonZeroU16::MAX),
            maximum_packet_size,
            topic_alias_maximum,
            request_response_information,
            request_problem_information: !no_problem_information,
            authentication_method,
            authentication_data,
            user,
        }
    })
}

fn any_connack(version: ProtocolVersion) -> BoxedStrategy<ConnAck> {
    if !is_v5(version) {
        let reason = (0..=5_u8).prop_map(|code| {
            ReasonCode::from_connect_return_code(code).expect("3.1.1 has the codes 0 to 5")
        });
        return (any::<bool>(), reason)
            .prop_map(|(session_present, reason)| ConnAck {
                session_present,
                reason,
                ..ConnAck::default()
            })
            .boxed();
    }
    let numbers = (
        option::of(any_session_expiry()),
        option::of(any_non_zero_u16()),
        option::of(any_qos().prop_filter("the default", |&qos| qos != Qos::ExactlyOnce)),
        option::of(any_non_zero_u32()),
        option::of(any::<u16>()),
        option::of(any::<u16>()),
    );
    let availability = vec(option::of(any::<bool>()), 4);
    let texts = vec(option::of(any_text()), 4);
    let client_id = option::of(any_string(1..24).prop_map(|text| ClientId::new(&text).unwrap()));
    let others = (any::<bool>(), any_reason(PacketType::ConnAck), any_user());
    (numbers, availability, texts, client_id, option::of(any_password()), others)
        .prop_map(|(numbers, available, mut texts, assigned_client_id, data, others)| {
            let (session_expiry, receive_maximum, maximum_qos, size, aliases, keep_alive) = numbers;
            let (session_present, reason, user) = others;
            ConnAck {
                session_present,
                reason,
                session_expiry,
                receive_maximum,
                maximum_qos,
                retain_available: available[0],
                maximum_packet_size: size,
                assigned_client_id,
                topic_alias_maximum: aliases,
                reason_string: texts[0].take(),
                user,
                wildcard_subscription_available: available[1],
                subscription_ids_available: available[2],
                shared_subscription_available: available[3],
                server_keep_alive_s: keep_alive,
                response_information: texts[1].take(),
                server_reference: texts[2].take(),
                authentication_method: texts[3].take(),
                authentication_data: data,
            }
        })
        .boxed()
}

fn any_delivery() -> impl Strategy<Value = Delivery> {
    (any_qos(), any_packet_id(), any::<bool>()).prop_map(|(qos, packet_id, dup)| match qos {
        Qos::AtMostOnce => Delivery::AtMostOnce,
        Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id, dup },
        Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id, dup },
    })
}

pub(crate) fn any_publish(version: ProtocolVersion) -> impl Strategy<Value = PublishPacket> {
    let v5 = v5_only(
        version,
        (
            any::<bool>(),
            option::of(any::<u16>()),
            option::of(any::<u32>()),
            vec(any_subscription_id(), 0..3),
            any_properties(),
        ),
    );
    let payload = prop_oneof![any_bytes(), (0..5_000_usize).prop_map(|n| vec![7; n].into())];
    (any_topic(), payload, any_delivery(), any::<bool>(), v5).prop_map(
        |(topic, payload, delivery, retain, v5)| {
            let (is_alias_only, alias, message_expiry_s, subscription_ids, properties) = v5;
            let topic_alias = alias.and_then(NonZeroU16::new);
            let topic = (!is_alias_only || topic_alias.is_none()).then_some(topic);
            PublishPacket {
                topic,
                topic_alias,
                payload,
                delivery,
                retain,
                message_expiry_s,
                subscription_ids,
                properties,
            }
        },
    )
}

fn any_ack(version: ProtocolVersion, packet: PacketType) -> impl Strategy<Value = Ack> {
    let v5 = v5_only(version, (any_reason(packet), any_explanation()));
    (any_packet_id(), v5).prop_map(|(packet_id, (reason, explanation))| Ack {
        packet_id,
        reason,
        explanation,
    })
}

fn any_subscription(version: ProtocolVersion) -> impl Strategy<Value = Subscription> {
    let v5 = v5_only(version, (any::<bool>(), any::<bool>(), 0..3_u8));
    (any_key(), any_qos(), v5).prop_map(|(key, qos, v5)| Subscription {
        // A shared subscription may not ask for no local (MQTT-3.8.3-4).
        no_local: v5.0 && key.share.is_none(),
        key,
        qos,
        retain_as_published: v5.1,
        retain_handling: match v5.2 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        },
    })
}

fn any_subscribe(version: ProtocolVersion) -> impl Strategy<Value = Subscribe> {
    let v5 = v5_only(version, (option::of(any_subscription_id()), any_user()));
    (any_packet_id(), vec(any_subscription(version), 1..5), v5).prop_map(
        |(packet_id, subscriptions, (subscription_id, user))| Subscribe {
            packet_id,
            subscription_id,
            subscriptions,
            user,
        },
    )
}

fn any_suback(version: ProtocolVersion) -> impl Strategy<Value = SubAck> {
    let reason = any_reason(PacketType::SubAck).prop_map(move |reason| match version {
        ProtocolVersion::V311 if reason.is_failure() => ReasonCode::UnspecifiedError,
        _ => reason,
    });
    (any_packet_id(), vec(reason, 1..5), v5_only(version, any_explanation()))
        .prop_map(|(packet_id, reasons, explanation)| SubAck { packet_id, reasons, explanation })
}

fn any_unsubscribe(version: ProtocolVersion) -> impl Strategy<Value = Unsubscribe> {
    (any_packet_id(), vec(any_key(), 1..5), v5_only(version, any_user()))
        .prop_map(|(packet_id, keys, user)| Unsubscribe { packet_id, keys, user })
}

fn any_unsuback(version: ProtocolVersion) -> impl Strategy<Value = UnsubAck> {
    let reasons = vec(any_reason(PacketType::UnsubAck), 1..5);
    (any_packet_id(), v5_only(version, reasons), v5_only(version, any_explanation()))
        .prop_map(|(packet_id, reasons, explanation)| UnsubAck { packet_id, reasons, explanation })
}

fn any_disconnect(version: ProtocolVersion) -> impl Strategy<Value = Disconnect> {
    let everything = (
        any_reason(PacketType::Disconnect),
        option::of(any_session_expiry()),
        option::of(any_text()),
        any_explanation(),
    );
    v5_only(version, everything).prop_map(
        |(reason, session_expiry, server_reference, explanation)| Disconnect {
            reason,
            session_expiry,
            server_reference,
            explanation,
        },
    )
}

fn any_auth() -> impl Strategy<Value = Auth> {
    (
        any_reason(PacketType::Auth),
        option::of(any_text()),
        option::of(any_password()),
        any_explanation(),
    )
        .prop_map(|(reason, method, data, explanation)| Auth {
            reason,
            method,
            data,
            explanation,
        })
}
