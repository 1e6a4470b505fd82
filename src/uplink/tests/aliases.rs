//! Topic aliases towards the cloud (uplink.20; MQTT 5.0, section 3.3.2.3.4).

use tidegate_mqtt::packet::ConnAck;
use tidegate_uplink::{Format, TopicTemplate};

use super::{
    MqttVersion,
    cloud::{Cloud, Line},
    rig::{Rig, settings},
};

/// Appends a record on each of the topics, and returns how their topics come.
async fn topics(
    rig: &mut Rig,
    line: &mut Line,
    topics: &[&'static str],
) -> Vec<(String, Option<u16>)> {
    for topic in topics {
        rig.append_on(topic, b"1".to_vec());
    }
    let received = line.publications(topics.len()).await;
    line.accept_all(&received).await;
    received.into_iter().map(|publication| (publication.topic, publication.alias)).collect()
}

/// uplink.20: a topic is named once and stands under its number from then on, on one connection; the broker says
/// how many numbers there are.
#[tokio::test]
async fn uplink_20_topics_are_named_once() {
    let cloud = Cloud::start().await;
    let mut settings = settings(cloud.port(), MqttVersion::V5);
    settings.core.format = Format::Raw;
    settings.core.topic = TopicTemplate::new("up/{topic}", "gw", Format::Raw).unwrap();
    let mut rig = Rig::start_with(settings);
    let two = ConnAck { topic_alias_maximum: Some(2), ..ConnAck::accepted(false) };
    let mut line = cloud.accept_with(two).await;
    let seen = topics(&mut rig, &mut line, &["a", "b", "c", "a", "b", "c", "a"]).await;
    let named = |topic: &str, alias| (topic.to_owned(), alias);
    let expected = [
        named("up/a", Some(1)),
        named("up/b", Some(2)),
        named("up/c", None),
        named("", Some(1)),
        named("", Some(2)),
        named("up/c", None),
        named("", Some(1)),
    ];
    assert_eq!(seen, expected);
    rig.until_delivered(7).await;
    // Numbers are of one connection alone, and there may be none.
    drop(line);
    let mut line = cloud.accept().await;
    let seen = topics(&mut rig, &mut line, &["a", "a"]).await;
    assert_eq!(seen, [named("up/a", None), named("up/a", None)]);
    rig.until_delivered(9).await;
    rig.stop().await;
}
