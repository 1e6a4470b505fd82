//! The driver against a cloud that follows a script, over real sockets.

mod aliases;
mod bridge;
mod cloud;
mod commands;
mod last_words;
mod outcomes;
mod pace;
mod refusals;
mod reruns;
mod rig;
mod spill;

use std::{num::NonZeroU16, time::Duration};

use tidegate_mqtt::{
    PacketId, ReasonCode,
    packet::{ConnAck, Packet},
};

use self::{
    cloud::{Cloud, Received},
    rig::{Rig, settings},
};
use super::{ConnectionState, MqttVersion, Snapshot};

/// How long anything may take that takes milliseconds; generous, for loaded machines.
const PATIENCE: Duration = Duration::from_secs(30);
/// Batches that may be on their way; the core's own limit.
const WINDOW: usize = 16;
const VERSIONS: [MqttVersion; 2] = [MqttVersion::V3_1_1, MqttVersion::V5];

fn payloads(received: &[Received]) -> Vec<&[u8]> {
    received.iter().map(|publication| &publication.payload[..]).collect()
}

fn readings(received: &[Received]) -> Vec<(i64, i64)> {
    received.iter().flat_map(Received::readings).collect()
}

/// Returns numbers and values as they come when each value is its number.
fn numbered(range: std::ops::RangeInclusive<i64>) -> Vec<(i64, i64)> {
    range.map(|number| (number, number)).collect()
}

#[tokio::test]
async fn a_cloud_that_is_not_there_is_waited_for() {
    let port = Cloud::start().await.port(); // and gone
    let mut rig = Rig::start_with(settings(port, MqttVersion::V5));
    rig.append(1..=3);
    let refused = |snapshot: &Snapshot| {
        snapshot.last_error.is_some()
            && matches!(snapshot.connection, ConnectionState::Waiting { .. })
    };
    let snapshot = rig.until("a refused attempt", refused).await;
    assert_eq!((snapshot.connections, snapshot.ledger.queued), (0, 3));
    let cloud = Cloud::start_at(port).await.expect("the port is still free");
    let mut line = cloud.accept().await;
    let received = line.publications(3).await;
    assert_eq!(readings(&received), numbered(1..=3));
    line.accept_all(&received).await;
    let snapshot = rig.until_delivered(3).await;
    assert_eq!((snapshot.connections, snapshot.last_error), (1, None));
    rig.stop().await;
}

#[tokio::test]
async fn no_more_is_on_its_way_than_the_window_allows() {
    for version in VERSIONS {
        let cloud = Cloud::start().await;
        let mut rig = Rig::start_with(settings(cloud.port(), version));
        rig.append(1..=20);
        let mut line = cloud.accept().await;
        let mut received = line.publications(WINDOW).await;
        let is_full = |snapshot: &Snapshot| snapshot.core.in_flight == WINDOW;
        let snapshot = rig.until("a full window", is_full).await;
        assert_eq!((snapshot.ledger.queued, snapshot.ledger.outcomes.delivered), (20, 0));
        line.assert_quiet().await;
        for _ in 0..4 {
            line.answer(received[received.len() - WINDOW].packet_id, ReasonCode::Success).await;
            received.push(line.publication().await);
        }
        assert_eq!(readings(&received), numbered(1..=20));
        line.accept_all(&received[4..]).await;
        rig.until_delivered(20).await;
        rig.stop().await;
    }
}

#[tokio::test]
async fn the_cursor_waits_for_the_oldest_acknowledgement() {
    let cloud = Cloud::start().await;
    let mut rig = Rig::start(&cloud);
    rig.append(1..=5);
    let mut line = cloud.accept().await;
    let received = line.publications(5).await;
    line.accept_all(&received[1..]).await;
    rig.until("four answers", |snapshot| snapshot.core.in_flight == 1).await;
    let snapshot = rig.handle.snapshot();
    assert_eq!((snapshot.ledger.queued, snapshot.ledger.outcomes.delivered), (5, 0));
    line.accept_all(&received[..1]).await;
    rig.until_delivered(5).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_cut_connection_brings_the_same_batches_again() {
    for version in VERSIONS {
        let cloud = Cloud::start().await;
        let mut rig = Rig::start_with(settings(cloud.port(), version));
        rig.append(1..=6);
        let mut line = cloud.accept().await;
        let first = line.publications(6).await;
        line.accept_all(&first[..2]).await;
        rig.until_delivered(2).await;
        drop(line);

        let mut line = cloud.accept().await;
        // What was in the midst of its way is under suspicion and goes one by one.
        let mut again = Vec::new();
        for _ in 0..4 {
            again.push(line.publication().await);
            line.answer(again[again.len() - 1].packet_id, ReasonCode::Success).await;
        }
        assert_eq!(payloads(&again), payloads(&first[2..]), "byte by byte");
        let snapshot = rig.until_delivered(6).await;
        assert_eq!((snapshot.connections, snapshot.ledger.queued), (2, 0));
        rig.append(7..=7);
        let next = line.publication().await;
        assert_eq!(next.readings(), [(7, 7)], "numbers go on");
        line.answer(next.packet_id, ReasonCode::Success).await;
        rig.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_was_not_asked_for_delivers_nothing() {
    for version in VERSIONS {
        let cloud = Cloud::start().await;
        let mut rig = Rig::start_with(settings(cloud.port(), version));
        rig.append(1..=2);
        let mut line = cloud.accept().await;
        let first = line.publications(2).await;
        line.answer(PacketId::new(400).unwrap(), ReasonCode::Success).await;
        line.closed().await;
        let snapshot = rig.handle.snapshot();
        assert_eq!((snapshot.ledger.queued, snapshot.ledger.outcomes.delivered), (2, 0));
        let mut line = cloud.accept().await;
        let again = line.publications(2).await;
        assert_eq!(payloads(&again), payloads(&first));
        line.accept_all(&again).await;
        rig.until_delivered(2).await;
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_receive_maximum_below_the_window_is_kept() {
    for (receive_maximum, most) in [(1, 1), (2, 1), (5, 4), (400, WINDOW)] {
        let cloud = Cloud::start().await;
        let mut rig = Rig::start(&cloud);
        rig.append(1..=20);
        let receive_maximum = NonZeroU16::new(receive_maximum);
        let mut line =
            cloud.accept_with(ConnAck { receive_maximum, ..ConnAck::accepted(false) }).await;
        let mut received = line.publications(most).await;
        line.assert_quiet().await;
        for at in 0..20 {
            line.answer(received[at].packet_id, ReasonCode::Success).await;
            if received.len() < 20 {
                received.push(line.publication().await);
            }
        }
        assert_eq!(readings(&received), numbered(1..=20), "{receive_maximum:?}");
        rig.until_delivered(20).await;
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_batch_larger_than_the_cloud_takes_is_divided() {
    const BYTES_MAX: usize = 512;
    let cloud = Cloud::start().await;
    let mut settings = settings(cloud.port(), MqttVersion::V5);
    settings.core.batch.readings = 101;
    let mut rig = Rig::start_with(settings);
    rig.append(1..=50);
    // Alone it is too large; everything around it is not.
    rig.append_bytes(vec![0xff; BYTES_MAX]);
    rig.append(51..=100);
    let maximum_packet_size = Some(u32::try_from(BYTES_MAX).unwrap().try_into().unwrap());
    let mut line =
        cloud.accept_with(ConnAck { maximum_packet_size, ..ConnAck::accepted(false) }).await;
    let mut values = Vec::new();
    while values.len() < 100 {
        let publication = line.publication().await;
        assert!(publication.payload.len() + publication.topic.len() < BYTES_MAX);
        line.answer(publication.packet_id, ReasonCode::Success).await;
        values.extend(publication.readings().into_iter().map(|(_, value)| value));
    }
    values.sort_unstable();
    assert_eq!(values, (1..=100).collect::<Vec<_>>());
    let snapshot = rig.until_delivered(100).await;
    let dropped: Vec<_> = snapshot.ledger.outcomes.dropped.into_iter().collect();
    assert_eq!(dropped, [(tidegate_uplink::DropReason::DeadLetter, 1)]);
    let refusal = snapshot.core.last_refusal.unwrap();
    assert!(refusal.contains("more than the 512 that the far side takes"), "{refusal}");
    rig.stop().await;
}

#[tokio::test]
async fn a_cloud_that_goes_silent_is_left() {
    let cloud = Cloud::start().await;
    let mut settings = settings(cloud.port(), MqttVersion::V3_1_1);
    settings.link.keep_alive = Duration::from_secs(1);
    let mut rig = Rig::start_with(settings);
    rig.append(1..=1);
    let mut line = cloud.accept().await;
    let first = line.publication().await;
    // Neither the publication nor a ping is answered, and the socket stays open.
    let mut other = cloud.accept().await;
    let again = other.publication().await;
    assert_eq!(again.payload, first.payload);
    other.answer(again.packet_id, ReasonCode::Success).await;
    rig.until_delivered(1).await;
    rig.stop().await;
    line.closed().await;
}

#[tokio::test]
async fn a_stop_delivers_what_is_there_and_says_good_bye() {
    for version in VERSIONS {
        let cloud = Cloud::start().await;
        let mut settings = settings(cloud.port(), version);
        settings.core.batch.readings = 500;
        settings.core.batch.age = Duration::from_secs(3_600);
        settings.grace = PATIENCE;
        let mut rig = Rig::start_with(settings);
        let mut line = cloud.accept().await;
        rig.until("a connection", |snapshot| snapshot.connections == 1).await;
        rig.append(1..=3);
        rig.ask_to_stop();
        // One by one if the disk is slow; in any case an hour before their time.
        let mut received = Vec::new();
        while readings(&received).len() < 3 {
            received.push(line.publication().await);
            line.answer(received[received.len() - 1].packet_id, ReasonCode::Success).await;
        }
        assert_eq!(readings(&received), numbered(1..=3));
        assert!(matches!(line.next().await, Some(Packet::Disconnect(_))));
        assert_eq!(line.next().await, None);
        rig.until_delivered(3).await;
        rig.stop().await;
    }
}
