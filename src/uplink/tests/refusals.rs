//! What the cloud refuses: connections, publications.

use tidegate_mqtt::{
    ReasonCode,
    packet::{ConnAck, Disconnect, Packet},
};
use tidegate_uplink::DropReason;

use super::{
    MqttVersion, Snapshot,
    cloud::{Cloud, Received},
    numbered, payloads, readings,
    rig::{Rig, settings},
};
use crate::uplink::ConnectionState;

/// How long the uplink waits after a failure, in whole seconds, at least and at most.
const AFTER_TRANSIENT: std::ops::RangeInclusive<u64> = 0..=1;
const AFTER_LASTING: std::ops::RangeInclusive<u64> = 149..=300;

/// Waits for the end of an attempt and returns how long the uplink is going to wait.
async fn pause(rig: &Rig) -> (u64, String) {
    let is_waiting =
        |snapshot: &Snapshot| matches!(snapshot.connection, ConnectionState::Waiting { .. });
    let snapshot = rig.until("a pause", is_waiting).await;
    let ConnectionState::Waiting { until } = snapshot.connection else { unreachable!() };
    (until.saturating_since(snapshot.since).as_secs(), snapshot.last_error.unwrap())
}

#[tokio::test]
async fn a_refused_connection_is_tried_again_soon_or_late() {
    use MqttVersion::{V3_1_1, V5};
    use ReasonCode as R;
    #[rustfmt::skip]
    let cases = [
        // version  reason                        lasting
        (V5,        R::ServerUnavailable,         false),
        (V5,        R::ServerBusy,                false),
        (V5,        R::QuotaExceeded,             false),
        (V5,        R::ConnectionRateExceeded,    false),
        (V5,        R::BadUserNameOrPassword,     true),
        (V5,        R::NotAuthorized,             true),
        (V5,        R::Banned,                    true),
        (V5,        R::ClientIdentifierNotValid,  true),
        (V3_1_1,    R::ServerUnavailable,         false),
        (V3_1_1,    R::BadUserNameOrPassword,     true),
        (V3_1_1,    R::NotAuthorized,             true),
        (V3_1_1,    R::ClientIdentifierNotValid,  true),
    ];
    for (version, reason, is_lasting) in cases {
        let cloud = Cloud::start().await;
        let mut rig = Rig::start_with(settings(cloud.port(), version));
        rig.append(1..=2);
        let _line = cloud.accept_with(ConnAck::refused(reason)).await;
        let (seconds, error) = pause(&rig).await;
        let expected = if is_lasting { AFTER_LASTING } else { AFTER_TRANSIENT };
        assert!(expected.contains(&seconds), "{version:?} {reason:?}: {seconds} s, {error}");
        let snapshot = rig.handle.snapshot();
        assert_eq!((snapshot.connections, snapshot.ledger.queued), (0, 2), "nothing is lost");
        rig.stop().await;
    }
}

#[tokio::test]
async fn what_says_nothing_sensible_is_left() {
    let cloud = Cloud::start().await;
    let rig = Rig::start(&cloud);
    let mut line = cloud.meet().await;
    line.send(Packet::PingResp).await;
    line.closed().await;
    let (seconds, _) = pause(&rig).await;
    assert!(AFTER_TRANSIENT.contains(&seconds));
    rig.stop().await;
}

#[tokio::test]
async fn a_refused_topic_is_a_dead_letter_and_blocks_nothing() {
    for reason in [ReasonCode::NotAuthorized, ReasonCode::TopicNameInvalid] {
        let cloud = Cloud::start().await;
        let mut rig = Rig::start(&cloud);
        rig.append(1..=3);
        let mut line = cloud.accept().await;
        let received = line.publications(3).await;
        line.answer(received[0].packet_id, ReasonCode::Success).await;
        line.answer(received[1].packet_id, reason).await;
        line.answer(received[2].packet_id, ReasonCode::Success).await;
        let snapshot = rig.until_delivered(2).await;
        let dropped: Vec<_> = snapshot.ledger.outcomes.dropped.iter().collect();
        assert_eq!(dropped, [(&DropReason::DeadLetter, &1)]);
        assert_eq!((snapshot.core.dead_letters, snapshot.connections), (1, 1));
        // The number of what was refused is named in what follows.
        rig.append(4..=4);
        assert_gap_is_told(&mut line, 2).await;
        rig.stop().await;
    }
}

/// Reads until a batch names the number `number` as one that will never come.
async fn assert_gap_is_told(line: &mut super::cloud::Line, number: i64) {
    loop {
        let received = line.publication().await;
        line.answer(received.packet_id, ReasonCode::Success).await;
        if let Some(gap) = received.batch().gaps.first() {
            assert_eq!((gap.from, gap.to, &*gap.why), (number, number, "dead-letter"));
            return;
        }
    }
}

#[tokio::test]
async fn a_refused_payload_is_divided_until_the_culprit_stands_alone() {
    const CULPRIT: i64 = 23;
    let cloud = Cloud::start().await;
    let mut settings = settings(cloud.port(), MqttVersion::V5);
    settings.core.batch.readings = 40;
    let mut rig = Rig::start_with(settings);
    rig.append(1..=40);
    let mut line = cloud.accept().await;
    let mut accepted: Vec<Received> = Vec::new();
    while readings(&accepted).len() < 39 {
        let received = line.publication().await;
        let is_bad = received.readings().contains(&(CULPRIT, CULPRIT));
        let reason = if is_bad { ReasonCode::PayloadFormatInvalid } else { ReasonCode::Success };
        line.answer(received.packet_id, reason).await;
        if !is_bad {
            accepted.push(received);
        }
    }
    let mut got = readings(&accepted);
    got.sort_unstable();
    let mut expected = numbered(1..=40);
    expected.retain(|(number, _)| *number != CULPRIT);
    assert_eq!(got, expected);
    let snapshot = rig.until_delivered(39).await;
    assert_eq!(snapshot.ledger.outcomes.dropped.get(&DropReason::DeadLetter), Some(&1));
    rig.stop().await;
}

#[tokio::test]
async fn not_now_is_no_refusal() {
    let cloud = Cloud::start().await;
    let mut rig = Rig::start(&cloud);
    rig.append(1..=2);
    let mut line = cloud.accept().await;
    let first = line.publications(2).await;
    line.answer(first[0].packet_id, ReasonCode::QuotaExceeded).await;
    line.closed().await;
    let (_, error) = pause(&rig).await;
    assert!(error.contains("not now: QuotaExceeded"), "{error}");
    let mut line = cloud.accept().await;
    let again = line.publications(2).await;
    assert_eq!(payloads(&again), payloads(&first));
    line.accept_all(&again).await;
    let snapshot = rig.until_delivered(2).await;
    assert!(snapshot.ledger.outcomes.dropped.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_batch_on_which_the_cloud_hangs_up_three_times_is_given_up() {
    let cloud = Cloud::start().await;
    let mut rig = Rig::start(&cloud);
    rig.append(1..=2);
    for _ in 0..3 {
        let mut line = cloud.accept().await;
        let received = line.publication().await;
        assert_eq!(received.readings(), [(1, 1)]);
        line.hang_up(ReasonCode::MalformedPacket).await;
    }
    let mut line = cloud.accept().await;
    let received = line.publication().await;
    assert_eq!(received.readings(), [(2, 2)], "the innocent one behind it");
    line.answer(received.packet_id, ReasonCode::Success).await;
    let snapshot = rig.until_delivered(1).await;
    assert_eq!(snapshot.ledger.outcomes.dropped.get(&DropReason::DeadLetter), Some(&1));
    rig.stop().await;
}

#[tokio::test]
async fn a_session_that_another_took_over_is_not_fought_for() {
    let cloud = Cloud::start().await;
    let rig = Rig::start(&cloud);
    let line = cloud.accept().await;
    line.hang_up(ReasonCode::SessionTakenOver).await;
    let (seconds, _) = pause(&rig).await;
    assert!(AFTER_LASTING.contains(&seconds), "{seconds} s");
    rig.stop().await;
}

#[tokio::test]
async fn a_reason_without_properties_ends_the_connection_with_the_socket() {
    let cloud = Cloud::start().await;
    let mut rig = Rig::start(&cloud);
    rig.append(1..=1);
    let mut line = cloud.accept().await;
    let first = line.publication().await;
    // rumqttc takes the short form (MQTT 5.0, section 3.14.2.2.1) for the start of a longer packet.
    line.send(Packet::Disconnect(Disconnect::new(ReasonCode::ServerShuttingDown))).await;
    drop(line);
    let mut line = cloud.accept().await;
    let again = line.publication().await;
    assert_eq!(again.payload, first.payload);
    line.answer(again.packet_id, ReasonCode::Success).await;
    rig.until_delivered(1).await;
    rig.stop().await;
}
