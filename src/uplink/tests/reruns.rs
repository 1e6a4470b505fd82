//! Runs that fail, and those that follow: one uplink, one set of books.

use tidegate_mqtt::{ReasonCode, packet::ConnAck};

use super::{
    MqttVersion, WINDOW,
    cloud::{Cloud, Line},
    numbered, payloads, readings,
    rig::{Rig, settings, with_commands},
};

/// How often a run is cut off, and how many readings may be needed for that.
const CUTS: usize = 8;
const READINGS_MAX: i64 = 2_000;

async fn assert_sound(rig: &Rig, delivered: i64) {
    let snapshot = rig.until_delivered(delivered.unsigned_abs()).await;
    assert_eq!((snapshot.ledger.queued, snapshot.queued_bytes), (0, 0));
    let audit = rig.handle.audit().await.unwrap();
    assert!(audit.is_sound(), "{audit:?}");
    assert_eq!(audit.queued, 0);
}

/// main.15, main.16: what a run has submitted counts also if it does not live to see it on disk.
#[tokio::test]
async fn main_16_a_run_cut_off_before_its_move_is_durable_leaves_the_books_right() {
    let cloud = Cloud::start().await;
    let mut rig = Rig::start(&cloud);
    let mut line = cloud.accept().await;
    let (mut cuts, mut last) = (0, 0);
    while cuts < CUTS {
        last += 1;
        assert!(last < READINGS_MAX, "the disk is never slower than the run: {cuts} cuts");
        rig.append(last..=last);
        let received = line.publication().await;
        assert_eq!(received.readings(), [(last, last)], "numbers go on");
        line.answer(received.packet_id, ReasonCode::Success).await;
        while rig.handle.snapshot().core.batches_open > 0 {
            tokio::task::yield_now().await;
        }
        // The move of the cursor is submitted; whether it is booked is a matter of microseconds.
        if rig.handle.snapshot().ledger.queued > 0 {
            rig.cut_run().await;
            rig.run_again();
            line = cloud.accept().await;
            cuts += 1;
        }
    }
    assert_sound(&rig, last).await;
    rig.stop().await;
}

/// main.15: what a run has sent and not seen answered comes again under the same numbers, and once only.
#[tokio::test]
async fn main_15_a_run_cut_off_in_the_midst_is_gone_on_with() {
    let cloud = Cloud::start().await;
    let mut rig = Rig::start(&cloud);
    rig.append(1..=20);
    let mut line = cloud.accept().await;
    let first = line.publications(WINDOW).await;
    line.accept_all(&first[..4]).await;
    rig.until_delivered(4).await;
    let more = line.publications(4).await;
    rig.cut_run().await;
    line.closed().await;
    rig.append(21..=21);

    rig.run_again();
    let mut line = cloud.accept().await;
    let again = line.publications(WINDOW).await;
    assert_eq!(payloads(&again[..12]), payloads(&first[4..]), "byte by byte");
    assert_eq!(payloads(&again[12..]), payloads(&more), "byte by byte");
    line.accept_all(&again).await;
    let rest = line.publication().await;
    assert_eq!(rest.readings(), [(21, 21)]);
    line.answer(rest.packet_id, ReasonCode::Success).await;
    assert_eq!(readings(&again), numbered(5..=20));
    assert_sound(&rig, 21).await;
    rig.stop().await;
}

async fn connected(cloud: &Cloud) -> Line {
    let mut line = cloud.accept_with(ConnAck::accepted(true)).await;
    line.subscribed(ReasonCode::GrantedQos1).await;
    line
}

/// main.14: an acknowledgement for a connection of an earlier run means nothing on one of this run.
#[tokio::test]
async fn main_14_a_command_of_an_earlier_run_acknowledges_no_other() {
    let cloud = Cloud::start().await;
    let mut rig = Rig::start_with(with_commands(settings(cloud.port(), MqttVersion::V5)));
    let mut line = connected(&cloud).await;
    line.command("cmd/gw/a", "1", 9, false).await;
    let of_earlier_run = rig.commands.recv().await.unwrap();
    rig.cut_run().await;
    rig.run_again();
    let mut line = connected(&cloud).await;
    line.command("cmd/gw/b", "2", 9, false).await;
    let of_this_run = rig.commands.recv().await.unwrap();
    of_earlier_run.ack.settle();
    line.assert_quiet().await;
    of_this_run.ack.settle();
    assert_eq!(line.acknowledged().await, 9);
    rig.stop().await;
}
