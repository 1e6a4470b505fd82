//! What is late in being answered, and how fast things go.

use std::time::Duration;

use tidegate_mqtt::ReasonCode;
use tidegate_uplink::Rates;

use super::{
    super::LinkSettings,
    MqttVersion,
    cloud::Cloud,
    payloads,
    rig::{Rig, settings},
};

/// uplink.32: an answer that never comes is noticed, and what was not answered is sent again.
#[tokio::test]
async fn a_missing_answer_ends_the_connection() {
    let cloud = Cloud::start().await;
    let mut settings = settings(cloud.port(), MqttVersion::V5);
    settings.link.ack_timeout = Duration::from_millis(500);
    let mut rig = Rig::start_with(settings);
    rig.append(1..=3);
    let mut line = cloud.accept().await;
    let received = line.publications(3).await;
    // The last is answered, the first two are not; others go on being answered meanwhile.
    line.answer(received[2].packet_id, ReasonCode::Success).await;
    rig.append(4..=4);
    let fourth = line.publications(1).await;
    line.answer(fourth[0].packet_id, ReasonCode::Success).await;
    line.closed().await;
    let mut line = cloud.accept().await;
    let again = line.publications(2).await;
    assert_eq!(payloads(&again), payloads(&received[..2]));
    assert_eq!(rig.handle.snapshot().connections, 2);
    for received in again {
        line.answer(received.packet_id, ReasonCode::Success).await;
    }
    rig.until_delivered(4).await;
    rig.stop().await;
}

/// Sees the second of two messages wait, although the far side would take it: the first has left a debt of minutes.
async fn assert_second_waits(limit: impl FnOnce(&mut LinkSettings, Rates)) {
    let cloud = Cloud::start().await;
    let mut settings = settings(cloud.port(), MqttVersion::V5);
    limit(&mut settings.link, Rates { messages: None, bytes: Some(1) });
    settings.grace = Duration::ZERO;
    let mut rig = Rig::start_with(settings);
    rig.append(1..=2);
    let mut line = cloud.accept().await;
    let first = line.publication().await;
    line.answer(first.packet_id, ReasonCode::Success).await;
    let snapshot = rig.until_delivered(1).await;
    line.assert_quiet().await;
    assert_eq!((snapshot.ledger.queued, snapshot.core.in_flight), (1, 0));
    rig.stop().await;
}

/// uplink.21: what goes beyond the rate waits.
#[tokio::test]
async fn what_goes_beyond_the_rate_waits() {
    assert_second_waits(|link, rates| link.rates = rates).await;
}

/// uplink.1: what has waited for a connection goes as fast as it may, and no faster; records of a rig arrived long ago.
#[tokio::test]
async fn uplink_1_what_is_replayed_has_a_rate_of_its_own() {
    assert_second_waits(|link, rates| link.replay_rates = rates).await;
}
