//! What a cloud says in the moment in which it hangs up.

use tidegate_mqtt::ReasonCode;

use super::{
    VERSIONS,
    cloud::Cloud,
    numbered, readings,
    rig::{Rig, settings, with_commands},
};

/// uplink.22: answers that come with the end of the connection are heard: nothing is sent again.
#[tokio::test]
async fn answers_that_come_with_the_end_count() {
    for version in VERSIONS {
        let cloud = Cloud::start().await;
        let mut rig = Rig::start_with(settings(cloud.port(), version));
        rig.append(1..=3);
        let mut line = cloud.accept().await;
        let received = line.publications(3).await;
        assert_eq!(readings(&received), numbered(1..=3));
        line.accept_all(&received).await;
        drop(line);
        let mut line = cloud.accept().await;
        rig.until_delivered(3).await;
        rig.append(4..=4);
        let next = line.publication().await;
        assert_eq!(next.readings(), [(4, 4)], "{version:?}: the others are delivered");
        line.answer(next.packet_id, ReasonCode::Success).await;
        rig.until_delivered(4).await;
        rig.stop().await;
    }
}

/// A command that comes with the end of the connection is heard, too; it may come again by the next.
#[tokio::test]
async fn commands_that_come_with_the_end_are_heard() {
    for version in VERSIONS {
        let cloud = Cloud::start().await;
        let mut rig = Rig::start_with(with_commands(settings(cloud.port(), version)));
        let mut line = cloud.accept().await;
        line.subscribed(ReasonCode::GrantedQos1).await;
        line.command("cmd/gw/a", "1", 9, false).await;
        drop(line);
        let command = rig.commands.recv().await.unwrap();
        assert_eq!(command.target.as_str(), "a");
        command.ack.settle();
        rig.stop().await;
    }
}
