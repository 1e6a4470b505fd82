//! uplink.27: topics of another broker that come down, and local ones that go up as they are.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_adapter_api::Refusal;
use tidegate_model::{Message, Properties, Qos, Timestamp, Topic, TopicFilter};
use tidegate_mqtt::{
    ReasonCode,
    packet::{ConnAck, PublishPacket, RetainHandling},
};
use tidegate_uplink::{
    Format, TopicTemplate,
    bridge::{Bridge, InRoute, PATH},
};

use super::{
    MqttVersion, VERSIONS,
    cloud::{Cloud, Line},
    rig::{Rig, message, settings},
};
use crate::uplink::UplinkSettings;

fn bridging(port: u16, version: MqttVersion) -> UplinkSettings {
    let mut settings = settings(port, version);
    let filter = TopicFilter::new("central/#").unwrap();
    settings.core.format = Format::Raw;
    settings.core.topic = TopicTemplate::new("plants/{topic}", "gw", Format::Raw).unwrap();
    settings.link.bridge = Bridge {
        inbound: vec![InRoute::new(filter, "central/", "down/", "")],
        topic_bytes_max: 4_096,
        retain: true,
        ..Bridge::default()
    };
    settings
}

async fn start(cloud: &Cloud, version: MqttVersion) -> (Rig, Line) {
    let rig = Rig::start_with(bridging(cloud.port(), version));
    let mut line = cloud.accept().await;
    assert!(!line.connect.clean_start, "the far side is to keep what it cannot deliver");
    line.subscribed(ReasonCode::GrantedQos1).await;
    (rig, line)
}

fn publication(topic: &str, payload: &'static str) -> PublishPacket {
    PublishPacket::new(Topic::new(topic).unwrap(), Bytes::from_static(payload.as_bytes()))
}

fn with_user(pairs: &[(&str, &str)]) -> Properties {
    let user = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Properties { user, ..Properties::default() }
}

#[tokio::test]
async fn uplink_27_what_comes_down_is_acknowledged_once_it_is_on_disk() {
    for version in VERSIONS {
        let cloud = Cloud::start().await;
        let (mut rig, mut line) = start(&cloud, version).await;
        line.deliver(publication("central/a/b", "1"), 7).await;
        line.deliver(PublishPacket { retain: true, ..publication("central/c", "2") }, 8).await;
        let first = rig.taken.recv().await.unwrap();
        let second = rig.taken.recv().await.unwrap();
        let shown = |message: &Message| {
            (message.topic.to_string(), message.payload.to_bytes(), message.retain)
        };
        assert_eq!(shown(&first.message), ("down/a/b".into(), Bytes::from("1"), false));
        assert_eq!(shown(&second.message), ("down/c".into(), Bytes::from("2"), true));
        assert_eq!(first.message.publisher.as_str(), "uplink:cloud");
        assert_eq!(first.message.qos, Qos::AtLeastOnce);
        line.assert_quiet().await;
        // The journal makes them durable in order; acknowledgements keep it all the same.
        (second.durable)();
        line.assert_quiet().await;
        (first.durable)();
        assert_eq!((line.acknowledged().await, line.acknowledged().await), (7, 8));
        assert_eq!(rig.handle.snapshot().bridged.published, 2);
        rig.stop().await;
    }
}

#[tokio::test]
async fn uplink_27_what_the_publisher_said_comes_down_with_it() {
    let cloud = Cloud::start().await;
    let mut rig = Rig::start_with(bridging(cloud.port(), MqttVersion::V5));
    let mut line = cloud.accept().await;
    let subscribe = line.subscribed(ReasonCode::GrantedQos1).await;
    let wanted = &subscribe.subscriptions[0];
    assert_eq!(wanted.key.filter.as_str(), "central/#");
    assert!(wanted.no_local && wanted.retain_as_published, "{wanted:?}");
    assert_eq!(wanted.retain_handling, RetainHandling::SendIfNew);
    let said = Properties {
        payload_is_utf8: true,
        content_type: Some("text/plain".into()),
        ..with_user(&[("line", "7"), (PATH, "far")])
    };
    let packet = PublishPacket {
        properties: Some(Box::new(said.clone())),
        message_expiry_s: Some(60),
        ..publication("central/a", "x")
    };
    line.deliver(packet, 1).await;
    let taken = rig.taken.recv().await.unwrap().message;
    let properties = taken.properties.clone().unwrap();
    let left = properties.expires.unwrap().saturating_since(taken.arrival);
    assert!((59..=61).contains(&left.as_secs()), "{left:?}");
    assert_eq!(Properties { expires: None, ..(*properties).clone() }, said);
    rig.stop().await;
}

#[tokio::test]
async fn uplink_27_what_may_not_come_in_is_acknowledged_and_counted() {
    let cloud = Cloud::start().await;
    let (mut rig, mut line) = start(&cloud, MqttVersion::V5).await;
    let been = |path: &str| PublishPacket {
        properties: Some(Box::new(with_user(&[(PATH, path)]))),
        ..publication("central/a", "x")
    };
    let long = ["x"; 16].join("/");
    let wrong = [
        been("far/gw"),
        been(&long),
        publication("central/a/set", "1"),
        publication("central/a/call", "1"),
        publication("central", "1"),
    ];
    for (number, packet) in (1..).zip(wrong) {
        line.deliver(packet, number).await;
        assert_eq!(line.acknowledged().await, number);
    }
    *rig.house.refusal.lock() = Some(Refusal::TooLarge { limit: 1 });
    line.deliver(publication("central/a", "1"), 9).await;
    assert_eq!(line.acknowledged().await, 9);
    let bridged = rig.handle.snapshot().bridged;
    let counted: Vec<_> = bridged.refused.into_iter().collect();
    let expected = [("command-topic", 2), ("hops", 1), ("loop", 1), ("too-large", 1), ("topic", 1)];
    assert_eq!((bridged.published, counted), (0, expected.to_vec()));
    assert!(rig.taken.try_recv().is_err());
    rig.stop().await;
}

#[tokio::test]
async fn uplink_27_what_has_to_wait_keeps_its_order() {
    let cloud = Cloud::start().await;
    let (mut rig, mut line) = start(&cloud, MqttVersion::V5).await;
    *rig.house.refusal.lock() = Some(Refusal::StorageFull);
    line.deliver(publication("central/a", "1"), 1).await;
    rig.until("the refusal", |snapshot| snapshot.last_error.is_some()).await;
    line.deliver(publication("central/a/set", "never"), 2).await;
    line.deliver(publication("central/a", "2"), 3).await;
    line.assert_quiet().await;
    *rig.house.refusal.lock() = None;
    for value in ["1", "2"] {
        let taken = rig.taken.recv().await.unwrap();
        assert_eq!(taken.message.payload.to_bytes(), value);
        (taken.durable)();
    }
    for number in 1..=3 {
        assert_eq!(line.acknowledged().await, number);
    }
    rig.stop().await;
}

#[tokio::test]
async fn uplink_27_what_is_not_on_disk_comes_again_on_the_next_connection() {
    for version in VERSIONS {
        let cloud = Cloud::start().await;
        let (mut rig, mut line) = start(&cloud, version).await;
        line.deliver(publication("central/a", "1"), 1).await;
        let lost = rig.taken.recv().await.unwrap();
        drop(line);
        let mut line = cloud.accept_with(ConnAck::accepted(true)).await;
        line.subscribed(ReasonCode::GrantedQos1).await;
        line.deliver(publication("central/a", "1"), 1).await;
        let again = rig.taken.recv().await.unwrap();
        // What became of it on the old connection means nothing on the new one.
        (lost.durable)();
        line.assert_quiet().await;
        (again.durable)();
        assert_eq!(line.acknowledged().await, 1);
        rig.stop().await;
    }
}

#[tokio::test]
async fn uplink_27_what_goes_up_as_it_is_says_all_that_was_said() {
    for version in VERSIONS {
        let cloud = Cloud::start().await;
        let (mut rig, mut line) = start(&cloud, version).await;
        let far = i64::from(u32::MAX) * 1_000;
        let said = Properties {
            content_type: Some("text/plain".into()),
            response_topic: Some(Topic::new("answers").unwrap()),
            expires: Some(Timestamp::from_unix_millis(far)),
            ..with_user(&[("line", "7"), (PATH, "edge")])
        };
        let plain = message(b"21.5".to_vec());
        let told = Message { retain: true, properties: Some(Arc::new(said)), ..plain.clone() };
        rig.append_message(&told);
        rig.append_message(&plain);
        let received = line.publications(2).await;
        assert_eq!(received[0].topic, "plants/plant/count");
        assert!(received.iter().all(|received| received.payload == "21.5"));
        assert_eq!((received[0].retain, received[1].retain), (true, false));
        if version == MqttVersion::V5 {
            let properties = received[0].properties.as_deref().unwrap();
            let expected = with_user(&[("line", "7"), (PATH, "edge/gw")]);
            assert_eq!(properties.user, expected.user);
            assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
            assert_eq!(properties.response_topic, None, "its name would be another there");
            assert!(received[0].message_expiry_s.is_some_and(|seconds| seconds > 3_600));
            let properties = received[1].properties.as_deref().unwrap();
            assert_eq!(properties.user, with_user(&[(PATH, "gw")]).user);
        }
        line.accept_all(&received).await;
        rig.until_delivered(2).await;
        rig.stop().await;
    }
}
